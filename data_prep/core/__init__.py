"""Errors, Mass records, whole files, processes and provenance: used by every other room."""
