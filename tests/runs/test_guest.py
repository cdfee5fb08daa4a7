"""Being a guest: the host program's children, signals, threads and forks are its own."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.processes import gone
from tests.support.waiting import DEADLINE

from penstock import DEVNULL, PIPE, PipelineCancelled, PipelineError, command, echo, function

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

    from tests.support.hosts import Host

SLEEP = command("sleep", "1000")
MIXED = echo("a") | command("cat") | function(lambda _c, i, o: o.write(i.read()), name="fn") | command("cat")


def _dispositions() -> dict[int, Any]:
    return {signum: signal.getsignal(signum) for signum in signal.valid_signals()}


# Signals.


def test_no_signal_dispositions_are_changed() -> None:
    before, wakeup = _dispositions(), signal.set_wakeup_fd(-1)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with MIXED.start(stdout=DEVNULL):
        assert _dispositions() == before
    _close(MIXED.start(stdout=PIPE))
    assert not SLEEP.run(timeout=0.02, check=False).ok
    assert _dispositions() == before
    assert signal.set_wakeup_fd(-1) == wakeup
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask


def _close(run: Any) -> None:
    with run:
        pass


def test_nothing_is_changed_in_a_fresh_interpreter_either(host: Host) -> None:
    started = host.start(
        """
        import signal
        def look():
            return {number: signal.getsignal(number) for number in signal.valid_signals()}
        before = look()
        import penstock
        assert look() == before
        (penstock.echo("a") | penstock.command("cat")).run(stdout=penstock.DEVNULL)
        penstock.command("sleep", "1000").run(timeout=0.02, check=False)
        assert look() == before
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
        print("unchanged")
        """
    )
    assert started.communicate(timeout=DEADLINE)[0] == "unchanged\n"


def test_the_hosts_own_sigchld_handler_stays_and_is_called() -> None:
    called: list[int] = []
    before = signal.signal(signal.SIGCHLD, lambda signum, _frame: called.append(signum))
    try:
        assert command("true").run().ok
        assert (command("true") | command("true")).start().wait().ok
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert called


def test_a_host_that_ignores_sigchld_is_told_what_is_lost(host: Host) -> None:
    started = host.start(
        """
        import signal
        import penstock
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        result = penstock.command("true").run(check=False)
        print(type(result.error.cause).__name__ if result.error else "ok")
        """
    )
    assert started.communicate(timeout=DEADLINE)[0] == "ChildProcessError\n"


# Children.


def test_the_hosts_children_are_left_to_the_host() -> None:
    own = os.posix_spawnp("sh", ["sh", "-c", "exit 5"], os.environ)
    os.waitid(os.P_PID, own, os.WEXITED | os.WNOWAIT)
    for _ in range(10):
        assert MIXED.output() == b"a\n"
        assert not SLEEP.run(timeout=0.01, check=False).ok
    pid, status = os.waitpid(own, 0)
    assert (pid, os.waitstatus_to_exitcode(status)) == (own, 5)


def test_popen_beside_runs_gets_its_own_statuses(threads: ThreadPoolExecutor) -> None:
    def host_side(number: int) -> int:
        return subprocess.run(["sh", "-c", f"exit {number}"], check=False).returncode

    def our_side(number: int) -> Any:
        return command("sh", "-c", f"exit {number}").run(check=False).returncodes[0]

    numbers = list(range(1, 41))
    theirs = threads.map(host_side, numbers)
    ours = threads.map(our_side, numbers)
    assert list(theirs) == numbers
    assert list(ours) == numbers


def test_a_child_of_the_hosts_in_our_pipeline_stays_the_hosts() -> None:
    with subprocess.Popen(["echo", "theirs"], stdout=subprocess.PIPE) as theirs:
        assert command("cat").output(stdin=theirs.stdout) == b"theirs\n"
        assert theirs.wait() == 0


def test_our_pipe_may_be_a_popens_stdin() -> None:
    with echo("ours").start(stdout=PIPE) as run:
        assert subprocess.run(["cat"], stdin=run.stdout, capture_output=True, check=True).stdout == b"ours\n"


def test_a_host_that_waits_for_any_child_does_not_hang_a_run() -> None:
    """Who reaps our children takes their statuses away; the run says so and ends."""
    run = command("sh", "-c", "read go").start(stdin=PIPE)
    assert run.stdin is not None
    stop = threading.Event()
    taken: list[int] = []

    def reap() -> None:
        while not stop.is_set() and not taken:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:  # the run was faster
                return
            if pid:
                taken.append(pid)

    reaper = threading.Thread(target=reap)
    reaper.start()
    run.stdin.close()
    error = run.wait(DEADLINE, check=False).error
    stop.set()
    reaper.join()
    if taken:
        assert error is not None
        assert isinstance(error.cause, ChildProcessError)
    else:
        assert error is not None  # `read` met the end of its input


# Threads.


def test_a_run_started_in_one_thread_can_be_waited_for_in_another(threads: ThreadPoolExecutor) -> None:
    for _ in range(20):
        run = threads.submit(MIXED.start, stdout=DEVNULL).result()
        results = [waiting.result(DEADLINE) for waiting in [threads.submit(run.wait) for _ in range(4)]]
        assert results[0].ok
        assert all(result is results[0] for result in results)


def test_a_run_goes_on_when_the_thread_that_started_it_has_ended() -> None:
    runs: list[Any] = []
    starter = threading.Thread(target=lambda: runs.append(SLEEP.start()))
    starter.start()
    starter.join()
    assert not runs[0].done()
    runs[0].cancel()
    with pytest.raises(PipelineCancelled):
        runs[0].wait(DEADLINE)


def test_every_waiting_thread_is_given_the_error(threads: ThreadPoolExecutor) -> None:
    run = command("sh", "-c", "read go; exit 3").start(stdin=PIPE)
    waiting = [threads.submit(run.wait) for _ in range(8)]
    assert run.stdin is not None
    run.stdin.write(b"go\n")
    errors = [one.exception(DEADLINE) for one in waiting]
    assert isinstance(errors[0], PipelineError)
    assert all(error is errors[0] for error in errors)
    run.wait(check=False)


def test_many_threads_may_run_the_same_pipeline(threads: ThreadPoolExecutor) -> None:
    outputs = [threads.submit(MIXED.output, env={"X": str(n)}) for n in range(100)]
    assert {one.result(DEADLINE) for one in outputs} == {b"a\n"}


def test_descriptors_of_one_thread_do_not_leak_into_children_of_another(threads: ThreadPoolExecutor) -> None:
    # A leaked write end would keep `cat` from its end of file until the other thread's sleeper has gone.
    sleepers = [threads.submit(SLEEP.start, stdin=PIPE) for _ in range(8)]
    outputs = [
        threads.submit((echo("a") | command("cat") | command("cat")).output, timeout=20) for _ in range(40)
    ]
    assert {one.result() for one in outputs} == {b"a\n"}
    for sleeper in sleepers:
        run = sleeper.result()
        run.cancel()
        run.wait(check=False)


def test_a_pipeline_may_be_run_within_a_function_of_another() -> None:
    def inner(_ctx: Any, stdin: Any, stdout: Any) -> None:
        stdout.write(command("tr", "a-z", "A-Z").output(stdin=stdin))

    assert (echo("a") | function(inner) | command("cat")).output() == b"A\n"


# Forks and the end of the interpreter.


@pytest.mark.slow
def test_forks_while_runs_come_and_go(host: Host) -> None:
    started = host.start(
        """
        import os, threading, warnings
        import penstock
        warnings.simplefilter("ignore", DeprecationWarning)
        stop = threading.Event()
        def work():
            while not stop.is_set():
                assert (penstock.echo("a") | penstock.command("cat")).output() == b"a\\n"
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        good = 0
        for _ in range(15):
            pid = os.fork()
            if pid == 0:
                ok = (penstock.echo("b") | penstock.command("cat")).output(timeout=10) == b"b\\n"
                os._exit(0 if ok else 1)
            good += os.waitpid(pid, 0)[1] == 0
        stop.set()
        for thread in threads:
            thread.join()
        print(good)
        """
    )
    assert started.communicate(timeout=DEADLINE)[0] == "15\n"


@pytest.mark.parametrize("trap", ["", "trap '' TERM; "], ids=["heeds", "ignores"])
def test_the_interpreter_ends_promptly_and_takes_its_children_with_it(
    trap: str, host: Host, within: Any
) -> None:
    started = host.start(
        f"""
        import penstock
        run = penstock.command("sh", "-c", {trap + "echo r; exec sleep 1000"!r}).start(stdout=penstock.PIPE)
        run.stdout.readline()
        other = (penstock.command("sleep", "1000") | penstock.function(lambda c, i, o: i.read())).start()
        print(*run.pids, *other.pids)
        """
    )
    with within(5):
        pids = [int(pid) for pid in started.communicate(timeout=DEADLINE)[0].split()]
    assert started.returncode == 0
    assert all(gone(pid) for pid in pids)


# What is left.


def _start_failure() -> None:
    assert (
        not (SLEEP | function(lambda _c, i, _o: i.read()) | command("/no/such/program")).run(check=False).ok
    )


def _cancel() -> None:
    run = (SLEEP | MIXED).start(stdin=PIPE, stdout=PIPE)
    run.cancel()
    with pytest.raises(PipelineCancelled), run:
        pass


def _leave_early() -> None:
    lines = (command("yes") | MIXED | command("yes")).iter_lines()
    assert next(lines) == b"y"
    lines.close()


KINDS: dict[str, Callable[[], object]] = {
    "success": MIXED.output,
    "failure": lambda: command("false").run(check=False),
    "start failure": _start_failure,
    "deadline": lambda: (SLEEP | MIXED).run(stdout=DEVNULL, timeout=0.01, check=False),
    "cancellation": _cancel,
    "iterator left early": _leave_early,
    "iterator never begun": MIXED.iter_bytes,
}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_of_a_run(kind: str, snapshot: Callable[[], Any]) -> None:
    before = snapshot()
    for _ in range(5):
        KINDS[kind]()
    assert before.leaks() == []
