"""The outputs of a run: the values that stdout and stderr have, and the mistakes that can be seen in them.

A mistake is a ValueError that names the option or the stage, before anything is opened: stderr=NEXT in the
last stage, a stdin that the opening of an output would empty, an atomic output whose file another output
writes to as well. Looking opens nothing.

Several outputs may be one file, under any name. Then each is opened once (`system.shared_files`).
"""

from __future__ import annotations

import io
import os
import stat

from penstock.core.constants import INHERIT, NEXT, Special
from penstock.core.file_targets import FileTarget, appending, atomic
from penstock.core.options import DEFAULTS
from penstock.engine.graph import PlanGroup
from penstock.stages.base import traits_of
from penstock.streams.endpoints import Access, check_open, number_of, sink_access, unwrap
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from penstock.engine.graph import Graph, PlanNode

    Output = tuple[str, Any]

__all__ = ["check_outputs", "given_descriptor", "status_of", "stderr_of"]

_PATHS = (str, os.PathLike, FileTarget)


def check_outputs(
    graph: Graph, options: Mapping[str, Any], *, own_ends: bool, iterate: bool
) -> Sequence[Output]:
    """Check the outputs of a run; return their names and values if two of them may be one file, else nothing.

    `own_ends` says that stdin and stdout are those of `options`, and are not given by a stage; `iterate` that
    the caller reads what the last stage writes.
    """
    stderr = options.get("stderr")
    if not graph.has_own_outputs and stderr is not NEXT:  # nearly always: then two looks are enough
        stdout = options.get("stdout")
        if (stdout is None or type(stdout) is Special) and (stderr is None or type(stderr) is Special):
            return ()
    for end in graph.sinks if own_ends else graph.sinks[1:]:
        _check_last(end.node, options)
    stdout = options.get("stdout", INHERIT) if own_ends and not iterate else None
    found = _outputs(graph, options, stdout)
    if not any(isinstance(value, _PATHS) for _, value in found):
        return ()
    if own_ends:
        _check_source("stdin", options.get("stdin"), found)
    for end in graph.sources[1:]:
        _check_source(f"stdin of {end.node.stage.name!r}", end.options.get("stdin"), found)
    _check_atomic(found)
    return found if len(found) > 1 else ()


def stderr_of(node: PlanNode, options: Mapping[str, Any]) -> Any:
    """Return the stderr option that holds for a command: its own, or that of a pipeline around it."""
    own = traits_of(node.stage).stderr
    if own is not None:
        return own
    group = node.group
    while group.parent is not None:
        if "stderr" in group.options:
            return group.options["stderr"]
        group = group.parent.group
    return options.get("stderr", DEFAULTS["stderr"])


def given_descriptor(option: str, value: Any) -> int | None:
    """Return the number of the descriptor that an output is, or has; None for a path, say."""
    if value is INHERIT:
        return 1 if option.startswith("stdout") else 2
    value, _ = unwrap(value)
    if isinstance(value, (Special, *_PATHS)):
        return None
    try:
        return None if sink_access("stdout", value) is Access.CALL else number_of(value)
    except (OSError, ValueError):  # the endpoint will say what is wrong with it
        return None


def _outputs(graph: Graph, options: Mapping[str, Any], stdout: Any) -> list[Output]:
    """Return the name and the value of each output that may be a file."""
    found = [("stdout", stdout), ("stderr", options.get("stderr"))]
    groups = [group for group in graph.parents if isinstance(group, PlanGroup)]
    found += [("stderr of a pipeline within it", group.options.get("stderr")) for group in groups]
    for node in graph.nodes:
        traits = traits_of(node.stage)
        if traits.stderr is not None:
            found.append((f"stderr of {node.stage.name!r}", traits.stderr))
        if traits.stdout is not None:
            _check_aside(node.stage.name, traits.stdout)
            found.append((f"stdout of {node.stage.name!r}", traits.stdout))
    found += [(f"stdout of branch {end.branch!r}", end.options["stdout"]) for end in graph.sinks[1:]]
    for option, value in found:
        if option != "stdout":
            check_open(option, value)
    return [output for output in found if not isinstance(output[1], Special | None) or output[1] is INHERIT]


def _check_last(node: PlanNode, options: Mapping[str, Any]) -> None:
    """Raise ValueError if the last stage is a command that sends its stderr to the next one."""
    if traits_of(node.stage).kind == "command" and stderr_of(node, options) is NEXT:
        raise ValueError(
            f"stage {node.stage.name!r} is the last, so there is no next stage for stderr=NEXT: "
            "use stderr=STDOUT to send its stderr where its stdout goes"
        )


def _check_aside(name: str, value: Any) -> None:
    """Raise ValueError if a child may not have the stdout of its command as it is."""
    option = f"stdout of {name!r}"
    value, _ = unwrap(value)
    if isinstance(value, (Special, *_PATHS)):
        return
    if sink_access(option, value) is not Access.PASS:
        raise ValueError(f"{option} must be a path, or have a blocking descriptor of its own: {value!r}")


def _check_source(name: str, source: Any, outputs: Sequence[Output]) -> None:
    """Raise ValueError if opening an output would empty the file that a first stage is to read."""
    emptied = [(option, value) for option, value in outputs if isinstance(value, str | os.PathLike)]
    if not emptied:
        return
    read = (
        status_of(source) if not isinstance(source, Special) else status_of(0) if source is INHERIT else None
    )
    if read is None or not stat.S_ISREG(read.st_mode):
        return
    for option, value in emptied:
        written = status_of(value)
        if written is not None and os.path.samestat(read, written):
            raise ValueError(
                f"{name} and {option} are the same file, which would be empty before it is read: {value!r}; "
                "write to atomic(...), which replaces it at the end"
            )


def _check_atomic(outputs: Sequence[Output]) -> None:
    """Raise ValueError if an atomic output is not a regular file, or if another output is its target."""
    targets: dict[str, Output] = {}
    for option, value in outputs:
        if isinstance(value, atomic):
            with late_import:
                from penstock.system.atomic_file import check_target, target_of  # noqa: PLC0415 - few runs have one

            check_target(option.split()[0], value.path)
            try:
                targets[target_of(value.path)] = option, value
            except OSError:  # the start will say what is wrong
                continue
    for option, value in outputs if targets else ():
        if not isinstance(value, atomic):
            found = _same_target(value, targets)
            if found is not None:
                raise ValueError(
                    f"{found[0]} is {found[1]!r}, which replaces the file that {option} writes to, "
                    f"{value!r}: give both as atomic, or one of them another path"
                )


def _same_target(value: Any, targets: Mapping[str, Output]) -> Output | None:
    """Return the atomic output whose target is also the file of another output."""
    if isinstance(value, appending):
        value = value.path
    if isinstance(value, str | os.PathLike):
        try:
            return targets.get(os.path.realpath(os.fsdecode(value)))
        except OSError:  # the working directory is gone; the start will say so
            return None
    written = None if value is INHERIT else status_of(value)
    for target, output in targets.items():
        there = None if written is None else status_of(target)
        if written is not None and there is not None and os.path.samestat(written, there):
            return output
    return None


def status_of(value: Any) -> os.stat_result | None:
    """Return the status of the file behind a path, a descriptor or a file of io; None if there is none."""
    value, _ = unwrap(value)
    try:
        if isinstance(value, io.IOBase):
            value = int(value.fileno())
        elif not isinstance(value, str | os.PathLike | int):
            return None
        return os.stat(value)  # noqa: PTH116 - descriptors too
    except (OSError, ValueError, OverflowError):  # the endpoint will say what is wrong with it
        return None
