"""The parameters of a map, checked. A mistake is a TypeError or ValueError that names the parameter."""

from __future__ import annotations

from penstock.core.describe import describe
from penstock.core.item import Placeholder, parse_template
from penstock.core.matchers import check_matcher
from penstock.core.options import check, check_seconds
from penstock.core.paths import path
from penstock.system.processors import usable_processors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from typing import Any, Literal, TypeAlias, TypedDict

    from penstock.core.limits import Limits
    from penstock.core.matchers import Matcher

    Halt: TypeAlias = Literal["soon", "now", "never"]
    Collect: TypeAlias = Literal["bytes", "text"]

    class MapOptions(TypedDict, total=False):
        """The parameters of `Pipeline.map` and `map_runs`."""

        output: Any
        workers: int | None
        ordered: bool
        retries: int
        retry_if: Matcher | None
        backoff: float | timedelta
        timeout: float | timedelta | None
        halt: Halt
        max_failures: float
        collect: Collect | None
        limits: Limits | None
        check: bool


__all__ = ["MapOptions", "MapSettings"]


class MapSettings:
    """The checked parameters."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        get = given.get
        self.output = _output(get("output"))
        """The parts of its template; None for no output."""
        self.workers = _count("workers", get("workers"), 1, usable_processors())
        self.ordered = _flag("ordered", get("ordered", False))
        self.retries = _count("retries", get("retries", 0), 0, 0)
        self.retry_if: Matcher | None = get("retry_if")
        if self.retry_if is not None:
            check_matcher("retry_if", self.retry_if)
        self.backoff = check_seconds("backoff", get("backoff", 1.0))
        self.halt = _one_of("halt", get("halt", "soon"), ("soon", "now", "never"))
        self.max_failures = _max_failures(get("max_failures", 1))
        self.collect = _one_of("collect", get("collect"), (None, "bytes", "text"))
        self.check = _flag("check", get("check", True))
        if self.collect is not None and self.output is not None:
            raise ValueError("collect and output cannot be given together: both say where stdout goes")
        limiting = {name: given[name] for name in ("timeout", "limits") if get(name) is not None}
        self.run_options = check(limiting)
        """The options of each run that it sets."""


def _output(output: object) -> list[str | Placeholder] | None:
    if output is None:
        return None
    if isinstance(output, Placeholder):
        return [output]
    return parse_template(path("output", output))


def _count(name: str, value: object, least: int, default: int) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a number, not {describe(value)}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {describe(value)}")
    return value


def _one_of(name: str, value: Any, known: tuple[Any, ...]) -> Any:
    if value not in known:
        raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, not {describe(value)}")
    return value


def _max_failures(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"max_failures must be a number of jobs, or a fraction, not {describe(value)}")
    if isinstance(value, int):
        return _count("max_failures", value, 1, 1)
    if not 0 < value < 1:
        raise ValueError(f"max_failures must be an int, or a fraction between 0 and 1, not {value}")
    return value
