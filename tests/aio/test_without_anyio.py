"""Runs of asyncio programs that have not imported anyio, each in an interpreter of its own."""

from __future__ import annotations

from textwrap import dedent, indent
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.hosts import Host

PRELUDE = """\
import asyncio, gc, os, sys
from penstock import *

SLEEP = command("sleep", "60")
DEAF = command("sh", "-c", "trap '' TERM; echo; while :; do sleep 0.01; done")

def has_child():
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True

class Started:
    def __init__(self):
        self.loop, self.known = asyncio.get_running_loop(), asyncio.Event()

    def __call__(self, event):
        if event.kind == "start":
            self.loop.call_soon_threadsafe(self.known.set)

"""
END = """
asyncio.run(main())
assert not has_child()
print("anyio" in sys.modules)
"""


def _said(host: Host, body: str, *, before: str = "", end: str = END) -> list[str]:
    """Run `body` as the main task of a program, and return what the program says, by line."""
    main = "async def main():\n" + indent(dedent(body), "    ")
    ended = host.run(before + "\n" + main + end, prelude=PRELUDE)
    assert (ended.returncode, ended.err) == (0, "")
    return ended.out.splitlines()


def test_the_methods_that_wait_for_the_end_do_without(host: Host) -> None:
    """Results, errors and functions in threads are as elsewhere."""
    body = """
    print((await command("true").arun()).ok)
    print(await command("echo", "a").atext(), end="")
    print(await (command("echo", "b") | map_lines(bytes.upper)).aoutput())
    for failing in (command("false"), command("no-such-program"), command("sleep", "9")):
        try:
            await failing.arun(timeout=0.1 if failing.name == "sleep" else 60)
        except PenstockError as error:
            print(type(error).__name__)
    print(len(await asyncio.gather(*[command("true").arun() for _ in range(20)])))
    """
    said = _said(host, body)
    assert said == ["True", "a", "b'B\\n'", "PipelineError", "StartError", "PipelineTimeout", "20", "False"]


def test_asyncios_own_timeouts_and_groups_end_the_run(host: Host) -> None:
    """Each knows its own cancellation, when the child is reaped."""
    body = """
    try:
        async with asyncio.timeout(0.05):
            await SLEEP.arun()
    except TimeoutError:
        print("timeout", has_child(), asyncio.current_task().cancelling())
    try:
        await asyncio.wait_for(SLEEP.aoutput(), 0.05)
    except TimeoutError:
        print("wait_for", has_child())
    started = Started()
    async def fail():
        await started.known.wait()
        raise ValueError
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(SLEEP.arun(on_event=started))
            group.create_task(fail())
    except* ValueError:
        print("group", has_child())
    """
    assert _said(host, body) == ["timeout False 0", "wait_for False", "group False", "False"]


def test_a_task_that_is_cancelled_again_and_again_still_reaps(host: Host) -> None:
    """No cancellation ends the wait for a child that ignores SIGTERM."""
    body = """
    trapped, (read_end, write_end), cancels = asyncio.Event(), os.pipe(), 0
    asyncio.get_running_loop().add_reader(read_end, trapped.set)
    task = asyncio.create_task(DEAF.arun(grace=0.1, stdout=write_end))
    await trapped.wait()
    while not task.done():
        task.cancel()
        cancels += 1
        await asyncio.wait([task], timeout=0.01)
    print(task.cancelled(), cancels > 3, has_child())
    """
    assert _said(host, body) == ["True True False", "False"]


def test_a_cancellation_before_the_start_leaves_nothing(host: Host) -> None:
    """Whether a worker has begun with the start or not."""
    body = """
    for turns in range(5):
        task = asyncio.create_task(SLEEP.arun())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        print(task.cancelled(), has_child())
    """
    assert _said(host, body) == [*["True False"] * 5, "False"]


def test_a_run_of_a_closed_loop_is_ended(host: Host) -> None:
    """The supervisor notices that nobody waits any more."""
    program = """
import time

loop = asyncio.new_event_loop()
task = loop.create_task(SLEEP.arun())
while not has_child():
    loop.run_until_complete(asyncio.sleep(0))
loop.close()
end = time.monotonic() + 30
while has_child() and time.monotonic() < end:
    time.sleep(0.01)
print(has_child(), "anyio" in sys.modules)
"""
    assert host.run(program, prelude=PRELUDE).out == "False False\n"


def test_it_is_loaded_when_it_is_needed(host: Host) -> None:
    """By async functions, async streams and the methods with streams, also after runs without it."""
    body = """
    await command("true").arun()
    print("anyio" in sys.modules)
    async def shout(line):
        await asyncio.sleep(0)
        return line.upper()
    async def chunks():
        yield b"chunk"
    print(await (command("echo", "a") | map_lines(shout)).aoutput())
    print(await command("cat").aoutput(stdin=chunks()))
    async with command("cat").astart(stdin=PIPE, stdout=PIPE) as run:
        await run.stdin.send(b"sent")
        await run.stdin.aclose()
        print(await run.stdout.receive())
    import anyio
    with anyio.move_on_after(0.05) as scope:
        await SLEEP.arun()
    print(scope.cancelled_caught, has_child())
    """
    assert _said(host, body) == ["False", "b'A\\n'", "b'chunk'", "b'sent'", "True False", "True"]


@pytest.mark.parametrize(
    "call",
    [
        'command("true").astart()',
        'command("true").aiter_bytes()',
        "await transform(chunks).aoutput()",
        'await command("cat").aoutput(stdin=chunks())',
    ],
)
def test_if_it_is_not_installed_the_error_says_so(host: Host, call: str) -> None:
    """And plain runs do without it."""
    before = """
sys.modules["anyio"] = None
async def chunks(_chunks=()):
    yield b""
"""
    body = f"""
    print(await command("echo", "a").atext(), end="")
    try:
        {call}
    except ImportError as error:
        print(error)
    """
    said = _said(host, body, before=before)
    assert said == ["a", "the async methods need anyio: pip install 'penstock[async]'", "True"]
