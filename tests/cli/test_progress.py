"""`penstock run --progress`: the modes, and where each shows the progress."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING

import pytest
from tests.support.screens import TerminalScreen

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeAlias

    from tests.cli.conftest import Cli, Herald
    from tests.support.terminals import Desk

    Start: TypeAlias = Callable[..., TerminalScreen]

LINE = re.compile(r"[0-9.]+s seq ended \| (cat|sort) ended \(ended\)\n")


@pytest.fixture
def start(folder: Path, desk: Desk) -> Start:
    """Give a function that starts the command line on a terminal with a screen."""

    def start(*arguments: str) -> TerminalScreen:
        words = (sys.executable, "-m", "penstock", *arguments)
        terminal = desk.start(*words, cwd=folder, env={"TERM": "xterm"}, size=(80, 24))
        return TerminalScreen(terminal, 80, 24)

    return start


@pytest.mark.parametrize(
    "arguments",
    [
        ["--progress", "seq 2 | cat"],
        ["seq 2 | cat", "--progress"],
        ["--progress=auto", "seq 2 | cat"],
        ["--progress=plain", "seq 2 | cat"],
        ["--progress", "--", "seq 2 | cat"],
    ],
)
def test_without_a_terminal_there_is_a_line_of_text(cli: Cli, arguments: list[str]) -> None:
    """`--progress` alone takes no word, wherever it stands."""
    done = cli("run", *arguments)
    assert (done.status, done.out) == (0, b"1\n2\n")
    assert LINE.fullmatch(done.err)


def test_json_is_an_object_a_line_and_the_last_one_says_done(cli: Cli) -> None:
    done = cli("run", "--progress=json", "seq 2 | sh -c 'cat; sleep 1.5; exit 3'")
    assert (done.status, done.out) == (3, b"1\n2\n")
    *lines, error = done.err.splitlines()
    assert error == "sh: exit status 3"
    snapshots = [json.loads(line) for line in lines]
    assert [snapshot["done"] for snapshot in snapshots] == [False] * (len(snapshots) - 1) + [True]
    assert len(snapshots) >= 2
    assert all([stage["name"] for stage in each["stages"]] == ["seq", "sh"] for each in snapshots)


@pytest.mark.parametrize("arguments", [["--progress=none"], []])
def test_none_is_the_default(cli: Cli, arguments: list[str]) -> None:
    assert cli("run", *arguments, "seq 2 | cat").err == ""


def test_an_unknown_mode_is_a_mistake_that_names_the_modes(cli: Cli) -> None:
    done = cli("run", "--progress=fancy", "seq 2")
    assert done.status == 2
    assert "--progress" in done.err
    assert "'fancy' is not one of 'auto', 'tty', 'plain', 'json', 'none'" in done.err


def test_tty_needs_a_terminal(cli: Cli) -> None:
    done = cli("run", "--progress=tty", "seq 2")
    assert (done.status, done.out) == (2, b"")
    assert "standard error is not a terminal" in done.err


def test_a_folder_of_that_name_is_the_word_of_another_option(cli: Cli, folder: Path) -> None:
    (folder / "--progress").mkdir()
    done = cli("run", "--cwd", "--progress", "pwd")
    assert (done.status, done.err) == (0, "")
    assert done.out.endswith(b"/--progress\n")


def test_on_a_terminal_the_stages_are_drawn(start: Start, folder: Path) -> None:
    os.mkfifo(folder / "go")
    screen = start("run", "--verbose", "--progress", "sh -c 'echo said >&2; read x <go' | cat > out")
    screen.wait_for("said")
    screen.wait_for("stage ")
    (folder / "go").write_text("\n")
    assert screen.status() == 0
    rows = screen.everything
    assert any(row.startswith("penstock: cat: started, pid ") for row in rows)
    assert "penstock: cat: ended" in rows
    assert sum(row.startswith("ended after ") for row in rows) == 1


def test_ctrl_c_leaves_the_screen_clean(start: Start, herald: Herald) -> None:
    screen = start("run", "--progress=tty", f"{herald.cry('sleep 1000')} | cat > out")
    herald.hear(1)
    screen.wait_for("cat ")
    screen.terminal.type("\x03")
    assert screen.status() == 130
    assert screen.rows[-1].startswith("ended after ")
    assert screen.cursor == (0, len(screen.rows))
    assert sum("stage " in row for row in screen.everything) == 1
