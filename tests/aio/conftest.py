"""Async tests: each runs on every event loop that the async methods promise to run on."""

from __future__ import annotations

import functools
import gc
import inspect
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
from blockbuster import blockbuster_ctx

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from blockbuster import BlockBuster

    from penstock import Event

BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}


def run_on(backend: str, work: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
    """Run `work(*args)` on a new event loop, and return what it returns."""
    library, options = BACKENDS[backend]
    return anyio.run(functools.partial(work, *args), backend=library, backend_options=options)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """An async test runs once on each backend, or on those that its `backends` mark names."""
    if inspect.iscoroutinefunction(metafunc.function) or "backend" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("backends")
        if "backend" not in metafunc.fixturenames:
            metafunc.fixturenames.append("backend")
        metafunc.parametrize("backend", BACKENDS if mark is None else mark.args)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine function on the loop that it was parametrised for."""
    if not inspect.iscoroutinefunction(pyfuncitem.function):
        return None
    names = inspect.signature(pyfuncitem.function).parameters
    given = {name: pyfuncitem.funcargs[name] for name in names}
    run_on(str(pyfuncitem.callspec.params["backend"]), functools.partial(pyfuncitem.obj, **given))
    return True


@pytest.fixture(scope="session", autouse=True)
def _warm_loops(_settled_process: None) -> None:
    """What libuv and trio keep for the whole process is there before the first test looks."""
    for backend in BACKENDS:
        run_on(backend, anyio.sleep, 0)


class Started:
    """A handler of events that keeps the pids of a run's commands, and lets tasks wait for the first."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        self._token = anyio.lowlevel.current_token()
        self._known = anyio.Event()

    def __call__(self, event: Event) -> None:
        if event.kind == "start" and "pid" in event.context:
            self.pids.append(event.context["pid"])
            anyio.from_thread.run_sync(self._known.set, token=self._token)

    async def wait(self) -> None:
        """Until a command is known to run."""
        await self._known.wait()


@pytest.fixture
def started() -> Callable[[], Started]:
    """Make a `Started`, in the loop that runs."""
    return Started


class StallProbe:
    """A task that asks for its turn all the time, and notes how long others kept the loop from giving it.

    What counts is the time that the loop's thread spent at work between two turns. A machine that is busy
    with other processes makes each turn late, and that is no promise of ours; nor is it, when the garbage
    collector walks through all that a session of tests has made. What would wait rather than work is
    blockbuster's to find.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self.turns = 0

    async def watch(self) -> None:
        """Go on until cancelled."""
        before = time.thread_time()
        while True:
            await anyio.sleep(0.001)
            now = time.thread_time()
            self.longest = max(self.longest, now - before)
            before = now


@pytest.fixture
def stalls() -> Iterator[StallProbe]:
    """A probe that no task watches yet."""
    gc.disable()
    yield StallProbe()
    gc.enable()


@pytest.fixture
def blockbuster() -> Iterator[BlockBuster]:
    """Every call that blocks in a running asyncio loop raises, from wherever it is made."""
    with blockbuster_ctx() as active:
        yield active


@pytest.fixture
def on_loop() -> Callable[..., Any]:
    """Run an async function on a new loop; see `run_on`."""
    return run_on
