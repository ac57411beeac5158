"""Measurements of speed and memory: our Caffe, stock Caffe, PyTorch, data preparation."""
