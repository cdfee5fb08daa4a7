"""The step between a spawn and the program: what is set there, and that nothing else can be told."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from penstock.system import fds, features, process, spawn, spawn_launcher
from penstock.system.executables import SetupError, explain_failure
from penstock.system.spawn_launcher import ChildSetup
from penstock.system.spawn_request import SpawnRecord, SpawnRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(params=["glibc", "subprocess"], autouse=True)
def _mechanism(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By either way of starting the launcher."""
    monkeypatch.setattr(features, "GLIBC_SPAWN", request.param == "glibc")


@pytest.fixture
def output() -> Callable[..., bytes]:
    """Start a program by way of a launcher, and return what it writes."""

    def output(*argv: str, setup: ChildSetup | None = None, group: bool = False, **options: Any) -> bytes:
        reader, writer = fds.pipe()
        settings: dict[str, Any] = {"env": {"ONE": "1"}, **options}
        request = SpawnRequest(
            argv[0],
            argv,
            stdio=(0, writer.fileno(), 2),
            process_group=group,
            setup=setup or ChildSetup(),
            **settings,
        )
        pid = spawn.spawn(request)
        writer.close()
        with os.fdopen(reader.detach(), "rb") as file:
            written = file.read()
        os.waitpid(pid, 0)
        return written

    return output


def test_the_program_sees_nothing_of_it(output: Callable[..., bytes]) -> None:
    """Its environment, arguments, folder, descriptors and group are those that were asked for."""
    odd = {"PATH": "/bin", "A.B": "dots", "LC_ALL": "C", "ODD": "a=b\n", "BYTES": "\udcff"}
    assert output("/usr/bin/env", "-0", env=odd).split(b"\0")[:-1] == [
        os.fsencode(f"{name}={value}") for name, value in odd.items()
    ]
    assert output("/usr/bin/env", env={}) == b""
    assert output("/bin/pwd", cwd="/usr") == b"/usr\n"
    assert output("/bin/ls", "/proc/self/fd").split() == [b"0", b"1", b"2", b"3"]  # 3 is the folder
    assert len(output("/usr/bin/printf", "%s", "x" * 100_000)) == 100_000
    group, pid = output("/bin/sh", "-c", "ps -o pgid= -p $$; echo $$", group=True).split()
    assert group == pid


def test_signals_are_at_their_defaults(output: Callable[..., bytes]) -> None:
    """Also those that Python ignores for itself, and what the host ignores or blocks."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        status = output("/bin/cat", "/proc/self/status")
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    found = dict(
        line.split(b":\t") for line in status.splitlines() if line.startswith(b"Sig") and b"Q" not in line
    )
    # Two belong to the C library, which may leave them ignored: 32 and 33.
    assert {int(found[name], 16) & ~(3 << 31) for name in (b"SigBlk", b"SigIgn", b"SigCgt")} == {0}


def test_rlimits_and_niceness_are_set_before_the_program_begins(output: Callable[..., bytes]) -> None:
    """Soft and hard, to the byte."""
    setup = ChildSetup(nice=3, rlimits={"NOFILE": (50, 60), "FSIZE": (1001, 1001), "DATA": (10**8, 10**8)})
    limits = output("/bin/cat", "/proc/self/limits", setup=setup).decode()
    rows = {line[:25].strip(): line[25:].split()[:2] for line in limits.splitlines()}
    assert rows["Max open files"] == ["50", "60"]
    assert rows["Max file size"] == ["1001", "1001"]
    assert rows["Max data size"] == ["100000000", "100000000"]
    assert int(output("/usr/bin/nice", setup=setup)) == os.nice(0) + 3


def test_a_limit_past_our_own_is_our_own(output: Callable[..., bytes]) -> None:
    """What may not be raised is no error: the program has no more than was asked for."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        pytest.skip("there is no limit here")
    shown = output("/bin/sh", "-c", "ulimit -n", setup=ChildSetup(rlimits={"NOFILE": (hard * 2, hard * 2)}))
    assert int(shown) == hard


def test_a_limit_below_the_launchers_own_use_does_not_hinder_it(output: Callable[..., bytes]) -> None:
    """It is set last, and the program begins with nothing."""
    setup = ChildSetup(rlimits={"DATA": (2_000_000, 2_000_000), "NOFILE": (4, 4)})
    assert output("/bin/sh", "-c", "ulimit -d", setup=setup) == b"1953\n"


def test_a_group_is_joined(output: Callable[..., bytes], tmp_path: Path) -> None:
    """By a 0 written to its file."""
    joined = tmp_path / "cgroup.procs"
    joined.touch()
    assert output("/bin/cat", str(joined), setup=ChildSetup(groups=[str(joined)])) == b"0"


def _start(*argv: str, setup: ChildSetup | None = None, **options: Any) -> None:
    settings: dict[str, Any] = {"env": {}, **options}
    pid = spawn.spawn(SpawnRequest(argv[0], argv, setup=setup or ChildSetup(), **settings))
    process.kill_and_reap(pid)


def test_a_program_that_cannot_be_executed_is_reported_as_by_a_direct_start(tmp_path: Path) -> None:
    """With the kernel's own errno."""
    file = tmp_path / "program"
    file.write_bytes(b"no magic")
    file.chmod(0o755)
    with pytest.raises(OSError, match=rf"\[Errno {errno.ENOEXEC}\]"):
        _start(str(file))
    file.chmod(0o644)
    with pytest.raises(PermissionError):
        _start(str(file))
    with pytest.raises(FileNotFoundError):
        _start("/nowhere/at/all")
    with pytest.raises(FileNotFoundError):
        _start("/bin/true", cwd="/nowhere")
    with pytest.raises(OSError, match=rf"\[Errno {errno.E2BIG}\]"):
        _start("/bin/true", "x" * (256 * 1024))
    with pytest.raises(ValueError, match="null"):
        _start("/bin/true", "a\0b")
    with pytest.raises(ValueError, match="null"):
        _start("/bin/true", env={"A": "\0"})


def test_a_failed_setting_is_named_and_not_blamed_on_the_program() -> None:
    """It keeps its errno, and its text through `explain_failure`."""
    with pytest.raises(SetupError, match="cgroup /nowhere could not be joined") as caught:
        _start("/bin/true", setup=ChildSetup(groups=["/nowhere/cgroup.procs"]))
    assert caught.value.errno == errno.ENOENT
    assert explain_failure(caught.value, program="true", executable="/bin/true", cwd=None) is caught.value
    with pytest.raises(SetupError, match="RLIMIT_NOFILE could not be set"):
        _start("/bin/true", setup=ChildSetup(rlimits={"NOFILE": (5, 4)}))


class Other:
    """Another child of the same start."""

    pid = 1


def test_a_launcher_that_fails_takes_its_own_child_out_of_the_record_and_no_other() -> None:
    """So that an interrupt which comes later does not kill a process that has got its pid."""
    record = SpawnRecord()
    record.add(Other())
    setup = ChildSetup(rlimits={"NOFILE": (5, 4)})
    with pytest.raises(SetupError):
        spawn.spawn(SpawnRequest("/bin/true", ["true"], {}, setup=setup), record)
    assert record.pids() == [1]


def test_the_arguments_that_everybody_may_read_hold_no_secret(
    output: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program's environment goes to the launcher through a pipe."""
    seen: list[Any] = []
    real = spawn_launcher.launch

    def launch(start: Callable[[SpawnRequest], int], *given: Any) -> int:
        def watched(launcher: SpawnRequest) -> int:
            seen.extend(launcher.argv)
            return start(launcher)

        return real(watched, *given)

    monkeypatch.setattr(spawn_launcher, "launch", launch)
    assert b"hunter2" in output("/usr/bin/env", env={"PASSWORD": "hunter2"})
    assert seen
    assert "hunter2" not in "".join(map(str, seen))


def test_without_an_interpreter_limits_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen program would start itself."""
    monkeypatch.setattr(sys, "executable", "/usr/bin/blender")
    with pytest.raises(RuntimeError, match=r"sys\.executable"):
        _start("/bin/true")


def test_many_descriptors_of_the_host_do_not_get_in_the_way(output: Callable[..., bytes]) -> None:
    """The numbers under which the launcher finds its two are free, taken, or taken by each other."""
    held = [os.dup(2) for _ in range(3)]
    try:
        for number in held:
            assert output("/bin/echo", "x") == b"x\n"
            os.close(number)
        held = []
    finally:
        for number in held:
            os.close(number)
