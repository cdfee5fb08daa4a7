"""The fixture that the tests of faults share: calls that fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest
from tests.support.system_calls import Failing, failing

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable


class Fail(Protocol):
    def __call__(
        self, call: str, number: int, when: Callable[[int], bool]
    ) -> contextlib.AbstractContextManager[Failing]: ...


@pytest.fixture(scope="session")
def fail() -> Fail:
    """Make a call of the package fail with an errno whenever `when(turn)` is true; turns count from 1."""
    return failing
