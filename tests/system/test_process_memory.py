"""Whose memory is counted: trees by the parent's pid, as it was when the process was first seen."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from penstock.system import features, process_memory
from penstock.system.process_memory import ProcessTreeMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Machine:
    """Processes that a test makes and ends; each holds as many bytes as its pid says."""

    def __init__(self) -> None:
        self.processes: dict[int, tuple[int, int]] = {1: (0, 1), 50: (1, 50)}
        self.made = 0
        self.listings = 0
        self.reads = 0

    def fork(self, pid: int, parent: int, group: int = 1) -> None:
        self.processes[pid] = (parent, group)
        self.made += 1

    def end(self, pid: int) -> None:
        """End it; its children become init's."""
        del self.processes[pid]
        for child, (parent, group) in self.processes.items():
            if parent == pid:
                self.processes[child] = (1, group)

    def newest(self) -> object:
        return self.made

    def pids(self) -> Iterable[int]:
        self.listings += 1
        return list(self.processes)

    def origin(self, pid: int) -> tuple[int, int] | None:
        self.reads += 1
        return self.processes.get(pid)

    def anonymous(self, pid: int) -> int | None:
        return pid if pid in self.processes else None


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Without the rest between two listings, which goes by the real clock."""
    monkeypatch.setattr(process_memory, "_MAX_LIST_DELAY_S", 0.0)
    return Machine()


@pytest.mark.gotcha(22)
def test_a_tree_is_a_process_and_all_that_comes_from_it(machine: Machine) -> None:
    """In any order of pids, and nobody else."""
    census = ProcessTreeMemory(machine)
    machine.fork(100, 50)
    census.add(100)
    machine.fork(30, 200)
    machine.fork(200, 100)
    machine.fork(40, 50)
    census.refresh()
    assert census.members(100) == {100, 200, 30}
    assert census.used(100) == 330


def test_one_whose_parent_dies_stays_in_its_tree(machine: Machine) -> None:
    """And what it starts then belongs there too."""
    census = ProcessTreeMemory(machine)
    machine.fork(100, 50)
    census.add(100)
    machine.fork(200, 100)
    machine.fork(300, 200)
    census.refresh()
    machine.end(200)
    machine.fork(400, 300)
    census.refresh()
    assert census.used(100) == 100 + 300 + 400


def test_an_orphan_that_was_never_seen_is_found_by_its_group(machine: Machine) -> None:
    """Only one that has left the group as well is lost."""
    census = ProcessTreeMemory(machine)
    machine.fork(100, 50, 100)
    census.add(100)
    machine.fork(200, 1, 100)
    machine.fork(300, 1, 300)
    census.refresh()
    assert census.members(100) == {100, 200}


def test_processes_seen_before_their_root_was_asked_about_are_in_the_tree(machine: Machine) -> None:
    """A look may fall between a command's start and the beginning of its watch."""
    census = ProcessTreeMemory(machine)
    machine.fork(100, 50)
    machine.fork(200, 100)
    machine.fork(300, 200)
    machine.fork(60, 50)
    census.refresh()
    census.add(100)
    assert census.members(100) == {100, 200, 300}


def test_ended_processes_are_forgotten_and_a_reused_pid_is_a_stranger(machine: Machine) -> None:
    """The next process with that pid is judged by its own parent."""
    census = ProcessTreeMemory(machine)
    machine.fork(100, 50)
    census.add(100)
    machine.fork(200, 100)
    census.refresh()
    machine.end(200)
    machine.fork(201, 50)  # and many more: numbers come round again only after all others
    census.refresh()
    machine.fork(200, 50)
    census.refresh()
    assert census.used(100) == 100
    census.remove(100)
    machine.fork(300, 100)
    census.refresh()
    with pytest.raises(KeyError):
        census.members(100)


def test_only_new_processes_are_read(machine: Machine) -> None:
    """That is what makes it cheap."""
    census = ProcessTreeMemory(machine)
    machine.fork(100, 50)
    census.add(100)
    census.refresh()
    listings, reads = machine.listings, machine.reads
    for _ in range(10):
        census.refresh()
        assert census.used(100) == 100
    assert (machine.listings, machine.reads) == (listings, reads)
    machine.fork(200, 100)
    census.refresh()
    assert (machine.listings, machine.reads) == (listings + 1, reads + 1)


def test_all_processes_are_listed_if_the_kernel_does_not_count_new_ones(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in gVisor, or on macOS."""
    monkeypatch.setattr(machine, "newest", lambda: None)
    census = ProcessTreeMemory(machine)
    census.add(50)
    machine.fork(200, 50)
    census.refresh()
    assert census.members(50) == {50, 200}


ALLOCATE = "import sys; data = b'x' * {size}; print(flush=True); sys.stdin.read()"


@pytest.fixture
def hold() -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Start an interpreter that holds memory until its stdin is closed."""
    started: list[subprocess.Popen[bytes]] = []

    def hold(program: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
        )
        started.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        return child

    yield hold
    for child in started:
        child.communicate()


@pytest.mark.parametrize("procfs", [True, False], ids=["procfs", "psutil"])
def test_real_processes_are_measured(
    procfs: bool,  # noqa: FBT001
    hold: Callable[[str], subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A child and its own child; both ways agree with each other within what the interpreter itself takes."""
    monkeypatch.setattr(features, "PROCFS", procfs)
    inner = ALLOCATE.format(size=60_000_000)
    child = hold(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])")
    census = ProcessTreeMemory()
    census.add(child.pid)
    census.refresh()
    assert len(census.members(child.pid)) == 2
    assert 60_000_000 < census.used(child.pid) < 90_000_000


def test_the_figures_are_those_of_psutil(hold: Callable[[str], subprocess.Popen[bytes]]) -> None:
    """`rss - shared`, to the page, of a process at rest."""
    child = hold(ALLOCATE.format(size=20_000_000))
    census = ProcessTreeMemory()
    census.add(child.pid)
    info = psutil.Process(child.pid).memory_info()
    assert abs(census.used(child.pid) - (info.rss - info.shared)) <= 64 * os.sysconf("SC_PAGESIZE")


def test_without_procfs_and_psutil_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as somebody asks, not at the first look."""
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "psutil":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    process_memory.require()
    monkeypatch.setattr(builtins, "__import__", without)
    process_memory.require()
    monkeypatch.setattr(features, "PROCFS", False)
    with pytest.raises(ImportError, match=r"pip install 'penstock\[limits\]'"):
        process_memory.require()
