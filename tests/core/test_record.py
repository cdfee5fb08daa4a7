"""`record` makes what `dataclass(frozen=True, slots=True)` makes."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import pprint
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from penstock.core.record import field, record


@record(frozen=True, slots=True)
class Light:
    """One of ours."""

    name: str
    count: int | None = None
    data: bytes = b""

    @property
    def size(self) -> int:
        """Not a field."""
        return len(self.data)


@dataclasses.dataclass(frozen=True, slots=True)
class Heavy:
    """The same by the standard library."""

    name: str
    count: int | None = None
    data: bytes = b""

    @property
    def size(self) -> int:
        """Not a field."""
        return len(self.data)


LIGHT, HEAVY = Light("a", data=b"xy"), Heavy("a", data=b"xy")


def test_it_reads_as_a_dataclass_does() -> None:
    """Its repr, its signature, and what it defines itself."""
    assert repr(LIGHT) == repr(HEAVY).replace("Heavy", "Light")
    assert pprint.pformat(LIGHT).startswith("Light(")
    assert inspect.signature(Light) == inspect.signature(Heavy)
    assert LIGHT.size == 2


def test_it_is_equal_by_its_fields_and_only_to_its_own_kind() -> None:
    """And hashed by them."""
    assert Light("a", data=b"xy") == LIGHT != Light("b")
    assert LIGHT != HEAVY  # type: ignore[comparison-overlap]
    assert hash(Light("a", data=b"xy")) == hash(LIGHT) == hash(HEAVY)


def test_it_takes_the_arguments_that_a_dataclass_takes() -> None:
    """By place or by name; a TypeError names what is missing or unknown."""
    assert Light("a", 1, b"").count == 1
    with pytest.raises(TypeError, match="other"):
        Light("a", other=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^Light\.__init__\(\) missing"):
        Light()  # type: ignore[call-arg]


def test_no_field_can_be_set_or_deleted() -> None:
    """By the error that a dataclass raises."""
    with pytest.raises(dataclasses.FrozenInstanceError, match="'count'"):
        LIGHT.count = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError, match="'count'"):
        del LIGHT.count  # pyright: ignore[reportAttributeAccessIssue]
    assert not hasattr(LIGHT, "__dict__")


def test_it_can_be_pickled_and_copied() -> None:
    """By every protocol that knows slots."""
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(LIGHT, protocol)) == LIGHT
    assert copy.copy(LIGHT) == copy.deepcopy(LIGHT) == LIGHT
    if sys.version_info >= (3, 13):
        assert copy.replace(LIGHT, count=3) == Light("a", 3, b"xy")


def test_the_functions_of_dataclasses_take_it() -> None:
    """`fields`, `replace`, `asdict` and the like do not see a difference."""
    names = ["name", "count", "data"]
    assert [field.name for field in dataclasses.fields(LIGHT)] == names
    assert [field.default for field in dataclasses.fields(Light)][1:] == [None, b""]
    assert dataclasses.is_dataclass(LIGHT)
    assert dataclasses.replace(LIGHT, count=3) == Light("a", 3, b"xy")
    assert dataclasses.asdict(LIGHT) == dataclasses.asdict(HEAVY)
    assert dataclasses.astuple(LIGHT) == ("a", None, b"xy")


class Lighter(Light):
    """A subclass with slots of its own, of which the fields are not among them."""

    __slots__ = ()


@dataclasses.dataclass(frozen=True)
class More(Light):
    """A subclass that adds a field."""

    more: int = 0


@record(frozen=True, slots=True)
class LightFactory:
    """With a default that is made for each object."""

    name: str
    facts: dict[str, int] = field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class HeavyFactory:
    """The same by the standard library."""

    name: str
    facts: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class MoreFactory(LightFactory):
    """A subclass that adds a field."""

    more: int = 0


def test_a_default_may_be_made_for_each_object() -> None:
    """As `dataclasses.field(default_factory=...)` has it."""
    one, other = LightFactory("a"), LightFactory("a")
    assert one == other
    assert one.facts == {}
    assert one.facts is not other.facts
    assert LightFactory("a", {"b": 1}).facts == {"b": 1}
    assert repr(one) == repr(HeavyFactory("a")).replace("Heavy", "Light")
    assert str(inspect.signature(LightFactory)) == str(inspect.signature(HeavyFactory))
    assert dataclasses.fields(LightFactory)[1].default_factory is dict
    assert dataclasses.replace(one, name="b") == LightFactory("b")
    assert MoreFactory("a", more=2).facts == {}
    assert pickle.loads(pickle.dumps(one)) == one


def test_a_subclass_keeps_the_fields() -> None:
    """It compares, shows and pickles them, as a subclass of a dataclass does."""
    assert Lighter("a") == Lighter("a") != Lighter("b")
    assert hash(Lighter("a")) == hash(Light("a"))
    assert repr(Lighter("a")) == "Lighter(name='a', count=None, data=b'')"
    assert pickle.loads(pickle.dumps(Lighter("a", 1))) == Lighter("a", 1)
    assert pickle.loads(pickle.dumps(More("a", more=3))) == More("a", more=3)


def test_threads_may_ask_for_the_fields_at_the_same_time() -> None:
    """All get the same ones, whichever thread makes them."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(20):
                fresh = _fresh_record()
                barrier = threading.Barrier(8)
                found = list(pool.map(partial(_fields_after, barrier), [fresh] * 8))
                assert [field.name for field in found[0]] == ["name", "count"]
                assert all(
                    one is other for fields in found for one, other in zip(fields, found[0], strict=True)
                )
    finally:
        sys.setswitchinterval(interval)


def _fresh_record() -> Any:
    @record(frozen=True, slots=True)
    class Fresh:
        name: str
        count: int = 0

    return Fresh


def _fields_after(barrier: threading.Barrier, kind: Any) -> tuple[dataclasses.Field[Any], ...]:
    barrier.wait()
    return dataclasses.fields(kind)


def test_it_can_be_matched_by_place() -> None:
    """`__match_args__` is there."""
    match LIGHT:
        case Light("a", None, data):
            assert data == b"xy"
        case _:
            pytest.fail("it has no __match_args__")


def test_making_and_comparing_one_does_not_load_dataclasses() -> None:
    """That is why it exists."""
    code = """
import sys
from penstock.core.result import EdgeResult
edge = EdgeResult("a", "b", "os-pipe")
assert edge == edge and repr(edge) and hash(edge)
assert "dataclasses" not in sys.modules
"""
    subprocess.run([sys.executable, "-I", "-c", code], check=True)
