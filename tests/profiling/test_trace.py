"""Traces have what the trace event format of Chrome asks of each event, and the figures of the profile."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.profiling.values import FAILED, HOSTILE, line_of, plain

from penstock import DEVNULL, Result, command, map_lines

if TYPE_CHECKING:
    from pathlib import Path


def events_of(result: Result, tmp_path: Path) -> list[dict[str, Any]]:
    path = tmp_path / "run.json"
    result.write_trace(path)
    trace = json.loads(path.read_text())
    check(trace)
    events: list[dict[str, Any]] = trace["traceEvents"]
    return events


def check(trace: dict[str, Any]) -> None:
    """Fail unless the trace is as the format wants it. Slices of a thread may nest, and must not overlap."""
    assert isinstance(trace["traceEvents"], list)
    assert trace["displayTimeUnit"] in ("ms", "ns")
    last = 0.0
    slices: dict[tuple[int, int], float] = {}
    for event in trace["traceEvents"]:
        assert isinstance(event["name"], str)
        assert event["name"]
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert isinstance(event["args"], dict)
        assert event["ts"] >= last
        last = event["ts"]
        match event["ph"]:
            case "M":
                assert event["name"] in ("process_name", "thread_name", "thread_sort_index")
                (value,) = event["args"].values()
                assert isinstance(value, int if event["name"].endswith("index") else str)
            case "X":
                assert event["dur"] >= 0
                thread = event["pid"], event["tid"]
                assert slices.get(thread, 0.0) <= event["ts"]
                slices[thread] = event["ts"] + event["dur"]
            case "C":
                assert event["args"]
                assert all(type(value) in (int, float) for value in event["args"].values())
            case phase:
                assert phase == "i"
                assert event["s"] in ("g", "p", "t")


def of(events: list[dict[str, Any]], phase: str) -> list[dict[str, Any]]:
    return [event for event in events if event["ph"] == phase]


def test_each_stage_has_a_slice_with_its_facts(tmp_path: Path) -> None:
    events = events_of(FAILED, tmp_path)
    run, *stages = sorted(of(events, "X"), key=lambda event: int(event["tid"]))
    assert (run["ts"], run["dur"]) == (0, 510_000)
    assert [(stage["name"], stage["cat"]) for stage in stages] == [
        ("yes", "command"),
        ("head", "command"),
        ("upper", "function"),
    ]
    assert (stages[1]["ts"], stages[1]["dur"]) == (10_000, 490_000)
    assert stages[1]["args"]["returncode"] == 3
    assert stages[1]["args"]["pid"] == 11
    assert of(events, "i")[0]["args"]["error"] == "head: exit status 3: no such file"


def test_counters_are_those_of_the_samples(tmp_path: Path) -> None:
    events = of(events_of(line_of(2), tmp_path), "C")
    names = {event["name"] for event in events}
    stages = ("1 stage 0", "2 stage 1")
    assert names == {f"{what} of {stage}" for what in ("CPU", "RSS", "bytes") for stage in stages}
    cpu = [event["args"]["cores"] for event in events if event["name"] == "CPU of 1 stage 0"]
    assert cpu[:-1] == pytest.approx([0.5] * len(cpu[:-1]))
    assert cpu[-1] == 0
    written = [event["args"] for event in events if event["name"] == "bytes of 2 stage 1"]
    assert written[0] == {"in": 0, "out": 0}
    assert written[-1] == {"in": 10**6, "out": 10**6}


def test_names_that_recur_or_cannot_be_printed(tmp_path: Path) -> None:
    events = events_of(HOSTILE, tmp_path)
    shown = json.dumps(events, ensure_ascii=False)
    assert "\\u001b" not in shown
    assert "\u202e" not in shown


def test_a_real_run(tmp_path: Path) -> None:
    pipeline = command("seq", "1000") | map_lines(bytes.upper) | command("cat")
    result = pipeline.run(stdout=DEVNULL, profile=True)
    assert len(of(events_of(result, tmp_path), "X")) == 4


def test_a_result_without_a_profile_has_no_trace(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run with profile=True"):
        plain(FAILED).write_trace(tmp_path / "run.json")
    assert list(tmp_path.iterdir()) == []
