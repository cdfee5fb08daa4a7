"""Print each command as it runs: `penstock.logging.verbose()`.

Records for the standard library's `logging` need nothing of this module: the logger is `penstock`.

>>> import io
>>> from penstock import command
>>> from penstock.logging import verbose
>>> with verbose(log := io.StringIO()):
...     _ = command("sleep", "0.01").run()
>>> import re
>>> print(re.sub(r"[0-9:.]{12}|(?<=in )[0-9.]+", "~", log.getvalue()), end="")
[~] [1] $ sleep 0.01
[~] [1] \u2714 (done in ~ s)
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from typing import TYPE_CHECKING, Final

from penstock import on_event
from penstock.core.errors import text_of
from penstock.core.printable import printable
from penstock.core.texts import shell_word

if TYPE_CHECKING:
    from typing import Any, Self, TextIO

    from penstock import Event

__all__ = ["Verbose", "verbose"]

_GREY: Final = "\x1b[90m"
_GREEN: Final = "\x1b[32m"
_RED: Final = "\x1b[31m"
_BOLD: Final = "\x1b[1m"
_RESET: Final = "\x1b[0m"


class Verbose:
    """The printing that `verbose()` has begun. Call it to end that, or use it as a context manager."""

    def __init__(self, file: TextIO | None) -> None:
        if file is not None and not callable(getattr(file, "write", None)):
            raise TypeError(f"file must be a text file that is open, or None, not {file!r}")
        self._file = file
        self._counter = itertools.count(1)
        self._numbers: dict[tuple[object, object], int] = {}
        """The numbers of the commands that run, by their runs and stages."""
        self._cancelled: dict[tuple[object, object], str] = {}
        self._stop = on_event(self._handle)

    def __call__(self) -> None:
        """End the printing. Idempotent."""
        self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _handle(self, event: Event) -> None:
        if event.argv is None:
            return
        stage = event.run_id, event.stage_id
        if event.kind == "start":
            self._print_start(event, stage)
        elif event.kind == "start-failed":
            self._print_start(event, stage)
            self._print_end(event, stage, f"could not be started: {text_of(event.error)}")
        elif event.kind == "cancelled":
            self._cancelled[stage] = event.message
        elif event.kind in {"exit", "failed"} and event.elapsed is not None and stage in self._numbers:
            failure = self._cancelled.pop(stage, None)
            if failure is None and event.error is not None:
                failure = text_of(event.error)
            self._print_end(event, stage, failure)

    def _print_start(self, event: Event, stage: tuple[object, object]) -> None:
        assert event.argv is not None
        line = " ".join([shell_word(word, program=place == 0) for place, word in enumerate(event.argv)])
        self._numbers[stage] = number = next(self._counter)
        self._print(event, number, "$ ", line, _BOLD)

    def _print_end(self, event: Event, stage: tuple[object, object], failure: str | None) -> None:
        number = self._numbers.pop(stage)
        seconds = "" if event.elapsed is None else f"{event.elapsed:.{2 if event.elapsed < 10 else 1}f} s"
        if failure is None:
            self._print(event, number, "\u2714 ", f"(done in {seconds})", _GREEN)
        else:
            self._print(event, number, "\u2716 ", f"({failure}{seconds and f', after {seconds}'})", _RED)

    def _print(self, event: Event, number: int, mark: str, text: str, color: str) -> None:
        file: Any = sys.stderr if self._file is None else self._file
        if file is None:  # a daemon without stderr
            return
        if not _can_encode(mark, file):
            mark = "ok " if color == _GREEN else "failed "
        moment = time.localtime(event.time)
        millis = int(event.time % 1 * 1000)
        head = f"[{time.strftime('%H:%M:%S', moment)}.{millis:03d}] [{number}] "
        text = printable(text, keep="")
        if _is_colored(file):
            head, text = f"{_GREY}{head}{_RESET}", f"{color}{mark}{text}{_RESET}"
        else:
            text = f"{mark}{text}"
        file.write(f"{head}{text}\n")  # in one piece, because other threads write too
        file.flush()


def verbose(file: TextIO | None = None) -> Verbose:
    """Print a line to stderr for each command of the process that starts, and one for its end.

    The printing begins with the call, for runs that begin later. It ends when the returned object is called,
    or with the block: `with verbose():`. `file` is a text file to print to instead; by default `sys.stderr`,
    as it is at each line.

    The lines look like `[12:34:56.789] [3] $ git log` and `[12:34:56.989] [3] \u2714 (done in 0.20 s)`. The
    number is that of the command, so lines of several threads can be told apart. Secrets are `***`, and
    control characters are escaped. Colors are for a terminal, unless the environment has `NO_COLOR` or
    `TERM=dumb`.
    """
    return Verbose(file)


def _can_encode(text: str, file: Any) -> bool:
    try:
        text.encode(getattr(file, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _is_colored(file: Any) -> bool:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(getattr(file, "isatty", bool)())
