"""The fixtures that tests of several folders use; `tests/conftest.py` registers this module as a plugin."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import pytest
from tests.support.hosts import Host
from tests.support.processes import Strays
from tests.support.terminals import Desk
from tests.support.waiting import DEADLINE

from penstock.core.timing import timing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = [
    "SetTiming",
    "Stubborn",
    "desk",
    "host",
    "script",
    "set_timing",
    "strays",
    "stubborn",
    "threads",
    "together",
]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Start Python programs that use Penstock; kill those that still run after the test."""
    host = Host(tmp_path)
    yield host
    host.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Start programs on terminals of their own; close the terminals after the test."""
    desk = Desk(tmp_path)
    yield desk
    desk.close()


class SetTiming(Protocol):
    def __call__(self, **seconds: float) -> None: ...


@pytest.fixture
def set_timing(monkeypatch: pytest.MonkeyPatch) -> SetTiming:
    """Give fields of the engine's `timing` other values, until the test is over."""

    def set_timing(**seconds: float) -> None:
        for field, value in seconds.items():
            monkeypatch.setattr(timing, field, value)

    return set_timing


@pytest.fixture
def strays(tmp_path: Path) -> Iterator[Strays]:
    """Keep account of grandchildren; kill them after the test."""
    strays = Strays(tmp_path / "pids")
    yield strays
    strays.kill()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Start threads by `submit`, wait for them by `result(timeout)`; they are joined after the test."""
    with ThreadPoolExecutor(32) as pool:
        yield pool


@pytest.fixture
def together() -> Callable[[list[Callable[[], None]]], None]:
    """Run functions in as many threads, all released at once; raise the first error of any."""

    def run(functions: list[Callable[[], None]]) -> None:
        errors: list[BaseException] = []
        barrier = threading.Barrier(len(functions))

        def work(function: Callable[[], None]) -> None:
            barrier.wait(DEADLINE)
            try:
                function()
            except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
                errors.append(error)

        threads = [threading.Thread(target=work, args=(function,)) for function in functions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        if errors:
            raise errors[0]

    return run


class Stubborn:
    """A function that ignores that it is cancelled, until it is released (or after a few seconds)."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.release = threading.Event()
        self.left: list[threading.Event] = []

    def __call__(self, *_given: object) -> None:
        ended = threading.Event()
        self.left.append(ended)
        self.begun.set()
        try:
            self.release.wait(5)  # so that a run which does wait for it fails its test soon
        finally:
            ended.set()


@pytest.fixture
def stubborn() -> Iterator[Stubborn]:
    """Make a function that ignores that it is cancelled, until the test is over."""
    function = Stubborn()
    yield function
    function.release.set()
    assert all(ended.wait(DEADLINE) for ended in function.left)


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write an executable file."""

    def script(name: str, text: str, mode: int = 0o755) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    return script
