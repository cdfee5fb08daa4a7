"""Whole trees: SIGKILL reaches what forks away, and what a command leaves behind is told of or ended."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import alive, gone, sh
from tests.support.waiting import DEADLINE

from penstock import CAPTURE, PIPE, Pipeline, PipelineCancelled, PipelineError, PipelineTimeout, command
from penstock.system import features

if TYPE_CHECKING:
    from tests.support.processes import Strays

    from penstock import Event

pytestmark = pytest.mark.slow


GRACE = 0.3


RUNAWAY = """
import os, signal, sys, time
if sys.argv[1] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"\\n")
for _ in range(300):
    if os.fork():
        time.sleep(60)
        break
    os.setsid()
    with open(os.environ["PIDS"], "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(0.002)
"""
"""A chain: each process forks the next, in a session of its own, and stays; it ends by itself some day."""


@pytest.mark.gotcha(5)
@pytest.mark.parametrize("pidfd", [True, False], ids=["pidfd", "no pidfd"])
@pytest.mark.parametrize("manners", ["deaf", "obedient"])
def test_a_chain_that_forks_away_all_the_time_is_ended_to_the_last(
    manners: str,
    pidfd: bool,  # noqa: FBT001
    strays: Strays,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All are stopped first, and one looks for more until none is found."""
    monkeypatch.setattr(features, "PIDFD", pidfd)
    chain = command(sys.executable, "-I", "-S", "-c", RUNAWAY, manners, env={"PIDS": str(strays.path)})
    run = chain.start(stdout=PIPE, grace=0.15)
    assert run.stdout is not None
    assert run.stdout.readline() == b"\n"
    strays.pids(3)
    run.cancel()
    with run.stdout, pytest.raises(PipelineCancelled):
        run.wait(DEADLINE)
    assert all(gone(pid) for pid in strays.pids(3))


def test_a_stopped_command_is_continued_to_handle_sigterm(strays: Strays) -> None:
    """It has its grace time to clear up, as any other, and does not wait for SIGKILL in its sleep."""
    script = "trap 'echo goodbye; exit 0' TERM; echo $$ >>$PIDS; echo; kill -STOP $$; sleep 1000 & wait"
    run = sh(script, strays).start(stdout=PIPE, grace=DEADLINE)
    assert run.stdout is not None
    assert run.stdout.readline() == b"\n"
    run.cancel()
    assert run.stdout.read() == b"goodbye\n"
    with run.stdout, pytest.raises(PipelineCancelled) as caught:
        run.wait(DEADLINE)
    assert caught.value.result is not None
    assert caught.value.result.returncodes == (0,)


JOB = """
import os, signal, sys
reader, writer = os.pipe()
if os.fork():
    os.write(1, os.read(reader, 1))
    signal.pause()
os.setpgid(0, 0)
def heard(signum, frame):
    os.write(1, signal.Signals(signum).name.encode() + b"\\n")
    if signum == signal.SIGTERM:
        os._exit(0)
signal.signal(signal.SIGTERM, heard)
signal.signal(signal.SIGHUP, heard)
os.write(writer, b"\\n")
while True:
    signal.pause()
"""
"""A parent that ends at once, and a child in a group of its own, which the parent's death cuts off."""


def test_a_job_in_a_group_of_its_own_gets_nothing_but_the_request(strays: Strays) -> None:
    """The kernel sends SIGHUP to a group that is stopped when it loses its tie to the session."""
    run = command(sys.executable, "-I", "-S", "-c", JOB, env={"PIDS": str(strays.path)}).start(
        stdout=PIPE, grace=DEADLINE
    )
    assert run.stdout is not None
    assert run.stdout.readline() == b"\n"
    run.cancel()
    assert run.stdout.read() == b"SIGTERM\n"
    with run.stdout, pytest.raises(PipelineCancelled):
        run.wait(DEADLINE)


@pytest.mark.gotcha(4)
def test_processes_forked_during_the_grace_time_are_found_too(strays: Strays) -> None:
    """The walk before the first signal could not know of it."""
    script = (
        "trap \"setsid sh -c 'trap : TERM; echo \\$\\$ >>$PIDS; while :; do sleep 1000; done' &\" TERM;"
        "echo; while :; do sleep 0.01; done"
    )
    run = sh(script, strays).start(stdout=PIPE, grace=GRACE)
    assert run.stdout is not None
    assert run.stdout.readline() == b"\n"
    run.cancel()
    with run.stdout, pytest.raises(PipelineCancelled):
        run.wait(DEADLINE)
    assert all(gone(pid) for pid in strays.pids(1))


LEAVER = 'sleep 1000 >/dev/null 2>&1 & echo $! >>"$PIDS"; echo done; exit {status}'


@pytest.mark.parametrize("status", [0, 3])
def test_by_default_what_is_left_behind_is_left_alone(status: int, strays: Strays) -> None:
    """A daemon may have been started on purpose; nothing is said."""
    events: list[Event] = []
    result = sh(LEAVER.format(status=status), strays).run(check=False, stdout=CAPTURE, on_event=events.append)
    assert result.returncodes == (status,)
    assert "leftover" not in [event.kind for event in events]
    assert alive(strays.pids()[0])


@pytest.mark.parametrize("where", ["command", "pipeline", "call"])
def test_it_is_reported_on_request(where: str, strays: Strays) -> None:
    """By an event with the pids, once; it goes on."""
    events: list[Event] = []
    script = LEAVER.format(status=0)
    if where == "command":
        result = sh(script, strays, on_leftover="report").run(stdout=CAPTURE, on_event=events.append)
    elif where == "pipeline":
        result = Pipeline(sh(script, strays), on_leftover="report").run(
            stdout=CAPTURE, on_event=events.append
        )
    else:
        result = sh(script, strays).run(stdout=CAPTURE, on_event=events.append, on_leftover="report")
    assert result.stdout == b"done\n"
    (pid,) = strays.pids()
    (event,) = [event for event in events if event.kind == "leftover"]
    assert event.context["pids"] == [pid]
    assert event.stage == "sh"
    assert str(pid) in event.message
    assert alive(pid)


@pytest.mark.parametrize("pidfd", [True, False], ids=["pidfd", "no pidfd"])
@pytest.mark.parametrize("status", [0, 3])
@pytest.mark.parametrize("how", ["run", "start"])
def test_it_is_ended_on_request(
    how: str,
    status: int,
    pidfd: bool,  # noqa: FBT001
    strays: Strays,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the stage counts as ended; the command's own end is what is reported."""
    monkeypatch.setattr(features, "PIDFD", pidfd)
    stage = sh(LEAVER.format(status=status), strays, on_leftover="kill")
    result = (
        stage.run(check=False, stdout=CAPTURE)
        if how == "run"
        else stage.start(stdout=CAPTURE).wait(check=False)
    )
    assert result.returncodes == (status,)
    assert result.ok is (status == 0)
    assert result.elapsed < DEADLINE
    assert gone(strays.pids()[0])


def test_a_leftover_that_ignores_sigterm_is_killed_after_the_grace_time(strays: Strays) -> None:
    """And the command is still a success."""
    script = "(trap '' TERM; echo >&3; exec sleep 1000) 3>&1 1>/dev/null 2>&1 & echo $! >>$PIDS"
    began = time.monotonic()
    assert sh(script, strays, on_leftover="kill").output(grace=GRACE) in (b"\n", b"")
    assert time.monotonic() - began < GRACE + DEADLINE
    assert gone(strays.pids()[0])


def test_a_deadline_during_the_clearing_up_ends_it_at_once(strays: Strays) -> None:
    """What is left gets SIGKILL; the command had ended by itself, and well."""
    script = "(trap '' TERM; exec sleep 1000) >/dev/null 2>&1 & echo $! >>$PIDS"
    result = sh(script, strays, on_leftover="kill").run(check=False, timeout=0.5, grace=1000)
    assert result.elapsed < DEADLINE
    assert result.returncodes == (0,)
    assert gone(strays.pids()[0])


def test_a_command_without_leftovers_is_neither_delayed_nor_reported(strays: Strays) -> None:
    """Neither is one that was cancelled."""
    events: list[Event] = []
    assert sh("sleep 0 & wait", strays, on_leftover="kill").run(on_event=events.append).ok
    with pytest.raises(PipelineTimeout):
        sh("sleep 1000 & wait", strays, on_leftover="kill").run(on_event=events.append, timeout=0.2)
    assert "leftover" not in [event.kind for event in events]


@pytest.mark.parametrize("value", [None, "Kill", True, 5])
def test_another_word_is_a_value_error(value: Any) -> None:
    """Before anything starts; None is for a command alone, and means as the pipeline says."""
    with pytest.raises(ValueError, match="on_leftover"):
        command("true").run(on_leftover=value)
    if value is not None:
        with pytest.raises(ValueError, match="on_leftover"):
            command("true", on_leftover=value)


def test_times_and_peak_are_the_kernels_own_figures() -> None:
    """Of the command and the children it waited for, in a success and in a failure alike."""
    busy = "import os, sys; d = b'x' * 300_000_000\nwhile os.times().user < 0.2: pass\n"
    busy += "sys.exit(int(sys.argv[1]))"
    for status in ("0", "3"):
        inner = [sys.executable, "-I", "-S", "-c", busy, status]
        outer = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
        result = command(sys.executable, "-I", "-S", "-c", outer, *inner).run(check=False)
        stage = result.stages[0]
        assert stage.returncode == int(status)
        assert stage.user_time is not None
        assert stage.system_time is not None
        assert stage.max_rss is not None
        assert stage.elapsed is not None
        assert 0.2 <= stage.user_time < 5
        assert stage.system_time >= 0
        assert stage.elapsed >= 0.2
        assert 300_000_000 < stage.max_rss < 900_000_000


def test_a_killed_command_has_figures_too() -> None:
    """Reaping gives them however it ended."""
    with pytest.raises(PipelineError) as caught:
        command("sleep", "1000").run(timeout=0.1)
    assert caught.value.result is not None
    stage = caught.value.result.stages[0]
    assert stage.returncode == -signal.SIGTERM
    assert stage.max_rss
    assert stage.user_time is not None
    assert stage.elapsed is not None
    assert stage.elapsed > 0.0  # less than the 0.1 s of the run, which began before it
    assert caught.value.result.elapsed >= 0.1
