"""The constructors of graphs: stages with branches, sources of several pipelines, and names of pipes.

Each returns a pipeline of one stage, or an argument for `command()`. An invalid argument raises a TypeError
or ValueError here, when the graph is made, and names the branch.

Out of scope: how a pipeline becomes nodes and edges (`engine.graph`), and the copying (`stages.tee`).
"""

from __future__ import annotations

from penstock.api.pipeline import Pipeline
from penstock.api.variants import check_callable, python_stage
from penstock.core.async_detection import plain
from penstock.core.constants import CAPTURE, PIPE
from penstock.core.describe import describe
from penstock.core.habits import stage_hint
from penstock.core.loaded import is_template
from penstock.core.options import check
from penstock.core.placeholders import masked
from penstock.core.public import exported
from penstock.engine.graph import PipelineSpec
from penstock.stages.branch import Branch
from penstock.stages.function import Function
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from typing import Any, Literal

    from penstock.stages.substitution import Reading, Writing

__all__ = ["concat", "function_with_ports", "merge", "reading", "route", "shared", "tee", "writing"]

_MAX_CAPTURED = 64 << 20
"""Bytes that a branch captures, unless `max_output` says otherwise."""
_SOURCE_ENDS = "stdout", "max_output", "idle_timeout", "spool", "keep"
_BRANCH_ENDS = "input", "stdin", "idle_timeout", "spool", "keep"


@exported
def tee(*branches: Any, until: Literal["all", "main"] = "all", name: str | None = None) -> Pipeline:
    r"""Make a stage that passes its input on, and copies it into each branch.

    A branch is a stage, a pipeline, or anything that `stdout=` takes: a path, a descriptor, a file object, an
    object with `write`. A pipeline writes where its own `stdout` option says (`to`); without one its output
    is captured, at most `max_output` (64 MiB by default), and `Result.output(name)` returns it. The name is
    that of the branch's pipeline, or else of its last stage. Without a next stage the tee writes to the
    stdout of the run; `stdout=DEVNULL` if only the branches matter.

    The slowest reader sets the pace. A branch that has had enough, or that failed, is left out, and the
    others get everything; with no reader left the stage ends with a closed pipe. With `until="main"` it ends
    when the next stage has had enough, and the branches see EOF. If branches meet again in a stage that reads
    several pipelines, and that waits for one of them while another is full, the bytes for the full one are
    kept, in memory and then in a file, within the option `spool`. So no graph hangs.

    Raises TypeError or ValueError for something that is not a branch, for one with `stdin` or `input`, and
    for an unknown `until`.

    >>> from penstock import CAPTURE, command
    >>> counted = command("printf", "a\nb\n") | tee(command("wc", "-l")) | command("sort", "-r")
    >>> result = counted.run(stdout=CAPTURE)
    >>> result.stdout, int(result.output("wc"))
    (b'b\na\n', 2)
    """
    with late_import:
        from penstock.stages.tee import Tee  # noqa: PLC0415 - most programs have no graphs

    if until not in ("all", "main"):
        raise ValueError(f"until must be 'all' or 'main', not {until!r}")
    outlets = {str(number): make_branch(branch) for number, branch in enumerate(branches, 1)}
    return Pipeline(Tee(outlets, _name(name, "tee"), ends_with_stdout=until == "main"))


@exported
def merge(*pipelines: Any, records: bytes | None = b"\n", name: str | None = None) -> Pipeline:
    r"""Make a source of the outputs of several pipelines, as they come.

    Each output is passed on in whole records, which end with `records` (lines by default); a last record
    without it gets one. With `records=None` bytes are passed on as they come, and may be mixed within a line.
    A record of more than 16 MiB fails the stage with `LineTooLong`. All pipelines start at once. Each has its
    own `stdin` or `input`.

    Raises TypeError for something that is not a stage or pipeline, ValueError for none at all or an empty
    `records`.

    >>> from penstock import command
    >>> sorted(merge(command("printf", "b\na"), command("printf", "c\n")).iter_lines())
    [b'a', b'b', b'c']
    """
    with late_import:
        from penstock.stages.merge import Merge  # noqa: PLC0415 - as above

    if records is not None and not isinstance(records, bytes):
        raise TypeError(f"records must be bytes or None, not {describe(records)}")
    if records == b"":
        raise ValueError("records must not be empty; None passes bytes on as they come")
    return Pipeline(Merge(_inlets("merge", pipelines), _name(name, "merge"), records))


@exported
def concat(*pipelines: Any, name: str | None = None) -> Pipeline:
    r"""Make a source of the outputs of several pipelines, one after the other.

    All of them start at once, so a later one waits when its pipe is full. Each has its own `stdin` or
    `input`. Raises TypeError for something that is not a stage or pipeline, and ValueError for none at all.

    >>> from penstock import command
    >>> concat(command("echo", "b"), command("echo", "a")).output()
    b'b\na\n'
    """
    with late_import:
        from penstock.stages.merge import Concat  # noqa: PLC0415 - as above

    return Pipeline(Concat(_inlets("concat", pipelines), _name(name, "concat")))


@exported
def shared(pipeline: Any) -> Pipeline:
    r"""Make one node of a pipeline, however often it is used in a graph.

    Without this a pipeline that is written twice runs twice. It is a source: it must be the first stage
    wherever it is used. Each user gets the whole output, as from `tee`, and with the same promise that no
    graph hangs. It has its own `stdin` or `input`; if the pipeline that is run begins with it and it has
    none, it reads the stdin of the run.

    Raises TypeError for something that is not a stage or pipeline.

    >>> from penstock import command, reading
    >>> numbers = shared(command("seq", "9"))
    >>> command("comm", "-12", reading(numbers), reading(numbers | command("grep", "[37]"))).text()
    '3\n7\n'
    """
    with late_import:
        from penstock.stages.tee import Shared  # noqa: PLC0415 - as above

    return Pipeline(Shared(_source("shared", pipeline)))


@exported
def reading(source: Any, *, via: Literal["fd", "fifo", "file"] = "fd", suffix: str = "") -> Reading | str:
    r"""Make an argument of `command()`: a file name from which the program reads the output of `source`.

    As `<(...)` of bash. But the run waits for the source, and its failure is the failure of the run. `source`
    is a stage or a pipeline; a path stands for itself. With `via="fd"` the name is `/dev/fd/N`, a pipe that
    this program alone inherits. With `via="fifo"` it is a FIFO in a private folder, whose name ends with
    `suffix`: for programs whose own children open the name. With `via="file"` it is a file there, complete
    before the program starts: for programs that seek. If the source fails, the program is not started.

    Raises TypeError for anything else as `source`, and ValueError for an unknown `via`, or a `suffix` with a
    slash or without a FIFO.

    >>> from penstock import command
    >>> command("paste", reading(command("seq", "2")), reading(command("seq", "3", "4"))).text()
    '1\t3\n2\t4\n'
    """
    with late_import:
        from penstock.stages.substitution import Reading  # noqa: PLC0415 - as above

    if isinstance(source, str) or (hasattr(source, "__fspath__") and not isinstance(source, PipelineSpec)):
        return str(source)
    if is_template(source):
        return source  # type: ignore[no-any-return] # the placeholder of a path
    return Reading(_source("reading", source), *_means(("fd", "fifo", "file"), via, suffix))


@exported
def writing(branch: Any, *, via: Literal["fd", "fifo"] = "fd", suffix: str = "") -> Writing:
    """Make an argument of `command()`: a file name; the branch gets what the program writes to it.

    As `>(...)` of bash. But the run waits for the branch, and its failure is the failure of the run. `branch`
    is as for `tee`, `via` and `suffix` as for `reading`. When the program has exited, the branch sees EOF, or
    the grace time later if a process that it left behind still holds the pipe (event `leftover`).

    If the branch is a path, `atomic(path)` or DEVNULL, the name is that of the file, not of a pipe. The file
    is made or emptied before anything starts. A full disk is the failure of the program then. The program
    still gets a pipe if another output of the run writes to the file, if its mode does not allow us to read
    and write, if it is neither a regular file nor like /dev/null, or with `via="fifo"`.

    Raises the errors of `tee` and `reading`.

    >>> from penstock import CAPTURE, command
    >>> result = command("tee", writing(command("wc", "-c"))).run(input=b"four", stdout=CAPTURE)
    >>> result.stdout, int(result.output("wc"))
    (b'four', 4)
    """
    with late_import:
        from penstock.stages.substitution import Writing  # noqa: PLC0415 - as above

    return Writing(make_branch(branch), *_means(("fd", "fifo"), via, suffix))


@exported
def route(
    fn: Callable[[bytes], Hashable], branches: Mapping[Any, Any], *, name: str | None = None
) -> Pipeline:
    r"""Make a stage that deals its lines out to branches: each line goes to `branches[fn(line)]`.

    Lines are bytes without LF; each is written with one. A line for which `fn` returns None goes on to the
    next stage. The branches are as for `tee`. One that has had enough, or that failed, is left out: its lines
    are dropped. With no reader left the stage ends with a closed pipe. Another key is a KeyError of the
    stage.

    Raises TypeError if `fn` is not callable or is async, and the errors of `tee` for a branch.

    >>> from penstock import CAPTURE, command
    >>> split = command("seq", "5") | route(lambda n: int(n) % 2 or None, {1: command("wc", "-l")})
    >>> result = split.run(stdout=CAPTURE)
    >>> result.stdout, int(result.output("wc"))
    (b'2\n4\n', 3)
    """
    with late_import:
        from penstock.stages.route import Route  # noqa: PLC0415 - as above

    plain("fn", check_callable("route", fn))
    _check_mapping("branches", branches)
    stage = Route(fn, name, list(branches))
    stage.take_ports({}, {stage.ports[key]: make_branch(branch) for key, branch in branches.items()})
    return Pipeline(stage)


def function_with_ports(
    fn: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any], name: str | None, isolate: object
) -> Pipeline:
    """Make a stage of a function that has more ends than stdin and stdout; see `penstock.function`."""
    _check_mapping("inputs", inputs)
    _check_mapping("outputs", outputs)
    for port in (*inputs, *outputs):
        if not isinstance(port, str) or not port or port in ("stdin", "stdout"):
            raise ValueError(
                f"the name of an input or output must be a str, and not stdin or stdout: {port!r}"
            )
    if shared_names := inputs.keys() & outputs.keys():
        raise ValueError(f"an input and an output have the same name: {min(shared_names)!r}")
    stage: Any = python_stage(
        "function", fn, isolate, lambda: Function(fn, name), lambda a: a.AsyncFunction(fn, name)
    ).stages[0]
    stage.take_ports(
        {port: _source("function", each) for port, each in inputs.items()},
        {port: make_branch(branch) for port, branch in outputs.items()},
    )
    return Pipeline(stage)


def make_branch(thing: Any) -> Branch:
    """Return a branch of a graph. Raises TypeError or ValueError, naming it, if it cannot be one."""
    pipeline = None
    if isinstance(thing, PipelineSpec) or (hasattr(thing, "name") and hasattr(thing, "start")):
        pipeline = thing if isinstance(thing, Pipeline) else Pipeline(thing)
        if pipeline.stages and getattr(pipeline.stages[0], "is_source", False):
            raise ValueError(f"{pipeline!r} is a source, so it cannot be a branch, which has an input")
        options = dict(pipeline.options)
        name = str(options.get("name") or _last_name(pipeline))
        for option in _BRANCH_ENDS:
            if options.get(option) is not None:
                raise ValueError(f"branch {name!r} cannot have {option}: it reads what the stage writes")
        target = {"stdout": options.pop("stdout", CAPTURE), "max_output": options.pop("max_output", None)}
        pipeline = Pipeline._of(pipeline.stages, options)  # noqa: SLF001 - the same pipeline without its end
    else:
        target = {"stdout": thing, "max_output": None}
        name = (
            masked(str(thing)) if isinstance(thing, str) or hasattr(thing, "__fspath__") else describe(thing)
        )
    try:
        checked = check({"stdout": target["stdout"]})
    except (TypeError, ValueError) as error:
        if pipeline is not None or isinstance(error, ValueError):
            raise type(error)(f"branch {name!r}: {error}") from None
        hint = "" if isinstance(thing, bytes) else stage_hint(thing)
        raise TypeError(f"branch {name!r}: neither a stage nor a pipeline, and {error}{hint}") from None
    if checked["stdout"] is PIPE:
        raise ValueError(f"branch {name!r} cannot have a PIPE: nobody could read it")
    if checked["stdout"] is not CAPTURE and target["max_output"] is not None:
        raise ValueError(f"branch {name!r}: max_output limits what is captured, so it has no other stdout")
    if checked["stdout"] is CAPTURE and target["max_output"] is None:
        target["max_output"] = _MAX_CAPTURED
    return Branch(name, pipeline, {**target, **checked})


def _last_name(pipeline: PipelineSpec) -> str:
    return str(pipeline.stages[-1].name) if pipeline.stages else "copy"  # type: ignore[union-attr]


def _inlets(what: str, pipelines: tuple[Any, ...]) -> dict[str, Pipeline]:
    if not pipelines:
        raise ValueError(f"{what}() needs at least one pipeline")
    return {str(number): _source(what, each) for number, each in enumerate(pipelines, 1)}


def _source(what: str, thing: Any) -> Pipeline:
    """Return a pipeline that another stage reads."""
    pipeline = thing if isinstance(thing, Pipeline) else Pipeline(thing)
    for option in _SOURCE_ENDS:
        if pipeline.options.get(option) is not None:
            raise ValueError(f"{what}() reads the output of {pipeline!r}, so that cannot have {option}")
    return pipeline


def _means(known: tuple[str, ...], via: str, suffix: str) -> tuple[str, str]:
    if via not in known:
        raise ValueError(f"via must be {' or '.join(map(repr, known))}, not {via!r}")
    if not isinstance(suffix, str):
        raise TypeError(f"suffix must be a str, not {describe(suffix)}")
    if suffix and (via == "fd" or "/" in suffix or "\0" in suffix):
        raise ValueError("suffix is the end of a file name: it needs another via than 'fd', and no slash")
    return via, suffix


def _check_mapping(what: str, given: object) -> None:
    if not (hasattr(given, "keys") and hasattr(given, "items")):
        raise TypeError(f"{what} must be a mapping of names to pipelines or branches, not {describe(given)}")


def _name(given: str | None, default: str) -> str:
    if given is not None and (not isinstance(given, str) or not given):
        raise TypeError(f"name must be a non-empty str or None, not {describe(given)}")
    return masked(given or default)
