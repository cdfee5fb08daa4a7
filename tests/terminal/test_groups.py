"""In which process group a command runs: the caller's at a terminal, one of its own elsewhere."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.hosts import Host
    from tests.support.terminals import Desk

_SHOW = """
def group(**options):
    fields = command("cat", "/proc/self/stat", **options).output().split()
    return "own" if fields[0] == fields[4] else "shared" if int(fields[4]) == os.getpgrp() else "other"
"""


def _ask(desk: Desk, program: str, redirected: str = "") -> str:
    """Return what a program at a terminal says; its standard streams may be redirected as in a shell."""
    shell = f'exec "$@" {redirected}'
    terminal = desk.start("sh", "-c", shell, "sh", *desk.python_words(_SHOW + textwrap.dedent(program)))
    return terminal.wait_for(rb"groups: ([a-z ]+)\r?\n")[1].decode()


@pytest.mark.parametrize("redirected", ["", "</dev/null 2>/dev/null", "</dev/null >/dev/tty 2>&1"])
def test_at_a_terminal_a_command_shares_the_group_of_its_caller(desk: Desk, redirected: str) -> None:
    """The controlling terminal counts, wherever the standard streams lead."""
    program = "say('groups:', group(), group(process_group=True), group(process_group=False))"
    assert _ask(desk, program, redirected) == "shared own shared"


def test_all_standard_streams_may_be_redirected(desk: Desk) -> None:
    program = "os.write(3, f'groups: {group()}\\n'.encode())"
    assert _ask(desk, program, "</dev/null >/dev/null 2>&1 3>/dev/tty") == "shared"


def test_without_a_terminal_a_command_leads_a_group(host: Host) -> None:
    """As it does after setsid(2), which gives the terminal up."""
    program = _SHOW + "say(group(), group(process_group=True), group(process_group=False))"
    assert host.run(program, shell='exec setsid -w "$@"').out == "own own shared\n"


def test_the_terminal_is_looked_for_at_each_run(desk: Desk) -> None:
    """The host may lose it between two runs, and so may a forked copy."""
    program = """
    before = group()
    if os.fork() == 0:
        os.setsid()
        say("groups:", before, group())
        os._exit(0)
    os.wait()
    """
    assert _ask(desk, program) == "shared own"


def test_nested_and_isolated_commands_share_the_group_too(desk: Desk) -> None:
    """Inside a function, in a worker process, in an event loop, behind limits, from another thread."""
    program = """
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    STAT = ("cat", "/proc/self/stat")

    def shared(data):
        fields = data.split()
        return "shared" if int(fields[4]) == os.getpgrp() else "other"

    def inner(ctx, stdin, stdout):
        stdout.write(command(*STAT).output())

    if __name__ == "__main__":
        nested = (echo("") | function(inner)).output()
        isolated = (echo("") | function(inner, isolate="process")).output()
        loop = asyncio.run(command(*STAT).aoutput())
        limited = command(*STAT, limits=Limits(open_files=100)).output()
        with ThreadPoolExecutor(1) as pool:
            threaded = pool.submit(command(*STAT).output).result()
        say("groups:", *map(shared, (nested, isolated, loop, limited, threaded)))
    """
    assert _ask(desk, program) == "shared shared shared shared shared"
