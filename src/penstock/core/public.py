"""Names of classes and functions as users see them: `penstock.Pipeline`, wherever the class is defined."""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = ["exported"]

_Thing = TypeVar("_Thing", bound=Any)


def exported(thing: _Thing) -> _Thing:
    """Make `penstock` the module of a class or function that `penstock` hands out by its name.

    Tracebacks show that, and pickles name nothing else, so that they outlive a move of the definition.
    """
    thing.__module__ = "penstock"
    return thing
