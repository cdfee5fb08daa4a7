"""Make stages of words: commands as they are written, and Python stages by name.

A substitution becomes a pipeline of its own, as an argument of its command. As the target of a redirection it
is more stages before the first one or after the last one.

As in bash, a substitution in the first stage shares our stdin. One in a later stage has none, because in bash
it would take bytes from that stage. The output of `>(...)` goes to our stdout unless it has a `>`.

`py:`, `lines:`, `map:` and `filter:` name objects in modules, which may lie in the current folder. A wrong
name raises a `PipelineSyntaxError` with its place, before anything starts.

Out of scope: opening files (the caller passes a function), starting anything, signals, output.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock import (
    DEVNULL,
    INHERIT,
    NEXT,
    STDOUT,
    Arg,
    Pipeline,
    Stage,
    Stream,
    command,
    filter_lines,
    function,
    map_lines,
    reading,
    transform_lines,
    writing,
)
from penstock.cli.syntax import PipelineSyntaxError

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.cli.syntax import Line, Redirection, StageText, Substitution, Word

__all__ = ["Resolved", "resolve"]

# The constructor for each kind, and the names of the arguments that the stage passes to the function.
_FACTORIES: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "py": (function, ("ctx", "stdin", "stdout")),
    "lines": (transform_lines, ("lines",)),
    "map": (map_lines, ("line",)),
    "filter": (filter_lines, ("line",)),
}


class Resolved(NamedTuple):
    """The stages of a line, with the stdin of the first and the stdout of the last.

    These two mean nothing in a substitution, at the end that its command reads or writes.
    """

    stages: tuple[Any, ...]
    stdin: Any
    stdout: Any


def resolve(line: Line, *, open_file: Callable[[Redirection], Any]) -> Resolved:
    """Make the stages that a line names; raise `PipelineSyntaxError` if one cannot be made.

    `open_file` is called for each redirection to or from a file, in the order of the line, and returns the
    value of the option stdin, stdout or stderr. Those in a command's arguments come before its own.
    """
    return _Resolver(open_file).resolve(line, INHERIT)


class _Ends:
    """The ends of a line, and the stages that its redirections add."""

    def __init__(self, stdin: Any) -> None:
        self.stdin = stdin
        self.stdout: Any = INHERIT
        self.before: tuple[Any, ...] = ()
        self.after: tuple[Any, ...] = ()


class _Resolver:
    def __init__(self, open_file: Callable[[Redirection], Any]) -> None:
        self._open_file = open_file

    def resolve(self, line: Line, stdin: Any) -> Resolved:
        """Make the stages of a line, or of a substitution; `stdin` is that of a first stage without `<`."""
        ends = _Ends(stdin)
        stages = []
        for text in line.stages:
            is_read = line.within == "<" or text is not line.stages[-1]
            stages.append(
                self._stage(text, stdin if text is line.stages[0] else DEVNULL, ends, is_read=is_read)
            )
        stages = [*ends.before, *stages, *ends.after]
        if ends.stdin is INHERIT and stages[0].requirements.stdin is Stream.FORBIDDEN:
            ends.stdin = DEVNULL  # a source, say, needs an end that is not connected
        return Resolved(tuple(stages), ends.stdin, ends.stdout)

    def _stage(self, text: StageText, inherited: Any, ends: _Ends, *, is_read: bool) -> Any:
        """Make one stage; `inherited` is the stdin of its substitutions. With `is_read` a stage reads it."""
        arguments = self._arguments(text, inherited)
        stderr: Any = None
        aside: Any = None
        for found in text.redirections:
            if found.substitution is not None and found.kind == "<":
                ends.before, ends.stdin, _ = self.resolve(found.substitution.line, inherited)
            elif found.substitution is not None:
                ends.after, _, ends.stdout = self.resolve(found.substitution.line, DEVNULL)
            elif found.target is None:
                stderr = STDOUT
            elif found.kind == "<":
                ends.stdin = self._open_file(found)
            elif found.kind not in (">", ">>"):
                stderr = self._open_file(found)
            elif is_read:
                stderr, aside = NEXT, self._open_file(found)
            else:
                ends.stdout = self._open_file(found)
        return _python_stage(text) if _kind(text) else _command(text, arguments, stderr, aside)

    def _arguments(self, text: StageText, stdin: Any) -> list[Any]:
        return [
            Arg(*(part if isinstance(part, str) else self._argument(part, stdin) for part in word.parts))
            if word.parts
            else word.text
            for word in text.words[1:]
        ]

    def _argument(self, text: Substitution, stdin: Any) -> Any:
        """Make an argument of a substitution."""
        try:
            if text.kind == "<":
                resolved = self.resolve(text.line, stdin)
                options = {} if resolved.stdin is DEVNULL else {"stdin": resolved.stdin}
                return reading(Pipeline(*resolved.stages, **options))
            resolved = self.resolve(text.line, DEVNULL)
            return writing(Pipeline(*resolved.stages, stdout=resolved.stdout))
        except (TypeError, ValueError) as error:
            raise PipelineSyntaxError(str(error), text.start, text.end) from error


def _kind(text: StageText) -> str | None:
    prefix, colon, _ = text.words[0].text.partition(":")
    return prefix if colon and prefix in _FACTORIES else None


def _command(text: StageText, arguments: list[Any], stderr: Any, stdout: Any) -> Any:
    program = text.words[0]
    try:
        return command(
            program.text,
            *arguments,
            env={found.name: found.value for found in text.assignments},
            stderr=stderr,
            stdout=stdout,
        )
    except (TypeError, ValueError) as error:  # an empty program
        raise PipelineSyntaxError(str(error), program.start, program.end) from error


def _python_stage(text: StageText) -> Any:
    word, *others = text.words
    for other in others:
        raise PipelineSyntaxError("a Python stage takes no arguments", other.start, other.end)
    for assignment in text.assignments:
        spot = assignment.word
        raise PipelineSyntaxError("a variable before a Python stage has no effect", spot.start, spot.end)
    for redirection in text.redirections:
        if redirection.kind.startswith("2"):
            message = "a Python stage has no standard error of its own"
            raise PipelineSyntaxError(message, redirection.start, redirection.end)
    kind, module, name = _parts(word)
    return _stage_of(kind, _find(word, module, name), word)


def _parts(word: Word) -> tuple[str, str, str]:
    kind, *rest = word.text.split(":")
    if len(rest) != 2 or not all(part for name in rest for part in name.split(".")):
        message = f"a Python stage is written {kind}:MODULE:NAME"
        raise PipelineSyntaxError(
            message, word.start, word.end, hint=f"for a program of that name write ./{word.text}"
        )
    return kind, rest[0], rest[1]


def _find(word: Word, module: str, name: str) -> Any:
    """Import `module` and return the object `name` in it; `name` may be dotted."""
    _look_here_too()
    try:
        thing: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise _import_failed(word, module, error) from error
        message = str(error).replace("No module", "no module", 1)
        hint = "looked in the current folder and on sys.path"
        raise PipelineSyntaxError(message, *_place_of_module(word, module), hint=hint) from error
    except (Exception, SystemExit) as error:
        raise _import_failed(word, module, error) from error
    file = getattr(thing, "__file__", None)
    for part in name.split("."):
        try:
            thing = getattr(thing, part)
        except AttributeError as error:
            message = f"{_describe(thing)} has no {part!r}"
            import difflib  # noqa: PLC0415 - for a mistake only

            near = difflib.get_close_matches(part, [known for known in dir(thing) if known[0] != "_"], n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the module is {file}" if file else ""
            raise PipelineSyntaxError(message, *_place_of_name(word, name), hint=hint or None) from error
    return thing


def _look_here_too() -> None:
    """Have modules of the current folder found too, after all others, so that none hides a standard module.

    With PYTHONSAFEPATH or `-P` the folder is not searched, as Python itself does not.
    """
    if sys.flags.safe_path:
        return
    try:
        here = os.getcwd()  # noqa: PTH109 - sys.path holds strs
    except FileNotFoundError:  # the folder has been removed
        return
    if sys.path and sys.path[0] in ("", here):  # put there by `python -m`
        del sys.path[0]
    if here not in sys.path:
        sys.path.append(here)


def _stage_of(kind: str, thing: Any, word: Word) -> Any:
    """Make a stage of the object that was found; with `py:` it may be a stage or a pipeline already."""
    make, parameters = _FACTORIES[kind]
    if kind == "py" and isinstance(thing, type):
        raise PipelineSyntaxError(f"{word.text!r} is a class; name an instance of it", word.start, word.end)
    if kind == "py" and isinstance(thing, Pipeline | Stage):
        return thing
    try:
        _check_call(thing, kind, parameters)
        return make(thing, name=word.text)
    except (TypeError, ValueError) as error:
        raise PipelineSyntaxError(str(error), word.start, word.end) from error


def _check_call(thing: Any, kind: str, parameters: tuple[str, ...]) -> None:
    """Raise TypeError if `thing` cannot be called with the arguments that its stage will pass."""
    if not callable(thing):
        raise TypeError(f"{kind}: needs a callable, not {_describe(thing)}")
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):  # some builtins have no signature
        return
    try:
        signature.bind(*parameters)
    except TypeError as error:
        raise TypeError(f"{kind}: calls its function with {', '.join(parameters)}: {error}") from error


def _describe(thing: Any) -> str:
    if inspect.ismodule(thing):
        return f"module {thing.__name__!r}"
    if isinstance(thing, type):
        return f"class {thing.__qualname__!r}"
    return f"an object of type {type(thing).__qualname__!r}"


def _import_failed(word: Word, module: str, error: BaseException) -> PipelineSyntaxError:
    """Return the error for a module that exists but could not be imported, with its last line in the hint."""
    import traceback  # noqa: PLC0415 - for a mistake only

    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen") and frame.filename not in (__file__, importlib.__file__)
    ]
    hint = f"in {frames[-1].filename}, line {frames[-1].lineno}" if frames else None
    message = f"importing {module!r} failed: {type(error).__name__}: {error}"
    return PipelineSyntaxError(message, *_place_of_module(word, module), hint=hint)


def _place_of_module(word: Word, module: str) -> tuple[int, int]:
    if word.bare < len(word.text):  # something is quoted, so that text and line differ
        return word.start, word.end
    start = word.start + word.text.index(":") + 1
    return start, start + len(module)


def _place_of_name(word: Word, name: str) -> tuple[int, int]:
    return (word.start if word.bare < len(word.text) else word.end - len(name)), word.end
