#!/usr/bin/env bash
# Makes .venv with BVLC Caffe and everything that the scripts and tests use, on Debian or Ubuntu. `make setup` runs it.
#
#   setup.sh                     our Caffe for the CPU, into .venv; or anew the kind that .venv has already
#   setup.sh --cuda [--cudnn] [--nccl]    a Caffe with GPU code, with cuDNN's layers, for several GPUs at once
#   setup.sh --cpu               back to our Caffe for the CPU
#   setup.sh --stock             and stock Caffe beside it, to compare with: PYTHONPATH=.venv/stock python imports it
#   setup.sh --unknown-system    try it on a system on which nobody has tried it
#
#   CUDA_ARCH_BIN="80 90"        compile GPU code for these compute capabilities (default: this machine's GPUs, or all)
#   PYTHON=/path/to/python3      the Python to use, of the version that the system's Boost.Python serves (default: python3
#                                where it is of that version, or else /usr/bin/python3)
#   CAFFE_SRC=DIR                build this checkout of BVLC Caffe in place of the pinned source
#   CAFFE_PORTABLE=1             compile for any processor of this kind in place of this very one
#
# Caffe is built once into a wheel, kept under ~/.cache/breast-mass-caffe by a key of all that went into it. A second
# run, with nothing changed, only looks at a stamp in .venv.
set -euo pipefail
shopt -s inherit_errexit nullglob
# What is built depends on what this file says, and not on what the caller's shell exports.
unset CC CXX CFLAGS CXXFLAGS CPPFLAGS LDFLAGS

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/breast-mass-caffe
build=$cache/build
tree=$build/tree
log=$cache/setup.log
stamp=$root/.venv/setup-stamp
os_release=/etc/os-release
doing=

# ID and VERSION_ID in os-release of the systems that README.md beside this file describes.
known_systems=("debian 12" "debian 13" "ubuntu 22.04" "ubuntu 24.04")

# Compute capabilities that get machine code where this machine has no GPU: Turing (75) to Blackwell (120).
all_archs="75 80 86 89 90 100 120"

# choose ours|stock|cuda: sets which Caffe is built. Stock is upstream's, with what it takes to build it today. Ours is
# also faster: it has the speed patches and oneDNN, and is compiled for this very processor. The one with GPU code is
# stock's otherwise: the speed patches are for the CPU, and nobody has seen them beside GPU code.
# - No GPU code but in the third, with OpenBLAS, without LevelDB (our sets are LMDBs), for Python 3.
# - A database in a folder that one may not write, such as a colleague's, or on a file system without locks, is read
#   without LMDB's lock file.
# - OpenCV 4 has other names for the two constants that Caffe reads images with. Boost's advice on Caffe's old headers
#   is silenced: it would hide the cause of a failure.
# - Ours takes OpenBLAS in its OpenMP flavour: its threads are then those of oneDNN and of Caffe's own loops, and no two
#   sets of threads fight for the cores. Every flavour answers to one name, and the system's default is another, so the
#   run path names the folder.
choose() {
    local triplet
    patches=("$here"/patches/build/*.patch)
    cmake_options=(-DCPU_ONLY=ON -DBLAS=Open -DUSE_LEVELDB=OFF -DALLOW_LMDB_NOLOCK=ON -DBUILD_docs=OFF -Dpython_version=3)
    compile_flags=(
        -DCV_LOAD_IMAGE_COLOR=cv::IMREAD_COLOR -DCV_LOAD_IMAGE_GRAYSCALE=cv::IMREAD_GRAYSCALE
        -DBOOST_BIND_GLOBAL_PLACEHOLDERS -DBOOST_ALLOW_DEPRECATED_HEADERS
    )
    cuda_files=()
    run_path= # @ stands for site-packages
    [[ $1 != cuda ]] || choose_cuda
    [[ $1 == ours ]] || return 0
    triplet=$(c++ -print-multiarch)
    patches+=("$here"/patches/speed/*.patch)
    cmake_options+=(
        -DUSE_ONEDNN=ON -DOpenBLAS_INCLUDE_DIR="/usr/include/$triplet/openblas-openmp"
        -DOpenBLAS_LIB="/usr/lib/$triplet/openblas-openmp/libopenblas.so"
    )
    [[ -n ${CAFFE_PORTABLE:-} ]] || compile_flags+=(-march=native)
    run_path=:/usr/lib/$triplet/openblas-openmp
}

# The toolkit lies beside the source while Caffe is built; what Caffe runs on lies in .venv, in the same arrangement.
# GPUs newer than the last compute capability compile its PTX when Caffe first runs there.
choose_cuda() {
    local nvidia=$build/cuda/nvidia
    patches+=("$here"/patches/cuda/*.patch)
    cmake_options=("${cmake_options[@]/-DCPU_ONLY=ON/-DCPU_ONLY=OFF}")
    cmake_options+=(
        -DCUDA_TOOLKIT_ROOT_DIR="$nvidia/cu13" -DCUDA_ARCH_NAME=Manual -DCUDA_ARCH_BIN="$archs"
        -DCUDA_ARCH_PTX="${archs##* }"
    )
    cuda_files=("$here/cuda/runtime.txt")
    run_path=:@/nvidia/cu13/lib
    if wants --cudnn; then
        cmake_options+=(-DCUDNN_INCLUDE="$nvidia/cudnn/include" -DCUDNN_LIBRARY="$nvidia/cudnn/lib/libcudnn.so")
        cuda_files+=("$here/cuda/cudnn.txt")
        run_path+=:@/nvidia/cudnn/lib
    else
        cmake_options+=(-DUSE_CUDNN=OFF)
    fi
    if wants --nccl; then
        cmake_options+=(
            -DUSE_NCCL=ON -DNCCL_INCLUDE_DIR="$nvidia/nccl/include" -DNCCL_LIBRARIES="$nvidia/nccl/lib/libnccl.so"
        )
        cuda_files+=("$here/cuda/nccl.txt")
        run_path+=:@/nvidia/nccl/lib
    fi
}

# wants OPTION: whether the kind of Caffe that is to be in .venv has it.
wants() {
    [[ " ${kind[*]} " == *" $1 "* ]]
}

# Prints the compute capabilities to compile for: of this machine's GPUs, or else of all that are known.
find_archs() {
    local found
    found=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | sort -nu | paste -sd " ") || :
    [[ $found =~ ^[0-9\ ]+$ ]] || found=$all_archs
    echo "${CUDA_ARCH_BIN:-$found}"
}

# find_kind OPTION...: sets `kind`, the options that say which Caffe is to be in .venv, and for a GPU `archs`. With no
# option it is the kind that .venv has.
find_kind() {
    local arch
    kind=("$@")
    archs=
    if [[ $# == 0 && -f $root/.venv/caffe-kind ]]; then
        { read -ra kind && read -r archs; } <"$root/.venv/caffe-kind"
    fi
    ((${#kind[@]})) || kind=(--cpu)
    wants --cuda || { [[ ${kind[*]} == --cpu ]] && return || die "--cudnn and --nccl want --cuda, and --cpu stands alone"; }
    ! wants --cpu || die "--cpu and --cuda: choose one"
    [[ $# == 0 && -z ${CUDA_ARCH_BIN:-} ]] || archs=$(find_archs)
    for arch in $archs; do
        [[ $arch =~ ^[0-9]+$ ]] && ((arch >= 75)) ||
            die "compute capability $arch: CUDA 13 compiles for 75 (Turing) and later; CUDA_ARCH_BIN=\"75 86\" chooses"
    done
}

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

# Prints this system's ID and VERSION_ID. Debian's unstable releases have no VERSION_ID.
system() {
    sed -nE 's/^(ID|VERSION_ID)="?([^"]*)"?$/\1 \2/p' "$os_release" 2>/dev/null | sort | cut -d " " -f 2 | paste -sd " "
}

# Refuses a system that is not known. Where a setup has succeeded before, nobody is asked again.
need_known_system() {
    local this known
    this=$(system)
    for known in "${known_systems[@]}"; do
        [[ $this != "$known" ]] || return 0
    done
    known=$(printf ', %s' "${known_systems[@]}")
    [[ -f $stamp ]] || die "${this:-a system without $os_release} is not among ${known:2}; setup needs apt, the packages of" \
        "scripts/install/apt-packages.txt and a Python as in pyproject.toml; scripts/install/setup.sh --unknown-system tries it"
}

missing_packages() {
    comm -23 <(grep -v '^#' "$here/apt-packages.txt" | sort) \
        <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | sort -u)
}

install_packages() {
    "${as_root[@]}" apt-get update
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

need_packages() {
    command -v dpkg-query >/dev/null || die "this setup is for Debian and Ubuntu: dpkg-query is not here"
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
# about to be made anew) or to a pyenv shim. It is of the version that the system's Boost.Python serves.
find_python() {
    local served candidate candidates=(python3 /usr/bin/python3)
    [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
    served=(/usr/lib/*/libboost_python3*.so)
    served=("${served[@]##*/libboost_python3}")
    served=("${served[@]/#/3.}")
    served=("${served[@]%.so}")
    for candidate in "${candidates[@]}"; do
        "$candidate" -c 'import sys; "%d.%d" % sys.version_info[:2] in sys.argv or sys.exit(1); print(sys._base_executable)' \
            "${served[@]}" 2>/dev/null && return
    done
    die "Boost.Python is for Python ${served[*]:-(none)} here, and ${candidates[*]} is another; name one with PYTHON="
}

# Prints where a virtual environment of $python keeps its packages, from its own folder.
site_packages() {
    "$python" -c 'import sys; print("lib/python%d.%d/site-packages" % sys.version_info[:2])'
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

# Prints the key of the chosen Caffe's wheel: a digest of everything that its bytes depend on, the functions below
# included.
caffe_key() {
    {
        source_digest
        cat "${patches[@]}" "$here"/cmake/*.cmake "$here/pack_wheel.py"
        declare -f get_source patch_source configure build_caffe
        system
        [[ -z ${cuda_files[*]} ]] || { declare -f get_toolkit && cat "${cuda_files[@]}" "$here/cuda/toolkit.txt"; }
        echo "${cmake_options[@]}" "${compile_flags[@]}" "$run_path"
        c++ "${compile_flags[@]}" -Q --help=target
        "$python" -VV
        grep '^numpy==' "$root/requirements.txt"
        grep -v '^#' "$here/apt-packages.txt" | xargs dpkg-query -W
    } | sha256sum | cut -c1-16
}

make_venv() {
    rm -f "$stamp"
    "$python" -m venv --clear "$root/.venv"
    printf '%s\n' "${kind[*]}" "$archs" >"$root/.venv/caffe-kind"
    "${pip[@]}" install --require-hashes -r "$here/requirements.lock" # of requirements*.txt: make lock
    "${pip[@]}" install --no-deps --require-hashes -r "$here/ljpeg.txt"
    chmod +x "$root/.venv/$(site_packages)/ljpeg/jpegdir/jpeg_static"
    "${pip[@]}" install --no-deps --no-build-isolation -e "$root"
    [[ -z ${cuda_files[*]} ]] || "${pip[@]}" install --no-deps "${cuda_files[@]/#/-r}"
}

get_source() {
    local source=$build/source
    rm -rf "$build"
    mkdir -p "$source"
    if [[ -n ${CAFFE_SRC:-} ]]; then
        cp -a "$CAFFE_SRC/." "$source"
    else
        "${pip[@]}" download --no-deps --no-build-isolation --no-binary brocolli-caffe --require-hashes \
            -r "$here/caffe.txt" -d "$build"
        tar -xf "$build"/brocolli-caffe-*.tar.gz -C "$source" --strip-components 1 --no-same-owner
    fi
    # What the archive's packer left in it, or an earlier build in the checkout.
    rm -rf "$source"/{.git,build} "$source"/python/caffe/{_caffe.so,proto,__pycache__}
    # CMakeLists.txt wants this folder; the archive has none, and the examples are not built.
    mkdir -p "$source/examples"
    : >"$source/examples/CMakeLists.txt"
}

# The wheels' libraries go by their numbered names alone, and CMake looks for them in lib64.
get_toolkit() {
    local library
    "${pip[@]}" install --no-deps --target "$build/cuda" "${cuda_files[@]/#/-r}" -r "$here/cuda/toolkit.txt"
    ln -s lib "$build/cuda/nvidia/cu13/lib64"
    for library in "$build"/cuda/nvidia/*/lib/lib*.so.*; do
        ln -s "${library##*/}" "${library%.so.*}.so"
    done
}

patch_source() {
    local file
    for file in "${patches[@]}"; do
        echo "Applying ${file##*/}"
        patch -p1 --forward --directory "$build/source" <"$file"
    done
}

# - An extension takes Python's own symbols from the interpreter that loads it. Boost.Python, which CMakeLists.txt
#   forgets to link, is named in libpython's place; so no second interpreter comes along. Python layers are left out:
#   they would tie libcaffe and the tools to a libpython.
# - Nothing may point at the build folder: CMake's own run paths are off and the wheel's layout is given instead, and
#   the file names in Caffe's messages start at its root.
# - --as-needed leaves out what is named and not used.
# Options given to it come after all others.
configure() {
    local boost_python python_include from_bin
    from_bin="\$ORIGIN/../$(site_packages)"
    boost_python=$("$python" -c 'import sys; print("libboost_python%d%d.so" % sys.version_info[:2])')
    boost_python=/usr/lib/$(c++ -print-multiarch)/$boost_python
    python_include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    cmake -G Ninja -S "$build/source" -B "$tree" "${cmake_options[@]}" \
        -DCMAKE_MODULE_PATH="$here/cmake" -DCMAKE_CXX_FLAGS="${compile_flags[*]} -ffile-prefix-map=$build/=" \
        -DPYTHON_EXECUTABLE="$root/.venv/bin/python" -DPYTHON_INCLUDE_DIR="$python_include" \
        -DPYTHON_LIBRARY="$boost_python" -DBUILD_python_layer=OFF -DCMAKE_SKIP_RPATH=ON \
        -DCMAKE_SHARED_LINKER_FLAGS="-Wl,--as-needed -Wl,-rpath,'\$ORIGIN${run_path//@/\$ORIGIN/..}'" \
        -DCMAKE_EXE_LINKER_FLAGS="-Wl,--as-needed -Wl,-rpath,'$from_bin/caffe${run_path//@/$from_bin}'" \
        "$@"
}

build_caffe() {
    configure
    ninja -C "$tree" -j "$(nproc)" pycaffe caffe.bin convert_imageset compute_image_mean
    "$root/.venv/bin/python" "$here/pack_wheel.py" "$build/source" "$tree" "$build"
}

# Sees to it that the cache holds the chosen Caffe's wheel. It comes into its place by a rename, when it is whole.
need_wheel() {
    ! compgen -G "$cache/$key/*.whl" >/dev/null || return 0
    step "Getting Caffe's source" get_source
    step "Patching it" patch_source
    [[ -z ${cuda_files[*]} ]] || step "Getting CUDA's compiler, for the time of the build" get_toolkit
    step "Building Caffe, some minutes" build_caffe
    mkdir -p "$cache/$key"
    mv "$build"/*.whl "$cache/$key/"
    rm -rf "$build"
}

set_up() {
    local wanted
    if wants --cuda; then choose cuda; else choose ours; fi
    key=$(caffe_key)
    # Where the folder was moved, its .venv names the old place and is made anew.
    wanted=$(echo "$key $root" | cat - "$root"/requirements{,-fetch,-dev}.txt "$root/pyproject.toml" "$here/ljpeg.txt" "$here/requirements.lock" | sha256sum)
    if [[ -f $stamp && $(<"$stamp") == "$wanted" ]] && "$root/.venv/bin/caffe" --version >/dev/null 2>&1; then
        echo "Setup is up to date"
        return
    fi

    : >"$log"
    step "Making .venv with the Python packages" make_venv
    need_wheel
    step "Installing Caffe" "${pip[@]}" install --no-deps "$cache/$key"/*.whl
    echo "$wanted" >"$stamp"
    echo "Ready; in a new shell: source .venv/bin/activate"
}

# The package alone: the tools' run paths lead to where .venv keeps its packages.
install_stock() {
    rm -rf "$root/.venv/stock"
    "${pip[@]}" install --no-deps --no-index --target "$root/.venv/stock" "$cache/$key"/*.whl
    rm -r "$root/.venv/stock/bin"
}

set_up_stock() {
    choose stock
    key=$(caffe_key)
    [[ ! -f $root/.venv/stock-stamp || $(<"$root/.venv/stock-stamp") != "$key" ]] || return 0
    need_wheel
    step "Installing stock Caffe" install_stock
    echo "$key" >"$root/.venv/stock-stamp"
}

main() {
    local option options=() stock= unknown=
    for option; do
        case $option in
            --stock) stock=1 ;;
            --unknown-system) unknown=1 ;;
            --cpu | --cuda | --cudnn | --nccl) options+=("$option") ;;
            *) die "$option: no such option; see the first lines of setup.sh" ;;
        esac
    done
    find_kind "${options[@]}"
    if [[ -n ${CAFFE_SRC:-} ]]; then
        [[ -f $CAFFE_SRC/src/caffe/proto/caffe.proto ]] || die "CAFFE_SRC=$CAFFE_SRC is no checkout of Caffe"
        CAFFE_SRC=$(cd "$CAFFE_SRC" && pwd)
    fi
    mkdir -p "$cache" "$root"/{data,weights,runs}
    exec 9>"$cache/lock"
    flock -n 9 || { echo "Waiting for another setup to end" && flock 9; }
    trap tell_of_failure EXIT

    [[ -n $unknown ]] || need_known_system
    need_packages
    python=$(find_python)
    pip=("$root/.venv/bin/python" -m pip --disable-pip-version-check --no-input)
    set_up
    [[ -z $stock ]] || set_up_stock
}

# caffe_test.sh and the tests source this file to reach its functions.
if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
