"""Report to the host's log the faults that end no run."""

from __future__ import annotations

import sys

from penstock.core.placeholders import masked

__all__ = ["report"]


def report(message: str, error: BaseException | None = None) -> None:
    """Log `error`, or the exception that is being handled.

    Raise nothing, because the calling thread has to go on.
    """
    try:
        import logging  # noqa: PLC0415 - only needed when something goes wrong

        logging.getLogger("penstock").error(masked(message), exc_info=error or True)
    except Exception as failed:  # noqa: BLE001 - no descriptor left to import it, or a failing handler
        sys.excepthook(type(failed), failed, failed.__traceback__)
