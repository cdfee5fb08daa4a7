"""Surroundings that refuse or change things: no epoll, an interrupt of the first start, gevent, secrets."""

from __future__ import annotations

import asyncio
import enum
import importlib
import importlib.util
import inspect
import os
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING, Any

import pytest

import penstock
from penstock import DEVNULL, Limits, Pipeline, Secret, StartError, command, map_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.hosts import Host

SECRET = "hunter2hunter2"


def test_where_epoll_is_refused_the_other_poller_is_used(host: Host) -> None:
    """By a sandbox, or for want of a descriptor."""
    ended = host.run("""
        import select
        def refuse(*_):
            raise PermissionError(1, "Operation not permitted")
        select.epoll = refuse
        say(command("echo", "hi").start(stdout=CAPTURE).wait().stdout)
        """)
    assert (ended.err, ended.out) == ("", "b'hi\\n'\n")


def test_an_interrupt_while_the_supervisor_is_started_leaves_nothing(host: Host) -> None:
    """At each step of ours, before the thread has begun, and while it begins; the next run starts another."""
    tests = importlib.import_module("tests").__path__[0]
    ended = host.run(f"""
        sys.path.insert(0, {tests.removesuffix("/tests")!r})
        from tests.support.interrupts import Interruption
        from penstock.runtime import supervisor

        def left():
            return any(one.name == "penstock-supervisor" for one in threading.enumerate() if one.ident)

        def attempt(interruption):
            supervisor._current = None
            try:
                with interruption:
                    supervisor.supervisor()
            except KeyboardInterrupt:
                interrupted.append(interruption)
            kept = supervisor._current
            if kept is not None:  # it runs, and is kept
                kept._unwanted = True
                kept.wake()
            deadline = time.monotonic() + 10
            while left():
                assert time.monotonic() < deadline
                time.sleep(0.001)
            supervisor._current = None

        class Interrupted:
            def __init__(self, before):
                self.before = before
            def start(self, thread):
                if not self.before:
                    start(thread)
                raise KeyboardInterrupt
            def __enter__(self):
                threading.Thread.start = lambda thread: self.start(thread)
            def __exit__(self, *_):
                threading.Thread.start = start

        start = threading.Thread.start
        interrupted = []
        command("true").run()
        before = len(os.listdir("/proc/self/fd"))
        for turn in range(1, 60):
            attempt(Interruption(turn, "/penstock/runtime/supervisor.py"))
        for _ in range(20):
            attempt(Interrupted(before=True))
            attempt(Interrupted(before=False))
        assert len(os.listdir("/proc/self/fd")) == before, os.listdir("/proc/self/fd")
        assert len(interrupted) > 42, len(interrupted)
        say(command("echo", "hi").start(stdout=CAPTURE).wait().stdout)
        """)
    assert (ended.err, ended.out) == ("", "b'hi\\n'\n")


@pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is not installed")
@pytest.mark.parametrize("run_before", [False, True])
def test_threads_that_are_replaced_after_the_import_are_an_error_of_the_first_run(
    run_before: bool,  # noqa: FBT001 - whether a run came before
    host: Host,
) -> None:
    """As gevent's worker of gunicorn does it with `--preload`."""
    ended = host.run(f"""
        if {run_before}:
            command("true").start(stdout=DEVNULL).wait()
        import gevent.monkey
        gevent.monkey.patch_all()
        for run in (lambda: command("echo", "hi").output(), lambda: command("true").start(stdout=DEVNULL)):
            try:
                run()
            except RuntimeError as error:
                say("after penstock was imported" in str(error))
        """)
    assert ended.out == "True\nTrue\n", ended


@pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is not installed")
def test_a_status_that_gevent_has_collected_is_an_error_that_says_so(host: Host) -> None:
    """It collects every child once it has started one. A run knows its status, or says why not."""
    program = """
        import gevent.monkey
        gevent.monkey.patch_all()
        import subprocess
        from penstock import command

        def one():
            result = command("sh", "-c", "sleep 0.02; exit 5").run(check=False)
            print(result.returncodes == (5,) or "gevent collects all children" in str(result.error))

        subprocess.run(["true"])
        gevent.joinall([gevent.spawn(one) for _ in range(20)])
        """
    ended = host.run(program, prelude="")
    assert ended.out == "True\n" * 20, ended


@pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is not installed")
def test_idle_workers_do_not_stop_the_other_threads_of_gevent(host: Host) -> None:
    """All of them are one thread of the system, which none may block."""
    program = """
        import gevent.monkey
        gevent.monkey.patch_all()
        import threading
        from penstock import CAPTURE, command, function
        from penstock.core.timing import timing

        timing.thread_idle_s = 3600.0

        def waits(_ctx, _stdin, stdout):
            begun.wait()
            stdout.write(b"hi")

        def copies(_ctx, stdin, stdout):
            begun.set()
            stdout.write(stdin.read())

        for _ in range(3):
            begun = threading.Event()
            print((command("true") | function(waits) | function(copies)).start(stdout=CAPTURE).wait().stdout)
            begun.clear()
            print((function(waits) | function(copies)).output())
        """
    ended = host.run(program, prelude="")
    assert ended.out == "b'hi'\n" * 6, ended


def _frames(error: BaseException) -> Iterator[tuple[str, Any]]:
    """Yield the local variables of all frames, as error reporters show them."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        pending += one.__cause__, one.__context__
        yield "repr", one
        yield "str", str(one)
        yield "args", one.args
        yield "attributes", vars(one)
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if "/src/penstock/" in frame.f_code.co_filename:
                yield from frame.f_locals.items()


def _unencodable() -> Any:
    return Secret(SECRET + "\ud800")


def _unknown() -> str:
    return Secret(SECRET).translate({ord(digit): "2" for digit in "0569"} | {ord("2"): "5"})


SECRETS: dict[str, Callable[[], object]] = {
    "argument": lambda: command("/no/such/program", Secret(SECRET)).run(),
    "program": lambda: command(Secret("/no/" + SECRET)).run(),
    "a bare program": lambda: command(Secret(SECRET)).run(),
    "a part of an argument": lambda: command("/no/such", f"--password={Secret(SECRET)}").run(),
    "a part of the program": lambda: command(f"/no/{Secret(SECRET)}/program").run(),
    "a part of the working directory": lambda: command("true", cwd=f"/no/{Secret(SECRET)}").run(),
    "the pipeline's directory": lambda: Pipeline(command("true"), cwd=f"/no/{Secret(SECRET)}").run(),
    "the directory of a worker": lambda: Pipeline(
        map_lines(bytes, isolate="process"), cwd=f"/no/{Secret(SECRET)}"
    ).run(stdout=DEVNULL),
    "a part of a variable": lambda: command("/no/such", env={"KEY": f"a{Secret(SECRET)}"}).run(),
    "input": lambda: (command("/no/such") | command("cat")).output(input=Secret(SECRET)),
    "input that cannot be encoded": lambda: command("cat").run(input=f"{_unencodable()}"),
    "a part of bytes that cannot be encoded": lambda: command("cat", _unencodable().encode()),
    "a cut placeholder": lambda: command("cat", f"{Secret(SECRET)}{Secret(SECRET)[:20]}"),
    "an unknown placeholder": lambda: command("cat", _unknown()),
    "a cut placeholder of a function": lambda: command("cat", env={"A": lambda: Secret(SECRET)[:50]}).run(),
    "a secret of bytes": lambda: Secret(SECRET.encode()),  # type: ignore[arg-type]
    "a secret of a cut one": lambda: Secret(f"{SECRET}{Secret(SECRET)[:50]}"),
    "environment": lambda: command("/no/such/program", env={"KEY": Secret(SECRET)}).run(),
    "environment of a pipeline": lambda: Pipeline(command("nosuch"), env={"KEY": Secret(SECRET)}).run(),
    "working directory": lambda: command("true", Secret(SECRET), cwd="/no/such/folder").run(),
    "limits": lambda: command("/no/such", Secret(SECRET), limits=Limits(nice=1)).run(),
    "limits, environment": lambda: command("/no", env={"K": Secret(SECRET)}, limits=Limits(nice=1)).run(),
    "started": lambda: command("/no/such/program", Secret(SECRET), env={"K": Secret(SECRET)}).start(),
    "iterated": lambda: list(command("/no/such/program", Secret(SECRET)).iter_lines()),
    "async": lambda: asyncio.run(command("/no/such", Secret(SECRET), env={"K": Secret(SECRET)}).arun()),
    "isolated": lambda: Pipeline(
        command("/no/such", Secret(SECRET)),
        map_lines(bytes, isolate="process"),
        env={"K": Secret(SECRET)},
    ).run(stdout=DEVNULL),
    "an argument that cannot be encoded": lambda: command("echo", Secret(SECRET + "\ud800")),
    "a NUL byte": lambda: command("echo", Secret(SECRET + "\0")),
    "a program that cannot be encoded": lambda: command(Secret(SECRET + "\ud800")),
    "a value that cannot be encoded": lambda: command("echo", env={"KEY": Secret(SECRET + "\ud800")}),
    "a value of a function": lambda: command("echo", env={"KEY": _unencodable}).run(),
}


@pytest.mark.parametrize("run", SECRETS.values(), ids=SECRETS)
def test_a_secret_is_nowhere_in_the_error_of_a_failing_start(run: Callable[[], object]) -> None:
    """Neither in its text, its causes and contexts, nor in the local variables of our frames."""
    with pytest.raises((StartError, ValueError, TypeError)) as caught:
        run()
    for name, value in _frames(caught.value):
        assert SECRET not in repr(value), name


def test_an_object_that_was_made_only_in_part_has_a_repr() -> None:
    """Error reporters show the local variables of constructors that have raised."""
    for name in penstock.__all__:
        thing = getattr(penstock, name)
        if inspect.isclass(thing) and not issubclass(thing, BaseException | enum.Enum):
            assert isinstance(repr(thing.__new__(thing)), str)
    with pytest.raises(ValueError, match="NUL") as caught:
        command("echo", "x\0")
    for frame, _ in traceback.walk_tb(caught.tb):
        assert all(isinstance(repr(value), str) for value in frame.f_locals.values())


ESCAPES = "\x1b]0;title\x07\x1b[2J\r"


def test_control_characters_are_shown_and_not_sent_to_the_terminal() -> None:
    """Of names of stages and files, of messages and of stderr; in errors, notes, results and plans."""
    texts = []
    failing = command("sh", "-c", f"printf '{ESCAPES}last' >&2; exit 3", name=f"a{ESCAPES}b")
    for pipeline in (failing, command(f"/no/such{ESCAPES}"), command("true", cwd=f"/no/such{ESCAPES}")):
        error = pipeline.run(check=False).error
        assert error is not None
        texts += [str(error), *getattr(error, "__notes__", ()), str(error.result), str(pipeline.explain())]
    for text in texts:
        assert all(char.isprintable() or char == "\n" for char in text), repr(text)
    assert "\\x1b[2J" in texts[0]


def test_the_command_line_shows_control_characters(host: Host) -> None:
    """In errors, --stats, --verbose and explain."""
    line = f"'sh' -c 'echo x >&2; exit 3' '{ESCAPES}' | '/no/such{ESCAPES}'"
    for arguments in (["run"], ["run", "--stats"], ["run", "--verbose"], ["explain"]):
        for text in (line, line.partition("|")[0].replace("exit 3", "exit 4")):
            ended = host.run(
                f"""
                import subprocess
                ended = subprocess.run(
                    [sys.executable, "-m", "penstock", *{arguments!r}, {text!r}],
                    capture_output=True, stdin=subprocess.DEVNULL,
                )
                say(repr((ended.stdout + ended.stderr).replace(b"\\n", b"").decode()))
                """
            )
            shown = ended.out
            assert "\\x1b" not in shown.replace("\\\\x1b", ""), (arguments, shown)


@pytest.mark.parametrize("safe", [False, True])
def test_no_file_of_the_folder_hides_a_standard_module(
    safe: bool,  # noqa: FBT001 - safe-path mode
    tmp_path: Path,
) -> None:
    """Its modules are found after all others; with PYTHONSAFEPATH they are not found."""
    (tmp_path / "html.py").write_text("def escape(line): return b'shadow'\n", encoding="utf-8")
    (tmp_path / "mine.py").write_text("def up(line): return line.upper()\n", encoding="utf-8")

    def run(line: str) -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, **({"PYTHONSAFEPATH": "1"} if safe else {})}
        arguments = [sys.executable, "-m", "penstock", "run", line]
        return subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, check=False)

    assert b"shadow" not in run("echo a | map:html:escape").stdout
    ended = run("echo a | map:mine:up")
    assert (ended.stdout == b"A\n") is not safe, ended
