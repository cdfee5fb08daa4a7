"""The kernel itself refuses: `strace` attaches to a program that runs pipelines, and changes its answers.

One host program (host_program.py) runs a few pipelines again and again. For each fault strace attaches to its
threads (and with `-f` to the children that it starts as well), makes a call fail from a certain turn on at
certain turns, and lets go. The turns are counted thread by thread and run on from one pipeline to the next,
so that a few steps sweep over all positions. (A count strace cannot shorten: it replaces an answer, and
leaves the call out. Short counts are in tests/streams/test_transfer_faults.py.)

Each pipeline either delivers every byte, or raises an error that names a stage or an end, and has the
injected error, or the end of a child that was hit, for its cause.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

HOST_PROGRAM = Path(__file__).with_name("host_program.py")


class TracedHost:
    """The program, and strace beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "temporary").mkdir()
        self._process = subprocess.Popen(
            [sys.executable, str(HOST_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(folder / "temporary")},
            bufsize=0,
        )
        assert self._line() == "ready", self._errors()

    def run(self, fault: str, order: bytes = b"!", *, follow: bool = False) -> dict[str, Any]:
        """Run all pipelines under a fault; what came of each."""
        calls = fault.partition(":")[0]
        tracer = [
            "strace",
            "-o",
            str(self._folder / "trace"),
            "-e",
            f"trace={calls}",
            "-e",
            f"inject={fault}",
        ]
        pid = self._process.pid
        threads = [pid] if follow else [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
        tracer += ["-f"] * follow + [word for thread in threads for word in ("-p", str(thread))]
        with subprocess.Popen(tracer, stderr=subprocess.PIPE, bufsize=0) as strace:
            assert strace.stderr is not None
            attached = 0
            for line in strace.stderr:
                if b"not permitted" in line:
                    pytest.skip("strace may not trace here")
                attached += b" attached" in line
                if attached >= len(threads):
                    break
            assert attached, "strace has ended"
            try:
                return dict(json.loads(self.ask(order)))
            finally:
                strace.send_signal(signal.SIGINT)

    def ask(self, order: bytes) -> str:
        """Give an order, and wait for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(order)
        return self._line()

    def injected(self, mark: str = "INJECTED") -> bool:
        """Whether the last fault came about at all."""
        return mark in (self._folder / "trace").read_text()

    def kill(self) -> None:
        """Have done with it."""
        with self._process:
            self._process.kill()

    def _line(self) -> str:
        assert self._process.stdout is not None
        data = b""
        while not data.endswith(b"\n"):
            ready, _, _ = select.select([self._process.stdout], [], [], 30)
            assert ready, "it hangs"
            piece = os.read(self._process.stdout.fileno(), 4096)
            assert piece, self._errors()
            data += piece
        return data.decode().strip()

    def _errors(self) -> str:
        assert self._process.stderr is not None
        return self._process.stderr.read().decode()

    def end(self) -> None:
        """Have it end; it must have been silent."""
        assert self._process.stdin is not None
        with self._process:
            self._process.stdin.close()
            try:
                self._process.wait(DEADLINE)
            finally:
                self._process.kill()
            assert (self._errors(), self._process.returncode) == ("", 0)


class Hosts:
    """The one host of this module; after a failure, one for each test."""

    def __init__(self, make_folder: Callable[[], Path]) -> None:
        self._make_folder = make_folder
        self._host: TracedHost | None = None
        self._begun = False

    @contextlib.contextmanager
    def one(self) -> Iterator[TracedHost]:
        """Lend a host that is sound; keep it if nothing is raised."""
        kept, self._host = self._host, None
        host = TracedHost(self._make_folder()) if kept is None else kept
        try:
            yield host
        except BaseException:
            host.kill()
            raise
        if kept is None and self._begun:
            host.end()  # the leak check would kill a process that a test has started
        else:
            self._host = host
        self._begun = True

    def end(self) -> None:
        """End it."""
        if self._host is not None:
            self._host.end()


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Keep a host, so that not each fault has to wait for a start."""
    hosts = Hosts(lambda: tmp_path_factory.mktemp("host"))
    with hosts.one():  # before the leak check's first look, to which it belongs to what was there
        pass
    yield hosts
    hosts.end()


STAGES = {"stdin", "stdout", "f1", "c1", "c2", "f2", "sleeper"}
SPAWN = "?clone3,?clone,?vfork,?fork"
WAIT = "?epoll_wait,?epoll_pwait"

# The call, what it answers, when, and whether nothing comes of it.
FAULTS = [
    ("pipe2", "EMFILE", "2+8", False),
    ("pipe2", "ENFILE", "5+9", False),
    (SPAWN, "EAGAIN", "1+5", False),
    (SPAWN, "ENOMEM", "2+6", False),
    ("pidfd_open", "EMFILE", "1+2", True),
    ("pidfd_open", "ENOMEM", "1", True),
    *[("read", "EIO", f"{first}+5", False) for first in range(1, 6)],
    ("read", "ENOMEM", "2+5", False),
    ("read", "EAGAIN", "1+3", True),
    ("read", "EINTR", "1+2", True),
    *[("write", "ENOSPC", f"{first}+4", False) for first in range(1, 5)],
    ("write", "EIO", "2+5", False),
    ("write", "EINTR", "1+2", True),
    ("splice", "EIO", "2", True),
    ("splice", "EAGAIN", "1+2", True),
    ("splice", "ENOMEM", "2", False),
    ("?poll,?ppoll", "ENOMEM", "1+3", False),
    ("?poll,?ppoll", "EINTR", "1+2", True),
    (WAIT, "ENOMEM", "1+2", True),
    (WAIT, "EINTR", "1+2", True),
    ("epoll_ctl", "ENOSPC", "1+2", True),
    ("eventfd2", "EMFILE", "1+2", False),
    ("wait4", "EINTR", "1+2", True),
]


@pytest.mark.parametrize(("calls", "code", "when", "survived"), FAULTS)
def test_an_answer_of_the_kernel(calls: str, code: str, when: str, survived: bool, hosts: Hosts) -> None:  # noqa: FBT001 - a column of the table
    """Every byte, or the error of who met it; and nothing is left."""
    with hosts.one() as host:
        outcomes = host.run(f"{calls}:error={code}:when={when}")
        assert host.injected()
        for name, outcome in outcomes.items():
            if outcome != "all":
                assert isinstance(outcome, list), (name, outcome)
                stage, kind = outcome
                assert stage in STAGES, (name, outcome)
                # A thread is made by the same call; Python says then that there is none, and not why.
                assert kind == code or (calls == SPAWN and "new thread" in kind), (name, outcome)
                assert not survived, (name, outcome)
        assert json.loads(host.ask(b"?")) == []


@pytest.mark.parametrize("calls", ["read,write", f"execve,{SPAWN}"])
def test_an_answer_to_the_children_as_well(calls: str, hosts: Hosts) -> None:
    """A child that fails for it is the one that is named."""
    with hosts.one() as host:
        for outcome in host.run(f"{calls}:error=ENOMEM:when=2+3", follow=True).values():
            if outcome != "all":
                stage, kind = outcome
                assert stage in STAGES, outcome
                assert kind in {"ENOMEM", "exit"} or (SPAWN in calls and "new thread" in kind), outcome
        assert json.loads(host.ask(b"?")) == []


@pytest.mark.parametrize(
    "fault",
    ["read:error=EIO:when=2+40", f"?poll,?ppoll,{WAIT}:error=ENOMEM:when=1+2", "wait4:error=EINTR:when=1"],
)
def test_a_deadline_is_kept_all_the_same(fault: str, hosts: Hosts, within: Any) -> None:
    """Whatever cannot be read of the machine's processes, or waited for: it ends in time, by that reason."""
    with hosts.one() as host:
        with within(0.01 + 0.2 + 1):
            assert host.run(fault, b"d") == {"deadline": "all"}
        assert host.injected()
        assert json.loads(host.ask(b"?")) == []


@pytest.mark.parametrize("when", ["1+3", "2+5"])
def test_signals_in_the_middle_of_calls(when: str, hosts: Hosts) -> None:
    """The program's own handler runs between the steps of the engine, and nothing is lost by it."""
    with hosts.one() as host:
        calls = f"read,write,?poll,?ppoll,{WAIT},pipe2,{SPAWN},wait4"
        assert set(host.run(f"{calls}:signal=SIGUSR1:when={when}").values()) == {"all"}
        assert host.injected("--- SIGUSR1")
        assert json.loads(host.ask(b"?")) == []
