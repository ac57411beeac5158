"""Make the synthetic set: mammogram-like films with masses, written as genuine DDSM case folders.

    python data_prep/synthetic.py                                    # data/synthetic: 120 patients, 0.5 GB, two minutes
    python data_prep/synthetic.py --out data/synthetic_full --resolution 43.5     # as fine as DDSM's films
    python data_prep/synthetic.py --out data/other --patients 300 --seed 2
    python data_prep/synthetic.py --out data/many --resolution 200 --masses 3     # many masses on few small films

For a machine without DDSM, and for tests. Every case has the CC and the MLO film of one breast, most with one mass seen
in both. All four scanner calibrations of DDSM occur. The pictures come from random numbers alone (breast_phantom.py,
lesions.py): what a net reaches on them says nothing about real mammograms. The same arguments make the same bytes,
whatever the number of workers. A folder that holds the set asked for is left as it is.
"""

import argparse
import os
import sys
from pathlib import Path

from data_prep.core.errors import run
from data_prep.core.files import pasted
from data_prep.synthesis.ddsm_set import DEFAULTS, ensure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/synthetic"), help="folder (default: data/synthetic)")
    parser.add_argument("--patients", type=int, default=DEFAULTS["patients"], help="default: 120")
    parser.add_argument("--seed", type=int, default=DEFAULTS["seed"], help="default: 1")
    parser.add_argument(
        "--resolution", type=float, default=DEFAULTS["resolution"], help="microns per pixel (default: 100)"
    )
    parser.add_argument(
        "--masses", type=int, default=DEFAULTS["masses"], help="of a patient, nearly always (default: 1; at most 4)"
    )
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: cores)")
    args = parser.parse_args()
    made = ensure(args.out, args.patients, args.seed, args.resolution, args.workers, args.masses)
    print(
        f"{args.out}: {args.patients} patients, {'finished' if made else 'already there'}; "
        f"next: python data_prep/build_lmdb.py --source synthetic --root {pasted(args.out)}"
    )


if __name__ == "__main__":
    sys.exit(run(main))
