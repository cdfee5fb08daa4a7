"""The pipeline as a value: immutable, reusable, and itself a stage.

A stage alone is a pipeline of one stage without options, which is what the constructors of stages return; so
everything that a pipeline can do, each stage can. Joining flattens pipelines without options of their own and
keeps the others as one stage. No engine lives here: the methods check options, make a `Run`, and wait for it.
"""

from __future__ import annotations

import codecs
from functools import cache
from typing import TYPE_CHECKING, Any, overload

from penstock.api.iteration import iterate
from penstock.api.lines import Lines, lines_of
from penstock.api.nested import start_nested
from penstock.api.run import Run
from penstock.core.constants import CAPTURE, DEVNULL
from penstock.core.options import DEFAULTS, check, check_ends
from penstock.core.plan import Edge, Plan
from penstock.core.stage import Requirements
from penstock.engine.loop_binding import bind
from penstock.engine.run_plan import plan_run
from penstock.engine.tree import PipelineSpec
from penstock.stages.filters import Filtered, ignoring
from penstock.system.fork_guard import late_import

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from inspect import Signature
    from types import ModuleType
    from typing import Self, TypeAlias, Unpack

    from penstock.api.async_run import AsyncBytes, AsyncLines, StartingRun
    from penstock.core.matchers import Matcher
    from penstock.core.options import Options
    from penstock.core.result import Result
    from penstock.core.stage import RunningStage, Stage
    from penstock.limits.memory_watch import MemoryWatch
    from penstock.stages.context import StageContext
    from penstock.streams.stage_ends import Input, Output

    Joinable: TypeAlias = Stage | PipelineSpec

__all__ = ["Pipeline", "checked_stage", "watched"]

_DEEPEST = 100
"""A run, `repr`, `name` and `pickle` descend by calls, of which the interpreter allows about a thousand."""


class _Signature:
    """What `help()` and `inspect` show: the options by name, with their defaults.

    The constructor itself takes them as a mapping, to know which were given: a nested pipeline's
    `stderr=CAPTURE` counts against its parent's, though it is the default.
    """

    def __get__(self, instance: object, owner: type) -> Signature:
        from inspect import Parameter, Signature  # noqa: PLC0415 - for who looks only

        options = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=default) for name, default in DEFAULTS.items()
        ]
        return Signature([Parameter("stages", Parameter.VAR_POSITIONAL), *options])


class Pipeline(PipelineSpec):
    """Stages joined by pipes, and how to run them. Immutable; `replace`, `then` and `|` make new ones.

    `name` is how errors of the options call it; `cwd` and `env` are those of its commands (`env` lies over
    the inherited environment, and a command's own over it; None unsets, a callable is called at start);
    `stdin` and `stdout` are what the first stage reads and the last writes, `input` bytes or str (as UTF-8)
    for the first; `stderr` is where the commands' stderr goes. `on_event` is called with each `Event`,
    `on_exception(stage_name, exc)` with what Python stages raise, and returns what is to count. `timeout` is
    seconds or a timedelta for the whole run, `grace` seconds between SIGTERM and SIGKILL, `limits` a `Limits`
    for its commands, `on_leftover` what is done about processes that a command leaves behind (see `command`).
    `fail_fast` ends the rest when one stage fails. `pipe_errors` is "forgive" (an early end downstream
    excuses SIGPIPE upstream) or "report" (only a `FinishEarly` does, as in go-pipe). `pipe_size` is bytes for
    the pipes between stages, as far as the kernel allows.

    A mistake in an option is a TypeError or ValueError that names it. What is passed in stays the caller's,
    unless wrapped in `closing`.
    """

    __slots__ = ()

    __signature__ = _Signature()

    def __init__(self, *stages: Joinable, **options: Unpack[Options]) -> None:
        self._options = check(options)
        self._stages = _flat(stages)
        self.depth = _depth(self._stages)

    @classmethod
    def _of(cls, stages: tuple[Joinable, ...], options: Mapping[str, Any]) -> Self:
        """A pipeline of parts that were checked before."""
        made = cls.__new__(cls)
        made._stages = stages  # noqa: SLF001 - this is the other constructor
        made._options = options  # noqa: SLF001
        made.depth = _depth(stages)
        return made

    def __repr__(self) -> str:
        options = dict(self._options)
        watch = options.pop("watch", None)
        if not options and len(self._stages) == 1:
            shown = repr(self._stages[0])
        else:
            parts = [repr(stage) for stage in self._stages]
            parts += [f"{option}={value!r}" for option, value in options.items()]
            shown = f"Pipeline({', '.join(parts)})"
        return shown if watch is None else watch.show(shown)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self._stages, dict(self._options))

    # As a stage.

    @property
    def name(self) -> str:
        """Its own name, else its stages' names joined by ` | `."""
        given = self._options.get("name")
        if isinstance(given, str):
            return given
        return " | ".join(stage.name for stage in self._stages) or "copy"  # type: ignore[union-attr]

    @property
    def requirements(self) -> Requirements:
        """What its outer stages ask of the streams."""
        if not self._stages:
            return Requirements()
        first, last = (getattr(self._stages[end], "requirements", None) or Requirements() for end in (0, -1))
        return Requirements(first.stdin, last.stdout)

    # Composing.

    def __or__(self, other: Joinable) -> Pipeline:
        return Pipeline._of(_flat((self, other)), {}) if _is_stage(other) else NotImplemented

    def __ror__(self, other: Joinable) -> Pipeline:
        return Pipeline._of(_flat((other, self)), {}) if _is_stage(other) else NotImplemented

    def then(self, *stages: Joinable) -> Pipeline:
        """The pipeline with `stages` after its own; it keeps its options."""
        return Pipeline._of((*self._stages, *_flat(stages)), self._options)

    def then_ignoring(self, matcher: Matcher, *stages: Joinable) -> Pipeline:
        """As `then`, each of `stages` a success where `matcher(error)` is true."""
        if not callable(matcher):
            raise TypeError(f"then_ignoring() takes a matcher first, not {matcher!r}")
        return self.then(*(Filtered(checked_stage(stage), ignoring(matcher)) for stage in stages))

    def replace(self, **options: Unpack[Options]) -> Pipeline:
        """The pipeline with these options in the place of its own."""
        return Pipeline._of(self._stages, self._merged(options))

    # Running.

    def run(self, check: bool = True, **options: Unpack[Options]) -> Result:  # noqa: FBT001, FBT002 - subprocess's signature
        """Run it and wait for the end.

        Raises the PipelineError of the verdict; with `check=False` returns it in `Result.error`, a failed
        start too.
        """
        merged = self._merged(options)
        check_ends(merged, "run")
        return Run.run_inline(self, merged).get_result(check=check)

    def output(self, **options: Unpack[Options]) -> bytes:
        """Run it and return the bytes that its last stage wrote, unchanged. Raises as `run` does."""
        check_ends(options, "output", ("stdout",))
        merged = self._merged(options)
        merged["stdout"] = CAPTURE
        check_ends(merged, "output")
        return Run.run_inline(self, merged).captured()

    def text(self, encoding: str = "utf-8", errors: str = "strict", **options: Unpack[Options]) -> str:
        """As `output`, decoded; a trailing LF stays, and so does CR.

        UnicodeDecodeError where it is no such text.
        """
        codecs.lookup(encoding)  # a LookupError before anything starts
        return self.output(**options).decode(encoding, errors)

    def iter_bytes(self, **options: Unpack[Options]) -> Generator[bytes]:
        """Run it, and iterate over what its last stage writes, in chunks as they come, none empty.

        It starts with the first `next()`. Its failure is raised after the last chunk. Closing the iterator
        early (leaving a `for` by `break`, once nothing refers to the iterator) ends the run, and is not a
        failure.
        """
        check_ends(options, "iter_bytes", ("stdout",))
        merged = self._merged(options)
        check_ends(merged, "iter_bytes")
        bind(plan_run(self, merged, iterate=True), None)
        return iterate(self, merged)

    def iter_lines(self, **options: Unpack[Options]) -> Lines:
        """As `iter_bytes`, by line: bytes without the LF (a CR stays); a last line that has none is
        delivered too.
        """
        return lines_of(self.iter_bytes(**options))

    @overload
    def start(self, **options: Unpack[Options]) -> Run: ...
    @overload
    def start(self, ctx: StageContext, stdin: Input, stdout: Output, /) -> RunningStage: ...
    def start(self, *given: Any, **options: Any) -> Run | RunningStage:
        """Start it, and return the `Run` at once.

        StartError where a stage cannot be started; then nothing is left.

        Called with a context, an Input and an Output it is the start of a stage, for custom stages that hold
        a pipeline.
        """
        if given:
            ctx, stdin, stdout = given
            return start_nested(self, ctx, stdin, stdout)
        return Run.begin(self, self._merged(options))

    # Running in an event loop.

    async def arun(self, check: bool = True, **options: Unpack[Options]) -> Result:  # noqa: FBT001, FBT002 - as `run`
        """As `run`, in an event loop of asyncio, uvloop or trio. It needs the extra `async`.

        Cancelling the task or scope ends the run, waits until its children are reaped, and goes on then.
        """
        merged = self._merged(options)
        check_ends(merged, "arun")
        result: Result = await _aio().run_to_end(self, merged, check=check)
        return result

    async def aoutput(self, **options: Unpack[Options]) -> bytes:
        """As `output`, in an event loop; cancelled as `arun` is."""
        check_ends(options, "aoutput", ("stdout",))
        merged = self._merged(options)
        merged["stdout"] = CAPTURE
        check_ends(merged, "aoutput")
        result: Result = await _aio().run_to_end(self, merged, check=True)
        return b"" if result.stdout is None else result.stdout

    async def atext(self, encoding: str = "utf-8", errors: str = "strict", **options: Unpack[Options]) -> str:
        """As `text`, in an event loop; cancelled as `arun` is."""
        codecs.lookup(encoding)  # a LookupError before anything starts
        return (await self.aoutput(**options)).decode(encoding, errors)

    def aiter_bytes(self, **options: Unpack[Options]) -> AsyncBytes:
        """As `iter_bytes`, for `async for`.

        Closing the iterator early is no failure: `aclose()`, or `async with` around its use, waits for the
        children; dropping it (leaving an `async for` by `break`) ends them without waiting. A cancellation
        while it waits for a chunk ends the run, as with `arun`.
        """
        check_ends(options, "aiter_bytes", ("stdout",))
        merged = self._merged(options)
        check_ends(merged, "aiter_bytes")
        plan_run(self, merged, iterate=True)
        iterator: AsyncBytes = _aio().AsyncBytes(self, merged)
        return iterator

    def aiter_lines(self, **options: Unpack[Options]) -> AsyncLines:
        """As `aiter_bytes`, by line: as `iter_lines`."""
        lines: AsyncLines = _aio().AsyncLines(self.aiter_bytes(**options))
        return lines

    def astart(self, **options: Unpack[Options]) -> StartingRun:
        """As `start`, for `async with pipeline.astart() as run`; `run` is an `AsyncRun`.

        Leaving the block closes `run.stdin` and `run.stdout` and waits; by an exception, a cancellation for
        one: cancels the run first.
        """
        merged = self._merged(options)
        plan_run(self, merged)
        starting: StartingRun = _aio().StartingRun(self, merged)
        return starting

    def explain(self, **options: Unpack[Options]) -> Plan:
        """How each edge would be carried; starts nothing."""
        plan = plan_run(self, self._merged(options))
        names = ["stdin", *(leaf.stage.name for leaf in plan.leaves), "stdout"]
        return Plan(names, [Edge(*edge) for edge in zip(names[:-1], names[1:], plan.kinds, strict=True)])

    def _merged(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The pipeline's options under those of a call, checked."""
        given = check(options)
        merged = {**self._options, **given}
        # What the call says about the input replaces what the pipeline says, in whichever way each says it.
        if given.get("input") is not None:
            merged["stdin"] = DEVNULL
        elif "stdin" in given:
            merged["input"] = None
        return merged


@cache
def _aio() -> ModuleType:
    """The async face, imported when it is first used."""
    with late_import:
        try:
            from penstock.api import async_run  # noqa: PLC0415 - it needs anyio, which only some users have
        except ModuleNotFoundError as missing:
            if missing.name != "anyio":
                raise
            raise ImportError(
                "the async methods need anyio: pip install 'penstock[async]'", name="anyio"
            ) from missing
    return async_run


def checked_stage(stage: Any) -> Any:
    """A stage as the engine takes it: a pipeline of one stage without options is that stage."""
    if not _is_stage(stage):
        raise TypeError(
            f"not a stage or pipeline: {stage!r}; wrap a function in function(), map_lines() or the like"
        )
    if isinstance(stage, PipelineSpec):
        for option in ("stdin", "stdout", "input"):
            if option in stage.options:
                raise ValueError(
                    f"a nested pipeline takes its streams from its parent, but {stage!r} has {option} set"
                )
        if not stage.options and len(stage.stages) == 1:
            return stage.stages[0]
    return stage


def watched(stage: Stage | PipelineSpec, watch: MemoryWatch) -> Pipeline:
    """A pipeline around `stage` whose memory is watched. It stands by itself: what is joined to it is not."""
    return Pipeline._of((Pipeline._of(_flat((stage,)), {"watch": watch}),), {})  # noqa: SLF001 - as `_of` says


def _flat(stages: tuple[Joinable, ...]) -> tuple[Joinable, ...]:
    flat: list[Joinable] = []
    for stage in stages:
        kept = checked_stage(stage)
        if isinstance(kept, PipelineSpec) and not kept.options:
            flat.extend(kept.stages)
        else:
            flat.append(kept)
    return tuple(flat)


def _depth(stages: tuple[Joinable, ...]) -> int:
    """How many pipelines and error filters lie in one another, these stages' own included."""
    deepest = 0
    for stage in stages:
        inner, depth = stage, 0
        while isinstance(inner, Filtered):
            inner, depth = inner.stage, depth + 1
        if isinstance(inner, PipelineSpec):
            depth += inner.depth
        deepest = max(deepest, depth)
    if deepest >= _DEEPEST:
        raise ValueError(f"pipelines and error filters can be nested {_DEEPEST} deep at most")
    return deepest + 1


def _is_stage(thing: object) -> bool:
    return isinstance(thing, PipelineSpec) or (
        not isinstance(thing, type) and hasattr(thing, "name") and callable(getattr(thing, "start", None))
    )


def _restore(cls: type[Pipeline], stages: tuple[Joinable, ...], options: dict[str, Any]) -> Pipeline:
    return cls._of(stages, options)
