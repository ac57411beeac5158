"""The training loop around Caffe's solver: progress, evaluation, snapshots, and resuming to the bit."""

import math
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from data_prep.core.errors import InputError
from data_prep.core.json_files import write_json
from scripts.evaluation import run_files
from scripts.nets import definitions
from scripts.nets.caffemodel import check_fit, read_weights, shapes_of
from scripts.training import run_folder, snapshots
from scripts.training.settings import Settings
from scripts.training.snapshots import Progress

STOP = (signal.SIGINT, signal.SIGTERM)
SNAPSHOT_SECONDS = 60  # at least, between two: AlexNet's take a second or two, as long as a small set's epoch
DIVERGED = 87.3  # Caffe's softmax loss cannot exceed -log(FLT_MIN) = 87.3365: every answer certain, and wrong


@dataclass
class Training:
    """A run to train to its end, from the snapshot after `done` iterations (0: from the start).

    `progress` is that snapshot's. `show`, if given, is called with the folder after each evaluation, to show how the
    run stands. `provenance` is what run.json says of code and machine, and `resume_command` what a
    user types to go on after a stop.
    """

    folder: Path
    settings: Settings
    provenance: dict
    resume_command: str
    done: int
    progress: Progress
    show: Callable[[Path], None] | None = None


def train(run: Training, join: Callable | None = None) -> None:
    """Train a run to its end.

    `join` (multi_gpu.py) returns a function that takes an iteration on all GPUs, as stepper() does for one. After a
    stop signal SystemExit, with the command to go on on stderr.
    """
    stop = stop_signals()
    solver = open_solver(run.folder, run.done)
    snapshots.check_space(solver, run.folder, 1 if run.done else 3)  # two are kept, and a third is being written
    snapshots.remove_after(run.folder, run.done)
    run_folder.trim_log(run.folder, run.done)
    iterations = run.settings.iterations
    if run.done:
        print(f"{run.folder}: going on after iteration {run.done} of {iterations}", flush=True)
    if run.show:
        run.show(run.folder)
    step = (join or stepper)(solver, run.settings)
    replay_data(solver, run.settings, run.done, stop)
    iterate(run, solver, step, stop)
    if solver.iter < iterations:
        if solver.iter > run.done:
            save(run, solver)
        print(f"stopped after iteration {solver.iter} of {iterations}; to go on: {run.resume_command}", file=sys.stderr)
        sys.exit(128 + stop[0])


def save(run: Training, solver) -> None:
    """Write a snapshot, then how far the run is to its run.json."""
    snapshots.save(solver, run.folder, run.progress)
    state = {"iteration": solver.iter, "seconds": round(run.progress.seconds, 1)}
    write_json(run.folder / run_files.JSON, asdict(run.settings) | run.provenance | state)


def stop_signals() -> list[int]:
    """Return a list that SIGINT and SIGTERM put their number in, to be looked at between two iterations."""
    received: list[int] = []
    for number in STOP:
        signal.signal(number, lambda number, frame: received.append(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)  # multi_gpu.py holds them back till here
    return received


def open_solver(folder: Path, done: int):
    """Return Caffe's solver of a run, as the snapshot after `done` iterations left it."""
    with run_folder.quiet_solver(folder, resuming=done > 0) as path:
        solver = definitions.import_caffe().get_solver(str(path))
    if hasattr(solver, "share_memory"):  # the Caffe with GPU code lacks it
        solver.share_memory()
    if done:
        snapshots.check_state(folder, done)
        weights, shapes = snapshots.file_of(folder, done, ".caffemodel"), shapes_of(solver.net)
        check_fit(weights, read_weights(weights), shapes, needed=set(shapes))
        solver.restore(str(snapshots.file_of(folder, done, ".solverstate")))
    return solver


def iterate(run: Training, solver, step: Callable[[], tuple[float, float]], stop: list[int]) -> None:
    """Take the remaining iterations, evaluating, logging and saving on the way; return early after a stop signal.

    InputError when the training has diverged.
    """
    settings, progress = run.settings, run.progress
    began = time.monotonic() - progress.seconds
    saved = time.monotonic()
    size = {"total": settings.iterations * settings.batch, "initial": solver.iter * settings.batch}
    with tqdm(**size, unit="img", unit_scale=True, disable=None) as bar:
        shown = {}
        while solver.iter < settings.iterations and not stop:
            loss, accuracy = step()
            if not loss < DIVERGED:  # so that NaN counts too
                raise InputError(f"diverged: loss {loss:g} in iteration {solver.iter}; give a lower --base-lr")
            progress.add(loss, accuracy)
            progress.seconds = time.monotonic() - began
            shown["loss"] = f"{loss:.3f}"
            if not math.isnan(accuracy):
                shown["accuracy"] = f"{accuracy:.2f}"
            if settings.evaluated_at(solver.iter):
                row = evaluate(solver, settings, progress)
                run_folder.add_row(run.folder, row)
                if run.show:
                    run.show(run.folder)
                progress.start_row()
                shown["validation"] = f"{row.get('val_accuracy', row['val_loss']):.3f}"
                if bar.disable:
                    print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
                if time.monotonic() - saved > SNAPSHOT_SECONDS or solver.iter == settings.iterations:
                    save(run, solver)
                    saved = time.monotonic()
            bar.set_postfix(shown, refresh=False)
            bar.update(settings.batch)


def stepper(solver, settings: Settings) -> Callable[[], tuple[float, float]]:
    """Return a function that takes one iteration, and returns the mean loss and accuracy of its passes.

    The accuracy is NaN where the net has none: one that is distilled tells no classes apart.
    """
    caffe = definitions.import_caffe()
    loss, accuracy = (solver.net.blobs.get(name) for name in ("loss", "accuracy"))
    last = len(solver.net.layers) - 1
    passes: list[tuple[float, float]] = []

    def note(layer: int) -> None:
        if layer == last:
            passes.append((float(loss.data), float(accuracy.data) if accuracy else math.nan))

    solver.net.after_forward(note)
    # Dropout draws from Caffe's global generator, whose state no snapshot holds. Seeded before each iteration, its
    # masks depend on seed, GPU and iteration alone; the factors keep neighbours from sharing them.
    seed = settings.seed * 1_000_003 + caffe.solver_rank() * 2**27

    def step() -> tuple[float, float]:
        passes.clear()
        caffe.set_random_seed((seed + solver.iter) % 2**32)
        solver.step(1)
        return mean(passes)

    return step


def mean(outputs: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the mean loss and the mean accuracy of equal parts of a batch."""
    loss, accuracy = (sum(values) / len(outputs) for values in zip(*outputs, strict=True))
    return loss, accuracy


def evaluate(solver, settings: Settings, progress: Progress) -> dict:
    """Return a row of log.csv: training means since the last row, and the whole validation set, each image once."""
    net = solver.test_nets[0]
    net.share_with(solver.net)
    batches = settings.val_images // settings.val_batch
    outputs = [{name: float(value) for name, value in net.forward().items()} for _ in range(batches)]
    row = {
        "iteration": solver.iter,
        "epoch": round(solver.iter * settings.batch / settings.train_images, 3),
        "train_loss": progress.loss / progress.iterations,
        "train_accuracy": progress.accuracy / progress.iterations,
        "val_loss": sum(output["loss"] for output in outputs) / batches,
        "val_accuracy": sum(output.get("accuracy", math.nan) for output in outputs) / batches,
    }
    if "accuracy" not in net.blobs:
        del row["train_accuracy"], row["val_accuracy"]
    return {name: round(value, 6) for name, value in row.items()} | {"seconds": round(progress.seconds, 1)}


def replay_data(solver, settings: Settings, iterations: int, stop: list[int]) -> None:
    """Run the data layers alone as often as they ran before the snapshot.

    Caffe saves neither the place in the LMDB nor the state of the generator that draws mirroring and crops. That
    generator is seeded (from random_seed) when the layer is made, and nothing else draws from it: as many batches
    later, both stand where they stood.
    """
    caffe = definitions.import_caffe()
    passes = iterations * settings.parts // caffe.solver_count()
    layers = [name for name, layer in solver.net.layer_dict.items() if layer.type == "Data"]
    quiet = True if caffe.solver_rank() else None  # None: quiet where there is no terminal
    for _ in tqdm(range(passes), desc="reading up to there", unit="batch", disable=quiet):
        if stop:
            return
        for name in layers:  # not what lies between them: batch norms would take statistics
            solver.net.forward(start=name, end=name)
