"""The values that `profile=True` adds to a result: what the stages of a run did over time.

Counters grow from the start of the run on. So if every other sample is left out, the averages over longer
intervals are still exact. `thinned` does that, and keeps the peaks of the memory.

Out of scope: when samples are taken (`profiling.profiler`), and how they are shown.
"""

from __future__ import annotations

from penstock.core.public import exported
from penstock.core.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from penstock.core.result import EdgeResult, StageResult

__all__ = ["Profile", "Sample", "make_profile", "thinned"]


@exported
@record(frozen=True, slots=True)
class Sample:
    """The stages of a run at one moment. Each tuple has a value for each stage, in the order of the result.

    - `elapsed`: seconds since the start of the run.
    - `states`: as in `StageSnapshot`.
    - `cpu`: seconds of processor time since the start. `rss`: the most bytes of resident memory since the
      sample before. Both count the processes that a stage has started, and are None if nobody can know them.
    - `bytes_in`, `bytes_out`: bytes since the start, of all inputs and of all outputs of a stage. None if the
      kernel carries them past Penstock, as between two commands.
    """

    elapsed: float
    states: tuple[str, ...]
    cpu: tuple[float | None, ...]
    rss: tuple[int | None, ...]
    bytes_in: tuple[int | None, ...]
    bytes_out: tuple[int | None, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the same as a dict of lists, for json.dumps."""
        return {
            name: list(value) if isinstance(value := getattr(self, name), tuple) else value
            for name in self.__match_args__
        }


@exported
@record(frozen=True, slots=True)
class Profile:
    """The stages of a run over time, as `Result.profile` after a run with `profile=True`.

    - `began`: when the run began, in seconds since 1970 (UTC), as of `time.time()`.
    - `spans`: for each stage of the result the seconds from the start of the run to its own start, and to its
      end. None for a stage that never ran.
    - `samples`: in the order of time. The first is at the start, the last at the end of the run.
    """

    began: float
    spans: tuple[tuple[float, float] | None, ...]
    samples: tuple[Sample, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the same as dicts, lists, numbers, strings and None, for json.dumps."""
        return {
            "began": self.began,
            "spans": [None if span is None else list(span) for span in self.spans],
            "samples": [sample.to_dict() for sample in self.samples],
        }

    def __repr__(self) -> str:
        return f"Profile({len(self.spans)} stages, {len(self.samples)} samples)"


def thinned(samples: Sequence[Sample]) -> list[Sample]:
    """Return every second sample, each with the most memory of itself and of the one before it.

    An odd one at the end stays.
    """
    kept = [
        Sample(
            later.elapsed,
            later.states,
            later.cpu,
            tuple([_most(*pair) for pair in zip(earlier.rss, later.rss, strict=True)]),
            later.bytes_in,
            later.bytes_out,
        )
        for earlier, later in zip(samples[::2], samples[1::2], strict=False)
    ]
    return [*kept, samples[-1]] if len(samples) % 2 else kept


def make_profile(  # noqa: PLR0913 - all that is known
    began: float,
    elapsed: float,
    spans: Sequence[tuple[float, float] | None],
    samples: Sequence[Sample],
    stages: Sequence[StageResult],
    edges: Sequence[EdgeResult],
) -> Profile:
    """Return the profile of a run that took `elapsed` seconds, with a sample at its start and at its end.

    The last one is made of the figures of the result. Those of the samples were all taken before.
    """
    between = [sample for sample in samples if 0 < sample.elapsed < elapsed]
    nothing = (None,) * len(stages)
    cpu = tuple([_cpu_time(stage) for stage in stages])
    read = tuple([_sum([edge.bytes for edge in edges if edge.target_id == stage.id]) for stage in stages])
    written = tuple([_sum([edge.bytes for edge in edges if edge.source_id == stage.id]) for stage in stages])
    first = Sample(
        0.0,
        ("starting",) * len(stages),
        tuple([None if value is None else 0.0 for value in cpu]),
        nothing,
        tuple([_zero(value) for value in read]),
        tuple([_zero(value) for value in written]),
    )
    last = Sample(elapsed, ("ended",) * len(stages), cpu, nothing, read, written)
    return Profile(began, tuple(spans), (first, *between, last))


def _cpu_time(stage: StageResult) -> float | None:
    """Return the processor time of a command. A kept worker process has had other work before."""
    if stage.kind != "command" or stage.user_time is None or stage.system_time is None:
        return None
    return stage.user_time + stage.system_time


def _zero(value: int | None) -> int | None:
    return None if value is None else 0


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _most(earlier: int | None, later: int | None) -> int | None:
    known = [value for value in (earlier, later) if value is not None]
    return max(known, default=None)
