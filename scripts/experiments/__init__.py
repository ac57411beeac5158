"""The paper's experiment matrix: what is run, and the tables and verdicts that come of it."""
