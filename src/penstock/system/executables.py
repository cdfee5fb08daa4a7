# pathlib is dear to import.
# ruff: noqa: PTH100, PTH109, PTH110, PTH112, PTH116, PTH117, PTH118
"""Which file a program's name stands for, and, when the kernel refused to run it, why.

execve(2) has one ENOENT for four mistakes: no program, no interpreter of a script, no dynamic loader of a
binary, and, in a child, no working directory. So names are resolved here before anything is spawned, and a
failed spawn is explained afterwards by looking at the files again. What may not live here: starting
processes.
"""

from __future__ import annotations

import errno
import os
import stat
from functools import lru_cache

_PATH_ERRORS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG})

_RESOURCES = {
    errno.E2BIG: "the arguments and the environment together are too long to start",
    errno.EAGAIN: "no more processes are allowed (RLIMIT_NPROC, or a cgroup's pids.max) to start",
    errno.ENOMEM: "not enough memory to start",
    errno.EMFILE: "too many open files in this process (RLIMIT_NOFILE) to start",
    errno.ENFILE: "too many open files in the system to start",
    errno.ETXTBSY: "the program is still open for writing",
}


def resolve(program: str, *, path: str | None, cwd: str | None) -> str:
    """Return the absolute path of the file to execute.

    A program with a slash is taken from the caller's working directory, never from `cwd`, the child's, which
    serves the message only. A bare name is searched on `path`, the child's PATH (None: `os.defpath`); empty
    and relative entries are skipped, since they would mean another folder in the child than here.

    Raises FileNotFoundError, or PermissionError for what is there but is a folder or may not be executed; as
    execvp(3), one such entry does not end the search.
    """
    if "/" in program:
        return _resolve_path(program, cwd)
    folders = _folders(os.defpath if path is None else path) if program else ()
    for folder in folders:
        candidate = folder + program
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
    for folder in folders:
        candidate = folder + program
        if os.path.exists(candidate):
            raise _not_executable(candidate)
    raise FileNotFoundError(errno.ENOENT, "no such program on PATH", program)


def is_plain(path: str) -> bool:
    """Whether all entries of a PATH are absolute, so that whoever searches it finds what `resolve` does."""
    return len(_folders(path)) == path.count(":") + 1


@lru_cache(maxsize=16)
def _folders(path: str) -> tuple[str, ...]:
    """The absolute entries of a PATH, each with one slash at its end. What is in them is never kept."""
    return tuple(f"{folder.rstrip('/')}/" for folder in path.split(":") if folder.startswith("/"))


class SetupError(OSError):
    """What kept a child from becoming its program, before that was tried: a limit that could not be set."""


def explain_failure(error: OSError, *, program: str, executable: str, cwd: str | None) -> OSError:
    """Return an error of the same errno, and so of the same type, whose text says what was wrong.

    `program` is the name as the user gave it, `executable` what `resolve` made of it, `cwd` the child's
    working directory. The new error is made for `raise ... from None`; nothing is raised here.
    """
    code = error.errno
    if code is None or isinstance(error, SetupError):
        return error
    if code in _PATH_ERRORS:
        return (
            (_wrong_folder(code, cwd) if cwd is not None else None)
            or _wrong_interpreter(code, executable)
            or OSError(code, _PATH_TEXTS.get(code, os.strerror(code)), executable)
        )
    if code == errno.ENOEXEC:
        return OSError(
            code, "not an executable format (a script begins with a line like #!/bin/sh)", executable
        )
    if code in _RESOURCES:
        return OSError(code, _RESOURCES[code], program)
    return OSError(code, os.strerror(code), program)


_PATH_TEXTS = {
    errno.ENOENT: "no such program",
    errno.ENOTDIR: "no such program",
    errno.EACCES: "not allowed to execute (a file mode, or a file system mounted noexec)",
}


def _resolve_path(program: str, cwd: str | None) -> str:
    if os.path.isabs(program):
        executable = program
    elif ".." in program.split("/"):
        # Only the file system can resolve a/../b, because a may be a link.
        executable = f"{os.getcwd()}/{program}"
    else:
        executable = os.path.abspath(program)
    try:
        mode = os.stat(executable).st_mode
    except OSError as error:
        missing = error.errno in {errno.ENOENT, errno.ENOTDIR}
        text = "no such program" if missing else os.strerror(error.errno or 0)
        if (
            missing
            and cwd is not None
            and not os.path.isabs(program)
            and os.path.exists(os.path.join(cwd, program))
        ):
            text += " here (a path is relative to the caller's working directory, not to the stage's)"
        raise OSError(errno.ENOENT if missing else error.errno, text, program) from None
    if stat.S_ISDIR(mode) or not os.access(executable, os.X_OK):
        raise _not_executable(executable)
    return executable


def _not_executable(path: str) -> PermissionError:
    text = "a folder, not a program" if os.path.isdir(path) else "not executable"
    return PermissionError(errno.EACCES, text, path)


def check_folder(cwd: str) -> None:
    """OSError that says what is wrong with a working directory, if something is."""
    wrong = _wrong_folder(errno.ENOENT, cwd)
    if wrong is not None:
        raise wrong


def _wrong_folder(code: int, cwd: str) -> OSError | None:
    """Tell what is wrong with the working directory, where that is it."""
    try:
        if not stat.S_ISDIR(os.stat(cwd).st_mode):
            return OSError(code, "the working directory is not a folder", cwd)
    except OSError as error:
        text = (
            "no such working directory"
            if error.errno in {errno.ENOENT, errno.ENOTDIR}
            else os.strerror(error.errno or 0)
        )
        return OSError(code, text, cwd)
    if not os.access(cwd, os.X_OK):
        return OSError(code, "not allowed to enter the working directory", cwd)
    return None


def _wrong_interpreter(code: int, executable: str) -> OSError | None:
    """Tell what is wrong with that which the kernel must run in order to run the file, where that is it."""
    try:
        # Not to be caught by a FIFO that took the program's place.
        file = os.open(executable, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            head = os.read(file, 256)
        finally:
            os.close(file)
    except OSError:
        return None
    if head.startswith(b"#!"):
        # As the kernel splits it: a script with CR LF names an interpreter that ends in CR.
        line = head[2:].split(b"\n", 1)[0].replace(b"\t", b" ").strip(b" ")
        interpreter = os.fsdecode(line.split(b" ", 1)[0])
        if not os.path.exists(interpreter):
            return OSError(code, f"no such interpreter {interpreter!r}, which the script names", executable)
        if os.path.isdir(interpreter) or not os.access(interpreter, os.X_OK):
            return OSError(
                code, f"the interpreter {interpreter!r} of the script is not executable", executable
            )
    elif code == errno.ENOENT and head.startswith(b"\x7fELF"):
        return OSError(
            code, "the program's dynamic loader is missing (it was built for another system)", executable
        )
    return None
