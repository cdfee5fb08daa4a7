"""The entry point of the `penstock` command: `main()`.

It copes with closed standard streams, with missing packages (click, rich) and with a stdout whose reader has
gone. `commands` does the rest; it cannot even be imported without click.
"""

from __future__ import annotations

import errno
import os
import signal
import sys

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line (`sys.argv[1:]` unless given) and return its exit status."""
    _open_what_is_closed()
    # Our caller may have ignored it. Then the kernel would reap the commands and drop their statuses.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        from penstock.cli.commands import invoke  # noqa: PLC0415 - click may be missing
    except ModuleNotFoundError as error:
        if error.name not in {"click", "rich"}:
            raise
        sys.stderr.write(f"penstock: the command line needs {error.name}: pip install 'penstock[cli]'\n")
        return 1
    try:
        status = invoke(arguments)
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        status = 141
    failed = _flush()
    if failed == errno.EPIPE:
        return status or 141
    if failed is not None:
        sys.stderr.write(f"penstock: standard output: {os.strerror(failed)}\n")
        return status or 1
    return status


def _open_what_is_closed() -> None:
    """Open /dev/null in place of closed standard streams, so that our pipes cannot get their numbers.

    Reading and writing them fails with EBADF as before, because each is opened for the other direction.
    """
    for fd, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, flags)  # the lowest free number, which is this one


def _flush() -> int | None:
    """Flush `sys.stdout`; return the errno if that fails, else None.

    After a failure the rest is dropped: the interpreter would try again at exit and print 'Exception
    ignored'.
    """
    if sys.stdout is None:
        return None
    try:
        sys.stdout.flush()
    except OSError as error:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
        return error.errno
    return None
