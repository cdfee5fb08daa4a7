"""The stage that the option `keep` puts into an edge: it copies what crosses the edge into a file."""

from __future__ import annotations

import os
import re

from penstock.core.placeholders import masked
from penstock.stages.base import NO_PORTS
from penstock.stages.tee import Splitter

__all__ = ["Keeping"]


class Keeping(Splitter):
    """Copies its input into its output and into a file, which is named after the two ends of the edge."""

    kind = "relay"

    def __init__(self, folder: str, number: int, source: str, target: str) -> None:
        super().__init__(f"keep {number}")
        name = re.sub(r"[^\w.-]+", "_", masked(f"{source}-{target}"), flags=re.ASCII)[:80]
        self.path = os.path.join(folder, f"{number:02d}-{name}")  # noqa: PTH118 - pathlib is slow to import
        self.outlets = NO_PORTS
