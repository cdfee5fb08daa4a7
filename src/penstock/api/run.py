"""The handle of one execution of a pipeline, as users see it. `ManagedRun` does the work."""

from __future__ import annotations

from penstock.core.public import exported
from penstock.engine.managed_run import ManagedRun

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    from datetime import timedelta
    from types import TracebackType
    from typing import Self

    from penstock.core.result import Result
    from penstock.core.snapshot import Snapshot
    from penstock.engine.run_plan import RunPlan

__all__ = ["Run", "start_run"]


@exported
class Run:
    """A run of a pipeline, going on or ended, as `start()` returns it.

    As a context manager it closes `stdin` and `stdout` and waits when the block is left; if an exception
    leaves the block, it cancels first. An exception that `stdin` or `stdout` raised, such as BrokenPipeError,
    is mostly the result of a failure of the run. So then the run has the grace time to end by itself, and if
    it fails, its PipelineError is raised instead.
    """

    stdin: io.BufferedWriter | None
    """The pipe to the first stage, if `stdin=PIPE` was given.

    It needs no `flush()`: each write reaches the stage at once. Dozens of small ones that come faster than
    any dialogue are joined. They arrive within milliseconds, and before a read of `stdout` waits. Close it to
    give EOF.
    """
    stdout: io.BufferedReader | None
    """The pipe from the last stage, if `stdout=PIPE` was given. Reads bytes; the caller closes it."""

    def __init__(self, run: ManagedRun) -> None:
        """`run` has been started."""
        self._run = run
        self.stdin, self.stdout = run.stdin, run.stdout

    def __repr__(self) -> str:
        return repr(self._run)

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the commands that were started, in order; an ended one's may be another
        process's by now.
        """
        return self._run.pids

    def done(self) -> bool:
        """Whether the run has ended."""
        return self._run.done()

    def wait(self, timeout: float | None = None, *, check: bool = True) -> Result:
        """Wait for the end, at most `timeout` seconds.

        Raises TimeoutError if the run takes longer (it goes on), and with `check` the run's
        PipelineError if it failed. It may be called again, and from any thread. KeyboardInterrupt cancels the
        run, waits for its children, and is raised again.
        """
        try:
            self._run.wait_done(timeout)
        except Exception as error:
            if not self._run.absorb(error):
                raise
        return self._run.get_result(check=check)

    def snapshot(self) -> Snapshot:
        """Return what each stage and each edge does now, and which stage the others wait for.

        Nothing of the run is disturbed: no byte is touched, and no end of a pipe is opened. The figures come
        from /proc, from the fill of pipes, and from Penstock's own counts. A figure that cannot be known is
        None. Rates are in bytes a second, over the last 3 seconds; so is the judgement on the bottleneck.
        After a call, a thread goes on to look for 3 seconds, four times a second. A run that is never asked
        pays nothing.

        From any thread, also once the run has ended. Raises RuntimeError in a fork of the process that
        started the run, and OSError if the first call of the program has no descriptor to load modules with.

        >>> from penstock import PIPE, command
        >>> with (command("cat") | command("wc", "-c")).start(stdin=PIPE, stdout=PIPE) as run:
        ...     names = [stage.name for stage in run.snapshot().stages]
        >>> names, run.snapshot().done, [stage.state for stage in run.snapshot().stages]
        (['cat', 'wc'], True, ['ended', 'ended'])
        """
        return self._run.snapshot()

    def cancel(self, reason: BaseException | str | None = None) -> None:
        """End the run; `wait()` then raises PipelineCancelled.

        Its commands get SIGTERM and, after the grace time, SIGKILL. Functions that are blocked in a stream
        wake. Returns at once. May be called again, and from any thread or signal handler. `reason` is an
        exception, or a text for one; it becomes the `cause` of the error.
        """
        try:
            self._run.cancel(reason)
        except Exception as error:
            if not self._run.absorb(error, wait=False):
                raise

    def stop_source(self, grace: float | timedelta | None = None) -> None:
        r"""End the first stage, and let the others finish on what they have: the run is a success.

        A command gets its `stop_signal`, with everything that it has started, and after `grace` seconds
        SIGKILL. The default is the `grace` of its pipeline. However it ends, that is not a failure. In a
        function its stdin and stdout raise `FinishEarly`; of a transform or a line function only the input
        does, so that what it has made is delivered. One that stands at a `yield` is closed there. A generator
        in `source` is closed, and an async function is cancelled. A function that does not end in time is
        abandoned. An exception of its own is still a failure, as are those of later stages, and one from
        before the stop.

        In a graph each stage that reads no other one is a first stage.

        The stage's input ends, too: an object or iterable that feeds it is not read any more. Writing to
        `stdin` raises BrokenPipeError once the stage has gone.

        Returns at once; from any thread or signal handler. A further call can only shorten the grace time,
        and once the first stage has ended a call does nothing. `cancel()` and the timeout of the run still
        end all of it. Raises TypeError or ValueError for an invalid `grace`.

        >>> from penstock import CAPTURE, command
        >>> run = (command("sleep", "1000") | command("wc", "-c")).start(stdout=CAPTURE)
        >>> run.stop_source()
        >>> run.wait().stdout
        b'0\n'
        """
        try:
            self._run.stop_source(grace)
        except Exception as error:
            if not self._run.absorb(error, wait=False):
                raise

    def send_signal(self, signum: int, stage: str | int | None = None) -> None:
        """Send a signal to the processes of the run's commands, as SIGUSR1 to ask `dd` for its progress.

        `stage` is the name or the index of a stage; None means all commands. The signal goes to the command's
        own process, not to those that it has started. One that has ended gets nothing. Returns at once; from
        any thread or signal handler. Raises ValueError if there is no such signal or stage, or if the stage
        is not a command.
        """
        self._run.send_signal(signum, stage)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        run = self._run
        explained = error is None
        try:
            explained = error is None or run.raised_by_stream(error)
            if error is not None and not explained:
                run.cancel_for(error)
            run.close_files()
            if error is not None and explained and not run.ends_within_grace():
                explained = False
                run.cancel_for(error)
            run.wait_done()
        except BaseException as interrupt:
            if not run.absorb(interrupt):
                run.end(interrupt)
                raise
            run.close_files()
        run.get_result(check=explained)


def start_run(plan: RunPlan) -> Run:
    """Start a run that the user gets hold of. An interrupt of the start ends the run.

    Raises StartError, when nothing is left, if a stage cannot be started.
    """
    run = ManagedRun(plan)
    try:
        run.start()
        if run.failed_to_start:
            run.wait()
        return Run(run)
    except BaseException as error:
        absorbed = run.absorb(error)
        run.end(error)
        run.close_files()
        if absorbed:
            run.get_result(check=True)
        raise
