r"""The placeholders of secrets, and the private table that knows their clear texts.

A placeholder begins and ends with `MARK`, and has one in the middle:

    _~48173-.Penstock_SECRET_2711...9035_~48173-.8163...4402_~48173-.

It is plain ASCII without quotes, blanks or anything that JSON or a URL would escape. The tilde makes
`shlex.quote` put quotes around it, which then stand around the clear text. The mark has no letters, so one
search for it finds placeholders that were cut or whose letters were changed too; texts without a secret pay
only for this search. The 39 digits are random: nobody guesses them.

The table keeps an entry as long as a `Holder` of it lives (each `Secret` has one, and each stage or option
that has the placeholder in a text). It keeps the latest 65,536 entries, up to 16 million characters, in any
case, because a placeholder may stand in a str that holds nothing. So the table of a process that makes a new
secret for each request stays at 30 MB (460 bytes an entry). "Latest" means made, or met in a text. Equal
clear texts share a placeholder.

Concurrency: `_lock` guards each change of the table. It is reentrant, because a signal handler or a finalizer
may make a secret at any moment, and a forked copy of the process gets a new one. Reading takes no lock: one
look-up in a dict. Nothing here waits for anything.

Out of scope: I/O, and the decision where the clear text goes.
"""

from __future__ import annotations

import os
from _thread import RLock
from _weakref import ref
from collections import OrderedDict

from penstock.core import fork_resets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

__all__ = [
    "HIDDEN",
    "MARK",
    "MARK_BYTES",
    "Holder",
    "clear_text",
    "hold",
    "holders_of",
    "known_tokens_in",
    "knows_any",
    "masked",
    "tokens_in",
]

MARK: Final = "_~48173-."
MARK_BYTES: Final = MARK.encode()
HIDDEN: Final = "***"
_WORD: Final = "Penstock_SECRET_"
"""With letters of both cases, so that each change of case shows."""
_FIRST_DIGITS: Final = 19
_MORE_DIGITS: Final = 20
_KEPT: Final = 65_536
"""Entries without a holder that are kept."""
_KEPT_CHARACTERS: Final = 1 << 24
"""The most characters of the clear texts of all entries, if some of these have no holder."""
_LOOKS: Final = 16
"""How many of the oldest entries are looked at when one is added to a full table."""

_CUT: Final = (
    "holds a part of the placeholder of a Secret, or one that was changed: a Secret can be put into a text, "
    "but not cut or changed; work on its reveal(), and make a Secret of the outcome"
)
_UNKNOWN: Final = (
    "holds the placeholder of a Secret that this process does not know: pickle the Secret, or the stage that "
    "has it, rather than the text; and keep the Secret as long as its text is used"
)


class Holder:
    """Keeps an entry of the table as long as it lives."""

    __slots__ = ("__weakref__", "token")

    def __init__(self, token: str) -> None:
        self.token = token
        """The placeholder."""


class _Entry:
    __slots__ = ("holder", "text")

    def __init__(self, text: str, holder: Holder) -> None:
        self.text = text
        self.holder: ref[Holder] = ref(holder)

    def __repr__(self) -> str:
        return "<the clear text of a Secret>"  # error reporters show global variables too


_entries: OrderedDict[str, _Entry] = OrderedDict()
"""By placeholder; the one that was met last at the end."""
_tokens: dict[str, str] = {}
"""The placeholders by clear text."""
_characters = 0
"""The length of all clear texts together."""
_lock: Any = RLock()


def hold(text: str, token: str | None = None) -> Holder:
    """Return a holder of the entry of a clear text, a new one if there is none yet.

    `token` is its placeholder if another process has made it.
    """
    with _lock:
        token = token or _tokens.get(text) or _new_token()
        holder = hold_known(token)
        if holder is None:
            holder = Holder(token)
            _tokens.setdefault(text, token)
            _add(_Entry(text, holder), token)
        return holder


def hold_known(token: str) -> Holder | None:
    """Return a holder of the entry of a placeholder; None if it is unknown."""
    with _lock:
        entry = _entries.get(token)
        if entry is None:
            return None
        holder = entry.holder()
        if holder is None:
            holder = Holder(token)
            entry.holder = ref(holder)
        _entries.move_to_end(token)
        return holder


def knows_any() -> bool:
    """Whether there is any entry."""
    return bool(_entries)


def clear_text(token: str) -> str | None:
    """Return the clear text of a placeholder; None if it is unknown."""
    entry = _entries.get(token)
    return None if entry is None else entry.text


def tokens_in(parts: list[str]) -> list[str]:
    """Return the placeholders in a text that was split at `MARK` and has only whole ones, in their order."""
    return [_token(parts, place) for place in range(1, len(parts) - 2, 3)]


def known_tokens_in(parts: list[str]) -> list[str]:
    """Return the known placeholders in a text that was split at `MARK`, whatever else is in it."""
    return [token for place in range(1, len(parts) - 2) if (token := _token(parts, place)) in _entries]


def holders_of(parts: list[str]) -> tuple[tuple[Holder, ...], str | None]:
    """Return holders of the placeholders in a text that was split at `MARK`, and what is wrong with them."""
    holders = [hold_known(token) for token in tokens_in(parts)]
    found = tuple([holder for holder in dict.fromkeys(holders) if holder is not None])
    if None not in holders and len(parts) == 3 * len(holders) + 1:
        return found, None
    whole = [place for place in range(1, len(parts) - 2) if _is_whole(parts, place)]
    return (), _UNKNOWN if 3 * len(whole) + 1 == len(parts) else _CUT


def masked(text: str, hidden: str = HIDDEN) -> str:
    """Return the text with `***`, or `hidden`, for each placeholder, known or not.

    >>> masked("plain")
    'plain'
    """
    if MARK not in text:
        return text
    parts = text.split(MARK)
    shown = [parts[0]]
    place = 1
    while place < len(parts):
        if _is_whole(parts, place):
            shown += hidden, parts[place + 2]
            place += 3
        else:
            shown += MARK, parts[place]
            place += 1
    return "".join(shown)


def _is_whole(parts: list[str], place: int) -> bool:
    """Whether a placeholder begins at the mark before that part."""
    if place + 2 >= len(parts):
        return False
    first, more = parts[place].removeprefix(_WORD), parts[place + 1]
    return (
        len(first) == _FIRST_DIGITS
        and len(parts[place]) == len(_WORD) + _FIRST_DIGITS
        and len(more) == _MORE_DIGITS
        and (first + more).isdigit()
    )


def _token(parts: list[str], place: int) -> str:
    return f"{MARK}{parts[place]}{MARK}{parts[place + 1]}{MARK}"


def _new_token() -> str:
    digits = f"{int.from_bytes(os.urandom(16), 'big'):039d}"
    return f"{MARK}{_WORD}{digits[:_FIRST_DIGITS]}{MARK}{digits[_FIRST_DIGITS:]}{MARK}"


def _add(entry: _Entry, token: str) -> None:
    """Add an entry. If there are too many, look at the oldest: drop those without holder, put others last."""
    global _characters  # noqa: PLW0603 - one for the table
    size = len(entry.text)  # before: a signal handler, which may run after a call, may add one too
    _entries[token] = entry
    _characters += size
    for _ in range(_LOOKS):
        if len(_entries) <= _KEPT and _characters <= _KEPT_CHARACTERS:
            return
        try:
            token = next(iter(_entries))
        except RuntimeError:  # a finalizer, run just now, has made a secret; it has looked here too
            return
        entry = _entries[token]
        if entry.holder() is None:
            size = len(entry.text)
            del _entries[token]
            _characters -= size
            if _tokens.get(entry.text) == token:
                del _tokens[entry.text]
        else:
            _entries.move_to_end(token)


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - the one lock of the process
    _lock = RLock()


fork_resets.state.append(_after_fork_in_child)
