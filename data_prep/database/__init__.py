"""Split, context crops, and the LMDB database with its manifest."""
