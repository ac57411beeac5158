"""What `make setup` leaves: a Caffe that works from anywhere, and a script that says what is wrong."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import caffe
import cv2
import lmdb
import numpy as np
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
INSTALL = ROOT / "scripts" / "install"
BIN = Path(sys.prefix) / "bin"
PATCHES = {folder.name: sorted(folder.glob("*.patch")) for folder in (INSTALL / "patches").iterdir()}
KIND, ARCHS = (Path(sys.prefix) / "caffe-kind").read_text().splitlines()
OPENBLAS = f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}/openblas-openmp"
BINARIES = [
    *(BIN / tool for tool in ("caffe", "convert_imageset", "compute_image_mean")),
    *Path(caffe.__file__).parent.glob("*.so*"),
]


builds = pytest.mark.skipif(not shutil.which("c++"), reason="Caffe cannot be built here: no compiler, as in our images")
ours = pytest.mark.skipif("--cuda" in KIND, reason="this .venv has the Caffe with GPU code, not our Caffe for the CPU")


def run(*command, **options) -> subprocess.CompletedProcess:
    """Runs `command` and returns it with its output, stdout and stderr together."""
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)


def in_setup(command: str, **environment) -> subprocess.CompletedProcess:
    """Runs `command` in a shell that has read setup.sh."""
    return run("bash", "-c", f"source {INSTALL}/setup.sh; {command}", env=os.environ | environment)


def key(which: str = "ours", kind: str = "--cpu", **environment) -> str:
    """The key under which setup keeps one Caffe of this environment."""
    found = in_setup(f"python=$(find_python); find_kind {kind}; choose {which}; caffe_key", **environment)
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
    code = "import caffe, data_prep.core.records, scripts; print(caffe.__version__)"
    assert run(sys.executable, "-c", code, cwd=tmp_path).stdout == "1.0.0\n"


@pytest.mark.skipif(not shutil.which("readelf"), reason="readelf is not here: it comes with the compiler")
@pytest.mark.parametrize("binary", BINARIES, ids=lambda binary: binary.name)
def test_no_binary_points_at_the_build_folder(binary):
    dynamic = run("readelf", "--dynamic", binary).stdout
    run_paths = [line for line in dynamic.splitlines() if "RPATH" in line or "RUNPATH" in line]
    assert len(run_paths) == 1
    own, *others = run_paths[0].split("[")[1].rstrip("]").split(":")
    assert own.startswith("$ORIGIN")
    if "--cuda" in KIND:
        assert others and all(re.fullmatch(r"\$ORIGIN/\.\./.*nvidia/\w+/lib", folder) for folder in others)
    else:
        assert others == [OPENBLAS]
    assert b"breast-mass-caffe/build" not in binary.read_bytes()


@ours
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


@ours
@pytest.mark.parametrize(
    "command", [(BIN / "caffe", "--version"), (sys.executable, "-c", "import caffe")], ids=["tool", "Python"]
)
@pytest.mark.parametrize("said", [{}, {"OMP_WAIT_POLICY": "active"}], ids=["as it comes", "active"])
def test_waiting_threads_soon_sleep_unless_the_environment_says_otherwise(command, said):
    unsaid = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    printed = run(*command, env=unsaid | said | {"OMP_DISPLAY_ENV": "verbose"}).stdout
    spins = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", printed)[-1]
    assert (spins == "1000") == (not said)


def test_child_processes_choose_for_themselves_how_threads_wait():
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    code = "import caffe, subprocess; subprocess.run(['env'])"
    assert "GOMP_SPINCOUNT" not in run(sys.executable, "-c", code, env=environment).stdout


@pytest.mark.parametrize("binary", BINARIES, ids=lambda binary: binary.name)
def test_every_binary_finds_openblas_of_openmp_threads(binary):
    assert f"libopenblas.so.0 => {OPENBLAS}/libopenblas.so.0 " in run("ldd", binary).stdout


@ours
def test_caffe_has_its_own_openblas_beside_those_of_other_packages():
    code = f"""
import ctypes, cv2, numpy, scipy.linalg
numpy.ones((99, 99)) @ numpy.ones((99, 99))
import caffe
library = ctypes.CDLL(caffe._caffe.__file__)
print(library.openblas_get_parallel(), any("{OPENBLAS}/libopenblas" in line for line in open("/proc/self/maps")))
"""
    assert run(sys.executable, "-c", code).stdout == "2 True\n"  # 2: OpenMP


@ours
def test_the_way_back_through_max_pooling_of_nan_stays_in_its_channel(tmp_path):
    (tmp_path / "net.prototxt").write_text(
        "force_backward: true "
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 2, 2, 2] } } }'
        'layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }'
    )
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN)
    net.blobs["data"].data[0] = [[[4, 1], [1, 1]], np.full((2, 2), np.nan)]
    net.forward()
    net.blobs["pool"].diff[...] = 1
    net.backward()
    assert net.blobs["data"].diff[0].tolist() == [[[1, 0], [0, 0]], [[0, 0], [0, 0]]]


def test_patches_are_numbered_and_each_opens_with_its_reason():
    for folder, first in (("build", 1), ("speed", 101), ("cuda", 201)):
        patches = PATCHES[folder]
        assert [patch.name[:5] for patch in patches] == [f"{first + n:04d}-" for n in range(len(patches))]
        for patch in patches:
            reason, hunks = re.split("^--- ", patch.read_text(), maxsplit=1, flags=re.MULTILINE)
            assert 40 < len(reason) < 600 and "@@" in hunks, patch.name


@builds
@pytest.mark.parametrize(("which", "folders"), [("ours", ("build", "speed")), ("cuda", ("build", "cuda"))])
def test_patches_apply_in_order_to_the_pinned_source(which, folders, tmp_path):
    fetched = in_setup(f"build={tmp_path}; pip=('{sys.executable}' -m pip); get_source")
    if fetched.returncode:
        pytest.skip(f"the pinned source cannot be fetched here: {fetched.stdout.splitlines()[-1]}")
    applied = in_setup(f"build={tmp_path}; find_kind --cuda --cudnn --nccl; choose {which}; patch_source")
    assert applied.returncode == 0, applied.stdout
    assert applied.stdout.count("Applying") == sum(len(PATCHES[folder]) for folder in folders)
    assert "offset" not in applied.stdout and "fuzz" not in applied.stdout


def test_stock_caffe_is_upstreams_with_what_it_takes_to_build_it():
    chosen = in_setup('choose stock; echo "${patches[@]##*/}" "${cmake_options[@]}" "${compile_flags[@]}" "$run_path"')
    assert chosen.returncode == 0, chosen.stdout
    assert [word for word in chosen.stdout.split() if word.endswith(".patch")] == [p.name for p in PATCHES["build"]]
    assert not re.search("ONEDNN|openmp|native", chosen.stdout)


def chosen_for_gpu(*options: str, **environment) -> tuple[str, str]:
    """What a Caffe with GPU code is made of: patches and options of CMake, and its run path."""
    command = f'find_kind {" ".join(options)}; choose cuda; echo "${{patches[@]##*/}}" "${{cmake_options[@]}}"'
    made_of, run_path = in_setup(command + '; echo "$run_path"', **environment).stdout.splitlines()
    return made_of, run_path


def test_caffe_with_gpu_code_is_stock_caffe_with_cuda_and_what_else_is_asked_for():
    made_of, run_path = chosen_for_gpu("--cuda", CUDA_ARCH_BIN="80 90")
    names = [word for word in made_of.split() if word.endswith(".patch")]
    assert names == [patch.name for folder in ("build", "cuda") for patch in PATCHES[folder]]
    assert not re.search("ONEDNN|openmp|CPU_ONLY=ON|USE_NCCL=ON|/cudnn", made_of)
    assert "-DCUDA_ARCH_BIN=80 90 -DCUDA_ARCH_PTX=90" in made_of and "-DUSE_CUDNN=OFF" in made_of
    assert run_path == ":@/nvidia/cu13/lib"
    made_of, run_path = chosen_for_gpu("--cuda", "--nccl", "--cudnn")
    assert "-DUSE_NCCL=ON" in made_of and "/cudnn/lib/libcudnn.so" in made_of
    assert run_path == ":@/nvidia/cu13/lib:@/nvidia/cudnn/lib:@/nvidia/nccl/lib"


@builds
def test_the_key_of_a_caffe_with_gpu_code_follows_its_parts_and_gpus():
    kinds = [("--cuda", "80"), ("--cuda", "80 90"), ("--cuda --cudnn", "80"), ("--cuda --nccl", "80")]
    keys = [key("cuda", kind, CUDA_ARCH_BIN=archs, CAFFE_SRC="") for kind, archs in kinds]
    assert len({*keys, key("stock", CAFFE_SRC="")}) == 5


def test_setup_without_options_keeps_the_kind_of_caffe(tmp_path):
    def kind(options: str = "", **environment) -> str:
        found = in_setup(f'root={tmp_path}; find_kind {options}; echo "${{kind[*]}}, $archs"', **environment)
        return found.stdout.strip()

    (tmp_path / ".venv").mkdir()
    unset = {"CUDA_ARCH_BIN": ""}
    assert kind(**unset) == "--cpu,"
    (tmp_path / ".venv" / "caffe-kind").write_text("--cuda --cudnn\n80 90\n")
    assert kind(**unset) == "--cuda --cudnn, 80 90"
    assert kind(CUDA_ARCH_BIN="86") == "--cuda --cudnn, 86"
    assert kind("--cpu", **unset) == "--cpu,"


@pytest.mark.parametrize(
    ("options", "archs", "message"),
    [
        ("--cudnn", "80", "--cudnn and --nccl want --cuda"),
        ("--cpu --cuda", "80", "choose one"),
        ("--cuda", "61 80", "compute capability 61: CUDA 13 compiles for 75 (Turing) and later"),
        ("--cuda", "8.0", "compute capability 8.0: "),
    ],
)
def test_a_kind_of_caffe_that_cannot_be_is_refused(options, archs, message):
    refused = in_setup(f"find_kind {options}", CUDA_ARCH_BIN=archs)
    assert refused.returncode == 1
    assert refused.stdout.startswith("error: ") and message in refused.stdout and refused.stdout.count("\n") == 1


def test_caffe_reads_a_database_in_a_folder_that_it_may_not_write(tmp_path):
    datum = caffe.proto.caffe_pb2.Datum(channels=1, height=2, width=2, data=bytes(4))
    with (
        lmdb.open(str(tmp_path / "lmdb"), map_size=1 << 24, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(b"0", datum.SerializeToString())
    (tmp_path / "lmdb").chmod(0o555)
    command = [BIN / "compute_image_mean", tmp_path / "lmdb", tmp_path / "mean.binaryproto"]
    if os.geteuid() == 0:  # root may write anywhere, unless it gives that right up
        command = ["setpriv", "--bounding-set=-dac_override", *command]
    read = run(*command)
    assert read.returncode == 0, read.stdout
    assert not (tmp_path / "lmdb" / "lock.mdb").exists()


def test_stock_caffe_is_imported_from_its_own_folder():
    stock = Path(sys.prefix) / "stock"
    if not stock.is_dir():
        pytest.skip("stock Caffe is not built: scripts/install/setup.sh --stock")
    code = "import caffe, ctypes; print(caffe.__file__, ctypes.CDLL(caffe._caffe.__file__).openblas_get_parallel())"
    imported = run(sys.executable, "-c", code, env=os.environ | {"PYTHONPATH": str(stock)})
    assert imported.stdout == f"{stock}/caffe/__init__.py 1\n"  # 1: threads of OpenBLAS's own
    assert {path.name for path in stock.iterdir()} == {"caffe", "caffe-1.0.0.dist-info"}


@builds
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


def test_a_python_that_boost_does_not_serve_is_refused(tmp_path):
    python = tmp_path / "python"
    fake = "import sys; sys.version_info = (3, 99, 1)"
    python.write_text(f'#!/bin/sh\ncode=$2; shift 2\nexec {sys.executable} -c "{fake}; $code" "$@"\n')
    python.chmod(0o755)
    refused = in_setup("find_python", PYTHON=str(python))
    assert refused.returncode == 1 and refused.stdout.count("\n") == 1
    assert re.match(rf"error: Boost.Python is for Python .* here, and {python} is another; ", refused.stdout)


@builds
def test_the_python_is_the_one_that_boost_serves():
    version = ".".join(map(str, sys.version_info[:2]))
    found = in_setup('python=$(find_python); "$python" --version; site_packages')
    assert found.stdout.startswith(f"Python {version}.")
    assert found.stdout.endswith(f"lib/python{version}/site-packages\n")


def on_system(name: str, version: str, tmp_path: Path, command: str = "need_known_system", **environment):
    """Runs `command` where os-release is that of another system, on which no setup has succeeded yet."""
    release = f'PRETTY_NAME="Name 1"\nVERSION_ID="{version}"\nID={name}\nID_LIKE="debian"\n'
    (tmp_path / "os-release").write_text(release if version else release.replace('VERSION_ID=""\n', ""))
    elsewhere = f"os_release={tmp_path}/os-release; stamp={tmp_path}/stamp; "
    return in_setup(elsewhere + command, **environment)


def test_a_system_that_is_not_known_is_refused_until_a_setup_has_succeeded(tmp_path):
    for name, version, shown in (
        ("fedora", "44", "fedora 44"),
        ("debian", "", "debian"),
        ("debian", "11", "debian 11"),
    ):
        refused = on_system(name, version, tmp_path)
        assert refused.returncode == 1 and refused.stdout.count("\n") == 1
        assert refused.stdout.startswith(f"error: {shown} is not among debian 12, ")
        assert refused.stdout.endswith("scripts/install/setup.sh --unknown-system tries it\n")
        assert on_system(name, version, tmp_path, "touch $stamp; need_known_system; rm $stamp").returncode == 0


def test_readme_names_the_python_of_each_known_system(tmp_path):
    known = in_setup(r'printf "%s\n" "${known_systems[@]}"').stdout.splitlines()
    rows = re.findall(r"^\| (Debian|Ubuntu) ([\d.]+) \| (3\.\d+) \|", (INSTALL / "README.md").read_text(), re.MULTILINE)
    assert [f"{name.lower()} {version}" for name, version, _ in rows] == known != []
    for name, version, _ in rows:
        assert on_system(name.lower(), version, tmp_path).returncode == 0
    (bounds,) = re.findall(
        r'^requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert sorted(python for *_, python in rows) == [f"3.{minor}" for minor in range(*map(int, bounds))]


def test_no_other_file_names_the_minor_version_of_a_python():
    """Besides the table in README.md: the bounds in pyproject.toml, and pins that are for one Python alone."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    paths = run("git", "ls-files", cwd=ROOT).stdout.split()
    named = re.compile(r"(python|cp|py)[ -]?3\.?\d{1,2}\b", re.IGNORECASE)
    texts = {path: (ROOT / path).read_bytes().decode("utf-8", "replace") for path in paths if path[:8] != "results/"}
    assert not [path for path, text in texts.items() if named.search(text)]


def test_every_python_gets_exactly_one_version_of_each_package():
    pythons = re.findall(r"^\| \w+ [\d.]+ \| (3\.\d+) \|", (INSTALL / "README.md").read_text(), re.MULTILINE)
    for path in ROOT.glob("requirements*.txt"):
        lines = [line.split("  #")[0] for line in path.read_text().splitlines() if line and line[0] != "#"]
        pins = [Requirement(line) for line in lines]
        always = {pin.name for pin in pins if not pin.marker}
        for python in pythons:
            chosen = [pin.name for pin in pins if not pin.marker or pin.marker.evaluate({"python_version": python})]
            assert len(chosen) == len(set(chosen)) and always <= set(chosen), (path.name, python)


@builds
def test_the_key_follows_the_system(tmp_path):
    command = "python=$(find_python); find_kind --cpu; choose stock; caffe_key"
    systems = (("debian", "12"), ("debian", "13"), ("debian", "12"))
    one, other, again = (on_system(*system, tmp_path, command).stdout for system in systems)
    assert one == again != other


def test_a_folder_without_caffe_is_refused(tmp_path):
    refused = run(INSTALL / "setup.sh", env=os.environ | {"CAFFE_SRC": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)})
    assert refused.returncode == 1
    assert refused.stdout == f"error: CAFFE_SRC={tmp_path} is no checkout of Caffe\n"


def test_an_option_that_there_is_not_is_refused(tmp_path):
    refused = run(INSTALL / "setup.sh", "--stok", env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)})
    assert (refused.returncode, refused.stdout) == (
        1,
        "error: --stok: no such option; see the first lines of setup.sh\n",
    )


def test_a_failing_step_ends_with_its_cause_and_its_log(tmp_path):
    failed = in_setup(f"log={tmp_path}/log; trap tell_of_failure EXIT; step 'Looking' ls {tmp_path}/absent; echo on")
    assert failed.returncode == 2
    assert "No such file" in failed.stdout and "\non" not in failed.stdout
    assert failed.stdout.endswith(f'error: "Looking" failed; the whole log is {tmp_path}/log\n')


@builds
def test_a_second_setup_does_nothing():
    again = in_setup("make_venv() { echo 'it would start anew'; exit 1; }; main")
    assert again.stdout == "Setup is up to date\n"


def test_the_lock_has_every_pinned_version_and_hashes_for_all():
    text = (INSTALL / "requirements.lock").read_text().replace("\\\n", " ")
    locked = [line.split(" --hash=")[0] for line in text.splitlines() if line and line[0] != "#"]
    assert all("--hash=sha256:" in line for line in text.splitlines() if line and line[0] != "#")
    versions = {(pin.name.lower().replace("_", "-"), str(pin.specifier)) for pin in map(Requirement, locked)}
    for name in ("requirements.txt", "requirements-fetch.txt", "requirements-dev.txt"):
        lines = [line.split("  #")[0] for line in (ROOT / name).read_text().splitlines() if line and line[0] != "#"]
        pins = {(pin.name.lower().replace("_", "-"), str(pin.specifier)) for pin in map(Requirement, lines)}
        assert pins <= versions, f"{name} has changed: make lock ({pins - versions})"
