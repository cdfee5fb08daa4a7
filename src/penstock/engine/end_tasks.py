"""The tasks after the end of a run's stages and endpoints, in their order.

The caller's objects are closed, then the files of the run take the place of their targets or are discarded.
The last snapshot is shown to whom it may concern, and all that goes to our stderr has been written.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.engine.closing import ClosingTask
    from penstock.engine.outputs import OutputTask
    from penstock.runtime.reactor import Reactor
    from penstock.stages.run_services import RunResources

__all__ = ["finish_tasks"]


def finish_tasks(  # noqa: PLR0913 - the tasks, and what each of them needs
    tasks: tuple[ClosingTask, OutputTask, RunResources],
    reactor: Reactor,
    has_succeeded: Callable[[], bool],
    error: BaseException | None,
    deadline: float,
    on_end: Callable[[], None],
) -> bool:
    """Begin what is due; return whether all of it is finished. `on_end()` follows each task.

    `error` is the reason if the whole run was cancelled; then the tasks have until `deadline`.
    """
    closing, outputs, resources = tasks
    relay = resources.relay
    if not closing.finished:
        closing.close(error, deadline, on_end)
    if closing.finished and not outputs.finished:
        outputs.finish(has_succeeded, error, deadline, on_end)
    if closing.finished and outputs.finished and resources.progress is not None:
        resources.progress.finish()
    if relay is not None and not relay.finished:
        relay.finish(reactor, on_end, None if error is None else deadline)
    return closing.finished and outputs.finished and (relay is None or relay.finished)
