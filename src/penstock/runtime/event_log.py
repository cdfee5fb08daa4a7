"""Write events to the logger `penstock`.

A record is emitted where handlers are called: in a worker thread, in a copy of the context of the caller that
started the run. So a filter that reads a context variable finds the caller's.

Out of scope: the faults of user code (`runtime.log`).
"""

from __future__ import annotations

import logging

from penstock.core.errors import text_of
from penstock.core.printable import printable
from penstock.core.texts import shell_word
from penstock.runtime.events import WARNINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from penstock.core.events import Event

__all__ = ["log_event", "shell_line_of"]

_logger = logging.getLogger("penstock")


def log_event(event: Event) -> None:
    """Log an event: a warning, or a record for debugging."""
    level = logging.WARNING if event.kind in WARNINGS else logging.DEBUG
    if _logger.isEnabledFor(level):
        _logger.log(level, "%s", _text(event), extra=_fields(event))


def shell_line_of(argv: tuple[str, ...]) -> str:
    """Return the line for a shell that runs a command, whose secrets are masked already."""
    return " ".join([shell_word(word, program=place == 0) for place, word in enumerate(argv)])


def _text(event: Event) -> str:
    """Return the name of the stage, what it did, and its line for a shell."""
    parts = [event.stage] if event.stage else [f"run {event.run_id}"]
    facts = [] if event.pid is None or event.kind != "start" else [f"pid {event.pid}"]
    if event.elapsed is not None:
        facts.append(f"{event.elapsed:.3f} s")
    parts.append(f"{event.message} ({', '.join(facts)})" if facts else event.message)
    if event.argv is not None:
        parts.append(shell_line_of(event.argv))
    return printable(": ".join(parts), keep="")


def _fields(event: Event) -> dict[str, Any]:
    """Return the fields for `extra`: plain values, which any formatter can write."""
    return {
        "penstock_event": event.kind,
        "penstock_run_id": event.run_id,
        "penstock_stage": event.stage,
        "penstock_stage_id": event.stage_id,
        "penstock_argv": None if event.argv is None else list(event.argv),
        "penstock_pid": event.pid,
        "penstock_returncode": event.returncode,
        "penstock_elapsed": event.elapsed,
        "penstock_error": None if event.error is None else text_of(event.error),
    }
