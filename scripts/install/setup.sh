#!/usr/bin/env bash
# Makes .venv with BVLC Caffe and everything that the scripts and tests use, on Debian 12. `make setup` runs it.
#
#   PYTHON=/path/to/python3.11   the Python to use (default: python3, or /usr/bin/python3.11)
#   CAFFE_SRC=DIR                build this checkout of BVLC Caffe in place of the pinned source
#   CAFFE_PORTABLE=1             compile for any processor of this kind in place of this very one
#
# Caffe is built once into a wheel, kept under ~/.cache/breast-mass-caffe by a key of all that went into it. A second
# run, with nothing changed, only looks at a stamp in .venv.
set -euo pipefail
shopt -s inherit_errexit
# What is built depends on what this file says, and not on what the caller's shell exports.
unset CC CXX CFLAGS CXXFLAGS CPPFLAGS LDFLAGS

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/breast-mass-caffe
log=$cache/setup.log
stamp=$root/.venv/setup-stamp
doing=

# OpenCV 4 has other names for the two constants that Caffe reads images with. Boost's advice on Caffe's old headers is
# silenced: it would hide the cause of a failure.
compile_flags=(
    -DCV_LOAD_IMAGE_COLOR=cv::IMREAD_COLOR -DCV_LOAD_IMAGE_GRAYSCALE=cv::IMREAD_GRAYSCALE
    -DBOOST_BIND_GLOBAL_PLACEHOLDERS -DBOOST_ALLOW_DEPRECATED_HEADERS
)
[[ -n ${CAFFE_PORTABLE:-} ]] || compile_flags+=(-march=native)
# What is built: no GPU code, with OpenBLAS, without LevelDB (our sets are LMDBs), for Python 3.
cmake_options=(-DCPU_ONLY=ON -DBLAS=Open -DUSE_LEVELDB=OFF -DBUILD_docs=OFF -Dpython_version=3)

die() {
    echo "error: $*" >&2
    exit 1
}

# step WHAT COMMAND...: runs one step with its output in the log, and prints one line with the time it took.
# The command is not run inside a condition: bash would switch `set -e` off within it.
step() {
    local started=$SECONDS
    doing=$1
    printf '%s ... ' "$doing"
    "${@:2}" >>"$log" 2>&1
    printf '%d s\n' $((SECONDS - started))
    doing=
}

tell_of_failure() {
    [[ -n $doing ]] || return 0
    printf 'failed:\n'
    tail -n 30 "$log"
    echo "error: \"$doing\" failed; the whole log is $log"
} >&2

missing_packages() {
    comm -23 <(grep -v '^#' "$here/apt-packages.txt" | sort) \
        <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | sort -u)
}

install_packages() {
    "${as_root[@]}" apt-get update
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

need_packages() {
    command -v dpkg-query >/dev/null || die "this setup is for Debian 12: dpkg-query is not here"
    local missing as_root=()
    mapfile -t missing < <(missing_packages)
    ((${#missing[@]})) || return 0
    if (($(id -u) != 0)); then
        sudo -n true 2>/dev/null || die "Debian packages are missing; install them as root, then run setup again:
    apt-get update; apt-get install --no-install-recommends ${missing[*]}"
        as_root=(sudo -n)
    fi
    step "Installing ${#missing[@]} Debian packages" install_packages "${missing[@]}"
}

# Prints the Python to use: the installed one itself, should the name lead to a virtual environment (perhaps our own,
# about to be made anew) or to a pyenv shim. 3.11, since Debian 12 has Boost.Python for no other.
find_python() {
    local candidate candidates=(python3 /usr/bin/python3.11)
    [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        "$candidate" -c 'import sys; sys.version_info[:2] == (3, 11) or sys.exit(1); print(sys._base_executable)' \
            2>/dev/null && return
    done
    die "Python 3.11 is needed, and ${candidates[*]} is not; name one with PYTHON=/path/to/python3.11"
}

# Prints a digest of Caffe's source: of the pinned archive, or of every file of CAFFE_SRC.
source_digest() {
    if [[ -n ${CAFFE_SRC:-} ]]; then
        cd "$CAFFE_SRC"
        find . -name .git -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    else
        cat "$here/caffe.txt"
    fi | sha256sum
}

# Prints the key of the Caffe wheel: a digest of everything that its bytes depend on, the functions below included.
caffe_key() {
    {
        source_digest
        cat "$here"/patches/*.patch "$here"/cmake/*.cmake "$here/pack_wheel.py"
        declare -f get_source patch_source build_caffe
        echo "${cmake_options[@]}" "${compile_flags[@]}"
        c++ "${compile_flags[@]}" -Q --help=target
        "$python" -VV
        grep '^numpy==' "$root/requirements.txt"
        grep -v '^#' "$here/apt-packages.txt" | xargs dpkg-query -W
    } | sha256sum | cut -c1-16
}

make_venv() {
    rm -f "$stamp"
    "$python" -m venv --clear "$root/.venv"
    pip=("$root/.venv/bin/python" -m pip --disable-pip-version-check --no-input)
    "${pip[@]}" install -r "$root/requirements.txt" -r "$root/requirements-dev.txt"
    "${pip[@]}" install --no-deps --require-hashes -r "$here/ljpeg.txt"
    chmod +x "$root"/.venv/lib/python3.11/site-packages/ljpeg/jpegdir/jpeg_static
    "${pip[@]}" install --no-deps --no-build-isolation -e "$root"
}

get_source() {
    local source=$cache/build/source
    rm -rf "$cache/build"
    mkdir -p "$source"
    if [[ -n ${CAFFE_SRC:-} ]]; then
        cp -a "$CAFFE_SRC/." "$source"
    else
        "${pip[@]}" download --no-deps --no-build-isolation --no-binary brocolli-caffe --require-hashes \
            -r "$here/caffe.txt" -d "$cache/build"
        tar -xf "$cache"/build/brocolli-caffe-*.tar.gz -C "$source" --strip-components 1 --no-same-owner
    fi
    # What the archive's packer left in it, or an earlier build in the checkout.
    rm -rf "$source"/{.git,build} "$source"/python/caffe/{_caffe.so,proto,__pycache__}
    # CMakeLists.txt wants this folder; the archive has none, and the examples are not built.
    mkdir -p "$source/examples"
    : >"$source/examples/CMakeLists.txt"
}

patch_source() {
    local file
    for file in "$here"/patches/*.patch; do
        echo "Applying ${file##*/}"
        patch -p1 --forward --directory "$cache/build/source" <"$file"
    done
}

# - An extension takes Python's own symbols from the interpreter that loads it. Boost.Python, which CMakeLists.txt
#   forgets to link, is named in libpython's place; so no second interpreter comes along. Python layers are left out:
#   they would tie libcaffe and the tools to a libpython.
# - Nothing may point at the build folder: CMake's own run paths are off and the wheel's layout is given instead, and
#   the file names in Caffe's messages start at its root.
# - --as-needed leaves out what is named and not used.
build_caffe() {
    local tree=$cache/build/tree boost_python python_include
    boost_python=/usr/lib/$(c++ -print-multiarch)/libboost_python311.so
    python_include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    cmake -G Ninja -S "$cache/build/source" -B "$tree" "${cmake_options[@]}" \
        -DCMAKE_MODULE_PATH="$here/cmake" -DCMAKE_CXX_FLAGS="${compile_flags[*]} -ffile-prefix-map=$cache/build/=" \
        -DPYTHON_EXECUTABLE="$root/.venv/bin/python" -DPYTHON_INCLUDE_DIR="$python_include" \
        -DPYTHON_LIBRARY="$boost_python" -DBUILD_python_layer=OFF -DCMAKE_SKIP_RPATH=ON \
        -DCMAKE_SHARED_LINKER_FLAGS="-Wl,--as-needed -Wl,-rpath,'\$ORIGIN'" \
        -DCMAKE_EXE_LINKER_FLAGS="-Wl,--as-needed -Wl,-rpath,'\$ORIGIN/../lib/python3.11/site-packages/caffe'"
    ninja -C "$tree" -j "$(nproc)" pycaffe caffe.bin convert_imageset compute_image_mean
    "$root/.venv/bin/python" "$here/pack_wheel.py" "$cache/build/source" "$tree" "$cache/build"
}

# A wheel comes into its place by a rename, when it is whole.
keep_wheel() {
    mkdir -p "$cache/$key"
    mv "$cache"/build/*.whl "$cache/$key/"
    rm -rf "$cache/build"
}

main() {
    local python key pip wanted
    if [[ -n ${CAFFE_SRC:-} ]]; then
        [[ -f $CAFFE_SRC/src/caffe/proto/caffe.proto ]] || die "CAFFE_SRC=$CAFFE_SRC is no checkout of Caffe"
        CAFFE_SRC=$(cd "$CAFFE_SRC" && pwd)
    fi
    mkdir -p "$cache" "$root"/{data,weights,runs}
    exec 9>"$cache/lock"
    flock -n 9 || { echo "Waiting for another setup to end" && flock 9; }
    trap tell_of_failure EXIT

    need_packages
    python=$(find_python)
    key=$(caffe_key)
    # Where the folder was moved, its .venv names the old place and is made anew.
    wanted=$(echo "$key $root" | cat - "$root"/requirements*.txt "$root/pyproject.toml" "$here/ljpeg.txt" | sha256sum)
    if [[ -f $stamp && $(<"$stamp") == "$wanted" ]] && "$root/.venv/bin/caffe" --version >/dev/null 2>&1; then
        echo "Setup is up to date"
        return
    fi

    : >"$log"
    step "Making .venv with the Python packages" make_venv
    if ! compgen -G "$cache/$key/*.whl" >/dev/null; then
        step "Getting Caffe's source" get_source
        step "Patching it" patch_source
        step "Building Caffe, some minutes" build_caffe
        keep_wheel
    fi
    step "Installing Caffe" "${pip[@]}" install --no-deps "$cache/$key"/*.whl
    echo "$wanted" >"$stamp"
    echo "Ready; in a new shell: source .venv/bin/activate"
}

# The tests source this file to reach one function.
if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main
fi
