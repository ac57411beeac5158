"""Readers, one per data set: from its files to Mass records."""
