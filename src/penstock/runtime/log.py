"""Report to the host's log the faults that end no run."""

from __future__ import annotations

import sys

__all__ = ["report"]


def report(message: str) -> None:
    """Log the exception that is being handled. Raise nothing, because the calling thread has to go on."""
    try:
        import logging  # noqa: PLC0415 - only needed when something goes wrong

        logging.getLogger("penstock").exception(message)  # noqa: LOG004 - called in an `except`
    except Exception as error:  # noqa: BLE001 - no descriptor left to import it, or a failing handler
        sys.excepthook(type(error), error, error.__traceback__)
