"""`<(...)` and `>(...)` on the command line: how they are read, that they run, and that bash agrees."""

from __future__ import annotations

import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.processes import alive
from tests.support.waiting import DEADLINE

from penstock import CAPTURE, Arg, Pipeline, appending, command, map_lines, reading, tee, writing
from penstock.cli.parser import parse
from penstock.cli.resolver import resolve
from penstock.cli.runner import plan
from penstock.cli.syntax import PipelineSyntaxError, Substitution, Word

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.cli.syntax import Line, Redirection

slow = pytest.mark.slow
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


def shown(line: Line) -> list[list[Any]]:
    """Return the words of each stage; one with substitutions as a list of its parts."""
    return [[_shown_word(word) for word in stage.words] for stage in line.stages]


def _shown_word(word: Word) -> Any:
    if not word.parts:
        return word.text
    return [(part.kind, *shown(part.line)) if isinstance(part, Substitution) else part for part in word.parts]


# How it is read.


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a <(b)", ["a", [("<", ["b"])]]),
        ("a >(b c|d)", ["a", [(">", ["b", "c"], ["d"])]]),
        ("a<(b)", None),
        ("a --x=<(b)", ["a", ["--x=", ("<", ["b"])]]),
        ("a x<(b)y>(c)", ["a", ["x", ("<", ["b"]), "y", (">", ["c"])]]),
        ("a 2<(b)", ["a", ["2", ("<", ["b"])]]),
        ("a 'x y'<(b)'' ", ["a", ["x y", ("<", ["b"])]]),
        ("a <( b\t) <(\nc\n)", ["a", [("<", ["b"])], [("<", ["c"])]]),
        ("a <(b <(c <(d)))", ["a", [("<", ["b", [("<", ["c", [("<", ["d"])]])]])]]),
        ("a <(b # )\n)", ["a", [("<", ["b"])]]),
        ("a #<(", ["a"]),
        ("a <(b ')' \")\" \\) $')')", ["a", [("<", ["b", ")", ")", ")", ")"])]]),
        ("a '<(b)' \"<(b)\" \\<\\(b\\) $'>(b)'", ["a", "<(b)", "<(b)", "<(b)", ">(b)"]),
        ("a <(b)#c", ["a", [("<", ["b"]), "#c"]]),
        ("a x=<(b)", ["a", ["x=", ("<", ["b"])]]),
    ],
)
def test_a_substitution_is_a_part_of_a_word(text: str, words: list[Any] | None) -> None:
    """In quotes it is text, and within it quotes and comments are those of any line."""
    if words is None:
        with pytest.raises(PipelineSyntaxError, match="name of a program"):
            parse(text)
        return
    assert shown(parse(text)) == [words]


def test_a_redirection_has_a_substitution_as_its_target() -> None:
    """With a blank in between."""
    (stage,) = parse("a < <(b | c) > >(d) 2>&1").stages
    first, second, third = stage.redirections
    assert first.kind == "<"
    assert first.substitution is not None
    assert shown(first.substitution.line) == [["b"], ["c"]]
    assert second.kind == ">"
    assert second.substitution is not None
    assert shown(second.substitution.line) == [["d"]]
    assert third.substitution is None


def test_a_substitution_has_redirections_of_its_own() -> None:
    """At the end that its command does not use, and aside."""
    (stage,) = parse("a <(b < f 2> e) >(c > g) <(d 2>&1 > h)").stages
    lines = [word.parts[0].line for word in stage.words[1:] if isinstance(word.parts[0], Substitution)]
    kinds = [[found.kind for found in line.stages[0].redirections] for line in lines]
    assert kinds == [["<", "2>"], [">"], ["2>&1", ">"]]


DEEP = "a " + "<(a " * 21 + ")" * 21


@pytest.mark.parametrize(
    ("text", "marked", "says"),
    [
        ("a <(b", "<(", "never closed"),
        ("a <(b >(c)", "<(", "never closed"),
        ("a <(b >(c", ">(", "never closed"),
        ("a <(b ')", "'", "never closed"),
        ("a <()", "<()", "no command in '<()'"),
        ("a >( )", ">( )", "no command in '>()'"),
        ("a <(# b\n)", "<(# b\n)", "no command in '<()'"),
        ("a <(b))", ")", "not understood"),
        ("a < (b)", "< (", "not understood"),
        ("a >  (b)", ">  (", "not understood"),
        ("a >>(b)", ">>(", "not understood"),
        ("a <<(b)", "<<", "not understood"),
        ("a <((b))", "(", "not understood"),
        ("a <(b; c)", ";", "not understood"),
        ("a <(b &)", "&", "not understood"),
        ("a <(b $(c))", "$(", "not understood"),
        ("a <(| b)", "|", "no command before"),
        ("a <(b |)", "|", "no command after"),
        ("a <(b > )", ">", "no file name after '>'"),
        ("a <(x=1)", "x=1", "no command here"),
        ("a <(b > f)", ">", "read from '<(...)'"),
        ("a <(b | c > f)", ">", "read from '<(...)'"),
        ("a <(b > f | c)", ">", "only the last stage"),
        ("a >(b < f)", "<", "written to '>(...)'"),
        ("a >(b | c < f)", "<", "only the first stage"),
        ("a | b < <(c)", "<", "only the first stage"),
        ("a > >(b) | c", ">", "only the last stage"),
        ("a <(b > >(c))", ">", "read from '<(...)'"),
        ("a < f < <(b)", "<", "redirected twice"),
        ("a > f > >(b)", ">", "redirected twice"),
        ("a < >(b)", ">(b)", "cannot be followed"),
        ("a > <(b)", "<(b)", "cannot be followed"),
        ("a 2> >(b)", ">(b)", "standard error alone"),
        ("a 2>&1 > >(b) | c", ">(b)", "only a file"),
        ("a < x<(b)", "x<(b)", "cannot contain a substitution"),
        ("a < <(b)<(c)", "<(b)<(c)", "cannot contain a substitution"),
        ("<(a) b", "<(a)", "name of a program"),
        ("a/<(b)", "<(b)", "name of a program"),
        ("X=<(a) b", "<(a)", "variable"),
        ("py:m:f<(a)", "<(a)", "name of a program"),
        (DEEP, "<(", "nested 20 deep"),
    ],
)
def test_mistakes_say_what_and_where(text: str, marked: str, says: str) -> None:
    """The carets stand under the mistake, within the substitution too."""
    with pytest.raises(PipelineSyntaxError) as caught:
        parse(text)
    assert says in caught.value.message
    assert text[caught.value.start : caught.value.end] == marked


def test_a_blank_before_the_parenthesis_has_a_hint() -> None:
    """As in bash, it makes a redirection of it."""
    with pytest.raises(PipelineSyntaxError) as caught:
        parse("diff < (a) b")
    assert caught.value.show("diff < (a) b").splitlines() == [
        "'< (' is not understood here",
        "  diff < (a) b",
        "       ^^^",
        "  write '<(...)' for a substitution, without a blank",
    ]


@given(st.text(alphabet="ab|<>(() \n'\"\\#=2&", max_size=40))
@example("a <(b <(c)d)e")
@example("a <(b) >(c\\\n) 2>&1")
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    """No text makes the parser fail in another way."""
    try:
        line = parse(text)
    except PipelineSyntaxError as raised:
        mistake = raised
    else:
        _check_places(line, text)
        return
    assert 0 <= mistake.start < mistake.end <= len(text) + 1
    assert "^" in mistake.show(text)


def _check_places(line: Line, text: str) -> None:
    for stage in line.stages:
        for word in stage.words:
            assert text[word.start : word.start + word.bare] == word.text[: word.bare]
            for part in word.parts:
                if isinstance(part, Substitution):
                    assert text[part.start : part.start + 2] == f"{part.kind}("
                    assert text[part.end - 1] == ")"


# What str() of a pipeline writes is read back.

WORD = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
FILE = st.text("ab (<'", min_size=1, max_size=4)
PROGRAM = st.sampled_from(["a", "b c", "x=y", "if", "<(a)", "é"])


def arguments(pipelines: st.SearchStrategy[Pipeline]) -> st.SearchStrategy[Any]:
    """Give words, sources, branches, and arguments joined of these."""
    sources = st.builds(
        lambda pipeline, file: reading(pipeline.replace(stdin=file) if file else pipeline),
        pipelines,
        st.none() | FILE,
    )
    targets = st.just(CAPTURE) | FILE | FILE.map(appending)
    branches = st.builds(
        lambda pipeline, target: writing(pipeline if target is CAPTURE else pipeline.to(target)),
        pipelines,
        targets,
    ) | FILE.map(writing)
    joined = st.lists(WORD | sources | branches, min_size=1, max_size=3).map(lambda parts: Arg(*parts))
    return WORD | sources | branches | joined


def pipelines_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Pipeline]:
    """Give pipelines of commands with such arguments."""
    env = st.dictionaries(st.sampled_from(["A", "b_1"]), WORD, max_size=1)
    stages = st.builds(
        lambda program, words, env: command(program, *words, env=env),
        PROGRAM,
        st.lists(inner, max_size=3),
        env,
    )
    return st.lists(stages, min_size=1, max_size=2).map(lambda given: Pipeline(*given))


PIPELINES = st.recursive(pipelines_of(WORD), lambda inner: pipelines_of(arguments(inner)), max_leaves=4)


def shape(stages: Any, stdin: Any = None, stdout: Any = None) -> Any:
    """Return all that a line shows of a pipeline, in tuples."""
    ends = [end if isinstance(end, str | appending) else None for end in (stdin, stdout)]
    return tuple(map(_shape_of_command, stages)), *ends


def _shape_of_command(stage: Any) -> Any:
    (stage,) = stage.stages if isinstance(stage, Pipeline) else (stage,)
    words: list[Any] = [*stage.argv]
    for place, arg in stage.substitutions.arguments.items() if stage.substitutions else ():
        if not all(isinstance(part, str) for part in arg.parts):
            words[place] = _joined(arg.parts)
    return words, stage.env or {}


def _joined(parts: Any) -> list[Any]:
    """Return the parts of an argument, neighbouring texts as one and empty ones left out."""
    found: list[Any] = []
    for part in parts:
        if not isinstance(part, str):
            found.append(_shape_of_part(part))
        elif found and isinstance(found[-1], str):
            found[-1] += part
        elif part:
            found.append(part)
    return found


def _shape_of_part(part: Any) -> Any:
    if hasattr(part, "pipeline"):
        return "<", shape(part.pipeline.stages, part.pipeline.options.get("stdin"))
    pipeline = part.branch.pipeline
    stages = pipeline.stages if pipeline is not None else [command("cat")]
    return ">", shape(stages, None, part.branch.options["stdout"])


def to_path(redirection: Redirection) -> Any:
    """Return the value of an option for a redirection."""
    assert redirection.target is not None
    text = redirection.target.text
    return appending(text) if redirection.kind.endswith(">>") else text


@given(PIPELINES)
@example(Pipeline(command("a", Arg("--x=", reading(command("b").replace(stdin="f")), "'"))))
def test_the_command_line_reads_what_str_writes(pipeline: Pipeline) -> None:
    """Each word, each source and branch, each file."""
    line = str(pipeline)
    assert line.isprintable()
    resolved = resolve(parse(line), open_file=to_path)
    assert shape(resolved.stages) == shape(pipeline.stages)
    assert str(Pipeline(*resolved.stages)) == line


@needs_bash
@given(PIPELINES)
def test_bash_takes_what_str_writes(pipeline: Pipeline) -> None:
    """It can be pasted into a script."""
    subprocess.run(["bash", "-n", "-c", str(pipeline)], check=True, env={"LC_ALL": "C.UTF-8"})


def test_a_tee_is_read_back_as_the_program() -> None:
    """Its branches become arguments."""
    pipeline = (
        command("cat") | tee(command("sha256sum"), command("zstd").to("x"), "raw", "-f") | command("wc")
    )
    line = "cat | tee >(sha256sum) >(zstd > x) raw ./-f | wc"
    assert str(pipeline) == line
    assert str(Pipeline(*resolve(parse(line), open_file=to_path).stages)) == line


# How it is planned.


def test_a_plan_shows_the_graph() -> None:
    """Two commands of one name are told apart, and each port is named."""
    text = str(plan(parse("tee >(cat > f) < /dev/null | comm -12 - <(sort a | cat)")))
    assert [line.split("  ")[0] for line in text.splitlines()[1:4]] == ["stdin", "tee", "writing of tee"]
    rows = [tuple(cell.strip() for cell in line.split("  ") if cell.strip()) for line in text.splitlines()]
    assert rows[0] == ("from", "to", "port", "carried by")
    assert ("cat [1]", "output of cat", "pass-fd") in rows
    assert ("cat [2]", "comm", "reading 1", "os-pipe") in rows
    assert ("comm", "stdout", "inherit") in rows


def test_stdin_is_shared_as_in_bash() -> None:
    """The first stage's sources read ours; those of a later stage have none, because it reads the pipe."""
    edges = plan(parse("a <(b <(c)) >(d <(e)) | f <(g)")).edges
    feeds = {edge.target: edge.kind for edge in edges if edge.source == "stdin"}
    assert feeds == {"a": "inherit", "b": "inherit", "c": "inherit"}  # a plan leaves out DEVNULL of a source


# How it runs.


@pytest.fixture
def files(folder: Path) -> Path:
    """Give a folder with files."""
    (folder / "a").write_text("b\na\nc\n")
    (folder / "b").write_text("c\nb\nd\n")
    return folder


AGREED = {
    "sources": "comm -12 <(sort a) <(sort b)",
    "part of an argument": "dd if=<(sort a) status=none",
    "around a substitution": "echo x<(true)y | sed s/[0-9]*//g",
    "nested": "cat <(cat <(sort a) b) | sort -u",
    "in quotes": "echo '<(a)' \"<(b)\" \\<\\(c\\)",
    "a branch": "tee >(sort > out) < a | wc -l",
    "two branches": "tee >(sort > out) >(wc -l > out2) < a > out3",
    "branch appends": "tee >(cat >> b) < a | tail -1",
    "a pipeline in a branch": "tee >(tr a-z A-Z | sort > out) < a | cat > out2",
    "a branch to stdout": "tee >(sort > out) < a > /dev/null",
    "a source for stdin": "sort < <(cat a b)",
    "a sink for stdout": "cat a > >(sort > out)",
    "both": "tr a-z A-Z < <(cat a b) > >(sort)",
    "stderr with stdout": "sh -c 'echo e >&2; echo o' > >(sort) 2>&1",
    "stderr of a source": "cat <(sh -c 'echo e >&2; echo o' 2>&1 > out)",
    "a source that shares stdin": "cat - <(cat) < /dev/null",
    "a source in a later stage": "sort a | comm -12 - <(sort b)",
    "a reader that has had enough": "head -1 <(yes)",
    "sources of one pipe": "paste <(cut -c1 a) <(sort b | head -2) a",
    "a command that fails": "sh -c 'exit 3' <(true)",
    "a failing command before": "sh -c 'cat; exit 4' < <(echo x) | cat",
    "variables": "A=1 sh -c 'cat \"$1\"; echo $A' x <(B=2 sh -c 'echo $B')",
    "a branch that writes nothing": "true >(cat > out)",
}


@slow
@needs_bash
@pytest.mark.parametrize("line", AGREED.values(), ids=AGREED)
def test_bash_does_the_same(cli: Any, files: Path, line: str) -> None:
    """The same output, files and status, if all sources and branches succeed."""

    def state() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in files.iterdir() if path.is_file()}

    before = state()
    stdin = b"in\n"
    done = cli("run", line, stdin=stdin)
    ours = state()
    for name in set(ours) - set(before):
        (files / name).unlink()
    for name, content in before.items():
        (files / name).write_bytes(content)
    by_bash = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], input=stdin, capture_output=True, cwd=files, check=False
    )
    # The streams are read up to their ends, which also waits for what bash does not wait for.
    assert (done.out, done.status, ours) == (by_bash.stdout, by_bash.returncode, state())


@slow
@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("line", "status", "says"),
    [
        ("comm -12 <(sort nosuch) <(sort b)", 2, "sort: exit status 2"),
        ("tee >(sh -c 'cat > /dev/null; exit 5') < a", 5, "sh: exit status 5"),
        ("cat a > >(sh -c 'cat; exit 6')", 6, "sh: exit status 6"),
        ("cat < <(sh -c 'exit 7')", 7, "sh: exit status 7"),
        ("cat <(cat <(sh -c 'exit 8'))", 8, "sh: exit status 8"),
        ("cat <(no-such-program)", 127, "no-such-program: no such program"),
        ("cat <(map:tools:boom < a)", 1, "map:tools:boom: KeyError"),
        ("tee >(map:tools:boom) < a", 1, "map:tools:boom: KeyError"),
    ],
)
def test_a_failure_in_a_substitution_is_the_failure_of_the_run(
    cli: Any, line: str, status: int, says: str
) -> None:
    """Bash forgets it. The message names the command."""
    done = cli("run", line)
    assert done.status == status
    assert says in done.err


@slow
def test_python_stages_in_substitutions(cli: Any, files: Path) -> None:
    """As sources, in branches, and behind a redirection."""
    assert cli("run", "cat <(map:tools:upper < a) <(py:tools:first)").out == b"B\nA\nC\nfirst\n"
    assert cli("run", "tee >(lines:tools:numbered > out) < a").out == b"b\na\nc\n"
    assert (files / "out").read_bytes() == b"1 b\n2 a\n3 c\n"
    assert cli("run", "map:tools:upper < <(sort a) > >(py:tools:f)").out == b"<A>\n<B>\n<C>\n"
    (files / "anew.py").write_text("async def same(line):\n    return line\n")
    assert cli("run", "cat <(map:anew:same < a)").out == b"b\na\nc\n"
    done = cli("run", "cat <(map:tools:nosuch)")
    assert (done.status, done.err.splitlines()[1:3]) == (
        2,
        ["  cat <(map:tools:nosuch)", "                  ^^^^^^"],
    )


@slow
@pytest.mark.usefixtures("files")
def test_a_branch_writes_to_our_stdout(cli: Any) -> None:
    """Unless it says where else."""
    assert sorted(cli("run", "tee >(wc -l) < a").out.split()) == [b"3", b"a", b"b", b"c"]
    assert cli("run", "tee >(wc -l) < a > /dev/null").out == b"3\n"
    assert cli("run", "tee >(map:tools:upper) < a > /dev/null").out == b"B\nA\nC\n"


@slow
def test_a_mistake_in_a_substitution_touches_no_file(cli: Any, files: Path) -> None:
    """Nothing is opened before all of the line is known to be right."""
    done = cli("run", "tee >(map:tools:nosuch) >(cat > b) < a > b")
    assert done.status == 2
    assert (files / "b").read_text() == "c\nb\nd\n"
    done = cli("run", "cat <(cat < nosuch)")
    assert done.status == 1
    assert done.err.splitlines() == [
        "penstock: nosuch: No such file or directory",
        "  cat <(cat < nosuch)",
        "              ^^^^^^",
    ]


@slow
@pytest.mark.parametrize(
    "line", ["tee >(cat > a) < a", "sort <(cat < a) > a", "cat <(cat < a) | tee >(cat > a)"]
)
def test_a_file_is_not_emptied_before_it_is_read(cli: Any, files: Path, line: str) -> None:
    """By any of the ends that a line has."""
    done = cli("run", line)
    assert done.status == 2
    assert "are the same file" in done.err
    assert (files / "a").read_text() == "b\na\nc\n"


@slow
def test_two_branches_into_one_file_lose_nothing(cli: Any, files: Path) -> None:
    """The file is opened once."""
    assert cli("run", "tee >(cat > out) >(sort > out) < a > out").status == 0
    assert sorted((files / "out").read_text().split()) == sorted("aaabbbccc")


@slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_of_it(spawn: Any, herald: Any, signum: int) -> None:
    """Sources and branches too, and nothing is said."""
    line = (
        f"cat <({herald.cry('exec sleep 100')}) < <({herald.cry('exec sleep 101')})"
        f" | tee >({herald.cry('exec cat')} > /dev/null) | {herald.cry('exec cat')}"
    )
    process = spawn("run", line, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    pids = herald.hear(4)
    process.send_signal(signum)
    assert process.wait(DEADLINE) == 128 + signum
    assert process.stderr.read() == b""
    assert not any(alive(pid) for pid in pids)


@slow
def test_explain_starts_nothing(cli: Any, files: Path) -> None:
    """It prints the plan of the graph."""
    done = cli("explain", "tee >(sort > out) < a | wc")
    assert done.status == 0
    assert b"writing of tee  sort" in done.out
    assert not (files / "out").exists()


def test_a_map_has_no_word_in_bash() -> None:
    """It is shown by its kind and name within a substitution too."""
    assert (
        str(command("cat", reading(command("ls") | map_lines(bytes.upper)))) == "cat <(ls | map-lines(upper))"
    )
