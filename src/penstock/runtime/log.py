"""What is told to the host's log: faults that end no run."""

from __future__ import annotations

import sys

__all__ = ["report"]


def report(message: str) -> None:
    """Log the exception at hand, in an except block. Raises nothing: the thread that says so has to go on."""
    try:
        import logging  # noqa: PLC0415 - for the day something goes wrong

        logging.getLogger("penstock").exception(message)  # noqa: LOG004 - called where there is one
    except Exception as error:  # noqa: BLE001 - no descriptor to load it with, or a handler of the host's that fails
        sys.excepthook(type(error), error, error.__traceback__)
