"""Show the progress of a run: a live view on a terminal, plain lines, or snapshots for a callable."""
