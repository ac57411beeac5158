"""From films to LMDB databases: readers, split, crops, writer (build_lmdb.py runs them in order)."""

import os

# Caffe reads this when it is loaded, which any module may be the first to do: errors only, not its pages of layer setup
os.environ.setdefault("GLOG_minloglevel", "2")
