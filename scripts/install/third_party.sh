#!/usr/bin/env bash
# Prints the licence of everything that ships in the container images, as Markdown: the Python packages of .venv, by
# pip-licenses, and the system's packages that Caffe runs on, by their own copyright files.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

echo '# Licences of third parties'
echo
echo 'Written by `make licences`. BVLC Caffe itself: BSD 2-Clause (its LICENSE is in its wheel). Target `gpu` adds'
echo "NVIDIA's CUDA, cuDNN and NCCL, under NVIDIA's own terms; target \`cpu\` what only tests use."
echo
# what setup installs, and nothing else that a user may have put beside it; a page of a package's own, or none
mapfile -t packages < <(sed -n 's/^\([a-z0-9._-]*\)==.*/\1/p' "$here/requirements.lock" | sort -u)
"$root/.venv/bin/pip-licenses" --format=markdown --with-urls --packages caffe ljpeg "${packages[@]}" |
    sed 's|https://[^ /]*/project/[^ ]*|UNKNOWN|'
echo
echo '| System package | Licences named in its copyright file |'
echo '| --- | --- |'
"$here/runtime_packages.sh" | while read -r package; do
    named=$(grep -hs '^License:' "/usr/share/doc/$package/copyright" | cut -d ' ' -f 2- | sort -u | paste -sd ';' | sed 's/;/; /g' || true)
    echo "| $package | ${named:-see /usr/share/doc/$package/copyright} |"
done
