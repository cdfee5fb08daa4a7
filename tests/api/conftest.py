"""What the tests of the public names share: a host program seen from outside, and a stage that tells."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Protocol

import pytest

from penstock import Requirements

if TYPE_CHECKING:
    from penstock import Input, Output, StageContext


class Host(Protocol):
    """Runs a Python program that uses the library, in a process of its own."""

    def __call__(
        self, program: str, *args: str, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]: ...


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


@pytest.fixture(scope="session")
def host() -> Host:
    """Run `program` with `from penstock import *` ahead of it; what it writes comes back."""

    def run(program: str, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-c", "import sys\nfrom penstock import *\n" + program, *args],
            input=stdin,
            capture_output=True,
            check=True,
            timeout=30,
        )

    return run
