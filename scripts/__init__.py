"""Drivers, and what they share: train, evaluate, explain, report."""
