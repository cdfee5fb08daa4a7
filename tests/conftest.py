# Taken twice a test, so by the quickest means.
# ruff: noqa: PTH112, PTH115, PTH208
"""What holds for every test: it leaves no descriptor, thread, child process or temporary file behind.

A `Snapshot` is taken before each test and compared with one taken after it. In the good path that is all;
only where they differ is anything waited for (threads are joined, garbage is collected, all else is looked at
again until a deadline), and what is then still there fails the test, by name.

The check is registered as a plugin of its own, not as a fixture of this folder, so that it also covers the
doctests under `src/`. Temporary files are seen because the whole session gets a temporary folder of its own:
`TMPDIR` points to it, for children too, and pytest's `tmp_path` lies outside it.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import signal
import sys
import tempfile
import threading
import time
import tracemalloc  # noqa: F401 - pytest imports it when something is unraisable, in two threads at once maybe
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import psutil
import pytest

import penstock
from penstock.isolation import worker_pool
from penstock.system.guardian import guardian_descriptors
from penstock.system.process import may_have_children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest_plugins = ["tests.support.fixtures"]

SETTLE_SECONDS = 5.0
# Threads that outlive a run by design: the supervisor, and workers while they wait for their next task.
SUPERVISOR = "penstock-supervisor"
WORKER = "penstock-worker"
# Idle worker processes stay too; the pool tells which they are, and the session's end sees that none is left.
# Where an idle worker stands; one with any other frame on its stack is at work for a run.
IDLE_FRAMES = ("/penstock/runtime/thread_pool.py", "/threading.py", "/queue.py")


def pytest_configure(config: pytest.Config) -> None:
    """Put the leak check around every test of the session, wherever its file lies.

    And let no test fail because the machine is slow: Hypothesis has limits of its own for that.
    """
    hypothesis.settings.register_profile(
        "penstock", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("penstock")
    config.pluginmanager.register(LeakCheck(), "penstock-leak-check")


def pytest_collection_finish(session: pytest.Session) -> None:  # noqa: ARG001 - a hook's name for it
    """Have the collector pass over the thousands of tests: many of them collect, to see what is let go of."""
    gc.collect()
    gc.freeze()


class Snapshot:
    """What a process holds at one moment: descriptors and their targets, threads, children, files."""

    def __init__(self) -> None:
        self.descriptors = dict(_descriptors())
        for number in worker_pool.idle_descriptors() | guardian_descriptors():
            self.descriptors.pop(number, None)
        self.threads = {thread.native_id or 0: thread for thread in threading.enumerate()}
        self.tasks = _tasks() or set(self.threads)
        self.busy = set(_busy_workers())
        self.children = set(_children())
        folder = tempfile.gettempdir()
        self.files = set(Path(folder).rglob("*")) if os.listdir(folder) else set()

    def leaks(self, settle: float = SETTLE_SECONDS) -> list[str]:
        """Tell what is there now and was not then; wait up to `settle` seconds for it to go."""
        now = Snapshot()
        if not now.beyond(self):
            return []
        deadline = time.monotonic() + settle
        turns = itertools.count()
        while True:
            if next(turns) % 8 == 0:  # what only a cycle of dead objects holds is not a leak
                gc.collect()
            now = Snapshot()
            found = now.beyond(self)
            if not found or time.monotonic() >= deadline:
                return found
            ending = [
                thread
                for ident, thread in now.threads.items()
                if ident in now.strangers(self) and not thread.name.startswith(WORKER)
            ]
            if ending:
                ending[0].join(max(0.0, deadline - time.monotonic()))
            else:
                time.sleep(0.001)  # nothing to wait on: this is the bad path, and it has a deadline

    def beyond(self, before: Snapshot) -> list[str]:
        """Return a sentence for each thing that this snapshot has and `before` has not."""
        found = [
            f"descriptor {fd}: {target}"
            for fd, target in sorted(self.descriptors.items())
            if before.descriptors.get(fd) != target
        ]
        found += [f"thread {self.thread_name(ident)}" for ident in sorted(self.strangers(before))]
        found += [f"child process {_describe(child)}" for child in self.children - before.children]
        found += [f"temporary file {path}" for path in sorted(self.files - before.files)]
        return found

    def strangers(self, before: Snapshot) -> set[int]:
        """Return the native ids of threads that are new and no residents, and of workers that still work."""
        new = {
            ident
            for ident in self.tasks - before.tasks
            if not (ident in self.threads and self.threads[ident].name.startswith((SUPERVISOR, WORKER)))
        }
        return new | (self.busy - before.busy)

    def thread_name(self, ident: int) -> str:
        """Return a thread's name where `threading` knows the thread."""
        thread = self.threads.get(ident)
        return f"{thread.name!r}" if thread is not None else f"with native id {ident}, unknown to threading"


class LeakCheck:
    """The fixtures; the session's comes first, so that what the first run starts belongs to the baseline."""

    @pytest.fixture(scope="session", autouse=True)
    @classmethod
    def _settled_process(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """Give the session a temporary folder of its own, and a supervisor that is already up."""
        folder = str(tmp_path_factory.mktemp("temporary"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", folder)
            patch.setattr(tempfile, "tempdir", folder)
            _heed_interrupts()
            _warm_up()
            yield
            idle = worker_pool.idle_pids()
            worker_pool.shutdown()
            left = idle & {child.pid for child in psutil.Process().children()}
            assert not left, f"worker processes outlive the pool's drain: {left}"

    @pytest.fixture(autouse=True)
    def _nothing_leaks(self, _settled_process: None) -> Iterator[None]:
        """Fail the test that leaves something behind; say what."""
        before = Snapshot()
        yield
        leaks = before.leaks()
        if leaks:
            _clean_up(before)
            pytest.fail("this test leaves behind:\n  " + "\n  ".join(leaks), pytrace=False)

    @pytest.fixture
    def snapshot(self) -> Callable[[], Snapshot]:
        """Take snapshots where a test looks for leaks at a moment of its own choice."""
        return Snapshot


class _Metronome(threading.Thread):
    """A thread that only sleeps, and counts by how much it wakes too late: time that was given to others."""

    TICK = 0.005

    def __init__(self) -> None:
        super().__init__(name="metronome", daemon=True)
        self._over = threading.Event()
        self.late = 0.0
        self.start()

    def run(self) -> None:
        """Tick."""
        last = time.monotonic()
        while not self._over.wait(self.TICK):
            now = time.monotonic()
            self.late += max(0.0, now - last - self.TICK)
            last = now

    def stop(self) -> float:
        """Stop, and tell how late it was in all."""
        self._over.set()
        self.join()
        return self.late


@pytest.fixture
def within() -> Callable[[float], contextlib.AbstractContextManager[_Metronome]]:
    """Fail where a block takes longer than so many seconds of a machine that has nothing else to do.

    What the machine, busy with others, kept from this process is not counted: that is no promise of ours. It
    is `late` of what the block is given.
    """

    @contextlib.contextmanager
    def within(seconds: float) -> Iterator[_Metronome]:
        metronome = _Metronome()
        began = time.monotonic()
        try:
            yield metronome
        finally:
            took = time.monotonic() - began
            late = metronome.stop()
        assert took - late < seconds, f"took {took:.2f} s, of which the machine was busy for {late:.2f} s"

    return within


def _heed_interrupts() -> None:
    """Where the session was started with signals ignored, as a job in the background of a script or under
    nohup is, the programs that the tests start would ignore them too: an ignored signal is inherited.
    """
    for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(signum) == signal.SIG_IGN:
            signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)


def _warm_up() -> None:
    """Run a pipeline of a command and a function in the background, so that the supervisor is there."""
    pipeline = penstock.source([b"x"]) | penstock.command("cat") | penstock.map_lines(bytes.upper)
    pipeline.start(stdout=penstock.DEVNULL).wait()


def _descriptors() -> Iterator[tuple[int, str]]:
    """Yield each open descriptor and what it refers to; without procfs, what `fstat` tells of it."""
    procfs = os.path.isdir("/proc/self/fd")
    for name in os.listdir("/proc/self/fd" if procfs else "/dev/fd"):
        # The descriptor that listed the folder is gone by now, and so may be another thread's.
        with contextlib.suppress(OSError):
            if procfs:
                yield int(name), os.readlink(f"/proc/self/fd/{name}")
            else:
                status = os.fstat(int(name))
                yield int(name), f"mode {status.st_mode:o}, device {status.st_dev}, inode {status.st_ino}"


def _tasks() -> set[int]:
    """Return the native ids of all threads, also of those unknown to `threading`; empty without procfs."""
    try:
        return set(map(int, os.listdir("/proc/self/task")))
    except OSError:
        return set()


def _children() -> Iterator[psutil.Process]:
    """Yield each child, a zombie too, but for the pool's idle workers."""
    if may_have_children():
        idle = worker_pool.idle_pids()
        yield from (child for child in psutil.Process().children() if child.pid not in idle)


def _busy_workers() -> Iterator[int]:
    """Yield the native ids of Penstock's workers that are at work for a run."""
    frames = sys._current_frames()
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        while thread.name.startswith(WORKER) and frame is not None:
            if not frame.f_code.co_filename.endswith(IDLE_FRAMES):
                yield thread.native_id or 0
                break
            frame = frame.f_back


def _describe(child: psutil.Process) -> str:
    try:
        return f"{child.pid} ({child.status()}): {' '.join(child.cmdline())}"
    except (
        psutil.ZombieProcess
    ):  # it has a name still, but no command line, unless it is reaped in this moment
        with contextlib.suppress(psutil.NoSuchProcess):
            return f"{child.pid} (zombie): {child.name()}"
    except psutil.NoSuchProcess:
        pass
    return str(child.pid)


def _clean_up(before: Snapshot) -> None:
    """End what was leaked where that is possible, so that one leak fails one test."""
    now = Snapshot()
    for child in now.children - before.children:
        with contextlib.suppress(psutil.Error, ChildProcessError):
            child.kill()
            os.waitpid(child.pid, 0)
    for path in sorted(now.files - before.files, reverse=True):
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
