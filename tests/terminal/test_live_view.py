"""The live view (`progress=True`) as the user of a terminal sees it."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

import pytest
from tests.support.screens import TerminalScreen
from tests.support.terminals import PROMPT, until_stopped
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.terminals import Desk

# `step` says something on stderr, waits for the first FIFO, says something, waits for the second, and so on.
PROGRAM = """
def step(*says, then="exit 0"):
    waits = [f"echo {word} >&2; read x <go{n}; " for n, word in enumerate(says)]
    return command("sh", "-c", "".join(waits) + then, name="step")
"""
# A user does not answer a question within the time between two frames. So the tests wait for the pause.
NOTE_PAUSES = """
from penstock.system.terminal_use import TerminalUse
look = TerminalUse.by_others

def by_others(self, pids):
    used = look(self, pids)
    if used:
        open("paused", "w").close()
    return used

TerminalUse.by_others = by_others
"""
SHOW = 'step("one", "two") | command("cat"), progress=True, stdout=DEVNULL, stderr=INHERIT'
FOOT = re.compile(r"^(\.\.\. \d+ more  )?(ended after )?[0-9.]+s\b")
NAMES_SYSTEM_CALLS = os.path.exists("/proc/self/syscall")  # noqa: PTH110 - as everywhere in these tests


class Steps:
    """Lets the commands of a program go on."""

    def __init__(self, folder: Path) -> None:
        self._paths = [folder / f"go{n}" for n in range(3)]
        for path in self._paths:
            os.mkfifo(path)

    def go(self) -> None:
        """Let the command go on from where it waits; wait until it does."""
        with self._paths.pop(0).open("w") as fifo:
            fifo.write("\n")


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(tmp_path)


def _feet(screen: TerminalScreen) -> list[str]:
    """Return the last lines of all frames that stand on the screen or have scrolled out."""
    return [row for row in screen.everything if FOOT.match(row)]


def _check_end(screen: TerminalScreen, *text: str) -> None:
    """Check that the text stands above one last frame, and that the cursor is below it."""
    rows = screen.everything
    assert rows[: len(text)] == [*text]
    (foot,) = _feet(screen)
    assert foot.startswith("ended after ")
    assert screen.cursor_is_shown
    assert screen.cursor == (0, len(screen.rows))


def test_the_text_of_commands_stands_above_one_line_a_stage(desk: Desk, steps: Steps) -> None:
    screen = desk.screen(PROGRAM + f"Pipeline({SHOW}).run()")
    screen.wait_until(lambda: screen.rows and FOOT.match(screen.rows[-1]))
    head, step, cat, _foot = screen.rows[-4:]
    assert head.split()[:2] == ["stage", "state"]
    assert step[2:].startswith("step")
    assert cat[2:].startswith("cat")
    screen.wait_until(lambda: screen.rows[0] == "one")
    steps.go()
    screen.wait_until(lambda: screen.rows[:2] == ["one", "two"])
    steps.go()
    assert screen.status() == 0
    _check_end(screen, "one", "two")
    assert [row.split()[:2] for row in screen.rows[3:5]] == [["step", "ended"], ["cat", "ended"]]


@pytest.mark.parametrize(("columns", "rows"), [(20, 24), (33, 10), (80, 5), (80, 4), (300, 3)])
def test_it_fits_any_terminal(desk: Desk, steps: Steps, columns: int, rows: int) -> None:
    screen = desk.screen(PROGRAM + f"Pipeline({SHOW}).run()", columns, rows)
    screen.wait_until(lambda: any(map(FOOT.search, screen.rows)))
    steps.go()
    steps.go()
    assert screen.status() == 0
    assert screen.everything[:2] == ["one", "two"]
    assert "ended after" in screen.everything[-1]


def test_it_follows_the_size_of_the_window(desk: Desk, steps: Steps) -> None:
    program = PROGRAM + f'Pipeline(command("true", name="n" * 60) | {SHOW}).run()'
    screen = desk.screen(program, 100, 24)
    screen.wait_for("n" * 60)
    screen.resize(40, 8)
    screen.wait_for("n…")
    screen.resize(120, 24)
    screen.wait_for("n" * 60)
    steps.go()
    steps.go()
    assert screen.status() == 0
    assert "ended after" in screen.everything[-1]


def test_a_flood_of_text_scrolls_above_and_nothing_is_lost(desk: Desk) -> None:
    program = """
        noise = command("sh", "-c", "seq 3000 >&2; printf half >&2")
        result = noise.run(progress=True, stderr=INHERIT, stdout=DEVNULL)
        print(len(result.stages[0].stderr))
        """
    screen = desk.screen(program, 80, 10)
    assert screen.status() == 0
    rows = screen.everything
    assert rows[:3001] == [*map(str, range(1, 3001)), "half"]
    assert len(_feet(screen)) == 1
    assert rows[-1] == str(len("".join(f"{n}\n" for n in range(1, 3001))) + 4)  # captured as by TEE


def test_a_question_on_stderr_is_shown_before_it_is_a_line(desk: Desk, steps: Steps) -> None:
    program = (
        PROGRAM
        + """
say(step(then="printf 'go on? ' >&2; read x <go0").run(progress=True, stderr=TEE, stdout=DEVNULL).stderr)
"""
    )
    screen = desk.screen(program)
    screen.wait_for("go on?")
    steps.go()
    assert screen.status() == 0
    assert screen.everything[0] == "go on?"
    assert screen.everything[-1] == "b'go on? '"


@pytest.mark.parametrize(
    ("then", "says"),
    [("exit 3", "PipelineError"), ("kill -9 $$", "PipelineError")],
)
def test_a_failure_leaves_the_screen_clean(desk: Desk, steps: Steps, then: str, says: str) -> None:
    show = f'step("one", then="{then}") | command("cat"), progress=True, stdout=DEVNULL, stderr=INHERIT'
    program = (
        PROGRAM
        + f"try:\n    Pipeline({show}).run()\nexcept PipelineError as e:\n    err = type(e).__name__\n"
    )
    screen = desk.screen(program + "say(err)\n")
    screen.wait_for("cat")
    steps.go()
    assert screen.status() == 0
    assert screen.everything[0] == "one"
    assert screen.everything[-1] == says
    assert len(_feet(screen)) == 1


@pytest.mark.parametrize("way", ["run()", "start().wait()"])
@pytest.mark.usefixtures("steps")
def test_ctrl_c_leaves_the_screen_clean(desk: Desk, way: str) -> None:
    screen = desk.screen(
        PROGRAM + f"try:\n    Pipeline({SHOW}).{way}\nexcept KeyboardInterrupt:\n    say('interrupted')\n"
    )
    screen.wait_until(lambda: screen.rows and FOOT.match(screen.rows[-1]))
    modes = screen.terminal.modes()
    screen.terminal.type(b"\x03")
    assert screen.status() == 0
    assert screen.everything[-1] == "interrupted"
    (foot,) = _feet(screen)
    assert foot.startswith("ended after ")
    assert screen.terminal.modes() == modes


def test_a_start_that_fails_shows_nothing(desk: Desk) -> None:
    screen = desk.screen(
        """
        try:
            (command("true") | command("no such program")).run(progress=True, stdout=DEVNULL)
        except StartError:
            say("failed")
        """
    )
    assert screen.status() == 0
    assert screen.everything == ["failed"]


def test_a_password_prompt_stays_until_it_is_answered(desk: Desk, tmp_path: Path) -> None:
    program = """
ask = command(sys.executable, "-c", "import getpass; print(len(getpass.getpass()))")
say((ask | command("cat")).text(progress=True))
"""
    screen = desk.screen(NOTE_PAUSES + program)
    screen.wait_for("Password:")
    until((tmp_path / "paused").exists)
    screen.update()
    before = screen.rows
    row = screen.rows.index("Password:")
    screen.terminal.type("secret\n")
    assert screen.status() == 0
    assert screen.everything[-1] == "6"
    assert screen.rows[: row + 1] == before[: row + 1]


@pytest.mark.skipif(not NAMES_SYSTEM_CALLS, reason="the kernel does not show what a process waits for")
def test_it_waits_while_a_command_reads_the_terminal(desk: Desk, steps: Steps, tmp_path: Path) -> None:
    """The program keeps its echo and its line mode, so only the read tells."""
    program = (
        NOTE_PAUSES
        + """
ask = command("sh", "-c", "read x <go0; printf 'name? ' >/dev/tty; read x </dev/tty; echo $x; read x <go1")
say((ask | command("cat")).text(progress=True))
"""
    )
    screen = desk.screen(program)
    screen.wait_until(lambda: _feet(screen))
    steps.go()
    screen.wait_for("name?")
    until((tmp_path / "paused").exists)
    before = screen.rows
    screen.terminal.type("me\n")
    steps.go()
    assert screen.status() == 0
    assert screen.everything[-1] == "me"
    place = next(n for n, row in enumerate(screen.rows) if row.startswith("name?"))
    assert before[place] == "name?"
    assert screen.rows[place] == "name? me"
    assert len(_feet(screen)) == 2  # the frame above the question stays


def test_ctrl_z_and_fg(desk: Desk, steps: Steps) -> None:
    """The shell writes below the frame, which stays; after `fg` there is a new one."""
    shell = desk.shell(size=(80, 24), env={"TERM": "xterm-256color"})
    script = desk.script(PROGRAM + f"say('pids', os.getpid())\nPipeline({SHOW}).run()")
    shell.type(f"$PYTHON {script}\n")
    pids = shell.pids()
    screen = TerminalScreen(shell, 80, 24)
    screen.wait_for("cat")
    shell.type(b"\x1a")
    shell.wait_for(PROMPT)
    until_stopped(pids)
    time.sleep(0.8)  # what the user does meanwhile; the view notices a stop of 0.7 s
    shell.type("fg\n")
    screen.wait_until(lambda: len(_feet(screen)) == 2)
    steps.go()
    screen.wait_for("two")
    steps.go()
    shell.wait_for(PROMPT)
    screen.update()
    rows = screen.everything
    stopped = next(place for place, row in enumerate(rows) if "Stopped" in row)
    before, after = (place for place, row in enumerate(rows) if FOOT.match(row))
    assert before < stopped < after
    assert rows[after].startswith("ended after")


@pytest.mark.parametrize("name", ["NO_COLOR", "none"])
def test_colours_can_be_switched_off(desk: Desk, steps: Steps, name: str) -> None:
    program = (
        PROGRAM
        + """
from penstock.core.snapshot import Snapshot
from penstock.engine import managed_run
real = managed_run.ManagedRun.snapshot
managed_run.ManagedRun.snapshot = lambda run: real(run).__replace__(bottleneck="step", bottleneck_index=0)
"""
    )
    screen = desk.screen(program + f"Pipeline({SHOW}).run()", env={name: "1"})
    screen.wait_for("▶ step")
    assert screen.colours == (set() if name == "NO_COLOR" else {"brown"})  # which is what pyte calls yellow
    steps.go()
    steps.go()
    assert screen.status() == 0


PLAIN = {
    "a dumb terminal": (SHOW, {"TERM": "dumb"}),
    "the output goes there too": (SHOW.replace("stdout=DEVNULL, ", ""), {}),
    "the output goes there by a file": (SHOW.replace("DEVNULL", "sys.stderr"), {}),
    "the output goes there by a path": (SHOW.replace("DEVNULL", "'/dev/tty'"), {}),
    "this process reads there": (f"map_lines(bytes.upper) | {SHOW}, stdin=INHERIT", {}),
    "plain": (SHOW.replace("True", "'plain'"), {}),
}


@pytest.mark.parametrize("reason", PLAIN)
def test_lines_if_it_cannot_be_drawn(desk: Desk, steps: Steps, reason: str) -> None:
    show, env = PLAIN[reason]
    screen = desk.screen(PROGRAM + f"Pipeline({show}).run()", env=env)
    steps.go()
    if "stdin=INHERIT" in show:
        screen.terminal.type(b"\x04")
    steps.go()
    assert screen.status() == 0
    assert b"\x1b" not in screen.terminal.everything
    *text, line = [row for row in screen.everything if row]
    assert [row for row in text if row in ("one", "two")] == ["one", "two"]
    assert re.search(r"^[0-9.]+s .*step ended \| cat ended \(ended\)$", line)


def test_tty_insists(desk: Desk, steps: Steps) -> None:
    show = SHOW.replace("stdout=DEVNULL, ", "").replace("True", "'tty'")
    screen = desk.screen(PROGRAM + f"Pipeline({show}).run()", env={"TERM": "dumb"})
    screen.wait_for("cat")
    steps.go()
    steps.go()
    assert screen.status() == 0
    assert _feet(screen)


def test_without_rich_there_are_lines_and_a_notice(desk: Desk, steps: Steps) -> None:
    program = "sys.modules['rich.cells'] = None\n" + PROGRAM + f"Pipeline({SHOW}).run()"
    screen = desk.screen(program)
    steps.go()
    steps.go()
    assert screen.status() == 0
    assert screen.everything[:2] == ["one", "two"]
    assert screen.everything[2] == "the live view needs rich: pip install 'penstock[cli]'"
    assert screen.everything[3].endswith("(ended)")


def test_print_above_and_handlers_of_events(desk: Desk, steps: Steps) -> None:
    program = (
        PROGRAM
        + f"""
tell = lambda event: print_above(event.kind, event.stage)
run = Pipeline({SHOW}, on_event=tell).start()
print_above("a\\x1b[2Jb")
run.wait()
print_above("after", "all", sep="-")
import io
sys.stderr = io.StringIO()
print_above("elsewhere")
"""
    )
    screen = desk.screen(program)
    screen.wait_for("[2Jb")
    steps.go()
    steps.go()
    assert screen.status() == 0
    rows = screen.everything
    assert {"start step", "start cat", "exit step", "exit cat", r"a\x1b[2Jb"} <= set(rows)
    assert rows[-1] == "after-all"
    assert len(_feet(screen)) == 1


def test_of_two_runs_at_once_one_is_drawn_and_the_other_has_lines(desk: Desk, steps: Steps) -> None:
    program = (
        PROGRAM
        + f"""
first = Pipeline({SHOW}).start()
other = step(then="echo other >&2").run(progress=True, stdout=DEVNULL, stderr=INHERIT)
first.wait()
step().run(progress=True, stdout=DEVNULL)
"""
    )
    screen = desk.screen(program)
    screen.wait_for("step ended (ended)")
    steps.go()
    steps.go()
    assert screen.status() == 0
    rows = screen.everything
    assert sorted(row for row in rows if row in ("one", "two", "other")) == ["one", "other", "two"]
    assert len(_feet(screen)) == 3  # that of the first run, the line of the second, and that of the third


def test_a_terminal_that_is_stopped_holds_up_no_end(desk: Desk, steps: Steps, tmp_path: Path) -> None:
    """Ctrl-S: the terminal takes nothing more."""
    screen = desk.screen(PROGRAM + f"Pipeline({SHOW}).run()\nopen('ended', 'w').close()\nos._exit(7)")
    screen.wait_for("cat")
    screen.terminal.type(b"\x13")
    steps.go()
    steps.go()
    until((tmp_path / "ended").exists)


def test_a_terminal_that_is_closed_ends_the_view_only(desk: Desk, steps: Steps, tmp_path: Path) -> None:
    program = (
        f"signal.signal(signal.SIGHUP, signal.SIG_IGN)\nPipeline({SHOW}).run()\nopen('ended', 'w').close()"
    )
    screen = desk.screen(PROGRAM + program)
    screen.wait_for("cat")
    screen.terminal.hang_up()
    steps.go()
    steps.go()
    until((tmp_path / "ended").exists)


def test_a_forked_copy_draws_nothing_and_can_draw_its_own(desk: Desk, steps: Steps) -> None:
    program = (
        PROGRAM
        + f"""
run = Pipeline({SHOW}).start()
if os.fork() == 0:
    print_above("child")
    os._exit(0)
os.wait()
run.wait()
"""
    )
    screen = desk.screen(program)
    screen.wait_for("cat")
    steps.go()
    steps.go()
    assert screen.status() == 0
    assert "ended after" in screen.everything[-1]
