"""Metrics: durations of runs and commands, and the number of runs that go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.processes import sh
from tests.support.waiting import until

from penstock import DEVNULL, command, echo

if TYPE_CHECKING:
    from tests.otel.conftest import Telemetry


def test_durations_are_in_seconds(telemetry: Telemetry) -> None:
    command("sleep", "0.2").run(name="nap")
    (run,) = telemetry.points("penstock.run.duration")
    assert (run.count, dict(run.attributes)) == (1, {"penstock.pipeline.name": "nap"})
    assert 0.2 <= run.sum < 20
    assert run.explicit_bounds[0] == 0.005


def test_durations_of_commands_are_told_apart_by_program_and_outcome(telemetry: Telemetry) -> None:
    for _ in range(2):
        (echo("a") | command("cat")).run(stdout=DEVNULL)
    sh("exit 3").run(check=False)
    points = {
        tuple(sorted(point.attributes.items())): point.count
        for point in telemetry.points("penstock.command.duration")
    }
    assert points == {
        (("process.executable.name", "cat"), ("process.exit.code", 0)): 2,
        (("error.type", "3"), ("process.executable.name", "sh"), ("process.exit.code", 3)): 1,
    }
    failed = [point for point in telemetry.points("penstock.run.duration") if point.attributes]
    assert [dict(point.attributes) for point in failed] == [{"error.type": "3"}]


def test_runs_that_go_on_are_counted(telemetry: Telemetry) -> None:
    def active() -> int:
        return sum(point.value for point in telemetry.points("penstock.runs.active"))

    runs = [command("sleep", "1000").start() for _ in range(3)]
    until(lambda: active() == 3)
    for run in runs:
        run.cancel()
    for run in runs:
        run.wait(check=False)
    until(lambda: active() == 0)
