"""Tell which functions and objects of the caller need an event loop.

The flags of a function's code decide, as in `inspect`, which is slow to import. Wrappers are looked through:
`partial`, methods, objects with `__call__`. A function that merely returns an awaitable cannot be told from
any other, so it counts as a plain function.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "is_async_generator",
    "is_async_sink",
    "is_async_source",
    "is_coroutine_function",
    "is_generator_function",
    "plain",
]

_COROUTINE = 0x80
_ASYNC_GENERATOR = 0x200  # inspect.CO_COROUTINE and inspect.CO_ASYNC_GENERATOR
_GENERATOR = 0x20  # inspect.CO_GENERATOR


def is_coroutine_function(fn: Any) -> bool:
    """Return whether it is an `async def` without `yield`."""
    return bool(_flags(fn) & _COROUTINE)


def is_async_generator(fn: Any) -> bool:
    """Return whether it is an `async def` with `yield`."""
    return bool(_flags(fn) & _ASYNC_GENERATOR)


def is_generator_function(fn: Any) -> bool:
    """Return whether it is a plain `def` with `yield`: a call of it runs nothing."""
    return bool(_flags(fn) & _GENERATOR)


def is_async_source(thing: Any) -> bool:
    """Return whether only a task can read bytes from it.

    Such sources are an asyncio `StreamReader`, an anyio or trio receive stream, and other async iterables.
    """
    if isinstance(thing, type):
        return False
    iterable = hasattr(thing, "__aiter__") and not hasattr(thing, "__iter__")
    return iterable or is_coroutine_function(getattr(thing, "read", None))


def is_async_sink(thing: Any) -> bool:
    """Return whether only a task can write bytes to it.

    Such sinks are an asyncio `StreamWriter`, an anyio or trio send stream, and objects with an async `write`.
    """
    methods = ("drain", "send", "send_all", "write")
    return not isinstance(thing, type) and any(
        is_coroutine_function(getattr(thing, method, None)) for method in methods
    )


def plain(what: str, fn: Any) -> Any:
    """Return `fn`; raise TypeError, naming `what`, if it is async, because no event loop would run it."""
    if is_coroutine_function(fn) or is_async_generator(fn):
        raise TypeError(f"{what} must be a plain function, not an async one: {fn!r}")
    return fn


def _flags(fn: Any) -> int:
    while hasattr(fn, "func"):
        fn = fn.func
    code = getattr(getattr(fn, "__func__", fn), "__code__", None)
    if code is None and fn is not None and not isinstance(fn, type):
        code = getattr(getattr(type(fn), "__call__", None), "__code__", None)  # noqa: B004 - we need its code
    flags: int = getattr(code, "co_flags", 0)
    return flags
