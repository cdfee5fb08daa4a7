"""Looks at process trees: processor time, memory, files, and the pipes that processes wait for."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.support.waiting import until

from penstock.system import features
from penstock.system.process_activity import ProcessTreeActivity, file_position, pipe_of
from penstock.system.process_look import ProcessLook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock.system.process_activity import Activity


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Children that are killed and reaped after the test."""
    made: list[subprocess.Popen[bytes]] = []
    yield made
    for process in made:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


Processes = list[subprocess.Popen[bytes]]


def start(processes: Processes, *argv: str) -> subprocess.Popen[bytes]:
    """Start a program between two pipes."""
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0, bufsize=0
    )
    processes.append(process)
    return process


def look(tree: ProcessTreeActivity) -> Activity:
    """Look once."""
    found = tree.look(ProcessLook())
    assert found is not None
    return found


def identity(file: object) -> tuple[int, int]:
    """Return which pipe this is an end of."""
    status = os.fstat(file.fileno())  # type: ignore[attr-defined]
    return status.st_dev, status.st_ino


@pytest.mark.parametrize("lists", [True, False])
def test_a_process_that_waits_names_its_pipe(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, *, lists: bool
) -> None:
    """Also one that a shell has started, with or without the kernel's lists of children."""
    monkeypatch.setattr(features, "CHILD_LISTS", lists and features.CHILD_LISTS)
    shell = start(processes, "sh", "-c", "cat; true")
    tree = ProcessTreeActivity(shell.pid)
    until(lambda: identity(shell.stdin) in look(tree).reading)
    assert not look(tree).writing
    assert pipe_of(shell.pid, 0) == identity(shell.stdin)


def test_a_process_that_waits_for_room_names_its_pipe(processes: Processes) -> None:
    """And no other one."""
    writer = start(processes, "yes")
    tree = ProcessTreeActivity(writer.pid)
    until(lambda: look(tree).writing == {identity(writer.stdout)})
    assert not look(tree).running
    assert not look(tree).waits_unknown


def test_a_pipe_within_a_command_is_told_apart(processes: Processes) -> None:
    """The one between `yes` and `sleep` is full, and belongs to nobody else."""
    shell = start(processes, "sh", "-c", "yes | sleep 1000")
    tree = ProcessTreeActivity(shell.pid)
    until(lambda: look(tree).writing)
    assert identity(shell.stdout) not in look(tree).writing


def test_a_thread_that_waits_is_found_among_others(processes: Processes) -> None:
    """The main thread waits for it, as in programs that compress by several threads."""
    code = "import os, threading; t = threading.Thread(target=os.read, args=(0, 1)); t.start(); t.join()"
    program = start(processes, sys.executable, "-c", code)
    tree = ProcessTreeActivity(program.pid)
    until(lambda: identity(program.stdin) in look(tree).reading)


def test_a_process_that_polls_says_so(processes: Processes) -> None:
    """It does not tell for what."""
    code = "import select; p = select.poll(); p.register(0, select.POLLIN); p.poll()"
    program = start(processes, sys.executable, "-c", code)
    tree = ProcessTreeActivity(program.pid)
    until(lambda: look(tree).polling)
    assert not look(tree).reading


def test_splice_is_seen_as_reads_and_writes_are(processes: Processes) -> None:
    """By its own arguments."""
    if not features.SPLICE:
        pytest.skip("needs splice")
    code = "import os\nwhile True: os.splice(0, 1, 65536)"
    program = start(processes, sys.executable, "-c", code)
    tree = ProcessTreeActivity(program.pid)
    until(lambda: look(tree).reading == {identity(program.stdin)})
    assert program.stdin is not None
    os.set_blocking(program.stdin.fileno(), False)

    def is_full() -> bool:
        with contextlib.suppress(BlockingIOError):
            os.write(program.stdin.fileno(), b"x" * 65536)  # type: ignore[union-attr]
        return look(tree).writing == {identity(program.stdout)}

    until(is_full)


def test_the_time_of_ended_children_counts(processes: Processes) -> None:
    """The kernel adds it to that of the process that has waited for them."""
    burn = "import time; end = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    shell = start(processes, "sh", "-c", f"'{sys.executable}' -c '{burn}'; cat")
    tree = ProcessTreeActivity(shell.pid)
    until(lambda: identity(shell.stdin) in look(tree).reading)
    assert look(tree).cpu >= 0.2
    assert look(tree).rss > 0


def test_a_process_that_is_gone_is_not_seen(processes: Processes) -> None:
    """Nor is another one that gets its pid."""
    program = start(processes, "true")
    tree = ProcessTreeActivity(program.pid)
    until(lambda: (found := tree.look(ProcessLook())) is not None and found.state == "Z")
    program.wait()
    assert tree.look(ProcessLook()) is None
    other = ProcessTreeActivity(os.getpid())
    other._started = b"1"
    assert other.look(ProcessLook()) is None


def test_the_position_in_a_file_is_known(processes: Processes, tmp_path: Path) -> None:
    """And that a file is appended to; of anything else there is none."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    with path.open("rb") as file, path.open("ab") as end:
        process = subprocess.Popen(["sleep", "1000"], stdin=file, stdout=end, process_group=0)
        processes.append(process)
        os.lseek(file.fileno(), 40, os.SEEK_SET)
        found = file_position(process.pid, 0)
        assert found is not None
        assert (found.position, found.size, found.appends) == (40, 100, False)
        assert found.file == (os.fstat(file.fileno()).st_dev, os.fstat(file.fileno()).st_ino)
        appended = file_position(process.pid, 1)
        assert appended is not None
        assert appended.appends
    assert pipe_of(process.pid, 0) is None
    pipes = start(processes, "cat")
    assert file_position(pipes.pid, 0) is None
    assert file_position(pipes.pid, 77) is None


def test_the_slow_way_to_look_at_files_sees_the_same(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some C libraries have no statx."""
    program = start(processes, "cat")
    quick = pipe_of(program.pid, 0)
    monkeypatch.setattr(features, "QUICK_READS", False)
    assert pipe_of(program.pid, 0) == quick == identity(program.stdin)
    with (tmp_path / "file").open("w+b") as file:
        process = subprocess.Popen(["sleep", "1000"], stdin=file, process_group=0)
        processes.append(process)
        slow = file_position(process.pid, 0)
        monkeypatch.undo()
        found = file_position(process.pid, 0)
        assert slow is not None
        assert found is not None
        assert slow.file == found.file
