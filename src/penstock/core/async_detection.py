"""Which of the caller's functions and objects are for an event loop.

Told by the flags of a function's code, as `inspect` does, which is dear to import. A function is asked after
the wrappers that hide it: `partial`, methods, objects with `__call__`. What only returns an awaitable cannot
be told from what returns anything else, and counts as a plain function.
"""

from __future__ import annotations

from typing import Any

__all__ = ["is_async_generator", "is_async_sink", "is_async_source", "is_coroutine_function", "plain"]

_COROUTINE = 0x80
_ASYNC_GENERATOR = 0x200  # inspect.CO_COROUTINE and inspect.CO_ASYNC_GENERATOR


def is_coroutine_function(fn: Any) -> bool:
    """Whether it is an `async def` without `yield`."""
    return bool(_flags(fn) & _COROUTINE)


def is_async_generator(fn: Any) -> bool:
    """Whether it is an `async def` with `yield`."""
    return bool(_flags(fn) & _ASYNC_GENERATOR)


def is_async_source(thing: Any) -> bool:
    """Whether bytes can be had of it by a task only: an asyncio `StreamReader`, a receive stream of anyio's
    or trio's, any other async iterable.
    """
    if isinstance(thing, type):
        return False
    iterable = hasattr(thing, "__aiter__") and not hasattr(thing, "__iter__")
    return iterable or is_coroutine_function(getattr(thing, "read", None))


def is_async_sink(thing: Any) -> bool:
    """Whether bytes can be given to it by a task only: an asyncio `StreamWriter`, a send stream of anyio's
    or trio's, an object with an async `write`.
    """
    methods = ("drain", "send", "send_all", "write")
    return not isinstance(thing, type) and any(
        is_coroutine_function(getattr(thing, method, None)) for method in methods
    )


def plain(what: str, fn: Any) -> Any:
    """`fn`; TypeError naming `what` where it is async, since it is called where no event loop runs."""
    if is_coroutine_function(fn) or is_async_generator(fn):
        raise TypeError(f"{what} must be a plain function, not an async one: {fn!r}")
    return fn


def _flags(fn: Any) -> int:
    while hasattr(fn, "func"):
        fn = fn.func
    code = getattr(getattr(fn, "__func__", fn), "__code__", None)
    if code is None and fn is not None and not isinstance(fn, type):
        code = getattr(getattr(type(fn), "__call__", None), "__code__", None)  # noqa: B004 - its code is wanted
    flags: int = getattr(code, "co_flags", 0)
    return flags
