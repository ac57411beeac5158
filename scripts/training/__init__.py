"""Training: settings, the loop, snapshots and the run's folder."""
