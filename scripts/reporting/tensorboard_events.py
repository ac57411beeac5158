"""TensorBoard's event files of a run, beside its log.csv, for those who watch with `tensorboard --logdir runs`."""

from pathlib import Path

from data_prep.core.errors import InputError
from scripts.evaluation import run_files
from scripts.reporting import live_page

_writers: dict[Path, object] = {}


def check() -> None:
    """Raise InputError unless the package that writes them is here."""
    try:
        import tensorboardX  # noqa: F401
    except ImportError:
        raise InputError("--tensorboard: needs one package more: pip install tensorboardX") from None


def show(folder: Path) -> None:
    """Write a run's live page, and the newest row of its log.csv as events; the first call opens their file."""
    live_page.write_own(folder)
    log = run_files.read_log(folder)
    step = int(log[-1]["iteration"]) if log else 0
    if folder not in _writers:
        from tensorboardX import SummaryWriter

        _writers[folder] = SummaryWriter(str(folder), purge_step=step + 1)  # later ones are of before the resuming
        return
    for name, value in log[-1].items():
        split, _, quantity = name.partition("_")
        if quantity:  # "train_loss", but not "seconds"
            _writers[folder].add_scalar(f"{quantity}/{split}", value, step)
    _writers[folder].flush()
