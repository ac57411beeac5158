"""Reproduce the paper, experiment by experiment: every table and figure from one command.

    python scripts/reproduce.py --dry-run                        # the plan, and how long it takes on this machine
    python scripts/reproduce.py                                  # all of it, on data/ddsm, data/cbis or synthetic films
    python scripts/reproduce.py --table 2 --budget quick         # one table, in minutes
    python scripts/reproduce.py --data cbis --budget paper --gpu 0
    python scripts/reproduce.py --data ../my/masses.csv          # own films (build_lmdb.py --help)

scripts/experiments.toml lists the experiments (arms), which of them each table and figure shows, and the budgets. Every
step is a command of its own, shown as it is run, with its output kept in runs/reproduce. Ctrl-C stops after a snapshot;
the same command goes on from there, and does nothing twice. Of a finished run only the weights are kept. Writes the
tables, figures and the page to results/DATA/BUDGET. A discussion.md that lies there becomes part of the page.
"""

import argparse
import sys
from pathlib import Path

from data_prep.core.errors import InputError, run
from data_prep.sources import registry
from scripts.experiments import extra_tables, matrix, page, paper_tables, plan
from scripts.experiments.command_runner import python, typed
from scripts.training import snapshots


def main() -> None:
    args = parse_args()
    content = matrix.read_experiments(args.experiments)
    if args.budget not in content["budgets"]:
        raise InputError(f"--budget {args.budget}: {args.experiments} has {', '.join(content['budgets'])}")
    about = [item for name in ("name", "credit") if (text := getattr(args, name)) for item in (f"--{name}", text)]
    data = plan.parse_data(args.data or registry.default_source(), tuple(about))
    budget = content["budgets"][args.budget]
    experiments = chosen(content, args.table, args.figure)
    steps = plan.make(experiments, data, args.budget, budget, args.gpu, content["tables"]["3"])
    show(steps, data, args)
    if args.dry_run:
        return
    for step in steps:
        if not step.done:
            python(*step.command, log=step.log)
        if step.net:
            snapshots.keep_weights(step.folder)
    out = args.out or Path("results") / data.name / args.budget
    runs = plan.finished(list(content["arms"].values()), data, args.budget, budget)
    tables = paper_tables.write(out, runs, content, args.budget, data.source)
    shares = plan.SHARES.format(plan.explained_split(budget))
    tables += extra_tables.saliency_shares(out, content["arms"].values(), runs, tables[0].about, shares)
    page.write(out, runs, tables, data.folds(budget)[0], content["figures"])


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=int, choices=(1, 2, 3), action="append", help="only this one (may be repeated)")
    parser.add_argument("--figure", type=int, choices=(1, 2, 3), action="append", help="only this one")
    parser.add_argument("--data", metavar="SOURCE[:ROOT]", help="synthetic, ddsm, cbis or a CSV of boxes")
    parser.add_argument("--name", help="the set's own name, for the tables and the page")
    parser.add_argument("--credit", help="whom to thank or cite for the set, for the page")
    parser.add_argument("--budget", default="scaled", help="how long to train: paper, folds, scaled (default) or quick")
    parser.add_argument("--experiments", type=Path, default=matrix.EXPERIMENTS, help="another experiments.toml")
    parser.add_argument("--gpu", metavar="ID", help="GPU to use (default: CPU)")
    parser.add_argument("--dry-run", action="store_true", help="only show the plan and its estimated time")
    parser.add_argument("--out", type=Path, help="folder for the results (default: results/DATA/BUDGET)")
    return parser.parse_args()


def chosen(content: dict, tables: list[int] | None, figures: list[int] | None) -> list[matrix.Experiment]:
    """Return the experiments of the tables and figures asked for, or all, each once."""
    wanted = [content["tables"][str(number)] for number in tables or ()]
    wanted += [content["figures"][str(number)] for number in figures or ()]
    names = dict.fromkeys(name for names in wanted for name in names) if tables or figures else content["arms"]
    return [content["arms"][name] for name in names]


def show(steps: list[plan.Step], data: plan.Data, args: argparse.Namespace) -> None:
    """Print the plan: each step with what is known of its time, and the sum."""
    print(
        f"data: {data.source} ({data.name}); budget: {args.budget}; device: {'CPU' if args.gpu is None else args.gpu}"
    )
    to_train = [step for step in steps if step.net and not step.done]
    speed = {key: plan.seconds_per_image(*key, args.gpu) for key in dict.fromkeys((s.net, s.batch) for s in to_train)}
    total = 0.0
    for step in steps:
        about = "done" if step.done else ""
        if step in to_train:
            seconds = step.images * speed[step.net, step.batch]
            total += seconds
            about = f"{step.images:,} images, about {duration(seconds)}" if step.images else "length not known yet"
        print(f"{step.title:40} {about}")
        if args.dry_run and not step.done:
            print(f"    {typed(*step.command)}")
    print(f"training left: about {duration(total)}; databases, evaluation and maps come on top", flush=True)


def duration(seconds: float) -> str:
    """Return a time in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 3600:.1f} h" if seconds > 5400 else f"{seconds / 60:.0f} min"


if __name__ == "__main__":
    sys.exit(run(main))
