"""The relay on real pipes and programs: every outlet gets the same bytes, at the pace of the slowest.

And nothing is held for a reader that is merely slow, while a diamond that would deadlock gets its spool.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pty
import resource
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.relay_kit import Kit, Reader, Running, always
from tests.support.waiting import DEADLINE, until

from penstock.core.errors import ClosedPipe, SpoolLimitExceeded, Stalled
from penstock.core.timing import timing
from penstock.streams import spool
from penstock.streams.relay import ENDED, FAILED, LEFT, OPEN, WINDOW, Lane, Outlet, Relay
from penstock.streams.spool import SpoolBudget
from penstock.system import system_calls
from penstock.system.fds import is_nonblocking, open_path, open_write, pipe_capacity
from penstock.system.pipe_capacity import GROWN_SIZE
from penstock.system.pipe_peek import PipePeek
from penstock.system.unread import unread_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.fixtures import SetTiming

DATA = b"".join(b"%07d\n" % number for number in range(250_000))
"""More than a pipe and a window hold: 2 MB."""
SOME = bytes(GROWN_SIZE + WINDOW // 2)
"""More than a pipe holds, and less than a pipe and a window."""


# --- the same bytes for all ---------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 7])
def test_every_outlet_gets_everything(kit: Kit, count: int) -> None:
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


def test_a_relay_without_outlets_closes_its_input(kit: Kit) -> None:
    lane = Lane(kit.source(DATA), [])
    kit.start(lane).finish()
    assert isinstance(lane.error, ClosedPipe)


def test_an_empty_input_is_eof_for_all(kit: Kit) -> None:
    end, outlet = kit.outlet()
    kit.start(Lane(kit.source(b""), [outlet])).finish()
    assert os.read(end.fileno(), 1) == b""


def test_eof_comes_to_each_outlet_as_soon_as_it_has_everything(kit: Kit) -> None:
    """One that nobody reads does not delay the others."""
    slow_end, slow = kit.outlet("slow")
    end, outlet = kit.outlet("quick")
    running = kit.start(Lane(kit.source(SOME), [slow, outlet]))
    assert Reader(end).result() == SOME
    assert slow.state == OPEN
    assert Reader(slow_end).result() == SOME
    running.finish()


def test_a_small_piece_is_passed_on_at_once(kit: Kit) -> None:
    source, writer = kit.pipe()
    (one, first), (other, second) = kit.outlet(), kit.outlet()
    running = kit.start(Lane(source, [first, second]))
    for piece in (b"a", b"bc"):
        os.write(writer.fileno(), piece)
        assert os.read(one.fileno(), 10) == os.read(other.fileno(), 10) == piece
    writer.close()
    running.finish()


def test_pipes_that_carry_much_become_larger(kit: Kit) -> None:
    end, outlet = kit.outlet()
    source = kit.source(DATA)
    before = pipe_capacity(end.fileno())
    running = kit.start(Lane(source, [outlet]))
    until(lambda: outlet.full)
    assert pipe_capacity(end.fileno()) > before
    assert Reader(end).result() == DATA
    running.finish()


@settings(max_examples=60)
@given(
    pieces=st.lists(st.sampled_from([1, 13, 4096, 5000, 70_000, 300_000]), max_size=8),
    readers=st.lists(
        st.tuples(
            st.sampled_from([1000, 4096, 65536]), st.sampled_from([0, 1, 9999, 1 << 60]), st.booleans()
        ),
        min_size=1,
        max_size=4,
    ),
    lanes=st.integers(1, 3),
    memory=st.sampled_from([0, 100_000, 1 << 30]),
)
def test_any_schedule_delivers_the_same_bytes(
    pieces: list[int], readers: list[tuple[int, int, bool]], lanes: int, memory: int
) -> None:
    """Whatever the sizes of reads and writes, who leaves and when, and whether outlets may spool."""
    kit = Kit()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(timing, "spool_stall_s", 0.0)
            parts: list[Lane] = []
            checks: list[tuple[Reader, int, Outlet, bytes]] = []
            for number in range(lanes):
                data = b"".join(bytes([place + number]) * size for place, size in enumerate(pieces))
                made = [kit.outlet("x", elastic=elastic, join_waits=always) for _, _, elastic in readers]
                parts.append(Lane(kit.source(data), [outlet for _, outlet in made]))
                checks += [
                    (Reader(end, at_most, size), at_most, outlet, data)
                    for (end, outlet), (size, at_most, _) in zip(made, readers, strict=True)
                ]
            budget = SpoolBudget(memory=memory)
            kit.start(*parts, budget=budget).finish()
            for reader, at_most, outlet, data in checks:
                assert reader.result() == data[:at_most]
                assert outlet.state in {ENDED, LEFT}
                assert outlet.state == ENDED or at_most <= len(data)
            assert budget.held == 0
    finally:
        kit.close()


# --- pace ---------------------------------------------------------------------------------------


def _held_by_pipes(*numbers: int) -> int:
    return sum(map(unread_bytes, numbers))


def test_a_full_rigid_outlet_stops_the_reading(kit: Kit) -> None:
    """At most the window is held for it, and waiting costs no processor time."""
    (stopped, first), (end, second) = kit.outlet("stopped", join_waits=always), kit.outlet(elastic=True)
    source = kit.source(DATA)
    lane = Lane(source, [first, second])
    running = kit.start(lane)
    reader = Reader(end)
    until(lambda: first.full)
    before = time.process_time()
    wall = time.monotonic()
    until(lambda: time.monotonic() > wall + 0.3)
    assert time.process_time() - before < 0.25  # the loop of `until` included
    assert lane.count < len(DATA)
    assert first.held <= WINDOW
    assert first.peak == 0
    assert Reader(stopped).result() == reader.result() == DATA
    running.finish()
    assert running.cpu < 0.2


def test_a_stalled_elastic_outlet_is_spooled_for(kit: Kit) -> None:
    spooled: list[Outlet] = []
    (stopped, first), (end, second) = (kit.outlet(name, elastic=True, join_waits=always) for name in "ab")
    budget = SpoolBudget()
    running = kit.start(Lane(kit.source(DATA), [first, second]), budget=budget, on_spooling=spooled.append)
    assert Reader(end).result() == DATA
    assert spooled == [first]
    assert 0 < first.peak == budget.peak < len(DATA)
    assert second.peak == 0
    assert Reader(stopped).result() == DATA
    running.finish()
    assert budget.held == 0


def test_a_long_spool_does_not_wait_before_each_read(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it did, this would take two minutes, and the reader gives up before."""
    monkeypatch.setattr(timing, "spool_stall_s", 0.5)
    (_, first), (end, second) = (kit.outlet(name, elastic=True, join_waits=always) for name in "ab")
    big = bytes(64 << 20)
    kit.start(Lane(kit.source(big), [first, second]))
    assert len(Reader(end).result()) == len(big)


def test_a_spool_goes_to_disk(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_SEGMENT_BYTES", 1 << 18)
    (stopped, first), (end, second) = (kit.outlet(name, elastic=True, join_waits=always) for name in "ab")
    budget = SpoolBudget(memory=100_000)
    running = kit.start(Lane(kit.source(DATA), [first, second]), budget=budget)
    assert Reader(end).result() == DATA
    assert budget._in_memory <= 100_000 < budget.held
    assert Reader(stopped).result() == DATA
    running.finish()


@pytest.mark.parametrize(
    ("elastic", "waits", "sibling_elastic"), [(False, True, True), (True, False, True), (True, True, False)]
)
def test_an_outlet_is_not_spooled_for_without_each_reason(
    kit: Kit, *, elastic: bool, waits: bool, sibling_elastic: bool
) -> None:
    asked: list[None] = []

    def join_waits() -> bool:
        asked.append(None)
        return waits

    stopped, first = kit.outlet("a", elastic=elastic, join_waits=join_waits)
    end, second = kit.outlet("b", elastic=sibling_elastic, join_waits=always)
    source = kit.source(DATA)
    peek = PipePeek.of(end.fileno())
    assert peek is not None
    running = kit.start(Lane(source, [first, second]))
    reader = Reader(end)
    until(lambda: first.full and peek.look().empty)  # type: ignore[union-attr]
    peek.close()
    if elastic and sibling_elastic:
        until(lambda: len(asked) > 3)
    assert first.peak == 0
    assert Reader(stopped).result() == reader.result() == DATA
    running.finish()
    assert first.peak == second.peak == 0


def test_an_outlet_whose_siblings_have_bytes_is_not_spooled_for(kit: Kit) -> None:
    (one, first), (other, second) = (kit.outlet(name, elastic=True, join_waits=always) for name in "ab")
    running = kit.start(Lane(kit.source(DATA), [first, second]))
    until(lambda: first.full and second.full)
    readers = [Reader(one), Reader(other)]
    assert all(reader.result() == DATA for reader in readers)
    running.finish()


def test_a_slow_reader_is_not_spooled_for(kit: Kit, set_timing: SetTiming) -> None:
    """It takes its bytes in small pieces, beside a quick one, and its join does wait."""
    set_timing(spool_stall_s=DEADLINE)
    (slow, first), (end, second) = (kit.outlet(name, elastic=True, join_waits=always) for name in "ab")
    running = kit.start(Lane(kit.source(DATA), [first, second]))
    reader = Reader(end)
    assert Reader(slow, pieces=1000).result() == reader.result() == DATA
    running.finish()
    assert first.peak == 0


def test_without_a_spool_a_stall_is_an_error(kit: Kit) -> None:
    (_, first), (end, second) = (kit.outlet(name, elastic=True, join_waits=always) for name in "ab")
    running = kit.start(
        Lane(kit.source(DATA), [first, second]), limit=0, who_waits=lambda outlet: f"{outlet.name} waits"
    )
    Reader(end).result()
    with pytest.raises(Stalled, match=r"^a waits$"):
        running.finish()


def test_past_the_limit_of_the_spool_the_run_ends(kit: Kit) -> None:
    (_, first), (end, second) = (kit.outlet(name, elastic=True, join_waits=always) for name in "ab")
    running = kit.start(Lane(kit.source(DATA), [first, second]), limit=500_000)
    Reader(end).result()
    with pytest.raises(SpoolLimitExceeded, match="500000"):
        running.finish()


def test_sibling_lanes_are_spooled_for_like_outlets_of_one(kit: Kit) -> None:
    """One thread stands for a program that writes to both inlets in turn, and blocks in the full one."""
    (stopped, first), (end, second) = (kit.outlet(name, elastic=True, join_waits=always) for name in "ab")
    (in_a, to_a), (in_b, to_b) = kit.pipe(), kit.pipe()

    def program() -> None:
        for writer, data in ((to_a, DATA), (to_b, b"done")):
            view = memoryview(data)
            while view:
                view = view[os.write(writer.fileno(), view) :]
        to_a.close()
        to_b.close()

    thread = threading.Thread(target=program)
    thread.start()
    running = kit.start(Lane(in_a, [first]), Lane(in_b, [second]))
    assert Reader(end).result() == b"done"
    thread.join()
    assert first.peak > 0
    assert Reader(stopped).result() == DATA
    running.finish()


def _waits(full: PipePeek, empty: PipePeek) -> Callable[[], bool]:
    """As a join: one of its inputs is full, the other is empty."""

    def waits() -> bool:
        there, missing = full.look(), empty.look()
        assert there is not None
        assert missing is not None
        return there.full and missing.empty

    return waits


@pytest.mark.parametrize(
    ("filter_", "spools"), [(("grep", "0249999"), True), (("cat",), False), (("sort", "-r"), True)]
)
def test_a_diamond_of_programs_does_not_deadlock(
    kit: Kit, set_timing: SetTiming, filter_: tuple[str, ...], *, spools: bool
) -> None:
    """`tee(filter, cat)` into `paste`, which reads one line of each in turn."""
    if not spools:  # a busy machine may keep `cat` waiting for longer than the usual 20 ms
        set_timing(spool_stall_s=DEADLINE)
    peeks: list[PipePeek] = []

    def join_waits() -> bool:
        return _waits(peeks[0], peeks[1])()

    branch, first = kit.outlet("filter", elastic=True)
    plain, second = kit.outlet("plain", elastic=True, join_waits=join_waits)
    (out, to_join), (result, to_result) = kit.pipe(), kit.pipe()
    for end in (plain, out):
        peek = PipePeek.of(end.fileno())
        assert peek is not None
        peeks.append(peek)
    source = kit.source(DATA)
    kit.program(*filter_, stdin=branch, stdout=to_join)
    numbers = [f"/dev/fd/{end.fileno()}" for end in (out, plain)]
    kit.program("paste", "-d", "", *numbers, stdout=to_result, keep=(out, plain))
    reader = Reader(result)
    kit.start(Lane(source, [first, second])).finish()
    assert reader.result().count(b"\n") == 250_000
    assert (second.peak > 0) == spools
    for peek in peeks:
        peek.close()


# --- early ends ---------------------------------------------------------------------------------


def _wait_for_the_end_of(outlet: Outlet) -> None:
    until(lambda: outlet.state == LEFT)  # although nothing is written


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_outlets_may_leave_in_any_order(kit: Kit, order: tuple[int, ...]) -> None:
    """The others get everything up to then; without any the input is closed."""
    source, writer = kit.pipe()
    made = [kit.outlet(str(number)) for number in range(3)]
    lane = Lane(source, [outlet for _, outlet in made])
    running = kit.start(lane)
    for turn, place in enumerate(order):
        os.write(writer.fileno(), b"%d" % turn)
        for other in order[turn:]:
            assert os.read(made[other][0].fileno(), 10) == b"%d" % turn
        end, outlet = made[place]
        end.close()
        _wait_for_the_end_of(outlet)
    running.finish()
    assert isinstance(lane.error, ClosedPipe)
    with pytest.raises(BrokenPipeError):
        os.write(writer.fileno(), b"x")


def test_an_outlet_that_leaves_while_it_is_full_lets_the_others_go_on(kit: Kit) -> None:
    (stopped, first), (end, second) = kit.outlet(), kit.outlet()
    lane = Lane(kit.source(DATA), [first, second])
    running = kit.start(lane)
    reader = Reader(end)
    until(lambda: first.full)
    stopped.close()
    assert reader.result() == DATA
    running.finish()
    assert (first.state, second.state, lane.error) == (LEFT, ENDED, None)
    assert first.held == 0


def test_readers_that_leave_after_eof_do_not_make_an_error(kit: Kit) -> None:
    end, outlet = kit.outlet()
    lane = Lane(kit.source(SOME), [outlet])
    running = kit.start(lane)
    until(lambda: not lane.reading)
    end.close()
    running.finish()
    assert lane.error is None
    assert outlet.state == LEFT


def test_the_end_of_the_main_output_ends_the_lane(kit: Kit, tmp_path: Path) -> None:
    """As in `yes | tee("f", until="main") | head -1`; the branches get what was read, and EOF."""
    source, to_yes = kit.pipe()
    (end, main), (branch, other) = kit.outlet("main"), kit.outlet("branch")
    file = Outlet(open_write(tmp_path / "f"), name="f")
    kit.program("yes", stdout=to_yes)
    lane = Lane(source, [main, other, file])
    running = kit.start(lane, until=main)
    reader = Reader(branch)
    assert Reader(end, at_most=2).result() == b"y\n"
    running.finish()
    data = reader.result()
    assert isinstance(lane.error, ClosedPipe)
    assert (main.state, other.state, file.state) == (LEFT, ENDED, ENDED)
    assert data == (tmp_path / "f").read_bytes()
    assert len(data) == lane.count
    assert kit.children[0].wait(DEADLINE) == -signal.SIGPIPE


def test_the_main_output_may_end_while_the_source_is_idle(kit: Kit) -> None:
    source, _ = kit.pipe()
    (end, main), (branch, other) = kit.outlet("main"), kit.outlet("branch")
    lane = Lane(source, [main, other])
    running = kit.start(lane, until=main)
    end.close()
    running.finish()
    assert isinstance(lane.error, ClosedPipe)
    assert os.read(branch.fileno(), 1) == b""


def test_the_last_chunk_of_an_ended_lane_reaches_the_other_outlets(kit: Kit) -> None:
    """The main output, first in line, and one after it fail at the same chunk."""
    full = [Outlet(open_path("/dev/full", os.O_WRONLY), name=name) for name in ("main", "full")]
    (end, outlet), (other_end, other) = kit.outlet(), kit.outlet()
    lane = Lane(kit.source(DATA), [full[0], outlet, full[1], other])
    running = kit.start(lane, until=full[0])
    readers = [Reader(end), Reader(other_end)]
    running.finish()
    assert 0 < lane.count < len(DATA)
    assert {reader.result() for reader in readers} == {DATA[: lane.count]}
    assert [outlet.state for outlet in full] == [FAILED, FAILED]
    assert isinstance(lane.error, ClosedPipe)


def test_a_full_disk_fails_one_outlet(kit: Kit) -> None:
    full = Outlet(open_path("/dev/full", os.O_WRONLY), name="full")
    end, outlet = kit.outlet()
    lane = Lane(kit.source(DATA), [full, outlet])
    running = kit.start(lane)
    assert Reader(end).result() == DATA
    running.finish()
    assert full.state == FAILED
    assert full.error is not None
    assert full.error.errno == 28
    assert lane.error is None


def test_a_read_error_is_the_outcome_of_the_lane(kit: Kit, tmp_path: Path) -> None:
    end, outlet = kit.outlet()
    lane = Lane(open_path(tmp_path, os.O_RDONLY), [outlet])
    kit.start(lane).finish()
    assert isinstance(lane.error, IsADirectoryError)
    assert os.read(end.fileno(), 1) == b""
    assert outlet.state == ENDED


# --- other kinds of descriptors -----------------------------------------------------------------


def test_files_are_written_beside_a_slow_pipe_without_spinning(kit: Kit, tmp_path: Path) -> None:
    file = Outlet(open_write(tmp_path / "file"), name="file")
    null = Outlet(open_write(os.devnull), name="null")
    end, outlet = kit.outlet()
    running = kit.start(Lane(kit.source(DATA), [file, null, outlet]))
    assert Reader(end, pieces=5000).result() == DATA
    running.finish()
    assert (tmp_path / "file").read_bytes() == DATA
    assert file.count == null.count == len(DATA)
    assert running.cpu < 1


def test_an_idle_source_of_a_file_costs_nothing(kit: Kit, tmp_path: Path) -> None:
    source, writer = kit.pipe()
    running = kit.start(Lane(source, [Outlet(open_write(tmp_path / "file"), name="file")]))
    wall = time.monotonic()
    until(lambda: time.monotonic() > wall + 0.2)
    writer.close()
    running.finish()
    assert running.cpu < 0.1


def test_a_regular_file_is_an_inlet(kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(DATA)
    end, outlet = kit.outlet()
    running = kit.start(Lane(open_path(tmp_path / "source", os.O_RDONLY), [outlet]))
    assert Reader(end).result() == DATA
    running.finish()


@pytest.mark.parametrize("by_number", [True, False])
def test_the_flags_of_a_shared_description_stay(kit: Kit, *, by_number: bool) -> None:
    """And it gets no more than PIPE_BUF at a time, so that no write blocks."""
    reader, writer = kit.pipe()
    source = kit.source(DATA)
    outlet = Outlet(writer.fileno(), name="n") if by_number else Outlet(writer, name="n", shared=True)
    if by_number:
        lane = Lane(source.fileno(), [outlet])
        source.close()
    else:
        lane = Lane(source, [outlet], shared=True)
    running = kit.start(lane)
    until(lambda: outlet.full)
    assert not is_nonblocking(lane.number)
    assert not is_nonblocking(outlet.number)
    thread = Reader(reader)
    running.finish()
    assert writer.closed != by_number
    writer.close()
    assert thread.result() == DATA


def test_a_terminal_is_an_outlet(kit: Kit) -> None:
    controller, terminal = pty.openpty()
    running = kit.start(Lane(kit.source(b"one\n" * 3000), [Outlet(terminal, name="terminal")]))
    found = b""
    while found.count(b"\n") < 3000:
        found += os.read(controller, 65536)
    running.finish()
    assert found == b"one\r\n" * 3000
    os.close(controller)
    os.close(terminal)


# --- interrupts and ends ------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before", "idle", "full", "spooling"])
def test_an_interrupt_ends_it_at_once(kit: Kit, moment: str) -> None:
    reason = KeyError("stop")
    source = kit.source(DATA) if moment in {"full", "spooling"} else kit.pipe()[0]
    (stopped, first), (end, second) = (
        kit.outlet(name, elastic=moment == "spooling", join_waits=always) for name in "ab"
    )
    lane = Lane(source, [first, second])
    relay = Relay([lane], SpoolBudget())
    kit.relays.append(relay)
    if moment == "before":
        relay.interrupt(reason)
    running = Running(relay)
    kit.threads.append(running)
    reader = Reader(end)
    if moment == "full":
        until(lambda: first.full)
    elif moment == "spooling":
        until(lambda: first.peak)
    relay.interrupt(reason)
    relay.interrupt(ValueError("too late"))
    with pytest.raises(KeyError) as caught:
        running.finish()
    assert caught.value is reason
    reader.result()
    assert lane.fd.closed
    assert first.fd.closed
    assert second.fd.closed
    assert first.held == 0
    relay.interrupt(reason)
    Reader(stopped).result()


@settings(max_examples=40)
@given(at=st.integers(0, 40), elastic=st.booleans())
def test_an_interrupt_may_come_at_any_system_call(at: int, *, elastic: bool) -> None:
    """Raised in the relay's own thread, as KeyboardInterrupt is; nothing is left open."""
    kit = Kit()
    calls = itertools.count()

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def interrupted(*arguments: Any) -> Any:
            if threading.current_thread() in kit.threads and next(calls) == at:
                raise KeyboardInterrupt
            return call(*arguments)

        return interrupted

    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("readv", "write", "poll_wait"):
                patch.setattr(system_calls, name, wrapped(getattr(system_calls, name)))
            (one, first), (end, second) = (kit.outlet(n, elastic=elastic, join_waits=always) for n in "ab")
            lane = Lane(kit.source(DATA), [first, second])
            relay = Relay([lane], SpoolBudget())
            running = Running.__new__(Running)
            kit.relays.append(relay)
            kit.threads.append(running)
            running.__init__(relay)  # type: ignore[misc]
            readers = [Reader(one), Reader(end)]
            with contextlib.suppress(KeyboardInterrupt):
                running.finish()
            for reader in readers:
                reader.result()
            assert lane.fd.closed
            assert first.fd.closed
            assert second.fd.closed
    finally:
        kit.close()


def test_a_callback_that_raises_ends_the_relay(kit: Kit) -> None:
    def join_waits() -> bool:
        raise LookupError("from the engine")

    (_, first), (end, second) = (kit.outlet(name, elastic=True, join_waits=join_waits) for name in "ab")
    running = kit.start(Lane(kit.source(DATA), [first, second]))
    Reader(end).result()
    with pytest.raises(LookupError):
        running.finish()


def test_a_relay_that_never_runs_is_closed(kit: Kit) -> None:
    source, _ = kit.pipe()
    _, outlet = kit.outlet()
    relay = Relay([Lane(source, [outlet])], SpoolBudget())
    relay.close()
    relay.close()
    assert source.closed
    assert outlet.fd.closed
    with pytest.raises(ValueError, match="closed relay"):
        relay.run()


def test_closing_a_relay_that_runs_ends_it(kit: Kit) -> None:
    source, _ = kit.pipe()
    end, outlet = kit.outlet()
    running = kit.start(Lane(source, [outlet]))
    running.relay.close()
    with pytest.raises(ValueError, match="closed"):
        running.finish()
    assert os.read(end.fileno(), 1) == b""


def test_reprs_tell_the_state(kit: Kit) -> None:
    source, _ = kit.pipe()
    _, outlet = kit.outlet("wc")
    lane = Lane(source, [outlet])
    assert repr(outlet) == "<Outlet wc open count=0 held=0>"
    assert repr(lane).startswith("<Lane count=0 reading outlets=[<Outlet wc")
    lane.close()


@pytest.mark.slow
def test_memory_is_bounded_beside_a_slow_reader(kit: Kit) -> None:
    """200 MB cross a relay with ten outlets, and the process grows by less than 32 MiB."""
    source, to_head = kit.pipe()
    made = [kit.outlet(str(number)) for number in range(10)]
    kit.program("head", "-c", "200000000", "/dev/zero", stdout=to_head)
    for end, _ in made:
        kit.program("wc", "-c", stdin=end)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kit.start(Lane(source, [outlet for _, outlet in made])).finish()
    assert {outlet.count for _, outlet in made} == {200_000_000}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10
