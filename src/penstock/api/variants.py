"""Choose the variant of a Python stage: in a thread, in a worker process, or on an event loop.

The function and `isolate` decide. Modules that only some users need are imported when the first such stage is
made.
"""

from __future__ import annotations

from penstock.api.pipeline import Pipeline
from penstock.core.async_detection import is_async_generator, is_coroutine_function, is_generator_function
from penstock.core.describe import describe
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from penstock.stages.function import PythonStage

__all__ = [
    "asynchronous",
    "check_callable",
    "check_concurrency",
    "check_no_generator",
    "line_stage",
    "placed",
    "python_stage",
]


def check_callable(what: str, fn: Any) -> Any:
    """Return `fn`; raise TypeError, naming the constructor, if it is not callable."""
    if not callable(fn):
        raise TypeError(f"{what}() takes a callable, not {describe(fn)}")
    return fn


def line_stage(  # noqa: PLR0913 - the options of a line stage
    what: str,
    plain_stage: type[PythonStage],
    fn: Any,
    name: str | None,
    isolate: object,
    concurrency: int,
) -> Pipeline:
    """Make a stage for a function of a line or of a batch: `plain_stage`, or the async stage of its kind."""
    check_concurrency(fn, concurrency)
    kind = what.replace("_", "-")
    make = lambda a: a.AsyncLineStage(kind, fn, name, concurrency)  # noqa: E731 - as an argument it would not fit the line
    return python_stage(what, fn, isolate, lambda: plain_stage(fn, name), make)


def python_stage(  # noqa: PLR0913 - all that differs between the constructors
    what: str,
    fn: Any,
    isolate: object,
    plain_stage: Callable[[], PythonStage],
    async_stage: Callable[[Any], PythonStage],
    *,
    generator: bool = False,
) -> Pipeline:
    """Make `plain_stage()`, or `async_stage(module)` with the module of async stages if `fn` is async."""
    coroutine, generates = is_coroutine_function(check_callable(what, fn)), is_async_generator(fn)
    if what in ("function", "each_line"):
        check_no_generator(what, fn)
    if not (coroutine or generates):
        return placed(plain_stage(), isolate)
    if coroutine if generator else generates:
        kind = "an async generator function, with yield" if generator else "an async function without yield"
        raise TypeError(f"{what}() takes a plain function or {kind}, not {fn!r}")
    if isolate is not None:
        raise ValueError(f"isolate={isolate!r} needs a plain function, but {fn!r} is async")
    return Pipeline(async_stage(asynchronous()))


def check_no_generator(what: str, fn: Any) -> Any:
    """Return `fn`; raise TypeError if it is a generator function, because nobody would run its body."""
    if is_generator_function(fn):
        raise TypeError(
            f"{what}() takes a function that writes to stdout; one with yield is for transform() or "
            f"transform_lines(): {describe(fn)}"
        )
    return fn


def check_concurrency(fn: Any, concurrency: object) -> None:
    """Raise TypeError or ValueError if `concurrency` is not a valid number of simultaneous calls."""
    if isinstance(concurrency, bool) or not isinstance(concurrency, int):
        raise TypeError(f"concurrency must be an int, not {concurrency!r}")
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, not {concurrency}")
    if concurrency > 1 and not is_coroutine_function(fn):
        raise ValueError(f"concurrency={concurrency} needs an async function, but {fn!r} is a plain one")


def asynchronous() -> ModuleType:
    """Return the module of async stages, imported when the first one is made."""
    with late_import:
        from penstock.aio import stages  # noqa: PLC0415 - only async functions need it
    return stages


def placed(stage: PythonStage, isolate: object) -> Pipeline:
    """Return a pipeline of the stage, in a thread of this process or in a worker process."""
    if isolate is None:
        return Pipeline(stage)
    if isolate != "process":
        raise ValueError(f"isolate must be None or 'process', not {isolate!r}")
    with late_import:
        from penstock.isolation.stage import Isolated  # noqa: PLC0415 - only isolated stages need pickle and socket

    return Pipeline(Isolated(stage))
