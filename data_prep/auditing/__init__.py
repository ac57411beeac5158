"""Checks that a built database is what its manifest says and that nothing leaks between its sets."""
