"""The function that does nothing."""

from __future__ import annotations

__all__ = ["noop"]


def noop(*_arguments: object) -> None:
    """Do nothing, where a function has to be given."""
