"""The argument of an `on_event` handler. Imported only for a run that somebody listens to; few runs are."""

from __future__ import annotations

import time

from penstock.core.public import exported
from penstock.core.record import field, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["Event"]


@exported
@record(frozen=True, slots=True)
class Event:
    """An event of a run, as `on_event` gets it. A frozen dataclass.

    `kind` is one of these:

    - `run-start` and `run-end`: the first and the last event of a run. `error` is what the run raises.
    - `start`: a stage was started. `start-failed`: it could not be.
    - `exit` or `failed`: a stage that was started has ended. `failed` is for a status that is not in
      `ok_codes`, a signal, an exception; `run-end` says whether the run has failed by it. It is also for an
      end of the pipeline (its stage is `stdin` or `stdout`), and for a run that failed by another error than
      a stage's own.
    - `cancelled`: the stage was cancelled, which comes before its `exit`.
    - `stopped` and `continued`: something has stopped a command for good, which is noticed up to 2 s later.
    - `leftover`, `abandoned`, `unguarded` (see `orphans`): something is left behind, or goes on by itself.
    - `memory-limit`, `memory-peak`, `limits`, `spooling`.
    - `message`: a call of `ctx.emit`.

    `stage` is the name of the stage, "" in `run-start` and `run-end`. `message` is a sentence, and `error`
    the exception, if any. `context` maps names to further facts. `time` is seconds since the epoch.

    The others are None if they are unknown, or have no meaning for the kind. `argv` has the arguments of a
    command as str, secrets as `***`. `stage_id` is the id of the stage in the plan. `run_id` is the same in
    all events of a run, and no other run of the process has it. `pid` is the stage's process, `returncode`
    its status as in subprocess. `elapsed` is the seconds that the stage, or the run, has taken.
    """

    kind: str
    stage: str
    message: str
    error: BaseException | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)
    argv: tuple[str, ...] | None = None
    stage_id: str | None = None
    run_id: int | None = None
    pid: int | None = None
    returncode: int | None = None
    elapsed: float | None = None
