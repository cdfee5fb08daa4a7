"""The leak check of conftest.py finds what it is there for, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from penstock.runtime.thread_pool import submit

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Snapshot

CONFTEST = Path(__file__).with_name("conftest.py")

LEAKING_TESTS = """
import os, subprocess, tempfile, threading

def test_descriptor():
    os.open(os.devnull, os.O_RDONLY)

def test_thread():
    threading.Thread(target=threading.Event().wait, daemon=True, name="forgotten").start()

def test_child():
    global child
    child = subprocess.Popen(["sleep", "1000"])

def test_zombie():
    if os.fork() == 0:
        os._exit(0)

def test_file():
    os.close(tempfile.mkstemp(suffix="forgotten")[0])

def test_clean():
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    subprocess.run(["true"], check=True)
"""


def test_nothing_is_found_if_nothing_leaked(snapshot: Callable[[], Snapshot]) -> None:
    """Work that cleans up after itself leaves two equal snapshots."""
    before = snapshot()
    with tempfile.TemporaryFile():
        subprocess.run(["true"], check=True)
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    assert before.leaks() == []


def test_an_open_descriptor_is_named_with_its_target(snapshot: Callable[[], Snapshot]) -> None:
    """A descriptor is reported by number and by what it refers to."""
    before = snapshot()
    fd = os.open(os.devnull, os.O_RDONLY)
    try:
        assert before.leaks(settle=0) == [f"descriptor {fd}: {os.devnull}"]
    finally:
        os.close(fd)


def test_a_descriptor_number_that_changed_its_target_is_a_leak(snapshot: Callable[[], Snapshot]) -> None:
    """Comparing numbers alone would miss a descriptor that replaced another."""
    read, write = os.pipe()
    before = snapshot()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, read)
    os.close(null)
    try:
        assert before.leaks(settle=0) == [f"descriptor {read}: {os.devnull}"]
    finally:
        os.close(read)
        os.close(write)


def test_a_thread_is_named(snapshot: Callable[[], Snapshot]) -> None:
    """A thread that still runs is reported by its name."""
    before = snapshot()
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="forgotten")
    thread.start()
    try:
        assert before.leaks(settle=0) == ["thread 'forgotten'"]
    finally:
        release.set()
        thread.join()


def test_the_supervisor_is_not_a_leak(snapshot: Callable[[], Snapshot]) -> None:
    """The supervisor stays by design."""
    before = snapshot()
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="penstock-supervisor")
    thread.start()
    try:
        assert before.leaks(settle=0) == []
    finally:
        release.set()
        thread.join()


def test_an_idle_worker_is_not_a_leak_and_a_busy_one_is(snapshot: Callable[[], Snapshot]) -> None:
    """A worker that waits for its next task stays by design; one that still serves a run does not."""
    before = snapshot()
    working, release = threading.Event(), threading.Event()

    def work() -> None:
        working.set()
        release.wait()

    submit(work)
    working.wait()
    try:
        (leak,) = before.leaks(settle=0)
    finally:
        release.set()
    assert leak.startswith("thread 'penstock-worker")
    assert before.leaks() == []


def test_a_thread_that_is_about_to_end_is_waited_for(snapshot: Callable[[], Snapshot]) -> None:
    """What goes away by itself within the deadline is no leak."""
    before = snapshot()
    release = threading.Event()

    class Ending(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            release.set()  # only now, so that the first comparison finds it alive
            super().join(timeout)

    Ending(target=release.wait).start()
    assert before.leaks() == []


def test_a_running_child_and_a_zombie_are_named(snapshot: Callable[[], Snapshot]) -> None:
    """A child is reported while it runs, and also when it has exited and nobody has reaped it."""
    before = snapshot()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        leaks = [leak for leak in before.leaks(settle=0) if leak.startswith("child")]
        assert len(leaks) == 1
        assert leaks[0].startswith(f"child process {child.pid} (")
        assert leaks[0].endswith(": cat")
        assert child.stdin is not None
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert before.leaks(settle=0) == [f"child process {child.pid} (zombie): cat"]
    assert before.leaks() == []


def test_a_temporary_file_is_named(snapshot: Callable[[], Snapshot]) -> None:
    """A file in the temporary folder, however deep, is reported by its path."""
    before = snapshot()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "forgotten")
        path.touch()
        assert before.leaks(settle=0) == [f"temporary file {folder}", f"temporary file {path}"]
    assert before.leaks() == []


def test_children_use_the_same_temporary_folder() -> None:
    """What a child process leaves in its temporary folder is seen too."""
    code = "import tempfile; print(tempfile.gettempdir())"
    shown = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert shown.strip() == tempfile.gettempdir()


@pytest.mark.slow
def test_each_leaking_test_fails(tmp_path: Path) -> None:
    """Under pytest itself: each kind of leak fails its own test, and only that."""
    (tmp_path / "conftest.py").write_text(
        CONFTEST.read_text().replace("SETTLE_SECONDS = 5.0", "SETTLE_SECONDS = 0.1"), encoding="utf-8"
    )
    (tmp_path / "test_leaking.py").write_text(LEAKING_TESTS, encoding="utf-8")
    options = ["-c", os.devnull, f"--rootdir={tmp_path}", f"--basetemp={tmp_path / 'base'}", "-rA"]
    plugins = ["-p", "no:cacheprovider", "-p", "no:randomly"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *plugins, "test_leaking.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CONFTEST.parents[1])},  # for the plugin of shared fixtures
    )
    summary = ended.stdout.partition("short test summary info")[2].splitlines()
    failed = {line.rpartition("::")[2].split()[0] for line in summary if line.startswith("ERROR")}
    expected = {"test_descriptor", "test_thread", "test_child", "test_zombie", "test_file"}
    assert failed == expected, ended.stdout
    assert "thread 'forgotten'" in ended.stdout
    assert "sleep 1000" in ended.stdout
