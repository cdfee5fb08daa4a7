"""The public face: pipelines, runs, and the functions that make stages."""
