"""The training loop round Caffe's solver: progress, evaluation, snapshots, and resuming to the bit."""

import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from data_prep.mass import InputError
from scripts import nets, run_folder
from scripts.settings import Settings
from scripts.snapshots import Progress

SNAPSHOT_SECONDS = 60  # at least, between two: AlexNet's take a second or two, as long as a small set's epoch
DIVERGED = 87.3  # Caffe's softmax loss cannot exceed -log(FLT_MIN) = 87.3365: every answer certain, and wrong


def iterate(solver, folder: Path, settings: Settings, progress: Progress, save: Callable, stop: list[int]) -> None:
    """Take the remaining iterations, evaluating, logging and saving on the way; return early after a stop signal."""
    began = time.monotonic() - progress.seconds
    saved = time.monotonic()
    size = {"total": settings.iterations * settings.batch, "initial": solver.iter * settings.batch}
    with tqdm(**size, unit="img", unit_scale=True, disable=None) as bar:
        shown = {}
        while solver.iter < settings.iterations and not stop:
            loss, accuracy = step(solver, settings)
            progress.add(loss, accuracy)
            progress.seconds = time.monotonic() - began
            shown |= {"loss": f"{loss:.3f}", "accuracy": f"{accuracy:.2f}"}
            if settings.evaluated_at(solver.iter):
                row = evaluate(solver, settings, progress)
                run_folder.add_row(folder, row)
                progress.start_row()
                shown["validation"] = f"{row['val_accuracy']:.3f}"
                if bar.disable:
                    print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
                if time.monotonic() - saved > SNAPSHOT_SECONDS or solver.iter == settings.iterations:
                    save()
                    saved = time.monotonic()
            bar.set_postfix(shown, refresh=False)
            bar.update(settings.batch)


def step(solver, settings: Settings) -> tuple[float, float]:
    """Take one iteration; return the batch's loss and accuracy. InputError when the training has diverged."""
    # Dropout draws from Caffe's global generator, whose state no snapshot holds. Seeded before each iteration, its
    # masks depend on seed and iteration alone; the factor keeps neighbouring seeds from sharing them.
    nets.import_caffe().set_random_seed((settings.seed * 1_000_003 + solver.iter) % 2**32)
    solver.step(1)
    loss, accuracy = (float(solver.net.blobs[name].data) for name in ("loss", "accuracy"))
    if not loss < DIVERGED:  # so that NaN counts too
        raise InputError(f"diverged: loss {loss:g} in iteration {solver.iter}; lower base_lr in its file in solvers/")
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
        "val_accuracy": sum(output["accuracy"] for output in outputs) / batches,
    }
    return {name: round(value, 6) for name, value in row.items()} | {"seconds": round(progress.seconds, 1)}


def replay_data(solver, iterations: int, stop: list[int]) -> None:
    """Run the data layer alone as often as it ran before the snapshot.

    Caffe saves neither the place in the LMDB nor the state of the generator that draws mirroring and crops. That
    generator is seeded (from random_seed) when the layer is made, and nothing else draws from it: as many batches
    later, both stand where they stood.
    """
    for _ in tqdm(range(iterations), desc="reading up to there", unit="batch", disable=None):
        if stop:
            return
        solver.net.forward(end="data")
