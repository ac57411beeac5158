"""Predictions, metrics with intervals, comparisons, plots and saliency maps of trained nets."""
