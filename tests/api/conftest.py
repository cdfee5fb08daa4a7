"""What the tests of the public names share: a stage that tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock import Requirements

if TYPE_CHECKING:
    from penstock import Input, Output, StageContext


class Probe:
    """A custom stage that notes each start, and does nothing."""

    name = "probe"
    requirements = Requirements()

    def __init__(self) -> None:
        self.starts = 0

    def start(self, ctx: StageContext, stdin: Input, stdout: Output) -> Probe:
        """Note it, close both ends, and be the running stage too."""
        self.starts += 1
        stdin.close()
        stdout.close()
        return self

    def wait(self) -> None:
        """It has ended already."""

    def kill(self, reason: BaseException) -> None:
        """It has ended already."""


@pytest.fixture
def probe() -> Probe:
    """A stage that knows whether it was started."""
    return Probe()
