"""The options of a pipeline: their names, defaults and checks.

An invalid option raises a TypeError or ValueError that names it, before anything starts. Only options that
were given are kept, because a default counts too if it is given: `timeout=None` in a call removes the
pipeline's timeout.

Out of scope: classifying a stdin or stdout object (`streams.endpoints`).
"""

from __future__ import annotations

import math
import os

from penstock.core.async_detection import is_async_sink, is_async_source, plain
from penstock.core.constants import CAPTURE, DEVNULL, INHERIT, NEXT, PIPE, STDOUT, TEE, Special, closing
from penstock.core.env import check_layer
from penstock.core.file_targets import FileTarget

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Mapping
    from datetime import timedelta
    from typing import Any, Literal, TypedDict

    from penstock.core.env import Secret
    from penstock.core.events import Event
    from penstock.core.limits import Limits

    class Options(TypedDict, total=False):
        """The options that `Pipeline(...)`, `replace` and the methods that run it accept by name."""

        name: str | None
        cwd: str | bytes | os.PathLike[str] | None
        env: Mapping[str, str | Secret | Callable[[], str | None] | None] | None
        inherit_env: bool
        stdin: Any
        stdout: Any
        stderr: Any
        input: bytes | bytearray | memoryview | str | AsyncIterable[bytes] | None
        on_event: Callable[[Event], object] | None
        on_exception: Callable[[str, BaseException], BaseException | None] | None
        timeout: float | timedelta | None
        grace: float | timedelta
        limits: Limits | None
        on_leftover: Literal["ignore", "report", "kill"]
        orphans: Literal["leave", "kill"]
        fail_fast: bool
        pipe_errors: str
        pipe_size: int | None


__all__ = [
    "DEFAULTS",
    "Options",
    "all_plain",
    "check",
    "check_ends",
    "check_handler",
    "check_leftover",
    "check_limits",
    "check_seconds",
    "check_stderr",
    "check_stdout",
    "is_plain",
]


_PLAIN = (str, bytes, float, type(None))

DEFAULTS: dict[str, Any] = {
    "name": None,
    "cwd": None,
    "env": None,
    "inherit_env": True,
    "stdin": DEVNULL,
    "stdout": INHERIT,
    "stderr": CAPTURE,
    "input": None,
    "on_event": None,
    "on_exception": None,
    "timeout": None,
    "grace": 2.0,
    "limits": None,
    "on_leftover": "ignore",
    "orphans": "leave",
    "fail_fast": False,
    "pipe_errors": "forgive",
    "pipe_size": None,
}


def check(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options checked and normalized: seconds as floats, paths as str, specials as `Special`.

    Raises TypeError or ValueError, naming the option.
    """
    checked = {}
    for option, value in given.items():
        checker = _CHECKERS.get(option)
        if checker is None:
            raise TypeError(f"unknown option {option!r}; the options are {', '.join(DEFAULTS)}")
        checked[option] = checker(option, value)
    if checked.get("input") is not None and checked.get("stdin", DEVNULL) is not DEVNULL:
        raise ValueError("input and stdin cannot be given together: both set what the first stage reads")
    return checked


def all_plain(options: Mapping[str, Any]) -> bool:
    """Return whether `is_plain` holds for each of them."""
    return all(is_plain(option, value) for option, value in options.items())


def is_plain(option: str, value: object) -> bool:
    """Return whether an option is no user's object, and needs no worker that nothing else reports.

    A worker may copy to or from a file descriptor that is given as a number. For stdin and stdout the ports
    report such a worker (`uses_thread`). Nothing reports those that pass stderr on.
    """
    if isinstance(value, Special):
        return value is not TEE
    return isinstance(value, _PLAIN) or (isinstance(value, int) and option != "stderr")


def check_ends(options: Mapping[str, Any], method: str, forbidden: tuple[str, ...] = ()) -> None:
    """Refuse ends that `method` cannot honour: one that it sets itself, or a PIPE in a method that blocks."""
    start = "astart" if method.startswith("a") else "start"
    for option in forbidden:
        if option in options:
            raise TypeError(f"{method}() sets {option} itself; use {start}() to choose it")
    for option in ("stdin", "stdout"):
        if options.get(option) is PIPE and method != start:
            raise ValueError(
                f"{option}=PIPE needs {start}(): {method}() blocks, so you could not use the pipe"
            )


def _name(option: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{option} must be a str or None, not {value!r}")
    if value == "":
        raise ValueError(f"{option} must not be empty")
    return value


def path(option: str, value: object) -> str:
    """Return a path of any kind as a str; raise ValueError if no file can have it."""
    if not isinstance(value, str | bytes | os.PathLike):
        raise TypeError(f"{option} must be a path (str, bytes or PathLike), not {value!r}")
    try:
        text = os.fsdecode(value)
    except TypeError as error:  # its `__fspath__` returns something else
        raise TypeError(f"{option} must be a path: {error}") from error
    if not text or "\0" in text:
        raise ValueError(f"{option} must not be empty or contain a NUL byte: {text!r}")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise ValueError(f"{option} cannot be encoded for the file system: {text!r}") from None
    return text


def _cwd(option: str, value: object) -> str | None:
    return None if value is None else path(option, value)


def _env(option: str, value: object) -> dict[str, Any] | None:
    return None if value is None else check_layer(option, value)


def _flag(option: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{option} must be True or False, not {value!r}")
    return value


def check_handler(option: str, value: object) -> object:
    """Return a plain callable or None; raise TypeError for anything else."""
    if value is not None and not callable(value):
        raise TypeError(f"{option} must be callable or None, not {value!r}")
    return plain(option, value)


def check_seconds(option: str, value: object) -> float:
    """Return seconds or a timedelta as a float; raise ValueError if it is negative or not a number."""
    total_seconds = getattr(value, "total_seconds", None)  # a timedelta, without importing datetime
    if callable(total_seconds):
        value = total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{option} must be seconds or a timedelta, not {value!r}")
    try:
        seconds = float(value)
    except OverflowError:
        raise ValueError(f"{option} is too large; use None for no limit") from None
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"{option} must not be negative: {value!r}")
    return seconds


def _timeout(option: str, value: object) -> float | None:
    if value is None:
        return None
    seconds = check_seconds(option, value)
    return None if math.isinf(seconds) else seconds


def check_limits(option: str, value: object) -> Limits | None:
    """Return a `Limits` or None; raise TypeError for anything else."""
    if value is None:
        return None
    from penstock.core.limits import Limits  # noqa: PLC0415 - dataclasses are slow to import

    if not isinstance(value, Limits):
        raise TypeError(f"{option} must be a Limits or None, not {value!r}")
    return value


def check_leftover(option: str, value: object) -> str:
    """Return the action for processes that a command leaves behind."""
    if value not in ("ignore", "report", "kill"):
        raise ValueError(f"{option} must be 'ignore', 'report' or 'kill', not {value!r}")
    return str(value)


def _orphans(option: str, value: object) -> str:
    if value not in ("leave", "kill"):
        raise ValueError(f"{option} must be 'leave' or 'kill', not {value!r}")
    return str(value)


def _pipe_errors(option: str, value: object) -> str:
    if value not in ("forgive", "report"):
        raise ValueError(f"{option} must be 'forgive' or 'report', not {value!r}")
    return str(value)


def _pipe_size(option: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{option} must be a number of bytes or None, not {value!r}")
    if value <= 0:
        raise ValueError(f"{option} must be positive: {value}")
    return value


def _input(option: str, value: object) -> Any:
    if value is None or isinstance(value, bytes) or is_async_source(value):
        return value
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{option} cannot be encoded as UTF-8: {error.reason}") from error
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise TypeError(
        f"{option} must be bytes, str or an async iterable, not {type(value).__name__}; "
        "give an iterable or a file as stdin"
    )


def _end(option: str, value: object, specials: tuple[Special, ...]) -> object:
    """Check the values that stdin, stdout and stderr have in common."""
    if type(value) is Special and value in specials:
        return value
    thing = value.thing if isinstance(value, closing) else value
    if isinstance(thing, bool) or thing is None:
        raise TypeError(f"{option} must not be {thing!r}")
    if not isinstance(thing, int):
        return value
    if thing < 0:
        if thing not in specials:
            name = Special(thing).name if thing in list(Special) else str(thing)
            raise ValueError(f"{option} cannot be {name}")
        return Special(thing)
    return value


def _stdin(option: str, value: object) -> object:
    value = _end(option, value, (PIPE, DEVNULL, INHERIT))
    thing = value.thing if isinstance(value, closing) else value
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
    if isinstance(value, FileTarget):
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
    if isinstance(value, FileTarget):
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


_CHECKERS: dict[str, Callable[[str, Any], Any]] = {
    "name": _name,
    "cwd": _cwd,
    "env": _env,
    "inherit_env": _flag,
    "stdin": _stdin,
    "stdout": check_stdout,
    "stderr": check_stderr,
    "input": _input,
    "on_event": check_handler,
    "on_exception": check_handler,
    "timeout": _timeout,
    "grace": check_seconds,
    "limits": check_limits,
    "on_leftover": check_leftover,
    "orphans": _orphans,
    "fail_fast": _flag,
    "pipe_errors": _pipe_errors,
    "pipe_size": _pipe_size,
}
