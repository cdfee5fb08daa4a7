"""What a command may use, as a value: its checks, how one lies over another, and who keeps what."""

from __future__ import annotations

import dataclasses
import pickle
from datetime import timedelta
from typing import Any

import pytest

from penstock import Limits
from penstock.core.limits import merge_limits


def test_sizes_are_kept_as_bytes() -> None:
    """However they were written; equal limits are equal values."""
    limits = Limits(memory="1GiB", memory_high="512MiB", file_size="10MB")
    assert (limits.memory, limits.memory_high, limits.file_size) == (1 << 30, 1 << 29, 10_000_000)
    assert limits == Limits(memory=1 << 30, memory_high=1 << 29, file_size=10_000_000)
    assert hash(limits) == hash(Limits(memory=1 << 30, memory_high="512MiB", file_size="10MB"))
    assert Limits(file_size=0).rlimits() == {"FSIZE": (0, 0)}


def test_it_is_a_value() -> None:
    """Frozen, and it can be pickled."""
    limits = Limits(memory="1GB", cpu_time=3, name="job")
    assert pickle.loads(pickle.dumps(limits)) == limits
    with pytest.raises(dataclasses.FrozenInstanceError):
        limits.memory = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("limits", "rlimits"),
    [
        (Limits(), {}),
        (Limits(cpu_time=2), {"CPU": (2, 3)}),
        (Limits(cpu_time=0.2), {"CPU": (1, 2)}),
        (Limits(cpu_time=timedelta(minutes=1)), {"CPU": (60, 61)}),
        (Limits(open_files=64), {"NOFILE": (64, 64)}),
        (Limits(file_size="1kB"), {"FSIZE": (1000, 1000)}),
        (Limits(memory="1kB", processes=3), {"DATA": (1000, 1000), "NPROC": (3, 3)}),
        (Limits(nice=5, cpu=0.5, memory_high="1GB"), {}),
    ],
)
def test_rlimits_by_their_names_in_the_kernel(limits: Limits, rlimits: dict[str, tuple[int, int]]) -> None:
    """Seconds are whole ones, rounded up, with one more until SIGKILL."""
    assert limits.rlimits() == rlimits


def test_a_limit_that_a_cgroup_enforces_needs_no_rlimit() -> None:
    """And the other way round."""
    limits = Limits(memory="1kB", processes=3, cpu=2, open_files=9)
    assert limits.grouped == {"memory": 1000, "cpu": 2, "processes": 3}
    assert limits.rlimits(without=frozenset({"memory"})) == {"NOFILE": (9, 9), "NPROC": (3, 3)}


def test_the_inner_limits_count_field_by_field() -> None:
    """What the inner one does not set is the outer one's."""
    outer = Limits(memory="1GB", open_files=100, cgroup="never")
    inner = Limits(memory="2GB", nice=3)
    assert merge_limits(outer, inner) == Limits(memory="2GB", open_files=100, nice=3, cgroup="never")
    assert merge_limits(outer, Limits(cgroup="require")) == Limits(
        memory="1GB", open_files=100, cgroup="require"
    )
    assert merge_limits(None, inner) is inner
    assert merge_limits(outer, None) is outer
    assert merge_limits(None, None) is None


def test_the_default_is_to_prefer_a_cgroup() -> None:
    """None leaves it to the pipeline around."""
    assert (Limits().mode, Limits(cgroup="never").mode) == ("prefer", "never")


@pytest.mark.parametrize(
    ("error", "field", "value"),
    [
        (TypeError, "memory", 1.5),
        (TypeError, "memory", True),
        (ValueError, "memory", 0),
        (ValueError, "memory", "lots"),
        (ValueError, "memory_high", -1),
        (ValueError, "file_size", -1),
        (TypeError, "file_size", False),
        (TypeError, "cpu_time", "1"),
        (ValueError, "cpu_time", 0),
        (ValueError, "cpu_time", float("inf")),
        (ValueError, "cpu_time", float("nan")),
        (TypeError, "cpu", "2"),
        (TypeError, "cpu", True),
        (ValueError, "cpu", 0),
        (ValueError, "cpu", float("nan")),
        (TypeError, "open_files", 6.5),
        (TypeError, "open_files", True),
        (ValueError, "open_files", 0),
        (ValueError, "processes", 0),
        (TypeError, "nice", "5"),
        (ValueError, "nice", 100),
        (ValueError, "cgroup", "maybe"),
        (TypeError, "name", 5),
        (ValueError, "name", ""),
        (ValueError, "name", "../up"),
        (ValueError, "name", "a b"),
        (ValueError, "name", "x" * 65),
    ],
)
def test_a_mistake_names_its_field(error: type[Exception], field: str, value: Any) -> None:
    """When the value is made."""
    with pytest.raises(error, match=field):
        Limits(**{field: value})
