"""Checks of the options stdin, stdout and stderr: what each takes, before anything is opened.

Each checker returns the value, with specials as `Special`. TypeError or ValueError, naming the option, is
raised for a value that it cannot take. Out of scope: what becomes of a value (`engine`).
"""

from __future__ import annotations

import os

from penstock.core.async_detection import is_async_sink, plain
from penstock.core.constants import CAPTURE, DEVNULL, INHERIT, NEXT, PIPE, STDOUT, TEE, Special, closing
from penstock.core.file_targets import FileTarget
from penstock.core.habits import wrapped_hint
from penstock.core.loaded import is_template
from penstock.core.paths import path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["all_plain", "check_stderr", "check_stdin", "check_stdout", "is_plain"]

_PLAIN = (str, bytes, float, type(None))


def all_plain(options: Mapping[str, Any]) -> bool:
    """Return whether `is_plain` holds for each of them."""
    return all(is_plain(option, value) for option, value in options.items())


def is_plain(option: str, value: object) -> bool:
    """Return whether an option is no user's object, and needs no worker that nothing else reports.

    A worker may copy to or from a file descriptor that is given as a number. For stdin and stdout the ports
    report such a worker (`uses_thread`). Nothing reports those that pass stderr on, or show the progress.
    """
    if isinstance(value, Special):
        return value is not TEE
    if option == "progress":
        return value is None
    return isinstance(value, _PLAIN) or (isinstance(value, int) and option != "stderr")


def _end(option: str, value: object, specials: tuple[Special, ...]) -> object:
    """Check the values that stdin, stdout and stderr have in common."""
    if type(value) is Special and value in specials:
        return value
    thing = value.thing if isinstance(value, closing) else value
    hint = wrapped_hint(thing)
    if isinstance(thing, bool) or thing is None or hint:
        raise TypeError(f"{option} must not be {thing!r}{hint}")
    if not isinstance(thing, int):
        return value
    if thing < 0:
        if thing not in specials:
            name = Special(thing).name if thing in list(Special) else str(thing)
            hint = ": CAPTURE, the default, keeps it" if (option, thing) == ("stderr", PIPE) else ""
            raise ValueError(f"{option} cannot be {name}{hint}")
        return Special(thing)
    return value


def check_stdin(option: str, value: object) -> object:
    """Check the option `stdin` of a pipeline, and return it."""
    value = _end(option, value, (PIPE, DEVNULL, INHERIT))
    thing = value.thing if isinstance(value, closing) else value
    if is_template(thing):
        return value
    if _is_buffer(thing):
        raise TypeError(
            f"{option} cannot be {type(thing).__name__}: give data as input=, a path as str or PathLike"
        )
    if isinstance(thing, str | os.PathLike):
        path(option, thing)
    elif not isinstance(thing, int) and not any(
        not isinstance(thing, type) and hasattr(thing, method)
        for method in ("read", "readinto", "recv", "__iter__", "__aiter__", "write_to")
    ):
        raise TypeError(
            f"{option} must be a path, descriptor, socket, file, iterable, PIPE, DEVNULL or INHERIT, "
            f"not {thing!r}{_descriptor_hint(thing)}"
        )
    _refuse_messages(option, thing, "recv_bytes", "give an iterable of its recv_bytes()")
    return value


def _descriptor_hint(thing: object) -> str:
    """Return what to write for an object that has nothing but a descriptor."""
    return (
        ": give its fileno() if its bytes are those of its descriptor"
        if hasattr(thing, "fileno") and not isinstance(thing, type)
        else ""
    )


def _refuse_messages(option: str, thing: object, method: str, instead: str) -> None:
    """Refuse a connection of multiprocessing: it carries messages, with headers between the bytes."""
    if hasattr(thing, method) and not hasattr(thing, "read") and not hasattr(thing, "write"):
        raise TypeError(f"{option} carries messages, not a stream of bytes: {thing!r}; {instead}")


def _is_buffer(thing: object) -> bool:
    if hasattr(thing, "read"):  # an mmap is a buffer and a file
        return False
    try:
        memoryview(thing).release()  # type: ignore[arg-type] # this call finds out
    except TypeError:
        return False
    return True


def check_stdout(option: str, value: object) -> object:
    """Check the option `stdout` of a pipeline, and return it."""
    value = _end(option, value, (PIPE, DEVNULL, INHERIT, CAPTURE))
    if isinstance(value, FileTarget) or is_template(value):
        return value
    thing = value.thing if isinstance(value, closing) else value
    if isinstance(thing, str | os.PathLike):
        path(option, thing)
    elif not isinstance(thing, int) and not any(
        not isinstance(thing, type) and hasattr(thing, method)
        for method in ("write", "send", "send_all", "read_from")
    ):
        raise TypeError(
            f"{option} must be a path, descriptor, socket, object with write(), PIPE, DEVNULL, INHERIT or "
            f"CAPTURE, not {thing!r}{_descriptor_hint(thing)}"
        )
    _refuse_messages(option, thing, "send_bytes", "give an object whose write() calls its send_bytes()")
    return value


def check_stderr(option: str, value: object) -> object:
    """Check the option `stderr` of a pipeline or of a single command, and return it."""
    value = _end(option, value, (DEVNULL, INHERIT, CAPTURE, TEE, STDOUT, NEXT))
    if isinstance(value, FileTarget) or is_template(value):
        return value
    thing = value.thing if isinstance(value, closing) else value
    if isinstance(thing, str | os.PathLike):
        path(option, thing)
    elif not isinstance(thing, int) and not callable(thing) and not hasattr(thing, "write"):
        raise TypeError(
            f"{option} must be a path, descriptor, file, callable, DEVNULL, INHERIT, CAPTURE, TEE, STDOUT "
            f"or NEXT, not {thing!r}"
        )
    if is_async_sink(thing):
        raise TypeError(f"{option} cannot be an async stream: {thing!r}")
    if callable(thing):
        plain(option, thing)
    return value
