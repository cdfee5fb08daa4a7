"""`Secret`, and texts that have secrets in them.

A stage, an environment or `input=` keeps a text with placeholders as a `SecretText`, or `SecretBytes`. It
holds the entries of the table, and its pickle brings the clear texts along. `restored` puts these back; only
code that starts a child or feeds it calls that.

The clear text is never in a local variable of a frame that raises: error reporters show those.

Out of scope: the table (`placeholders`).
"""

from __future__ import annotations

import os

from penstock.core.placeholders import (
    HIDDEN,
    MARK,
    MARK_BYTES,
    clear_text,
    hold,
    holders_of,
    known_tokens_in,
    knows_any,
    masked,
    tokens_in,
)
from penstock.core.public import exported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, Self, TypeVar, overload

    from penstock.core.placeholders import Holder

    Text = TypeVar("Text", bound=str | bytes)

__all__ = [
    "Secret",
    "SecretBytes",
    "SecretText",
    "as_utf8",
    "carried",
    "checked_data",
    "has_secret",
    "mistake_in",
    "restored",
    "secrets_in_pickle",
    "without_secret",
]


_SMALL: Final = 1 << 20
_CANNOT_BE_ENCODED: Final = "cannot be encoded"


class SecretText(str):
    """A str with the placeholders of secrets."""

    __slots__ = ("_holders",)
    _holders: tuple[Holder, ...]

    def __repr__(self) -> str:
        return masked(str.__repr__(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_text, (str(self), _known(self))


class SecretBytes(bytes):
    """Bytes with the placeholders of secrets."""

    _holders: tuple[Holder, ...]

    def __repr__(self) -> str:
        return masked(bytes.__repr__(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_text, (bytes(self), _known(self))


@exported
class Secret(SecretText):
    """A str that stands for another one, which only the children of this process get.

    Its characters are a placeholder; `repr` shows it as `***`, and so does every text of Penstock. The clear
    text stands in a private table of the process. It is put back when a child is started, in arguments,
    `env`, `cwd` and `input`, and by `echo`; also out of a text that was made with an f-string, `+`, `%`,
    `join` or `json.dumps`. All others get the placeholder: logs, other libraries, and Python stages from
    each other. `reveal()` returns the clear text, and is the only way to it.

    - A placeholder that was cut or changed (`secret[:4]`, `secret.upper()`), or that this process does not
      know, is a ValueError of the stage. A piece of up to 33 characters that has no mark may pass unnoticed.
    - The clear text is put in as it is. Functions that quote for JSON, a URL or SQL see the placeholder, and
      so do `len`, hashes and base64. Work on `reveal()`, and make a Secret of the outcome. `shlex.quote` puts
      single quotes around it, which hold unless there is one in the clear text; better give a shell script
      the secret in `env`, or as an argument after the script.
    - Equal secrets are equal and hash alike. None equals its clear text: compare with `reveal()`.
    - The pickle of a Secret, or of a stage or pipeline that has one, holds the clear text; that of a str does
      not.
    - The table keeps a clear text as long as a Secret, or a stage or pipeline that has it, lives, and the
      latest 65,536 in any case. So keep the Secret if a text made of it is used much later.
    - The child is free to show it: its stderr, which errors quote, is not masked, and its arguments are for
      all users of the machine to see. `env` and `input` are not.

    Raises TypeError for anything but a str, and ValueError for a cut or unknown placeholder in it.

    >>> from penstock import command
    >>> password = Secret("hunter2")
    >>> stage = command("printf", "%s", f"password={password}")
    >>> password, stage, stage.output()
    (***, command('printf', '%s', 'password=***'), b'password=hunter2')
    """

    __slots__ = ()

    def __new__(cls, value: str = "") -> Self:
        """Make a secret of its clear text, which may have other secrets in it."""
        kind = type(value)
        if not isinstance(value, str):
            del value  # error reporters show local variables
            hint = "; decode it first" if issubclass(kind, bytes | bytearray) else ""
            raise TypeError(f"Secret() takes a str, not {kind.__name__}{hint}")
        try:
            made: Self = _made(cls, hold(restored(carried("the text of a Secret", value))))
        except ValueError as error:
            mistake = str(error)
            del value
        else:
            return made
        raise ValueError(mistake)

    def reveal(self) -> str:
        """Return the clear text."""
        return restored(self)

    def __repr__(self) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Secret):
            return str.__eq__(self, other) or self.reveal() == other.reveal()
        return False if isinstance(other, str) else NotImplemented

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    def __hash__(self) -> int:
        return hash((Secret, self.reveal()))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_secret, (type(self), str(self), self.reveal())


def _made(cls: type[Any], holder: Holder) -> Any:
    secret = str.__new__(cls, holder.token)
    secret._holders = (holder,)  # noqa: SLF001 - this is its constructor
    return secret


def has_secret(text: str | bytes) -> bool:
    """Whether a text has placeholders in it, whole ones or not.

    The search takes 0.5 ms for a MiB, as long as a pipe takes to carry it. So a process that has never made a
    secret looks for nothing in large data.
    """
    if isinstance(text, bytes):
        return (len(text) <= _SMALL or knows_any()) and MARK_BYTES in text
    return MARK in text


if TYPE_CHECKING:

    @overload
    def carried(what: str, text: str) -> str: ...
    @overload
    def carried(what: str, text: bytes) -> bytes: ...


def carried(what: str, text: str | bytes) -> str | bytes:
    """Return the text, as a `SecretText` or `SecretBytes` if it has placeholders in it.

    Raises ValueError, naming `what`, if one is cut, changed or unknown.
    """
    if not has_secret(text) or isinstance(text, SecretText | SecretBytes):
        return text
    holders, mistake = holders_of(_parts(text))
    if mistake is not None:
        raise ValueError(f"{what} {mistake}")
    carrier: Any = SecretBytes(text) if isinstance(text, bytes) else SecretText(text)
    carrier._holders = holders  # noqa: SLF001 - this is its constructor
    return carrier  # type: ignore[no-any-return] # see above


def restored(text: Text, encode: Callable[[str], bytes] = os.fsencode) -> Text:
    """Return the text with the clear texts of its secrets. `encode` is how they get into bytes.

    The text must have come through `carried`, because the placeholders in any other str or bytes stay.
    """
    if isinstance(text, SecretText):
        return _joined(text.split(MARK), _clear_texts(text))  # type: ignore[no-any-return] # of its type
    if isinstance(text, SecretBytes):
        clear = [encode(clear) for clear in _clear_texts(text)]
        return _joined(text.split(MARK_BYTES), clear)  # type: ignore[no-any-return] # as above
    return text


def _joined(beside: list[Any], clear: list[Any]) -> Any:
    """Put the clear texts between those parts of a split text that stand beside its placeholders."""
    pieces: list[Any] = [None] * (2 * len(clear) + 1)
    pieces[::2] = beside[::3]
    pieces[1::2] = clear
    return beside[0][:0].join(pieces)


def _clear_texts(text: str | bytes) -> list[str]:
    """Return the clear texts of all placeholders in a text, whose holders keep them in the table."""
    return [clear_text(token) or "" for token in tokens_in(_parts(text))]


def _parts(text: str | bytes) -> list[str]:
    if isinstance(text, bytes):
        return [part.decode("latin-1") for part in text.split(MARK_BYTES)]
    return text.split(MARK)


def _known(text: SecretText | SecretBytes) -> dict[str, str]:
    return dict(zip(tokens_in(_parts(text)), _clear_texts(text), strict=True))


def secrets_in_pickle(data: bytes) -> dict[str, str]:
    """Return the clear texts, by placeholder, of the known secrets in a pickle, which has them literally."""
    if MARK_BYTES not in data:
        return {}
    found = [(token, clear_text(token)) for token in known_tokens_in(_parts(data))]
    return {token: text for token, text in found if text is not None}


def without_secret(error: OSError, path: str) -> OSError:
    """Return an error about a path, which has `***` in it if that is a `SecretText`."""
    if not isinstance(path, SecretText) or restored(path) not in str(error):
        return error
    return type(error)(error.errno, os.strerror(error.errno or 0), masked(path))


def checked_data(option: str, data: bytes) -> bytes:
    """Return data for a stage, as `SecretBytes` if it has secrets in it."""
    data = carried(option, data)
    if isinstance(data, SecretBytes) and mistake_in(data, as_utf8) == _CANNOT_BE_ENCODED:
        raise ValueError(f"{option} has a Secret in it that cannot be encoded as UTF-8")
    return data


@exported
def _restore_text(text: str | bytes, known: dict[str, str]) -> str | bytes:
    kept = [hold(clear, token) for token, clear in known.items()]
    carrier = carried("a pickled text", text)
    del kept  # the carrier has holders of its own now
    return carrier


@exported
def _restore_secret(cls: type[Secret], token: str, text: str) -> Secret:
    made: Secret = _made(cls, hold(text, token))
    return made


def as_utf8(text: str) -> bytes:
    """Encode a clear text for data. Bytes that Python has decoded with surrogates become bytes again."""
    return text.encode("utf-8", "surrogateescape")


def mistake_in(text: str | bytes, encode: Callable[[str], bytes] = os.fsencode) -> str | None:
    r"""Return what keeps a text, with its secrets put back, from being passed to the kernel; None if nothing.

    >>> mistake_in("a\0b"), mistake_in("plain")
    ('contains a NUL byte', None)
    """
    try:
        clear = restored(text, encode)
        encoded = clear if isinstance(clear, bytes) else encode(clear)
    except UnicodeEncodeError:
        return _CANNOT_BE_ENCODED
    return "contains a NUL byte" if b"\0" in encoded else None
