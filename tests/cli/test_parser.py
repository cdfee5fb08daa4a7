"""The pipeline language, by tables and against bash."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.cli.parser import parse
from penstock.cli.syntax import Line, PipelineSyntaxError

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")


def read(text: str) -> Line | PipelineSyntaxError:
    """Parse, and give back whichever comes of it."""
    try:
        return parse(text)
    except PipelineSyntaxError as mistake:
        return mistake


def words(line: Line) -> list[list[str]]:
    """Strip a line down to its words, stage by stage."""
    return [[word.text for word in stage.words] for stage in line.stages]


def mistake_in(text: str) -> PipelineSyntaxError:
    """Parse what is known to be wrong."""
    with pytest.raises(PipelineSyntaxError) as caught:
        parse(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "stages"),
    [
        ("ls", [["ls"]]),
        ("a|b", [["a"], ["b"]]),
        ("a b | c d|e", [["a", "b"], ["c", "d"], ["e"]]),
        ("  a\t|\n b ", [["a"], ["b"]]),
        ("a \\\n | b", [["a"], ["b"]]),
        ("a\\\nb", [["ab"]]),
        ("grep 'a|b' '>' \"<\" \\| \\;", [["grep", "a|b", ">", "<", "|", ";"]]),
        ("find . -exec rm {} \\;", [["find", ".", "-exec", "rm", "{}", ";"]]),
        ("echo $HOME *.py ~ a#b $ {a,b}", [["echo", "$HOME", "*.py", "~", "a#b", "$", "{a,b}"]]),
        ("seq 3 | wc -l # count | x", [["seq", "3"], ["wc", "-l"]]),
        ("# first\necho a '#b' \\#c d# # last\n| cat", [["echo", "a", "#b", "#c", "d#"], ["cat"]]),
        ('sh -c "echo \\$HOME \\`x\\`"', [["sh", "-c", "echo $HOME `x`"]]),
        ("echo \"a\\\nb\" c$'\\t'd", [["echo", "ab", "c\td"]]),
        ("awk '{print $1}'", [["awk", "{print $1}"]]),
        ("echo '$(date)' \"`x`\"", [["echo", "$(date)", "`x`"]]),
        ("echo '' \"\" a''b", [["echo", "", "", "ab"]]),
        ('echo "a\\"b\\\\c\\d"', [["echo", 'a"b\\c\\d']]),
        ("echo 'a\\b' a\\ b", [["echo", "a\\b", "a b"]]),
        ("echo naïve 日本 🎉 \udcff", [["echo", "naïve", "日本", "🎉", "\udcff"]]),
        ("py:m:f|map:m:g", [["py:m:f"], ["map:m:g"]]),
        ("seq 2 | tr 2 3", [["seq", "2"], ["tr", "2", "3"]]),
        ("echo a=b", [["echo", "a=b"]]),
    ],
)
def test_words_and_stages(text: str, stages: list[list[str]]) -> None:
    """Words and quotes are those of a shell, and only an unquoted `|` begins a stage."""
    assert words(parse(text)) == stages


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a < f", [("<", "f")]),
        ("a<f>g", [("<", "f"), (">", "g")]),
        ("<f a", [("<", "f")]),
        ("a >> 'f g'", [(">>", "f g")]),
        ("a>>g", [(">>", "g")]),
        ("a 2> e", [("2>", "e")]),
        ("a 2>e", [("2>", "e")]),
        ("a 2>>e", [("2>>", "e")]),
        ("a 0< f 1> g", [("<", "f"), (">", "g")]),
        ("a 1>>g", [(">>", "g")]),
        ("a 2>&1", [("2>&1", None)]),
        ("a > f 2>&1", [(">", "f"), ("2>&1", None)]),
        ("a 2>&1 > f | a", [("2>&1", None), (">", "f")]),
        ("a 2>&1 >>f | a", [("2>&1", None), (">>", "f")]),
        ("a > '2'", [(">", "2")]),
    ],
)
def test_redirections(text: str, expected: list[tuple[str, str | None]]) -> None:
    """Operators need no blanks around them, and `a` is the only word left."""
    line = parse(text)
    assert words(line)[0] == ["a"]
    assert [
        (found.kind, None if found.target is None else found.target.text)
        for found in line.stages[0].redirections
    ] == expected


@pytest.mark.parametrize(
    ("text", "argv"),
    [("a 2 > f", ["a", "2"]), ("a x2> f", ["a", "x2"]), ("a '2'> f", ["a", "2"]), ("a \\2>f", ["a", "2"])],
)
def test_a_number_that_is_not_a_descriptor(text: str, argv: list[str]) -> None:
    """`2>` is standard error only where a bare 2 begins a word and stands directly before the `>`."""
    (stage,) = parse(text).stages
    assert [word.text for word in stage.words] == argv
    assert [found.kind for found in stage.redirections] == [">"]


def test_stderr_goes_into_the_next_stage() -> None:
    """`2>&1` may stand on any command, also without a blank before the `|`."""
    first, second = parse("make 2>&1|less").stages
    assert first.redirection("2>&1") is not None
    assert second.redirections == ()


@pytest.mark.parametrize(
    ("text", "pairs", "argv"),
    [
        ("A=1 b", [("A", "1")], ["b"]),
        ("A=1 B='2 3' c D=4", [("A", "1"), ("B", "2 3")], ["c", "D=4"]),
        ("A= b", [("A", "")], ["b"]),
        ("_A1=x=y b", [("_A1", "x=y")], ["b"]),
        ("'A=1' b", [], ["A=1", "b"]),
        ("A\\=1 b", [], ["A=1", "b"]),
        ("1A=1 b", [], ["1A=1", "b"]),
        ("=1 b", [], ["=1", "b"]),
    ],
)
def test_variables_before_a_command(text: str, pairs: list[tuple[str, str]], argv: list[str]) -> None:
    """`NAME=value` before a command is a variable, as long as the name and the `=` are not quoted."""
    (stage,) = parse(text).stages
    assert [(found.name, found.value) for found in stage.assignments] == pairs
    assert [word.text for word in stage.words] == argv


@pytest.mark.parametrize(
    ("text", "marked", "says"),
    [
        ("a; b", ";", "not understood"),
        ("a && b", "&&", "not understood"),
        ("a || b", "||", "not understood"),
        ("a &", "&", "not understood"),
        ("a |& b", "|&", "not understood"),
        ("a http://x?y&z", "&", "not understood"),
        ("a $(b)", "$(", "not understood"),
        ("a x$(b)", "$(", "not understood"),
        ("a `b`", "`", "not understood"),
        ("(a)", "(", "not understood"),
        ("a )", ")", "not understood"),
        ("a << EOF", "<<", "not understood"),
        ("a <<< x", "<<<", "not understood"),
        ("a &> f", "&>", "not understood"),
        ("a >& f", ">&", "not understood"),
        ("a >| f", ">|", "not understood"),
        ("a <> f", "<>", "not understood"),
        ("a 3> f", "3>", "not understood"),
        ("a 12>>f", "12>>", "not understood"),
        ("a 2< f", "2<", "not understood"),
        ("a 1>&2", "1>&", "not understood"),
        ("a 2>&3", "2>&", "not understood"),
        ("a 2>&12", "2>&", "not understood"),
        ("a >", ">", "no file name after '>'"),
        ("a 2> | b", "2>", "no file name after '2>'"),
        ("a < ''", "''", "is empty"),
        ("| a", "|", "no command before"),
        ("a | | b", "|", "no command before"),
        ("a |", "|", "no command after"),
        ("a | > f", ">", "no command here"),
        ("A=1 B=2", "B=2", "no command here"),
        ("a 'b", "'", "never closed"),
        ('a "b\\"', '"', "never closed"),
        ("a b\\", "\\", "nothing follows this backslash"),
        ("a | b < f", "<", "first stage"),
        ("a > f | b", ">", "last stage"),
        ("a > f 2>&1 | b", ">", "last stage"),
        ("a 2> e > f | b", ">", "last stage"),
        ("a < f < g", "<", "redirected twice"),
        ("a > f >> g", ">>", "redirected twice"),
        ("a 2> f 2>&1", "2>&1", "redirected twice"),
        ("a 2>&1 > f", "2>&1", "after '> FILE'"),
    ],
)
def test_mistakes_say_what_and_where(text: str, marked: str, says: str) -> None:
    """A mistake is refused with the very place of it, which is what the carets stand under."""
    mistake = mistake_in(text)
    assert says in mistake.message
    assert text[mistake.start : mistake.end] == marked


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_empty_pipeline_is_a_mistake(text: str) -> None:
    """There is nothing to run."""
    assert "empty" in mistake_in(text).message


def test_the_caret_points_at_the_second_of_two() -> None:
    """The place is that of the mistake, not of the first such character."""
    assert mistake_in("a 'b;c' ; d").show("a 'b;c' ; d").splitlines()[1:3] == ["  a 'b;c' ; d", "          ^"]


@pytest.mark.parametrize(
    ("text", "row", "carets"),
    [
        ("echo 日本 ; b", "  echo 日本 ; b", "            ^"),
        ("echo e\u0301 ; b", "  echo e\u0301 ; b", "         ^"),
        ("echo\ta ; b", "  echo\ta ; b", "      \t  ^"),
        ("a |\nb ; c\n| d", "  b ; c", "    ^"),
        ("echo \x1b[2J ; b", "  echo ?[2J ; b", "            ^"),
        ("a && b", "  a && b", "    ^^"),
    ],
)
def test_the_caret_stands_under_the_place(text: str, row: str, carets: str) -> None:
    """Wide, combining and control characters, tabs and several rows do not move the caret off its place."""
    assert mistake_in(text).show(text).splitlines()[1:3] == [row, carets]


PIECES = [
    *("a", "b", " ", "\t", "'", '"', "\\", "#", "=", "2", "é", "日"),
    *("$'", "\\x41", "\\101", "\\u00e9", "\\cA", "\\q"),
]
"""No operator, and nothing that bash expands."""


@needs_bash
@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
@example("a \"b\\\\\" '\\'")
@example('"a\\\nb" c\\\nd')
@example('"\\$x \\`y\\` \\a"')
@example("$'\\a\\b\\e\\E\\f\\n\\r\\t\\v\\\\\\'\\\"\\?\\1\\12\\777\\xA\\xff\\uE9\\U1F389'")
@example("'")
@example("a\\")
@example("a #\\")
@example("$'")
def test_words_are_those_of_bash(text: str) -> None:
    """Without operators, a stage's words are what bash passes to a program."""
    found = read(f"x {text}")
    if isinstance(found, PipelineSyntaxError) and found.message == "nothing follows this backslash":
        return  # bash keeps it, although nothing is meant by it
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' x {text}"],
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        mistake_in(f"x {text}")
        return
    line = parse(f"x {text}")
    expected = [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]
    assert words(line) == [expected]


@given(st.lists(st.lists(st.text(max_size=8), min_size=1, max_size=4), min_size=1, max_size=4))
def test_quoted_text_comes_back(stages: list[list[str]]) -> None:
    """Any words at all, quoted by `shlex.join`, are read back as they were."""
    text = "|".join(shlex.join(["x", *stage]) for stage in stages)
    assert words(parse(text)) == [["x", *stage] for stage in stages]


@given(st.text(alphabet="ab|<>2&1;'\"\\ \n$(`=é日", max_size=40))
@example("1\\\n1")
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    """No text makes the parser fail in another way, and every place lies within the text."""
    line = read(text)
    if isinstance(line, PipelineSyntaxError):
        assert 0 <= line.start <= len(text)
        assert line.start < line.end <= len(text) + 1
        assert "^" in line.show(text)
        return
    for stage in line.stages:
        for word in stage.words:
            assert 0 <= word.start < word.end <= len(text)
            assert text[word.start : word.start + word.bare] == word.text[: word.bare]
