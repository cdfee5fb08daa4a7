"""Programs that use public names only, and are tested; run one with `python -m penstock.examples.NAME`."""
