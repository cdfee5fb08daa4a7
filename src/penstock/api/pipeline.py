"""The pipeline as a value: immutable, reusable, and itself a stage.

The constructors of stages return a pipeline of one stage without options, so each stage has every method of a
pipeline. Joining flattens pipelines without options of their own and keeps the others as one stage. The
methods check options, make a `Run`, and wait for it.

Out of scope: planning and steering a run, which is the engine's task.
"""

from __future__ import annotations

import codecs
from functools import partial

from penstock.api.async_methods import AsyncMethods
from penstock.api.composition import check_sources, checked_stage, flatten, is_stage, nesting_depth
from penstock.api.iteration import Lines, LinesInHand, iterate, lines_of
from penstock.api.run import Run, start_run
from penstock.api.signature import OptionsSignature
from penstock.core.constants import CAPTURE, DEVNULL
from penstock.core.matchers import check_matcher
from penstock.core.noop import noop
from penstock.core.options import TEMPLATE, check, check_capture, check_ends, check_flag
from penstock.core.placeholders import masked
from penstock.core.public import exported
from penstock.core.requirements import Requirements
from penstock.engine.inline_run import run_inline
from penstock.engine.run_plan import plan_run
from penstock.stages.filters import Filtered, ignoring
from penstock.system.fork_guard import late_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping
    from datetime import timedelta
    from typing import Any, Self, TypeAlias, Unpack, overload

    from penstock.core.limits import Limits
    from penstock.core.matchers import Matcher
    from penstock.core.options import Options
    from penstock.core.plan import Plan
    from penstock.core.result import Result
    from penstock.core.stage import RunningStage, Stage
    from penstock.engine.graph import PipelineSpec
    from penstock.jobs.jobs import Jobs
    from penstock.jobs.settings import Collect, Halt
    from penstock.limits.memory_watch import MemoryWatch
    from penstock.stages.context import StageContext
    from penstock.streams.stage_ends import Input, Output

    Joinable: TypeAlias = Stage | PipelineSpec

__all__ = ["Pipeline", "watched"]


@exported
class Pipeline(AsyncMethods):
    r"""Stages joined by pipes, with options. Immutable: `replace`, `then` and `|` return new pipelines.

    The constructor and every method that runs the pipeline take these options by name:

    - `name`: how errors call the pipeline. `cwd`: the working directory of its commands.
    - `env`: maps names to str, `Secret`, None (unset) or a callable that is called at start. It lies over the
      inherited environment (none with `inherit_env=False`), and the `env` of a command lies over it.
    - `stdin`: what the first stage reads: DEVNULL, INHERIT, PIPE (with `start`), a path, a file descriptor, a
      socket, a file object, an object with `read`, or an iterable of bytes.
    - `input`: bytes, or str encoded as UTF-8, for the first stage; not together with `stdin`.
    - `stdout`: where the last stage writes: INHERIT, DEVNULL, CAPTURE, PIPE (with `start`), a path (also in
      `atomic` or `appending`), a file descriptor, a socket, a file object, or an object with `write`.
    - `stderr`: where the commands' stderr goes: CAPTURE (the first and the last 32 KiB), INHERIT, TEE (both:
      captured, and shown on our own stderr as it comes), DEVNULL, STDOUT (where the command's stdout goes),
      NEXT (to the next stage, with the command's stdout; a ValueError in a command that is the last stage), a
      path (also in `atomic` or `appending`), a file descriptor, a file object, or a callable that gets each
      line as bytes without LF. A line of more than 16 MiB is cut there, and a mark says how many bytes were
      omitted.
    - `on_event`: called with each `Event`. `on_exception(stage_name, exc)`: called with each exception of a
      Python stage; returns the exception to report, or None.
    - `timeout`: seconds or a timedelta for the whole run. `grace`: seconds between SIGTERM and SIGKILL.
    - `idle_timeout`: seconds or a timedelta: the run ends with `PipelineTimeout` when no byte of its output
      has come for so long. Time in which the caller does not read does not count. If a command is last, and
      stdout is INHERIT, DEVNULL, PIPE, a path or a descriptor, it gets a pipe, and a worker relays the bytes.
    - `limits`: a `Limits` for its commands. `on_leftover`: "ignore", "report" or "kill", see `command`.
    - `orphans`: "leave" or "kill": whether its commands, with everything that they have started, get SIGKILL
      when this process dies by a signal during the run, SIGKILL too. A small process of its own ensures that.
    - `fail_fast`: cancel the other stages if one fails.
    - `pipe_errors`: "forgive" (a stage that ended early excuses a SIGPIPE before it), or "report" (only a
      `FinishEarly` does, as in go-pipe).
    - `pipe_size`: bytes for the pipes between stages, as far as the kernel allows (F_SETPIPE_SZ in fcntl(2)).
    - `max_output`: the most bytes that are captured, or a text like "64MiB". Past it the run is cancelled and
      fails with `CaptureLimitExceeded`. It has no effect on a run that captures nothing, and is a ValueError
      in the very call that does not.
    - `spool`: the most bytes that a graph keeps, in memory and then in a file, while one of its stages waits
      for another, see `tee`; the default is 10 GiB or half of the free space. With 0 such a wait is an error.
    - `keep`: a folder, for debugging, made if it is missing: a file for each edge behind a stage keeps what
      crosses it. The files are for their owner only (0600).
    - `profile`: True to keep samples of the run in `Result.profile`, for the charts of `Result.write_report`.
      It counts for the outermost pipeline.
    - `progress`: True for a live view of the stages on the terminal, else a line on stderr every 10 seconds
      (docs/watching.md says when); "plain" for such lines, "tty" for the view in any case; or a callable that
      gets a `Snapshot` ten times a second, and a last one. A nested pipeline has none of its own.

    An invalid option raises a TypeError or ValueError that names it, before anything starts. Objects you pass
    in are not closed, unless wrapped in `closing`. `str()` of a pipeline is a line as for bash, for people to
    read, with `***` for secrets.

    >>> from penstock import command
    >>> Pipeline(command("printf", "b\na\n"), command("sort"), timeout=10).text()
    'a\nb\n'
    """

    __slots__ = ()

    __signature__ = OptionsSignature()

    def __init__(self, *stages: Joinable, **options: Unpack[Options]) -> None:
        self._options = check(options)
        self._stages = flatten(stages)
        check_sources(self._stages)
        self._graph = None
        self.depth = nesting_depth(self._stages)

    @classmethod
    def _of(cls, stages: tuple[Joinable, ...], options: Mapping[str, Any]) -> Self:
        """Make a pipeline of parts that were checked before."""
        made = cls.__new__(cls)
        check_sources(stages)
        made._stages = stages  # noqa: SLF001 - this is the other constructor
        made._options = options  # noqa: SLF001
        made._graph = None  # noqa: SLF001
        made.depth = nesting_depth(stages)
        return made

    def __repr__(self) -> str:
        options = dict(self._options)
        watch = options.pop("watch", None)
        options.pop(TEMPLATE, None)
        if not options and len(self._stages) == 1:
            shown = repr(self._stages[0])
        else:
            parts = [repr(stage) for stage in self._stages]
            parts += [f"{option}={value!r}" for option, value in options.items()]
            shown = f"Pipeline({', '.join(parts)})"
        return masked(shown if watch is None else watch.show(shown))

    def __str__(self) -> str:
        with late_import:
            from penstock.api.shell_line import shell_line  # noqa: PLC0415 - only printing needs it

        return shell_line(self._stages, self._options)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_pipeline, (type(self), self._stages, dict(self._options))

    # As a stage.

    @property
    def name(self) -> str:
        """The option `name`, or else the names of its stages joined by ` | `."""
        given = self._options.get("name")
        if isinstance(given, str):
            return given
        return " | ".join(stage.name for stage in self._stages) or "copy"  # type: ignore[union-attr]

    @property
    def requirements(self) -> Requirements:
        """The requirements of the first stage for stdin, and of the last one for stdout."""
        if not self._stages:
            return Requirements()
        first, last = (getattr(self._stages[end], "requirements", None) or Requirements() for end in (0, -1))
        return Requirements(first.stdin, last.stdout)

    # Composing.

    def __or__(self, other: Joinable) -> Pipeline:
        return Pipeline._of(flatten((self, other)), {}) if is_stage(other) else NotImplemented

    def __ror__(self, other: Joinable) -> Pipeline:
        return Pipeline._of(flatten((other, self)), {}) if is_stage(other) else NotImplemented

    def then(self, *stages: Joinable) -> Pipeline:
        """Return a pipeline with `stages` after its own; it keeps its options."""
        return Pipeline._of((*self._stages, *flatten(stages)), self._options)

    def then_ignoring(self, matcher: Matcher, *stages: Joinable) -> Pipeline:
        """Return a pipeline as `then` does, in which `ignore_error(stage, matcher)` wraps each new stage."""
        check_matcher("then_ignoring", matcher)
        return self.then(*(Filtered(checked_stage(stage), ignoring(matcher)) for stage in stages))

    def replace(self, **options: Unpack[Options]) -> Pipeline:
        """Return a pipeline with these options instead of its own; the other options stay."""
        return Pipeline._of(self._stages, self._merged(options))

    def to(self, target: Any) -> Pipeline:
        """Return the pipeline with `target` as its stdout: a branch of a graph needs that, for one."""
        return self.replace(stdout=target)

    # Running.

    def run(self, check: bool = True, **options: Unpack[Options]) -> Result:  # noqa: FBT001, FBT002 - subprocess's signature
        """Run the pipeline, wait for its end, and return its `Result`.

        Raises `PipelineError` if the run fails: `StartError` if a stage cannot be started, `PipelineTimeout`
        if `timeout` expires. `check=False` returns the error in `Result.error` instead. KeyboardInterrupt
        cancels the run, reaps its children, and is raised again.

        If all stages are Python functions, the calling thread works for them, so KeyboardInterrupt is raised
        in the function that is at work. With a `timeout`, workers do, and the run can leave one behind.
        """
        merged = self._for_call(options)
        check_ends(merged, "run")
        check_flag(check)
        return run_inline(plan_run(self, merged)).get_result(check=check)

    def output(self, **options: Unpack[Options]) -> bytes:
        """Run the pipeline and return the bytes that its last stage wrote, unchanged.

        Returns at EOF of stdout, when all stages have ended. Raises the same errors as `run`; the output up
        to a failure is in `error.result.stdout`. `run(check=False, stdout=CAPTURE)` returns both without
        raising.
        """
        check_ends(options, "output", ("stdout",))
        merged = self._merged(options)
        merged["stdout"] = CAPTURE
        check_ends(merged, "output")
        return run_inline(plan_run(self, merged)).captured()

    def text(self, encoding: str = "utf-8", errors: str = "strict", **options: Unpack[Options]) -> str:
        """Run the pipeline as `output` does, and return the output decoded; a trailing LF and CRs stay.

        Raises LookupError for an unknown encoding, before anything starts, and UnicodeDecodeError if the
        output cannot be decoded.
        """
        codecs.lookup(encoding)  # a LookupError before anything starts
        return self.output(**options).decode(encoding, errors)

    def iter_bytes(self, **options: Unpack[Options]) -> Generator[bytes]:
        """Run the pipeline and yield the bytes that its last stage writes, in chunks as they come.

        No chunk is empty. The run starts with the first `next()`. If the run fails, its `PipelineError` is
        raised after the last chunk; at a deadline or a cancellation it is raised at the next chunk. Closing
        the iterator early ends the run, which is not a failure. `break` out of a `for` loop closes it as soon
        as nothing refers to it.
        """
        return self._iterate(options, "iter_bytes")

    def iter_lines(self, **options: Unpack[Options]) -> Lines:
        r"""Run the pipeline as `iter_bytes` does, and yield lines: bytes without LF.

        A CR stays, and a last line without LF is yielded too.

        >>> from penstock import command
        >>> list(command("printf", "a\r\nb").iter_lines())
        [b'a\r', b'b']
        """
        in_hand = LinesInHand()
        return lines_of(self._iterate(options, "iter_lines", in_hand.drop), in_hand)

    def _iterate(
        self, options: Mapping[str, Any], method: str, on_cut: Callable[[], None] = noop
    ) -> Generator[bytes]:
        check_ends(options, method, ("stdout",))
        merged = self._for_call(options)
        check_ends(merged, method)
        make_plan = partial(plan_run, self, merged, iterate=True)
        make_plan().require_sync()
        return iterate(make_plan, on_cut)

    if TYPE_CHECKING:

        @overload
        def start(self, **options: Unpack[Options]) -> Run: ...
        @overload
        def start(self, ctx: StageContext, stdin: Input, stdout: Output, /) -> RunningStage: ...

    def start(self, *given: Any, **options: Any) -> Run | RunningStage:
        """Start the pipeline and return its `Run` at once.

        `Run.wait()` waits for the end. With `stdin=PIPE` or `stdout=PIPE` the caller writes to `run.stdin` or
        reads from `run.stdout`; otherwise these are None. Raises `StartError` if a stage cannot be started;
        the stages before it are cancelled and reaped.

        Custom stages that contain a pipeline call it as a stage: `start(ctx, stdin, stdout)` takes a context,
        an `Input` and an `Output`, and returns a `RunningStage`.
        """
        if given:
            ctx, stdin, stdout = given
            with late_import:
                from penstock.api.nested import start_nested  # noqa: PLC0415 - only custom stages need it

            return start_nested(self, ctx, stdin, stdout)
        return start_run(plan_run(self, self._for_call(options)))

    # Many runs.

    def map(  # noqa: PLR0913 - the parameters of a map
        self,
        inputs: Iterable[Any],
        *,
        output: Any = None,
        workers: int | None = None,
        ordered: bool = False,
        retries: int = 0,
        retry_if: Matcher | None = None,
        backoff: float | timedelta = 1.0,
        timeout: float | timedelta | None = None,
        halt: Halt = "soon",
        max_failures: float = 1,
        collect: Collect | None = None,
        limits: Limits | None = None,
        check: bool = True,
    ) -> Jobs:
        """Run the pipeline once for each input, some at once, and iterate over the `Job`s as they end.

        The pipeline says by `item` where the input goes. Without it a PathLike input is the stdin, and bytes
        are the `input`; any other one is a ValueError. `docs/many.md` describes all parameters.

        Nothing starts before the first `next()`; then up to `workers` runs go on in the background (by
        default as many as there are processors for this process). `inputs` may be endless: at most
        `2 * workers` jobs are begun and not taken. A job that fails is yielded as any other, with `error`. At
        the end `MapError` is raised if any failed, unless `check=False`.

        - `output`: the path of each job's output, such as `"out/{stem}.gz"`, or a placeholder. Written as by
          `atomic`. ValueError if two inputs have the same.
        - `collect`: "bytes" or "text" keeps stdout in `job.stdout`. With neither, stdout is that of the
          pipeline; what goes to our own stdout is written when the job has ended, in one piece.
        - `ordered`: yield, and write, the jobs in the order of the inputs.
        - `retries`: further attempts for a job that fails, if `retry_if(error)`, a matcher, is true. The
          first one comes `backoff` seconds later, each further one after twice the time, at most 300 s. Up
          to half of that is taken away at random.
        - `timeout` and `limits` are for each attempt, as the pipeline's options of these names.
        - `halt`: "soon" begins no further job after `max_failures` have failed, a number or a fraction of the
          inputs; "now" also cancels those that run; "never" goes on. Waiting retries are given up.
        - `orphans` is "kill", unless the pipeline has that option.

        Raises TypeError or ValueError for a mistake that can be seen now: in the parameters, and in the
        inputs if they are a list or another collection. The iteration raises that of an iterator.

        >>> from penstock import command, item
        >>> jobs = command("expr", item, "*", item).map([2, 3], collect="text", ordered=True)
        >>> [(job.input, job.stdout.strip()) for job in jobs]
        [(2, '4'), (3, '9')]
        """
        parameters = {name: value for name, value in locals().items() if name not in ("self", "inputs")}
        with late_import:
            from penstock.jobs.mapping import map_pipeline  # noqa: PLC0415 - few programs map

        return map_pipeline(self, inputs, parameters)

    def explain(self, **options: Unpack[Options]) -> Plan:
        """Return the `Plan`: what would carry the bytes of each edge. Opens and starts nothing.

        >>> from penstock import command
        >>> [edge.kind for edge in (command("a") | command("b")).explain(input="x").edges]
        ['pooled', 'os-pipe', 'inherit']
        """
        return plan_run(self, self._for_call(options)).explain()

    def _for_call(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a run that a call starts with these."""
        merged = self._merged(options)
        check_capture(options, merged)
        return merged

    def _merged(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the pipeline's options with those of a call laid over them, checked."""
        if not options:
            return {**self._options}
        given = check(options)
        merged = {**self._options, **given}
        # `input` and `stdin` both set the input: the call's replaces the pipeline's, whichever each uses.
        if given.get("input") is not None:
            merged["stdin"] = DEVNULL
        elif "stdin" in given:
            merged["input"] = None
        return merged


def watched(stage: Stage | PipelineSpec, watch: MemoryWatch) -> Pipeline:
    """Return a pipeline around `stage` whose memory is watched; stages joined to it are not watched."""
    return Pipeline._of((Pipeline._of(flatten((stage,)), {"watch": watch}),), {})  # noqa: SLF001 - as `_of` says


@exported
def _restore_pipeline(cls: type[Pipeline], stages: tuple[Joinable, ...], options: dict[str, Any]) -> Pipeline:
    return cls._of(stages, options)
