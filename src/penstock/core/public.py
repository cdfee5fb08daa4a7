"""Names of classes and functions as users see them: `penstock.Pipeline`, wherever the class is defined."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    _Thing = TypeVar("_Thing", bound=Any)

__all__ = ["exported"]


def exported(thing: _Thing) -> _Thing:
    """Make `penstock` the module of a class or function that `penstock` hands out by its name.

    Tracebacks show that, and pickles name nothing else, so that they outlive a move of the definition.
    """
    thing.__module__ = "penstock"
    return thing
