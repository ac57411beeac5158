"""Save, validate, find and remove a run's snapshots.

    snapshot_iter_N.caffemodel     Caffe's snapshot: weights,
    snapshot_iter_N.solverstate    the solver's iteration and moments,
    snapshot_iter_N.json           and what Caffe leaves out: the sums behind the next row of log.csv, and the SHA-256
                                   of the two others

A process can be killed at any moment, so a snapshot counts only when all three files are whole. The JSON comes last.
"""

import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from data_prep.core.errors import InputError
from data_prep.core.files import atomic_write, read_bytes
from data_prep.core.json_files import parse_record, read_json, write_json
from data_prep.core.provenance import public
from scripts.nets import definitions
from scripts.nets.caffemodel import MOST_BYTES, SHA256, is_full, read_weights, sha256_of, stored_layers, stored_shape
from scripts.training.run_folder import SOLVER, TRAIN_VAL

STATE_SHA256 = "solverstate_sha256"
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

    The JSON, which is written last, has both other files' SHA-256. Those of earlier versions lack it, and the snapshot
    is whole where the solverstate fits the weights.
    """
    weights, extra, solver = (file_of(folder, iteration, ending) for ending in ENDINGS)
    try:
        content = read_json(extra)
        progress = parse_record(Progress, content, extra)
        if SHA256 not in content:
            check_state(folder, iteration)
        elif (content[SHA256], content[STATE_SHA256]) != (sha256_of(weights), sha256_of(solver)):
            return None
    except (InputError, KeyError):
        return None
    return progress


def check_state(folder: Path, iteration: int) -> None:
    """Raise InputError unless a snapshot's solverstate is whole and goes with its weights, by name, number and shapes.

    A solverstate lists moments for each parameter blob (one for SGD, first all first ones, then all second ones for
    Adam); a cut between two of them leaves a readable file. Caffe would abort, or add up what lies elsewhere in memory.
    """
    weights, solver = (file_of(folder, iteration, ending) for ending in (".caffemodel", ".solverstate"))
    try:
        state = definitions.import_caffe().proto.caffe_pb2.SolverState.FromString(read_bytes(solver, MOST_BYTES))
    except DecodeError:
        raise InputError(f"{solver}: cut short, or no solverstate") from None
    blobs = [blob for layer in stored_layers(read_weights(weights)) for blob in layer.blobs]
    shapes = [stored_shape(blob) for blob in blobs] * moments(folder)
    if (
        state.iter != iteration
        or Path(str(state.learned_net)).name != weights.name  # bytes where it is not UTF-8
        or [stored_shape(blob) for blob in state.history] != shapes
        or not all(map(is_full, state.history))
    ):
        raise InputError(f"{solver}: does not go with {weights.name}; put its own back, or begin anew")


def moments(folder: Path) -> int:
    """Return how many numbers the run's solver keeps for each parameter."""
    return 2 if definitions.read_prototxt(folder / SOLVER, "SolverParameter").type == "Adam" else 1


def newest_whole(folder: Path, saved: int = 0) -> tuple[int, Progress]:
    """Return the newest whole snapshot's iteration and progress; iteration 0 where none was ever whole.

    `saved` is the iteration of the last one that was, by run.json. Says so where that is gone; InputError where none is
    left, for a user's work is not begun anew unasked.
    """
    whole = ((iteration, read_progress(folder, iteration)) for iteration in iterations(folder))
    done, progress = next(((iteration, found) for iteration, found in whole if found), (0, Progress()))
    if saved and not done:
        raise InputError(
            f"{folder}: reached iteration {saved}, but no snapshot there is whole (each has three files: "
            f"{', '.join(ENDINGS)}), so it cannot go on; put them back, or begin anew with another --out"
        )
    if done < saved:
        print(f"warning: {folder}: its snapshot {saved} is gone or damaged", file=sys.stderr)
    return done, progress


def save(solver, folder: Path, progress: Progress) -> None:
    """Let Caffe write a snapshot, check that it is whole, then remove all older ones but the last.

    Raises InputError when the disk is too full for it, or it is not whole; the older ones are then still there.
    """
    check_space(solver, folder, 1)
    reserve(file_of(folder, solver.iter, ".solverstate"), size_of(solver, folder))
    extra = file_of(folder, solver.iter, ".json")
    extra.unlink(missing_ok=True)
    solver.snapshot()
    try:
        check_state(folder, solver.iter)
    except InputError as error:
        raise InputError(f"{error}: not whole; free some space, then go on with --resume") from None
    hide_folders(file_of(folder, solver.iter, ".caffemodel"), folder)
    sums = [sha256_of(file_of(folder, solver.iter, ending)) for ending in (".caffemodel", ".solverstate")]
    write_json(extra, asdict(progress) | dict(zip((SHA256, STATE_SHA256), sums, strict=True)))
    remove_older(folder, solver.iter)


def remove_older(folder: Path, iteration: int) -> None:
    """Remove the snapshots before this one but the last of them."""
    for old in [number for number in iterations(folder) if number < iteration][1:]:
        remove(folder, old)


def hide_folders(weights: Path, folder: Path) -> None:
    """Let a caffemodel, which is given away, tell no folder above the database that the run's net was trained on.

    Caffe writes a net's paths into its snapshots, and reads them nowhere.
    """
    if not _hide_folders(definitions.read_prototxt(folder / TRAIN_VAL)):
        return
    param = read_weights(weights)
    _hide_folders(param)
    with atomic_write(weights) as working:
        working.write_bytes(param.SerializeToString())


def _hide_folders(param) -> bool:
    """Replace the paths in a NetParameter by public() ones; return whether any differs."""
    found = False
    for layer in param.layer:
        for message, field in ((layer.data_param, "source"), (layer.transform_param, "mean_file")):
            if message.HasField(field) and (told := public(getattr(message, field))) != getattr(message, field):
                setattr(message, field, told)
                found = True
    return found


def keep_weights(folder: Path) -> None:
    """Remove what a finished run's last snapshot holds beside the weights and their checksum, and older snapshots."""
    for place, iteration in enumerate(iterations(folder)):
        if place:
            remove(folder, iteration)
        else:
            file_of(folder, iteration, ".solverstate").unlink(missing_ok=True)


def remove(folder: Path, iteration: int) -> None:
    """Remove a snapshot's files, the one that makes it a snapshot first."""
    for ending in reversed(ENDINGS):
        file_of(folder, iteration, ending).unlink(missing_ok=True)


def remove_after(folder: Path, iteration: int) -> None:
    """Remove what is left of snapshots newer than this iteration that were cut short; whole weights stay."""
    for newer in iterations(folder):
        if newer > iteration:
            try:
                read_weights(file_of(folder, newer, ".caffemodel"))
            except InputError:
                remove(folder, newer)


def check_space(solver, folder: Path, snapshots: int) -> None:
    """Raise InputError when the disk would not hold so many snapshots more."""
    needed, free = snapshots * size_of(solver, folder), shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder}: {snapshots} snapshot(s) take {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free; "
            "free some space, then go on with --resume"
        )


def size_of(solver, folder: Path) -> int:
    """Return how many bytes a snapshot takes."""
    parameters = sum(blob.count for blobs in solver.net.params.values() for blob in blobs)
    return 4 * parameters * (1 + moments(folder))


def reserve(path: Path, size: int) -> None:
    """Raise InputError unless so many bytes can be written to `path`, where Caffe, which would abort, writes next.

    A quota is met here, of which the disk's free space says nothing.
    """
    try:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise InputError(
            f"{path}: no room for its {size / 1e9:.2f} GB ({error.strerror}); free some, then go on with --resume"
        ) from None
