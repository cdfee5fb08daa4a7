# The functions of `os` are what these tests are about.
# ruff: noqa: PTH101, PTH108, PTH109, PTH118, PTH123
"""Every promise of `spawn`, kept by either mechanism."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

import penstock
from penstock.system import fds, features, process, spawn, spawn_launcher, spawn_subprocess
from penstock.system.spawn_request import SpawnRecord, SpawnRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.hosts import Host

pytestmark = pytest.mark.usefixtures("spawner")


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Callable[[str], int]]:
    """Open files for reading and writing by name, for the length of a test."""
    opened: list[int] = []

    def open_file(name: str) -> int:
        opened.append(os.open(tmp_path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC))
        return opened[-1]

    yield open_file
    for number in opened:
        os.close(number)


def test_arguments_and_environment_arrive_as_they_are(output: Callable[..., bytes]) -> None:
    """Bytes, text beyond ASCII, undecodable bytes, spaces, quotes and empty strings."""
    argv = ["x y", "ü", "", "'\"$", os.fsdecode(b"\xff\xfe")]
    assert output("printf", "%s|", *argv, b"\xfd") == b"".join(os.fsencode(a) + b"|" for a in argv) + b"\xfd|"
    env = {"PLAIN": "1", "EMPTY": "", "ODD": os.fsdecode(b"\xff="), "ÜBER": "ä\nb"}
    entries = output("/usr/bin/env", "-0", env=env).split(b"\0")[:-1]
    assert entries == [os.fsencode(f"{name}={value}") for name, value in env.items()]
    assert output("/usr/bin/env", env={}) == b""


def test_the_first_argument_need_not_be_the_program() -> None:
    """The name in argv is what the child sees; the file is what is run."""
    reader, writer = fds.pipe()
    stdio = 0, writer.fileno(), 2
    pid = spawn.spawn(SpawnRequest("/bin/sh", ["other name", "-c", "echo $0"], {}, stdio=stdio))
    writer.close()
    os.waitpid(pid, 0)
    assert os.read(reader.fileno(), 100) == b"other name\n"
    reader.close()


@pytest.mark.parametrize("place", ["argv", "env", "env name", "executable", "cwd"])
def test_a_nul_byte_is_refused(place: str) -> None:
    """C would end the string there, silently."""
    executable = "/bin/true\0x" if place == "executable" else "/bin/true"
    argv = ["a\0b"] if place == "argv" else ["true"]
    env = {"A\0": "b"} if place == "env name" else {"A": "b\0c"} if place == "env" else {}
    cwd = "/\0tmp" if place == "cwd" else None
    with pytest.raises(ValueError, match="null byte"):
        spawn.spawn(SpawnRequest(executable, argv, env, cwd))


@pytest.mark.parametrize("cwd", [None, "/usr/bin", "/"])
def test_the_child_runs_in_the_folder_asked_for(output: Callable[..., bytes], cwd: str | None) -> None:
    """And in the caller's where none is."""
    assert output("/bin/pwd", cwd=cwd).decode().strip() == (cwd or os.getcwd())


def test_the_child_has_three_descriptors(output: Callable[..., bytes]) -> None:
    """Gotcha 23: not even one that is inheritable and has a high number comes along."""
    reader, writer = os.pipe()
    high = os.dup2(reader, 200)  # inheritable, as dup2 makes it
    os.set_inheritable(writer, True)  # noqa: FBT003
    try:
        assert output("ls", "/proc/self/fd").split() == [b"0", b"1", b"2", b"3"]  # 3 is the listing's own
    finally:
        for number in (reader, writer, high):
            os.close(number)


def test_pipes_close_although_other_threads_start_children(start: Any, finish: Any) -> None:
    """Gotcha 23: `cat` ends when its stdin is closed, while children that other threads started live on."""
    failures: list[BaseException] = []

    def one() -> None:
        try:
            for _ in range(5):
                reader, writer = fds.pipe()
                child = start("cat", stdin=reader.fileno())
                start("sleep", "1000")
                reader.close()
                writer.close()
                assert finish(child).returncode == 0
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_signals_are_at_their_defaults_and_none_is_blocked(output: Callable[..., bytes]) -> None:
    """Whatever the host ignores, Python (SIGPIPE) or the program in it, and whichever thread starts it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGINT, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    try:
        status = dict(line.split(b":\t") for line in output("cat", "/proc/self/status").splitlines())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGINT, before[1])
    # Signals 32 and 33 are the C library's own: no program can set them, and a runner may have been started
    # with them ignored.
    libc = 0b11 << 31
    found = {name: int(status[name], 16) & ~libc for name in (b"SigBlk", b"SigIgn", b"SigCgt")}
    assert found == {
        b"SigBlk": 0,
        b"SigIgn": 0,
        b"SigCgt": 0,
    }


def test_the_promises_hold_also_where_signals_must_be_put_right(output: Callable[..., bytes]) -> None:
    """The launcher of the fallback is not seen: same environment, arguments, folder and descriptors."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert output("ls", "/proc/self/fd").split() == [b"0", b"1", b"2", b"3"]
        assert output("/usr/bin/env", env={"ONE": "1", "ODD": "a=b\n"}) == b"ONE=1\nODD=a=b\n\n"
        assert output("/bin/pwd", cwd="/usr") == b"/usr\n"
        assert len(output("printf", "%s", "x" * 100_000)) == 100_000
        with pytest.raises(OSError, match=rf"\[Errno {errno.ENOEXEC}\]"):
            _spawn_file(b"no magic")
        with pytest.raises(FileNotFoundError):
            _spawn("/nowhere/at/all")
        with pytest.raises(OSError, match=rf"\[Errno {errno.E2BIG}\]"):
            _spawn("/bin/true", "x" * (256 * 1024))
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("group", [True, False])
def test_the_child_leads_a_group_where_asked(start: Any, group: bool) -> None:  # noqa: FBT001
    """From before its program runs, so the parent may signal the group at once."""
    child = start("sleep", "1000", group=group)
    assert os.getpgid(child.pid) == (child.pid if group else os.getpgrp())


@pytest.mark.parametrize("cwd", ["/nowhere", "/etc/passwd"])
def test_a_wrong_folder_is_an_error_of_the_spawn(cwd: str) -> None:
    """Not an exit status of the child."""
    with pytest.raises(OSError, match="Errno") as caught:
        _spawn("/bin/true", cwd=cwd)
    assert caught.value.errno == (errno.ENOENT if cwd == "/nowhere" else errno.ENOTDIR)


@pytest.mark.parametrize(
    ("content", "mode", "number"),
    [
        (b"no magic", 0o755, errno.ENOEXEC),
        (b"", 0o755, errno.ENOEXEC),
        (b"#!/nowhere/at/all\n", 0o755, errno.ENOENT),
        (b"#!/bin/sh\n", 0o644, errno.EACCES),
    ],
)
def test_the_error_of_execve_is_raised(content: bytes, mode: int, number: int) -> None:
    """ENOEXEC too: there is no second try with a shell, as posix_spawnp and execvp make."""
    with pytest.raises(OSError, match="Errno") as caught:
        _spawn_file(content, mode)
    assert caught.value.errno == number


def test_too_long_an_argument_is_raised() -> None:
    """One string is limited to 128 KiB: execve(2)."""
    with pytest.raises(OSError, match="Errno") as caught:
        _spawn("/bin/true", "x" * (256 * 1024))
    assert caught.value.errno == errno.E2BIG


@pytest.mark.parametrize("ignored", [signal.SIG_DFL, signal.SIG_IGN], ids=["plain", "under nohup"])
def test_a_closed_source_is_an_error(ignored: signal.Handlers) -> None:
    """And not a child without that stream, or with a pipe of the spawn's own that has got its number."""
    before = signal.signal(signal.SIGHUP, ignored)
    reader, writer = fds.pipe()
    number = reader.fileno()
    reader.close()
    try:
        with pytest.raises(OSError, match="Errno") as caught:
            _spawn("/bin/true", stdin=number)
    finally:
        writer.close()
        signal.signal(signal.SIGHUP, before)
    assert caught.value.errno == errno.EBADF


def test_one_descriptor_can_be_all_three(
    start: Any, finish: Any, files: Callable[[str], int], tmp_path: Path
) -> None:
    """As a pseudo terminal is; and it stays open here."""
    number = files("all")
    os.write(number, b"input\n")
    os.lseek(number, 0, os.SEEK_SET)
    child = start("sh", "-c", "read x; echo $x out; echo err >&2", stdin=number, stdout=number, stderr=number)
    assert finish(child).returncode == 0
    assert (tmp_path / "all").read_text() == "input\ninput out\nerr\n"
    os.fstat(number)


SHUFFLE = """
import itertools, os
from penstock.system import features, spawn
from penstock.system.spawn_request import SpawnRequest
features.GLIBC_SPAWN = {glibc}
results = os.path.dirname(os.environ["RESULT"])
# 0, 1 and 2 become three files, close-on-exec as Python's own; then every assignment is tried.
for number in range(3):
    file = os.open(results + f"/file{{number}}", os.O_RDWR | os.O_CREAT)
    os.dup2(file, number, inheritable=False)
    os.close(file)
wrong = []
for sources in itertools.product((0, 1, 2, None), repeat=3):
    pid = spawn.spawn(SpawnRequest("/bin/sh", ["sh", "-c", "kill -STOP $$"], os.environ, stdio=sources))
    os.waitpid(pid, os.WUNTRACED)  # it has stopped itself, so its loader has closed the libraries again
    folder = f"/proc/{{pid}}/fd/"
    names = {{int(n): os.path.basename(os.readlink(folder + n)) for n in os.listdir(folder)}}
    links = {{n: None if name == "null" else int(name[-1:]) for n, name in names.items()}}
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    if links != dict(enumerate(sources)):
        wrong.append((sources, links))
with open(os.environ["RESULT"], "w") as result:
    inheritable = [os.get_inheritable(number) for number in range(3)]
    result.write(repr((wrong, inheritable, len(os.listdir("/proc/self/fd")) - 1)))
"""


@pytest.mark.slow
def test_0_1_and_2_can_be_swapped_in_every_way(spawner: str, host: Host) -> None:
    """All 64 assignments of them and /dev/null, from close-on-exec descriptors; the parent keeps its own,
    nothing else is left.
    """
    assert host.run(SHUFFLE.format(glibc=spawner == "glibc"), shell='exec "$@"', prelude="").result == repr(
        ([], [False] * 3, 4)
    )


CLOSED = """
import os
from penstock.system import fds, features, spawn
from penstock.system.spawn_request import SpawnRequest
features.GLIBC_SPAWN = {glibc}
reader, writer = fds.pipe()
above = min(reader.fileno(), writer.fileno()) > 2
stdio = {stdin}, writer.fileno(), {stderr}
pid = spawn.spawn(SpawnRequest("/bin/sh", ["sh", "-c", "kill -STOP $$"], os.environ, "/", stdio, True))
os.waitpid(pid, os.WUNTRACED)  # it has stopped itself, so its loader has closed the libraries again
links = {{int(n): os.readlink(f"/proc/{{pid}}/fd/{{n}}")[:9] for n in os.listdir(f"/proc/{{pid}}/fd")}}
pipe = os.readlink(f"/proc/self/fd/{{writer.fileno()}}")[:9]
os.kill(pid, 9)
os.waitpid(pid, 0)
with open(os.environ["RESULT"], "w") as result:
    result.write(repr((above, links == {{0: "/dev/null", 1: pipe, 2: "/dev/null"}})))
"""


@pytest.mark.slow
@pytest.mark.parametrize("stdin", [0, None])
@pytest.mark.parametrize("stderr", [1, 2, None])
def test_a_host_without_0_1_and_2_can_start_children(
    spawner: str, host: Host, stdin: int | None, stderr: int | None
) -> None:
    """The pipe does not take their numbers, and the child gets /dev/null for what it should inherit."""
    program = CLOSED.format(glibc=spawner == "glibc", stdin=stdin, stderr=stderr)
    assert host.run(program, shell='exec "$@" <&- >&- 2>&-', prelude="").result == repr((True, True))


def test_dev_null_needs_no_descriptor_here(spawner: str) -> None:
    """The child opens it for itself, in the place of what it closes there: so also where none is left."""
    if spawner != "glibc":
        pytest.skip("subprocess opens it in the parent")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208
    made: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, limits[1]))
        with contextlib.suppress(OSError):
            while True:
                made.append(os.dup(0))
        pid = spawn.spawn(SpawnRequest("/bin/true", ["true"], {}, stdio=(None, None, None)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for number in made:
            os.close(number)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_missing_dev_null_is_what_the_error_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a chroot without one; not the program, which is there."""
    monkeypatch.setattr(os, "devnull", "/nowhere/null")
    with pytest.raises(penstock.StartError, match="/nowhere/null") as caught:
        penstock.command("true").run(stdout=penstock.DEVNULL)
    assert isinstance(caught.value.cause, OSError)
    assert caught.value.cause.errno == errno.ENOENT
    with pytest.raises(penstock.StartError, match="/nowhere/null"):
        penstock.command("true").run(stderr=penstock.STDOUT)  # where 1 has to be moved out of the way first
    with pytest.raises(penstock.StartError, match="no such program"):
        penstock.command("no-such-program").run(stdin=penstock.INHERIT, stdout=penstock.CAPTURE)


def test_a_child_is_nobodys_but_ours(start: Any, finish: Any) -> None:
    """No Popen object waits for it, warns of it, or puts it on a list that later ones poll."""
    child = start("sh", "-c", "exit 3")
    gc.collect()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert getattr(subprocess, "_active", []) == []
    subprocess.run(["true"], check=True)  # polls that list
    gc.collect()
    assert finish(child).returncode == 3


def test_an_interrupt_in_the_call_leaves_no_child(spawner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """KeyboardInterrupt may come after the child was made and before anyone knows its pid."""
    if spawner == "glibc":
        from penstock.system import spawn_glibc

        original = spawn_glibc._posix_spawn

        def interrupted(*args: Any) -> None:
            original(*args)
            raise KeyboardInterrupt

        monkeypatch.setattr(spawn_glibc, "_posix_spawn", interrupted)
    else:
        execute = subprocess.Popen._execute_child  # type: ignore[attr-defined]

        def interrupted_too(*args: Any) -> None:
            execute(*args)
            raise KeyboardInterrupt

        monkeypatch.setattr(subprocess.Popen, "_execute_child", interrupted_too)
    with pytest.raises(KeyboardInterrupt):
        _spawn("/bin/sleep", "1000")  # the leak check sees whether the child is gone


@pytest.mark.usefixtures("spawner")
def test_the_record_knows_a_child_that_was_started_and_none_that_was_not() -> None:
    """By both mechanisms."""
    record = SpawnRecord()
    with pytest.raises(FileNotFoundError):
        spawn.spawn(SpawnRequest("/nowhere/at/all", ["x"], {}), record)
    assert record.pids() == []
    pid = spawn.spawn(SpawnRequest("/bin/true", ["true"], {}), record)
    assert record.pids() == [pid]
    os.waitpid(pid, 0)
    record.discard(pid)
    assert record.pids() == []


def test_without_ctypes_or_its_symbols_the_fallback_takes_over(
    monkeypatch: pytest.MonkeyPatch, start: Any, finish: Any
) -> None:
    """As on another C library, or a Python that was built without ctypes."""
    monkeypatch.setattr(features, "GLIBC_SPAWN", True)
    monkeypatch.setattr(spawn, "_loaded", None)
    monkeypatch.setitem(sys.modules, "penstock.system.spawn_glibc", None)
    monkeypatch.delattr("penstock.system.spawn_glibc", raising=False)
    assert finish(start("true")).returncode == 0
    assert not features.GLIBC_SPAWN


def test_a_mechanism_that_lacked_a_descriptor_to_load_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, start: Any, finish: Any
) -> None:
    """The fallback takes over for the moment, not for good."""

    class Exhausted:
        @staticmethod
        def find_spec(name: str, _path: object = None, _target: object = None) -> None:
            if name == "penstock.system.spawn_glibc":
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    if not features.GLIBC_SPAWN:
        pytest.skip("no glibc of 2.34 or later here")
    monkeypatch.setattr(spawn, "_loaded", None)
    monkeypatch.delitem(sys.modules, "penstock.system.spawn_glibc", raising=False)
    monkeypatch.delattr("penstock.system.spawn_glibc", raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "meta_path", [Exhausted, *sys.meta_path])
        assert finish(start("true")).returncode == 0
        assert "penstock.system.spawn_glibc" not in sys.modules
    assert features.GLIBC_SPAWN
    assert finish(start("true")).returncode == 0
    assert "penstock.system.spawn_glibc" in sys.modules


def test_a_program_that_is_not_python_is_never_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a frozen or embedding program `sys.executable` would start that program again."""
    for name, value in (("executable", "/usr/bin/blender"), ("executable", ""), ("frozen", True)):
        with monkeypatch.context() as patch:
            patch.setattr(sys, name, value, raising=False)
            assert spawn_launcher.interpreter() is None


def test_a_launcher_that_fails_is_an_error_and_is_reaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not pass for the program."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    monkeypatch.setattr(spawn_subprocess, "_needs_launcher", lambda _request: True)
    monkeypatch.setattr(features, "GLIBC_SPAWN", False)
    with pytest.raises(ChildProcessError, match="launcher"):
        _spawn("/bin/true")


def test_importing_penstock_does_not_import_ctypes(host: Host) -> None:
    """The first spawn does."""
    program = """
import os, sys
before = set(sys.modules)
from penstock.system import spawn, process, poller, procfs, executables
after = set(sys.modules) - before
from penstock.system.spawn_request import SpawnRequest
spawn.spawn(SpawnRequest("/bin/true", ["true"], {}))
with open(os.environ["RESULT"], "w") as result:
    result.write(repr(("ctypes" in after, "ctypes" in sys.modules)))
os.wait()
"""
    assert host.run(program, prelude="").result == repr((False, features._has_glibc_spawn()))


def _spawn(*argv: str, cwd: str | None = None, stdin: int = 0) -> None:
    """Start what cannot start; should it start all the same, it does not outlive the test."""
    pid = spawn.spawn(SpawnRequest(argv[0], argv, {}, cwd, stdio=(stdin, 1, 2)))
    process.kill_and_reap(pid)


def _spawn_file(content: bytes, mode: int = 0o755) -> None:
    """Start a file of that content."""
    path = os.path.join(os.environ["TMPDIR"], "file")
    with open(path, "wb") as file:
        file.write(content)
    try:
        os.chmod(path, mode)
        _spawn(path)
    finally:
        os.unlink(path)
