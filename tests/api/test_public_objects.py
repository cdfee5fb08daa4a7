"""Public classes and functions are known as `penstock.<name>`, to tracebacks and to pickles alike."""

from __future__ import annotations

import doctest
import pickle
import pickletools
import sys
from types import FunctionType
from typing import TYPE_CHECKING, Any

import pytest

import penstock
from penstock import (
    CAPTURE,
    DEVNULL,
    ExitError,
    Limits,
    LineTooLong,
    MemoryLimitExceeded,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    RemoteError,
    Requirements,
    Secret,
    StartError,
    Stream,
    WorkerDied,
    any_error,
    closing,
    command,
    each_line,
    echo,
    filter_error,
    filter_lines,
    function,
    ignore_error,
    is_error,
    is_signal,
    map_line_batches,
    map_lines,
    memory_limit,
    scan,
    source,
    transform,
    transform_lines,
)
from penstock.core.errors import Cancelled, ClosedPipe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NAMES = sorted(name for name in penstock.__all__ if isinstance(getattr(penstock, name), type | FunctionType))
CAT = command("cat")


def _copy(_ctx: Any, stdin: Any, stdout: Any) -> None:
    stdout.write(stdin.read())


def _keep(error: BaseException | None) -> BaseException | None:
    return error


async def _coroutine(line: bytes) -> bytes:
    return line


async def _generator(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk


async def _stage(_ctx: Any, _stdin: Any, _stdout: Any) -> None:
    return None


THINGS: dict[str, Any] = {
    "command": command("cat", Secret("x"), env={"A": Secret("b")}, stderr=DEVNULL, limits=Limits(nice=1)),
    "function": function(_copy),
    "transform": transform(iter),
    "transform_lines": transform_lines(sorted),
    "map_lines": map_lines(bytes.upper),
    "filter_lines": filter_lines(len),
    "map_line_batches": map_line_batches(list),
    "each_line": each_line(print),
    "scan": scan(iter, print),
    "source": source([b"x"]),
    "echo": echo("x"),
    "isolated": map_lines(bytes.upper, isolate="process"),
    "async function": function(_stage),
    "async transform": transform(_generator),
    "async lines": map_lines(_coroutine),
    "ignore_error": ignore_error(CAT, any_error(is_error(ValueError), is_error(OSError(1)), is_signal(9))),
    "filter_error": filter_error(CAT, _keep),
    "memory_limit": memory_limit(CAT, "1GB"),
    "pipeline": Pipeline(CAT, Pipeline(CAT, name="inner"), stdout=CAPTURE, limits=Limits(memory="1GB")),
    "secret": Secret("x"),
    "closing": closing(1),
    "values": [CAPTURE, DEVNULL, Stream.ANY, Requirements(Stream.PREFER_FILE)],
    "plan": (CAT | CAT).explain(stdout=CAPTURE),
    "result": (CAT | map_lines(bytes.upper)).run(input=b"a", stdout=CAPTURE),
    "failed result": command("false").run(check=False),
    "ExitError": ExitError(1, ["false"], b"no"),
    "PipelineError": PipelineError("cat", ExitError(-9), index=1),
    "StartError": StartError("cat", OSError(2, "no"), index=0),
    "PipelineTimeout": PipelineTimeout(None, TimeoutError("late")),
    "PipelineCancelled": PipelineCancelled("cat", Cancelled("enough")),
    "MemoryLimitExceeded": MemoryLimitExceeded(1, 2),
    "LineTooLong": LineTooLong(1),
    "RemoteError": RemoteError("a.B", "text"),
    "WorkerDied": WorkerDied(-9, "f", 7),
    "ClosedPipe": ClosedPipe(),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_public_thing_says_that_penstock_is_its_module(name: str) -> None:
    """Wherever it is defined."""
    thing = getattr(penstock, name)
    assert (thing.__module__, thing.__qualname__) == ("penstock", name)


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of_a_public_thing_are_true(name: str) -> None:
    """Pytest looks for examples in the module that a thing says it is of, where it is not defined."""
    thing = getattr(penstock, name)
    home = vars(sys.modules[penstock._HOME_OF[name]])
    runner = doctest.DocTestRunner()
    for example in doctest.DocTestFinder().find(thing, name, module=False, globs=dict(home)):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("name", THINGS)
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_a_pickle_names_no_internal_module(name: str, protocol: int) -> None:
    """So it can be loaded by a version whose modules are other ones."""
    data = pickle.dumps(THINGS[name], protocol)
    texts = [arg for _, arg, _ in pickletools.genops(data) if isinstance(arg, str)]
    assert not [text for text in texts if text.startswith("penstock.")]
    copied = pickle.loads(data)
    assert type(copied) is type(THINGS[name])
    assert pickle.dumps(copied, protocol) == pickle.dumps(
        pickle.loads(pickle.dumps(copied, protocol)), protocol
    )
    if not isinstance(copied, BaseException):
        assert repr(copied).startswith(repr(THINGS[name])[:8])


def test_each_name_that_pickles_use_is_found() -> None:
    """Also those that are not public; and none of them gets into the way of a public one."""
    for home, names in penstock._PICKLED.items():
        for name in names:
            assert name not in penstock.__all__
            thing = getattr(penstock, name)
            assert (thing.__module__, thing.__qualname__) == ("penstock", name), home
