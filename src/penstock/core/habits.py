"""Names and values that people type from habit, and what to write instead.

The hints are for messages of errors that are raised anyway. None of them changes what is accepted: an option
that Penstock gets one day is looked up among the real ones first.

Out of scope: raising.
"""

from __future__ import annotations

from penstock.core.placeholders import masked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "argument_hint",
    "command_option_hint",
    "function_hint",
    "method_hint",
    "option_hint",
    "program_hint",
    "stage_hint",
    "wrapped_hint",
]

_TEXT = "text() returns the output as str: command(...).text()"
_OUTPUT = "output() returns the output as bytes, and stderr is captured anyway: command(...).output()"
_COMMAND_ONLY = (
    "ok_codes", "pipe_codes", "process_group", "stop_signal", "user", "group", "umask", "pass_fds",
)  # fmt: skip
_OPTIONS = {
    "text": _TEXT,
    "universal_newlines": _TEXT,
    "encoding": "text() decodes the output: command(...).text(encoding=...)",
    "errors": "text() decodes the output: command(...).text(errors=...)",
    "capture_output": _OUTPUT,
    "shell": 'there is no shell: join commands by |, or write command("sh", "-c", "...")',
    "check": "only run() takes it: run(check=False, stdout=CAPTURE) returns the output and the error",
    "executable": "the program is the first argument of command()",
    "args": "the arguments stand after the program in command()",
    "start_new_session": "write command(..., process_group=True)",
    "preexec_fn": "command() takes user, group, umask, process_group, limits and pass_fds instead",
    "close_fds": "a command gets only its standard streams, and its pass_fds",
    "retcode": "write command(..., ok_codes=(0, 1))",
}
"""Options of subprocess and others, and what to write for them."""
_FUNCTIONS = {
    "run": 'command("ls", "-l").run()',
    "call": 'command("ls", "-l").run(check=False).returncode',
    "check_call": 'command("ls", "-l").run()',
    "check_output": 'command("ls", "-l").output(), or .text() for a str',
    "getoutput": 'command("ls", "-l").text(stderr=STDOUT)',
    "Popen": 'command("ls", "-l").start()',
    "popen": 'command("ls", "-l").start()',
    "system": 'command("ls", "-l").run(check=False).returncode',
    "CalledProcessError": "PipelineError, whose cause may be an ExitError",
    "TimeoutExpired": "PipelineTimeout",
}
"""Functions and classes of subprocess and os, and what to write for them."""
_METHODS = {
    "check_output": "output(), or text() for a str",
    "check_call": "run()",
    "call": "run(check=False).returncode",
    "communicate": "output(input=...)",
    "poll": "start().done()",
    "wait": "run(), or start().wait()",
    "kill": "start().cancel()",
    "terminate": "start().cancel()",
    "returncode": "run(check=False).returncode",
    "pid": "start().pids",
}
"""Methods and attributes of subprocess, and what to write for them."""
_SHELL_WORDS = frozenset("|&;<>()$`*?\"'\\")


def option_hint(option: str) -> str:
    """Return what to write for an unknown option of a pipeline, as an end of a message; "" if unknown too."""
    if option in _COMMAND_ONLY:
        return f"; it belongs to command(): command(..., {option}=...)"
    return f"; {_OPTIONS[option]}" if option in _OPTIONS else ""


def command_option_hint(options: Iterable[str], of_runs: Iterable[str]) -> str | None:
    """Return what to write for an unknown option of `command()`; `of_runs` are those of a pipeline."""
    of_runs = frozenset(of_runs)
    for option in options:
        if option in of_runs:
            return (
                f"command() has no option {option!r}: it belongs to Pipeline(...) or to a run, as in "
                f"command(...).run({option}=...)"
            )
        if option in _OPTIONS:
            return f"command() has no option {option!r}: {_OPTIONS[option]}"
    return None


def function_hint(name: str) -> str:
    """Return what to write for a name that `penstock` does not have; "" if unknown here."""
    return f"; write {_FUNCTIONS[name]}" if name in _FUNCTIONS else ""


def method_hint(name: str) -> str:
    """Return what to write for an attribute that a pipeline does not have; "" if unknown here."""
    return f"; write {_METHODS[name]}" if name in _METHODS else ""


def argument_hint(arg: object, *, program: bool = False) -> str:
    """Return what to write for an argument of another type than str, as an end of a message.

    >>> argument_hint(["ls", "-l"], program=True), argument_hint(("a", "b"))
    ("; write command('ls', '-l')", "; write each argument by itself: 'a', 'b'")
    """
    if isinstance(arg, list | tuple) and arg:
        words = (
            [masked(repr(one)) for one in arg[:4]] if all(isinstance(one, str) for one in arg) else ["*args"]
        )
        shown = ", ".join([*words, "..."] if len(arg) > 4 else words)
        return f"; write command({shown})" if program else f"; write each argument by itself: {shown}"
    if isinstance(arg, int | float) and not isinstance(arg, bool):
        return f"; write str({arg!r})"
    if hasattr(arg, "name") and hasattr(arg, "start") and not program:
        return "; reading(...) makes a file name from which the program reads its output"
    return ""


def stage_hint(thing: object) -> str:
    """Return what to write for a thing that is not a stage or pipeline, as an end of a message.

    >>> stage_hint("ls")
    "; write command(...) for a program, or command('cat', path) for a file"
    >>> stage_hint(["a", "b"])
    '; write each by itself, or *stages'
    """
    if isinstance(thing, str | bytes) or hasattr(thing, "__fspath__"):
        return "; write command(...) for a program, or command('cat', path) for a file"
    if isinstance(thing, list | tuple | set | frozenset):
        return "; write each by itself, or *stages"
    if callable(thing):
        return "; wrap a function in function(), map_lines() or the like"
    return ""


def program_hint(argv: Sequence[str]) -> str:
    """Return what to write for a program that does not exist, if its name looks like a line for a shell.

    `argv` are the program and its arguments, as they may be shown. The hint is "" for any other name.

    >>> program_hint(["ls -l"])
    'a program and its arguments are separate: command("ls", "-l")'
    """
    program = argv[0]
    words = program.split()
    if program.startswith("~"):
        return "no shell replaces the ~: write Path(...).expanduser()"
    if len(words) < 2 or not program.isprintable():
        return ""
    if not _SHELL_WORDS.isdisjoint(program):
        return 'no shell reads it: join commands by |, or write command("sh", "-c", "...")'
    shown = [f'"{word}"' for word in words[:4]]
    if len(words) > 4 or len(argv) > 1:
        shown.append("...")
    return f"a program and its arguments are separate: command({', '.join(shown)})"


def wrapped_hint(thing: object) -> str:
    """Return what to write for an object in contextlib's `closing`, as an end of a message."""
    kind = type(thing)
    if kind.__module__ == "contextlib" and kind.__name__ in ("closing", "aclosing"):
        return "; contextlib's closing() is no stream: write penstock.closing(...), or give the file itself"
    return ""
