"""Save, validate, find and remove a run's snapshots.

    snapshot_iter_N.caffemodel     Caffe's snapshot: weights,
    snapshot_iter_N.solverstate    the solver's iteration and moments,
    snapshot_iter_N.json           and what Caffe leaves out: the sums behind the next row of log.csv

A process can be killed at any moment, so a snapshot counts only when all three files are whole.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from data_prep.core import files
from data_prep.core.errors import InputError
from data_prep.core.files import write_json
from scripts.nets import definitions
from scripts.nets.caffemodel import read_weights, stored_layers
from scripts.training.run_folder import SOLVER

ENDINGS = (".caffemodel", ".json", ".solverstate")


@dataclass
class Progress:
    """The part of a snapshot that Caffe leaves out: sums since log.csv's last row, and the seconds spent so far."""

    iterations: int = 0
    loss: float = 0.0
    accuracy: float = 0.0
    seconds: float = 0.0

    def add(self, loss: float, accuracy: float) -> None:
        """Count one more training batch."""
        self.iterations, self.loss, self.accuracy = self.iterations + 1, self.loss + loss, self.accuracy + accuracy

    def start_row(self) -> None:
        """Begin the sums of the next row."""
        self.iterations, self.loss, self.accuracy = 0, 0.0, 0.0


def file_of(folder: Path, iteration: int, ending: str) -> Path:
    """Return one of a snapshot's three files."""
    return folder / f"snapshot_iter_{iteration}{ending}"


def iterations(folder: Path) -> list[int]:
    """Return the iterations of which any snapshot file is there, newest first."""
    found = {path.stem.rpartition("_")[2] for path in folder.glob("snapshot_iter_*") if path.suffix in ENDINGS}
    return sorted((int(number) for number in found if number.isdecimal()), reverse=True)


def read_progress(folder: Path, iteration: int) -> Progress | None:
    """Return what the snapshot at this iteration holds beside Caffe's state; None when any of its files is not whole.

    A solverstate lists moments for each parameter blob (one for SGD, two for Adam); a cut between two of them leaves
    a readable file, so they are counted.
    """
    caffe_pb2 = definitions.import_caffe().proto.caffe_pb2
    weights, extra, solver = (file_of(folder, iteration, ending) for ending in ENDINGS)
    try:
        progress = Progress(**json.loads(extra.read_text()))
        state = caffe_pb2.SolverState.FromString(solver.read_bytes())
        blobs = sum(len(layer.blobs) for layer in stored_layers(read_weights(weights)))
    except (OSError, ValueError, TypeError, DecodeError, InputError):
        return None
    whole = state.iter == iteration and len(state.history) == blobs * moments(folder)
    return progress if whole else None


def moments(folder: Path) -> int:
    """Return how many numbers the run's solver keeps for each parameter."""
    return 2 if definitions.read_prototxt(folder / SOLVER, "SolverParameter").type == "Adam" else 1


def newest_whole(folder: Path) -> tuple[int, Progress]:
    """Return the newest whole snapshot's iteration and progress; iteration 0 where there is none."""
    for iteration in iterations(folder):
        progress = read_progress(folder, iteration)
        if progress:
            return iteration, progress
    return 0, Progress()


def save(solver, folder: Path, progress: Progress) -> None:
    """Let Caffe write a snapshot, check that it is whole, then remove all older ones but the last.

    Raises InputError when it is not whole (a full disk); the older ones are then still there.
    """
    write_json(file_of(folder, solver.iter, ".json"), asdict(progress))
    solver.snapshot()
    if read_progress(folder, solver.iter) is None:
        raise InputError(f"{folder}: snapshot {solver.iter} is not whole; free some space, then go on with --resume")
    for old in [number for number in iterations(folder) if number < solver.iter][1:]:
        remove(folder, old)


def remove(folder: Path, iteration: int) -> None:
    """Remove a snapshot's files, the one that makes it a snapshot first."""
    for ending in reversed(ENDINGS):
        file_of(folder, iteration, ending).unlink(missing_ok=True)


def remove_after(folder: Path, iteration: int) -> None:
    """Remove what is left of snapshots newer than this iteration: they were cut short."""
    for newer in iterations(folder):
        if newer > iteration:
            remove(folder, newer)


def check_space(solver, folder: Path) -> None:
    """Raise InputError when the disk would not hold the three snapshots that can be there at one time."""
    parameters = sum(blob.count for blobs in solver.net.params.values() for blob in blobs)
    files.check_space(folder, 3 * 4 * parameters * (1 + moments(folder)))
