"""Errors, Mass records, whole files, processes and provenance: what every other room stands on."""
