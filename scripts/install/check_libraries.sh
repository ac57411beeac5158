#!/usr/bin/env bash
# Fails where a library of Caffe's is not to be found; the Dockerfile runs it in the images.
set -euo pipefail
venv=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/.venv
libraries=$(ldd "$venv"/bin/{caffe,convert_imageset,compute_image_mean} \
    "$venv"/lib/python3*/site-packages/caffe/*.so*)
if missing=$(grep 'not found' <<<"$libraries"); then
    echo "$missing" | sort -u
    echo "error: these libraries are in no package that runtime_packages.sh names"
    exit 1
fi >&2
"$venv/bin/python" -c 'import caffe'
echo "Every library of Caffe's is there"
