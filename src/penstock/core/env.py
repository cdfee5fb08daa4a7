"""The environment that a command gets, and the values in it that nobody else may see.

Strategy: layers are checked when the pipeline is made (`check_layer`), so that a mistake is found where it
was written, and laid over each other when the run starts (`merge`), which is when callables are called. Only
`merge` and whoever builds an argument vector reveal a `Secret`; everything that is printed goes through
`show`.

No message here ever contains a value, only the variable's name: a value may be a secret that was not marked
as one. What may not live here: reading `os.environ` (the caller gives the base).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    EnvValue: TypeAlias = "str | Secret | Callable[[], str | Secret | None] | None"

__all__ = ["Secret", "check_layer", "merge", "show"]

_HIDDEN: Final = "***"


class Secret:
    """A string that reaches the child and is shown as `***` everywhere else.

    Takes a str, else `TypeError`. Equal to another `Secret` of the same value. It can be pickled, and the
    pickle contains the value.

    >>> password = Secret("hunter2")
    >>> print(password, [password], f"{password:>5}", password.reveal())
    *** [***]   *** hunter2
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(f"Secret() takes a str, not {type(value).__name__}")
        self._value = value

    def reveal(self) -> str:
        """Return the value itself."""
        return self._value

    def __repr__(self) -> str:
        return _HIDDEN

    def __str__(self) -> str:
        return _HIDDEN

    def __format__(self, spec: str) -> str:
        return format(_HIDDEN, spec)

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._value,)


def show(arg: object) -> str:
    r"""Return a command's argument, or a value of its environment, as it may be shown: a `Secret` as `***`.

    Whatever cannot be encoded as UTF-8 is escaped, so that the text can be printed and logged.

    >>> show("plain"), show(b"caf\xe9"), show(Secret("hunter2"))
    ('plain', 'caf\\xe9', '***')
    """
    if isinstance(arg, Secret):
        return _HIDDEN
    if isinstance(arg, os.PathLike):
        arg = os.fspath(arg)
    if isinstance(arg, bytes):
        return arg.decode("utf-8", "backslashreplace")
    text = arg if isinstance(arg, str) else repr(arg)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def check_layer(option: str, layer: object) -> dict[str, EnvValue]:
    """Check a mapping that was given as `option` and return a copy of it; None is an empty layer.

    Raises `TypeError` (no mapping, a name that is not a str, a value that is not a str, `Secret`, None or a
    callable) or `ValueError` (a name that is empty or contains "=", NUL bytes, text that the file system's
    encoding cannot express), which name the option and the variable.
    """
    if layer is None:
        return {}
    if not isinstance(layer, Mapping):
        raise TypeError(f"{option} must be a mapping of names to values, not {type(layer).__name__}")
    checked: dict[str, Any] = {}
    for name, value in layer.items():
        if not isinstance(name, str):
            raise TypeError(f"{option}: the name of a variable must be a str, not {name!r}")
        if not name or "=" in name:
            raise ValueError(f"{option}: the name of a variable must not be empty or contain '=': {name!r}")
        _check_text(f"{option}: the name {name!r}", name)
        if isinstance(value, str | Secret):
            _check_text(f"{option}[{name!r}]", value)
        elif value is not None and not callable(value):
            raise TypeError(
                f"{option}[{name!r}] must be a str, Secret, None or a callable, not {type(value).__name__}"
            )
        checked[name] = value
    return checked


def merge(base: Mapping[str, str], *layers: Mapping[str, EnvValue]) -> dict[str, str]:
    """Lay `layers`, each checked by `check_layer`, over `base`, a later one over an earlier one.

    None unsets a variable. Callables are called now, in the calling thread and its contextvars context,
    except where a later layer hides them; what they raise passes through, with a note that names the
    variable. Secrets are revealed. Raises `TypeError` or `ValueError`, which name the variable, where a
    callable returns what is no value.
    """
    result = dict(base)
    combined: dict[str, EnvValue] = {}
    for layer in layers:
        combined.update(layer)
    for name, value in combined.items():
        text = _call(name, value) if callable(value) else value
        if text is None:
            result.pop(name, None)
        else:
            result[name] = text.reveal() if isinstance(text, Secret) else text
    return result


def _call(name: str, function: Callable[[], object]) -> str | Secret | None:
    try:
        value = function()
    except BaseException as error:
        error.add_note(f"while computing the environment variable {name!r}")
        raise
    if value is not None and not isinstance(value, str | Secret):
        raise TypeError(
            f"the callable of the environment variable {name!r} must return a str, Secret or None, "
            f"not {type(value).__name__}"
        )
    if value is not None:
        _check_text(f"environment variable {name!r}", value)
    return value


def _check_text(what: str, value: str | Secret) -> None:
    """Raise `ValueError`, which does not show the text, where the kernel could not be given it."""
    text = value.reveal() if isinstance(value, Secret) else value
    if "\0" in text:
        raise ValueError(f"{what} must not contain NUL bytes")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        # Not chained: that error holds the text.
        raise ValueError(f"{what} cannot be encoded for the operating system") from None
