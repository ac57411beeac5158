"""Building a database: from a source of films to LMDBs with their manifest."""
