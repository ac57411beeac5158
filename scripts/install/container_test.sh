#!/usr/bin/env bash
# Builds the Dockerfile's images and uses each as `docker run` would; `make container-test` runs it, as root on Debian 12.
#
#   container_test.sh [cpu] [gpu]    these targets (default: both)
#
#   CUDA_ARCH_BIN="80 90"            target gpu's compute capabilities (default: 90)
#   KEEP=1                           leave the images in their storage, for buildah
#
# No Docker Engine is needed, and no registry of images: buildah builds on a base image that debootstrap makes. What is
# run in an image has no network. results/container gets a record of each target and what its commands printed.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
base=$cache/container/base
work=$cache/container/work
results=$root/results/container
buildah=(buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run")
tag=breast-mass
reader=1000     # the image's own user
stranger=12345  # one without a name there, as `--user $(id -u):$(id -g)` makes them

# A failure's log is whole in the folder that this names.
next_log() {
    steps=$((steps + 1))
    log=$work/$target-$(printf %02d $steps).log
    : >"$log"
}

# timed WHAT COMMAND...: a step with a log of its own, and a row in the record with its time and last line.
timed() {
    local started=$SECONDS
    next_log
    step "$@"
    row "$1" $((SECONDS - started)) "$(last_line)"
}

row() {
    printf '| `%s` | %s | %s |\n' "$@" >>"$work/$target-rows.md"
}

last_line() {
    grep -v -e '^$' -e '^Error: while running runtime' -e '^exit status' "$log" | tail -n 1 | tr -s '= ' | tr '|' '/'
}

# Debian's slim images are made so: the required packages, without documentation or translations.
make_base() {
    rm -rf "$base" "$base.unfinished"
    debootstrap --variant=minbase bookworm "$base.unfinished"
    printf 'path-exclude=/usr/share/%s/*\n' doc man locale >"$base.unfinished/etc/dpkg/dpkg.cfg.d/slim"
    rm -rf "$base.unfinished"/{usr/share/{doc,man,locale},var/cache/apt,var/lib/apt/lists}/*
    mv "$base.unfinished" "$base"
}

import_base() {
    local container
    container=$("${buildah[@]}" from scratch)
    "${buildah[@]}" add --quiet "$container" "$base" /
    "${buildah[@]}" commit --quiet --rm "$container" "$tag-base"
}

build_image() {
    local options=(--build-arg BASE="localhost/$tag-base" --build-arg COMMIT="$commit")
    [[ $target != gpu ]] || options+=(--build-arg CUDA_ARCH_BIN="$CUDA_ARCH_BIN")
    [[ -z ${PIP_CERT:-} ]] || options+=(--secret id=ca,src="$PIP_CERT")
    "${buildah[@]}" build --isolation chroot --target "$target" --tag "$tag:$target" "${options[@]}" "$root"
}

# as USER: the runs that follow are this user's, in a new container with a folder of the user's own on /data.
as() {
    user=$1
    data=$work/data-$target-$user
    container=$("${buildah[@]}" from "$tag:$target")
    install -d -o "$user" -g "$user" "$data"
}

# in_image COMMAND...: runs it as `docker run --network none --user $user -v $data:/data` does, the entrypoint first.
# buildah's chroot shares the network of its caller, which therefore has none but the loopback, as the tests' servers
# need it.
in_image() {
    unshare --net sh -c 'ip link set lo up && exec "$@"' sh \
        "${buildah[@]}" run --isolation chroot --user "$user:$user" --volume "$data:/data" "$container" -- \
        "$entrypoint" "$@"
}

runs() {
    timed "$*" in_image "$@"
}

# refused MESSAGE COMMAND...: the command must fail, and say this.
refused() {
    timed "${*:2}" fails "$@"
}

fails() {
    if in_image "${@:2}"; then return 1; fi
    grep -F "$1" "$log"
}

no_network='import errno, socket
try:
    socket.create_connection(("192.0.2.1", 80), 9)
except OSError as error:
    assert error.errno == errno.ENETUNREACH, error
    print(error)
else:
    raise SystemExit("there is a network")'

test_image() {
    as $reader
    timed "python: connect to 192.0.2.1" in_image python -c "$no_network"
    runs id
    runs scripts/install/check_libraries.sh
    runs sh -c '! command -v c++ cc cmake nvcc; ! ls -A /var/lib/apt/lists /root/.cache'
    runs python scripts/demo.py --patients 24 --iterations 2
    "test_$target"
    as $stranger
    runs python scripts/demo.py --patients 24 --iterations 2
    data=$work/data-$target-$reader
    timed "a command, in another's folder" in_image true
}
