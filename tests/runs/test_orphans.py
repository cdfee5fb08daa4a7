"""`orphans="kill"`: the commands of a host that dies by a signal die with it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from tests.support.hosts import others_may_read
from tests.support.processes import Strays, alive, gone, kill_survivors, sh
from tests.support.waiting import DEADLINE, until

import penstock
from penstock import StartError, command, function
from penstock.system import features, guard_table, guardian, guardian_main
from penstock.system.process_mark import VARIABLE

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.support.hosts import Host

pytestmark = pytest.mark.skipif(not features.PROCFS, reason="the tests read /proc")

# Six processes: a child, one in a session of its own, an orphan, one without an environment, the same as an
# orphan, and the shell.
TREE = """
note='echo $$ >>$PIDS; exec sleep 1000'
sh -c "$note" &
setsid sh -c "$note" &
(setsid sh -c "$note" &)
env -i PATH="$PATH" PIDS="$PIDS" sh -c "$note" &
(env -i PATH="$PATH" PIDS="$PIDS" sh -c "$note" &)
echo $$ >>$PIDS
wait
"""
SIZE = 6
# The same for a tree in a group that is not its own: there, nothing shows the orphan without an environment.
MARKED = TREE.replace("env -i", "env")

GUARDIAN = """
from penstock.system import guardian

def guardian_pid():
    return guardian._current.pid
"""


def program(text: str, strays: Strays, **values: object) -> str:
    """Return a host program that knows the script of a tree and some values."""
    known = {"TREE": TREE, "MARKED": MARKED, "PIDS": str(strays.path), **values}
    lines = [f"{name} = {value!r}" for name, value in known.items()]
    head = "import os, signal, sys, threading, time\nfrom penstock import *\n"
    return "\n".join(
        [head, *lines, 'tree = command("sh", "-c", TREE, env={"PIDS": PIDS})', GUARDIAN, dedent(text)]
    )


def line(started: subprocess.Popen[str]) -> str:
    assert started.stdout is not None
    return started.stdout.readline()


def end(started: subprocess.Popen[str], signum: int = signal.SIGKILL) -> None:
    started.send_signal(signum)
    started.wait(DEADLINE)


# The end of the host.


@pytest.mark.slow
def test_nothing_is_left_of_fifty_trees_one_second_after_the_end(
    host: Host, strays: Strays, within: Callable[[float], AbstractContextManager[object]]
) -> None:
    """The host gets SIGKILL. Its commands die, whole trees, and the guardian ends."""
    started = host.start(
        program(
            """
            runs = [tree.start(orphans="kill") for _ in range(50)]
            print(guardian_pid(), flush=True)
            signal.pause()
            """,
            strays,
        )
    )
    guard = int(line(started))
    pids = strays.pids(50 * SIZE)
    with within(1.0):
        end(started)
        left = kill_survivors([*pids, guard], DEADLINE)
    assert left == []


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGSEGV])
def test_the_commands_end_by_whatever_signal_the_host_dies(
    signum: signal.Signals, host: Host, strays: Strays
) -> None:
    """The interpreter runs none of our code then."""
    started = host.start(program('run = tree.start(orphans="kill"); signal.pause()', strays))
    pids = strays.pids(SIZE)
    end(started, signum)
    assert kill_survivors(pids, DEADLINE) == []


WAYS = {
    "run": 'tree.run(orphans="kill")',
    "option of the pipeline": 'Pipeline(tree, orphans="kill").run()',
    "nested": 'Pipeline(Pipeline(tree, cwd="/"), command("cat"), orphans="kill").run()',
    "iterated": 'list(tree.iter_lines(orphans="kill"))',
    "in the group of the host": 'command("sh", "-c", MARKED, process_group=False, env={"PIDS": PIDS})'
    '.run(orphans="kill")',
    "limited": 'tree.run(orphans="kill", limits=Limits(open_files=100, cgroup="never"))',
    "with an environment of its own": 'tree.run(orphans="kill", inherit_env=False, env={"PATH": '
    'os.environ["PATH"]})',
    "async": 'import asyncio; asyncio.run(tree.arun(orphans="kill"))',
    "in a thread": 'threading.Thread(target=lambda: tree.run(orphans="kill")).start()',
}


@pytest.mark.parametrize("way", WAYS)
def test_however_a_run_was_started(way: str, host: Host, strays: Strays) -> None:
    """All methods and kinds of commands."""
    started = host.start(program(WAYS[way], strays))
    pids = strays.pids(SIZE)
    end(started)
    assert kill_survivors(pids, DEADLINE) == []


def test_processes_of_functions_that_use_the_context_end_too(host: Host, strays: Strays) -> None:
    """A custom stage, or a function, gives `ctx.environ` to what it starts, and so do runs inside a run."""
    text = """
    import subprocess

    def start(ctx, stdin, stdout):
        subprocess.run(["sh", "-c", MARKED], env={**ctx.environ, "PIDS": PIDS})

    function(start).run(orphans="kill")
    """
    started = host.start(program(text, strays))
    pids = strays.pids(SIZE)
    end(started)
    assert kill_survivors(pids, DEADLINE) == []


def test_a_worker_process_ends_with_all_that_its_function_started(host: Host, strays: Strays) -> None:
    """Also if the function never lets another thread of its process run, or stopped it."""
    text = """
    import stages
    command("echo").run()
    (command("echo", "a") | map_lines(stages.start, isolate="process")).run(
        orphans="kill", env={"PIDS": PIDS, "TREE": MARKED}
    )
    """
    (strays.path.parent / "stages.py").write_text(
        "import os, signal\n"
        "def start(line):\n"
        "    os.spawnlp(os.P_NOWAIT, 'sh', 'sh', '-c', os.environ['TREE'])\n"
        "    with open(os.environ['PIDS'], 'a') as file:\n"
        "        print(os.getpid(), file=file)\n"
        "    os.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    started = host.start(program(text, strays))
    pids = strays.pids(SIZE + 1)
    end(started)
    assert kill_survivors(pids, DEADLINE) == []


def test_a_stopped_command_ends_too(host: Host, strays: Strays) -> None:
    """SIGKILL needs no cooperation."""
    text = """
    command("sh", "-c", "echo $$ >>$PIDS; kill -STOP $$", env={"PIDS": PIDS}).run(orphans="kill")
    """
    started = host.start(program(text, strays))
    (pid,) = strays.pids()
    until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    end(started)
    assert kill_survivors([pid], DEADLINE) == []


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 4])
def test_a_host_that_is_killed_while_it_starts_runs(threads: int, host: Host, strays: Strays) -> None:
    """No command is unknown at any moment between its fork and its exec."""
    text = """
    def start():
        while True:
            runs = [sleeper.start(orphans="kill") for _ in range(3)]
            print("started", flush=True)
            for run in runs:
                run.cancel()

    sleeper = command("sleep", "1000")
    for _ in range(THREADS):
        threading.Thread(target=start).start()
    """
    for number in range(12):
        token = f"penstock-test-{os.getpid()}-{threads}-{number}"
        script = program(text, strays, THREADS=threads)
        started = host.start(f"import os; os.environ['TOKEN'] = {token!r}\n{script}")
        for _ in range(1 + number % 5):
            line(started)
        end(started)
        until(lambda: not _with_token(token))  # noqa: B023 - called in this round


def _with_token(token: str) -> list[int]:
    """Return the living processes that got a variable of the host."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and token.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in found if alive(pid)]


@pytest.mark.slow
def test_forked_copies_have_guardians_of_their_own(host: Host, strays: Strays) -> None:
    """The commands of a copy end with the copy, and those of the host with the host."""
    text = """
    tree.start(orphans="kill")
    copies = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)  # if the test fails, nobody else ends it
            run = tree.start(orphans="kill")
            os.write(1, f"copy {os.getpid()} {guardian_pid()} {run.pids[0]}\\n".encode())  # whole
            signal.pause()
        copies.append(pid)
    os.write(1, f"host {os.getpid()} {guardian_pid()}\\n".encode())
    signal.pause()
    """
    started = host.start(program(text, strays))
    lines = [line(started).split() for _ in range(4)]
    copies = [[int(word) for word in words[1:]] for words in lines if words[0] == "copy"]
    guardians = {int(words[2]) for words in lines}
    assert len(guardians) == 4
    pids = strays.pids(4 * SIZE)
    groups = {pid: os.getsid(pid) for pid in pids if alive(pid)}
    assert len(groups) == len(pids)
    first, *others = copies
    os.kill(first[0], signal.SIGKILL)
    assert gone(first[2])
    assert gone(first[1])
    assert all(alive(pid) for copy in others for pid in copy)
    until(lambda: sum(alive(pid) for pid in pids) == 3 * SIZE)
    end(started)
    assert all(alive(pid) for copy in others for pid in copy)
    until(lambda: sum(alive(pid) for pid in pids) == 2 * SIZE)
    for copy in others:
        os.kill(copy[0], signal.SIGKILL)
    assert kill_survivors([*pids, *guardians], DEADLINE) == []


def test_a_host_that_has_closed_all_its_descriptors(host: Host, strays: Strays) -> None:
    """A daemon does so. The guardian watches the process, and what it knows is in memory."""
    text = """
    run = tree.start(orphans="kill")
    os.closerange(3, 1000)
    print(guardian_pid(), flush=True)
    while True:
        time.sleep(1000)
    """
    started = host.start(program(text, strays))
    guard = int(line(started))
    pids = strays.pids(SIZE)
    assert alive(guard)
    end(started)
    assert kill_survivors([*pids, guard], DEADLINE) == []


def test_a_host_that_becomes_another_program(host: Host, strays: Strays) -> None:
    """It is the same process, and the commands are its children."""
    text = """
    run = tree.start(orphans="kill")
    print(guardian_pid(), flush=True)
    os.execvp("sleep", ["sleep", "1000"])
    """
    started = host.start(program(text, strays))
    guard = int(line(started))
    pids = strays.pids(SIZE)
    until(lambda: psutil.Process(started.pid).name() == "sleep")
    assert all(alive(pid) for pid in [*pids, guard])
    end(started)
    assert kill_survivors([*pids, guard], DEADLINE) == []


@pytest.mark.parametrize("feature", ["PIDFD", "GLIBC_SPAWN"])
def test_by_slower_means(feature: str, host: Host, strays: Strays) -> None:
    """Without pidfds the guardian asks now and then, and reads the end of its socket."""
    text = f"""
    from penstock.system import features
    features.{feature} = False
    tree.start(orphans="kill")
    print(guardian_pid(), flush=True)
    signal.pause()
    """
    started = host.start(program(text, strays))
    guard = int(line(started))
    pids = strays.pids(SIZE)
    end(started)
    assert kill_survivors([*pids, guard], DEADLINE) == []


# What is left alone.


def test_leftovers_of_a_run_that_has_ended_are_left_alone(host: Host, strays: Strays) -> None:
    """It is no longer part of a run. Neither are the commands of runs that did not ask."""
    text = """
    command("sh", "-c", "sh -c 'echo $$ >>$PIDS; exec sleep 1000' >&- 2>&- &", env={"PIDS": PIDS}).run(
        orphans="kill"
    )
    command("sh", "-c", "echo $$ >>$PIDS; exec sleep 1000", env={"PIDS": PIDS}).start()
    print(guardian_pid(), flush=True)
    signal.pause()
    """
    started = host.start(program(text, strays))
    guard = int(line(started))
    pids = strays.pids(2)
    end(started)
    assert gone(guard)
    assert all(alive(pid) for pid in pids)


def test_a_nested_pipeline_may_be_left(host: Host, strays: Strays) -> None:
    """The option of the inner pipeline counts for its commands."""
    text = """
    sleep = command("sh", "-c", "echo $$ >>$PIDS; exec sleep 1000", env={"PIDS": PIDS})
    Pipeline(sleep, Pipeline(sleep, orphans="leave"), orphans="kill").start()
    signal.pause()
    """
    started = host.start(program(text, strays))
    pids = strays.pids(2)
    end(started)
    until(lambda: sum(alive(pid) for pid in pids) == 1)


def test_runs_that_do_not_ask_start_nothing_and_change_nothing(host: Host) -> None:
    """Neither a guardian, nor a variable."""
    text = """
    say(command("sh", "-c", "echo ${VARIABLE}").text().strip() or "nothing")
    say("penstock.system.guardian" in sys.modules)
    """
    assert host.output(text.replace("{VARIABLE}", VARIABLE)).split() == ["nothing", "False"]


# The guardian.


def test_the_guardian_is_one_small_process_apart_from_the_host(host: Host, strays: Strays) -> None:
    """It is no child, has a session of its own, two descriptors and little memory; the host has no child."""
    text = """
    for _ in range(3):
        command("true").run(orphans="kill")
    print(guardian_pid(), flush=True)
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        print("no child", flush=True)
    os.read(0, 1)
    """
    started = host.start(program(text.replace("os.read(0, 1)", "signal.pause()"), strays))
    guard = psutil.Process(int(line(started)))
    assert line(started) == "no child\n"
    assert os.getsid(guard.pid) == os.getpgid(guard.pid) == guard.pid
    assert guard.ppid() != started.pid
    links = {os.readlink(path) for path in Path(f"/proc/{guard.pid}/fd").iterdir()}  # noqa: PTH115
    assert {link.partition(":")[0] for link in links} <= {"socket", "anon_inode"}
    assert len(links) == 2
    assert guard.cwd() == "/"
    assert guard.memory_info().rss < 20_000_000
    assert VARIABLE not in guard.environ()
    end(started)
    assert gone(guard.pid)


def test_it_ends_with_a_host_that_ends_normally(host: Host) -> None:
    """And at once: the host's own end handler has ended the commands."""
    out = host.output(
        """
        from penstock.system import guardian
        run = command("sleep", "1000").start(orphans="kill")
        say(guardian._current.pid, *run.pids)
        """
    )
    assert kill_survivors(map(int, out.split()), DEADLINE) == []


def test_a_host_whose_signals_are_all_sent_to_its_guardian_too(host: Host, strays: Strays) -> None:
    """A service manager signals all processes of a service. The guardian ends after the host, not before."""
    started = host.start(
        program('tree.start(orphans="kill"); print(guardian_pid(), flush=True); signal.pause()', strays)
    )
    guard = int(line(started))
    pids = strays.pids(SIZE)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(guard, signum)
    assert alive(guard)
    end(started, signal.SIGTERM)
    assert kill_survivors([*pids, guard], DEADLINE) == []


def test_another_guardian_takes_over_when_one_is_killed(host: Host, strays: Strays) -> None:
    """The runs that go on are guarded again, without a start of another run."""
    text = """
    run = tree.start(orphans="kill")
    from penstock.runtime import guarding
    guarding._SHORT_LIFE_S = 0.0
    first = guardian_pid()
    os.kill(first, signal.SIGKILL)
    while guardian_pid() == first:
        time.sleep(0.01)
    print(guardian_pid(), flush=True)
    signal.pause()
    """
    started = host.start(program(text, strays))
    guard = int(line(started))
    pids = strays.pids(SIZE)
    assert alive(guard)
    end(started)
    assert kill_survivors([*pids, guard], DEADLINE) == []


def test_threads_that_start_guarded_runs_while_guardians_are_killed(host: Host) -> None:
    """All threads get the same guardian. A dead one that a start has replaced costs no more time."""
    out = host.output(
        """
        from penstock.system import guardian
        kept = command("sleep", "1000").start(orphans="kill")
        guardians, errors = set(), []

        def work():
            try:
                for _ in range(10):
                    command("true").run(orphans="kill")
                    guardians.add(guardian._current.pid)
            except Exception as error:
                errors.append(error)

        for _ in range(8):
            os.kill(guardian._current.pid, signal.SIGKILL)
            workers = [threading.Thread(target=work) for _ in range(6)]
            for worker in workers: worker.start()
            for worker in workers: worker.join()
        say(errors, 8 <= len(guardians) <= 9)
        began = time.process_time()
        time.sleep(0.3)
        say(time.process_time() - began < 0.1)
        kept.cancel()
        """
    )
    assert out.split() == ["[]", "True", "True"]


def test_a_run_without_its_guardian_says_so(host: Host, strays: Strays) -> None:
    """If something kills each guardian at once, an event reports it, and the next run tries again."""
    text = """
    told = threading.Event()
    def on_event(event):
        if event.kind == "unguarded":
            print(event.stage, event.message, type(event.error).__name__, flush=True)
            told.set()
    run = command("sleep", "1000").start(orphans="kill", on_event=on_event)
    first = guardian_pid()
    os.kill(first, signal.SIGKILL)
    told.wait()
    command("true").run(orphans="kill")
    print(guardian_pid() != first)
    run.cancel()
    """
    started = host.start(program(text, strays))
    assert line(started) == "orphans its commands no longer end with this program ChildProcessError\n"
    assert line(started) == "True\n"
    assert started.wait(DEADLINE) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a namespace of pids")
def test_process_1_of_a_container_needs_no_guardian(host: Host, tmp_path: Path) -> None:
    """The kernel kills all others when it dies. A guardian would be its child, as each orphan is."""
    inside = Strays(tmp_path / "pids")  # as the container numbers them, so nobody here may kill them
    text = """
    run = tree.start(orphans="kill")
    print(os.getpid(), guardian._current, flush=True)
    while True:
        signal.pause()
    """
    file = tmp_path / "contained.py"
    file.write_text(program(text, inside))
    made = "os.execvp('unshare', ['unshare', '--pid', '--fork', '--kill-child', sys.executable, FILE])"
    started = host.start(f"import os, sys; FILE = {str(file)!r}; {made}")
    if (said := line(started)) == "":
        pytest.skip("no namespace can be made here")
    assert said == "1 None\n"
    inside.pids(SIZE)
    pids = [child.pid for child in psutil.Process(started.pid).children(recursive=True)]
    assert len(pids) > SIZE
    end(started)
    assert kill_survivors(pids, DEADLINE) == []


# Scarcity, and mistakes.


@pytest.mark.parametrize("value", ["stop", None, True, "KILL"])
def test_an_unknown_value_names_the_option(value: Any) -> None:
    with pytest.raises(ValueError, match="orphans must be 'leave' or 'kill'"):
        command("true").run(orphans=value)


@pytest.mark.parametrize("spare", range(6))
def test_a_host_without_descriptors_for_it_is_told_so(spare: int, host: Host) -> None:
    """A StartError names the option. Nothing is left, and the next run is guarded."""
    out = host.output(
        f"""
        import resource
        command("true").run(); source([b"x"]).start(stdout=DEVNULL).wait()
        from penstock.system import guardian, fd_passing
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        taken = []
        try:
            while True: taken.append(os.dup(0))
        except OSError: pass
        for fd in taken[:{spare}]: os.close(fd)
        before = len(os.listdir("/proc/self/fd")) if {spare} else 0
        try:
            command("true").run(orphans="kill")
        except PipelineError as error:
            say(type(error).__name__, error.stage, error.index)
        else:
            say("started")
        for fd in taken[{spare}:]: os.close(fd)
        say(command("true").run(orphans="kill").ok)
        try: os.waitpid(-1, os.WNOHANG)
        except ChildProcessError: say("no child")
        """
    )
    said = out.splitlines()
    assert said[0] in ("StartError orphans None", "started", "StartError true 0")
    assert spare > 0 or said[0] == "StartError orphans None"
    assert said[1:] == ["True", "no child"]


def test_an_interpreter_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen program has none."""
    monkeypatch.setattr(sys, "executable", "")
    monkeypatch.setattr(guardian, "_current", None)
    with pytest.raises(StartError, match=r'starting stage "orphans": .*sys\.executable') as caught:
        command("true").run(orphans="kill")
    assert (caught.value.stage, caught.value.index) == ("orphans", None)


@pytest.mark.parametrize(
    ("loader", "said"),
    [
        ("raise OSError(5, 'no process')", r"OSError: \[Errno 5\] no process$"),
        ("import posix; posix._exit(0)", "its interpreter has died$"),
        ("import time; time.sleep(1000)", "it did not start within 0.3 s$"),
        ("import posix; posix.write(1, b'ready'); posix.read(0, 100000); posix.read(0, 1)", "within 0.3 s$"),
    ],
)
def test_a_guardian_that_does_not_start_fails_the_run(
    loader: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In time, with a StartError that says why. Nothing is left."""
    monkeypatch.setattr(guardian, "_LOADER", loader)
    monkeypatch.setattr(guardian, "_START_TIMEOUT_S", 0.3)
    monkeypatch.setattr(guardian, "_current", None)
    with pytest.raises(StartError, match=f'^starting stage "orphans": no process could be started.*{said}'):
        command("true").run(orphans="kill")


@pytest.mark.skipif(os.geteuid() != 0, reason="root has no such limit, and becomes an ordinary user for it")
@pytest.mark.skipif(not others_may_read(penstock.__file__), reason="other users cannot load the package here")
def test_a_host_without_processes_for_it_is_told_so(host: Host) -> None:
    out = host.output(
        """
        import resource
        command("true").run()
        import penstock.runtime.guarding
        os.setgid(54321)
        os.setuid(54321)
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        try:
            command("true").run(orphans="kill")
        except StartError as error:
            say(error.stage, type(error.cause).__name__)
        """
    )
    assert out == "orphans BlockingIOError\n"


def test_the_mark_of_a_run_is_seen_by_its_commands_only() -> None:
    """The environment of this process stays as it is; a run inside a run has both marks."""
    seen: list[str] = []

    def inner(ctx: Any, _stdin: Any, stdout: Any) -> None:
        own = command("sh", "-c", f"echo ${VARIABLE}").text(orphans="kill").strip()
        seen.extend((ctx.environ[VARIABLE], own))
        stdout.write(own.encode())

    before = os.environ.get(VARIABLE)
    outer = (function(inner) | command("cat")).text(orphans="kill")
    assert outer == seen[1] != seen[0]
    assert seen[0].split(":")[-1].split(".")[0] == seen[1].split(":")[-1].split(".")[0]
    assert os.environ.get(VARIABLE) == before


def test_a_table_that_is_full_fails_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for tens of thousands of runs."""
    command("true").run(orphans="kill")
    monkeypatch.setattr(guard_table, "_WORDS", 0)
    current = guardian._current
    assert current is not None
    monkeypatch.setattr(current.table, "_free", [])
    with pytest.raises(StartError, match="too many runs"):
        command("true").run(orphans="kill")


def test_words_are_given_back() -> None:
    """However a run ends; so the table does not fill up."""
    command("true").run(orphans="kill")
    current = guardian._current
    assert current is not None
    words = current.table._words

    def active() -> int:
        return sum(1 for word in words if word)

    until(lambda: active() == 0)  # also those of earlier tests
    run = (sh("exec sleep 1000") | command("cat")).start(orphans="kill")
    kinds = sorted(word & 3 for word in words if word)
    run.cancel()
    run.wait(check=False)
    assert kinds == [guardian_main.MARK, guardian_main.GROUP, guardian_main.GROUP]
    until(lambda: active() == 0)
    with pytest.raises(StartError):
        (command("sleep", "1000") | command("/no/such")).run(orphans="kill")
    lines = command("yes").iter_lines(orphans="kill")
    next(lines)
    lines.close()
    until(lambda: active() == 0)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("first", range(3))
def test_an_interrupt_while_the_guardian_is_started_leaves_one_at_most(first: int, host: Host) -> None:
    """Wherever it comes: the guardian is known, or it ends. No child is left."""
    out = host.output(
        f"""
        import gc, warnings
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from tests.support.interrupts import Interruption
        from penstock.system import guardian, guardian_main
        from penstock.runtime import guarding

        warnings.simplefilter("ignore")
        sys.unraisablehook = lambda _: None

        def guardians():
            found = set()
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    words = open(f"/proc/{{pid}}/cmdline").read().split(chr(0))
                except OSError:
                    continue
                if guardian_main.__name__ in words and str(os.getpid()) in words:
                    found.add(int(pid))
            return found

        def forget():
            current, guardian._current, guarding._watched = guardian._current, None, None
            if current is not None:
                os.kill(current.pid, signal.SIGKILL)
                current.close()
                current.table.close()

        command("true").run(orphans="kill")
        turns = 0
        for turn in range(5 + 11 * {first}, 3000, 37):
            forget()
            interruption = Interruption(turn)
            try:
                with interruption:
                    command("true").run(orphans="kill")
            except KeyboardInterrupt:
                pass
            while guardians() - {{guardian._current and guardian._current.pid}}:
                time.sleep(0.01)
            try:
                say("child", os.waitpid(-1, os.WNOHANG))
            except ChildProcessError:
                turns += 1
            if interruption.left > 0:
                break
        say(turns > 20)
        """
    )
    assert out == "True\n"
