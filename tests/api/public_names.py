"""List every public name with its signature: `python -m tests.api.public_names` rewrites public_names.txt."""

from __future__ import annotations

import enum
import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = Path(__file__).with_suffix(".txt")
HEAD = """\
# Every public name with its signature and defaults, and each class with its public methods and attributes.
# tests/api/test_public_names.py compares this list with the package; `make public-names` writes it anew.

"""


def listing() -> str:
    """Return the text of the file as the package is now."""
    return HEAD + "".join(f"{line}\n" for name in sorted(penstock.__all__) for line in _lines(name))


def _lines(name: str) -> Iterator[str]:
    value = getattr(penstock, name)
    if isinstance(value, type) and issubclass(value, enum.Enum):
        yield f"enum {name}: {', '.join(member.name for member in value)}"
    elif isinstance(value, type):
        bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
        yield f"class {name}{_signature(value)}" + f" <- {bases}" * bool(bases)
        for member in sorted(_members(value)):
            yield f"    {_member(value, member)}"
    elif callable(value):
        yield f"{name}{_signature(value)}"
    else:
        yield f"{name}: {type(value).__name__}"


def _members(owner: type) -> set[str]:
    """Return the names that a class has from the package; what it has from the interpreter is left out."""
    names: set[str] = set()
    for base in owner.__mro__:
        if base.__module__.partition(".")[0] == "penstock":
            names |= {*vars(base), *inspect.get_annotations(base)}
    return {name for name in names if not name.startswith("_")}


def _member(owner: type, name: str) -> str:
    found = inspect.getattr_static(owner, name, None)
    if isinstance(found, property):
        returns = inspect.get_annotations(found.fget).get("return") if found.fget else None
        return f"{name}: {_annotation(returns)}" + " (settable)" * (found.fset is not None)
    if isinstance(found, staticmethod | classmethod):
        return f"{name}{_signature(getattr(owner, name))} ({type(found).__name__})"
    if inspect.isfunction(found):
        return ("async " if inspect.iscoroutinefunction(found) else "") + f"{name}{_signature(found)}"
    for base in owner.__mro__:
        if name in inspect.get_annotations(base):
            return f"{name}: {_annotation(inspect.get_annotations(base)[name])}"
    return name  # a slot, or a value without an annotation


def _signature(of: Any) -> str:
    try:
        signature = inspect.signature(of)
    except (TypeError, ValueError):
        return "(...)"
    words: list[str] = []
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    for place, parameter in enumerate(signature.parameters.values()):
        before = kinds[place - 1] if place else None
        if before is parameter.POSITIONAL_ONLY and parameter.kind is not parameter.POSITIONAL_ONLY:
            words.append("/")
        if parameter.kind is parameter.KEYWORD_ONLY and before not in (
            parameter.KEYWORD_ONLY,
            parameter.VAR_POSITIONAL,
        ):
            words.append("*")
        word = parameter.name
        if parameter.kind is parameter.VAR_POSITIONAL:
            word = f"*{word}"
        elif parameter.kind is parameter.VAR_KEYWORD:
            word = f"**{word}"
        if parameter.annotation is not parameter.empty:
            word += f": {_annotation(parameter.annotation)}"
        if parameter.default is not parameter.empty:
            word += f" = {_default(parameter.default)}"
        words.append(word)
    if kinds and kinds[-1] is inspect.Parameter.POSITIONAL_ONLY:
        words.append("/")
    returns = signature.return_annotation
    arrow = "" if returns is signature.empty or isinstance(of, type) else f" -> {_annotation(returns)}"
    return f"({', '.join(words)}){arrow}"


def _annotation(annotation: Any) -> str:
    """Return an annotation as it is written in the source, whatever the Python version."""
    if annotation is None:
        return "?"
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _default(value: Any) -> str:
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else re.sub(r" at 0x[0-9a-f]+", "", repr(value))


if __name__ == "__main__":
    FILE.write_text(listing(), encoding="utf-8")
    sys.stdout.write(f"wrote {FILE.name}\n")
