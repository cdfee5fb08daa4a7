"""Paths that are given as an option: str, bytes or PathLike.

Out of scope: looking at the file.
"""

from __future__ import annotations

import os

from penstock.core.loaded import is_template
from penstock.core.placeholders import masked
from penstock.core.secret import carried, has_secret, mistake_in, restored

__all__ = ["path"]


def path(option: str, value: object) -> str:
    """Return a path of any kind as a str; raise ValueError if no file can have it.

    Only the path of a `cwd` may have secrets in it, because errors and results show the others.
    """
    if not isinstance(value, str | bytes | os.PathLike):
        if is_template(value):
            return value  # type: ignore[return-value] # a path once it is bound, before anything runs
        raise TypeError(f"{option} must be a path (str, bytes or PathLike), not {value!r}")
    try:
        text = os.fsdecode(value)
    except TypeError as error:  # its `__fspath__` returns something else
        raise TypeError(f"{option} must be a path: {error}") from error
    if has_secret(text):
        return _secret_path(option, text)
    if not text or "\0" in text:
        raise ValueError(f"{option} must not be empty or contain a NUL byte: {text!r}")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise ValueError(f"{option} cannot be encoded for the file system: {text!r}") from None
    return text


def _secret_path(option: str, text: str) -> str:
    if option != "cwd":
        raise ValueError(f"{option} cannot be a path with a Secret in it; give the path of its reveal()")
    text = carried(option, text)
    mistake = mistake_in(text) or ("is empty" if not restored(text) else None)
    if mistake is not None:
        raise ValueError(f"{option} {mistake}: {masked(text)!r}")
    return text
