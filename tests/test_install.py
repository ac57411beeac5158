"""What `make setup` leaves: a Caffe that works from anywhere, and a script that says what is wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path

import caffe
import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
INSTALL = ROOT / "scripts" / "install"
BIN = Path(sys.prefix) / "bin"
PATCHES = {folder.name: sorted(folder.glob("*.patch")) for folder in (INSTALL / "patches").iterdir()}
OPENBLAS = f"/usr/lib/{subprocess.check_output(['c++', '-print-multiarch'], text=True).strip()}/openblas-openmp"
BINARIES = [
    *(BIN / tool for tool in ("caffe", "convert_imageset", "compute_image_mean")),
    *Path(caffe.__file__).parent.glob("*.so*"),
]


def run(*command, **options) -> subprocess.CompletedProcess:
    """Runs `command` and returns it with its output, stdout and stderr together."""
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)


def in_setup(command: str, **environment) -> subprocess.CompletedProcess:
    """Runs `command` in a shell that has read setup.sh."""
    return run("bash", "-c", f"source {INSTALL}/setup.sh; {command}", env=os.environ | environment)


def key(which: str = "ours", **environment) -> str:
    """The key under which setup keeps our or stock Caffe of this environment."""
    found = in_setup(f"python=$(find_python); choose {which}; caffe_key", **environment)
    assert found.returncode == 0 and len(found.stdout.strip()) == 16, found.stdout
    return found.stdout.strip()


def test_the_three_tools_work_from_another_directory(tmp_path):
    for index, grey in enumerate((10, 30)):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((4, 4, 3), grey, np.uint8))
    (tmp_path / "list.txt").write_text("0.png 0\n1.png 1\n")
    assert "caffe version 1.0.0" in run(BIN / "caffe", "--version", cwd=tmp_path).stdout
    made = run(BIN / "convert_imageset", f"{tmp_path}/", "list.txt", "lmdb", cwd=tmp_path)
    assert made.returncode == 0, made.stdout
    averaged = run(BIN / "compute_image_mean", "lmdb", "mean.binaryproto", cwd=tmp_path)
    assert averaged.returncode == 0, averaged.stdout
    mean = caffe.proto.caffe_pb2.BlobProto.FromString((tmp_path / "mean.binaryproto").read_bytes())
    assert set(mean.data) == {20.0}


def test_caffe_and_our_own_packages_import_from_another_directory(tmp_path):
    code = "import caffe, data_prep.mass, scripts; print(caffe.__version__)"
    assert run(sys.executable, "-c", code, cwd=tmp_path).stdout == "1.0.0\n"


@pytest.mark.parametrize("binary", BINARIES, ids=lambda binary: binary.name)
def test_no_binary_points_at_the_build_folder(binary):
    dynamic = run("readelf", "--dynamic", binary).stdout
    run_paths = [line for line in dynamic.splitlines() if "RPATH" in line or "RUNPATH" in line]
    assert len(run_paths) == 1
    own, openblas = run_paths[0].split("[")[1].rstrip("]").split(":")
    assert own.startswith("$ORIGIN") and openblas == OPENBLAS
    assert b"breast-mass-caffe/build" not in binary.read_bytes()


@pytest.mark.parametrize(
    ("share", "set_by_hand", "threads"),
    [("50000 100000", "", "1"), ("max 100000", "", str(len(os.sched_getaffinity(0)))), ("50000 100000", "3", "3")],
    ids=["half a processor", "no limit", "OMP_NUM_THREADS"],
)
def test_caffe_starts_no_more_threads_than_its_containers_share(share, set_by_hand, threads):
    count = "import caffe, ctypes; print(ctypes.CDLL(caffe._caffe.__file__).omp_get_max_threads())"
    in_container = f"mount -t tmpfs none /sys/fs/cgroup && echo {share} >/sys/fs/cgroup/cpu.max && "
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if set_by_hand:
        environment["OMP_NUM_THREADS"] = set_by_hand
    new_namespace = ("unshare", "--user", "--map-root-user", "--mount", "bash", "-c")
    if run(*new_namespace, in_container + "true").returncode:
        pytest.skip("this machine lets us mount nothing, not even in a namespace of our own")
    found = run(*new_namespace, f"{in_container}{sys.executable} -c '{count}'", env=environment)
    assert found.stdout.splitlines()[-1] == threads


def test_caffe_io_reads_images_with_the_installed_scikit_image(tmp_path):
    image = np.zeros((5, 6, 3), np.uint8)
    image[..., 2] = 255
    cv2.imwrite(str(tmp_path / "red.png"), image)
    assert caffe.io.load_image(str(tmp_path / "red.png"))[0, 0].tolist() == [1, 0, 0]
    assert caffe.io.load_image(str(tmp_path / "red.png"), color=False).shape == (5, 6, 1)


def test_caffe_io_takes_a_datum_there_and_back_with_the_installed_numpy():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    back = caffe.io.datum_to_array(caffe.io.array_to_datum(array, label=1))
    assert np.array_equal(back, array) and back.flags.writeable


def test_caffe_io_shrinks_without_a_blur_as_caffe_always_did():
    stripes = np.tile(np.float32([0, 1, 0]), (9, 3))[:, :, np.newaxis]
    assert np.allclose(caffe.io.resize_image(stripes, (3, 3)), 1)


@pytest.mark.parametrize("binary", BINARIES, ids=lambda binary: binary.name)
def test_every_binary_finds_openblas_of_openmp_threads(binary):
    assert f"libopenblas.so.0 => {OPENBLAS}/libopenblas.so.0 " in run("ldd", binary).stdout


def test_caffe_has_its_own_openblas_beside_those_of_other_packages():
    code = f"""
import ctypes, cv2, numpy, scipy.linalg
numpy.ones((99, 99)) @ numpy.ones((99, 99))
import caffe
library = ctypes.CDLL(caffe._caffe.__file__)
print(library.openblas_get_parallel(), any("{OPENBLAS}/libopenblas" in line for line in open("/proc/self/maps")))
"""
    assert run(sys.executable, "-c", code).stdout == "2 True\n"  # 2: OpenMP


def test_patches_are_numbered_and_each_opens_with_its_reason():
    for folder, first in (("build", 1), ("speed", 101)):
        patches = PATCHES.get(folder, [])
        assert [patch.name[:5] for patch in patches] == [f"{first + n:04d}-" for n in range(len(patches))]
        for patch in patches:
            reason, hunks = re.split("^--- ", patch.read_text(), maxsplit=1, flags=re.MULTILINE)
            assert 40 < len(reason) < 600 and "@@" in hunks, patch.name


def test_patches_apply_in_order_to_the_pinned_source(tmp_path):
    fetched = in_setup(f"build={tmp_path}; pip=('{sys.executable}' -m pip); get_source")
    if fetched.returncode:
        pytest.skip(f"the pinned source cannot be fetched here: {fetched.stdout.splitlines()[-1]}")
    applied = in_setup(f"build={tmp_path}; choose ours; patch_source")
    assert applied.returncode == 0, applied.stdout
    assert applied.stdout.count("Applying") == sum(map(len, PATCHES.values()))
    assert "offset" not in applied.stdout and "fuzz" not in applied.stdout


def test_stock_caffe_is_upstreams_with_what_it_takes_to_build_it():
    chosen = in_setup('choose stock; echo "${patches[@]##*/}" "${cmake_options[@]}" "${compile_flags[@]}" "$run_path"')
    assert chosen.returncode == 0, chosen.stdout
    assert [word for word in chosen.stdout.split() if word.endswith(".patch")] == [p.name for p in PATCHES["build"]]
    assert not re.search("ONEDNN|openmp|native", chosen.stdout)


def test_stock_caffe_is_imported_from_its_own_folder():
    stock = Path(sys.prefix) / "stock"
    if not stock.is_dir():
        pytest.skip("stock Caffe is not built: scripts/install/setup.sh --stock")
    code = "import caffe, ctypes; print(caffe.__file__, ctypes.CDLL(caffe._caffe.__file__).openblas_get_parallel())"
    imported = run(sys.executable, "-c", code, env=os.environ | {"PYTHONPATH": str(stock)})
    assert imported.stdout == f"{stock}/caffe/__init__.py 1\n"  # 1: threads of OpenBLAS's own
    assert {path.name for path in stock.iterdir()} == {"caffe", "caffe-1.0.0.dist-info"}


def test_the_key_follows_processor_flags_and_source(tmp_path):
    tree = tmp_path / "caffe"
    tree.mkdir()
    (tree / "net.cpp").write_text("first")
    keys = [key(CAFFE_PORTABLE="", CAFFE_SRC=""), key(CAFFE_PORTABLE="1", CAFFE_SRC=""), key(CAFFE_SRC=str(tree))]
    (tree / "net.cpp").write_text("second")
    keys += [key(CAFFE_SRC=str(tree)), key("stock", CAFFE_PORTABLE="", CAFFE_SRC="")]
    assert len(set(keys)) == 5
    assert key("stock", CAFFE_PORTABLE="1", CAFFE_SRC="") == keys[-1]
    assert key(CAFFE_PORTABLE="", CAFFE_SRC="") == keys[0]


def test_a_user_without_root_is_told_the_apt_line(tmp_path):
    installed = [line for line in (INSTALL / "apt-packages.txt").read_text().splitlines() if line[0] != "#"]
    installed.remove("liblmdb-dev")
    for name, lines in (
        ("id", "echo 1000"),
        ("sudo", "exit 1"),
        ("dpkg-query", "\n".join(f"echo installed {package}" for package in installed)),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    told = in_setup("need_packages", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert told.returncode == 1
    assert told.stdout.startswith("error: Debian packages are missing")
    assert told.stdout.endswith("apt-get install --no-install-recommends liblmdb-dev\n")


def test_a_python_of_another_version_is_refused(tmp_path):
    python = tmp_path / "python3.12"
    python.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'import sys; sys.version_info = (3, 12, 1); '\"$2\"\n")
    python.chmod(0o755)
    refused = in_setup("find_python", PYTHON=str(python))
    assert refused.returncode == 1
    assert refused.stdout.startswith(f"error: Python 3.11 is needed, and {python} is not")


def test_a_folder_without_caffe_is_refused(tmp_path):
    refused = run(INSTALL / "setup.sh", env=os.environ | {"CAFFE_SRC": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)})
    assert refused.returncode == 1
    assert refused.stdout == f"error: CAFFE_SRC={tmp_path} is no checkout of Caffe\n"


def test_an_option_that_there_is_not_is_refused(tmp_path):
    refused = run(INSTALL / "setup.sh", "--stok", env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)})
    assert (refused.returncode, refused.stdout) == (1, "error: --stok: there is no such option; there is --stock\n")


def test_a_failing_step_ends_with_its_cause_and_its_log(tmp_path):
    failed = in_setup(f"log={tmp_path}/log; trap tell_of_failure EXIT; step 'Looking' ls {tmp_path}/absent; echo on")
    assert failed.returncode == 2
    assert "No such file" in failed.stdout and "\non" not in failed.stdout
    assert failed.stdout.endswith(f'error: "Looking" failed; the whole log is {tmp_path}/log\n')


def test_a_second_setup_does_nothing():
    again = in_setup("make_venv() { echo 'it would start anew'; exit 1; }; main")
    assert again.stdout == "Setup is up to date\n"
