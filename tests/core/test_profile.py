"""Profiles: samples are thinned without a loss of truth, and have one at each end of the run."""

from __future__ import annotations

import json
import pickle

from penstock.core.profile import Profile, Sample, make_profile, thinned
from penstock.core.result import EdgeResult, StageResult


def sample(elapsed: float, cpu: float = 0.0, rss: int | None = 0) -> Sample:
    return Sample(elapsed, ("running",), (cpu,), (rss,), (None,), (int(1000 * elapsed),))


def test_thinning_keeps_every_second_sample_and_the_peaks_of_memory() -> None:
    samples = [sample(1, 0.5, 7), sample(2, 1.5, 3), sample(3, 1.6, None), sample(4, 1.7, 5)]
    assert thinned(samples) == [sample(2, 1.5, 7), sample(4, 1.7, 5)]


def test_thinning_keeps_an_odd_last_sample() -> None:
    samples = [sample(place) for place in range(1, 6)]
    assert [kept.elapsed for kept in thinned(samples)] == [2, 4, 5]
    assert thinned([]) == []


STAGES = (
    StageResult("cat", "command", user_time=0.5, system_time=0.25, id="a"),
    StageResult("up", "function", id="b"),
    StageResult("kept", "function", user_time=0.5, system_time=0.25, id="c"),
)
EDGES = (
    EdgeResult("stdin", "cat", "pass-fd", None, "stdin", "a"),
    EdgeResult("cat", "up", "os-pipe", 100, "a", "b"),
    EdgeResult("up", "kept", "memory", 60, "b", "c"),
    EdgeResult("up", "stdout", "memory", 40, "b", "stdout"),
)


def profile(*samples: Sample) -> Profile:
    return make_profile(1e9, 2.0, [(0.0, 1.0), (0.0, 2.0), None], samples, STAGES, EDGES)


def test_the_first_and_the_last_sample_are_made_of_the_result() -> None:
    first, last = profile().samples
    assert (first.elapsed, last.elapsed) == (0.0, 2.0)
    assert last.cpu == (0.75, None, None)
    assert first.cpu == (0.0, None, None)
    assert (last.bytes_in, last.bytes_out) == ((None, 100, 60), (100, 100, None))
    assert (first.bytes_in, first.bytes_out) == ((None, 0, 0), (0, 0, None))
    assert set(last.states) == {"ended"}


def test_samples_outside_of_the_run_are_left_out() -> None:
    """A worker may take one in the moment in which the run ends."""
    states, none = ("running",) * 3, (None,) * 3
    taken = [Sample(elapsed, states, none, none, none, none) for elapsed in (0.0, 0.5, 2.0, 2.1)]
    assert [each.elapsed for each in profile(*taken).samples] == [0.0, 0.5, 2.0]


def test_a_profile_can_be_pickled_and_written_as_json() -> None:
    made = profile()
    assert pickle.loads(pickle.dumps(made)) == made
    assert hash(made) == hash(profile())
    fields = json.loads(json.dumps(made.to_dict()))
    assert fields["spans"] == [[0.0, 1.0], [0.0, 2.0], None]
    assert fields["samples"][1]["bytes_out"] == [100, 100, None]


def test_the_repr_is_short() -> None:
    assert repr(profile()) == "Profile(3 stages, 2 samples)"
