"""The environment of a command, and the secret values in it.

Strategy: `check_layer` checks each layer when the pipeline is made, so that the traceback of a mistake shows
the line that made it. `merge` lays the layers over each other when the run starts, and calls the callables
then. Only `merge` and the code that builds an argument vector reveal a `Secret`; everything that is printed
goes through `show`.

No message contains a value, only the variable's name, because a value may be a secret that was not marked.

Out of scope: reading `os.environ`; the caller passes the base.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from penstock.core.public import exported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, TypeAlias

    EnvValue: TypeAlias = "str | Secret | Callable[[], str | Secret | None] | None"

__all__ = ["Secret", "check_layer", "merge", "show"]

_HIDDEN: Final = "***"


@exported
class Secret:
    """A string that reaches the child, and is shown as `***` everywhere else.

    Use it as an argument of `command` or as a value in `env`. Raises TypeError for anything but a str. Two
    secrets with the same value are equal. It can be pickled; the pickle contains the value in clear.

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
        """Return the value in clear."""
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
    r"""Return an argument or an environment value as it may be shown: a `Secret` as `***`.

    Characters that cannot be encoded as UTF-8 are escaped, so that the text can be printed and logged.

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
    """Check the mapping of the option `option` and return a copy of it; None is an empty layer.

    Raises TypeError if it is not a mapping, a name is not a str, or a value is not a str, `Secret`, None or
    callable. Raises ValueError for a name that is empty or contains "=", for NUL bytes, and for text that the
    file system's encoding cannot express. Both name the option and the variable.
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

    None unsets a variable. Secrets are revealed. Callables are called now, in the calling thread and its
    contextvars context, unless a later layer hides them. Their exceptions pass through, with a note that
    names the variable. Raises TypeError or ValueError, naming the variable, if a callable returns an invalid
    value.
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
    """Raise ValueError, which does not show the text, if the text cannot be passed to the kernel."""
    mistake = mistake_in(value.reveal() if isinstance(value, Secret) else value)
    # Not chained, and not raised where the text is in a local variable: error reporters show both.
    if mistake is not None:
        encoding = "cannot be encoded for the operating system"
        raise ValueError(f"{what} {'must not contain NUL bytes' if 'NUL' in mistake else encoding}")


def mistake_in(text: str | bytes) -> str | None:
    r"""Return what keeps a text from being passed to the kernel, without a part of it; None if nothing.

    >>> mistake_in("a\0b"), mistake_in("plain")
    ('contains a NUL byte', None)
    """
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError:
        return "cannot be encoded"
    return "contains a NUL byte" if b"\0" in encoded else None
