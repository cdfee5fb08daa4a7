"""Traps of processes: grandchildren, signals, pids, paths and inherited descriptors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import alive, gone, sh
from tests.support.waiting import DEADLINE, until

from penstock import (
    CAPTURE,
    DEVNULL,
    PIPE,
    STDOUT,
    ExitError,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    StartError,
    command,
    function,
)
from penstock.system import features

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.processes import Strays

    from penstock import Event

GRACE = 0.3
"""Far less than the time that a forgotten grandchild sleeps, far more than a loaded machine needs."""


HOLDER = 'sleep 1000 & echo $! >>"$PIDS"; echo done; echo noise >&2'
"""The grandchild has the stdout and the stderr of its parent, which is gone at once."""


@pytest.mark.gotcha(1)
@pytest.mark.parametrize("stderr", ["capture", "callable"])
def test_a_grandchild_that_keeps_stderr_open_delays_nobody(stderr: str, strays: Strays, within: Any) -> None:
    """The command is done at its exit, with what it had written to stderr, and nobody is killed."""
    lines: list[bytes] = []
    with within(1.5):
        result = sh(f"{HOLDER}; exit 3", strays).run(
            stdout=DEVNULL, stderr=CAPTURE if stderr == "capture" else lines.append, check=False
        )
    assert result.returncodes == (3,)
    assert (result.stages[0].stderr, lines) == (
        (b"noise\n", []) if stderr == "capture" else (b"", [b"noise"])
    )
    os.kill(strays.pids()[0], 0)


@pytest.mark.gotcha(1)
@pytest.mark.parametrize("shape", ["alone", "before cat", "before a function", "stderr to stdout"])
def test_a_grandchild_that_keeps_stdout_open_is_killed_at_the_deadline(shape: str, strays: Strays) -> None:
    """What was written is in the result, and the deadline is the reason."""
    pipeline = sh(HOLDER, strays)
    if shape == "before cat":
        pipeline |= command("cat")
    elif shape == "before a function":
        pipeline |= function(lambda _ctx, stdin, stdout: [stdout.write(chunk) for chunk in stdin.chunks()])
    with pytest.raises(PipelineTimeout) as caught:
        pipeline.output(timeout=0.4, grace=GRACE, stderr=STDOUT if shape == "stderr to stdout" else CAPTURE)
    result = caught.value.result
    assert result is not None
    assert result.stdout == (b"done\nnoise\n" if shape == "stderr to stdout" else b"done\n")
    assert 0.4 <= result.elapsed < 0.4 + GRACE + 1


@pytest.mark.gotcha(1)
def test_output_ends_at_eof_also_of_a_grandchild(tmp_path: Path, strays: Strays) -> None:
    """As `$(...)` in a shell does, it waits for who writes after the child's exit."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    exited = threading.Event()

    def on_event(event: Event) -> None:
        if event.kind == "exit":
            exited.set()

    run = sh(f'(read line <"{gate}"; echo late) & echo $! >>"$PIDS"; echo now', strays).start(
        stdout=CAPTURE, on_event=on_event
    )
    assert exited.wait(DEADLINE)
    assert not run.done()
    gate.write_bytes(b"go\n")
    assert run.wait().stdout == b"now\nlate\n"


@pytest.mark.gotcha(3)
@pytest.mark.parametrize("status", [0, 3])
@pytest.mark.parametrize("by", ["deadline", "cancel"])
def test_a_trapped_sigterm_does_not_hide_the_reason(by: str, status: int) -> None:
    """The child exits as it likes; the run says why it was ended."""
    trapper = sh(f"trap 'exit {status}' TERM; echo ready; sleep 1000 & wait")
    timed: Any = {"timeout": 0.5} if by == "deadline" else {}
    run = trapper.start(stdout=PIPE, **timed)
    assert run.stdout is not None
    assert run.stdout.readline() == b"ready\n"
    if by == "cancel":
        run.cancel("enough")
    with run.stdout, pytest.raises(PipelineTimeout if by == "deadline" else PipelineCancelled) as caught:
        run.wait()
    if by == "cancel":
        assert str(caught.value.cause) == "enough"
    result = caught.value.result
    assert result is not None
    assert result.returncodes == (status,)
    assert result.stages[0].error is caught.value.cause
    assert result.elapsed < DEADLINE


@pytest.mark.gotcha(4)
@pytest.mark.parametrize("who", ["leader", "grandchild", "both"])
def test_sigkill_ends_the_whole_group_when_sigterm_is_ignored(who: str, strays: Strays) -> None:
    """After the grace time, and not before, nobody of the group is left."""
    ignore = "trap '' TERM;"
    script = {
        "leader": f"sleep 1000 & echo $! >>$PIDS; {ignore} echo; while :; do sleep 0.05; done",
        "grandchild": f"({ignore} echo; exec sleep 1000) & echo $! >>$PIDS; wait",
        "both": f"{ignore} sleep 1000 & echo $! >>$PIDS; echo; while :; do wait; done",
    }[who]
    run = sh(script, strays).start(stdout=PIPE, grace=GRACE)
    assert run.stdout is not None
    assert run.stdout.readline() == b"\n"
    (grandchild,) = strays.pids()
    began = time.monotonic()
    run.cancel()
    with run.stdout, pytest.raises(PipelineCancelled) as caught:
        run.wait(DEADLINE)
    assert GRACE <= time.monotonic() - began < GRACE + 1
    assert caught.value.result is not None
    assert caught.value.result.returncodes == (-signal.SIGTERM if who == "grandchild" else -signal.SIGKILL,)
    assert gone(grandchild)


@pytest.mark.gotcha(5)
@pytest.mark.parametrize("deaf", [False, True], ids=["", "that ignores SIGTERM"])
def test_a_grandchild_that_left_the_group_is_ended_too(
    deaf: bool,  # noqa: FBT001
    strays: Strays,
) -> None:
    """`setsid` saves nobody from a cancellation while it has its parent."""
    trap = "trap '' TERM;" if deaf else ""
    run = sh(f"{trap} setsid sh -c 'echo $$ >>$PIDS; echo; exec sleep 1000' & wait", strays).start(
        stdout=PIPE, grace=GRACE
    )
    assert run.stdout is not None
    assert run.stdout.readline() == b"\n"
    run.cancel()
    with run.stdout, pytest.raises(PipelineCancelled):
        run.wait(DEADLINE)
    assert gone(strays.pids()[0])


@pytest.mark.gotcha(5)
def test_an_orphan_that_left_the_group_keeps_no_run_from_its_end(strays: Strays, within: Any) -> None:
    """Nobody can tell any more whose it was, though it holds stdout and stderr."""
    script = "(setsid sh -c 'echo $$ >>$PIDS; echo ready; exec sleep 1000' &); sleep 1000"
    run = sh(script, strays).start(stdout=CAPTURE, grace=GRACE)
    strays.pids()
    with within(GRACE + 1):
        run.cancel()
        with pytest.raises(PipelineCancelled):
            run.wait(DEADLINE)


@pytest.mark.parametrize("deaf", [False, True], ids=["", "that ignores SIGTERM"])
@pytest.mark.parametrize("inner", [False, True], ids=["", "of a run inside"])
def test_an_orphan_in_the_hosts_group_is_ended_too(
    deaf: bool,  # noqa: FBT001
    inner: bool,  # noqa: FBT001
    strays: Strays,
) -> None:
    """It is found by its mark. A stranger in that group is left alone."""
    trap = "trap '' TERM;" if deaf else ""
    script = f"({trap} sh -c 'echo $$ >>$PIDS; echo; exec sleep 1000' &); sleep 1000"
    if inner:
        program = "import penstock, sys; penstock.command('sh', '-c', sys.argv[1], process_group=False).run()"
        stage = command(sys.executable, "-c", program, script, env=strays.env, process_group=False)
    else:
        stage = sh(script, strays, process_group=False)
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        run = stage.start(stdout=PIPE, stderr=DEVNULL, grace=GRACE)
        assert run.stdout is not None
        assert run.stdout.readline() == b"\n"
        run.cancel()
        with run.stdout, pytest.raises(PipelineCancelled):
            run.wait(DEADLINE)
        assert gone(strays.pids()[0])
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("on_leftover", ["report", "kill"])
def test_a_leftover_in_the_hosts_group_is_found_by_its_mark(on_leftover: Any, strays: Strays) -> None:
    """The host and its other children are in that group as well."""
    events: list[Event] = []
    stage = sh("sleep 1000 >/dev/null 2>&1 & echo $! >>$PIDS", strays, process_group=False)
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        for turn in range(1, 31):  # the child may be in the middle of its exec, when it shows no mark
            assert stage.run(on_event=events.append, on_leftover=on_leftover).ok
            pid = strays.pids(turn)[-1]
            assert [event.context["pids"] for event in events if event.kind == "leftover"][-1:] == [[pid]]
            assert gone(pid) if on_leftover == "kill" else alive(pid)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.gotcha(22)
def test_descendants_are_found_by_their_parents_pid(strays: Strays) -> None:
    """Three generations down, each in a session of its own; /proc/PID/task/*/children is not needed."""
    inner = "echo $$ >>$PIDS; echo; exec sleep 1000"
    middle = f'echo $$ >>$PIDS; setsid sh -c "{inner}" & wait'
    run = sh(f"setsid sh -c '{middle}' & wait", strays).start(stdout=PIPE, grace=GRACE)
    assert run.stdout is not None
    assert run.stdout.readline() == b"\n"
    run.cancel()
    with run.stdout, pytest.raises(PipelineCancelled):
        run.wait(DEADLINE)
    assert all(gone(pid) for pid in strays.pids(2))


@pytest.mark.gotcha(10)
@pytest.mark.gotcha(29)
@pytest.mark.parametrize("pidfd", [True, False], ids=["pidfd", "no pidfd"])
def test_no_signal_is_sent_to_a_pid_that_was_reaped(
    pidfd: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cancellations that race with the child's own end, from two threads, and more of them after it."""
    if not pidfd:
        monkeypatch.setattr(features, "PIDFD", False)
    log: list[tuple[str, int]] = []
    real_wait, real_kill = os.wait4, os.killpg

    def wait4(pid: int, options: int) -> Any:
        answer = real_wait(pid, options)
        if answer[0]:
            log.append(("reaped", pid))
        return answer

    def killpg(pid: int, signum: int) -> None:
        log.append(("signalled", pid))
        real_kill(pid, signum)

    monkeypatch.setattr(os, "wait4", wait4)
    monkeypatch.setattr(os, "killpg", killpg)
    pids = []
    for _ in range(30):
        run = command("true").start(stdin=PIPE, stdout=DEVNULL)
        pids.append(run.pids[0])
        canceller = threading.Thread(target=run.cancel)
        canceller.start()
        run.cancel()
        canceller.join()
        run.wait(DEADLINE, check=False)
        run.cancel()
    assert command("true").run().ok  # what was posted before is done
    for pid in pids:
        story = [what for what, whose in log if whose == pid]
        assert story.count("reaped") == 1
        assert story[-1] == "reaped", story


@pytest.mark.gotcha(20)
def test_a_relative_program_belongs_to_the_callers_cwd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tool of the caller's folder runs, in the stage's folder, and not the stage folder's own."""
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        tool = tmp_path / folder / "tool"
        tool.write_text(f"#!/bin/sh\necho tool of {folder} in $(pwd -P)\n", encoding="utf-8")
        tool.chmod(0o755)
    monkeypatch.chdir(tmp_path / "here")
    there = tmp_path / "there"
    expected = f"tool of here in {there.resolve()}\n"
    assert command("./tool", cwd=there).text() == expected
    assert command("./tool").text(cwd="../there") == expected
    (tmp_path / "here" / "tool").unlink()
    with pytest.raises(StartError):
        command("./tool", cwd=there).run()


@pytest.mark.gotcha(21)
def test_a_missing_cwd_is_not_reported_as_a_missing_program(tmp_path: Path) -> None:
    """Each of the two says which it is."""
    missing = tmp_path / "no-such-folder"
    with pytest.raises(StartError, match=r'stage "true": .*working directory.*no-such-folder') as caught:
        command("true", cwd=missing).run()
    assert isinstance(caught.value.cause, FileNotFoundError)
    with pytest.raises(StartError, match=r"no such program.*'no-such-program'") as caught:
        command("no-such-program", cwd=tmp_path).run()
    assert "directory" not in str(caught.value).replace("No such file or directory", "")
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="file") as caught:
        command("true", cwd=tmp_path / "file").run()
    assert isinstance(caught.value.cause, NotADirectoryError)


@pytest.mark.gotcha(23)
def test_pipes_close_although_many_threads_start_children(
    together: Callable[[list[Callable[[], None]]], None],
) -> None:
    """A `cat` ends when its own writer closes, whatever else was started in between."""

    def work() -> None:
        for _ in range(5):
            with (command("cat") | command("cat")).start(stdin=PIPE, stdout=PIPE) as run:
                assert run.stdin is not None
                assert run.stdout is not None
                run.stdin.write(b"x")
                run.stdin.close()
                assert run.stdout.read() == b"x"

    together([work] * 12)


@pytest.mark.gotcha(23)
def test_a_child_inherits_three_descriptors_only(
    together: Callable[[list[Callable[[], None]]], None],
) -> None:
    """Not even those that the host has made inheritable."""
    read, write = os.pipe()
    os.set_inheritable(read, True)  # noqa: FBT003
    os.set_inheritable(write, True)  # noqa: FBT003

    def work() -> None:
        for _ in range(3):
            listing = command("sh", "-c", "ls /proc/$$/fd").text(stdin=DEVNULL)
            # dash and others move a script's descriptor up; `sh -c` has none.
            assert listing.split() == ["0", "1", "2"]

    try:
        together([work] * 8)
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.gotcha(7)
def test_only_what_is_above_an_early_end_is_forgiven() -> None:
    """A producer is not blamed for its consumer's end; who died of a pipe by itself is."""
    early = (command("yes") | command("head", "-n", "1")).run(stdout=CAPTURE)
    assert early.ok
    assert early.stdout == b"y\n"
    assert early.returncodes == (-signal.SIGPIPE, 0)
    with pytest.raises(PipelineError) as caught:
        (command("yes") | sh("head -n 1; exit 3", name="taker")).run(stdout=DEVNULL)
    assert (caught.value.stage, caught.value.index) == ("taker", 1)
    with pytest.raises(PipelineError) as caught:
        (command("true") | sh("kill -PIPE $$", name="last")).run()
    assert (caught.value.stage, caught.value.index) == ("last", 1)
    with pytest.raises(PipelineError) as caught:
        (command("yes") | command("head", "-n", "1")).run(stdout=DEVNULL, pipe_errors="report")
    assert caught.value.stage == "yes"


@pytest.mark.gotcha(7)
def test_a_python_producer_is_forgiven_as_a_command_is() -> None:
    """What it meets is a broken pipe in either case; any other error of it still counts."""

    def endless(_ctx: object, _stdin: object, stdout: Any) -> None:
        while True:
            stdout.write(b"y\n")

    def failing(_ctx: object, _stdin: object, stdout: Any) -> None:
        try:
            endless(_ctx, _stdin, stdout)
        except BrokenPipeError:
            raise ValueError("something else") from None

    assert (function(endless) | command("head", "-n", "1")).output() == b"y\n"
    first = function(lambda _ctx, stdin, stdout: stdout.write(stdin.readline()))
    assert (function(endless) | first).output() == b"y\n"
    assert (command("yes") | first).output() == b"y\n"
    with pytest.raises(PipelineError, match="failing: ValueError: something else"):
        (function(failing) | first).output()


@pytest.mark.gotcha(8)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_failure_surfaces_wherever_it_is(place: int) -> None:
    """A last stage that succeeds hides nothing, whether the failed one is a command or a function."""

    def broken(_ctx: object, _stdin: object, _stdout: object) -> None:
        raise ValueError("broken")

    for bad, kind in ((command("false"), ExitError), (function(broken, name="false"), ValueError)):
        stages = [command("cat"), command("cat"), command("cat")]
        stages[place] = bad
        with pytest.raises(PipelineError) as caught:
            (stages[0] | stages[1] | stages[2]).run(stdout=DEVNULL)
        assert (caught.value.stage, caught.value.index) == ("false", place)
        assert isinstance(caught.value.cause, kind)
        result = (stages[0] | stages[1] | stages[2]).run(check=False, stdout=DEVNULL)
        assert not result.ok


SERVER = """
(
    i=0
    read go <$GO
    while [ $i -lt 3000 ]; do echo "a message that nobody reads" >&2 || exit 9; i=$((i + 1)); done
    echo $i >$DONE
) >/dev/null &
echo $! >>$PIDS
"""
"""It writes more than a pipe holds, once it is told to."""
FDS = Path("/proc/self/fd")


@pytest.mark.parametrize(
    "stderr", [CAPTURE, lambda _line: None, STDOUT], ids=["captured", "called", "stdout"]
)
@pytest.mark.parametrize("on_leftover", ["ignore", "report"])
def test_a_server_left_behind_may_go_on_to_write_to_its_stderr(
    stderr: Any, on_leftover: Any, strays: Strays, tmp_path: Path
) -> None:
    """It neither dies of SIGPIPE nor waits for room, and its descriptor goes with it."""
    go, done = tmp_path / "go", tmp_path / "done"
    os.mkfifo(go)
    before = len(list(FDS.iterdir()))
    script = SERVER.replace("$GO", str(go)).replace("$DONE", str(done))
    result = sh(script, strays, stderr=stderr).run(stdout=DEVNULL, on_leftover=on_leftover)
    assert result.ok
    go.write_bytes(b"go\n")
    assert gone(strays.pids()[0])
    assert done.read_text() == "3000\n"
    until(lambda: len(list(FDS.iterdir())) <= before + 2)  # those of the supervisor
