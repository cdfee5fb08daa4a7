"""Put the atomic outputs of a run in the place of their targets if it has succeeded, else remove them.

A sync takes as long as the disk likes. So a worker does it and the run waits, as for the objects that it
closes (`closing`). If the run is cancelled meanwhile, the wait has a deadline, and a worker that comes back
after that removes the parts. All files are synced before the first is renamed: a full disk changes none.

Out of scope: the steps for one file (`system.atomic_file`).
"""

from __future__ import annotations

from penstock.runtime.guarded_call import GuardedCall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.runtime.reactor import Reactor
    from penstock.system.atomic_file import AtomicFile

__all__ = ["OutputTask"]


class OutputTask(GuardedCall):
    """The atomic outputs of one run. `files` may grow until `finish` is called.

    `error` is why they could not be committed, or the reason of the cancellation if that was abandoned.
    """

    _succeeded: bool | None = None

    def __init__(self, reactor: Reactor, files: list[AtomicFile]) -> None:
        super().__init__()
        self.files = files
        self._reactor = reactor

    @property
    def finished(self) -> bool:
        """Whether there is nothing to wait for."""
        return self.done or not self.files

    def finish(
        self,
        succeeded: Callable[[], bool],
        reason: BaseException | None,
        deadline: float,
        on_end: Callable[[], None],
    ) -> None:
        """Begin unless it has begun; if there is a `reason`, wait until `deadline` (`time.monotonic()`) only.

        The first answer of `succeeded()` stands. `on_end()` is called at the end, in the thread that ends it.
        """
        if self._succeeded is None:
            self._succeeded = succeeded()
        self.on_done(on_end)
        if reason is not None:
            self.abandon_at(deadline, reason, self._reactor)
        self.start(inline=True)

    def run(self) -> None:
        """Commit or discard all of them. OSError if they could not be committed."""
        try:
            if self._succeeded:
                for file in self.files:
                    file.sync()
                if not self._stopped:
                    for file in self.files:
                        file.commit()
        finally:
            for file in self.files:
                file.discard()  # those that were not committed
