"""One attempt of a job: start the run, and make a `Job` of how it ended.

An exception of the start becomes the error of the attempt. Out of scope: when to start, and whether again.
"""

from __future__ import annotations

from penstock.core.errors import PipelineError, StartError
from penstock.engine.managed_run import ManagedRun
from penstock.engine.run_plan import plan_run
from penstock.jobs.job import Job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.core.result import Result
    from penstock.jobs.tasks import Task, Tasks
    from penstock.jobs.whole_outputs import WholeOutputs
    from penstock.runtime.supervisor import Cancellation
    from penstock.system.fds import Fd

__all__ = ["Attempt"]


class Attempt:
    """An attempt: not started, going on, or ended."""

    __slots__ = ("_failure", "_reason", "file", "run", "task")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.run: ManagedRun | None = None
        self.file: Fd | None = None
        """The file of its output, if that is for our stdout; the owner of the attempt closes it."""
        self._failure: PipelineError | None = None
        self._reason: BaseException | None = None

    def start(
        self, tasks: Tasks, outputs: WholeOutputs, since: Cancellation, on_end: Callable[[], None]
    ) -> None:
        """Start the run; `on_end()` is called once, when it has ended, in any thread. Raises nothing.

        A cancellation of all runs counts if it came after `since`.
        """
        task = self.task
        task.attempts += 1
        try:
            if task.pipeline is None:
                tasks.make(task)
            assert task.pipeline is not None
            options = task.options
            if task.writes_to_stdout:
                self.file = outputs.open()
                options = {**options, "stdout": self.file.fileno()}
            run = ManagedRun(plan_run(task.pipeline, options), since=since)
            self.run = run
            if self._reason is None:
                run.start()
                if self._reason is not None:  # it came meanwhile
                    run.cancel_for(self._reason)
                run.on_end(on_end)
                return
            self._failure = StartError(tasks.name, self._reason)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the job has failed by it
            self._failure = self._as_failure(error, tasks.name)
        on_end()

    def cancel(self, reason: BaseException) -> None:
        """End it, now or as soon as it is started. From any thread."""
        self._reason = reason
        run = self.run
        if run is not None and run.started:
            run.cancel_for(reason)

    @property
    def was_cancelled(self) -> bool:
        """Whether `cancel` was called before it had ended."""
        return self._reason is not None

    def conclude(self, collect: str | None) -> Job:
        """Return the job as it is after this attempt, which has ended."""
        task = self.task
        result: Result | None = None
        stdout: bytes | str | None = None
        error = self._failure
        if error is None:
            assert self.run is not None
            self.run.wait_done()  # returns at once; all events are delivered then
            result = self.run.get_result(check=False)
            error = result.error
            if collect is not None:
                stdout = result.stdout or b""
                if collect == "text":
                    stdout, error = _decoded(stdout, error, result)
        else:
            result = error.result
        if error is not None and not any(map(_is_our_note, getattr(error, "__notes__", ()))):
            error.add_note(f"{_NOTE}{task.given!r}")
        return Job(
            task.given.value,
            task.given.index,
            attempt=task.attempts,
            output=task.output,
            result=result,
            error=error,
            stdout=stdout,
        )

    def close(self) -> None:
        """Close the file of what it wrote."""
        if self.file is not None:
            self.file.close()

    def _as_failure(self, error: BaseException, name: str) -> PipelineError:
        if isinstance(error, PipelineError):
            return error
        return StartError(name, error)


_NOTE = "the job's "


def _is_our_note(note: str) -> bool:
    return note.startswith(_NOTE)


def _decoded(
    stdout: bytes, error: PipelineError | None, result: Result
) -> tuple[str | bytes, PipelineError | None]:
    """Return the text and the error of the job. A job that has not failed yet fails if it is not UTF-8."""
    try:
        return stdout.decode(), error
    except UnicodeDecodeError as mistake:
        if error is not None:
            return stdout.decode(errors="replace"), error
        return stdout, PipelineError("stdout", mistake, result=result)
