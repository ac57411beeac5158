"""A run's folder: the files that train.py keeps there, and resumes from.

    train_val.prototxt, solver.prototxt    the net's hand-written ones, filled in
    run.json                               the settings, where the run stands, what code and machine made it
    log.csv                                one row per evaluation
    live.html                              the same as curves, for a browser: it reloads itself while the run goes on
    snapshot_iter_N...                     the newest two snapshots (snapshots.py)

Caffe alone can train from the two prototxt files as well: caffe train -solver runs/NAME/solver.prototxt
"""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from google.protobuf import text_format

from data_prep.core.errors import InputError
from data_prep.core.files import LARGEST_TEXT, atomic_write, read_bytes, write_text
from data_prep.core.json_files import parse_record, read_json, write_json
from data_prep.core.provenance import hardware, made_by
from scripts.evaluation import run_files
from scripts.nets import definitions
from scripts.training.settings import Settings

TRAIN_VAL, SOLVER = "train_val.prototxt", "solver.prototxt"


def make(folder: Path) -> None:
    """Make the folder of a new run, empty; InputError where there is one: of two that begin together one has it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except FileExistsError:
        raise InputError(f"{folder}: exists already; go on with --resume, or give another --out") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from None


def create(folder: Path, settings: Settings, provenance: dict, train_val=None, solver: Path | None = None) -> None:
    """Fill a new run's folder; run.json comes last, so that a folder which has it can be resumed.

    `train_val` (a NetParameter) and `solver` (a prototxt) stand in for the net's hand-written ones where given.
    """
    write_prototxts(folder, settings, train_val, solver)
    write_json(folder / run_files.JSON, asdict(settings) | provenance)


def write_prototxts(folder: Path, settings: Settings, train_val=None, solver: Path | None = None) -> None:
    """Write the run's train_val.prototxt and solver.prototxt."""
    sources = {TRAIN_VAL: definitions.prototxt(settings.net, "train_val")}
    sources[SOLVER] = solver or definitions.solver_prototxt(settings.net)
    for name, message in prototxts(folder, settings, train_val, solver).items():
        source = sources[name].relative_to(definitions.ROOT)
        head = f"# Written for this run from {source}, where the reasons are.\n"
        if not settings.augmented:
            head += "# The training set is not augmented (the paper's No Aug), so its images are not mirrored either.\n"
        write_text(folder / name, head + text_format.MessageToString(message))


def prototxts(folder: Path, settings: Settings, train_val=None, solver: Path | None = None) -> dict:
    """Return a run's train_val and solver, by their files' names: the hand-written ones with the settings filled in."""
    train_val = train_val or definitions.read_net(settings.net)
    solver_source = solver or definitions.solver_prototxt(settings.net)
    part = settings.batch // settings.parts
    for phase, split, batch in (("TRAIN", "train", part), ("TEST", "val", settings.val_batch)):
        layer = definitions.data_layer(train_val, phase)
        layer.data_param.source = f"{settings.data}/{split}"
        layer.data_param.batch_size = batch
        if layer.transform_param.HasField("mean_file"):
            layer.transform_param.mean_file = f"{settings.data}/{Path(layer.transform_param.mean_file).name}"
    if not settings.augmented:
        definitions.data_layer(train_val, "TRAIN").transform_param.mirror = False
    if settings.from_scratch:
        for layer in train_val.layer:  # no layer has learnt anything yet, so none is held back or hurried
            for param, rate in zip(layer.param, (1, 2), strict=False):
                param.lr_mult = rate
    solver = definitions.read_prototxt(solver_source, "SolverParameter")
    solver.net = str(folder / TRAIN_VAL)
    solver.max_iter = settings.iterations
    solver.test_iter[:] = [settings.val_images // settings.val_batch]
    solver.test_interval = solver.snapshot = settings.evaluate_every or settings.epoch_iterations
    solver.snapshot_prefix = str(folder / "snapshot")
    solver.random_seed = settings.seed
    if settings.base_lr:
        solver.base_lr = settings.base_lr
    if settings.parts > 1:
        solver.iter_size = settings.parts
    if settings.weights:
        solver.weights.append(settings.weights)
    return {TRAIN_VAL: train_val, SOLVER: solver}


@contextmanager
def quiet_solver(folder: Path, resuming: bool) -> Iterator[Path]:
    """Yield a copy of the run's solver for pycaffe: no evaluations, snapshots and lines of its own.

    train.py does these itself, since Caffe only prints their results. A resumed run takes no pre-trained weights.
    Where Caffe counts several solvers (multi_gpu.py), each takes its share of the passes, and the first one alone
    has the validation net.
    """
    caffe = definitions.import_caffe()
    solver = definitions.read_prototxt(folder / SOLVER, "SolverParameter")
    solver.test_initialization = False
    solver.test_interval = solver.max_iter + 1
    solver.display = solver.snapshot = 0
    if resuming:
        del solver.weights[:]
    if solver.iter_size > 1:
        solver.iter_size //= caffe.solver_count()
    if solver.iter_size > 1:  # NCCL would sum a layer's gradients after each pass, while the next adds to them
        solver.layer_wise_reduce = False
    if caffe.solver_rank() > 0:
        del solver.test_iter[:]
    path = folder / f".solver_{caffe.solver_rank()}.prototxt"
    path.write_text(text_format.MessageToString(solver))
    try:
        yield path
    finally:
        path.unlink()


def read_run(folder: Path, train_val=None, solver: Path | None = None) -> tuple[Settings, dict]:
    """Return a run's settings, and all that its run.json says; `train_val` and `solver` are as in create().

    Raises InputError when the folder holds no run, one that began under another name (Caffe's files hold paths), or one
    whose prototxt files are not what its settings give: a layer can write files, and read others.
    """
    content = run_files.read_run(folder)
    if not content:
        raise InputError(f"{folder}: no run to resume (no run.json); leave --resume out, or rm -r it first")
    path = folder / run_files.JSON
    settings = parse_record(Settings, content, path)
    read_json(path, {"gpu": str | None, "command": str})
    if min(settings.batch, settings.iterations, settings.train_images, settings.val_batch, settings.parts) < 1:
        raise InputError(f"{path}: damaged: a batch, or a number of images or iterations, is 0")
    own, named = folder / TRAIN_VAL, definitions.read_prototxt(folder / SOLVER, "SolverParameter").net
    if not Path(named).exists() or not own.samefile(named):
        raise InputError(f"{folder}: began as {Path(named).parent}; give it that name, and type from the same place")
    for name, message in prototxts(Path(named).parent, settings, train_val, solver).items():
        if definitions.read_prototxt(folder / name, message.DESCRIPTOR.name) != message:
            raise InputError(
                f"{folder / name}: not what train.py writes for these settings; it was changed, or is of another "
                "version of prototxt/ and solvers/: go on with that version, or begin anew with another --out"
            )
    return settings, content


def trim_log(folder: Path, iteration: int) -> None:
    """Keep the rows of log.csv up to this iteration, as later ones will be written again; make the file if need be."""
    path = folder / run_files.LOG
    kept = []
    if path.is_file():
        rows = (line.split(",") for line in read_bytes(path, LARGEST_TEXT).decode(errors="replace").splitlines())
        kept = [row for row in rows if _is_row(row) and int(row[0]) <= iteration]
    with atomic_write(path) as working, working.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([run_files.COLUMNS, *kept])


def add_row(folder: Path, row: dict) -> None:
    """Append an evaluation's row to log.csv; InputError when it cannot be written."""
    path = folder / run_files.LOG
    try:
        with path.open("a", newline="") as file:
            csv.DictWriter(file, run_files.COLUMNS, lineterminator="\n").writerow(row)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); go on with --resume") from None


def _is_row(row: list[str]) -> bool:
    return len(row) == len(run_files.COLUMNS) and row[0].isdecimal() and len(row[0]) <= 10  # the most iterations


def describe(gpu: str | None) -> dict:
    """Return what run.json says of code and machine."""
    found = {"gpu": gpu, **made_by("numpy", "protobuf"), "hardware": hardware()}
    found["versions"]["caffe"] = definitions.import_caffe().__version__
    return found
