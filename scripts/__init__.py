"""Commands on top (train, evaluate, explain, report), and the rooms that they share."""
