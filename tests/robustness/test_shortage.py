"""Hosts that are short of descriptors, threads or modules: deadlines are kept, and errors name the stage."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tests.support.hosts import others_may_read

import penstock

if TYPE_CHECKING:
    from tests.support.hosts import Host

pytestmark = pytest.mark.slow

RUNS = """
import asyncio, errno
import anyio
from penstock.isolation import worker_pool

async def adeadline(stage, **options):
    return await stage.arun(**options)

async def aiterated(stage, **options):
    return [chunk async for chunk in stage.aiter_bytes(**options)]

async def astarted(stage, **options):
    async with stage.astart(**options) as run:
        pass

SLEEP = command("sleep", "30")
KINDS = {
    "command": SLEEP,
    "commands": SLEEP | command("cat"),
    "function": SLEEP | function(copy),
    "isolated": SLEEP | map_lines(bytes, isolate="process"),
    "watched": memory_limit(SLEEP, "1GB"),
    "limited": command("sleep", "30", limits=Limits(nice=1)),
    "deaf": command("sh", "-c", "trap '' TERM; while :; do sleep 1; done"),
    "nested": command("true") | Pipeline(SLEEP, timeout=20, name="inner"),
    "filtered": ignore_error(SLEEP, lambda error: True),
}
DOORS = {
    "sync": lambda stage, **options: stage.run(stdout=DEVNULL, **options),
    "output": lambda stage, **options: stage.output(**options),
    "iter": lambda stage, **options: list(stage.iter_bytes(**options)),
    "start": lambda stage, **options: stage.start(stdout=DEVNULL, **options).wait(),
    "async": lambda stage, **options: asyncio.run(adeadline(stage, stdout=DEVNULL, **options)),
    "async iter": lambda stage, **options: asyncio.run(aiterated(stage, **options)),
    "async start": lambda stage, **options: asyncio.run(astarted(stage, stdout=DEVNULL, **options)),
}

def take_all(leave):
    full = []
    try:
        while True:
            full.append(os.dup(0))
    except OSError:
        pass
    for number in full[len(full) - leave:] if leave else ():
        os.close(number)
    return full[:len(full) - leave] if leave else full

def timed(run):
    began = time.monotonic()
    try:
        run()
        said = "success"
    except PipelineError as error:
        said = type(error).__name__ if isinstance(error, (PipelineTimeout, StartError)) else repr(error)
        if isinstance(error, StartError):
            assert error.stage, error
    except BaseException as error:
        import traceback
        traceback.print_exc()
        said = "BARE " + repr(error)
    took = time.monotonic() - began
    return said, took < 2.5

def no_child():
    for _ in range(300):
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        if worker_pool.idle_pids():
            return True
        time.sleep(0.01)
    return False
"""


@pytest.mark.parametrize("kind", ["command", "commands", "function", "watched", "limited", "isolated"])
@pytest.mark.parametrize("door", ["sync", "output", "iter", "start", "async", "async iter", "async start"])
def test_a_deadline_is_kept_however_few_descriptors_are_free(door: str, kind: str, host: Host) -> None:
    """The first run of the program: it times out, or says which stage could not be started."""
    for leave in (0, 1, 2, 3, 4, 6):
        ended = host.run(
            RUNS
            + f"""
door, stage = DOORS[{door!r}], KINDS[{kind!r}]
asyncio.run(asyncio.sleep(0)) if {not door.startswith("async")} else None
def inside():
    full = take_all({leave})
    try:
        return timed(lambda: door(stage, timeout=0.3, grace=0.2))
    finally:
        for number in full:
            os.close(number)
if {door.startswith("async")}:
    async def main():
        full = take_all({leave})
        try:
            try:
                began = time.monotonic()
                method = {{"async": adeadline, "async iter": aiterated, "async start": astarted}}[{door!r}]
                more = {{}} if {door!r} == "async iter" else {{"stdout": DEVNULL}}
                await method(stage, timeout=0.3, grace=0.2, **more)
                return "success", True
            except PipelineError as error:
                return type(error).__name__, time.monotonic() - began < 2.5
            except BaseException as error:
                return "BARE " + repr(error), False
        finally:
            for number in full:
                os.close(number)
    found = asyncio.run(main())
else:
    found = inside()
say(*found, no_child())
""",
            shell="ulimit -n 64",
        )
        said = ended.out.strip()
        assert said in ("StartError True True", "PipelineTimeout True True"), (leave, ended)


ENDS = {
    "stdin path": 'stdin="in"',
    "stdin file": "stdin=file",
    "stdin text": "stdin=text",
    "stdin BytesIO": 'stdin=io.BytesIO(b"hi")',
    "stdin object": "stdin=Reader()",
    "stdin iterable": 'stdin=iter([b"hi"])',
    "input": 'input="hi"',
    "stdout path": 'stdout="out"',
    "stdout object": "stdout=Writer()",
    "stdout closing": "stdout=closing(io.BytesIO())",
    "atomic": 'stdout=atomic("out")',
    "appending": 'stdout=appending("out")',
    "stderr path": 'stderr="err"',
    "stderr atomic": 'stderr=atomic("err")',
    "stderr callable": "stderr=lambda line: None",
    "handler": "on_event=lambda event: None",
    "orphans": 'orphans="kill"',
}


@pytest.mark.parametrize("end", ENDS)
def test_an_end_that_cannot_be_made_for_want_of_descriptors_is_a_start_error(end: str, host: Host) -> None:
    """Also if the module for it cannot be loaded. A run that gets what it needs succeeds."""
    program = f"""
os.chdir(os.environ["TMPDIR"])
open("in", "w").write("hi")
file, text = open("in", "rb"), open("in")
class Reader:
    def read(self, size=-1):
        return b""
class Writer:
    def write(self, data):
        return len(data)
for leave in (0, 1, 2, 3, 4, 8):
    full = take_all(leave)
    try:
        found = timed(lambda: command("cat").run(**{{"stdout": DEVNULL, **dict({ENDS[end]})}}))
    finally:
        for number in full:
            os.close(number)
    say(*found, no_child())
"""
    ended = host.run(RUNS + program, shell="ulimit -n 64")
    said = ended.out.splitlines()
    assert len(said) == 6, ended
    assert set(said) <= {"StartError True True", "success True True"}, ended
    assert said[0] == "StartError True True", ended


@pytest.mark.parametrize("door", ["sync", "start", "iter", "async"])
def test_nothing_is_imported_after_the_first_run_of_a_kind(door: str, host: Host) -> None:
    """Not by a timeout, a cancellation, a failure or a kill: there may be no descriptor to load it by."""
    ended = host.run(
        RUNS
        + f"""
import importlib.abc
class Forbid(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        tried.append(name)
        raise OSError(errno.EMFILE, "no descriptor to import " + name)
tried = []
door = DOORS[{door!r}]
good = {{
    "command": command("true"), "commands": command("true") | command("cat"),
    "function": command("true") | function(copy),
    "isolated": command("true") | map_lines(bytes, isolate="process"),
    "watched": memory_limit(command("true"), "1GB"), "limited": command("true", limits=Limits(nice=1)),
    "nested": command("true") | Pipeline(command("cat"), timeout=20, name="inner"),
    "filtered": ignore_error(command("true"), lambda error: True),
}}
import subprocess, concurrent.futures
asyncio.run(asyncio.sleep(0))
for kind, stage in KINDS.items():
    if kind in good:
        door(good[kind])
    sys.meta_path.insert(0, Forbid())
    say(kind, *timed(lambda: door(stage, timeout=0.1, grace=0.1)), *tried)
    tried.clear()
    run = stage.start(stdout=DEVNULL, grace=0.1)
    run.cancel("enough")
    say(kind, *timed(lambda: run.wait()), *tried)
    tried.clear()
    sys.meta_path.pop(0)
sys.meta_path.insert(0, Forbid())
fails = command("sh", "-c", "echo no >&2; exit 3")
leaves = command("sh", "-c", "sleep 30 >/dev/null 2>&1 &", on_leftover="kill")
say("fail", *timed(lambda: door(fails)), *tried)
tried.clear()
say("leftover", *timed(lambda: door(leaves, grace=0.1)), *tried)
""",
    )
    lines = [line for line in ended.out.splitlines() if not line.endswith("True")]
    assert (lines, ended.err) == ([], ""), ended


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.skipif(not others_may_read(penstock.__file__), reason="other users cannot load the package here")
def test_a_user_who_may_start_no_thread_is_told_which_stage(host: Host) -> None:
    """`memory_limit` and the others, as an ordinary user with RLIMIT_NPROC at 2."""
    ended = host.run(
        RUNS
        + """
import resource
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (2, 2))
for kind in ("watched", "function", "isolated", "limited", "command"):
    for door in ("sync", "start", "iter"):
        said = timed(lambda: DOORS[door](KINDS[kind], timeout=0.3, grace=0.2))
        say(kind, door, *said)
"""
    )
    wrong = [
        line
        for line in ended.out.splitlines()
        if not line.endswith(("StartError True", "PipelineTimeout True"))
    ]
    assert (wrong, ended.err, ended.returncode) == ([], "", 0), ended


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can unmount")
def test_without_proc_a_deadline_is_kept(host: Host) -> None:
    """/proc is unmounted: nothing is known of other processes and of memory."""
    ended = host.run(
        RUNS
        + """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x00020000) or libc.mount(None, b"/", None, 0x44000, None) or libc.umount2(b"/proc", 2):
    say("not allowed")
    sys.exit()
for kind in KINDS:
    if kind != "isolated":
        say(kind, *timed(lambda: DOORS["sync"](KINDS[kind], timeout=0.3, grace=0.2)))
"""
    )
    if "not allowed" in ended.out:
        pytest.skip("mounts cannot be changed here")
    wrong = [
        line
        for line in ended.out.splitlines()
        if not line.endswith(("StartError True", "PipelineTimeout True"))
    ]
    assert (wrong, ended.err) == ([], ""), ended
