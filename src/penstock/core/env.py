"""The environment of a command.

Strategy: `check_layer` checks each layer when the pipeline is made, so that the traceback of a mistake shows
the line that made it. `merge` lays the layers over each other when the run starts, calls the callables then,
and puts back the clear texts of secrets. Everything that is printed goes through `show`.

No message contains a value, only the variable's name, because a value may be a secret that was not marked.

Out of scope: reading `os.environ`; the caller passes the base.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from penstock.core.loaded import is_template
from penstock.core.placeholders import masked
from penstock.core.secret import Secret, carried, has_secret, mistake_in, restored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    EnvValue: TypeAlias = "str | Callable[[], str | None] | None"

__all__ = ["check_layer", "merge", "show"]


def show(arg: object) -> str:
    r"""Return an argument or an environment value as it may be shown: a secret in it as `***`.

    Characters that cannot be encoded as UTF-8 are escaped, so that the text can be printed and logged.

    >>> show("plain"), show(b"caf\xe9"), show(Secret("hunter2"))
    ('plain', 'caf\\xe9', '***')
    """
    if isinstance(arg, os.PathLike):
        arg = os.fspath(arg)
    if isinstance(arg, bytes):
        return masked(arg.decode("utf-8", "backslashreplace"))
    text = masked(arg if isinstance(arg, str) else repr(arg))
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def check_layer(option: str, layer: object, stage: str | None = None) -> dict[str, EnvValue]:
    """Check the mapping of the option `option` and return a copy of it; None is an empty layer.

    Raises TypeError if it is not a mapping, a name is not a str, or a value is not a str, `Secret`, None or
    callable. Raises ValueError for a name that is empty or contains "=", for NUL bytes, and for text that the
    file system's encoding cannot express, and if a placeholder of a secret is cut or unknown. All name the
    option and the variable, the last one also `stage`.
    """
    if layer is None:
        return {}
    if not isinstance(layer, Mapping):
        raise TypeError(f"{option} must be a mapping of names to values, not {type(layer).__name__}")
    checked: dict[str, Any] = {}
    for name, value in layer.items():
        if not isinstance(name, str) or isinstance(name, Secret):
            raise TypeError(f"{option}: the name of a variable must be a str, not {name!r}")
        if not name or "=" in name:
            raise ValueError(f"{option}: the name of a variable must not be empty or contain '=': {name!r}")
        if has_secret(name):
            raise ValueError(f"{option}: the name of a variable cannot have a Secret in it: {show(name)!r}")
        _check_text(f"{option}: the name {name!r}", name)
        if isinstance(value, str):
            checked[name] = _checked(f"{option}[{name!r}]", value, stage)
            continue
        if value is not None and not callable(value) and not is_template(value):
            raise TypeError(
                f"{option}[{name!r}] must be a str, Secret, None or a callable, not {type(value).__name__}"
            )
        checked[name] = value
    return checked


def merge(base: Mapping[str, str], *layers: Mapping[str, EnvValue]) -> dict[str, str]:
    """Lay `layers`, each checked by `check_layer`, over `base`, a later one over an earlier one.

    None unsets a variable. The clear texts of secrets are put back. Callables are called now, in the calling
    thread and its contextvars context, unless a later layer hides them. Their exceptions pass through, with a
    note that names the variable. Raises TypeError or ValueError, naming the variable, if a callable returns
    an invalid value.
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
            result[name] = restored(text)
    return result


def _call(name: str, function: Callable[[], object]) -> str | None:
    try:
        value = function()
    except BaseException as error:
        error.add_note(f"while computing the environment variable {name!r}")
        raise
    if value is not None and not isinstance(value, str):
        raise TypeError(
            f"the callable of the environment variable {name!r} must return a str, Secret or None, "
            f"not {type(value).__name__}"
        )
    return None if value is None else _checked(f"environment variable {name!r}", value)


def _checked(what: str, value: str, stage: str | None = None) -> str:
    """Return the value, as a `SecretText` if it has secrets in it, if it can be passed to the kernel."""
    value = carried(what if stage is None else f"stage {stage!r}: {what}", value)
    _check_text(what, value)
    return value


def _check_text(what: str, value: str) -> None:
    """Raise ValueError, which does not show the text, if the text cannot be passed to the kernel."""
    mistake = mistake_in(value)
    # Not chained, and not raised where the text is in a local variable: error reporters show both.
    if mistake is not None:
        encoding = "cannot be encoded for the operating system"
        raise ValueError(f"{what} {'must not contain NUL bytes' if 'NUL' in mistake else encoding}")
