"""Stages that are killed, stopped and continued at random moments, in pipelines of commands and functions.

A stage that stands still delays the run and loses nothing. One that is killed is the stage that the error
names, whatever befalls its neighbours by that; what came out is the beginning of what went in. A deadline is
kept also where a stage stands still. The moments are steps of a dialogue with the pipeline, not times.
"""

from __future__ import annotations

import contextlib
import random
import signal
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from penstock import (
    DEVNULL,
    PIPE,
    ExitError,
    Pipeline,
    PipelineError,
    PipelineTimeout,
    command,
    function,
    map_lines,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock import Run

pytestmark = pytest.mark.slow


STEPS = 12
SEEDS = range(12)


def copy(_ctx: object, stdin: Any, stdout: Any) -> None:
    """Pass everything on."""
    for chunk in stdin.chunks():
        stdout.write(chunk)


def pipeline(rng: random.Random) -> Pipeline:
    """Three to six stages that pass on what they get, two of them at the least commands."""
    kinds = ["command", "command", *rng.choices(["command", "function", "lines"], k=rng.randrange(1, 5))]
    rng.shuffle(kinds)
    made = {
        "command": lambda name: command("cat", name=name),
        "function": lambda name: function(copy, name=name),
        "lines": lambda name: map_lines(bytes, name=name),
    }
    return Pipeline(*(made[kind](f"stage {place}") for place, kind in enumerate(kinds)))


class Dialogue:
    """A run that is written to step by step; its children, held so that no stranger is hit."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.children = [psutil.Process(pid) for pid in run.pids]
        self.stopped: set[psutil.Process] = set()
        self.written = b""

    def write(self, data: bytes) -> None:
        """Write a little, which the first pipe has room for."""
        assert self.run.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.run.stdin.write(data)
            self.written += data

    def stop_or_continue(self, child: psutil.Process) -> None:
        """Whichever it is not."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if child in self.stopped:
                self.stopped.remove(child)
                child.resume()
            else:
                self.stopped.add(child)
                child.suspend()

    def continue_all(self) -> None:
        """Nobody stands still."""
        for child in [*self.stopped]:
            self.stop_or_continue(child)

    def read(self) -> bytes:
        """All that comes out, once nothing more goes in."""
        assert self.run.stdin is not None
        assert self.run.stdout is not None
        self.run.stdin.close()
        with self.run.stdout:
            return self.run.stdout.read()


def steps(rng: random.Random) -> Iterator[bytes]:
    """Lines to write, one after the other."""
    for step in range(STEPS):
        yield b"%d %s\n" % (step, rng.randbytes(rng.randrange(200)).hex().encode())


@pytest.mark.parametrize("seed", SEEDS)
def test_stages_that_stand_still_for_a_while_lose_nothing(seed: int) -> None:
    """Stopped and continued at random, while data is under way."""
    rng = random.Random(seed)
    dialogue = Dialogue(pipeline(rng).start(stdin=PIPE, stdout=PIPE))
    for line in steps(rng):
        dialogue.stop_or_continue(rng.choice(dialogue.children))
        dialogue.write(line)
    dialogue.continue_all()
    assert dialogue.read() == dialogue.written
    assert dialogue.run.wait().ok


@pytest.mark.parametrize("pipe_errors", ["forgive", "report"])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_first_stage_that_was_killed_is_the_one_that_is_named(seed: int, pipe_errors: Any) -> None:
    """One or several, stopped or not, at any step."""
    rng = random.Random(seed)
    dialogue = Dialogue(pipeline(rng).start(stdin=PIPE, stdout=PIPE, pipe_errors=pipe_errors))
    victims = rng.sample(dialogue.children, rng.randrange(1, len(dialogue.children) + 1))
    moment = rng.randrange(STEPS)
    for step, line in enumerate(steps(rng)):
        if step < moment and rng.random() < 0.5:
            dialogue.stop_or_continue(rng.choice(dialogue.children))
        elif step == moment:
            # The last first: what is above it then may die of that before its turn, but nothing below it.
            for victim in sorted(victims, key=dialogue.children.index, reverse=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    victim.kill()
        dialogue.write(line)
    dialogue.continue_all()
    assert dialogue.written.startswith(dialogue.read())
    result = dialogue.run.wait(check=False)
    killed = next(stage for stage in result.stages if stage.signal == signal.SIGKILL)
    assert killed.pid in [victim.pid for victim in victims]
    assert isinstance(result.error, PipelineError)
    assert result.error.stage == killed.name
    assert isinstance(result.error.cause, ExitError)
    assert result.error.cause.signal == signal.SIGKILL


@pytest.mark.parametrize("seed", range(4))
def test_a_deadline_is_kept_where_stages_stand_still(seed: int, within: Any) -> None:
    """They do not even notice the SIGTERM; the SIGKILL after the grace time ends them."""
    rng = random.Random(seed)
    stages = Pipeline(*(command("cat", name=f"stage {place}") for place in range(3)))
    with within(0.05 + 0.05 + 1):
        dialogue = Dialogue(stages.start(stdin=PIPE, stdout=DEVNULL, timeout=0.05, grace=0.05))
        for child in rng.sample(dialogue.children, rng.randrange(1, 4)):
            dialogue.stop_or_continue(child)
        result = dialogue.run.wait(check=False)
    assert isinstance(result.error, PipelineTimeout)
    assert result.error.stage is None  # no stage is blamed for a deadline
