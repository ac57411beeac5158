"""Prove that built databases are what they say, and that nothing leaks from one split into another.

    python data_prep/audit.py                              # data/lmdb
    python data_prep/audit.py data/lmdb data/small         # each by itself, and that they share one split
    python data_prep/audit.py data/fold*                   # and that each mass is tested in one fold alone

Every LMDB is opened and every record decoded again. One line per check, with its claim: "ok", or "FAILED" and the
keys that offend. Exit status: 0 when all checks pass, 1 when any fails, 2 when there is nothing to check. The checks
are in data_prep/auditing/checks.py, how images are compared in data_prep/auditing/near_duplicates.py.
"""

import argparse
import sys
from pathlib import Path

from data_prep.auditing import checks
from data_prep.auditing.checks import Check
from data_prep.core.errors import InputError, run
from data_prep.core.files import pasted
from data_prep.database import manifest

SHOWN = 10  # offenders of a check


def main() -> None:
    folders = parse_args().folders
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; build it with data_prep/build_lmdb.py")
    failed = sum(audit(folder) for folder in folders)
    if len(folders) > 1 and not failed:
        print("together")
        failed += sum(map(show, [checks.one_split(folders), *checks.folds(folders)]))
    if failed:
        print(f"checks that FAILED: {failed}")
        sys.exit(1)
    print(f"all checks passed; next: python scripts/train.py --net baseline --data {pasted(folders[0])}")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, default=[manifest.DEFAULT], help="default: data/lmdb")
    return parser.parse_args()


def audit(folder: Path) -> int:
    """Print every check of one database; return how many failed."""
    print(folder)
    return sum(show(check) for check in checks.check(folder))


def show(check: Check) -> bool:
    """Print one check; return whether it failed."""
    verdict = "FAILED" if check.offenders else "ok"
    print(f"  {verdict:8}{check.name:11}{check.figures}", flush=True)
    for offender in check.offenders[:SHOWN]:
        print(f"          {offender}")
    if len(check.offenders) > SHOWN:
        print(f"          and {len(check.offenders) - SHOWN:,} more")
    return bool(check.offenders)


if __name__ == "__main__":
    sys.exit(run(main))
