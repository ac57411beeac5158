"""The settings of a run, from its options, the hand-written files and the data, checked before Caffe sees them."""

import math
from dataclasses import dataclass
from pathlib import Path

from data_prep.core.errors import InputError
from data_prep.database import lmdb_io, manifest
from scripts.evaluation import paper_results
from scripts.nets import definitions
from scripts.nets.caffemodel import check_fit, check_sum, read_weights, shapes_of

LARGEST_VAL_BATCH = 64  # images: enough to keep the processor busy, small beside a training batch
EVALUATIONS = 25  # in a run counted in iterations: enough for a curve


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run's weights, apart from code and machine; a resumed run keeps it.

    `evaluate_every` is None where a run is counted in epochs: it is then evaluated at the end of each. `parts` is how
    many equal parts a batch is computed in: GPUs x passes of each (Caffe's iter_size). `augmented` is what the database
    says of its training set: the paper's augmentation is rotation, cropping and mirroring (section 4.2), so a net that
    trains on upright crops alone is shown no mirrored ones either. `base_lr` is None where the solver's own rate, the
    paper's, is kept.
    """

    net: str
    data: str
    data_digest: str
    weights: str | None
    from_scratch: bool
    seed: int
    batch: int
    epochs: int | None
    iterations: int
    evaluate_every: int | None
    train_images: int
    val_images: int
    val_batch: int
    parts: int = 1
    augmented: bool = True
    base_lr: float | None = None

    @property
    def epoch_iterations(self) -> int:
        """Iterations that show about every training image once, at least one."""
        return max(round(self.train_images / self.batch), 1)

    def evaluated_at(self, iteration: int) -> bool:
        """Whether the net is evaluated after this many iterations."""
        if iteration == self.iterations:
            return True
        if self.evaluate_every:
            return iteration % self.evaluate_every == 0
        epochs_done, before = (done * self.batch // self.train_images for done in (iteration, iteration - 1))
        return epochs_done > before


@dataclass(frozen=True)
class Options:
    """The options of a training; None leaves one to the hand-written files, or to a resumed run."""

    net: str
    data: Path | None = None
    weights: Path | None = None
    from_scratch: bool | None = None
    epochs: int | None = None
    iterations: int | None = None
    batch: int | None = None
    iter_size: int | None = None
    base_lr: float | None = None
    seed: int | None = None


def new_settings(options: Options, gpus: int = 1) -> Settings:
    """Return a new run's settings, on this many GPUs, from the options, the hand-written files and the data."""
    if options.net != "baseline" and not options.weights and not options.from_scratch:
        raise InputError(
            f"--net {options.net}: starts from ImageNet weights: --weights weights/bvlc_{options.net}.caffemodel "
            f"(python scripts/fetch_weights.py {options.net} fetches them) or what stands in for them, --weights "
            f"results/starts/distilled_{options.net}.caffemodel; or --from-scratch to do without"
        )
    train_val = definitions.read_net(options.net)
    solver = definitions.read_prototxt(definitions.solver_prototxt(options.net), "SolverParameter")
    data = options.data or manifest.DEFAULT
    content = manifest.read_json(data)
    images = {split: lmdb_io.count(data / split) for split in ("train", "val")}
    for split, count in images.items():
        if not count:
            raise InputError(f"{data / split}: holds no images; build the database from more masses")
    batch = options.batch or definitions.data_layer(train_val, "TRAIN").data_param.batch_size
    epochs = None if options.iterations else options.epochs or paper_results.TEST[options.net].epochs
    iterations = options.iterations or math.ceil(epochs * images["train"] / batch)
    return Settings(
        net=options.net,
        data=str(data),
        data_digest=content["digest"],
        weights=str(options.weights) if options.weights else None,
        from_scratch=bool(options.from_scratch),
        seed=solver.random_seed if options.seed is None else options.seed,
        batch=batch,
        epochs=epochs,
        iterations=iterations,
        evaluate_every=math.ceil(iterations / EVALUATIONS) if options.iterations else None,
        train_images=images["train"],
        val_images=images["val"],
        val_batch=val_batch_of(images["val"]),
        parts=parts_of(batch, gpus, options.iter_size or 1),
        augmented=manifest.is_augmented(content),
        base_lr=options.base_lr,
    )


def val_batch_of(images: int) -> int:
    """Return the batch for so many validation images: a divisor, so that whole batches show each image once."""
    return max(size for size in range(1, LARGEST_VAL_BATCH + 1) if images % size == 0)


def parts_of(batch: int, gpus: int, iter_size: int) -> int:
    """Return how many parts a batch is computed in; InputError when they would not be equal."""
    parts = gpus * iter_size
    if batch % parts:
        others = " or ".join(str(size) for size in (batch - batch % parts, batch - batch % parts + parts) if size)
        raise InputError(
            f"--batch {batch}: cannot be divided evenly among {gpus} GPU(s) x --iter-size {iter_size}; "
            f"give --batch {others}, or another number of either"
        )
    return parts


def check_same(options: Options, folder: Path, settings: Settings, gpus: int = 1) -> None:
    """Raise InputError when an option, or the number of GPUs, contradicts the run to be resumed.

    The parts of a batch stay as they were, since batch norm takes its statistics over one; which GPU computes which
    of them may change.
    """
    for name in ("net", "data", "weights", "from_scratch", "epochs", "iterations", "batch", "base_lr", "seed"):
        typed, own = getattr(options, name), getattr(settings, name)
        if typed is not None and (str(typed) if isinstance(typed, Path) else typed) != own:
            option = "--" + name.replace("_", "-")
            raise InputError(f"{folder}: began with {option} {own}, not {typed}; leave it out, or give another --out")
    if settings.parts % gpus or options.iter_size not in (None, settings.parts // gpus):
        raise InputError(
            f"{folder}: began with batches in {settings.parts} part(s), so GPUs x --iter-size must be that "
            f"(--iter-size may be left out); give another --gpu, or another --out"
        )
    if manifest.read_json(Path(settings.data))["digest"] != settings.data_digest:
        raise InputError(
            f"{settings.data}: was rebuilt since the run began, so the run cannot be resumed; start another"
        )


def check_data(settings: Settings) -> None:
    """Raise InputError when the images, or the mean, are not what the net's data layer takes (Caffe would abort)."""
    data = Path(settings.data)
    transform = definitions.data_layer(definitions.read_net(settings.net), "TRAIN").transform_param
    content = manifest.read_json(data)
    for split in ("train", "val"):
        manifest.check_tied(data, content, split)
        sides = next(lmdb_io.records(data / split)).image.shape
        if min(sides) < transform.crop_size:
            raise InputError(f"{data / split}: images of {sides}, smaller than the net's {transform.crop_size}")
        if transform.HasField("mean_file") and lmdb_io.read_mean(data / lmdb_io.MEAN).shape != (3, *sides):
            raise InputError(f"{data / lmdb_io.MEAN}: not of the images' size {sides}; build the database again")


def check_weights(settings: Settings) -> None:
    """Print which layers start from the weights and which at random; InputError when they do not fit the net."""
    weights = Path(settings.weights)
    if "," in settings.weights:
        raise InputError(f"{weights}: Caffe would take the comma as the end of one file's name; rename it")
    caffe = definitions.import_caffe()
    shapes = shapes_of(caffe.Net(str(definitions.prototxt(settings.net, "deploy")), caffe.TEST))
    slow = definitions.slow_layers(definitions.read_net(settings.net))
    fit = check_fit(weights, read_weights(weights), shapes, needed=slow)
    if not check_sum(weights):
        print(f"{weights}: unchecked, for no JSON beside it has its SHA-256")
    print(f"{weights}: fills {len(fit.copied)} layers; at random start: {', '.join(fit.random) or 'none'}")
