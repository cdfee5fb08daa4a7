"""`run.snapshot()` tells what is known of a run at one moment, disturbs nothing, and never fails."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from tests.isolation import stage_functions
from tests.support.processes import sh
from tests.support.waiting import DEADLINE, until

from penstock import (
    CAPTURE,
    DEVNULL,
    PIPE,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    Snapshot,
    command,
    echo,
    function,
    map_lines,
    merge,
    reading,
    source,
    tee,
    transform,
)
from penstock.system import features, procfs, system_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    from tests.support.fixtures import SetTiming
    from tests.support.hosts import Host

    from penstock import Run

CAT = command("cat")


class Gate:
    """A function stage that takes `size` bytes, and goes on once it is opened."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._open = threading.Event()
        self.reached = threading.Event()

    def __call__(self, _ctx: object, stdin: Any, stdout: Any) -> None:
        """Pass everything on."""
        stdout.write(stdin.read(self._size))
        self.reached.set()
        assert self._open.wait(DEADLINE)
        for chunk in stdin.chunks():
            stdout.write(chunk)

    def open(self) -> None:
        """Let it go on."""
        self._open.set()


def states(run: Run) -> list[str]:
    """Return the states of the stages now."""
    return [stage.state for stage in run.snapshot().stages]


def cancelled(run: Run) -> None:
    """End a run."""
    run.cancel()
    if run.stdout is not None:
        run.stdout.close()
    with contextlib.suppress(PipelineError):
        run.wait()


# The stages.


def test_a_stage_that_waits_for_bytes_is_reading() -> None:
    """A command and a function alike."""
    with (CAT | function(lambda _ctx, stdin, _stdout: stdin.read())).start(stdin=PIPE, stdout=DEVNULL) as run:
        until(lambda: states(run) == ["reading", "reading"])


def test_a_stage_that_waits_for_room_is_writing() -> None:
    """A command and a function alike."""
    run = (source([b"x" * 100] * 1_000_000) | CAT).start(stdout=PIPE)
    until(lambda: states(run) == ["writing", "writing"])
    cancelled(run)


def test_a_stage_that_works_or_sleeps_on_its_own_is_running() -> None:
    """It waits for nobody."""
    gate = Gate(0)
    run = (command("sleep", "1000") | function(gate)).start(stdout=DEVNULL)
    assert gate.reached.wait(DEADLINE)
    assert states(run) == ["running", "running"]
    gate.open()
    cancelled(run)


def test_a_stopped_command_is_stopped() -> None:
    """Until it is continued."""
    run = CAT.start(stdin=PIPE, stdout=DEVNULL)
    os.kill(run.pids[0], signal.SIGSTOP)
    until(lambda: states(run) == ["stopped"])
    os.kill(run.pids[0], signal.SIGCONT)
    until(lambda: states(run) == ["reading"])
    with run:
        pass


def test_a_command_that_waits_for_a_file_is_starting() -> None:
    """Its process is started when the file is complete."""
    gate = Gate(0)
    file = reading(source([b"x"]) | function(gate, name="gate"), via="file")
    run = command("wc", "-c", file).start(stdout=CAPTURE)
    assert gate.reached.wait(DEADLINE)
    stages = {stage.name: stage for stage in run.snapshot().stages}
    assert stages["wc"].state == "starting"
    assert stages["wc"].pid is None
    gate.open()
    assert run.wait().ok
    assert {stage.state for stage in run.snapshot().stages} == {"ended"}


def test_a_stage_that_has_ended_is_ended_while_others_go_on() -> None:
    """And is not the bottleneck any more."""
    gate = Gate(2)
    run = (command("echo", "a") | function(gate, name="gate")).start(stdout=DEVNULL)
    until(lambda: states(run)[0] == "ended")
    snapshot = run.snapshot()
    assert snapshot.bottleneck == "gate"
    assert snapshot.stages[0].cpu is None
    gate.open()
    assert run.wait().ok


def test_the_stages_of_one_thread_are_told_apart() -> None:
    """The one at work runs; those before it wait for room, those after it for bytes."""
    inside, leave = threading.Event(), threading.Event()

    def slow(chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            inside.set()
            assert leave.wait(DEADLINE)
            yield chunk

    line = map_lines(bytes.upper, name="upper") | transform(slow) | map_lines(bytes.lower, name="lower")
    run = line.start(input="a\nb\n", stdout=CAPTURE)
    assert inside.wait(DEADLINE)
    assert states(run) == ["writing", "running", "reading"]
    assert run.snapshot().bottleneck == "slow"
    leave.set()
    assert run.wait().stdout == b"a\nb\n"


def test_the_processor_time_of_a_whole_tree_counts() -> None:
    """Also of a process that the command has started."""
    run = sh(f"'{sys.executable}' -c 'while True: pass'; true").start(stdout=DEVNULL)

    def is_busy() -> bool:
        cpu = run.snapshot().stages[0].cpu
        return cpu is not None and cpu > 0.1

    until(is_busy)
    cancelled(run)


def test_the_memory_of_a_whole_tree_counts() -> None:
    """Also of a process that the command has started."""
    code = "held = bytearray(50_000_000); import sys; sys.stdin.read()"
    run = sh(f"'{sys.executable}' -c '{code}'; true").start(stdin=PIPE, stdout=DEVNULL)
    until(lambda: (run.snapshot().stages[0].rss or 0) > 50_000_000)
    with run:
        pass


def test_a_python_stage_has_no_figures_of_processes() -> None:
    """Its thread shares a process with others."""
    gate = Gate(0)
    run = function(gate).start(stdout=DEVNULL)
    stage = run.snapshot().stages[0]
    assert (stage.cpu, stage.rss, stage.pid, stage.kind) == (None, None, None, "function")
    gate.open()
    assert run.wait().ok


# Bytes.


def test_bytes_and_fill_are_told_for_python_stages() -> None:
    """What one has written and the other has not read waits between them."""
    gate = Gate(100)
    run = (source([b"x" * 1000] * 5) | function(gate)).start(stdout=CAPTURE)
    assert gate.reached.wait(DEADLINE)
    until(lambda: run.snapshot().stages[0].state == "ended")
    snapshot = run.snapshot()
    edge = snapshot.edges[1]
    assert edge.kind == "memory"
    assert edge.bytes == 5000
    assert edge.fill == 4900
    assert edge.capacity == 4 << 20
    assert snapshot.stages[0].bytes_out == 5000
    assert snapshot.stages[1].bytes_in == 100
    assert snapshot.stages[1].bytes_out == 100
    gate.open()
    assert run.wait().ok
    assert run.snapshot().stages[1].bytes_out == 5000


def test_bytes_that_a_command_has_not_read_are_not_counted_as_read() -> None:
    """They lie in its pipe."""
    run = command("sleep", "1000").start(input=b"x" * 1_000_000, stdout=DEVNULL)
    until(lambda: run.snapshot().edges[0].bytes)
    snapshot = run.snapshot()
    edge = snapshot.edges[0]
    assert edge.fill == edge.capacity == edge.bytes
    assert snapshot.stages[0].bytes_in == 0
    cancelled(run)


def test_a_chain_counts_the_bytes_of_each_of_its_stages() -> None:
    """Calls carry them, and each stage counts what it makes."""
    line = map_lines(lambda line: line * 2, name="twice") | map_lines(bytes.upper, name="upper")
    run = line.start(input="ab\n" * 10, stdout=CAPTURE)
    run.wait()
    edge = run.snapshot().edges[1]
    assert (edge.kind, edge.bytes) == ("fused", 50)


def test_bytes_that_the_kernel_carries_past_us_are_not_known() -> None:
    """Between two commands; but a reader that sleeps says that the pipe is empty."""
    with (CAT | CAT).start(stdin=PIPE, stdout=DEVNULL) as run:
        until(lambda: states(run) == ["reading", "reading"])
        edge = run.snapshot().edges[1]
        assert (edge.bytes, edge.rate, edge.fill, edge.capacity) == (None, None, 0, None)


def test_an_isolated_stage_reports_while_it_goes_on() -> None:
    """Its worker process tells what its streams do."""
    stage = function(stage_functions.copy, isolate="process")
    with (stage | CAT).start(stdin=PIPE, stdout=DEVNULL) as run:
        assert run.stdin is not None
        run.stdin.write(b"x" * 1000)

        def seen() -> bool:
            found = run.snapshot().stages[0]
            return (found.state, found.bytes_in, found.bytes_out) == ("reading", 1000, 1000)

        until(seen)
        assert run.snapshot().stages[0].pid is not None


def test_a_rate_is_told_while_bytes_move() -> None:
    """In bytes a second."""
    run = (source([b"x" * 1000] * 10_000_000) | CAT).start(stdout=DEVNULL)
    until(lambda: (run.snapshot().stages[0].rate_out or 0) > 1000)
    assert (run.snapshot().edges[1].rate or 0) > 1000
    cancelled(run)


def test_asking_does_not_change_how_small_writes_are_joined() -> None:
    """`run.stdin` and `run.stdout` notice who asks for their descriptors; a snapshot is not noticed."""
    with CAT.start(stdin=PIPE, stdout=PIPE) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        run.snapshot()
        for number in range(100):
            run.stdin.write(b"%d\n" % number)
            run.snapshot()
            assert run.stdout.readline() == b"%d\n" % number
        assert "readinto" not in vars(run.stdout.raw)


# Files.


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A file of 400,000 bytes."""
    path = tmp_path / "big"
    path.write_bytes(b"x" * 400_000)
    return path


def test_the_part_of_a_file_that_a_command_has_read_is_known(big: Path) -> None:
    """By its position, and at a standstill nothing is said about the time that is left."""
    reader = sh("dd bs=100000 count=1 status=none >/dev/null; exec sleep 1000")
    run = reader.start(stdin=big, stdout=DEVNULL)
    until(lambda: run.snapshot().fraction == 0.25)
    snapshot = run.snapshot()
    assert snapshot.edges[0].bytes == 100_000
    assert snapshot.stages[0].bytes_in == 100_000
    cancelled(run)
    assert run.snapshot().fraction == 0.25
    assert run.snapshot().eta is None


def test_the_part_of_a_file_that_a_function_has_read_is_known(big: Path) -> None:
    """By the position of our own descriptor."""
    gate = Gate(400_000)
    with big.open("rb") as file:
        run = function(gate).start(stdin=file, stdout=DEVNULL)
        assert gate.reached.wait(DEADLINE)
        assert run.snapshot().fraction == 1.0
        gate.open()
        assert run.wait().ok


def test_a_file_that_is_read_at_some_pace_has_a_time_left(big: Path) -> None:
    """From position, size and pace."""
    reader = sh("while dd bs=1000 count=1 status=none; do sleep 0.01; done")
    run = reader.start(stdin=big, stdout=DEVNULL)
    until(lambda: run.snapshot().eta)
    cancelled(run)


def test_the_bytes_written_to_a_file_are_known(tmp_path: Path) -> None:
    """By its position, unless it is appended to, where that says nothing."""
    target = tmp_path / "target"
    run = sh("printf 12345; exec sleep 1000").start(stdout=target)
    until(lambda: run.snapshot().stages[0].bytes_out == 5)
    cancelled(run)


def test_an_input_that_is_not_a_file_has_no_fraction() -> None:
    """Nobody knows how much is to come."""
    with CAT.start(stdin=PIPE, stdout=DEVNULL) as run:
        snapshot = run.snapshot()
    assert (snapshot.fraction, snapshot.eta) == (None, None)


# Graphs.


def test_a_graph_shows_all_its_stages_and_edges() -> None:
    """With the ids of the plan, and the names of the branches."""
    pipeline = (
        source([b"x\n"] * 3) | tee(command("cat", name="branch").to(DEVNULL)) | command("cat", name="main")
    )
    run = pipeline.start(stdout=CAPTURE)
    result = run.wait()
    snapshot = run.snapshot()
    assert [stage.name for stage in snapshot.stages] == [stage.name for stage in result.stages]
    assert [stage.branch for stage in snapshot.stages] == [stage.branch for stage in result.stages]
    assert [(edge.source_id, edge.target_id, edge.kind, edge.bytes) for edge in snapshot.edges] == [
        (edge.source_id, edge.target_id, edge.kind, edge.bytes) for edge in result.edges
    ]
    assert {edge.bytes for edge in snapshot.edges if edge.source_id == "1"} == {6}


def test_a_merge_and_nested_pipelines_are_seen_through() -> None:
    """Their stages are stages of the run."""
    inner = Pipeline(CAT, map_lines(bytes.upper, name="upper"), name="inner", timeout=60)
    run = (merge(echo("a"), echo("b")) | inner).start(stdout=PIPE)
    assert [stage.name for stage in run.snapshot().stages][-2:] == ["cat", "upper"]
    cancelled(run)


# Its ends.


def test_a_run_that_has_ended_shows_its_end() -> None:
    """For ever the same."""
    run = (echo("a") | CAT).start(stdout=CAPTURE)
    elapsed = run.wait().elapsed
    snapshot = run.snapshot()
    assert snapshot == run.snapshot()
    assert snapshot.done
    assert snapshot.elapsed == elapsed
    assert snapshot.bottleneck is None
    assert [stage.state for stage in snapshot.stages] == ["ended", "ended"]
    assert snapshot.stages[0].bytes_out == 2


def test_a_run_that_has_failed_or_was_cancelled_shows_its_end_too() -> None:
    """There is no error in asking."""
    failed = sh("exit 3").start()
    with pytest.raises(PipelineError):
        failed.wait()
    assert failed.snapshot().done
    stopped = CAT.start(stdin=PIPE, stdout=DEVNULL)
    stopped.snapshot()
    stopped.cancel()
    with pytest.raises(PipelineCancelled):
        stopped.wait()
    assert stopped.snapshot().stages[0].state == "ended"


def test_any_thread_may_ask_while_the_run_ends(threads: ThreadPoolExecutor) -> None:
    """All through the life of many short runs of every kind."""
    lines = [
        CAT | CAT,
        CAT | map_lines(bytes.upper),
        source([b"x\n"] * 100) | map_lines(bytes.upper) | map_lines(bytes.lower),
        source([b"x\n"] * 100) | tee(CAT.to(DEVNULL)) | CAT,
    ]
    for pipeline in lines * 5:
        run = pipeline.start(stdout=CAPTURE)
        ended = threading.Event()
        asking = [threads.submit(_ask_until, run, ended) for _ in range(3)]
        assert run.wait().ok
        ended.set()
        for each in asking:
            assert each.result(DEADLINE).done


def _ask_until(run: Run, ended: threading.Event) -> Snapshot:
    while not ended.is_set():
        run.snapshot()
    return run.snapshot()


def test_a_forked_copy_is_told_that_the_run_is_not_its_own() -> None:
    """As `wait()` does."""
    with CAT.start(stdin=PIPE, stdout=DEVNULL) as run:
        run.snapshot()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                run.snapshot()
            except RuntimeError as error:
                status = 0 if "parent process" in str(error) else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_signal_handler_may_ask_in_the_middle_of_a_look() -> None:
    """It neither waits for that, nor spoils it."""
    with (CAT | CAT).start(stdin=PIPE, stdout=DEVNULL) as run:
        seen: list[Snapshot] = []
        before = signal.signal(signal.SIGALRM, lambda *_: seen.append(run.snapshot()))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        try:
            until(lambda: bool(run.snapshot()) and len(seen) > 20)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def test_asking_keeps_no_run_alive() -> None:
    """A run that was asked is freed when it has ended and is dropped, and not by the garbage collector."""

    def same(line: bytes) -> bytes:
        return line

    freed = weakref.ref(same)
    gc.disable()
    try:
        run = (map_lines(same, name="same") | CAT).start(input="a\n", stdout=CAPTURE)
        run.snapshot()
        run.wait()
        run.snapshot()
        del run, same
        until(lambda: freed() is None)
    finally:
        gc.enable()


def test_looks_in_between_end_soon_after_the_last_question(
    monkeypatch: pytest.MonkeyPatch, set_timing: SetTiming
) -> None:
    """Nobody looks at a run that nobody asks about."""
    set_timing(look_span_s=0.5)
    looks: list[float] = []
    read = procfs.read
    with CAT.start(stdin=PIPE, stdout=DEVNULL) as run:

        def note(path: bytes) -> bytes:
            looks.append(time.monotonic())
            return read(path)

        monkeypatch.setattr(procfs, "read", note)
        asked = time.monotonic()
        run.snapshot()
        until(lambda: looks[-1] > asked + 0.2)  # somebody looks, and nobody has asked
        until(lambda: time.monotonic() > looks[-1] + 1)
        assert looks[-1] < asked + DEADLINE / 2


def test_a_run_that_is_not_asked_loads_nothing_for_it(host: Host) -> None:
    """Neither does the start of one."""
    code = """
import sys
from penstock import command
command("true").start().wait()
print(*[name for name in sys.modules if "snapshot" in name or "look" in name and "penstock" in name])
"""
    loaded = host.run(code, prelude="").out.split()
    assert set(loaded) <= {"penstock.system.process_look"}


# Less is known.


@pytest.fixture
def no_procfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide /proc."""
    for name in ("PROCFS", "CHILD_LISTS", "LAST_PID", "QUICK_READS"):
        monkeypatch.setattr(features, name, False)


@pytest.mark.usefixtures("no_procfs")
def test_without_procfs_there_is_less_and_no_error(big: Path) -> None:
    """Our own streams are known all the same."""
    run = (sh("cat; yes") | map_lines(bytes.upper) | CAT).start(stdin=big, stdout=PIPE)
    until(lambda: states(run)[1] == "writing")
    snapshot = run.snapshot()
    assert [stage.state for stage in snapshot.stages] == ["running", "writing", "running"]
    assert (snapshot.stages[2].cpu, snapshot.stages[2].rss, snapshot.fraction) == (None, None, None)
    assert snapshot.stages[2].pid == run.pids[1]
    cancelled(run)


def hide(monkeypatch: pytest.MonkeyPatch, *names: bytes) -> None:
    """Have the kernel show nothing in these files of /proc/PID."""
    read = procfs.read
    monkeypatch.setattr(procfs, "read", lambda path: b"" if path.endswith(names) else read(path))


@pytest.mark.parametrize("hidden", [b"/wchan", b"/syscall"])
def test_one_of_two_files_suffices_to_see_who_waits(hidden: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels may hide either."""
    hide(monkeypatch, hidden)
    run = (command("yes") | CAT).start(stdout=PIPE)
    until(lambda: states(run) == ["writing", "writing"])
    cancelled(run)
    with (CAT | CAT).start(stdin=PIPE, stdout=DEVNULL) as run:
        until(lambda: states(run) == ["reading", "reading"])


def test_a_kernel_that_hides_both_leaves_commands_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is guessed."""
    hide(monkeypatch, b"/wchan", b"/syscall")
    run = (command("yes") | CAT | CAT).start(stdout=DEVNULL)
    snapshot = run.snapshot()
    assert {stage.state for stage in snapshot.stages} == {"running"}
    assert [(edge.full, edge.empty) for edge in snapshot.edges[1:3]] == [(0.0, 0.0)] * 2
    cancelled(run)


# Nothing is disturbed.


@pytest.fixture
def asking() -> Iterator[Callable[[Run], None]]:
    """Ask a run for snapshots all the time, in another thread, until the next run is given."""
    current: list[Run | None] = [None]
    over = threading.Event()
    failed: list[BaseException] = []

    def ask() -> None:
        while not over.is_set():
            run = current[0]
            if run is None:
                time.sleep(0.0005)
            else:
                try:
                    run.snapshot()
                except BaseException as error:  # noqa: BLE001 - for the test
                    failed.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    yield lambda run: current.__setitem__(0, run)
    over.set()
    current[0] = None
    thread.join()
    assert not failed


def test_sigpipe_comes_as_without_snapshots(asking: Callable[[Run], None]) -> None:
    """A look never is a reader that keeps a writer from its signal."""
    for _ in range(200):
        run = (command("yes") | command("head", "-1")).start(stdout=CAPTURE)
        asking(run)
        result = run.wait(DEADLINE)
        assert result.stdout == b"y\n"
        assert result.returncodes == (-signal.SIGPIPE, 0)


def test_eof_comes_as_without_snapshots(asking: Callable[[Run], None]) -> None:
    """A look never is a writer that keeps a reader from the end."""
    for _ in range(100):
        run = (command("echo", "a") | CAT | CAT | map_lines(bytes.upper) | CAT).start(stdout=CAPTURE)
        asking(run)
        assert run.wait(DEADLINE).stdout == b"A\n"


def test_no_pipe_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even for an instant: /proc/PID/fd is looked at, and nothing in it is opened."""
    opened: list[str] = []
    open_path = system_calls.open_path

    def note(path: Any, *arguments: Any) -> int:
        opened.append(os.fsdecode(path))
        return open_path(path, *arguments)

    monkeypatch.setattr(features, "QUICK_READS", False)  # they make their calls themselves
    run = (command("yes") | CAT | CAT).start(stdout=PIPE)
    monkeypatch.setattr(system_calls, "open_path", note)
    until(lambda: states(run) == ["writing"] * 3)
    seen = list(opened)
    cancelled(run)
    assert any(path.endswith("/stat") for path in seen)
    assert not [path for path in seen if "/fd/" in path]


def test_the_kernel_sees_no_pipe_opened(tmp_path: Path) -> None:
    """Neither by the quick reads, as strace(1) shows."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    program = """
from penstock import PIPE, command
run = (command("yes") | command("cat")).start(stdout=PIPE)
while {stage.state for stage in run.snapshot().stages} != {"writing"}:
    pass
run.stdout.close()
run.wait(check=False)
"""
    calls = tmp_path / "calls"
    trace = ["strace", "-f", "-e", "trace=open,openat,statx", "-o", str(calls)]
    subprocess.run([*trace, sys.executable, "-c", program], check=True, timeout=4 * DEADLINE)
    seen = calls.read_text()
    assert "/syscall" in seen
    assert re.search(r'statx\([^)]*"/proc/\d+/fd/1"', seen)
    assert not re.search(r'open[a-z0-9]*\([^)]*"/proc/\d+/fd/', seen)
