#!/usr/bin/env bash
# Sets the project up on a bare Debian of the other release and uses it there; `make system-test` runs it, as root on Debian.
#
#   system_test.sh                   on trixie where this machine has bookworm, else on bookworm
#   RELEASE=bookworm system_test.sh  on this release
#
#   KEEP=1                           leave the system in its folder
#
# The system is debootstrap's, entered by chroot. There root types the README's commands in a fresh clone, and then a
# user who may not install packages does, who finds them there. results/systems gets a record, and all that was printed.
source "$(dirname "${BASH_SOURCE[0]}")/testing.sh"
work=$cache/system-test
results=$root/results/systems
place=$work/system

# in_system USER COMMAND...: runs a command there, in the user's clone. Its processes end with it, and what is mounted
# for it goes. Ctrl-C reaches it even where this script is run in the background.
in_system() {
    local home=/home/$1
    [[ $1 != root ]] || home=/root
    unshare --mount --pid --fork --kill-child bash -c '
        cd "$1" && mount -t proc proc proc && mount --rbind /sys sys && mount --rbind /dev dev && exec chroot . "${@:2}"
    ' bash "$place" runuser -u "$1" -- env -i --default-signal=INT HOME="$home" USER="$1" LANG=C.UTF-8 \
        PATH=/usr/sbin:/usr/bin:/sbin:/bin ${PIP_CERT:+PIP_CERT=/ca.crt} sh -c 'cd && { [ ! -d breast-mass ] || cd breast-mass; } && exec "$@"' sh "${@:2}"
}

runs() {
    timed "$*" in_system "$user" "$@"
}

# activated COMMAND...: in the shell where `source .venv/bin/activate` was typed.
activated() {
    timed "$*" in_system "$user" sh -c '. .venv/bin/activate && exec "$@"' sh "$@"
}

# What git and make bring is all that the README asks for beforehand.
make_system() {
    mkdir "$place"
    cp -a "$base/." "$place"
    cp /etc/resolv.conf "$place/etc/"
    [[ -z ${PIP_CERT:-} ]] || install -m 644 "$PIP_CERT" "$place/ca.crt"
    git clone --quiet --bare "$root" "$place/srv/breast-mass.git"
    git -C "$place/srv/breast-mass.git" update-ref --no-deref HEAD "$(git -C "$root" rev-parse HEAD)"
    in_system root apt-get update
    in_system root apt-get install -y --no-install-recommends git make
    in_system root useradd --create-home reader
    in_system root git config --system --add safe.directory '*'
}

use() {
    user=$1
    runs id -un
    runs git clone --quiet /srv/breast-mass.git
    runs make setup
    activated caffe --version
    activated ruff check .
    activated pytest -q -m "not slow"
    activated python scripts/demo.py --patients 24 --iterations 2
    runs make setup
}

codename() {
    sed -n 's/^VERSION_CODENAME=//p' "$os_release"
}

release=${RELEASE:-}
[[ -n $release || $(codename) != bookworm ]] || release=trixie
begin
need_base "${release:=bookworm}"
step "Laying it out" make_system
begin_record "$release"
use root
use reader
write_record <<END
# Debian $(<"$place/etc/debian_version")

Written by \`make system-test\`: a bare system with git and make, entered by chroot. After \`id -un\`, all is that user's;
\`reader\` finds the packages that root's setup installed.
END
[[ -n ${KEEP:-} ]] || rm -rf "$work"
