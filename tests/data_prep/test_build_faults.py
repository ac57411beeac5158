"""Builds that are killed, starved or robbed of their files: one clear line, and nothing accepted that is not whole."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from data_prep.core.errors import InputError
from data_prep.database import manifest
from data_prep.formats import ljpeg
from data_prep.sources import ddsm
from tests.helpers import databases, random_nets

ROOT = Path(__file__).resolve().parents[2]
KILLS = 50
AS_ANYONE = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
"""Takes from root the right to read and write whatever it likes, so that a file's permissions count."""


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    """The CSV of 30 patients' films."""
    patients = {f"P{index:02}": databases.texture(index) for index in range(30)}
    return databases.write_films(tmp_path_factory.mktemp("faults") / "set", patients)


@pytest.fixture(scope="module")
def whole(films, tmp_path_factory) -> tuple[Path, float]:
    """The database of these films, and the seconds that it took."""
    start = time.monotonic()
    return databases.build(films, tmp_path_factory.mktemp("whole") / "lmdb"), time.monotonic() - start


def start(csv_path: Path, out: Path, *options: str | Path, **settings) -> subprocess.Popen:
    return databases.start(csv_path, out, "--workers", "2", *options, **settings)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """Wait for a build; return its exit status and what it said on stderr."""
    _, stderr = process.communicate(timeout=120)
    return process.returncode, stderr


def wait_for(path: Path, process: subprocess.Popen) -> None:
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.002)


def workers_of(process: subprocess.Popen) -> list[psutil.Process]:
    """The worker processes of a build: the children of its fork server."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        return [
            child for child in children if child.ppid() != process.pid and "forkserver" in " ".join(child.cmdline())
        ]
    except psutil.NoSuchProcess:
        return []


def group_lives(process: subprocess.Popen) -> bool:
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def digest_of(folder: Path) -> str:
    return manifest.read_json(folder)["digest"]


def check_one_line(status: int, stderr: str, message: str, out: Path) -> None:
    """The build said one line, and left nothing."""
    assert (status, stderr.count("\n")) == (2, 1), stderr
    assert message in stderr
    assert not out.exists() and not out.with_name(f"{out.name}.unfinished").exists()


# killed

KINDS = {"the group": 0.5, "the main process": 0.25, "a worker": 0.25}


def kill(process: subprocess.Popen, kind: str) -> None:
    """SIGKILL the whole build, its main process, or one worker (none where none is there yet, or any more)."""
    if kind == "the group":
        os.killpg(process.pid, signal.SIGKILL)
    elif kind == "the main process":
        process.kill()
    else:
        for worker in workers_of(process)[:1]:
            worker.kill()


@pytest.mark.slow
def test_a_build_killed_at_fifty_random_moments_is_never_accepted_and_the_next_is_whole(films, whole, tmp_path):
    reference, seconds = whole
    rng = random.Random(1)
    snapshot = random_nets.snapshot(tmp_path / "runs" / "baseline_iter_1.caffemodel")
    out = tmp_path / "lmdb"
    unfinished = tmp_path / "lmdb.unfinished"
    states = set()
    for number in range(KILLS):
        process = start(films, out)
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        if kind == "a worker":  # while there is work for it: before and after, its death is nobody's loss
            wait_for(unfinished / "train", process)
            time.sleep(rng.uniform(0, 0.1) * seconds)
        else:
            time.sleep(rng.uniform(0.2, 1) * seconds)
        kill(process, kind)
        status, stderr = finish(process)
        assert status in (-signal.SIGKILL, 0, 2)
        assert status != 2 or "a worker process died" in stderr
        assert "Traceback" not in stderr
        states.add((kind, status, unfinished.exists()))
        for folder in (out, unfinished):
            with suppress(InputError):
                assert digest_of(folder) == digest_of(reference)  # killed after its last file was written
        if number % 16 == 0 and not out.exists():
            check_refused(out, snapshot)
            if unfinished.exists() and not (unfinished / manifest.JSON).exists():
                check_refused(unfinished, snapshot)
        if number % 10 == 9:
            shutil.rmtree(out, ignore_errors=True)
            assert digest_of(databases.build(films, out)) == digest_of(reference)
        shutil.rmtree(out, ignore_errors=True)
    assert not unfinished.exists()
    assert {("the group", -signal.SIGKILL, True), ("the main process", -signal.SIGKILL, True)} <= states
    assert ("a worker", 2, False) in states


def check_refused(folder: Path, snapshot: Path) -> None:
    """Train, eval and audit refuse a folder that is no finished database."""
    train = databases.run("scripts/train.py", "--net", "baseline", "--data", folder, "--out", snapshot.parent / "none")
    evaluation = databases.run("scripts/eval.py", "--weights", snapshot, "--data", folder)
    for result in (train, evaluation):
        assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
        assert "no finished database" in result.stderr
    audit = databases.run("data_prep/audit.py", folder)
    assert audit.returncode != 0
    assert "no finished database" in audit.stdout or "no such folder" in audit.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_process_outlives_a_killed_build(films, tmp_path, kind):
    process = start(films, tmp_path / "lmdb")
    wait_for(tmp_path / "lmdb.unfinished" / "train" / "data.mdb", process)
    kill(process, kind)
    status, stderr = finish(process)
    if kind == "a worker":
        check_one_line(status, stderr, "a worker process died", tmp_path / "lmdb")
    deadline = time.monotonic() + 20
    while group_lives(process):
        assert time.monotonic() < deadline
        time.sleep(0.05)


# starved


def on_small_disk(folder: Path, kilobytes: int) -> list[str]:
    """The beginning of a command that runs what follows with a small disk of its own at `folder`."""
    mount = f"mount -t tmpfs -o size={kilobytes}k tmpfs '{folder}'"
    prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a disk of its own needs the right to mount one (user namespaces)")
    return prefix


def test_a_disk_too_small_is_refused_before_the_build(films, tmp_path):
    out = tmp_path / "disk" / "lmdb"
    out.parent.mkdir()
    check_one_line(*finish(start(films, out, prefix=on_small_disk(out.parent, 8000))), "GB free", out)


def test_a_disk_that_others_fill_meanwhile_is_one_clear_line(films, tmp_path):
    out, filler = tmp_path / "disk" / "lmdb", "while [ ! -e lmdb.unfinished/train ]; do :; done; cat /dev/zero > filler"
    out.parent.mkdir()
    others = ["sh", "-c", f'(cd "{out.parent}"; {filler}) 2>/dev/null & "$@"', "sh"]
    process = start(films, out, prefix=[*on_small_disk(out.parent, 60_000), *others])
    # LMDB calls a write that was cut short an input/output error, so the system's own words are not always there
    check_one_line(*finish(process), "free some space", out)


def test_an_lmdb_begun_on_a_full_disk_is_one_clear_line(tmp_path):
    call = (
        "from pathlib import Path; from data_prep.database import lmdb_io; "
        f"lmdb_io.write(Path('{tmp_path}/lmdb'), [], 8, 9)"
    )
    full = [*on_small_disk(tmp_path, 100), "sh", "-c", f'cat /dev/zero > {tmp_path}/filler 2>/dev/null; "$@"', "sh"]
    result = subprocess.run([*full, sys.executable, "-c", call], capture_output=True, text=True, check=False)
    assert result.stderr.splitlines()[-1].startswith("data_prep.core.errors.InputError: ")
    assert "free some space" in result.stderr


@pytest.mark.parametrize("most", [5_000, 1_000_000, 7_000_000])
def test_a_write_that_fails_is_one_clear_line(films, tmp_path, most):
    """Files may grow to `most` bytes: too few for an empty LMDB, for the first commit, for the training set."""
    out = tmp_path / "lmdb"
    check_one_line(*finish(start(films, out, prefix=["prlimit", f"--fsize={most}"])), "free some space", out)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_cannot_be_printed_is_one_clear_line(unbuffered, films, tmp_path):
    process = start(films, tmp_path / "lmdb", "--no-aug", env=os.environ | {"PYTHONUNBUFFERED": unbuffered})
    process.stdout.close()
    status, stderr = finish(process)
    assert (status, stderr) == (2, "error: [Errno 32] Broken pipe\n")
    assert manifest.read_json(tmp_path / "lmdb")  # whole: the last files come before the last words


def test_a_codec_that_is_killed_does_not_blame_the_film(tmp_path):
    film = tmp_path / "f.LJPEG"
    ljpeg.encode(np.random.default_rng(0).integers(0, 4096, (3000, 4000)), film, precision=12)

    def kill_codec() -> None:
        while not (codecs := [child for child in psutil.Process().children() if child.name() == "jpeg_static"]):
            time.sleep(0.001)
        codecs[0].kill()

    with ThreadPoolExecutor(1) as pool, pytest.raises(MemoryError):
        pool.submit(kill_codec)
        ljpeg.decode(film)


def test_a_codec_without_room_for_a_film_does_not_blame_the_film(tmp_path):
    film = tmp_path / "f.LJPEG"
    ljpeg.encode(np.full((400, 500), 7, np.uint16), film, precision=12)
    disk = tmp_path / "disk"
    disk.mkdir()
    code = "import sys; from pathlib import Path; from data_prep.formats import ljpeg; ljpeg.decode(Path(sys.argv[1]))"
    command = [*on_small_disk(disk, 100), sys.executable, "-c", code, str(film)]
    environment = os.environ | {"TMPDIR": str(disk)}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.stderr.splitlines()[-1].startswith("OSError: [Errno 28] No space left on device")


@pytest.mark.slow
def test_workers_without_memory_for_a_film_are_one_clear_line(tmp_path):
    patients = {f"P{index:02}": databases.texture(index) for index in range(8)}
    csv_path = databases.write_films(tmp_path / "set", patients | {"P99": np.zeros((9000, 9000), np.uint8)})
    split = tmp_path / "split.csv"
    split.write_text(
        "patient,split\nP99,test\nP00,val\nP01,val\n" + "".join(f"{p},train\n" for p in sorted(patients)[2:])
    )
    process = start(csv_path, tmp_path / "lmdb", "--split", split)
    wait_for(tmp_path / "lmdb.unfinished" / "val", process)
    os.killpg(process.pid, signal.SIGSTOP)
    for worker in workers_of(process):
        most = worker.memory_info().vms + (30 << 20)
        resource.prlimit(worker.pid, resource.RLIMIT_AS, (most, most))
    os.killpg(process.pid, signal.SIGCONT)
    check_one_line(*finish(process), "too little memory", tmp_path / "lmdb")


# robbed


@pytest.mark.parametrize(
    "place", ["/proc/none/lmdb", "/sys/lmdb", "/dev/null/lmdb"], ids=lambda place: place.split("/")[1]
)
def test_an_output_that_cannot_be_written_is_one_clear_line(films, place):
    check_one_line(*finish(start(films, Path(place))), "cannot be written", Path(place))


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_read_only_or_closed_output_folder_is_one_clear_line(films, tmp_path, mode):
    out = tmp_path / "closed" / "lmdb"
    out.parent.mkdir(mode=mode)
    status, stderr = finish(start(films, out, prefix=as_anyone()))
    out.parent.chmod(0o755)
    check_one_line(status, stderr, "Permission denied", out)


def as_anyone() -> list[str]:
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root reads and writes everything, and setpriv is not there to take that away")
    return AS_ANYONE if os.geteuid() == 0 else []


@pytest.mark.slow
def test_a_film_that_vanishes_midway_is_left_out_and_named(films, whole, tmp_path):
    csv_path = shutil.copytree(films.parent, tmp_path / "set") / films.name
    split = (whole[0] / "split.csv").read_text().split()
    gone = next(line for line in split if line.endswith(",test")).removesuffix(",test")
    process = start(csv_path, tmp_path / "lmdb")
    wait_for(tmp_path / "lmdb.unfinished" / "train", process)  # so the films were found, and the test set comes last
    (tmp_path / "set" / f"{gone}.png").unlink()
    status, stderr = finish(process)
    assert status == 0
    assert stderr.startswith("left out: ") and f"{gone}.png" in stderr and stderr.count("\n") == 1
    row = manifest.read_csv(tmp_path / "lmdb")[f"{gone}.{gone}.1"]
    assert row["reason"].startswith("unreadable film") and not row["split"]
    without = databases.build(csv_path, tmp_path / "without")
    assert digest_of(tmp_path / "lmdb") == digest_of(without)


def test_a_csv_that_may_not_be_read_is_one_clear_line(films, tmp_path):
    csv_path = shutil.copytree(films.parent, tmp_path / "set") / films.name
    csv_path.chmod(0)
    process = start(csv_path, tmp_path / "lmdb", prefix=as_anyone())
    check_one_line(*finish(process), "Permission denied", tmp_path / "lmdb")


@pytest.mark.parametrize("script", ["data_prep/audit.py", "scripts/train.py --net baseline --out runs/none --data"])
def test_a_database_that_may_not_be_read_is_one_clear_line(tmp_path, script):
    (tmp_path / "closed").mkdir(mode=0)
    command = [*as_anyone(), sys.executable, *script.split(), str(tmp_path / "closed" / "lmdb")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    (tmp_path / "closed").chmod(0o755)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert "Permission denied" in result.stderr


def test_a_split_that_may_not_be_read_is_one_clear_line(films, whole, tmp_path):
    split = Path(shutil.copy(whole[0] / "split.csv", tmp_path))
    split.chmod(0)
    process = start(films, tmp_path / "lmdb", "--split", split, prefix=as_anyone())
    check_one_line(*finish(process), "Permission denied", tmp_path / "lmdb")


@pytest.mark.slow
def test_a_film_that_may_not_be_read_is_listed(films, tmp_path):
    csv_path = shutil.copytree(films.parent, tmp_path / "set") / films.name
    (tmp_path / "set" / "P03.png").chmod(0)
    status, stderr = finish(start(csv_path, tmp_path / "lmdb", "--no-aug", prefix=as_anyone()))
    assert (status, stderr) == (0, "")
    assert "Permission denied" in manifest.read_csv(tmp_path / "lmdb")["P03.P03.1"]["reason"]


# DDSM's case folders, as the reader finds them


def read_as_anyone(root: Path) -> str:
    """What the reader prints of the case folders below `root` without root's rights: reasons, or its error."""
    code = (
        "import sys; from pathlib import Path; from data_prep.sources import ddsm; from data_prep.core import errors\n"
        "sys.exit(errors.run(lambda: print([each.reason for each in ddsm.masses(Path(sys.argv[1]))])))"
    )
    command = [*as_anyone(), sys.executable, "-c", code, str(root)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("closed", "told"),
    [
        ("case1/A-0001-1.ics", "unreadable case: "),
        ("case1/A_0001_1.LEFT_CC.OVERLAY", "unreadable outlines: "),
        ("case1/A_0001_1.LEFT_CC.LJPEG", "unreadable film: "),
        ("case1", "what it holds would be missing"),
    ],
)
def test_a_case_folder_or_file_that_may_not_be_read_is_never_passed_over(tmp_path, closed, told):
    square = f"5 5 {'2 ' * 20}{'4 ' * 30}{'6 ' * 20}{'0 ' * 30}#"
    (tmp_path / "case1").mkdir()
    stem = tmp_path / "case1" / "A_0001_1.LEFT_CC"
    Path(f"{stem}.OVERLAY").write_text(f"ABNORMALITY 1\nLESION_TYPE MASS\nPATHOLOGY BENIGN\nBOUNDARY\n{square}\n")
    ljpeg.encode(np.full((60, 50), 7, np.uint16), Path(f"{stem}.LJPEG"), precision=12)
    ics = tmp_path / "case1" / "A-0001-1.ics"
    ics.write_text("DIGITIZER HOWTEK 43.5\nLEFT_CC LINES 60 PIXELS_PER_LINE 50 OVERLAY\n")
    assert [mass.reason for mass in ddsm.masses(tmp_path)] == [""]
    (tmp_path / closed).chmod(0)
    result = read_as_anyone(tmp_path)
    (tmp_path / closed).chmod(0o755)
    said = result.stdout if closed != "case1" else result.stderr
    assert told in said and "Permission denied" in said and said.count("\n") == 1, result
