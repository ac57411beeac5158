#!/usr/bin/env bash
# Proves that our Caffe is still Caffe; `make caffe-test` runs it. After setup:
# - Caffe's own C++ tests, on our source and flags, with oneDNN and without it;
# - pycaffe's own tests, on the Caffe in .venv;
# - scripts/same_caffe.py: the three nets in our Caffe and in stock Caffe.
# What is built for it stays under the cache folder until something of Caffe changes: 130 MB.
#
#   caffe_test.sh --cuda         only builds the C++ tests of the Caffe with GPU code that .venv has, for this machine's
#                                GPUs; scripts/gpu_check.py finds them and runs them
#   CUDA_ARCH_BIN="75 86"        compute capabilities to build them for, in place of this machine's
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
build=$cache/test

# The C++ tests that cannot run here, as gtest's filters. Tests of GPUs and LevelDB are hardly among them: they are not
# even compiled in a Caffe that has neither.
left_out=(
    '*GPU*' # compare a blob's copies on both sides, without asking whether there is a GPU
)
# pycaffe's tests of Python layers leave themselves out: setup.sh says why there are none. These cannot:
left_out_of_pycaffe=(
    test_draw.py # draws nets with pydot and Graphviz, which nothing here uses
)

# The source comes without Caffe's example images; these have the sizes, in pixels and bytes, that the tests ask for.
draw_images() {
    "$root/.venv/bin/python" - "$build/source/examples/images" <<'END'
import sys
from pathlib import Path

import cv2
import numpy as np

folder = Path(sys.argv[1])
folder.mkdir()
for name, shape, size in (
    ("cat.jpg", (360, 480, 3), 140391),
    ("fish-bike.jpg", (323, 481, 3), 0),
    ("cat gray.jpg", (360, 480), 0),
    ("cat_gray.jpg", (360, 480), 0),
):
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    jpeg = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, 50])[1].tobytes()
    (folder / name).write_bytes(jpeg.ljust(size, b"\0"))  # a decoder stops at the image's end
END
}

get_tests() {
    get_source
    patch_source
    draw_images
    (cd "$build/source/python/caffe/test" && rm "${left_out_of_pycaffe[@]}")
    # Tests nothing: it prints what a GPU is, some of which CUDA 13 no longer tells.
    rm "$build/source/src/caffe/test/test_platform.cpp"
    # libcaffe is compiled with our flags; the tests themselves need not be fast, and take half as long this way.
    sed -i '1i add_compile_options(-O0)' "$build/source/src/caffe/test/CMakeLists.txt"
}

# build_tests FOLDER OPTION...: with these options of CMake besides ours.
build_tests() {
    tree=$build/$1
    configure "${@:2}"
    ninja -C "$tree" -j "$(nproc)" test.testbin
}

# The tests have very many tiny loops: where other processes want the cores too, threads that spin between two loops
# take five times as long as threads that sleep.
run_tests() {
    local all_but
    all_but=$(IFS=: && echo "${left_out[*]}")
    cd "$build/source"
    OMP_WAIT_POLICY=passive LD_LIBRARY_PATH=$build/$1/lib "$build/$1/test/test.testbin" --gtest_filter="-$all_but"
}

run_pycaffe_tests() {
    cd "$build/source/python/caffe/test"
    "$root/.venv/bin/python" -m unittest discover
}

# Writes what starts the GPU's tests, from anywhere: they read their files from the source's root, and their CUDA is
# that of .venv.
write_launcher() {
    local site=$root/.venv/$(site_packages)
    cat >"$build/run" <<END
#!/usr/bin/env bash
cd "$build/source"
export OMP_WAIT_POLICY=passive LD_LIBRARY_PATH="$build/tests/lib${run_path//@/$site}"
exec "$build/tests/test/test.testbin" "\$@"
END
    chmod +x "$build/run"
}

# - A test calls a kernel template of libcaffe's, which CUDA 13's compiler hides unless told not to.
# - The launcher comes last: where it is, the tests are whole.
make_cuda_tests() {
    local wanted seen="--static-global-template-stub=false;--device-entity-has-hidden-visibility=false"
    find_kind
    wants --cuda || die "the Caffe in .venv has no GPU code; first: scripts/install/setup.sh --cuda"
    main
    archs=$(find_archs)
    build=$cache/test-cuda
    choose cuda
    log=$cache/caffe-test.log
    : >"$log"
    wanted="$(caffe_key) $(sha256sum <"${BASH_SOURCE[0]}")"
    if [[ ! -f $build/stamp || $(<"$build/stamp") != "$wanted" ]]; then
        step "Getting Caffe's own tests" get_tests
        step "Getting CUDA's compiler, for the time of the build" get_toolkit
        step "Building them for compute capability $archs, some minutes" build_tests tests -DCUDA_NVCC_FLAGS="$seen"
        rm -rf "$build/cuda"
        write_launcher
        echo "$wanted" >"$build/stamp"
    fi
    echo "Ready; next: python scripts/gpu_check.py"
}

[[ $# == 0 || $* == --cuda ]] || die "$*: there is no such option; there is --cuda"
if [[ $* == --cuda ]]; then
    make_cuda_tests
    exit
fi
main --stock
choose ours
key=$(caffe_key)
log=$cache/caffe-test.log
: >"$log"
wanted="$key $(sha256sum <"${BASH_SOURCE[0]}")"
if [[ ! -f $build/stamp || $(<"$build/stamp") != "$wanted" ]]; then
    step "Getting Caffe's own tests" get_tests
    step "Building them with oneDNN, some minutes" build_tests with
    step "Building them without oneDNN, as long again" build_tests without -DUSE_ONEDNN=OFF
    echo "$wanted" >"$build/stamp"
fi
for build_of in with without; do
    step "Running them $build_of oneDNN" run_tests "$build_of"
    grep -F '[  PASSED  ]' "$log" | tail -n 1
done
step "Running pycaffe's own tests" run_pycaffe_tests
tail -n 3 "$log"
cd "$root"
.venv/bin/python scripts/same_caffe.py
