# shellcheck shell=bash
# What container_test.sh and system_test.sh share: a system made by debootstrap, and a record of commands and times. They
# source it, as root, with `work` as the folder that all is kept in meanwhile and `results` as the record's.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

# begin PACKAGE...: checks what either script needs, and installs these packages where they are missing.
begin() {
    local missing=() as_root=() package
    (($(id -u) == 0)) || die "debootstrap must be run as root"
    rm -rf "$work"
    mkdir -p "$work" "$results"
    log=$work/log
    trap tell_of_failure EXIT
    commit=$(git -C "$root" describe --always --dirty --abbrev=12 --exclude='*')
    for package in debootstrap "$@"; do
        dpkg-query -s "$package" >/dev/null 2>&1 || missing+=("$package")
    done
    ((${#missing[@]} == 0)) || step "Installing ${missing[*]}" install_packages "${missing[@]}"
}

# need_base RELEASE: sets `base`, the folder of a bare system of this release of Debian. It is kept.
need_base() {
    base=$cache/base/$1
    [[ -d $base ]] || step "Making a bare system of $1" make_base "$1"
}

# As Debian's slim images: the required packages, without documentation and translations, and no waiting for the disk.
make_base() {
    rm -rf "$base.unfinished"
    mkdir -p "$base.unfinished"
    debootstrap --variant=minbase "$1" "$base.unfinished"
    printf 'path-exclude=/usr/share/%s/*\n' doc man locale >"$base.unfinished/etc/dpkg/dpkg.cfg.d/slim"
    echo force-unsafe-io >>"$base.unfinished/etc/dpkg/dpkg.cfg.d/slim"
    rm -rf "$base.unfinished"/{usr/share/{doc,man,locale},var/cache/apt,var/lib/apt/lists}/*
    mv "$base.unfinished" "$base"
}

# begin_record NAME: what is timed from here on goes into $results/NAME.md, and what it prints into NAME.txt beside it.
begin_record() {
    name=$1
    steps=0
    mkdir -p "$work/$name"
}

# timed WHAT COMMAND...: a step with a log of its own and a row in the record: what, seconds, the last line of its output.
timed() {
    local started=$SECONDS
    steps=$((steps + 1))
    log=$work/$name/$(printf %02d $steps).log
    echo "$ $1" >"$log"
    step "$@"
    printf '| `%s` | %s | %s |\n' "$1" $((SECONDS - started)) "$(last_line)" >>"$work/$name/rows"
}

# Without what buildah says itself of a command that failed, and as a cell of a Markdown table.
last_line() {
    sed -E '1d; /^$/d; /^Error: while running runtime|^exit status /d' "$log" | tail -n 1 | tr '|' '/' | tr -s '= '
}

# write_record: the record of what was run, when and where; its head comes from standard input.
write_record() {
    local cpu
    cpu=$(lscpu | sed -n 's/^Model name: *//p')
    cat "$work/$name"/*.log >"$results/$name.txt"
    {
        cat
        echo
        echo "On $(date -u +%F), at commit $commit, on $(nproc) cores of an $cpu, no GPU. All that was printed:"
        printf '[%s](%s).\n\n| command | seconds | its last line |\n| --- | --- | --- |\n' "$name.txt" "$name.txt"
        cat "$work/$name/rows"
    } >"$results/$name.md"
    echo "Recorded in $results/$name.md"
}
