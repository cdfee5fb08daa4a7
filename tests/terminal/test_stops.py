"""A command that something has stopped is reported: by an event, in the repr, in the message of a timeout."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.terminals import PROMPT, is_stopped, until_stopped
from tests.support.waiting import DEADLINE, until

from penstock import (
    PIPE,
    Event,
    Pipeline,
    PipelineTimeout,
    command,
    function,
    map_lines,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.hosts import Host
    from tests.support.terminals import Desk

    from penstock import Run

SIGNALS = [signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU]


class Log:
    """A handler, and the events that it got."""

    def __init__(self) -> None:
        self._events: SimpleQueue[Event] = SimpleQueue()
        self.kinds: list[str] = []

    def __call__(self, event: Event) -> None:
        self.kinds.append(event.kind)
        self._events.put(event)

    def next(self, kind: str) -> Event:
        """Wait for the next event of a kind."""
        while True:
            event = self._events.get(timeout=DEADLINE)
            if event.kind == kind:
                return event


@contextlib.contextmanager
def _going(pipeline: Pipeline, **options: Any) -> Iterator[Run]:
    """Start a pipeline, and wait for its first line; cancel it in the end."""
    run = pipeline.start(stdout=PIPE, **options)
    try:
        assert run.stdout is not None
        run.stdout.readline()
        yield run
    finally:
        run.cancel()
        run.wait(check=False)
        if run.stdout is not None:
            run.stdout.close()


def _sleeper(*, group: bool) -> Pipeline:
    script = "echo ready; exec sleep 1000"
    return command("sh", "-c", script, name="sleeper", process_group=group) | command("cat")


# In our own group, which may be orphaned, the kernel ignores all of these but SIGSTOP.
@pytest.mark.parametrize(
    ("signum", "group"), [*((signum, True) for signum in SIGNALS), (signal.SIGSTOP, False)]
)
def test_a_stop_is_an_event_and_so_is_its_end(signum: int, group: bool) -> None:  # noqa: FBT001
    log = Log()
    with _going(_sleeper(group=group), on_event=log) as run:
        os.kill(run.pids[0], signum)
        event = log.next("stopped")
        assert (event.stage, event.context) == ("sleeper", {"pid": run.pids[0], "signal": signum})
        assert signal.Signals(signum).name in event.message
        os.kill(run.pids[0], signal.SIGCONT)
        assert log.next("continued").context == {"pid": run.pids[0]}
        os.kill(run.pids[0], signum)
        assert log.next("stopped").context["signal"] == signum
    assert log.kinds.count("stopped") == 2


def test_a_cancellation_emits_no_stops() -> None:
    """All processes are stopped before they are ended."""
    log = Log()
    pipeline = command("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    with _going(pipeline, on_event=log, grace=0.5):
        pass
    assert "stopped" not in log.kinds


@pytest.mark.parametrize(
    ("signum", "group", "advice"),
    [
        (signal.SIGSTOP, True, "kill -CONT"),
        (signal.SIGSTOP, False, "kill -CONT"),
        (signal.SIGTSTP, True, "kill -CONT"),
        (signal.SIGTTIN, True, "process_group=None"),
        (signal.SIGTTOU, True, "process_group=None"),
    ],
)
def test_the_repr_says_what_is_stopped_and_what_to_do(
    signum: int,
    group: bool,  # noqa: FBT001
    advice: str,
) -> None:
    with _going(_sleeper(group=group)) as run:
        assert repr(run) == "<Run going: sleeper | cat>"
        os.kill(run.pids[0], signum)
        until(lambda: f'"sleeper" is stopped by {signal.Signals(signum).name} (' in repr(run))
        assert advice in repr(run)
        os.kill(run.pids[0], signal.SIGCONT)
        until(lambda: repr(run) == "<Run going: sleeper | cat>")
    assert repr(run) == "<Run ended: sleeper | cat>"


STOPS_ITSELF = command("sh", "-c", "kill -STOP $$", name="stopper")


@pytest.mark.parametrize("method", ["run", "output", "iter_lines", "start"])
@pytest.mark.parametrize(
    "pipeline",
    [
        STOPS_ITSELF,
        command("true") | STOPS_ITSELF | map_lines(bytes.upper),
        Pipeline(STOPS_ITSELF | command("cat"), fail_fast=True) | command("cat"),
    ],
)
def test_the_message_of_a_timeout_names_the_stopped_command(method: str, pipeline: Pipeline) -> None:
    calls: dict[str, Any] = {
        "run": pipeline.run,
        "output": pipeline.output,
        "iter_lines": lambda **given: list(pipeline.iter_lines(**given)),
        "start": lambda **given: pipeline.start(**given).wait(),
    }
    with pytest.raises(PipelineTimeout) as caught:
        calls[method](timeout=0.3)
    assert 'timed out after 0.3 s; "stopper" is stopped by SIGSTOP (`kill -CONT' in str(caught.value)


def test_the_timeout_of_an_inner_pipeline_names_its_own_stages() -> None:
    inner = Pipeline(STOPS_ITSELF | command("cat"), timeout=0.3)
    other = command("sh", "-c", "kill -STOP $$", name="other")
    with pytest.raises(PipelineTimeout) as caught:
        (other | inner).run(fail_fast=True)
    assert '"stopper" is stopped' in str(caught.value)
    assert '"other"' not in str(caught.value)


def test_a_name_is_shown_escaped() -> None:
    """It goes to a terminal."""
    with _going(command("sh", "-c", "echo; kill -STOP $$", name="x\x1b[31m")) as run:
        until(lambda: "stopped" in repr(run))
        with pytest.raises(TimeoutError) as caught:
            run.wait(0.01)
        assert "\x1b" not in repr(run) + str(caught.value)


def test_a_timeout_of_the_wait_says_so_too() -> None:
    with _going(command("sh", "-c", "echo; kill -STOP $$", name="stopper")) as run:
        until(lambda: "stopped" in repr(run))
        with pytest.raises(TimeoutError, match=r'within 0.01 s; "stopper" is stopped by SIGSTOP'):
            run.wait(0.01)


def _stop_this_process(_ctx: Any, _stdin: Any, _stdout: Any) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def test_a_worker_process_that_is_stopped_is_named_too() -> None:
    """Of a stage with `isolate="process"`."""
    log = Log()
    run = function(_stop_this_process, isolate="process").start(on_event=log)
    event = log.next("stopped")
    assert '"_stop_this_process" is stopped by SIGSTOP' in repr(run)
    os.kill(event.context["pid"], signal.SIGCONT)
    assert run.wait().ok


def test_runs_of_event_loops_report_it_too(host: Host) -> None:
    said = host.output(
        """
        import asyncio

        async def main():
            kinds = []
            stopper = command("sh", "-c", "kill -STOP $$", name="stopper")
            try:
                await stopper.arun(timeout=0.5, on_event=lambda event: kinds.append(event.kind))
            except PipelineTimeout as error:
                say('"stopper" is stopped by SIGSTOP' in str(error), kinds)
            async with stopper.astart() as run:
                while "stopped by SIGSTOP" not in repr(run):
                    await asyncio.sleep(0.01)
                say("seen")
                os.kill(run.pids[0], signal.SIGKILL)
                await run.wait(check=False)

        try:
            asyncio.run(main())
        except PipelineError as error:
            say(error)
        """
    )
    assert said.startswith("True ['run-start', 'start', 'stopped', ")
    assert "seen" in said


def test_ctrl_z_and_fg_emit_nothing(desk: Desk) -> None:
    """Python is stopped with its commands, and goes on with them."""
    script = desk.script(
        """
        kinds = []
        say("pids", os.getpid())
        ready = command("sh", "-c", "echo pids $$; read x </dev/tty; echo got=$x")
        ready.run(on_event=lambda event: kinds.append(event.kind))
        say("events", *kinds)
        """
    )
    shell = desk.shell()
    shell.type(f"$PYTHON {script}\n")
    pids = [*shell.pids(), *shell.pids()]
    for _ in range(3):
        shell.type(b"\x1a")
        shell.wait_for(PROMPT)
        until_stopped(pids)
        shell.type("fg\n")
        shell.wait_for(rb"PYTHON.*\r\n")
        # The shell says so before it gives the terminal away; a key that comes before that is the shell's.
        until(lambda: shell.foreground() == os.getpgid(pids[0]) and not any(map(is_stopped, pids)))
    shell.type("me\n")
    shell.wait_for(rb"got=me\r\nevents run-start start exit run-end\r\n")


def test_the_command_line_says_that_a_command_is_stopped(desk: Desk) -> None:
    """It waits for the command, and the user would not know why."""
    terminal = desk.start(
        sys.executable, "-m", "penstock", "run", "sh -c 'echo pids $$; kill -STOP $$; echo on' | cat"
    )
    (pid,) = terminal.pids()
    terminal.wait_for(rb"penstock: sh: stopped by SIGSTOP \(`kill -CONT \d+` continues it\)")
    os.kill(pid, signal.SIGCONT)
    terminal.wait_for(rb"on\r\n")
    assert terminal.status() == 0


def test_a_command_in_our_group_is_explained_too(desk: Desk) -> None:
    """Only a signal that somebody sends to it alone can do that, since the terminal stops the whole group."""
    shell = desk.shell()
    script = desk.script(
        """
        with command("sleep", "1000").start() as run:
            os.kill(run.pids[0], signal.SIGTTOU)
            while "stopped" not in repr(run):
                time.sleep(0.01)
            say(repr(run))
            os.kill(run.pids[0], signal.SIGKILL)
        """
    )
    shell.type(f"$PYTHON {script}\n")
    shell.wait_for(rb"stopped by SIGTTOU \(.*`fg` continues it\)")


def test_a_forced_group_that_reads_the_terminal_is_explained(desk: Desk) -> None:
    """Who forces a group of its own upon a prompt learns what is wrong."""
    terminal = desk.python(
        """
        ask = command("sh", "-c", "read x </dev/tty; echo got=$x", process_group=True)
        try:
            ask.run(timeout=1, on_event=lambda event: say(event.kind, event.message))
        except PipelineTimeout as error:
            say("error", error)
        """
    )
    terminal.wait_for(rb"stopped stopped by SIGTTIN \(it uses the terminal from the background")
    terminal.wait_for(rb"error .* is stopped by SIGTTIN \(.*process_group=None")
    assert terminal.status() == 0
