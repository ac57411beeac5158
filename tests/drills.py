"""Drills: commands killed at random moments, and readers given damage for as long as one likes; not part of the suite.

    python -m tests.drills --minutes 20        # make drills; writes results/reliability.md

Half of the time goes into kills, in turn of building, training and evaluation on small sets, each as a user types it: a
SIGKILL of the whole process group at a random moment, then the same command again until it ends. It must end as it
would have without the kill: the same bytes, no traceback, no process left, no temporary file left. The other half goes
into fuzzing of each reader by hypothesis, under a limit on memory: a reader returns, or raises InputError.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from data_prep.core import memory_limit, provenance, tables
from data_prep.core.errors import InputError
from data_prep.database import lmdb_io, manifest
from data_prep.formats import dicom, image_files, ljpeg
from data_prep.sources import csv_boxes, ddsm
from scripts.evaluation import predictions, run_files
from scripts.experiments import matrix
from scripts.nets import caffemodel
from tests.data_prep import test_arbitrary_bytes as seeds
from tests.helpers import databases, random_nets
from tests.scripts.test_processes import of_session

ROOT = databases.ROOT
REPORT = ROOT / "results" / "reliability.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20, help="in all (default: 20)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kills = kill(Path(folder), args.minutes * 30, random.Random(args.seed))
        fuzzed = fuzz(Path(folder), args.minutes * 30)
    write(args.minutes, kills, fuzzed)
    sys.exit(any(count for (_, what), count in kills.items() if what not in ("kills", "ended whole")))


# ---- kills


def commands(folder: Path) -> dict[str, tuple[list[str], Path, Callable[[Path], object]]]:
    """Return each drill's command, what it makes, and what of that must be the same whatever happens on the way."""
    csv_path = databases.write_films(folder / "films", {f"P{i:02}": databases.texture(i) for i in range(14)})
    databases.write_counts(folder / "data" / "lmdb", train=10, val=6)
    random_nets.snapshot(folder / "net.caffemodel")
    build = databases.arguments(csv_path, folder / "built", "--workers", "2")
    train = ["scripts/train.py", "--net", "baseline", "--batch", "2", "--iterations", "6", "--data"]
    train += [str(folder / "data" / "lmdb"), "--out", str(folder / "run")]
    evaluate = ["scripts/eval.py", "--weights", str(folder / "net.caffemodel"), "--data", str(folder / "data" / "lmdb")]
    evaluate += ["--out", str(folder / "evaluated")]
    draw = ["data_prep/preview.py", str(folder / "data" / "lmdb"), "--out", str(folder / "drawn" / "preview.png")]
    return {
        "building": (build, folder / "built", lambda out: manifest.read_json(out)["digest"]),
        "training": (train, folder / "run", lambda out: (out / "snapshot_iter_6.caffemodel").read_bytes()),
        "evaluation": (evaluate, folder / "evaluated", lambda out: (out / "predictions.csv").read_bytes()),
        "drawing": (draw, folder / "drawn", lambda out: (out / "preview.png").read_bytes()),
    }


def kill(folder: Path, seconds: float, rng: random.Random) -> Counter:
    """Drill until the time is over; return how often each thing happened to each command."""
    found: Counter = Counter()
    wanted, took = {}, {}
    drills = commands(folder)
    for name, (command, out, essence) in drills.items():
        began = time.monotonic()
        status, err = again(name, command, out)
        assert status == 0, err
        wanted[name], took[name] = essence(out), time.monotonic() - began
        shutil.rmtree(out)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, (command, out, essence) in drills.items():
            process = start(command)
            time.sleep(rng.uniform(0.1, 1) * took[name])
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            found[name, "kills"] += 1
            time.sleep(1)
            found[name, "orphans"] += len(of_session(process.pid))
            status, err = again(name, command, out)
            found[name, "tracebacks"] += "Traceback" in err
            same = status == 0 and essence(out) == wanted[name]
            found[name, "ended whole" if same else "losses"] += 1
            shutil.rmtree(out, ignore_errors=True)
    return found


def start(command: list[str]) -> subprocess.Popen:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *command], cwd=ROOT, start_new_session=True, stdout=pipe, stderr=pipe)


def again(name: str, command: list[str], out: Path) -> tuple[int, str]:
    """Type a command once more, as its own last words advise; return its exit status and what it said on stderr."""
    if name == "training" and (out / "run.json").exists():
        command = [*command[:3], "--out", str(out), "--resume"]
    elif name in ("building", "training") and out.exists():
        if name == "building":
            return 0, ""  # killed after its last file
        shutil.rmtree(out)  # begun, and without a run.json: what train.py says is to remove it
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


# ---- fuzzing


def readers(folder: Path) -> dict[str, tuple[Callable[[Path], object], bytes, str]]:
    """Return each reader with a sound file's bytes and its name."""
    data = folder / "data" / "lmdb"
    ljpeg.encode(seeds.GREY, folder / "f.LJPEG", precision=12)
    film = folder / "films" / "P00.png"
    sound = json.dumps({"net": "baseline", "data": "d", "weights": None, "iterations": 3, "batch": 2})
    table = "mass_id,patient,film,side,view,pathology,label,probability,predicted\nm,p,f,LEFT,CC,BENIGN,0,0.5,1\n"
    log = ",".join(run_files.COLUMNS) + "\n1,1,1,1,1,1,1\n"
    dcm = seeds.save(folder / "s.dcm", seeds.GREY, 12).read_bytes()
    boxes = (folder / "films" / "masses.csv").read_bytes()
    return {
        "PNG": (image_files.film, film.read_bytes(), "a.png"),
        "DICOM": (dicom.shown, dcm, "a.dcm"),
        "LJPEG header": (ljpeg.frame_size, (folder / "f.LJPEG").read_bytes(), "a.LJPEG"),
        ".ics": (ddsm.read_ics, seeds.ICS, "A-0001-1.ics"),
        ".OVERLAY": (ddsm.read_overlay, seeds.OVERLAY, "a.OVERLAY"),
        "CSV of boxes": (csv_boxes.masses, boxes, "masses.csv"),
        "manifest.json": (
            lambda path: manifest.read_json(path.parent),
            (data / "manifest.json").read_bytes(),
            "manifest.json",
        ),
        "manifest.csv": (
            lambda path: manifest.read_csv(path.parent),
            (data / "manifest.csv").read_bytes(),
            "manifest.csv",
        ),
        "mean.binaryproto": (lmdb_io.read_mean, (data / "mean.binaryproto").read_bytes(), "mean.binaryproto"),
        "run.json": (lambda path: run_files.read_run(path.parent), sound.encode(), "run.json"),
        "log.csv": (lambda path: run_files.read_log(path.parent), log.encode(), "log.csv"),
        "predictions.csv": (predictions.read_predictions, table.encode(), "predictions.csv"),
        "experiments.toml": (matrix.read_experiments, matrix.EXPERIMENTS.read_bytes(), "experiments.toml"),
        "split.csv": (tables.read_table, b"patient,split\na,train\nb,val\n", "split.csv"),
        "caffemodel": (caffemodel.read_weights, (folder / "net.caffemodel").read_bytes()[:20_000], "a.caffemodel"),
    }


def fuzz(folder: Path, seconds: float) -> dict[str, tuple[int, list[str]]]:
    """Give each reader damage for its share of the time; return how many inputs each had, and what was let out."""
    found = {}
    given_readers = readers(folder)
    for name, (reader, content, file) in given_readers.items():
        (folder / "fuzz").mkdir(exist_ok=True)
        found[name] = fuzz_one(reader, content, folder / "fuzz" / file, seconds / len(given_readers))
    return found


def fuzz_one(reader: Callable, content: bytes, path: Path, seconds: float) -> tuple[int, list[str]]:
    tried, let_out, end = 0, [], time.monotonic() + seconds
    health = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]

    @settings(max_examples=200, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=health)
    @given(st.binary(max_size=400) | seeds.damaged(content))
    def give(damage: bytes) -> None:
        nonlocal tried
        if time.monotonic() > end:
            return
        tried += 1
        path.write_bytes(damage)
        try:
            with memory_limit.limited():
                reader(path)
        except InputError:
            pass
        except Exception as error:
            let_out.append(f"{type(error).__name__}: {error}"[:100])

    while time.monotonic() < end:
        give()
    return tried, let_out


# ---- the report


def write(minutes: float, kills: Counter, fuzzed: dict[str, tuple[int, list[str]]]) -> None:
    names = ("kills", "ended whole", "losses", "tracebacks", "orphans")
    lines = [
        "# Reliability",
        "",
        f"Written by `python -m tests.drills --minutes {minutes:g}` at commit {provenance.commit()}.",
    ]
    lines += ["", "Killed (SIGKILL of the whole group at a random moment), then typed again until the end:", ""]
    lines += [f"| | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
    rows = list(dict.fromkeys(name for name, _ in kills))
    lines += [f"| {row} | {' | '.join(str(kills[row, name]) for name in names)} |" for row in rows]
    lines += ["", "Damaged and arbitrary files, each reader under a limit on its memory:", ""]
    lines += ["| reader | inputs | let out other than InputError |", "| --- | ---: | --- |"]
    lines += [
        f"| {name} | {tried:,} | {'; '.join(sorted(set(out))) or 'nothing'} |" for name, (tried, out) in fuzzed.items()
    ]
    REPORT.write_text("\n".join(lines) + "\n")
    print(REPORT.read_text())


if __name__ == "__main__":
    main()
