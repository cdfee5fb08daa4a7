"""Compare the costs of Penstock with those of its peers.

`python -m benchmarks` measures, `python -m benchmarks.report` puts the figures into a page and draws them.
"""
