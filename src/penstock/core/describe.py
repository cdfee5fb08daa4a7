"""Show an object of the caller in an error message, whatever its `repr` does."""

from __future__ import annotations

from penstock.core.placeholders import masked

__all__ = ["describe"]

_MAX_CHARACTERS = 200


def describe(thing: object) -> str:
    """Return the repr of `thing`, cut to a line's length, or what Python itself would show if that raises."""
    try:
        text = masked(repr(thing))
    except Exception:  # noqa: BLE001 - user code, and the error that is being reported must not be lost
        text = object.__repr__(thing)
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 4]} ..."
