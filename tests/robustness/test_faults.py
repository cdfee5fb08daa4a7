"""Any call of the engine raises, once, between the start of a run and its verdict: the run ends with that.

In each run of fault_runs.py each line that calls a function of the package is found first. Then the run is
made again, and the call raises MemoryError, OSError or RuntimeError before the function has done anything. A
sample of the calls is taken, nearly the same each time; with `PENSTOCK_ALL_CALLS=1` in the environment it is
all of them, with each of the exceptions.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from tests.robustness.fault_runs import RUNS
from tests.support.faults import CallFault, Place, injecting

from penstock import PipelineError
from penstock.core.timing import timing
from penstock.runtime import supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Snapshot

pytestmark = [
    pytest.mark.slow,
    # What a step has in its hands when it raises is closed by its finalizer.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

PROCESS_READS = ("read_stat", "parse_stat", "procfs.py:_read", " _read:")
"""Calls of a look at one process. If it cannot be looked at, it counts as gone."""
EVERY = bool(os.environ.get("PENSTOCK_ALL_CALLS"))
SAMPLE = 12
STEPPED = {"dialogue", "async dialogue", "async lines"}
"""Runs whose steps the user's own thread or task makes, by calls of a stream of the run. It gets what a step
raises as it is, and the run ends.
"""
LONGEST = 2.5
"""Seconds: deadline, grace time and one more, and a busy machine."""
ERRORS: list[Callable[[], Exception]] = [
    lambda: MemoryError("injected"),
    lambda: OSError(errno.EMFILE, "injected"),
    lambda: RuntimeError("injected"),
]

counts: Counter[str] = Counter()


@pytest.fixture(scope="module", autouse=True)
def _print_counts() -> Iterator[None]:
    """Say what was done; `pytest -s` shows it."""
    yield
    sys.__stderr__.write(f"\n{dict(counts)}\n")  # type: ignore[union-attr]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Log nothing, and let threads that were taken off the pool end soon."""
    monkeypatch.setattr(timing, "thread_idle_s", 0.3)
    logging.getLogger("penstock").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("penstock").setLevel(logging.NOTSET)


def outcome(run: Callable[[], object], injected: Exception | None = None) -> Any:
    """Return what a run brings: its value, or the type of its error, which may be `injected` itself."""
    try:
        return run()
    except PipelineError as error:
        return type(error)
    except Exception as error:
        if error is not injected:
            raise
        return type(error)


def _chosen(places: list[Place], name: str) -> list[tuple[Place, Callable[[], Exception]]]:
    if EVERY:
        return [(place, make) for place in places for make in ERRORS]
    # By a checksum of each place, because which places there are depends a little on the timing.
    keys = sorted((zlib.crc32(f"4 {name} {place}".encode()), place) for place in places)
    return [(place, ERRORS[key % len(ERRORS)]) for key, place in keys[:SAMPLE]]


@pytest.mark.timeout(1200 if EVERY else 120)
@pytest.mark.parametrize("name", RUNS)
def test_a_run_ends_whichever_of_its_calls_raises(name: str, snapshot: Callable[[], Snapshot]) -> None:
    """With a PipelineError, or as if nothing had been; in time, and nothing is left."""
    run = RUNS[name]
    outcome(run)  # what is loaded once, is loaded
    with injecting(CallFault()) as found:
        usual = outcome(run)
    places = list(dict.fromkeys(found.places))
    counts["calls found"] += len(places)
    for place, make in _chosen(places, name):
        if any(read in f"{place[0]} {place[1]}" for read in PROCESS_READS):
            continue  # a process that cannot be looked at has gone, and so nothing is left to be killed
        before = snapshot()
        began = time.monotonic()
        error = make()
        fault = CallFault(place, error)
        with injecting(fault):
            ended = outcome(run, error if name in STEPPED else None)
        took = time.monotonic() - began
        counts["runs"] += 1
        counts["exceptions raised"] += fault.raised
        counts[f"ended with {ended.__name__ if isinstance(ended, type) else 'success'}"] += 1
        fault.forget()
        failed = isinstance(ended, type) and issubclass(ended, PipelineError | type(error))
        del error
        assert failed or ended == usual, (place, make())
        assert took < LONGEST, (place, make())
        assert before.leaks() == [], (place, make())
        assert not supervisor.active_runs, (place, make())
