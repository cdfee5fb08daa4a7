"""A signal that comes in the instant before the main thread goes to sleep, so that it does not wake it.

Here another thread takes each signal, because the main thread blocks it. That looks the same to the main
thread: Python knows of a signal, and the sleep goes on.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

# Each waits for ever: for a line, for a chunk, or for an end.
WAITS = {
    "lines that a function passes on": "next((SLEEP | map_lines(bytes.upper)).iter_lines())",
    "chunks of a command": "next(SLEEP.iter_bytes())",
    "the end of a run": "SLEEP.start().wait()",
    "a run": "SLEEP.run()",
}
PROGRAM = """
import os, signal, threading
from penstock import PIPE, command, map_lines

SLEEP = command("sleep", "1000")

def interrupt():
    # The state of the main thread is S once it sleeps in the kernel; it does nothing else for long.
    asleep = 0
    while asleep < 20:
        state = open(f"/proc/self/task/{main}/stat").read().rpartition(")")[2].split()[0]
        asleep = asleep + 1 if state == "S" else 0
        threading.Event().wait(0.01)
    os.kill(os.getpid(), signal.SIGINT)

main = threading.get_native_id()
threading.Thread(target=interrupt, daemon=True).start()  # before the signal is blocked, so that it takes it
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
try:
    WAIT
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_a_signal_that_does_not_wake_the_main_thread_is_handled_soon(wait: str) -> None:
    """A sleep of the main thread ends after a second at most, and its handler raises."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("WAIT", wait)], stdout=subprocess.PIPE, timeout=30, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, b"interrupted\n")
