"""Say how much of what tells malignant masses from benign ones a start holds, before any fine-tuning.

    python data_prep/build_lmdb.py --no-aug --out data/large_noaug
    python scripts/probe.py weights/distilled_alexnet.caffemodel random_alexnet --data data/large_noaug
    python scripts/probe.py weights/bvlc_googlenet.caffemodel teacher --data data/large_noaug --split train val

A start is a caffemodel of AlexNet or GoogLeNet, random_alexnet or random_googlenet, or the teacher of
scripts/pretrain.py (its last feature map, and the one that the nets learn). The AUC is that of a linear probe
(scripts/evaluation/linear_probe.py), its 95 % interval resamples patients. Whoever chooses a start by it leaves the
test masses out: --split train val.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep.core.errors import run
from data_prep.core.process_pool import run_in_fresh_process
from data_prep.database import manifest
from data_prep.database.split import SPLITS
from scripts.evaluation import evaluation_table, linear_probe
from scripts.nets import device, teacher

RANDOM = "random_"


def main() -> None:
    args = parse_args()
    device.set_mode(args.gpu)
    masses = linear_probe.read_masses(args.data, args.split)
    rows = []
    for start in args.starts:
        if start == "teacher":
            found = run_in_fresh_process(teacher.pooled, masses.images)
        else:
            weights = None if start.startswith(RANDOM) else Path(start)
            net = linear_probe.net_of_start(weights) if weights else start.removeprefix(RANDOM)
            caffe_net = linear_probe.load_start(net, weights, args.seed)
            maps = linear_probe.features(net, caffe_net, masses.images, args.data)
            found = {start: np.stack(list(tqdm(maps, start, len(masses.images), unit="mass", disable=None)))}
        for name, features in found.items():
            auc = linear_probe.probe(features, masses)
            rows.append((name, str(features.shape[1]), evaluation_table.interval(*auc[:3])))
            print(", ".join(rows[-1]), file=sys.stderr, flush=True)
    print(f"{len(masses.labels)} masses of {len(set(masses.patients))} patients ({', '.join(args.split)})\n")
    print("\n".join(evaluation_table.table(list(zip(("start", "features", "AUC"), *rows, strict=True)))))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("starts", nargs="+", metavar="START", help="caffemodel, random_NET, or teacher")
    parser.add_argument("--data", type=Path, default=manifest.DEFAULT, help="database without augmentation")
    parser.add_argument("--split", nargs="+", choices=SPLITS, default=list(SPLITS), help="default: all three")
    parser.add_argument("--seed", type=int, default=1, help="of random starts (default: 1)")
    parser.add_argument("--gpu", metavar="ID", help="GPU to use (default: CPU)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run(main))
