"""What an `on_event` handler is given. Imported only where a handler is: most runs have none."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Event"]


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run.

    `kind` is one of `start`, `exit`, `failed`, `start-failed`, `cancelled`, `memory-limit`, `memory-peak`,
    `limits`, `leftover`, `abandoned`, or `message` for what a stage says by `ctx.emit`. `stage` is the
    stage's name, `message` a sentence, `error` the exception where there is one, `context` further facts by
    name (`pid`, `returncode`), `time` seconds since the epoch.
    """

    kind: str
    stage: str
    message: str
    error: BaseException | None = None
    context: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    time: float = dataclasses.field(default_factory=time.time)
