"""The options of a pipeline: their names, defaults and checks.

An invalid option raises a TypeError or ValueError that names it, before anything starts. Only options that
were given are kept, because a default counts too if it is given: `timeout=None` in a call removes the
pipeline's timeout.

Out of scope: classifying a stdin or stdout object (`streams.endpoints`).
"""

from __future__ import annotations

import math

from penstock.core.async_detection import is_async_source, plain
from penstock.core.constants import CAPTURE, DEVNULL, INHERIT, PIPE
from penstock.core.describe import describe
from penstock.core.env import check_layer
from penstock.core.habits import option_hint
from penstock.core.loaded import is_template
from penstock.core.paths import path
from penstock.core.placeholders import masked
from penstock.core.secret import checked_data, has_secret
from penstock.core.stream_options import check_stderr, check_stdin, check_stdout

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterable, Callable, Mapping
    from datetime import timedelta
    from typing import Any, Literal, TypedDict

    from penstock.core.events import Event
    from penstock.core.item import Placeholder
    from penstock.core.limits import Limits
    from penstock.core.secret import Secret
    from penstock.core.snapshot import Snapshot

    class Options(TypedDict, total=False):
        """The options that `Pipeline(...)`, `replace` and the methods that run it accept by name."""

        name: str | None
        cwd: str | bytes | os.PathLike[str] | Placeholder | None
        env: Mapping[str, str | Secret | Placeholder | Callable[[], str | None] | None] | None
        inherit_env: bool
        stdin: Any
        stdout: Any
        stderr: Any
        input: bytes | bytearray | memoryview | str | AsyncIterable[bytes] | None
        on_event: Callable[[Event], object] | None
        on_exception: Callable[[str, BaseException], BaseException | None] | None
        timeout: float | timedelta | None
        idle_timeout: float | timedelta | None
        grace: float | timedelta
        limits: Limits | None
        on_leftover: Literal["ignore", "report", "kill"]
        orphans: Literal["leave", "kill"]
        fail_fast: bool
        pipe_errors: str
        pipe_size: int | None
        max_output: int | str | None
        spool: int | str | None
        keep: str | bytes | os.PathLike[str] | None
        profile: bool
        progress: bool | Literal["tty", "plain"] | Callable[[Snapshot], object] | None


__all__ = [
    "DEFAULTS",
    "TEMPLATE",
    "Options",
    "check",
    "check_capture",
    "check_ends",
    "check_flag",
    "check_handler",
    "check_leftover",
    "check_limits",
    "check_seconds",
    "ends_stages",
]

TEMPLATE = "template"
"""A note among the checked options that one of them was given a placeholder, so that runs need not look."""

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
    "idle_timeout": None,
    "grace": 2.0,
    "limits": None,
    "on_leftover": "ignore",
    "orphans": "leave",
    "fail_fast": False,
    "pipe_errors": "forgive",
    "pipe_size": None,
    "max_output": None,
    "spool": None,
    "keep": None,
    "profile": False,
    "progress": None,
}


def check(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options checked and normalized: seconds as floats, paths as str, specials as `Special`.

    Raises TypeError or ValueError, naming the option.
    """
    checked = {}
    for option, value in given.items():
        checker = _CHECKERS.get(option)
        if checker is None:
            hint = option_hint(option) or f"; the options are {', '.join(DEFAULTS)}"
            raise TypeError(f"unknown option {masked(option)!r}{hint}")
        try:
            checked[option] = checker(option, value)
        except (TypeError, ValueError) as error:
            if has_secret(str(error)):
                error.args = (masked(str(error)),)
            raise
    if any(map(is_template, checked.values())):
        checked[TEMPLATE] = True
    if checked.get("input") is not None and checked.get("stdin", DEVNULL) is not DEVNULL:
        raise ValueError("input and stdin cannot be given together: both set what the first stage reads")
    return checked


def check_ends(options: Mapping[str, Any], method: str, forbidden: tuple[str, ...] = ()) -> None:
    """Refuse ends that `method` cannot honour: one that it sets itself, or a PIPE in a method that blocks."""
    start = "astart" if method.startswith("a") else "start"
    for option in forbidden:
        if option in options:
            raise TypeError(f"{method}() sets {option} itself; use {start}() to choose it")
    for option in ("stdin", "stdout"):
        if options.get(option) is PIPE and method != start:
            instead = "give input=" if option == "stdin" else "output() or stdout=CAPTURE keeps the bytes"
            raise ValueError(
                f"{option}=PIPE needs {start}(): {method}() blocks, so you could not use the pipe; {instead}"
            )


def check_capture(given: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Refuse a `max_output` that is given in a call whose stdout is not captured: it would limit nothing."""
    if given.get("max_output") is not None and options.get("stdout") is not CAPTURE:
        raise ValueError("max_output limits what is captured: use it with output(), text() or stdout=CAPTURE")


def check_flag(check: object) -> None:
    """Refuse data for stdin in the place of the argument `check` of a run, which would be ignored."""
    if not isinstance(check, bool):
        raise TypeError(
            f"check must be True or False, not {describe(check)}; data for stdin is given as input=..."
        )


def ends_stages(options: Mapping[str, Any]) -> bool:
    """Whether an option may end a stage, or replace its error, whatever its function is in the middle of."""
    return any(
        options.get(option) is not None for option in ("timeout", "idle_timeout", "on_exception")
    ) or bool(options.get("fail_fast"))


def _name(option: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{option} must be a str or None, not {value!r}")
    if value == "":
        raise ValueError(f"{option} must not be empty")
    return None if value is None else masked(value)


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


def _idle_timeout(option: str, value: object) -> float | None:
    seconds = _timeout(option, value)
    if seconds == 0:
        raise ValueError(f"{option} must be positive; use None for no limit")
    return seconds


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


def _bytes(option: str, value: object) -> int | None:
    if value is None:
        return None
    from penstock.core.sizes import parse_size  # noqa: PLC0415 - few runs have the option

    return parse_size(option, value)


def _spool(option: str, value: object) -> int | None:
    if isinstance(value, int) and value < 0:
        raise ValueError(f"{option} must be 0 or more bytes, not {value!r}")
    return 0 if value == 0 and not isinstance(value, bool) else _bytes(option, value)


def _keep(option: str, value: object) -> str | None:
    return None if value is None else path(option, value)


def _progress(option: str, value: object) -> object:
    if value is None or isinstance(value, bool):
        return value or None
    if not callable(value) and value not in ("tty", "plain"):
        raise TypeError(f"{option} must be True, False, 'tty', 'plain' or a callable, not {value!r}")
    return plain(option, value)


def _input(option: str, value: object) -> Any:
    if value is None or is_async_source(value):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return checked_data(option, bytes(value))
    if isinstance(value, str):
        try:
            data = value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{option} cannot be encoded as UTF-8: {error.reason}") from error
        return checked_data(option, data)
    raise TypeError(
        f"{option} must be bytes, str or an async iterable, not {type(value).__name__}; "
        "give an iterable or a file as stdin"
    )


_CHECKERS: dict[str, Callable[[str, Any], Any]] = {
    "name": _name,
    "cwd": _cwd,
    "env": _env,
    "inherit_env": _flag,
    "stdin": check_stdin,
    "stdout": check_stdout,
    "stderr": check_stderr,
    "input": _input,
    "on_event": check_handler,
    "on_exception": check_handler,
    "timeout": _timeout,
    "idle_timeout": _idle_timeout,
    "grace": check_seconds,
    "limits": check_limits,
    "on_leftover": check_leftover,
    "orphans": _orphans,
    "fail_fast": _flag,
    "pipe_errors": _pipe_errors,
    "pipe_size": _pipe_size,
    "max_output": _bytes,
    "spool": _spool,
    "keep": _keep,
    "profile": _flag,
    "progress": _progress,
}
