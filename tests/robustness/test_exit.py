"""The interpreter ends while runs go on: promptly, in silence, and without leaving a child.

However it ends. Only `os._exit`, which runs no code of anybody's, leaves to the kernel what becomes of the
children: those that read from us see EOF, those that write get SIGPIPE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.processes import kill_survivors

if TYPE_CHECKING:
    from tests.support.hosts import Host

pytestmark = pytest.mark.slow


GOING = """
import psutil

class Blocked:
    def read(self, size):
        threading.Event().wait()

deaf = function(lambda ctx, stdin, stdout: threading.Event().wait(), name="deaf")
ready = threading.Event()

def hold():
    (command("cat") | function(lambda ctx, stdin, stdout: (ready.set(), stdin.read()))).run(stdin=unending)

unending, hold_open = os.pipe()
runs = [
    (command("cat") | command("cat")).start(stdin=PIPE, stdout=PIPE),
    (command("cat") | function(copy) | command("cat")).start(stdin=PIPE, stdout=PIPE, timeout=60),
    (command("cat") | deaf).start(stdin=PIPE, on_event=lambda event: None),
    function(copy).start(stdin=PIPE, stdout=PIPE),
]
if not by_the_kernel:
    runs.append(command("sh", "-c", "trap '' TERM; sleep 1000 & wait").start())
    runs.append(command("sleep", "1000").start(stdin=Blocked(), stdout=io.BytesIO()))
lines = command("yes").iter_lines()
next(lines)
threading.Thread(target=hold, daemon=True).start()
ready.wait()
for child in psutil.Process().children(recursive=True):
    say(child.pid)
"""

WAYS = {
    "its end": ("", 0, ""),
    "sys.exit": ("sys.exit(3)", 3, ""),
    "an exception": ('raise LookupError("on purpose")', 1, "LookupError: on purpose"),
    "sys.exit in a block": ("with runs[0]:\n    sys.exit(5)", 5, ""),
    "os._exit": ("os._exit(4)", 4, ""),
    "Ctrl-C": ("os.kill(os.getpid(), signal.SIGINT)\nthreading.Event().wait()", -2, "KeyboardInterrupt"),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_interpreter_ends(way: str, host: Host) -> None:
    """By each way out, with commands, functions, an iterator and a daemon thread that waits."""
    code, status, words = WAYS[way]
    ended = host.run(f"by_the_kernel = {way == 'os._exit'}" + GOING + code)
    assert kill_survivors(map(int, ended.out.split()), timeout=5) == []
    assert len(ended.out.split()) >= 7
    assert ended.returncode == status
    if words:
        assert ended.err.count("Traceback") == 1
        assert ended.err.splitlines()[-1] == words
    else:
        assert ended.err == ""
    assert ended.files == []
