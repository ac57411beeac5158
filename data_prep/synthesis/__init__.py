"""Synthetic films and images: drawn from random numbers, written in the real sets' formats."""
