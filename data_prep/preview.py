"""Look at a built database before training on it.

    python data_prep/preview.py                                             # data/lmdb, into data/lmdb_preview.png
    python data_prep/preview.py data/small --out small.png --columns 6

Two pictures. The first is a contact sheet: records of every split and class as the nets get them, the mass's box drawn
on (turned and cut as the record is) and what the manifest says beneath. The second, named *_fig1.png, is the paper's
Fig 1: benign masses on the left, malignant ones on the right. The same seed draws the same records.
"""

import argparse
import sys
from pathlib import Path

from data_prep.auditing.contact_sheet import contact_sheet, fig1, read, save
from data_prep.core.errors import run
from data_prep.core.files import pasted
from data_prep.database import manifest


def main() -> None:
    args = parse_args()
    out = args.out or args.folder.with_name(f"{args.folder.name}_preview.png")
    content = manifest.read_json(args.folder, whole=True)
    samples = read(args.folder, content, args.columns, args.seed)
    save(contact_sheet(samples, content, args.columns), out)
    save(fig1([*samples["val"], *samples["test"]], content), out.with_name(f"{out.stem}_fig1.png"))
    print(f"next: python data_prep/audit.py {pasted(args.folder)}")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=manifest.DEFAULT, help="default: data/lmdb")
    parser.add_argument("--out", type=Path, help="PNG file (default: the folder's name and _preview.png)")
    parser.add_argument("--columns", type=int, default=8, help="records of each split and class (default: 8)")
    parser.add_argument("--seed", type=int, default=1, help="of the choice (default: 1)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run(main))
