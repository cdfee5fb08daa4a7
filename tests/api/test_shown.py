"""How pipelines and results are shown: a line for a shell, a short repr, a dict, HTML."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import (
    CAPTURE,
    DEVNULL,
    STDOUT,
    Arg,
    Pipeline,
    Secret,
    appending,
    command,
    concat,
    echo,
    filter_error,
    function,
    ignore_error,
    is_sigpipe,
    map_lines,
    merge,
    reading,
    shared,
    tee,
    writing,
)
from penstock.core.texts import shell_word

if TYPE_CHECKING:
    from penstock import Result

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


def language() -> str:
    """Return the value of a variable."""
    return "C"


def upper(line: bytes) -> bytes:
    """Return the line in capitals."""
    return line.upper()


NOT_OF_BASH = re.compile(r"map-lines|merge|shared|\*\*\*")

LINES: dict[str, Pipeline] = {
    "ls -l": command("ls", "-l"),
    "grep 'a b' | sort -u": command("grep", "a b") | command("sort", "-u"),
    "echo 'it'\\''s' $'tab\\there' '' '*' $'\\xff'": command("echo", "it's", "tab\there", "", "*", b"\xff"),
    "curl -H ***": command("curl", "-H", Secret("hunter2")),
    "TOKEN=*** A='b c' NONE= curl": command("curl", env={"TOKEN": Secret("hunter2"), "A": "b c", "NONE": ""}),
    "env -u HOME -u TERM A=1 ls": command("ls", env={"HOME": None, "A": "1", "TERM": None}),
    "env odd-name=1 ls": command("ls", env={"odd-name": "1"}),
    "LANG='<language()>' ls": command("ls", env={"LANG": language}),
    "(cd '/tmp/a b' && ls)": command("ls", cwd="/tmp/a b"),
    "(cd / && ls | wc -l)": Pipeline(command("ls"), command("wc", "-l"), cwd="/"),
    "env -i A=1 ls": Pipeline(command("ls"), env={"A": "1"}, inherit_env=False),
    "A=1 B=3 ls | A=1 B=2 wc": Pipeline(
        command("ls", env={"B": "3"}), command("wc"), env={"A": "1", "B": "2"}
    ),
    "cat < in.txt | wc > 'out file'": Pipeline(
        command("cat"), command("wc"), stdin="in.txt", stdout=Path("out file")
    ),
    "ls > /dev/null": Pipeline(command("ls"), stdout=DEVNULL),
    "ls 2> err": command("ls", stderr="err"),
    "(ls | wc) 2> /dev/null": Pipeline(command("ls"), command("wc"), stderr=DEVNULL),
    "ls 2>&1 | wc 2>&1": Pipeline(command("ls"), command("wc"), stderr=STDOUT),
    "(ls | sort) | wc": Pipeline(command("ls"), command("sort"), fail_fast=True) | command("wc"),
    "ls | map-lines(upper) | wc": command("ls") | map_lines(upper) | command("wc"),
    "yes | head": ignore_error(command("yes"), is_sigpipe) | filter_error(command("head"), lambda e: e),
    "'A=1' b": command("A=1", "b"),
    "'if' if": command("if", "if"),
    "comm -12 <(sort a) <(sort 'b c' | uniq)": command(
        "comm", "-12", reading(command("sort", "a")), reading(command("sort", "b c") | command("uniq"))
    ),
    "dd if=<(cat < in.txt) 'of=a b'": command(
        "dd", Arg("if=", reading(Pipeline(command("cat"), stdin="in.txt"))), Arg("of=", "a b")
    ),
    "a >(b > f) >(c >> g) >(d) >(cat > h)": command(
        "a",
        writing(command("b").to("f")),
        writing(command("c").to(appending("g"))),
        writing(command("d")),
        writing("h"),
    ),
    "A=1 a <(A=1 b | A=2 c) '<(d)'": Pipeline(
        command("a", reading(command("b") | command("c", env={"A": "2"})), "<(d)"), env={"A": "1"}
    ),
    "a <(b <(c >(d)))": command("a", reading(command("b", reading(command("c", writing(command("d"))))))),
    "a <( (cd / && ls | wc))": command("a", reading(Pipeline(command("ls"), command("wc"), cwd="/"))),
    "ls | tee >(sha256sum) >(zstd > x) raw ./-f >(cat > /dev/null) | wc": command("ls")
    | tee(command("sha256sum"), command("zstd").to("x"), "raw", "-f", DEVNULL)
    | command("wc"),
    "cat <(a) <(b | c) | d": concat(command("a"), command("b") | command("c")) | command("d"),
    "merge(<(a), <(b)) | c": merge(command("a"), command("b")) | command("c"),
    "a <(shared(seq 9))": command("a", reading(shared(command("seq", "9")))),
    "a <(map-lines(upper) < f)": command("a", reading(Pipeline(map_lines(upper), stdin="f"))),
    "a <(curl -H ***)": command("a", reading(command("curl", "-H", Secret("hunter2")))),
    "ls >> f": Pipeline(command("ls"), stdout=appending("f")),
}


@pytest.mark.parametrize("line", LINES)
def test_a_pipeline_is_shown_as_a_line_for_a_shell(line: str) -> None:
    """Quoted as bash needs it, with secrets hidden."""
    assert str(LINES[line]) == line
    assert f"{LINES[line]}" == line


@needs_bash
@pytest.mark.parametrize("line", [line for line in LINES if not NOT_OF_BASH.search(line)])
def test_bash_takes_such_a_line(line: str) -> None:
    """It can be pasted."""
    subprocess.run(["bash", "-n", "-c", line], check=True)


@needs_bash
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), max_size=20))
def test_bash_reads_each_word_as_it_was(words: list[str]) -> None:
    """Whatever is in it."""
    line = " ".join(["printf", r"'%s\0'", "x", *map(shell_word, words)])
    read = subprocess.run(
        ["bash", "-c", line],
        check=True,
        capture_output=True,
        env={"LC_ALL": "C.UTF-8", "PATH": "/bin:/usr/bin"},
    )
    assert read.stdout == b"".join(f"{word}\0".encode() for word in ["x", *words])
    assert line.isprintable()


def test_the_repr_of_a_command_shows_env_and_cwd() -> None:
    """As they were given, with secrets hidden."""
    stage = command("ls", cwd="/tmp", env={"A": "1", "S": Secret("hunter2"), "N": None})
    assert repr(stage) == "command('ls', cwd='/tmp', env={'A': '1', 'S': ***, 'N': None})"
    pipeline = Pipeline(command("ls"), cwd="/", env={"S": Secret("hunter2")})
    assert repr(pipeline) == "Pipeline(command('ls'), cwd='/', env={'S': ***})"


def failed() -> Result:
    """Return the result of a run in which the first stage fails."""
    script = "echo 'no <key>' >&2; exit 3"
    return (command("sh", "-c", script) | command("cat")).run(check=False, stdout=CAPTURE, input="x")


def test_a_result_is_true_if_the_run_succeeded() -> None:
    """So `if result:` means what it seems to mean."""
    assert command("true").run()
    assert not command("false").run(check=False)
    assert not failed()


def test_a_result_has_the_status_and_stderr_of_the_stage_that_failed() -> None:
    """Else those of the last stage."""
    result = failed()
    assert (result.returncode, result.stderr) == (3, b"no <key>\n")
    well = (command("sh", "-c", "echo first >&2") | command("sh", "-c", "cat; echo last >&2")).run()
    assert (well.returncode, well.stderr) == (0, b"last\n")
    assert command("sh", "-c", "exit 1", ok_codes=(0, 1)).run().returncode == 1
    late = (command("true") | command("sh", "-c", "echo a >&2; exec sleep 60")).run(check=False, timeout=0.3)
    assert (late.returncode, late.stderr) == (-15, b"a\n")
    python = (echo("x") | function(lambda _c, _i, _o: 1 / 0) | command("cat")).run(
        check=False, stdout=DEVNULL
    )
    assert (python.returncode, python.stderr) == (None, b"")
    missing = (command("cat") | command("/no/such")).run(check=False)
    assert (missing.returncode, missing.stderr) == (None, b"")


def test_a_result_is_a_dict_for_json() -> None:
    """With all that it knows."""
    fields: dict[str, Any] = json.loads(json.dumps(failed().to_dict()))
    assert (fields["ok"], fields["returncode"], fields["stdout"]) == (False, 3, "")
    assert fields["error"] == {
        "type": "PipelineError",
        "message": "sh: exit status 3: no <key>",
        "stage": "sh",
        "index": 0,
        "cause": {"type": "ExitError", "message": "exit status 3"},
    }
    assert [stage["name"] for stage in fields["stages"]] == ["sh", "cat"]
    assert fields["stages"][0]["stderr"] == "no <key>\n"
    assert [edge["kind"] for edge in fields["edges"]] == ["pooled", "os-pipe", "capture"]
    odd = command("printf", r"\377").run(stdout=CAPTURE).to_dict()
    assert odd["stdout"] == r"\xff"
    assert odd["error"] is None
    assert command("true").run().to_dict()["stdout"] is None


def test_the_repr_of_a_result_is_short() -> None:
    """However much was captured."""
    script = "head -c 100000 /dev/zero >&2; head -c 100000 /dev/zero; exit 3"
    result = command("sh", "-c", script).run(check=False, stdout=CAPTURE)
    assert repr(result).startswith("Result(failed: sh: exit status 3: ")
    assert repr(result).endswith(" s, 100000 bytes of stdout)")
    assert len(repr(result)) < 300
    assert repr(result.stages[0]).startswith("StageResult(name='sh', kind='command', pid=")
    assert len(repr(result.stages[0])) < 700
    assert repr((command("true") | command("true")).run()).startswith("Result(ok, 'true | true', 0.")


def test_the_repr_of_a_result_is_one_short_line_whatever_failed() -> None:
    """However many stages there are, whatever their names are, and whatever an exception says."""

    def fail(_line: bytes) -> bytes:
        raise ValueError("first line\n" + "x" * 1_000_000)

    many = command("true", name="n" * 500) | map_lines(fail)
    for _ in range(30):
        many |= command("cat")
    result = many.run(check=False, stdout=DEVNULL)
    failing = map_lines(fail, name="m" * 50).run(check=False, input="x", stdout=DEVNULL)
    for shown in (repr(result), repr(failing), repr(failing.stages[0])):
        assert len(shown) < 700
        assert shown.isprintable()
    assert "..." in repr(result)
    assert "first line" in repr(failing)


def test_results_and_plans_are_shown_as_html() -> None:
    """Which cannot be broken by what a program or a stage is called, or says."""
    result = (command("sh", "-c", "echo '<b>' >&2; exit 3", name="<script>") | command("cat")).run(
        check=False
    )
    page = result._repr_html_()
    assert "<b>" not in page
    assert "<script>" not in page
    assert "&lt;script&gt;: exit status 3: &lt;b&gt;" in page
    assert page.count("<tr>") == 3
    plan = (command("cat", name="<i>") | command("cat")).explain()._repr_html_()
    assert "<i>" not in plan
    assert plan.count("<tr>") == 4
