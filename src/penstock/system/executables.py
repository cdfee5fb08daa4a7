# pathlib is slow to import.
# ruff: noqa: PTH110, PTH112, PTH116, PTH117, PTH118
"""Find the file of a program by its name, and explain why the kernel refused to run it.

execve(2) reports one ENOENT for four mistakes: a missing program, script interpreter, dynamic loader or (in a
child) working directory. So names are resolved here before anything is spawned, and a failed spawn is
explained afterwards by looking at the files again. Out of scope: starting processes.
"""

from __future__ import annotations

import errno
import os
import stat
from functools import lru_cache

from penstock.system import system_calls
from penstock.system.working_directory import caller_folder, explain_missing

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

    A program with a slash is relative to the caller's working directory, never to `cwd`, the child's, which
    only serves the message. A bare name is searched on `path`, the child's PATH (None: `os.defpath`). Empty
    and relative entries are skipped, because they would mean another directory in the child than here.

    Raises FileNotFoundError, or PermissionError if the file is a directory or not executable. As in
    execvp(3), such an entry does not end the search.
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
    """Whether all entries of a PATH are absolute, so that any search of it finds what `resolve` does."""
    return len(_folders(path)) == path.count(":") + 1


@lru_cache(maxsize=16)
def _folders(path: str) -> tuple[str, ...]:
    """Return the absolute entries of a PATH, each with one slash at its end. Their content is not cached."""
    return tuple(f"{folder.rstrip('/')}/" for folder in path.split(":") if folder.startswith("/"))


class SetupError(OSError):
    """A setting failed in the child before execve, such as a limit."""


def explain_failure(error: OSError, *, program: str, executable: str, cwd: str | None) -> OSError:
    """Return an error of the same errno, and so of the same type, with a text that tells the reason.

    `program` is the name as the user gave it, `executable` the result of `resolve`, `cwd` the child's working
    directory. The caller raises the new error `from None`; nothing is raised here.
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


def explain_interpreter(error: OSError, python: str, purpose: str, cwd: str | None = None) -> OSError:
    """Return an error that says that our own interpreter `python` could not be started, and not the program.

    `purpose` completes "the Python interpreter that ...". An error about the child's working directory `cwd`,
    or for want of resources, is returned as it is.
    """
    code = error.errno
    if code is None or isinstance(error, SetupError) or code in _RESOURCES:
        return error
    if cwd is not None and code in _PATH_ERRORS and _wrong_folder(code, cwd) is not None:
        return error
    why = explain_failure(error, program=python, executable=python, cwd=None).strerror
    return SetupError(code, f"the Python interpreter that {purpose} could not be started ({why})", python)


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
        executable = f"{caller_folder(program)}/{program}"
    else:
        executable = os.path.normpath(f"{caller_folder(program)}/{program}")
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
    """Raise OSError with the reason, if a child could not use a working directory."""
    wrong = _wrong_folder(errno.ENOENT, cwd)
    if wrong is not None:
        raise wrong


def _wrong_folder(code: int, cwd: str) -> OSError | None:
    """Return an error if the working directory is the reason, else None."""
    try:
        if not stat.S_ISDIR(os.stat(cwd).st_mode):
            return OSError(code, "the working directory is not a folder", cwd)
    except OSError as error:
        explained = explain_missing(error, cwd)
        if explained is not error:
            return explained
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
    """Return an error if the script's interpreter or the binary's loader is the reason, else None."""
    try:
        # O_NONBLOCK, so that a FIFO in the place of the program cannot block us.
        file = system_calls.open_path(executable, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            head = system_calls.read(file, 256)
        finally:
            os.close(file)
    except OSError:
        return None
    if head.startswith(b"#!"):
        # Split as the kernel does: a script with CR LF names an interpreter that ends in CR.
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
