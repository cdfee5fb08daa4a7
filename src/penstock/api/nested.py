"""Start a pipeline as a stage, for a custom stage that holds one.

A run takes nested pipelines apart and never comes here.
"""

from __future__ import annotations

from penstock.core.env import merge
from penstock.core.errors import FinishEarly
from penstock.engine.managed_run import ManagedRun
from penstock.engine.run_plan import plan_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from penstock.core.stage import RunningStage
    from penstock.engine.graph import PipelineSpec
    from penstock.stages.context import StageContext
    from penstock.streams.stage_ends import Input, Output

__all__ = ["start_nested"]


def start_nested(pipeline: PipelineSpec, ctx: StageContext, stdin: Input, stdout: Output) -> RunningStage:
    """Start `pipeline` between two given ends; the context gives the options that it does not set itself."""
    stages, own = pipeline.stages, pipeline.options
    if len(stages) == 1 and not own and not getattr(stages[0], "starts_in_graph", False):
        started: RunningStage = stages[0].start(ctx, stdin, stdout)  # type: ignore[union-attr]
        return started
    scope = ctx.scope
    inherited: dict[str, Any] = {
        "cwd": scope.cwd,
        "grace": scope.grace,
        "on_leftover": scope.on_leftover,
        "orphans": "leave" if scope.guard is None else "kill",
        "on_event": scope.events.handler,
        "on_exception": scope.on_exception,
        "stderr": scope.stderr,
    }
    options = {
        **inherited,
        **own,
        "progress": None,
        "profile": False,
        "inherit_env": False,
        "env": merge(scope.unobserved().environ(), own.get("env") or {}),
    }
    if scope.confinement is not None:
        options["limits"] = scope.confinement.add(
            own.get("limits"), scope.services.resources.cgroups, own.get("on_leftover", scope.on_leftover)
        )
    run = ManagedRun(plan_run(pipeline, options, ends=(stdin, stdout)))
    try:
        run.start()
        if run.failed_to_start:
            stdin.close()
            stdout.close()
            run.wait()
        return _RunningPipeline(run)
    except BaseException as error:
        run.end(error)
        raise


class _RunningPipeline:
    def __init__(self, run: ManagedRun) -> None:
        self._run = run

    def wait(self) -> None:
        """Wait for the run; raise its error, or FinishEarly if it ended early."""
        error = self._run.wait(check=False).error
        if error is not None:
            raise error
        if self._run.finished_early:
            raise FinishEarly

    def kill(self, reason: BaseException) -> None:
        """Cancel the run; if the stage is stopped on purpose, only its first stage ends."""
        if isinstance(reason, FinishEarly):
            self._run.stop_source()
        else:
            self._run.cancel(reason)
