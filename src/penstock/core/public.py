"""Names and reprs of classes and functions as users see them.

The name is `penstock.Pipeline`, wherever the class is defined. The repr is one even of an object whose
constructor has raised: error reporters show the local variables of frames, and such an object is one of them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    _Thing = TypeVar("_Thing", bound=Any)

__all__ = ["exported", "half_made_too"]


def exported(thing: _Thing) -> _Thing:
    """Make `penstock` the module of a class or function that `penstock` hands out by its name.

    Tracebacks show that, and pickles name nothing else, so that they outlive a move of the definition. A
    class gets a repr that its half-made objects have too.
    """
    thing.__module__ = "penstock"
    made: Any = thing
    if hasattr(made, "__mro__") and hasattr(made.__repr__, "__code__"):
        made.__repr__ = half_made_too(made.__repr__)
    return thing


def half_made_too(show: Callable[[Any], str]) -> Callable[[Any], str]:
    """Make a `__repr__` say so if the object was not made completely, rather than raise AttributeError."""

    def __repr__(self: Any) -> str:  # noqa: N807 - it is one
        try:
            return show(self)
        except AttributeError:
            return f"<{type(self).__name__}, made only in part>"

    return __repr__
