#!/usr/bin/env bash
# Builds the Dockerfile's images and uses each as `docker run` would; `make container-test` runs it, as root on Debian.
#
#   container_test.sh [cpu] [gpu]    these targets (default: both)
#
#   CUDA_ARCH_BIN="80 90"            target gpu's compute capabilities (default: 90)
#   RELEASE=bookworm                 the base image's release of Debian (default: trixie, as in the Dockerfile)
#   KEEP=1                           leave the images in their storage, for buildah
#
# No Docker Engine is needed, and no registry of images: buildah builds on a base image that debootstrap makes. What is
# run in an image has no network. results/container gets a record of each target, and all that its commands printed.
source "$(dirname "${BASH_SOURCE[0]}")/testing.sh"
work=$cache/container/work
results=$root/results/container
buildah=(buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run")
image=breast-mass
archs=${CUDA_ARCH_BIN:-90}
reader=1000    # the images' own user
stranger=12345 # one that they do not know, as `--user $(id -u):$(id -g)` makes them

import_base() {
    local container
    container=$("${buildah[@]}" from scratch)
    "${buildah[@]}" add --quiet "$container" "$base" /
    "${buildah[@]}" commit --quiet --rm "$container" "$image-base"
}

build_image() {
    local options=(--build-arg BASE="localhost/$image-base" --build-arg COMMIT="$commit")
    [[ $target == cpu ]] || options+=(--build-arg CUDA_ARCH_BIN="$archs")
    [[ -z ${PIP_CERT:-} ]] || options+=(--secret id=ca,src="$PIP_CERT")
    "${buildah[@]}" build --isolation chroot --target "$target" --tag "$image:$target" "${options[@]}" "$root"
}

# as USER: the runs that follow are this user's, in a new container, with a folder of the user's own as /data. Former
# containers, the builders' too, give their disk space back.
as() {
    user=$1
    data=$work/$name/data-$user
    "${buildah[@]}" rm --all >/dev/null
    container=$("${buildah[@]}" from "localhost/$image:$target")
    install -d -o "$user" -g "$user" "$data"
}

# Runs a command as `docker run --network none --user $user:$user -v $data:/data` does, through the entrypoint. A chroot
# shares the network of its caller, who therefore has none but the loopback, where the tests have servers of their own.
in_image() {
    unshare --net sh -c 'ip link set lo up && exec "$@"' sh \
        "${buildah[@]}" run --isolation chroot --user "$user:$user" --volume "$data:/data" "$container" -- \
        "$entrypoint" "$@"
}

runs() {
    timed "$*" in_image "$@"
}

# refused MESSAGE COMMAND...: the command must fail, and say so.
refused() {
    timed "${*:2}" fails "$@"
}

fails() {
    local said
    if in_image "${@:2}"; then return 1; fi
    said=$(grep -m 1 -F "$1" "$log")
    echo "$said"
}

# The address is one that is nobody's. Where there is a network, a packet to it is lost; here it cannot even leave.
no_network='import errno, socket
try:
    socket.create_connection(("192.0.2.1", 80), 9)
except OSError as error:
    print(error)
    raise SystemExit(error.errno != errno.ENETUNREACH)'

# Prints what the image consists of, in MB. Where Docker builds, each row but the first is a layer.
sizes() {
    local place venv whole system cuda packages project
    place=$("${buildah[@]}" mount "$container")
    venv=$place/opt/breast-mass/.venv
    whole=$(megabytes "$place")
    system=$(megabytes "$base")
    cuda=$(megabytes "$place/opt/nvidia")
    packages=$(megabytes "$venv")
    project=$(megabytes --exclude .venv "$place/opt/breast-mass")
    printf '| %s | %s |\n' "the whole image" "$whole" "Debian's base" "$system" \
        "Debian's libraries and Python" $((whole - system - cuda - packages - project)) \
        "CUDA, cuDNN, NCCL" "$cuda" "Python's packages and Caffe" "$packages" "the project" "$project"
}

# megabytes PATH...: 0 where nothing is.
megabytes() {
    { du -scm "$@" 2>/dev/null || :; } | awk 'END {print $1}'
}

# The commands of the README, in small.
test_cpu() {
    runs python data_prep/build_lmdb.py
    runs python data_prep/audit.py
    runs caffe --version
    runs timeout --preserve-status --signal INT 120 caffe train -solver solvers/baseline.prototxt
    refused "Cannot use GPU in CPU-only Caffe" caffe train -solver solvers/baseline.prototxt -gpu 0
    runs python scripts/train.py --net baseline --iterations 2 --batch 8
    runs python scripts/eval.py
    runs pytest
}

# No GPU is here: this is how far one gets without.
test_gpu() {
    refused "error: --gpu 0: " python scripts/train.py --net baseline --data data/demo/lmdb --gpu 0
    refused "CUDA driver version is insufficient" caffe device_query -gpu 0
    runs python scripts/gpu_check.py --cpu --quick
}

test_image() {
    as $reader
    entrypoint=$("${buildah[@]}" inspect --type image --format '{{index .OCIv1.Config.Entrypoint 0}}' "$image:$target")
    sizes >"$work/$name/sizes"
    timed "python: connect to 192.0.2.1" in_image python -c "$no_network"
    runs id
    runs sh -c 'for tool in cc c++ cmake nvcc; do if command -v $tool; then exit 1; fi; done; echo no compiler'
    runs scripts/install/check_libraries.sh
    runs python scripts/demo.py --patients 24 --iterations 2
    "test_$target"
    as $stranger
    runs python scripts/demo.py --patients 24 --iterations 2
    data=$work/$name/data-$reader
    refused "warning: user $stranger cannot write to /data" python data_prep/build_lmdb.py --out data/another
}

targets=("$@")
(($#)) || targets=(cpu gpu)
for target in "${targets[@]}"; do
    [[ $target == cpu || $target == gpu ]] || die "$target: there are the targets cpu and gpu"
done
begin buildah iproute2
need_base "${RELEASE:-trixie}"
step "Importing it" import_base
echo "All is kept in $work meanwhile, up to 20 GB"
for target in "${targets[@]}"; do
    begin_record "$target"
    timed "buildah build --target $target" build_image
    mv "$log" "$work/$name/build.txt"
    test_image
    write_record <<END
# Target $target

Written by \`make container-test\` with $("${buildah[@]}" --version), on a base image of Debian
$(<"$base/etc/debian_version")$([[ $target == cpu ]] || echo ", GPU code for compute capability $archs").

| part | MB |
| --- | --- |
$(<"$work/$name/sizes")
END
done
[[ -n ${KEEP:-} ]] || rm -rf "$work"
