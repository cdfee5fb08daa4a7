"""A pipeline as a line for a shell, which is for people to read: `str(pipeline)`.

The line shows programs, arguments, environment, working directories and redirections to paths, each quoted as
bash needs it, and secrets as `***`. A Python stage stands in it by its kind and name, such as
`map-lines(upper)`. All other options are left out.

In a graph, a source that a command reads is `<(...)`, and a branch `>(...)`. `tee` is the program
of that name, and `concat` is `cat`. Bash has no words for `merge(<(...), <(...))` and `shared(...)`.

Out of scope: running the line.
"""

from __future__ import annotations

import os

from penstock.core.constants import DEVNULL, NEXT, STDOUT, Special
from penstock.core.file_targets import FileTarget, appending
from penstock.core.loaded import is_template
from penstock.core.placeholders import HIDDEN, masked
from penstock.core.printable import printable
from penstock.core.texts import shell_word
from penstock.engine.graph import PipelineSpec
from penstock.stages.command import Command
from penstock.stages.filters import Filtered
from penstock.stages.function import name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final

    from penstock.stages.branch import Branch

__all__ = ["shell_line"]

_GRAPH_STAGES: Final = ("tee", "shared", "concat", "merge")

_HIDDEN: Final = "__Penstock_SECRET__"
"""Stands for a secret until all words are quoted, so that `***` itself is not."""


def shell_line(stages: Sequence[object], options: Mapping[str, Any]) -> str:
    """Return the line for a pipeline of these stages with these options."""
    return masked(_line(stages, options)).replace(_HIDDEN, HIDDEN)


def _line(stages: Sequence[object], options: Mapping[str, Any]) -> str:
    parts = [_part(stage, options, alone=len(stages) == 1) for stage in stages] or ["cat"]
    source, sink = _path(options.get("stdin")), _target(options.get("stdout"))
    if source is not None:
        parts[0] += f" < {source}"
    if sink is not None:
        # In this order: stderr goes where stdout goes by then.
        merges = " 2>&1" if parts[-1].endswith(" 2>&1") else ""
        parts[-1] = f"{parts[-1].removesuffix(merges)} {sink}{merges}"
    line = " | ".join(parts)
    errors = _path(options.get("stderr"))
    if errors is not None:
        line = f"{line if len(parts) == 1 else f'({line})'} 2> {errors}"
    cwd = options.get("cwd")
    return line if cwd is None else f"(cd {_folder(cwd)} && {line})"


def _part(stage: object, options: Mapping[str, Any], *, alone: bool) -> str:
    """Return the words for one stage; `options` are those of the pipeline that it stands in."""
    while isinstance(stage, Filtered):
        stage = stage.stage
    if isinstance(stage, Command):
        return _command(stage, options)
    if isinstance(stage, PipelineSpec):
        line = _line(stage.stages, _inherited(stage.options, options))
        return line if alone or line.startswith("(") or " | " not in line else f"({line})"
    if getattr(stage, "kind", None) in _GRAPH_STAGES:
        return _graph_stage(stage, options)
    return printable(repr(stage), keep="")


def _graph_stage(stage: Any, options: Mapping[str, Any]) -> str:
    """Return the words for a stage that has branches or sources."""
    if stage.kind == "tee":
        return " ".join(["tee", *(_tee_argument(branch, options) for branch in stage.outlets.values())])
    if stage.kind == "shared":
        return f"shared({_part(stage.pipeline, options, alone=True)})"
    sources = [_source(pipeline, options) for pipeline in stage.inlets.values()]
    return " ".join(["cat", *sources]) if stage.kind == "concat" else f"merge({', '.join(sources)})"


def _tee_argument(branch: Branch, options: Mapping[str, Any]) -> str:
    target = branch.options["stdout"]
    if branch.pipeline is None and isinstance(target, str | os.PathLike):
        text = os.fsdecode(target)
        return shell_word(f"./{text}" if text.startswith("-") else text)
    return _branch(branch, options)


def _branch(branch: Branch, options: Mapping[str, Any]) -> str:
    """Return a branch; bytes that go straight to a file are copied by `cat`."""
    stages, own = ((), {}) if branch.pipeline is None else (branch.pipeline.stages, branch.pipeline.options)
    return _substituted(">", stages, {**own, "stdout": branch.options["stdout"]}, options)


def _source(pipeline: PipelineSpec, options: Mapping[str, Any]) -> str:
    return _substituted("<", pipeline.stages, pipeline.options, options)


def _substituted(
    kind: str, stages: Sequence[object], own: Mapping[str, Any], outer: Mapping[str, Any]
) -> str:
    line = _line(stages, _inherited(own, outer))
    return f"{kind}( {line})" if line.startswith("(") else f"{kind}({line})"


def _inherited(own: Mapping[str, Any], outer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options of a pipeline within another one, with what the commands get from that."""
    env = {**(outer.get("env") or {}), **(own.get("env") or {})}
    return {"inherit_env": outer.get("inherit_env", True), **own, "env": env}


def _command(stage: Command, options: Mapping[str, Any]) -> str:
    env = {**(options.get("env") or {}), **(stage.env or {})}
    unset = [f"-u {shell_word(name)}" for name, value in env.items() if value is None]
    words = [f"{name}={_value(value)}" for name, value in env.items() if value is not None]
    if not options.get("inherit_env", True):
        words = ["env", "-i", *words]
    elif unset or not all(name.isidentifier() and name.isascii() for name in env):
        words = ["env", *unset, *words]
    arguments = [_word(arg, program=place == 0) for place, arg in enumerate(stage.argv)]
    for place, arg in stage.substitutions.arguments.items() if stage.substitutions is not None else ():
        arguments[place] = _joined(arg.parts, options)
    words += arguments
    errors = _path(stage.stderr)
    if errors is not None:
        words.append(f"2> {errors}")
    elif (options.get("stderr") if stage.stderr is None else stage.stderr) in (STDOUT, NEXT):
        words.append("2>&1")
    if stage.stdout is not None:
        words.append(_aside(stage.stdout))
    line = " ".join(words)
    return line if stage.cwd is None else f"(cd {_folder(stage.cwd)} && {line})"


def _folder(cwd: str) -> str:
    return _placeholder(cwd) if is_template(cwd) else shell_word(masked(cwd, _HIDDEN))


def _placeholder(value: object) -> str:
    """Return the word for a placeholder of an input that is not known yet."""
    return shell_word(f"{{{value!r}}}")


def _joined(parts: Sequence[Any], options: Mapping[str, Any]) -> str:
    """Return the word for an argument that is joined of texts and names of pipes."""
    words: list[str] = []
    text = ""
    for part in parts:
        if isinstance(part, str | bytes):
            text += os.fsdecode(part)
            continue
        if text:
            words.append(_word(text, program=False))
            text = ""
        # By what it has, because the module of substitutions is loaded for few programs.
        pipeline = getattr(part, "pipeline", None)
        words.append(_branch(part.branch, options) if pipeline is None else _source(pipeline, options))
    if text or not words:
        words.append(_word(text, program=False))
    return "".join(words)


def _word(arg: str | bytes, *, program: bool) -> str:
    return shell_word(masked(os.fsdecode(arg), _HIDDEN), program=program)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return shell_word(masked(value, _HIDDEN)) if value else ""
    return _placeholder(value) if is_template(value) else shell_word(f"<{name_of(value)}()>")


def _aside(end: object) -> str:
    """Return the redirection of a stdout that does not go to the next stage."""
    if isinstance(end, int) and not isinstance(end, Special):
        return f">&{end}"
    return _target(end) or f"> {shell_word(repr(end))}"


def _target(end: object) -> str | None:
    """Return the redirection to a file, if the end is one or DEVNULL."""
    if isinstance(end, FileTarget):
        return f"{'>>' if isinstance(end, appending) else '>'} {_path(end.path)}"
    path = _path(end)
    return None if path is None else f"> {path}"


def _path(end: object) -> str | None:
    """Return the word of a redirection, if the end is a path or DEVNULL."""
    if isinstance(end, str | os.PathLike):
        return shell_word(os.fsdecode(end))
    if is_template(end):
        return _placeholder(end)
    return "/dev/null" if end is DEVNULL else None
