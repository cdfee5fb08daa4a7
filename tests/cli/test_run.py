"""`penstock run`, from outside: each test is a process of its own, in a folder that holds a `tools.py`."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow


# What the issue wants to be shown.


def test_yes_head(cli: Any) -> None:
    """An endless producer is forgiven for dying of SIGPIPE above a `head` that read enough."""
    done = cli("run", "yes | head -3")
    assert (done.status, done.out, done.err) == (0, b"y\ny\ny\n", "")


def test_a_failure_is_not_hidden_by_a_later_success(cli: Any) -> None:
    """The exit status is that of the failed command, and one line says which it was."""
    done = cli("run", "false | true")
    assert (done.status, done.out, done.err) == (1, b"", "false: exit status 1\n")


def test_a_missing_python_name(cli: Any) -> None:
    """What is missing is said, with carets under it, and nothing is started."""
    done = cli("run", "seq 100000 | py:examples_missing:f")
    assert (done.status, done.out) == (2, b"")
    lines = done.err.splitlines()
    assert lines[0] == "penstock: no module named 'examples_missing'"
    assert lines[1] == "  seq 100000 | py:examples_missing:f"
    assert lines[2] == "                  ^^^^^^^^^^^^^^^^"


def test_a_timeout_is_prompt(cli: Any, folder: Path, within: Any) -> None:
    """A timeout ends the run at once, with the status of timeout(1)."""
    with within(20) as clock:  # nearly all of it is what the interpreter and the imports take
        done = cli("run", "--json", "told.json", "--timeout", "1", "sleep 30")
    assert done.status == 124
    result = json.loads((folder / "told.json").read_bytes())
    assert result["error"]["message"] == "timed out after 1 s"
    assert 1 <= result["elapsed"] < 1.5 + clock.late


def test_an_idle_timeout_ends_a_silent_run(cli: Any) -> None:
    """What came before has been printed; a run that goes on writing is left alone."""
    done = cli("run", "--idle-timeout", "1", "sh -c 'echo begun; exec sleep 30'")
    assert (done.status, done.out) == (124, b"begun\n")
    assert "no output for 1 s" in done.err
    done = cli("run", "--idle-timeout", "5s", "printf 'a\\nb\\n' | map:tools:upper")
    assert (done.status, done.out) == (0, b"A\nB\n")
    assert "--idle-timeout" in cli("run", "--idle-timeout", "0", "true").err


# The language, carried out.


def test_the_pipeline_of_the_documentation(cli: Any, folder: Path) -> None:
    """Commands and Python stages mix, and `>` takes the output of the last."""
    (folder / "access.log").write_text("1\n2\n3\n4\n2\n")
    done = cli(
        "run", "cat access.log | filter:tools:is_even | lines:tools:numbered | py:tools:f | sort > report"
    )
    assert (done.status, done.out, done.err) == (0, b"", "")
    assert (folder / "report").read_text() == "<1 2>\n<2 4>\n<3 2>\n"


def test_it_is_a_filter(cli: Any) -> None:
    """It reads its own stdin and writes its own stdout, at commands and at Python stages alike."""
    assert cli("run", "cat", stdin=b"a\0b").out == b"a\0b"
    assert cli("run", "map:tools:upper", stdin=b"a\nb").out in (b"A\nB", b"A\nB\n")
    assert cli("run", "sort | uniq -c | map:tools:upper", stdin=b"b\na\nb\n").out.split() == [
        b"1",
        b"A",
        b"2",
        b"B",
    ]


def test_files(cli: Any, folder: Path) -> None:
    """`<`, `>`, `>>`, `2>`, `2>>` and `2>&1` do what they do in a shell."""
    (folder / "in put").write_text("x\n")
    assert cli("run", "cat<'in put'>out").status == 0
    assert cli("run", "cat < 'in put' | map:tools:upper >> out").status == 0
    assert (folder / "out").read_text() == "x\nX\n"
    assert cli("run", "sh -c 'echo e >&2' 2> err").err == ""
    assert cli("run", "sh -c 'echo f >&2' 2>>err | cat").err == ""
    assert (folder / "err").read_text() == "e\nf\n"
    assert cli("run", "sh -c 'echo e >&2' 2>&1 | map:tools:upper").out == b"E\n"
    assert cli("run", "sh -c 'echo e >&2; echo o' > both 2>&1").err == ""
    assert sorted((folder / "both").read_text().split()) == ["e", "o"]


def test_two_redirections_to_one_file_lose_nothing(cli: Any, folder: Path) -> None:
    """A shell opens it twice, and one output overwrites the other."""
    says = "sh -c 'echo out; echo err >&2; echo out2'"
    (folder / "f").write_text("an old text that is longer than what is said\n")
    (folder / "link").symlink_to("f")
    assert cli("run", f"{says} > f 2> link").status == 0
    assert (folder / "f").read_text() == "out\nerr\nout2\n"
    assert cli("run", f"{says} >> f 2>> ./f").status == 0
    assert (folder / "f").read_text() == "out\nerr\nout2\n" * 2
    assert cli("run", "sh -c 'echo one >&2' 2> f | sh -c 'cat; echo two >&2' 2> f").status == 0
    assert (folder / "f").read_text() == "one\ntwo\n"


def test_a_file_is_not_emptied_before_it_is_read(cli: Any, folder: Path) -> None:
    """Whatever the order of the two is; `>>` is left to the program."""
    (folder / "f").write_text("text\n")
    for line in ("cat < f > f", "cat > ./f < f", "cat < f 2> f", "cat < f | cat > f"):
        done = cli("run", line)
        assert (done.status, (folder / "f").read_text()) == (2, "text\n")
        assert "are the same file, which would be empty before it is read: " in done.err
        assert "atomic" not in done.err
        assert cli("explain", line).err == done.err
    assert cli("run", "head -c 2 < f >> f").status == 0
    assert (folder / "f").read_text() == "text\nte"


def test_the_next_stage_reads_stderr_alone(cli: Any, folder: Path) -> None:
    """In the order of a shell: `2>&1 >file |`."""
    done = cli("run", "sh -c 'echo out; echo err >&2' 2>&1 > aside | map:tools:upper")
    assert (done.status, done.out, done.err) == (0, b"ERR\n", "")
    assert (folder / "aside").read_text() == "out\n"
    assert b"sh (stderr)" in cli("explain", "sh 2>&1 >> aside | cat").out


def test_stderr_is_shown_and_kept_for_the_result(cli: Any, folder: Path) -> None:
    """And is not said twice."""
    done = cli("run", "--tee-stderr", "--json", "result", "sh -c 'echo one >&2; echo two >&2; exit 3'")
    assert (done.status, done.err) == (3, "one\ntwo\nsh: exit status 3\n")
    assert json.loads((folder / "result").read_text())["stages"][0]["stderr"] == "one\ntwo\n"


def test_stderr_of_commands_is_ours(cli: Any) -> None:
    """What a command says on stderr comes out as it is, and is not said twice."""
    done = cli("run", "sh -c 'echo oops >&2; exit 3'")
    assert (done.status, done.err) == (3, "oops\nsh: exit status 3\n")


def test_no_shell_is_started(cli: Any) -> None:
    """Variables, globs and quoted operators are what they look like."""
    done = cli("run", "printf '%s\\n' $HOME * ~ 'a|b' \"c;d\" \\& ''")
    assert done.out.decode().split("\n")[:-1] == ["$HOME", "*", "~", "a|b", "c;d", "&", ""]


def test_text_that_is_not_ascii_and_undecodable_bytes(cli: Any) -> None:
    """Arguments reach the program as the bytes that were typed."""
    assert cli("run", "printf '%s' 'naïve 日本 🎉'").out.decode() == "naïve 日本 🎉"
    assert cli("run", b"printf %s \xff\xfe").out == b"\xff\xfe"
    assert cli("run", b"nothing-like-\xff").status == 127
    assert cli("explain", b"printf %s-\xff | nothing-like-\xff").status == 0


def test_variables(cli: Any) -> None:
    """`NAME=value` is for one command, `--env` for all of them."""
    line = "A=1 sh -c 'echo $A$B$C' | B=2 sh -c 'cat; echo $A$B$C'"
    assert cli("run", "--env", "C=x=y", "--env", "B=", line).out == b"1x=y\n2x=y\n"


def test_cwd(cli: Any, folder: Path) -> None:
    """`--cwd` is where the commands run; what the line names is looked for in our own folder."""
    (folder / "sub").mkdir()
    (folder / "script").write_text("#!/bin/sh\npwd\n")
    (folder / "script").chmod(0o755)
    done = cli("run", "--cwd", "sub", "./script | map:tools:upper > out")
    assert (done.status, done.err) == (0, "")
    assert (folder / "out").read_text() == f"{folder}/sub\n".upper()


def test_the_console_script_finds_modules_of_the_current_folder(folder: Path) -> None:
    """Not only `python -m penstock` does."""
    script = Path(sys.executable).with_name("penstock")
    if not script.exists():
        pytest.skip("the console script is not installed")
    done = subprocess.run(
        [script, "run", "echo a | map:tools:upper"], cwd=folder, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"A\n")


def test_a_file_named_like_a_standard_module_does_no_harm(folder: Path) -> None:
    """The current folder is no place to import from, unless the line names a module."""
    script = Path(sys.executable).with_name("penstock")
    if not script.exists():
        pytest.skip("the console script is not installed")
    for name in ("ctypes", "json", "random", "select"):
        (folder / f"{name}.py").write_text("raise SystemExit(99)")
    done = subprocess.run(
        [script, "run", "--json", "/dev/null", "echo a | cat"], cwd=folder, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"a\n")


@pytest.mark.parametrize(
    ("line", "out"),
    [
        ("py:tools:stage", b"AB\n"),
        ("py:tools:nested", b"BA\n"),
        ("map:tools:Thing.shout", b"AB\n"),
        ("map:builtins:bytes.upper", b"AB\n"),
        ("py:tools:first", b"first\n"),
        ("yes | py:tools:two", b"y\ny\n"),
    ],
)
def test_py_may_name_stages_pipelines_and_functions(cli: Any, line: str, out: bytes) -> None:
    """A stage, a pipeline, a function, or something inside a class; a source leaves stdin alone."""
    done = cli("run", line, stdin=b"ab\n")
    assert (done.status, done.out, done.err) == (0, out, "")


# Exit statuses.


@pytest.mark.parametrize(
    ("line", "status", "says"),
    [
        ("true", 0, ""),
        ("sh -c 'exit 42'", 42, "sh: exit status 42"),
        ("sh -c 'exit 42' | sh -c 'exit 3'", 42, "sh: exit status 42"),
        ("sh -c 'kill -TERM $$'", 143, "sh: signal: terminated"),
        ("sh -c 'kill -KILL $$' | cat", 137, "sh: signal: killed"),
        ("nothing-like-this | cat", 127, "nothing-like-this: no such program on PATH\n"),
        ("./nothing-like-this", 127, "./nothing-like-this: no such program\n"),
        ("echo a | ./tools.py", 126, "tools.py"),
        ("/", 126, "/"),
        ("echo a | map:tools:boom", 1, "map:tools:boom: KeyError: 'boom'"),
        ("echo a | map:tools:boom | sh -c 'cat; exit 4'", 1, "KeyError"),
        ("cat < nowhere", 1, "nowhere: No such file or directory"),
        ("echo a > nowhere/out", 1, "nowhere/out: No such file or directory"),
        ("''", 2, "penstock: "),
        ("echo a; echo b", 2, "';' is not understood here"),
        ("cat | ", 2, "no command after"),
        ("py:tools", 2, "py:MODULE:NAME"),
        ("map:tools:uper", 2, "did you mean 'upper'?"),
        ("map:tools:", 2, "map:MODULE:NAME"),
        ("map:tools:number", 2, "type 'int'"),
        ("py:tools:wrong", 2, "ctx, stdin, stdout"),
        ("py:tools:Thing", 2, "is a class"),
        ("py:tools:own_stdin", 2, "stdin"),
        ("py:tools:f x", 2, "no arguments"),
        ("A=1 py:tools:f", 2, "has no effect"),
        ("py:tools:f 2> err", 2, "no standard error"),
    ],
)
def test_exit_status(cli: Any, line: str, status: int, says: str) -> None:
    """The status and the reason of everything that may go wrong; nobody is shown a traceback."""
    done = cli("run", line)
    assert done.status == status
    assert says in done.err
    assert "Traceback" not in done.err


def test_where_a_function_raised(cli: Any, folder: Path) -> None:
    """The error of a Python stage names the file and the line; `--verbose` shows the whole way there."""
    spot = f"{folder}/tools.py"
    assert f"in {spot}, line " in cli("run", "echo a | map:tools:boom").err
    verbose = cli("run", "-v", "echo a | map:tools:boom").err
    assert "Traceback" in verbose
    assert f'File "{spot}"' in verbose


def test_a_module_that_cannot_be_imported(cli: Any, folder: Path) -> None:
    """It is not mistaken for one that is missing, and the reason and the place in it are told."""
    (folder / "broken.py").write_text("\nimport nothing_like_this\n")
    (folder / "leaving.py").write_text("raise SystemExit(0)\n")
    (folder / "half.py").write_text("def f(:\n")
    done = cli("run", "py:broken:f")
    assert done.status == 2
    assert "importing 'broken' failed: ModuleNotFoundError: No module named 'nothing_like_this'" in done.err
    assert f"in {folder}/broken.py, line 2" in done.err
    assert "importing 'leaving' failed: SystemExit: 0" in cli("run", "py:leaving:f").err
    assert "importing 'half' failed: SyntaxError" in cli("run", "py:half:f").err


def test_a_mistake_empties_no_file(cli: Any, folder: Path) -> None:
    """Nothing is opened before the whole line is understood."""
    (folder / "precious").write_text("gold")
    assert cli("run", "echo a > precious 2>&3").status == 2
    assert cli("run", "py:tools:missing > precious").status == 2
    assert cli("explain", "echo a > precious").status == 0
    assert (folder / "precious").read_text() == "gold"


# Options.


@pytest.mark.parametrize("text", ["0.2", "0.2s", "0m0.2s", ".2"])
def test_timeouts(cli: Any, text: str) -> None:
    """Seconds may be written in several ways."""
    assert cli("run", "--timeout", text, "sleep 30").status == 124


@pytest.mark.parametrize("text", ["", "0", "-1", "soon", "1x", "nan", "1s1m", "1e9"])
def test_invalid_timeouts(cli: Any, text: str) -> None:
    """Anything else is refused."""
    done = cli("run", f"--timeout={text}", "true")
    assert done.status == 2
    assert "--timeout" in done.err


@pytest.mark.parametrize(
    "arguments", [("--env", "A", "true"), ("--env", "=1", "true"), ("--cwd", "nowhere", "true"), ()]
)
def test_unknown_options(cli: Any, arguments: tuple[str, ...]) -> None:
    """Mistakes in the options have the status of mistakes in the line."""
    assert cli("run", *arguments).status == 2


@pytest.fixture
def told(cli: Any, folder: Path) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Return a function that runs a line with --json, and returns how it ended and the object."""

    def told(line: str, *options: str) -> tuple[Any, dict[str, Any]]:
        done = cli("run", "--json", "told.json", *options, line)
        text = (folder / "told.json").read_text(encoding="ascii")
        assert text.count("\n") == 1
        found: dict[str, Any] = json.loads(text)
        assert found["status"] == done.status
        return done, found

    return told


def test_json(told: Any) -> None:
    """A file has the object, so that stderr is left to the commands and to the error."""
    done, found = told("sh -c 'echo noise >&2; exit 3' | map:tools:upper")
    assert (done.status, found["ok"]) == (3, False)
    assert done.err.startswith("noise\nsh: exit status 3")
    assert found["error"]["message"].startswith("sh: exit status 3")
    assert (found["error"]["type"], found["error"]["stage"], found["error"]["index"]) == (
        "PipelineError",
        "sh",
        0,
    )
    assert [stage["name"] for stage in found["stages"]] == ["sh", "map:tools:upper"]
    assert [stage["returncode"] for stage in found["stages"]] == [3, None]
    assert found["stages"][0]["max_rss"] > 0
    assert [edge["kind"] for edge in found["edges"]] == ["inherit", "os-pipe", "inherit"]
    assert told("true")[1]["ok"] is True
    _, missing = told("true | nothing-like-this")
    assert (missing["ok"], missing["status"], missing["error"]["type"]) == (False, 127, "StartError")
    _, mistaken = told("true |")
    assert (mistaken["ok"], mistaken["error"]["type"]) == (False, "PipelineSyntaxError")
    assert told("sleep 30", "--timeout", "0.1")[1]["error"]["type"] == "PipelineTimeout"


def test_json_may_go_to_a_descriptor_of_the_caller(folder: Path) -> None:
    """As with every program that takes a file."""
    penstock = f"{shlex.quote(sys.executable)} -m penstock"
    done = subprocess.run(
        ["sh", "-c", f"exec 3>told.json; {penstock} run --json /dev/fd/3 'echo a'"],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"a\n", b"")
    assert json.loads((folder / "told.json").read_bytes())["ok"] is True


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "-"])
def test_json_that_goes_where_the_output_goes_comes_after_it(folder: Path, name: str) -> None:
    """It is the same open file, so nothing is cut short, and what the caller writes next comes after it."""
    penstock = f"{shlex.quote(sys.executable)} -m penstock"
    script = f"(echo one; {penstock} run --json {name} 'echo a'; echo two) >told"
    subprocess.run(["sh", "-c", script], cwd=folder, check=True, timeout=30)
    before, output, result, after = (folder / "told").read_bytes().splitlines()
    assert (before, output, json.loads(result)["ok"], after) == (b"one", b"a", True, b"two")


def test_json_for_a_descriptor_that_is_not_open_is_a_mistake(cli: Any) -> None:
    """Before anything starts."""
    done = cli("run", "--json", "/dev/fd/77", "echo a")
    assert (done.status, done.out) == (2, b"")
    assert "/dev/fd/77" in done.err


@pytest.mark.parametrize(
    ("file", "status", "says"),
    [
        ("nowhere/told.json", 2, "No such file"),
        ("/dev/full", 1, "--json: /dev/full: No space left on device"),
    ],
)
def test_a_file_for_json_that_cannot_be_written(cli: Any, file: str, status: int, says: str) -> None:
    """It is no success, and nothing has run if that is known before."""
    done = cli("run", "--json", file, "echo a")
    assert done.status == status
    assert says in done.err
    assert done.out == (b"" if status == 2 else b"a\n")


ASYNC = """
import asyncio

async def upper(line):
    await asyncio.sleep(0)
    return line.upper()

async def twice(lines):
    async for line in lines:
        yield line
        yield line

async def copy(ctx, stdin, stdout):
    async for chunk in stdin:
        await stdout.send(chunk)

async def boom(line):
    raise KeyError("boom")
"""


@pytest.mark.parametrize(
    ("line", "status", "out", "says"),
    [
        ("echo a | map:anew:upper", 0, b"A\n", ""),
        ("seq 2 | lines:anew:twice | cat | py:anew:copy | map:tools:upper", 0, b"1\n1\n2\n2\n", ""),
        (
            "echo a | map:anew:boom",
            1,
            b"",
            "map:anew:boom: KeyError: 'boom'\n  in {here}/anew.py, line 18\n",
        ),
        (
            "true | nothing-like-this | map:anew:upper",
            127,
            b"",
            "nothing-like-this: no such program on PATH\n",
        ),
        ("sh -c 'exit 4' | map:anew:upper", 4, b"", "sh: exit status 4\n"),
    ],
)
def test_an_async_function_runs_in_an_event_loop(
    cli: Any, folder: Path, line: str, status: int, out: bytes, says: str
) -> None:
    """Of the command line's own, and with the same verdict and messages."""
    (folder / "anew.py").write_text(ASYNC)
    done = cli("run", line)
    assert (done.status, done.out, done.err) == (status, out, says.format(here=folder))


def test_a_timeout_of_an_async_function(cli: Any, folder: Path, within: Any) -> None:
    """Without a place in our own code."""
    (folder / "anew.py").write_text(ASYNC)
    with within(20):
        done = cli("run", "--timeout", "0.3", "sleep 30 | map:anew:upper")
    assert (done.status, done.err.count("\n")) == (124, 1)


def test_stats(cli: Any) -> None:
    """A table of the stages goes to stderr, and markup in a name is not taken for markup."""
    done = cli("run", "--stats", "echo '[red]a' | map:tools:upper | sh -c 'cat; kill -KILL $$'")
    assert (done.status, done.out) == (137, b"[RED]A\n")
    head, *_ = [line for line in done.err.splitlines() if "peak RSS" in line]
    assert head.split() == ["stage", "exit", "wall", "user", "system", "peak", "RSS"]
    rows = {line.split()[0]: line.split()[1] for line in done.err.splitlines() if "MiB" in line}
    assert rows == {"echo": "0", "sh": "SIGKILL"}
    assert "map:tools:upper" in done.err


def test_verbose(cli: Any) -> None:
    """Each stage is told of as it starts and ends, in order."""
    done = cli("run", "--verbose", "true | map:tools:upper | sh -c 'exit 5'")
    lines = [line for line in done.err.splitlines() if line.startswith("penstock: ")]
    for name in ("true", "map:tools:upper", "sh"):
        assert sum(line.startswith(f"penstock: {name}: ") for line in lines) == 2
    assert done.err.splitlines()[-1] == "sh: exit status 5"


def test_explain(cli: Any) -> None:
    """The plan is printed and nothing is started; a mistake is one here too."""
    done = cli("explain", "cat | map:tools:upper | sort > /nowhere/out")
    assert done.status == 0
    assert (
        done.out.split()
        == (
            b"from to carried by stdin cat inherit cat map:tools:upper os-pipe "
            b"map:tools:upper sort os-pipe sort stdout pass-fd"
        ).split()
    )
    assert cli("explain", "cat |").status == 2


def test_the_pipeline_is_one_argument(cli: Any) -> None:
    """Whoever forgot it, or its quotes, is told which of the two."""
    assert "PIPELINE is missing" in cli("run").err
    for arguments in (
        ("echo", "a b"),
        ("ls", "-l"),
        ("ls", "-la", "--color=auto"),
        ("--timeout", "3", "ls", "-l", "x"),
        ("ls", "--verbose", "-l"),
    ):
        done = cli("run", *arguments)
        assert done.status == 2
        assert "put it in quotes" in done.err
    assert "put it in quotes, as 'ls -l x'" in cli("run", "--timeout", "3", "ls", "-l", "x").err
    assert "No such option" in cli("run", "--nothing-like-this", "ls").err
    assert cli("run", "echo a", "--timeout", "3").out == b"a\n"


def test_help_tells_the_language(cli: Any) -> None:
    """The help holds the operators, the Python stages and the exit statuses."""
    text = cli("run", "--help").out.decode()
    for part in ("2>&1", "py:MODULE:NAME", "no shell is started", "--timeout", "Exit status:", "126, 127"):
        assert part in text
    assert cli("--version").out.startswith(b"penstock")


@pytest.mark.parametrize(("missing", "line"), [("click", "true"), ("rich", "--stats true")])
def test_without_click_or_rich(folder: Path, missing: str, line: str) -> None:
    """Where the extra is not installed, one sentence says what to install."""
    program = (
        f"import sys; sys.modules[{missing!r}] = None; from penstock.cli.main import main;"
        f"sys.exit(main(['run', *{line.split()!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stdout == b""
    assert len(done.stderr.splitlines()) == 1
    assert f"needs {missing}: pip install 'penstock[cli]'" in done.stderr.decode()


def test_rich_is_needed_for_tables_only(folder: Path) -> None:
    """All else works without it."""
    program = (
        "import sys; sys.modules['rich'] = None; from penstock.cli.main import main;"
        "sys.exit(main(['run', '--json', '/dev/null', 'echo a']))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"a\n")


# Standard streams in a bad way.


@pytest.mark.parametrize("line", ["yes", "yes | cat", "py:tools:forever", "yes | map:tools:upper"])
def test_nobody_reads_our_output(spawn: Any, line: str) -> None:
    """A filter whose reader goes away ends quietly, with the status of a death by SIGPIPE."""
    process = spawn("run", line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.read(2) in (b"y\n", b"Y\n")
    process.stdout.close()
    assert process.wait(DEADLINE) == 141
    assert process.stderr.read() == b""


def test_in_a_shell_pipeline(folder: Path) -> None:
    """`... | penstock run ... | head` works as with any other filter."""
    line = f"yes | '{sys.executable}' -m penstock run 'cat | map:tools:upper' | head -2"
    done = subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Y\nY\n", b"")


def test_nobody_reads_what_python_code_printed(spawn: Any) -> None:
    """What is left in `sys.stdout` at the end is dropped without a word."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = spawn("run", "true | py:tools:prints", stdout=write_end, stderr=subprocess.PIPE)
    os.close(write_end)
    assert process.wait(DEADLINE) == 141
    assert process.stderr.read() == b""


def test_nobody_reads_what_we_say(cli: Any) -> None:
    """A stderr without a reader changes neither the output nor the status."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = cli("run", "-v", "--stats", "echo a | sh -c 'cat; exit 3'", stderr=write_end)
    finally:
        os.close(write_end)
    assert (done.status, done.out) == (3, b"a\n")


def test_a_full_disk(cli: Any) -> None:
    """Output that cannot be written is an error that names it, for commands, functions and prints."""
    with Path("/dev/full").open("wb") as full:
        for line in ("echo a", "echo a | map:tools:upper", "py:tools:prints"):
            done = cli("run", line, stdout=full)
            assert done.status == 1
            assert "No space left on device" in done.err
            assert "Exception ignored" not in done.err


@pytest.mark.parametrize(
    ("line", "closed", "status"),
    [
        ("cat", "<&-", 1),
        ("echo a | cat", ">&-", 1),
        ("true | cat", "2>&-", 0),
        ("true | cat", "<&- >&- 2>&-", 0),
        ("echo a | map:tools:upper", ">&-", 1),
    ],
)
def test_closed_streams(folder: Path, line: str, closed: str, status: int) -> None:
    """A closed stream is no pipe of ours by accident: using it fails as in a shell, not using it does not."""
    text = f"""'{sys.executable}' -m penstock run --timeout 20 "{line}" {closed}"""
    done = subprocess.run(["sh", "-c", text], cwd=folder, capture_output=True, check=False)
    assert done.returncode == status
    assert b"Traceback" not in done.stderr
