"""`profile=True`: what a result then has, for every way to run a pipeline."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import sh
from tests.support.waiting import until

from penstock import (
    DEVNULL,
    PIPE,
    Pipeline,
    PipelineError,
    Result,
    StartError,
    command,
    function,
    map_lines,
)
from penstock.engine.snapshots import RunLooks
from penstock.profiling import profiler

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock import Profile, Run

CAT = command("cat")
TAKEN = 3
"""Samples of a run that goes on, as the tests wait for them."""


def taken(run: Run) -> int:
    """Return how many samples of a run there are."""
    found = run._run.execution.services.resources.profiler
    return 0 if found is None else len(found.samples)


def watched(pipeline: Pipeline, **options: Any) -> tuple[Result, Profile]:
    """Run a pipeline that reads its stdin until some samples were taken."""
    with pipeline.start(profile=True, stdin=PIPE, stdout=DEVNULL, **options) as run:
        assert run.stdin is not None
        run.stdin.write(b"x\n" * 1000)
        until(lambda: taken(run) >= TAKEN)
    result = run.wait()
    assert result.profile is not None
    return result, result.profile


def test_samples_are_taken_from_the_start_to_the_end() -> None:
    result, profile = watched(CAT | map_lines(bytes.upper) | CAT)
    times = [sample.elapsed for sample in profile.samples]
    assert times[0] == 0.0
    assert times[-1] == result.elapsed
    assert all(earlier < later for earlier, later in pairwise(times))
    assert len(times) >= TAKEN + 2
    middle = profile.samples[TAKEN]
    assert middle.states == ("reading", "reading", "reading")
    assert middle.bytes_in[1] == middle.bytes_out[1] == 2000
    assert middle.cpu[1] is None  # a function has no processor time of its own
    assert middle.cpu[0] is not None
    assert (middle.rss[0] or 0) > 0


def test_a_stage_in_a_worker_process_has_its_processor_time_and_memory() -> None:
    """It may be a kept process, which has worked before: only the growth of its time is the stage's."""
    _, profile = watched(map_lines(bytes.upper, isolate="process") | CAT)
    assert any(sample.cpu[0] is not None for sample in profile.samples)
    assert any(sample.rss[0] for sample in profile.samples)
    assert profile.samples[0].cpu[0] is None


def test_each_stage_has_a_start_and_an_end() -> None:
    result, profile = watched(CAT | map_lines(bytes.upper))
    for stage, span in zip(result.stages, profile.spans, strict=True):
        assert span is not None
        assert 0 <= span[0] < span[1] <= result.elapsed
        assert span[1] - span[0] == pytest.approx(stage.elapsed)


def test_a_stage_that_never_ran_has_no_span() -> None:
    with pytest.raises(StartError) as caught:
        (command("true") | command("no such program")).run(profile=True)
    result = caught.value.result
    assert result is not None
    assert result.profile is not None
    assert result.profile.spans[1] is None


def nothing(_ctx: object, _stdin: object, _stdout: object) -> None:
    pass


WAYS: dict[str, Callable[[Pipeline], Result]] = {
    "run": lambda pipeline: pipeline.run(profile=True, stdout=DEVNULL),
    "start": lambda pipeline: pipeline.start(profile=True, stdout=DEVNULL).wait(),
    "option": lambda pipeline: pipeline.replace(profile=True).run(stdout=DEVNULL),
    "constructor": lambda pipeline: Pipeline(pipeline, profile=True).run(stdout=DEVNULL),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stage", [command("true"), function(nothing), CAT | CAT])
def test_a_run_of_a_moment_has_a_sample_at_each_end(way: str, stage: Pipeline) -> None:
    profile = WAYS[way](stage).profile
    assert profile is not None
    first, *_, last = profile.samples
    assert first.elapsed == 0.0 < last.elapsed


@pytest.mark.parametrize("failing", ["run", "output", "iter_bytes"])
def test_the_result_of_a_run_that_failed_has_it_too(failing: str) -> None:
    ways: dict[str, Callable[[], object]] = {
        "run": lambda: sh("exit 3").run(profile=True),
        "output": lambda: sh("exit 3").output(profile=True),
        "iter_bytes": lambda: list(sh("exit 3").iter_bytes(profile=True)),
    }
    with pytest.raises(PipelineError) as caught:
        ways[failing]()
    assert caught.value.result is not None
    assert caught.value.result.profile is not None


def test_without_the_option_nothing_is_kept_or_loaded() -> None:
    code = """
import sys
from penstock import command
result = command("true").run()
assert result.profile is None
print(*[name for name in sys.modules if "profil" in name or name.endswith("snapshots")])
"""
    found = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert found.stdout.split() == []


def test_the_option_of_a_nested_pipeline_is_ignored() -> None:
    inner = Pipeline(CAT, profile=True)
    assert Pipeline(inner, CAT, stdout=DEVNULL).run().profile is None


@pytest.mark.parametrize("wrong", [None, 1, "yes"])
def test_any_other_value_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="profile must be True or False"):
        command("true").run(profile=wrong)


def test_a_long_run_keeps_a_bounded_number_of_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """When there are too many, every other one goes, and the next come at twice the interval."""
    monkeypatch.setattr(profiler, "MAX_SAMPLES", 4)
    monkeypatch.setattr(profiler, "INTERVAL_S", 0.01)
    with CAT.start(profile=True, stdin=PIPE, stdout=DEVNULL) as run:
        found = run._run.execution.services.resources.profiler
        assert found is not None
        until(lambda: found._interval >= 0.04)
        assert len(found.samples) < 4
    profile = run.wait().profile
    assert profile is not None
    assert len(profile.samples) < 6


def test_a_sample_that_cannot_be_taken_is_reported_once_and_harms_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_looks: RunLooks) -> None:
        raise OSError("no /proc")

    monkeypatch.setattr(RunLooks, "take_sample", fail)
    with (
        caplog.at_level(logging.DEBUG, "penstock"),
        CAT.start(profile=True, stdin=PIPE, stdout=DEVNULL) as run,
    ):
        until(lambda: "no further sample" in caplog.text)
    profile = run.wait().profile
    assert profile is not None
    assert len(profile.samples) == 2
    assert caplog.text.count("no further sample") == 1


def test_a_result_with_a_profile_can_be_pickled_compared_and_shown() -> None:
    result = command("true").run(profile=True)
    assert pickle.loads(pickle.dumps(result)) == result
    assert isinstance(hash(result), int)
    assert "rofile" not in repr(result) + str(result)
    shown = result.to_dict()["profile"]
    assert shown["samples"][-1]["elapsed"] == result.elapsed
