"""A relay between pipes has the kernel pass on the bytes, and nobody can tell but by the time it takes.

`passed` makes it do so from the first byte on, and tells how many bytes went that way.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.relay_kit import Kit, Reader, Running, always
from tests.support.system_calls import failing
from tests.support.waiting import DEADLINE, until

from penstock import CAPTURE, Pipeline, command, tee
from penstock.core.errors import ClosedPipe
from penstock.core.timing import timing
from penstock.streams import lane as lane_module
from penstock.streams.relay import ENDED, LEFT, WINDOW, Lane, Outlet, Relay
from penstock.streams.spool import SpoolBudget
from penstock.system import features, system_calls
from penstock.system.fds import Fd, open_read, open_write, pipe_capacity

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not features.TEE, reason="no tee(2) here")

DATA = b"".join(b"%07d\n" % number for number in range(500_000))
"""Much more than pipes and windows hold: 4 MB."""
PAGE = os.sysconf("SC_PAGE_SIZE")


class Passed:
    """The bytes that `tee` and `splice` moved for relays."""

    def __init__(self) -> None:
        self.tee = self.splice = 0


def _count(patch: pytest.MonkeyPatch) -> Passed:
    """Have relays pass on from the first byte, and count."""
    passed = Passed()
    real_tee, real_splice = system_calls.tee, system_calls.splice

    def counted_tee(*arguments: Any) -> int:
        size = real_tee(*arguments)
        passed.tee += size
        return size

    def counted_splice(*arguments: Any, **options: Any) -> int:
        size = real_splice(*arguments, **options)
        passed.splice += size
        return size

    patch.setattr(lane_module, "_FIRST_TEE", 0)
    patch.setattr(system_calls, "tee", counted_tee)
    patch.setattr(system_calls, "splice", counted_splice)
    return passed


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Passed:
    return _count(monkeypatch)


def _outlet(kit: Kit, size: int, name: str = "a", **options: Any) -> tuple[Fd, Outlet]:
    """Return an outlet into a pipe of that size, and its reader."""
    reader, writer = kit.pipe()
    fcntl.fcntl(writer.fileno(), fcntl.F_SETPIPE_SZ, size)
    return reader, Outlet(writer, name=name, **options)


# --- the same bytes for all ---------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_kernel_passes_on_what_it_can(kit: Kit, count: int, passed: Passed) -> None:
    made = [kit.outlet(str(number)) for number in range(count)]
    outlets = [outlet for _, outlet in made]
    lane = Lane(kit.source(DATA), outlets)
    readers = [Reader(end) for end, _ in made]
    kit.start(lane).finish()
    assert all(reader.result() == DATA for reader in readers)
    assert {outlet.state for outlet in outlets} == {ENDED}
    assert {outlet.count for outlet in outlets} == {lane.count} == {len(DATA)}
    assert {outlet.peak for outlet in outlets} == {0}
    assert lane.error is None
    assert passed.splice > 0
    assert (passed.tee > 0) == (count > 1)


@pytest.mark.parametrize("switches", [("TEE",), ("SPLICE",), ("TEE", "SPLICE"), ("PROCFS",)])
@pytest.mark.parametrize("count", [1, 3])
def test_without_the_calls_it_copies(
    kit: Kit, switches: tuple[str, ...], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = _count(monkeypatch)
    for switch in switches:
        monkeypatch.setattr(features, switch, False)
    made = [kit.outlet() for _ in range(count)]
    readers = [Reader(end) for end, _ in made]
    kit.start(Lane(kit.source(DATA), [outlet for _, outlet in made])).finish()
    assert all(reader.result() == DATA for reader in readers)
    if "TEE" in switches:
        assert passed.tee == 0
    if "SPLICE" in switches:
        assert passed.splice == 0
    if "PROCFS" in switches:
        assert passed.tee == passed.splice == 0


def test_without_a_c_library_that_has_tee_it_copies(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, passed: Passed
) -> None:
    monkeypatch.setattr(features, "TEE", True)
    monkeypatch.setitem(sys.modules, "penstock.system.tee_ctypes", None)
    monkeypatch.delattr("penstock.system.tee_ctypes", raising=False)
    made = [kit.outlet(), kit.outlet()]
    readers = [Reader(end) for end, _ in made]
    kit.start(Lane(kit.source(DATA), [outlet for _, outlet in made])).finish()
    assert all(reader.result() == DATA for reader in readers)
    assert not features.TEE
    assert passed.tee == 0


@pytest.mark.parametrize("order", list(itertools.permutations([PAGE, 65536, 1 << 20])))
def test_unequal_pipes_get_the_same(kit: Kit, order: tuple[int, ...], passed: Passed) -> None:
    """A pipe of one page takes a page at a time, and the others do not lose or repeat anything."""
    made = [_outlet(kit, size, str(size)) for size in order]
    lane = Lane(kit.source(DATA), [outlet for _, outlet in made])
    readers = [Reader(end) for end, _ in made]
    kit.start(lane).finish()
    assert all(reader.result() == DATA for reader in readers)
    assert {outlet.count for _, outlet in made} == {lane.count} == {len(DATA)}
    assert passed.tee > 0


def test_unequal_readers_get_the_same(kit: Kit, passed: Passed) -> None:
    made = [kit.outlet(), kit.outlet(), kit.outlet()]
    lane = Lane(kit.source(DATA), [outlet for _, outlet in made])
    readers = [Reader(end, pieces=size) for (end, _), size in zip(made, (1 << 18, 700, 5000), strict=True)]
    kit.start(lane).finish()
    assert all(reader.result() == DATA for reader in readers)
    assert passed.tee > 0


def test_small_pieces_are_passed_on_at_once(kit: Kit, passed: Passed) -> None:
    """And after some of them it copies, which fills whole pages."""
    source, writer = kit.pipe()
    (one, first), (other, second) = kit.outlet(), kit.outlet()
    running = kit.start(Lane(source, [first, second]))
    for number in range(200):
        piece = b"%d" % number
        os.write(writer.fileno(), piece)
        assert os.read(one.fileno(), 10) == os.read(other.fileno(), 10) == piece
    writer.close()
    running.finish()
    assert 0 < passed.tee <= len(b"01234")


def test_small_pieces_do_not_fill_a_pipe(kit: Kit, passed: Passed) -> None:
    """A pipe has few buffers, and a piece that the kernel passes on takes a whole one."""
    source, writer = kit.pipe()
    (_, first), (_, second) = kit.outlet(), kit.outlet()
    lane = Lane(source, [first, second])
    running = kit.start(lane)
    for number in range(1000):
        os.write(writer.fileno(), b"x")
        until(lambda: lane.count > number)  # noqa: B023 - called at once
    assert first.held == second.held == 0
    assert passed.tee == 5
    running.relay.close()
    with pytest.raises(ValueError, match="closed"):
        running.finish()


def test_pipes_that_carry_much_become_larger(kit: Kit, passed: Passed) -> None:
    source, _ = made = kit.source(DATA), kit.outlet()
    end, outlet = made[1]
    before = pipe_capacity(end.fileno())
    running = kit.start(Lane(source, [outlet]))
    until(lambda: outlet.full)
    assert pipe_capacity(end.fileno()) > before
    assert Reader(end).result() == DATA
    running.finish()
    assert passed.splice > 0


def test_a_pipe_with_a_name_is_copied(kit: Kit, tmp_path: Path, passed: Passed) -> None:
    """Somebody else may read from it, so what stays in it is not certain to be ours."""
    os.mkfifo(tmp_path / "name")
    writer = os.open(tmp_path / "name", os.O_RDWR)
    source = open_read(tmp_path / "name")
    made = [kit.outlet(), kit.outlet()]
    readers = [Reader(end) for end, _ in made]
    running = kit.start(Lane(source, [outlet for _, outlet in made]))
    done = 0
    while done < len(DATA):
        done += os.write(writer, DATA[done : done + 65536])
    os.close(writer)
    running.finish()
    assert all(reader.result() == DATA for reader in readers)
    assert passed.tee == passed.splice == 0


@pytest.mark.parametrize("kind", ["file", "shared"])
def test_a_lane_with_an_outlet_of_another_kind_copies(
    kit: Kit, kind: str, tmp_path: Path, passed: Passed
) -> None:
    end, outlet = kit.outlet()
    if kind == "file":
        other = Outlet(open_write(tmp_path / "file"), name="file")
    else:
        other_end, other = kit.outlet(shared=True)
        kit.program("sh", "-c", 'cat >"$0"', str(tmp_path / "file"), stdin=other_end)
    reader = Reader(end)
    kit.start(Lane(kit.source(DATA), [other, outlet])).finish()
    assert reader.result() == DATA
    for child in kit.children:
        child.wait(DEADLINE)
    assert (tmp_path / "file").read_bytes() == DATA
    assert passed.tee == passed.splice == 0


# --- ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaver", [0, 1, 2])
def test_a_reader_that_leaves_in_the_middle_is_left_out(kit: Kit, leaver: int, passed: Passed) -> None:
    made = [kit.outlet(str(number)) for number in range(3)]
    lane = Lane(kit.source(DATA), [outlet for _, outlet in made])
    readers = [
        Reader(end, at_most=1_234_567 if place == leaver else 1 << 60) for place, (end, _) in enumerate(made)
    ]
    kit.start(lane).finish()
    for place, reader in enumerate(readers):
        assert reader.result() == (DATA[:1_234_567] if place == leaver else DATA)
        assert made[place][1].state == (LEFT if place == leaver else ENDED)
    assert lane.error is None
    assert passed.tee > 0


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_end_of_the_main_output_comes_for_all_after_the_same_bytes(
    kit: Kit, place: int, passed: Passed
) -> None:
    made = [kit.outlet(str(number)) for number in range(3)]
    lane = Lane(kit.source(DATA), [outlet for _, outlet in made])
    running = kit.start(lane, until=made[place][1])
    readers = [
        Reader(end, at_most=1_500_000 if turn == place else 1 << 60) for turn, (end, _) in enumerate(made)
    ]
    running.finish()
    found = {reader.result() for turn, reader in enumerate(readers) if turn != place}
    assert found == {DATA[: lane.count]}
    assert lane.count >= 1_500_000
    assert isinstance(lane.error, ClosedPipe)
    assert passed.tee > 0


def test_finish_passes_on_what_is_there(kit: Kit, passed: Passed) -> None:
    """Though another process could still write to the inlet."""
    source, writer = kit.pipe()
    made = [kit.outlet(), kit.outlet()]
    readers = [Reader(end) for end, _ in made]
    lane = Lane(source, [outlet for _, outlet in made])
    running = kit.start(lane)
    for start in range(0, len(DATA), 65536):
        os.write(writer.fileno(), DATA[start : start + 65536])
    held: list[None] = []
    running.relay.finish(lambda: held.append(None))
    running.finish()
    assert all(reader.result() == DATA for reader in readers)
    assert held == [None]
    assert passed.tee > 0


def test_an_outlet_that_spools_in_the_middle_returns(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, passed: Passed
) -> None:
    """It is passed on, then kept, then passed on again, and every byte arrives once."""
    monkeypatch.setattr(timing, "spool_stall_s", 0.0)
    source, writer = kit.pipe()
    (slow, first), (end, second) = (kit.outlet(name, elastic=True, join_waits=always) for name in "ab")
    budget = SpoolBudget()
    running = kit.start(Lane(source, [first, second]), budget=budget)
    reader = Reader(end)

    def write(data: bytes) -> None:
        done = 0
        while done < len(data):
            done += os.write(writer.fileno(), data[done:])

    part = len(DATA) // 2
    write(DATA[:part])
    until(lambda: second.count == part)
    assert first.peak > 0
    found = b""
    while len(found) < part:
        found += os.read(slow.fileno(), 65536)
    until(lambda: budget.held == 0)
    before = passed.tee
    rest = Reader(slow)
    write(DATA[part:])
    writer.close()
    running.finish()
    assert found + rest.result() == reader.result() == DATA
    assert passed.tee > before > 0
    assert {first.count, second.count} == {len(DATA)}


# --- any schedule, any fault --------------------------------------------------------------------


@settings(max_examples=80)
@given(
    pieces=st.lists(st.sampled_from([1, 13, 4096, 5000, 70_000, 300_000]), max_size=10),
    readers=st.lists(
        st.tuples(
            st.sampled_from([PAGE, 2 * PAGE, 65536, 1 << 18]),  # of the pipe
            st.sampled_from([1000, 4096, 65536]),
            st.sampled_from([0, 1, 9999, 400_000, 1 << 60]),
            st.booleans(),
        ),
        min_size=1,
        max_size=4,
    ),
    inlet=st.sampled_from([PAGE, 65536, 1 << 18]),
    memory=st.sampled_from([0, 100_000, 1 << 30]),
    off=st.sampled_from(["", "", "", "TEE", "SPLICE"]),
    fault=st.sampled_from([("", 0), ("splice", errno.EAGAIN), ("splice", errno.EIO), ("read", errno.EAGAIN)]),
    turns=st.sets(st.integers(1, 12)),
)
def test_any_schedule_delivers_the_same_bytes(
    pieces: list[int],
    readers: list[tuple[int, int, int, bool]],
    inlet: int,
    memory: int,
    off: str,
    fault: tuple[str, int],
    turns: set[int],
) -> None:
    """Whatever the sizes of pipes, reads and writes, who leaves, who spools, and which calls fail."""
    kit = Kit()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(timing, "spool_stall_s", 0.0)
            patch.setattr(lane_module, "_FIRST_TEE", 0)
            if off:
                patch.setattr(features, off, False)
            data = b"".join(os.urandom(min(size, 5000)) * (size // min(size, 5000)) for size in pieces)
            made = [_outlet(kit, size, elastic=elastic, join_waits=always) for size, _, _, elastic in readers]
            lane = Lane(_source(kit, data, inlet), [outlet for _, outlet in made])
            threads = [
                Reader(end, at_most, piece)
                for (end, _), (_, piece, at_most, _) in zip(made, readers, strict=True)
            ]
            budget = SpoolBudget(memory=memory)
            if fault[0]:
                with failing(*fault, lambda turn: turn in turns):
                    kit.start(lane, budget=budget).finish()
            else:
                kit.start(lane, budget=budget).finish()
            for thread, (_, outlet), (_, _, at_most, _) in zip(threads, made, readers, strict=True):
                assert thread.result() == data[:at_most]
                assert outlet.state in {ENDED, LEFT}
                assert outlet.state == ENDED or at_most <= len(data)
                assert outlet.state == LEFT or outlet.count == lane.count == len(data)
            assert budget.held == 0
    finally:
        kit.close()


def _source(kit: Kit, data: bytes, size: int) -> Fd:
    reader = kit.source(data)
    fcntl.fcntl(reader.fileno(), fcntl.F_SETPIPE_SZ, max(size, 1 << 16))
    return reader


@settings(max_examples=40)
@given(at=st.integers(0, 40), elastic=st.booleans())
def test_an_interrupt_may_come_at_any_system_call(at: int, *, elastic: bool) -> None:
    """Raised in the relay's own thread, as KeyboardInterrupt is; nothing is left open."""
    kit = Kit()
    calls = itertools.count()

    def wrapped(call: Any) -> Any:
        def interrupted(*arguments: Any, **options: Any) -> Any:
            result = call(*arguments, **options)  # the bytes have been moved when the interrupt comes
            if next(calls) == at:
                raise KeyboardInterrupt
            return result

        return interrupted

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lane_module, "_FIRST_TEE", 0)
            for name in ("readv", "tee", "splice", "poll_wait"):
                patch.setattr(system_calls, name, wrapped(getattr(system_calls, name)))
            (one, first), (end, second) = (kit.outlet(n, elastic=elastic, join_waits=always) for n in "ab")
            lane = Lane(kit.source(DATA), [first, second])
            relay = Relay([lane], SpoolBudget())
            kit.relays.append(relay)
            running = Running(relay)
            kit.threads.append(running)
            readers = [Reader(one), Reader(end)]
            with pytest.raises(KeyboardInterrupt):
                running.finish()
            for reader in readers:
                assert DATA.startswith(reader.result())
            assert lane.fd.closed
            assert first.fd.closed
            assert second.fd.closed
    finally:
        kit.close()


# --- whole graphs -------------------------------------------------------------------------------


def test_a_graph_of_programs_is_passed_on_by_the_kernel(passed: Passed) -> None:
    """The sums of both readers are equal."""
    size = 128 * WINDOW
    branch = Pipeline(command("sha256sum"), name="branch")
    graph = command("head", "-c", str(size), "/dev/zero") | tee(branch) | command("sha256sum")
    result = graph.run(stdout=CAPTURE)
    assert result.output("branch") == result.stdout
    assert passed.tee > 0


def test_a_short_graph_does_not_load_it() -> None:
    """It would pay for what it does not use."""
    code = """
import sys
from penstock import DEVNULL, command, tee
(command("echo", "a") | tee(command("cat")) | command("cat")).run(stdout=DEVNULL)
assert "penstock.streams.relay" in sys.modules
print(*sorted({"penstock.streams.pipe_tee", "penstock.system.tee_ctypes"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("place", [0, 1])
def test_a_host_that_sigpipe_would_end_survives_a_reader_that_leaves(place: int) -> None:
    """The calls of the kernel send the signal as a write does."""
    code = f"""
import signal
from penstock import DEVNULL, command, tee
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
programs = [command("head", "-c", "3000000"), command("cat")]
first, last = programs if {place} else reversed(programs)
graph = command("head", "-c", "30000000", "/dev/zero") | tee(first.to(DEVNULL)) | last
print(graph.run(stdout=DEVNULL, check=False).error)
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"None\n"
