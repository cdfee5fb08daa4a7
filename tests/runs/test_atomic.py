"""`atomic(path)` and `appending(path)`: files as stdout and stderr of any run."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import pickle
import shutil
import stat
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.interrupts import Interruption
from tests.support.processes import kill_survivors, sh
from tests.support.waiting import DEADLINE, until

from penstock import (
    DEVNULL,
    STDOUT,
    Pipeline,
    PipelineCancelled,
    PipelineError,
    PipelineTimeout,
    StartError,
    appending,
    atomic,
    closing,
    command,
    function,
    map_lines,
    source,
)
from penstock.system import guardian
from penstock.system.atomic_file import AtomicFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.hosts import Host
    from tests.support.processes import Strays

ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="needs root")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of its own, so that a test sees each file in it."""
    made = tmp_path / "folder"
    made.mkdir()
    return made


def parts(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


# A success.


def _write_lines(_ctx: Any, _stdin: Any, stdout: Any) -> None:
    stdout.write(b"new\n")


WRITERS: dict[str, Callable[[], Pipeline]] = {
    "command": lambda: command("echo", "new"),
    "pipeline": lambda: command("printf", "new\\n") | command("cat"),
    "function": lambda: function(_write_lines),
    "line stage": lambda: command("echo", "NEW") | map_lines(bytes.lower),
    "source": lambda: source([b"new", b"\n"]),
    "nested": lambda: Pipeline(Pipeline(command("echo", "new"), cwd="/"), command("cat")),
    "isolated": lambda: command("echo", "NEW") | map_lines(bytes.lower, isolate="process"),
    "no stage": lambda: Pipeline(stdin=[b"new\n"]),
}
RUNS: dict[str, Callable[[Pipeline, Any], Any]] = {
    "run": lambda pipeline, target: pipeline.run(stdout=target),
    "start": lambda pipeline, target: pipeline.start(stdout=target).wait(),
    "option": lambda pipeline, target: pipeline.replace(stdout=target).run(),
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_run_that_succeeds_replaces_the_file(
    writer: str, run: str, before: bytes | None, folder: Path
) -> None:
    """Whoever writes, and however the run is started. Nothing else is left."""
    path = folder / "f"
    if before is not None:
        path.write_bytes(before)
    assert RUNS[run](WRITERS[writer](), atomic(path)).ok
    assert path.read_bytes() == b"new\n"
    assert os.listdir(folder) == ["f"]  # noqa: PTH208


async def _async_run(target: Any) -> None:
    await (command("echo", "NEW") | map_lines(bytes.lower)).arun(stdout=target)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_in_an_event_loop(backend: str, folder: Path) -> None:
    anyio = pytest.importorskip("anyio")
    anyio.run(_async_run, atomic(folder / "f"), backend=backend)
    anyio.run(_async_run, appending(folder / "g"), backend=backend)
    assert (folder / "f").read_bytes() == (folder / "g").read_bytes() == b"new\n"
    assert parts(folder) == []


def test_a_run_inside_a_run_has_its_own_verdict(folder: Path) -> None:
    def inner(_ctx: Any, _stdin: Any, _stdout: Any) -> None:
        command("echo", "inner").run(stdout=atomic(folder / "inner"))
        raise ValueError("after it")

    (folder / "outer").write_text("old")
    with pytest.raises(PipelineError):
        (function(inner) | command("cat")).run(stdout=atomic(folder / "outer"))
    assert (folder / "inner").read_text() == "inner\n"
    assert (folder / "outer").read_text() == "old"
    assert parts(folder) == []


def test_the_target_is_as_it_was_until_the_verdict(folder: Path) -> None:
    """The part lies beside it; it is locked, and its name says whose it is."""
    path = folder / "f"
    path.write_text("old")
    with sh("echo new; read line; echo $line").start(stdin=-1, stdout=atomic(path)) as run:
        until(lambda: any((folder / name).read_text() == "new\n" for name in parts(folder)))
        (part,) = parts(folder)
        assert part.startswith("f.")
        assert path.read_text() == "old"
        with (folder / part).open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert run.stdin is not None
        run.stdin.write(b"more\n")
    assert path.read_text() == "new\nmore\n"
    assert parts(folder) == []


def test_stderr_is_a_file_as_well(folder: Path) -> None:
    """Of the pipeline, of one command, and of a nested pipeline."""
    noisy = sh("echo out; echo err >&2")
    result = Pipeline(
        noisy,
        sh("cat; echo own >&2", stderr=atomic(folder / "own")),
        Pipeline(sh("cat; echo nested >&2"), stderr=atomic(folder / "nested")),
        stderr=atomic(folder / "err"),
    ).run(stdout=atomic(folder / "out"))
    assert result.ok
    found = {path.name: path.read_text() for path in folder.iterdir()}
    assert found == {"out": "out\n", "err": "err\n", "own": "own\n", "nested": "nested\n"}


def test_stderr_goes_where_stdout_goes(folder: Path) -> None:
    sh("echo a; echo b >&2").run(stdout=atomic(folder / "f"), stderr=STDOUT)
    assert (folder / "f").read_text() == "a\nb\n"


# A failure.


def _fail(_line: bytes) -> bytes:
    raise ValueError("a bad line")


FAILURES: dict[str, Callable[[Any], Any]] = {
    "exit status": lambda target: sh("echo half; exit 3").run(stdout=target),
    "an earlier stage": lambda target: (sh("echo half; exit 3") | command("cat")).run(stdout=target),
    "exception": lambda target: (command("echo") | map_lines(_fail)).run(stdout=target),
    "timeout": lambda target: sh("echo half; sleep 60").run(stdout=target, timeout=0.1),
    "missing program": lambda target: (command("echo") | command("/no/such")).run(stdout=target),
    "missing stdin": lambda target: command("cat").run(stdin="/no/such", stdout=target),
    "missing folder of stderr": lambda target: command("cat").run(stdout=target, stderr="/no/such/f"),
    "killed": lambda target: sh("echo half; kill -KILL $$").run(stdout=target),
    "async": lambda target: __import__("anyio").run(_failing, target),
    "close of stdin": lambda target: command("cat").run(stdin=closing(Unclosable()), stdout=target),
}


class Unclosable:
    def read(self, _size: int = -1) -> bytes:
        """Return EOF."""
        return b""

    def close(self) -> None:
        """Fail."""
        raise OSError(errno.EIO, "cannot be closed")


async def _failing(target: Any) -> None:
    await sh("echo half; exit 3").arun(stdout=target)


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("before", [None, "old"])
def test_a_run_that_fails_leaves_the_file_as_it_was(failure: str, before: str | None, folder: Path) -> None:
    path = folder / "f"
    if before is not None:
        path.write_text(before)
    with pytest.raises(PipelineError):
        FAILURES[failure](atomic(path))
    assert [entry.name for entry in folder.iterdir()] == ([] if before is None else ["f"])
    assert before is None or path.read_text() == before


def test_a_cancelled_run_leaves_the_file_as_it_was(folder: Path) -> None:
    path = folder / "f"
    path.write_text("old")
    run = sh("trap 'exit 0' TERM; echo new; sleep 60 & wait").start(stdout=atomic(path))
    until(lambda: any((folder / name).read_text() for name in parts(folder)))
    run.cancel()
    with pytest.raises(PipelineCancelled):
        run.wait()
    assert path.read_text() == "old"
    assert parts(folder) == []


def test_check_false_is_a_failure_all_the_same(folder: Path) -> None:
    assert not sh("echo half; exit 3").run(stdout=atomic(folder / "f"), check=False).ok
    assert list(folder.iterdir()) == []


def test_a_program_that_ends_during_a_run_leaves_no_part(host: Host, folder: Path) -> None:
    """The interpreter's end kills the command, and removes the part."""
    host.output(
        f"""
        command("sh", "-c", "echo half; sleep 60").start(stdout=atomic({str(folder / "f")!r}))
        while not os.listdir({str(folder)!r}):
            time.sleep(0.01)
        """
    )
    assert list(folder.iterdir()) == []


def test_a_host_that_is_killed_leaves_a_part_whose_lock_is_free(
    host: Host, strays: Strays, folder: Path
) -> None:
    """The target is as it was. The lock is free although the command goes on."""
    started = host.start(
        f"""
        import signal
        from penstock import *
        command("sh", "-c", "echo half; echo $$ >>$PIDS; exec sleep 1000", env={strays.env!r}).start(
            stdout=atomic({str(folder / "f")!r})
        )
        signal.pause()
        """
    )
    (pid,) = strays.pids()
    started.kill()
    started.wait(DEADLINE)
    (part,) = folder.iterdir()
    assert part.name.startswith("f.")
    with part.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert kill_survivors([pid], 0) == [pid]


def test_a_forked_copy_touches_no_part(folder: Path) -> None:
    with sh("echo new; cat").start(stdin=-1, stdout=atomic(folder / "f")) as run:
        pid = os.fork()
        if pid == 0:
            try:
                from penstock.system import atomic_file

                atomic_file._discard_all()
                run.cancel()
            finally:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert len(parts(folder)) == 1
    assert (folder / "f").read_text() == "new\n"


# The disk.


def test_a_file_that_grows_too_large_is_the_error_of_its_writer(host: Host, folder: Path) -> None:
    """A limit on the size of files stands in for a full disk. SIGXFSZ ends a command, EFBIG a function."""
    path = folder / "f"
    path.write_text("old")
    out = host.output(
        f"""
        import resource
        command("true").run()
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
        def write(ctx, stdin, stdout):
            stdout.write(b"x" * 100_000)
        for stage in (command("head", "-c", "100000", "/dev/zero"), function(write)):
            try:
                stage.run(stdout=atomic({str(path)!r}))
            except PipelineError as error:
                say(error.stage, type(error.cause).__name__)
        """
    )
    assert out.splitlines() == ["head ExitError", "write OSError"]
    assert path.read_text() == "old"
    assert parts(folder) == []


@as_root
def test_a_full_disk_leaves_the_old_file(folder: Path) -> None:
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)], check=False
    ).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        path = folder / "f"
        path.write_text("old")
        for stage in (command("head", "-c", "100000", "/dev/zero"), source([b"x" * 100_000])):
            with pytest.raises(PipelineError) as caught:
                stage.run(stdout=atomic(path), stderr=DEVNULL)
            assert caught.value.index == 0
            assert path.read_text() == "old"
            assert parts(folder) == []
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("step", ["sync", "commit"])
def test_an_error_of_the_last_steps_fails_the_run(
    step: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then no file of the run is replaced."""

    def fail(_file: AtomicFile) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for name in ("f", "g"):
        (folder / name).write_text("old")
    monkeypatch.setattr(AtomicFile, step, fail)
    with pytest.raises(PipelineError) as caught:
        sh("echo new; echo new >&2").run(stdout=atomic(folder / "f"), stderr=atomic(folder / "g"))
    assert (caught.value.stage, caught.value.index) == ("stdout", None)
    assert isinstance(caught.value.cause, OSError)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"f": "old", "g": "old"}


def test_a_deadline_ends_the_wait_for_a_slow_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync that does not return delays no run for ever, and changes nothing when it returns."""
    (folder / "f").write_text("old")
    release, left = threading.Event(), threading.Event()
    discard = AtomicFile.discard

    def discarded(file: AtomicFile) -> None:
        discard(file)
        left.set()

    monkeypatch.setattr(AtomicFile, "sync", lambda _file: release.wait(DEADLINE))
    monkeypatch.setattr(AtomicFile, "discard", discarded)
    with pytest.raises(PipelineTimeout):
        sh("echo new").run(stdout=atomic(folder / "f"), timeout=0.2, grace=0.1)
    assert (folder / "f").read_text() == "old"
    release.set()
    assert left.wait(DEADLINE)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"f": "old"}


def test_the_content_is_synced_before_the_rename(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the folder after it."""
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(fd: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        fsync(fd)

    def replaced(old: str, new: str) -> None:
        steps.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    command("echo").run(stdout=atomic(folder / "f"))
    assert steps == ["file", "rename", "folder"]


# The target.


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o4711])
def test_the_mode_of_an_existing_file_is_kept(mode: int, folder: Path) -> None:
    path = folder / "f"
    path.write_text("old")
    path.chmod(mode)
    command("echo", "new").run(stdout=atomic(path))
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_text() == "new\n"


@as_root
def test_the_owner_of_an_existing_file_is_kept(folder: Path) -> None:
    path = folder / "f"
    path.write_text("old")
    os.chown(path, 12345, 54321)
    path.chmod(0o4640)
    command("echo", "new").run(stdout=atomic(path))
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 54321, 0o4640)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000, 0o777])
def test_a_new_file_gets_what_the_umask_leaves(umask: int, folder: Path) -> None:
    before = os.umask(umask)
    try:
        command("echo", "new").run(stdout=atomic(folder / "f"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "f").stat().st_mode) == 0o666 & ~umask


def test_a_symlink_is_followed(folder: Path) -> None:
    """Also one to a file that is not there yet, in another folder."""
    there = folder / "there"
    there.mkdir()
    (there / "f").write_text("old")
    (folder / "link").symlink_to("there/f")
    (folder / "again").symlink_to("link")
    (folder / "new").symlink_to("there/new")
    for name in ("again", "new"):
        command("echo", "new").run(stdout=atomic(folder / name))
        assert (folder / name).is_symlink()
        assert (folder / name).read_text() == "new\n"
    assert sorted(path.name for path in there.iterdir()) == ["f", "new"]


def test_other_names_of_the_file_keep_the_old_content(folder: Path) -> None:
    (folder / "f").write_text("old")
    (folder / "other").hardlink_to(folder / "f")
    command("echo", "new").run(stdout=atomic(folder / "f"))
    assert (folder / "other").read_text() == "old"


def test_a_relative_path_is_that_of_the_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the `cwd` of the pipeline nor a later change of folder matters."""
    monkeypatch.chdir(folder)
    with sh("read line; echo new").start(stdin=-1, stdout=atomic("f"), cwd="/"):
        monkeypatch.chdir("/")
    assert (folder / "f").read_text() == "new\n"


@pytest.mark.parametrize("make", [atomic, appending])
@pytest.mark.parametrize("option", ["stdout", "stderr"])
def test_in_a_deleted_working_directory(make: Any, option: str, host: Host, folder: Path) -> None:
    """The error says so, and names the option and the path."""
    out = host.output(
        f"""
        os.chdir({str(folder)!r})
        os.rmdir({str(folder)!r})
        try:
            command("true").run({option}={make.__name__}("f"))
        except StartError as error:
            say(error.stage, error.cause.filename, "working directory" in str(error))
        """
    )
    assert out == f"{option} f True\n"


@pytest.mark.parametrize("length", [230, 255])
def test_a_long_name_is_shortened_in_the_part(length: int, folder: Path) -> None:
    name = ("ä" * 127 + "x")[: length // 2] + "y" * (length % 2)
    command("echo", "new").run(stdout=atomic(folder / name))
    assert [path.name for path in folder.iterdir()] == [name]


IRREGULAR: dict[str, Callable[[Path], Any]] = {
    "folder": lambda folder: folder,
    "FIFO": lambda folder: folder / "fifo",
    "device": lambda _folder: "/dev/null",
    "full device": lambda _folder: "/dev/full",
    "link to a folder": lambda folder: folder / "link",
}


@pytest.mark.parametrize("option", ["stdout", "stderr"])
@pytest.mark.parametrize("kind", IRREGULAR)
def test_anything_but_a_regular_file_is_a_value_error(kind: str, option: str, folder: Path) -> None:
    """Before anything starts, and in `explain` too."""
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to("/")
    target = atomic(IRREGULAR[kind](folder))
    touched = folder / "touched"
    pipeline = command("touch", str(touched))
    options: Any = {option: target}
    for method in (pipeline.run, pipeline.start, pipeline.explain):
        with pytest.raises(ValueError, match=f"^{option}=atomic"):
            method(**options)
    with pytest.raises(ValueError, match=r"^stderr=atomic"):
        command("touch", str(touched), stderr=target).run()
    assert not touched.exists()
    assert parts(folder) == []


@pytest.mark.parametrize("make", [atomic, appending])
def test_a_missing_folder_is_a_start_error(make: Any, folder: Path) -> None:
    """It names the option and the path, and nothing has started."""
    touched = folder / "touched"
    path = folder / "missing" / "f"
    for option in ("stdout", "stderr"):
        options: Any = {option: make(path)}
        with pytest.raises(StartError, match=f'starting stage "{option}": .*{path}') as caught:
            command("touch", str(touched)).run(**options)
        assert isinstance(caught.value.cause, FileNotFoundError)
    assert not touched.exists()


@pytest.mark.parametrize("what", ["folder", "file", pytest.param("owner", marks=as_root)])
def test_a_target_that_may_not_be_written_is_a_start_error(what: str, host: Host, tmp_path: Path) -> None:
    """A read-only file too, although the folder allows the rename; and one whose owner cannot be kept."""
    folder = Path("/tmp") if ROOT else tmp_path
    folder = folder / f"penstock-atomic-{os.getpid()}"
    folder.mkdir()
    try:
        path = folder / "f"
        path.write_text("old")
        path.chmod(0o666 if what == "owner" else 0o644 if ROOT else 0o444)
        folder.chmod(0o555 if what == "folder" else 0o777)
        out = host.output(
            f"""
            command("true").run()
            from penstock.system import atomic_file  # which another user may not read here
            if {ROOT}:
                os.setgid(65534)
                os.setuid(65534)
            try:
                command("echo", "new").run(stdout=atomic({str(path)!r}))
            except StartError as error:
                say(error.stage, type(error.cause).__name__, error.cause.filename)
            """
        )
        assert out == f"stdout PermissionError {path}\n"
        assert path.read_text() == "old"
        assert parts(folder) == []
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_two_outputs_of_one_run_may_be_the_same(folder: Path) -> None:
    """There is one part, which gets both."""
    (folder / "link").symlink_to("f")
    path, link = atomic(folder / "f"), atomic(folder / "link")
    one, two = "echo one; echo more >&2", "cat; echo two >&2"
    cases: list[tuple[Pipeline, dict[str, Any], str]] = [
        (Pipeline(sh(one)), {"stdout": path, "stderr": link}, "one\nmore\n"),
        (sh(one, stderr=path) | sh(two, stderr=link), {"stdout": DEVNULL}, "more\ntwo\n"),
        (sh(one, stderr=path) | sh(two), {"stdout": DEVNULL, "stderr": path}, "more\ntwo\n"),
        (Pipeline(Pipeline(sh(one), stderr=path), sh(two)), {"stdout": path}, "more\none\n"),
    ]
    for pipeline, options, content in cases:
        pipeline.run(**options)
        assert (folder / "f").read_text() == content
        assert sorted(each.name for each in folder.iterdir()) == ["f", "link"]
        with pytest.raises(PipelineError):
            (pipeline | sh("cat; exit 3")).run(**options)
        assert (folder / "f").read_text() == content


@pytest.mark.parametrize("make", [atomic, appending])
def test_mistakes_are_found_when_it_is_made(make: Any) -> None:
    for wrong in (None, 3, True, object(), ["f"]):
        with pytest.raises(TypeError, match=rf"{make.__name__}\(\) takes a path"):
            make(wrong)
    for wrong in ("", b"", "a\0b", "\ud800"):
        with pytest.raises(ValueError, match=rf"{make.__name__}\(\)"):
            make(wrong)
    with pytest.raises(TypeError, match="stdin"):
        command("cat").run(stdin=make("f"))
    with pytest.raises(TypeError):
        closing(make("f"))


@pytest.mark.parametrize("make", [atomic, appending])
def test_it_is_a_value(make: Any) -> None:
    value = make(Path("f"))
    assert value.path == "f" == make(b"f").path
    assert repr(value) == f"{make.__name__}('f')"
    assert pickle.loads(pickle.dumps(value)) == value == make("f") != make("g")
    assert hash(value) == hash(make("f"))
    assert atomic("f") != appending("f")
    assert repr(Pipeline(command("a"), stdout=value)) == f"Pipeline(command('a'), stdout={value!r})"


def test_the_edge_to_it_is_a_passed_descriptor(folder: Path) -> None:
    plan = command("a").explain(stdout=atomic(folder / "f"))
    assert plan.edges[-1].kind == "pass-fd"
    assert list(folder.iterdir()) == []


def test_many_runs_write_one_target_and_one_of_them_is_last(
    folder: Path, together: Callable[[list[Callable[[], None]]], None]
) -> None:
    """Each file is whole."""
    path = folder / "f"

    def write(number: int) -> Callable[[], None]:
        return lambda: assert_ok(sh(f"for i in 1 2 3 4; do echo {number}; done").run(stdout=atomic(path)))

    def assert_ok(result: Any) -> None:
        assert result.ok

    together([write(number) for number in range(16)])
    assert len(set(path.read_text().split())) == 1
    assert path.read_text().count("\n") == 4
    assert parts(folder) == []


# Appending.


def test_appending_appends(folder: Path) -> None:
    path = folder / "f"
    for words in (["a"], ["b"]):
        command("echo", *words).run(stdout=appending(path))
    source([b"c\n"]).run(stdout=appending(path))
    sh("echo d >&2").run(stderr=appending(path))
    sh("echo e >&2", stderr=appending(path)).run()
    sh("echo f; echo g >&2").run(stdout=appending(path), stderr=appending(path))
    assert path.read_text() == "a\nb\nc\nd\ne\nf\ng\n"


def test_a_run_that_fails_has_appended_what_it_wrote(folder: Path) -> None:
    with pytest.raises(PipelineError):
        sh("echo half; exit 3").run(stdout=appending(folder / "f"))
    assert (folder / "f").read_text() == "half\n"


def test_appending_to_a_folder_is_a_start_error(folder: Path) -> None:
    with pytest.raises(StartError, match="stdout"):
        command("echo").run(stdout=appending(folder))


def test_appending_to_a_fifo_waits_for_its_reader(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    run = command("echo", "new").start(stdout=appending(folder / "fifo"))
    assert (folder / "fifo").read_text() == "new\n"
    assert run.wait().ok


# Interrupts.


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("first", range(3))
@pytest.mark.parametrize("script", ["echo new", "echo half; exit 3"])
def test_an_interrupt_at_any_moment_leaves_the_old_file_or_the_new(
    script: str, first: int, folder: Path
) -> None:
    """And no part, wherever it comes: while the part is made, written, synced, renamed or removed."""
    path = folder / "f"

    def run() -> None:
        sh(script).run(stdout=atomic(path), stderr=atomic(folder / "err"), check=False, orphans="kill")

    run()  # what is loaded once, is loaded
    gc.collect()  # what earlier tests have left is finalized now, where nothing can be raised
    for turn in range(10 + 7 * first, 1500, 21):
        path.write_text("old")
        interruption, raised = Interruption(turn), False
        try:
            with interruption:
                run()
        except KeyboardInterrupt:
            raised = True
        assert raised or interruption.left > 0, f"it was swallowed in {interruption.where}"
        until(lambda: not parts(folder))
        assert path.read_text() in ("old", "new\n"), f"after one in {interruption.where}"
        assert path.read_text() == "old" or "new" in script
        assert guardian._current is not None
        assert not any(guardian._current.table._words), f"after one in {interruption.where}"
        if interruption.left > 0:
            break
