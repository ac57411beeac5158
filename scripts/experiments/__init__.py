"""The paper's experiment matrix: the plan of its commands, the tables of its results, and the verdicts."""
