"""Drills: commands are killed, and readers fuzzed, for as long as one likes; not part of the suite.

    pip install -r requirements-drills.txt             # Atheris, the fuzzer; it has wheels for some Pythons
    python -m tests.drills                             # make drills: 100 kills or more, each reader for two minutes
    python -m tests.drills --kills 500 --minutes 10    # make drills KILLS=500 MINUTES=10

Writes results/reliability.md as it goes. Kills and fuzzing go on side by side, until both are done, or Ctrl-C.

**Kills.** Each command in turn is begun as a user types it, on a small set. When it has changed its files for the nth
time, n drawn at random from those that it makes undisturbed, its main process gets SIGKILL a little later. Its other
processes must then end by themselves. The command is typed again, as its own last words advise, and must end as it does
undisturbed: the same bytes, no traceback, nothing left among its files nor in its folder for temporary ones. (What it
left is made older for that: for a minute it could belong to a living process.)

**Fuzzing.** Each reader of tests/helpers/readers.py gets files that libFuzzer makes of sound ones, guided by coverage,
under a limit on its memory. It returns what they hold, or raises InputError.
"""

import argparse
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from data_prep.core import provenance
from data_prep.core.errors import InputError
from data_prep.core.files import write_text
from data_prep.database import lmdb_io
from data_prep.formats import ljpeg
from tests.helpers import databases, distillation_sets, idc_server, random_nets, readers
from tests.helpers.cbis_series import FILES, PATIENTS
from tests.helpers.servers import serving
from tests.scripts.test_processes import of_session

ROOT = databases.ROOT
REPORT = ROOT / "results" / "reliability.md"
BAD = ("losses", "tracebacks", "orphans", "hangs", "litter")
LIMIT_S = 600  # for a command to end, on however busy a machine
SAVING = "from scripts.training import loop; loop.SNAPSHOT_SECONDS = 0; "  # more snapshots, more to lose
SCRIPT = "import sys; from scripts import {0}; " + SAVING + "sys.exit({0}.run({0}.main))"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="at least (default: 100)")
    parser.add_argument("--minutes", type=float, default=2, help="for each reader (default: 2)")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--at-once", type=int, default=cores, help=f"commands (default: cores, {cores})")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    report = Report(args)
    stop = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        fuzzing = threading.Thread(target=fuzz, args=(Path(folder, "fuzz"), args.minutes, report, stop))
        fuzzing.start()
        try:
            kill(Path(folder, "kills"), args.kills, args.at_once, random.Random(args.seed), report)
            fuzzing.join()
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
        finally:
            stop.set()
            fuzzing.join()
    print(REPORT.read_text())
    sys.exit(report.failed())


class Report:
    """What was found so far, and results/reliability.md."""

    def __init__(self, args: argparse.Namespace):
        self.head = (
            f"--kills {args.kills} --minutes {args.minutes:g} --seed {args.seed}` at commit {provenance.commit()}"
        )
        self.began = time.monotonic()
        self.found: Counter[tuple[str, str]] = Counter()
        self.fuzzed: dict[str, tuple[int, list[str]]] = {}
        self.notes: list[str] = []
        self.lock = threading.Lock()  # of three threads

    def kills(self) -> int:
        return sum(count for (_, what), count in self.found.items() if what == "kills")

    def add(self, name: str, found: list[str]) -> None:
        """Count what happened to a command, and write the report."""
        with self.lock:
            self.found.update((name, what) for what in found)
            self.write()
        print(f"{self.kills()} kills: {name}: {', '.join(found) or 'ended before the kill'}", flush=True)

    def add_fuzzed(self, name: str, tried: int, out: list[str]) -> None:
        """Note how many inputs a reader had, and what it let out, and write the report."""
        with self.lock:
            self.fuzzed[name] = (tried, out)
            self.write()
        print(f"{tried:,} inputs: {name}: {'; '.join(out) or 'nothing let out'}", flush=True)

    def failed(self) -> bool:
        return any(self.found[key] for key in self.found if key[1] in BAD) or any(
            out for _, out in self.fuzzed.values()
        )

    def write(self) -> None:
        inputs = sum(tried for tried, _ in self.fuzzed.values())
        lines = [
            "# Reliability",
            "",
            f"Written by `python -m tests.drills {self.head}, {(time.monotonic() - self.began) / 60:.0f} minutes after",
            f"it began: {self.kills()} kills, {inputs:,} inputs to {len(self.fuzzed)} readers.",
            "tests/drills.py says what is done, and what each word means.",
        ]
        names = ("kills", "ended whole", *BAD)
        lines += ["", f"| killed | {' | '.join(names)} |"]
        lines += ["| --- |" + " ---: |" * len(names)]
        for row in dict.fromkeys(name for name, _ in self.found):
            lines.append(f"| {row} | {' | '.join(str(self.found[row, name]) for name in names)} |")
        lines += ["", "| reader | inputs | let out beside InputError |", "| --- | ---: | --- |"]
        for name, (tried, out) in self.fuzzed.items():
            lines.append(f"| {name} | {tried:,} | {'; '.join(out).replace('|', '/') or 'nothing'} |")
        lines += ["", *self.notes] if self.notes else []
        write_text(REPORT, "\n".join(lines) + "\n")


# ---- kills


class Drill(NamedTuple):
    """A command, the folder that it may write in, what it makes there, and what to type after a kill."""

    command: list
    folder: Path
    out: Path
    again: Callable[[], list]


class Undisturbed(NamedTuple):
    """What a command does when it is left alone: its files, those that it makes alike each time, and their changes."""

    names: set[str]
    same: dict[str, bytes]
    changes: int


@contextmanager
def drills(folder: Path) -> Iterator[dict[str, Drill]]:
    """Yield the drills by what is killed."""
    films, data, views, few = folder / "films", folder / "lmdb", folder / "views", folder / "few" / "lmdb"
    write_cases(films, 14)
    databases.write_counts(few, train=10, val=6)
    distillation_sets.make(views, train=66, val=4)
    net = random_nets.snapshot(folder / "net" / "net.caffemodel")
    build = ["data_prep/build_lmdb.py", "--source", "ddsm", "--root", films, "--workers", "2", "--out"]
    subprocess.run([sys.executable, *build, data], cwd=ROOT, check=True, capture_output=True)
    outs = {name: folder / name / "out" for name in ("training", "building", "evaluation", "drawing", "fetching")}
    train = ["-c", SCRIPT.format("train"), "--net", "baseline", "--out", outs["training"]]
    begin = [*train, "--batch", "2", "--iterations", "6", "--data", few]
    outs["pretraining"] = folder / "pretraining" / "out" / "start.caffemodel"
    pretrain = ["-c", SCRIPT.format("pretrain"), "--net", "alexnet", "--epochs", "1", "--data", views]
    pretrain += ["--out", outs["pretraining"]]
    server = contextmanager(serving)(idc_server.Server(FILES))

    def resume() -> list:
        if (outs["training"] / "run.json").exists():
            return [*train, "--resume"]
        shutil.rmtree(outs["training"], ignore_errors=True)  # what train.py says of a run that is hardly begun
        return begin

    with server as there:
        there.handle_error = lambda *_: None  # of a client that was killed
        commands = {
            "training": begin,
            "building": [*build, outs["building"]],
            "evaluation": ["scripts/eval.py", "--weights", net, "--data", few, "--out", outs["evaluation"]],
            "drawing": ["data_prep/preview.py", data, "--out", outs["drawing"] / "preview.png"],
            "pretraining": pretrain,
            "fetching": ["data_prep/fetch_cbis.py", "--endpoint", there.url, "--tables", f"{there.url}/tables"],
        }
        commands["fetching"] += ["--out", outs["fetching"]]
        again = {"training": resume} | {
            name: lambda name=name: [] if outs[name].exists() else commands[name]
            for name in ("building", "pretraining")
        }
        yield {
            name: Drill(command, folder / name, outs[name], again.get(name, lambda command=command: command))
            for name, command in commands.items()
        }


def write_cases(folder: Path, patients: int) -> None:
    """Write small case folders of DDSM's kind, a film and a mass each."""
    for number in range(1, patients + 1):
        case = folder / f"A_{number:04}_1"
        case.mkdir(parents=True)
        film = databases.texture(number).astype("uint16") << 4
        ljpeg.encode(film, case / f"{case.name}.LEFT_CC.LJPEG", precision=12)
        size = f"LINES {film.shape[0]} PIXELS_PER_LINE {film.shape[1]} BITS_PER_PIXEL 12 RESOLUTION 43.5 OVERLAY"
        (case / f"A-{number:04}-1.ics").write_text(f"DIGITIZER HOWTEK 43.5\nLEFT_CC {size}\n")
        pathology = b"MALIGNANT" if number % 2 else b"BENIGN"
        (case / f"{case.name}.LEFT_CC.OVERLAY").write_bytes(readers.OVERLAY.replace(b"BENIGN", pathology))


def kill(folder: Path, kills: int, at_once: int, rng: random.Random, report: Report) -> None:
    """Drill until there were so many kills, each command in turn, some at once."""
    index = idc_server.write_index(folder / "index", FILES, PATIENTS)
    environment = os.environ | {"PYTHONPATH": f"{index}:{ROOT}", "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    with drills(folder) as found, ThreadPoolExecutor(at_once) as pool:
        wanted = dict(zip(found, pool.map(lambda drill: undisturbed(drill, environment), found.values()), strict=True))

        def once(name: str) -> None:
            fresh(found[name])
            report.add(name, kill_once(found[name], wanted[name], environment, rng, report.notes))

        while report.kills() < kills:
            list(pool.map(once, found))


def fresh(drill: Drill) -> None:
    """Empty the drill's folder."""
    shutil.rmtree(drill.folder, ignore_errors=True)
    (drill.folder / "tmp").mkdir(parents=True)
    drill.out.parent.mkdir(exist_ok=True)


def start(drill: Drill, command: list, environment: dict) -> subprocess.Popen:
    """Start a command with its own folder for temporary files; what it says goes to a file beside that."""
    with drill.folder.with_suffix(".said").open("w") as said:
        return subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=environment | {"TMPDIR": str(drill.folder / "tmp")},
        )


def undisturbed(drill: Drill, environment: dict) -> Undisturbed:
    """Run a command twice to its end."""
    made = []
    for _ in range(2):
        fresh(drill)
        process = start(drill, drill.command, environment)
        changes = watch(process, drill.folder)
        assert process.wait() == 0, drill.folder.with_suffix(".said").read_text()
        made.append(content(drill.folder))
    same = {name: held for name, held in made[0].items() if made[1].get(name) == held}
    assert same and changes and made[0].keys() == made[1].keys(), (drill, made[0].keys() ^ made[1].keys())
    return Undisturbed(set(made[0]), same, changes)


def content(folder: Path) -> dict[str, bytes]:
    """What each file in a folder holds: an LMDB its records, for its pages lie in the order in which they came."""
    found = {}
    for path in folder.rglob("*"):
        if path.name == "data.mdb":
            with suppress(InputError):  # of a damaged one
                found[str(path.relative_to(folder))] = b"".join(chain.from_iterable(lmdb_io.items(path.parent)))
        elif not path.is_dir():
            found[str(path.relative_to(folder))] = path.read_bytes() if path.is_file() else b""
    return found


def watch(process: subprocess.Popen, folder: Path, most: float = math.inf) -> int:
    """Wait until the command has changed its files `most` times, or ended; return how often it has."""
    changes, before, end = 0, None, time.monotonic() + LIMIT_S
    while process.poll() is None and changes < most and time.monotonic() < end:
        if (now := state(folder)) != before:
            changes += before is not None
            before = now
        time.sleep(0.01)
    return changes


def state(folder: Path) -> list[tuple[str, int]]:
    """The names and sizes of all files in a folder that is being changed."""
    found = []
    for within, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                found.append((f"{within}/{name}", os.lstat(f"{within}/{name}").st_size))
    return found


def kill_once(drill: Drill, wanted: Undisturbed, environment: dict, rng: random.Random, notes: list[str]) -> list[str]:
    """Kill a command once, type it again; return what happened: nothing where it ended before the kill."""
    process = start(drill, drill.command, environment)
    watch(process, drill.folder, rng.randrange(wanted.changes))
    time.sleep(rng.uniform(0, 0.2))
    if process.poll() is not None:
        return []
    process.kill()
    process.wait()
    found = ["kills"]
    end = time.monotonic() + 20
    while (left := of_session(process.pid)) and time.monotonic() < end:
        time.sleep(0.05)
    if left:
        found += ["orphans"] * len(left)
        os.killpg(process.pid, signal.SIGKILL)
    for path in drill.folder.rglob("*"):
        with suppress(OSError):
            os.utime(path, (time.time() - 120,) * 2, follow_symlinks=False)
    if command := drill.again():
        process = start(drill, command, environment)
        try:
            process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            found.append("hangs")
            os.killpg(process.pid, signal.SIGKILL)
    made = content(drill.folder)
    litter = sorted(made.keys() - wanted.names)
    losses = sorted(name for name, held in wanted.same.items() if made.get(name) != held)
    said = drill.folder.with_suffix(".said").read_text().replace(f"{drill.folder}/", "")  # no path of this machine
    found += ["litter"] * bool(litter) + ["losses"] * bool(losses) + ["tracebacks"] * ("Traceback" in said)
    if len(found) > 1:
        notes.append(f"- {drill.folder.name}: {', '.join(found[1:])}: {[*litter, *losses][:3]}; {said[-300:]!r}")
    return found if len(found) > 1 else [*found, "ended whole"]


# ---- fuzzing


def fuzz(folder: Path, minutes: float, report: Report, stop: threading.Event) -> None:
    """Fuzz the readers, three at a time, each in a process of its own."""
    with ThreadPoolExecutor(3) as pool:
        for name in readers.make(folder / "names"):
            pool.submit(fuzz_one, name, folder / "".join(filter(str.isalnum, name)), minutes, report, stop)


def fuzz_one(name: str, folder: Path, minutes: float, report: Report, stop: threading.Event) -> None:
    """Fuzz one reader, and add to the report how many inputs it had, and what it let out."""
    if stop.is_set():
        return
    folder.mkdir()
    command = [sys.executable, "-Wignore", "-m", "tests.fuzz", name, folder]
    command.append(f"-max_total_time={60 * minutes:.0f}")
    with (folder / "said").open("w") as said:
        streams = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": said}
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, **streams)
    while process.poll() is None and not stop.wait(0.5):
        pass
    process.kill()
    process.wait()
    said = (folder / "said").read_text(errors="replace")
    out = re.findall(r"^let out: (.*)", said, re.MULTILINE)
    if not stop.is_set() and process.returncode:
        out.append(f"ended with status {process.returncode}: {said[-200:]!r}")
    tried = max(map(int, re.findall(r"^(?:#|Done )(\d+)\b", said, re.MULTILINE)), default=0)
    report.add_fuzzed(name, tried, out)


if __name__ == "__main__":
    main()
