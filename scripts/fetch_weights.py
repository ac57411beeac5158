"""Fetch BVLC's ImageNet weights for AlexNet and GoogLeNet into weights/, each checked against its published sum.

    python scripts/fetch_weights.py                # both: about 240 MB and 54 MB
    python scripts/fetch_weights.py alexnet
    python scripts/fetch_weights.py --from http://mirror.example/caffe
    python scripts/fetch_weights.py googlenet --file ~/Downloads/googlenet-12.onnx

BVLC's own server comes first; where it is down, the ONNX Model Zoo has the same weights, which are turned back into a
caffemodel. A download that was cut goes on where it stopped when the command is typed again. A file that is there
already, however it came, is only checked.
"""

import argparse
import sys
from pathlib import Path

from data_prep.core.errors import InputError, run
from data_prep.core.files import pasted
from scripts.nets import imagenet_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    nets = list(imagenet_weights.FILES)
    parser.add_argument("net", nargs="*", help=f"{' or '.join(nets)} (default: both)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--from", dest="base", default="", help="a folder on the web that has any of the files")
    where.add_argument("--file", type=Path, help="a .caffemodel of BVLC's, or an .onnx file made from one")
    parser.add_argument("--out", type=Path, default=Path("weights"), help="default: weights")
    args = parser.parse_args()
    for net in args.net:
        if net not in nets:
            raise InputError(f"{net}: no ImageNet weights for this net; choose from {', '.join(nets)}")
    if args.file and len(args.net) != 1:
        raise InputError(f"{args.file}: say which net's it is: {' or '.join(nets)}")
    for net in args.net or nets:
        if args.file:
            proof = imagenet_weights.take(args.file, net, args.out)
        else:
            proof = imagenet_weights.fetch(net, args.out, args.base.rstrip("/"))
        weights = args.out / f"bvlc_{net}.caffemodel"
        print(f"{weights}: {proof}; next: python scripts/train.py --net {net} --weights {pasted(weights)}")


if __name__ == "__main__":
    sys.exit(run(main))
