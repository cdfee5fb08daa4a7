"""What Penstock costs beside its peers: `python -m benchmarks` measures, `python -m benchmarks.report` draws."""
