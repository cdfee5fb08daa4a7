"""Checks of what a command is given: its arguments and statuses, and the options that are about its process.

User, group, umask and descriptors mean the same as in `subprocess`. Names of users and groups are looked up
when the command is started, on the machine that starts it.
"""

from __future__ import annotations

import errno
import os
import signal

from penstock.core.constants import CAPTURE, NEXT, PIPE, closing
from penstock.core.habits import argument_hint
from penstock.core.placeholders import masked
from penstock.core.secret import carried, has_secret, mistake_in
from penstock.core.stream_options import check_stdout
from penstock.system.executables import SetupError
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = [
    "Identity",
    "check_argument",
    "check_codes",
    "check_descriptors",
    "check_identity",
    "check_own_stdout",
    "check_stop_signal",
]

_MAX_ID = (1 << 32) - 2
"""The kernel takes 2**32 - 1 for "do not change"."""


class Identity:
    """The user, the group and the umask of a child; None, or -1 for the umask, keeps those of the host."""

    __slots__ = ("group", "umask", "user")

    def __init__(self, user: str | int | None, group: str | int | None, umask: int) -> None:
        self.user = user
        self.group = group
        self.umask = umask

    def numbers(self) -> tuple[int, int, int]:
        """Return the umask, the group's and the user's number, -1 for each to keep.

        Raises OSError if there is no user or group of that name.
        """
        return self.umask, _number("group", self.group), _number("user", self.user)


def check_argument(stage: str, place: int, arg: object) -> str | bytes:
    """Check an argument, or the program, which is at place 0; return it as str or bytes."""
    what = "argument" if place else "program"
    if isinstance(arg, os.PathLike):
        arg = os.fspath(arg)
    if not isinstance(arg, str | bytes):
        hint = argument_hint(arg, program=place == 0)
        raise TypeError(f"{what} must be str, bytes, PathLike or Secret, not {arg!r}{hint}")
    if has_secret(arg):
        arg = carried(f"stage {stage!r}: {f'argument {place}' if place else 'the program'}", arg)
    mistake = mistake_in(arg)
    if mistake is not None:
        raise ValueError(f"{what} {mistake}: {masked(repr(arg))}")
    return arg


def check_codes(option: str, codes: Iterable[int]) -> frozenset[int]:
    """Check exit statuses."""
    if isinstance(codes, int | str | bytes) or not hasattr(codes, "__iter__"):
        raise TypeError(f"{option} must be an iterable of exit statuses, not {codes!r}")
    kept = frozenset(codes)
    for code in kept:
        if isinstance(code, bool) or not isinstance(code, int):
            raise TypeError(f"{option} must contain exit statuses, not {code!r}")
    return kept


def check_identity(user: Any, group: Any, umask: Any) -> Identity | None:
    """Check the options; return None if they change nothing."""
    for option, value in (("user", user), ("group", group)):
        if isinstance(value, bool) or not isinstance(value, str | int | None):
            raise TypeError(f"{option} must be a name, a number or None, not {value!r}")
        if isinstance(value, int) and not 0 <= value <= _MAX_ID:
            raise ValueError(f"{option} must be between 0 and {_MAX_ID}, not {value}")
    if isinstance(umask, bool) or not isinstance(umask, int):
        raise TypeError(f"umask must be an int, not {umask!r}")
    if not -1 <= umask <= 0o777:
        raise ValueError(f"umask must be between 0 and 0o777, or -1 to keep the host's, not {umask:#o}")
    return None if user is None and group is None and umask == -1 else Identity(user, group, umask)


def check_own_stdout(stdout: Any, stderr: object) -> object:
    """Check the `stdout` of a single command, which is for one whose stderr alone goes to the next stage."""
    if stdout is None:
        return None
    if stderr is not NEXT:
        raise ValueError(
            "stdout of a command needs stderr=NEXT, by which the next stage reads its stderr alone; "
            "give the stdout of the last stage to run() or the pipeline"
        )
    checked = check_stdout("stdout", stdout)
    if checked is PIPE or checked is CAPTURE:
        raise ValueError(f"stdout of a command cannot be {checked}: use a path, descriptor, file or DEVNULL")
    thing = checked.thing if isinstance(checked, closing) else checked
    if hasattr(thing, "write") and not hasattr(thing, "fileno"):
        raise TypeError(f"stdout of a command needs a descriptor, which {thing!r} does not have")
    return checked


def check_descriptors(numbers: Any) -> tuple[int, ...]:
    """Check `pass_fds`, and return the numbers, each once."""
    if isinstance(numbers, int | str | bytes) or not hasattr(numbers, "__iter__"):
        raise TypeError(f"pass_fds must be an iterable of descriptors, not {numbers!r}")
    found = tuple(dict.fromkeys(numbers))
    for number in found:
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"pass_fds must contain descriptors, which are numbers, not {number!r}")
        if number < 3:
            raise ValueError(f"pass_fds must be above 2, not {number}: use stdin, stdout or stderr")
    return found


# Made once, because Python makes an object of an enumeration for each signal, and every command is checked.
_ENDING = signal.valid_signals() - {signal.SIGSTOP, signal.SIGCONT}


def check_stop_signal(signum: Any) -> int:
    """Check the signal that asks a command to end."""
    if isinstance(signum, bool) or not isinstance(signum, int):
        raise TypeError(f"stop_signal must be a signal, not {signum!r}")
    if signum not in _ENDING:
        raise ValueError(f"stop_signal must be a signal that can end a process, not {signum!r}")
    return int(signum)


def _number(option: str, value: str | int | None) -> int:
    if value is None:
        return -1
    if isinstance(value, int):
        return value
    try:
        with late_import:  # nothing is spawned yet
            if option == "user":
                import pwd  # noqa: PLC0415 - few commands change their user

                return pwd.getpwnam(value).pw_uid
            import grp  # noqa: PLC0415

            return grp.getgrnam(value).gr_gid
    except KeyError:
        raise SetupError(errno.EINVAL, f"there is no {option} {value!r}") from None
