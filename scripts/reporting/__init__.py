"""Pages for readers: the report of finished runs, galleries, charts."""
