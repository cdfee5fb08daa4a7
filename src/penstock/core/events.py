"""The argument of an `on_event` handler. Imported only for a run with a handler, which most do not have."""

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

    `kind` is one of `start`, `exit`, `failed`, `start-failed`, `cancelled`, `stopped`, `continued`,
    `memory-limit`, `memory-peak`, `limits`, `leftover`, `unguarded` (see `orphans`), `abandoned`, or
    `message` for a call of `ctx.emit`. `stopped` comes up to 2 s after something has stopped a command for
    good. `stage` is the stage's name, `message` a sentence, and `error` the exception, if any. `context` maps
    names to further facts, such as `pid`, `returncode` and `signal`. `time` is seconds since the epoch.
    """

    kind: str
    stage: str
    message: str
    error: BaseException | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)
