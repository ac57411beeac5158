"""Make a synthetic CBIS-DDSM: the films of a synthetic DDSM set, written as the archive of DICOM files and CSVs.

    python data_prep/synthetic_cbis.py                                       # data/synthetic -> data/synthetic_cbis
    python data_prep/build_lmdb.py --source cbis --root data/synthetic_cbis --official-split --out data/lmdb_cbis

For whoever wants to try the CBIS-DDSM way before the download, and for tests. The archive's habits and faults come in
turn: folders as in the CSVs, as the NBIA Data Retriever makes them, or one a series; crop and mask in each other's
places, or both called 000000.dcm; a mask at half the film's size, or of another shape; films compressed, or with
bright and dark exchanged (MONOCHROME1); a newline in the CSV's paths. Every fifth patient is of the official test set.
"""

import argparse
import os
import sys
from pathlib import Path

from tqdm import tqdm

from data_prep.core.errors import run
from data_prep.core.files import atomic_folder, pasted
from data_prep.core.process_pool import worker_pool
from data_prep.sources import ddsm
from data_prep.synthesis import ddsm_set
from data_prep.synthesis.cbis_set import README, film_jobs, write_csv, write_film


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=Path, default=Path("data/synthetic"), help="set made by data_prep/synthetic.py")
    parser.add_argument("--out", type=Path, default=Path("data/synthetic_cbis"), help="new folder")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: cores)")
    args = parser.parse_args()
    ddsm_set.ensure(args.films)
    with atomic_folder(args.out) as folder, worker_pool(args.workers) as pool:
        jobs = film_jobs([mass for mass in ddsm.masses(args.films, pool.map) if not mass.reason])
        written = pool.map(write_film, [folder] * len(jobs), jobs)
        rows = [row for rows in tqdm(written, total=len(jobs), unit="film", disable=None) for row in rows]
        for official in ("Training", "Test"):
            write_csv(folder, official, [row for row in rows if f"Mass-{official}" in row["image file path"]])
        (folder / "README.txt").write_text(README)
    print(f"{args.out}: finished; next: python data_prep/build_lmdb.py --source cbis --root {pasted(args.out)}")


if __name__ == "__main__":
    sys.exit(run(main))
