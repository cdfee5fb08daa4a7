"""Classes of modules that are not imported for them: an object can be of one only if its module is there."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["is_exactly", "is_template", "loaded"]


def loaded(module: str, name: str) -> Any:
    """Return an attribute of a module that was imported; None if it was not.

    Another thread may be importing it just now. Then it is there without most of its attributes, and there is
    no object of its classes yet.
    """
    return getattr(sys.modules.get(module), name, None)


def is_exactly(value: object, module: str, name: str) -> bool:
    """Return whether a class of that module is the type of `value`."""
    found = loaded(module, name)
    return found is not None and type(value) is found


def is_template(value: object) -> bool:
    """Whether a value is `penstock.item`, or has it in it; see `core.item`."""
    find = loaded("penstock.core.item", "is_template")
    return find is not None and find(value)
