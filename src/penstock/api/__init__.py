"""What users call: pipelines, runs, and the functions that make stages."""
