"""Checks that a GPU computes what the CPU computes."""
