"""KeyboardInterrupt at random moments of start, wait, output and iteration, in a program of its own.

tests/runs/test_interrupts.py raises it at chosen steps of the engine. Here a timer raises it, as Ctrl-C
would, at random instants of whatever is going on then, in C code too, and now and then once more while the
first one is being dealt with. Whatever was going on: either it was done already, and well, or the interrupt
comes out of it; and no child, no descriptor and no temporary file is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.hosts import Host

pytestmark = pytest.mark.slow


PROGRAM = """
import gc
import random

rng = random.Random(SEED)
DATA = b"line\\n" * 30_000
mixed = command("cat") | function(copy) | command("cat")
armed = []

def at_the_border(frame):
    # Before the first step of a context manager's own code: nothing that it does could help. The handler may
    # have been called from within itself.
    while frame.f_code in (interrupt.__code__, at_the_border.__code__):
        frame = frame.f_back
    return frame.f_code.co_name in ("__enter__", "__exit__") and frame.f_lasti <= 2

def interrupt(signum, frame):
    if armed and at_the_border(frame):
        signal.setitimer(signal.ITIMER_REAL, 1e-5)
    elif armed:
        armed.pop()
        if armed:
            signal.setitimer(signal.ITIMER_REAL, rng.random() / 300)
        raise KeyboardInterrupt

def output():
    assert mixed.output(input=DATA) == DATA

def captured():
    assert mixed.run(stdin=io.BytesIO(DATA), stdout=CAPTURE).stdout == DATA

def dialogue():
    with mixed.start(stdin=PIPE, stdout=PIPE, grace=0.2) as run:
        run.stdin.write(b"ping\\n")
        assert run.stdout.readline() == b"ping\\n"

def waited():
    assert mixed.start(input=DATA, stdout=CAPTURE, grace=0.2).wait().stdout == DATA

def deadline():
    try:
        command("sleep", "60").run(timeout=0.004, grace=0.2)
    except PipelineTimeout:
        pass

def iterated():
    assert sum(map(len, mixed.iter_bytes(input=DATA))) == len(DATA)

def left_early():
    lines = (command("yes") | map_lines(bytes)).iter_lines()
    assert next(lines) == b"y"
    lines.close()

def refused():
    try:
        (command("cat") | command("/no/such/program")).run(input=DATA, stdout=DEVNULL)
    except StartError:
        pass

def named():
    second = command("tee", writing(command("cat")), writing(command("cat"), via="fifo"))
    numbers = command("seq", "3")
    last = command("cat", "-", reading(numbers), reading(numbers, via="fifo"))
    assert (numbers | second | last).output(grace=0.2) == b"1\\n2\\n3\\n" * 3

def row():
    assert (function(copy) | function(copy) | function(copy)).output(input=DATA) == DATA

def chain():
    stages = transform(lambda chunks: chunks) | map_lines(bytes) | transform(lambda chunks: chunks)
    assert stages.output(input=DATA) == DATA

def sleeping():
    # More than the pipes between its stages hold, so that some of them sleep, and workers help.
    total = sum(map(len, [DATA] * 100))
    parts = source([DATA] * 100) | function(copy) | map_lines(bytes) | function(copy)
    assert len(parts.output()) == total

def held():
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[number] = os.readlink("/proc/self/fd/" + number)
        except OSError:
            pass
    return {number for number in found if not found[number].startswith("/proc/")}

def left(patience=10):
    over = time.monotonic() + patience
    while True:
        gc.collect()  # what only a cycle of dead objects holds is not left
        found = sorted(held() - before)
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # one that has ended is left too
            found.append("a child")
        except ChildProcessError:
            pass
        if not found or time.monotonic() > over:
            return found

actions = [ACTIONS]
times = {}
for action in actions * 2:
    began = time.monotonic()
    action()
    times[action] = time.monotonic() - began
before = held()
# An interrupt cannot come out of a finalizer: the interpreter drops it, and with it what was left to do
# there. What a descriptor's finalizer leaves in such a turn does not count.
dropped = []
sys.unraisablehook = lambda unraisable: dropped.append(unraisable.exc_type)
signal.signal(signal.SIGALRM, interrupt)
raised = 0
for turn in range(TURNS):
    action = actions[turn % len(actions)]
    try:
        armed[:] = [True] * rng.choice([1, 1, 2])
        signal.setitimer(signal.ITIMER_REAL, 1e-5 + rng.random() * times[action])
        action()
        armed.clear()
    except KeyboardInterrupt:
        raised += 1
    armed.clear()
    signal.setitimer(signal.ITIMER_REAL, 0)
    if dropped:
        assert "a child" not in left(2)
        before |= held()
        dropped.clear()
    assert left() == [], (action.__name__, turn, left())
# No lock was left taken, for which another thread would wait for ever.
other = threading.Thread(target=output, daemon=True)
other.start()
other.join(20)
say("clean", raised > TURNS / 10 and not other.is_alive())
"""


LINES = "output, captured, dialogue, waited, deadline, iterated, left_early, refused"


CALLERS = "row, chain, sleeping"
"""The caller's thread works off their stages."""


@pytest.mark.parametrize(
    ("seed", "actions"),
    [(0, LINES), (1, LINES), (2, "named"), (3, "named"), (4, CALLERS), (5, CALLERS), (6, CALLERS)],
)
def test_interrupts_at_random_moments(seed: int, actions: str, host: Host) -> None:
    """A hundred of them."""
    program = PROGRAM.replace("SEED", str(seed)).replace("TURNS", "104").replace("ACTIONS", actions)
    ended = host.run(program)
    assert (ended.err, ended.out, ended.returncode, ended.files) == ("", "clean True\n", 0, [])
