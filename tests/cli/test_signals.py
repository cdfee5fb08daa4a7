"""Signals without a terminal: whatever ends the command line early leaves no child."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import alive
from tests.support.waiting import DEADLINE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("signum", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)],
)
def test_a_signal_ends_the_run(spawn: Any, herald: Any, signum: int, status: int) -> None:
    """The commands are ended and reaped, and nothing is said: whoever sent the signal knows."""
    line = f"{herald.cry('exec sleep 100')} | map:tools:upper | {herald.cry('exec cat')}"
    process = spawn("run", line, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    pids = herald.hear(2)
    process.send_signal(signum)
    assert process.wait(DEADLINE) == status
    assert process.stderr.read() == b""
    assert not any(alive(pid) for pid in pids)


def test_commands_that_ignore_the_signal(spawn: Any, herald: Any) -> None:
    """They are killed after the grace time."""
    process = spawn("run", herald.cry("trap '' TERM INT; while :; do sleep 0.1; done".replace("'", '"')))
    pids = herald.hear(1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE) == 143
    assert not any(alive(pid) for pid in pids)


def test_functions_that_ignore_the_signal(spawn: Any, herald: Any) -> None:
    """They are given up, and do not hold the process back at its exit."""
    process = spawn("run", f"{herald.cry('exec sleep 100')} | py:tools:deaf", stderr=subprocess.PIPE)
    pids = herald.hear(1)
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE) == 130
    assert process.stderr.read() == b""
    assert not any(alive(pid) for pid in pids)


def test_a_function_that_waits_for_our_stdin(spawn: Any, herald: Any) -> None:
    """A Python stage that reads a stdin where nothing comes is woken."""
    process = spawn("run", f"map:tools:upper | {herald.cry('exec cat')}", stdin=subprocess.PIPE)
    pids = herald.hear(1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE) == 143
    assert not any(alive(pid) for pid in pids)


def test_a_stdin_that_never_ends_keeps_nobody(spawn: Any) -> None:
    """The run is over when its stages are, whatever our stdin still may bring."""
    process = spawn("run", "cat | true", stdin=subprocess.PIPE)
    try:
        process.stdin.write(b"x\n")  # where `true` has gone already, cat dies of it; else it waits
        process.stdin.close()
    except BrokenPipeError:
        pass
    assert process.wait(DEADLINE) == 0
    process = spawn("run", "py:tools:two", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(b"1\n2\n")
    process.stdin.flush()
    assert process.wait(DEADLINE) == 0
    assert process.stdout.read() == b"1\n2\n"


def test_a_signal_while_a_file_is_opened(spawn: Any, folder: Path) -> None:
    """Opening a FIFO waits for its other end; a signal ends that too."""
    for name in ("first", "second"):
        os.mkfifo(folder / name)
    process = spawn("run", "cat 2> first < second", stderr=subprocess.PIPE)
    with (folder / "first").open():  # returns once it is opened there, and the second is next
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 143
    assert process.stderr.read() == b""


def test_ignored_signals_stay_ignored(spawn: Any, herald: Any) -> None:
    """Under nohup a hangup does not end the run."""
    process = spawn(
        "run",
        herald.cry("exec cat"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    pids = herald.hear(1)
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(b"still here\n", timeout=DEADLINE)
    assert (process.returncode, out) == (0, b"still here\n")
    assert not any(alive(pid) for pid in pids)


def test_json_after_a_signal(spawn: Any, herald: Any) -> None:
    """The result is told all the same."""
    process = spawn("run", "--json", "/dev/fd/1", herald.cry("exec sleep 100"), stdout=subprocess.PIPE)
    herald.hear(1)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 143
    assert b'"status": 143' in out


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_with_an_async_function(
    spawn: Any, herald: Any, tmp_path: Path, signum: int
) -> None:
    """It runs in another thread, so the one that serves signals is free."""
    (tmp_path / "anew.py").write_text("async def same(line):\n    return line\n")
    process = spawn("run", f"{herald.cry('exec sleep 100')} | map:anew:same", cwd=tmp_path)
    pids = herald.hear(1)
    process.send_signal(signum)
    assert process.wait(DEADLINE) == 128 + signum
    assert not any(alive(pid) for pid in pids)


@pytest.mark.parametrize(
    ("line", "status"), [("true", 0), ("sh -c 'exit 5'", 5), ("sh -c 'kill -9 $$'", 137)]
)
def test_a_caller_that_ignores_sigchld_gets_the_true_status(spawn: Any, line: str, status: int) -> None:
    """It is inherited, and then the kernel keeps no status for anybody."""
    process = spawn("run", line, preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert process.wait(DEADLINE) == status
