"""What Penstock costs beside its peers.

`python -m benchmarks` measures, `python -m benchmarks.report` puts the figures into a page and draws them.
"""
