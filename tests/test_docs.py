"""The documents are true: their links resolve, and the code of some of them runs and prints what it says.

A link to a Python file may name what it means as [`path::name`](path): then the file has to define that name.
In the Python blocks of the README and of four pages a comment `#> text` stands for a line that is printed.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
README = ROOT / "README.md"
GRAPHS = ROOT / "docs" / "graphs.md"
MANY = ROOT / "docs" / "many.md"
WATCHING = ROOT / "docs" / "watching.md"
OBSERVABILITY = ROOT / "docs" / "observability.md"

LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
CODE_BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
# A path of this repository in backticks, such as `src/penstock/core/verdict.py` or `tests/test_x.py::test_y`.
QUOTED_PATH = re.compile(r"`((?:src|tests|docs|\.ci)/[\w./-]+)(?:::(\w+))?`")
PRINTED = re.compile(r"#> (.*)$", re.MULTILINE)
GOTCHA = re.compile(r"## (\d+)\. ")
LAST_PART = "# Traps found during development"
"""The heading in `docs/gotchas.md` after which the traps have no numbers."""


class Reference(NamedTuple):
    """Something that a document points to: a file, and perhaps a heading or a name that is defined in it."""

    document: Path
    line: int
    path: Path
    heading: str = ""
    name: str = ""

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def references(document: Path) -> list[Reference]:
    """Return all that a document points to inside this repository; what lies elsewhere is not looked at."""
    found = []
    text = CODE_BLOCK.sub(
        lambda block: "\n" * block.group().count("\n"), document.read_text(encoding="utf-8")
    )
    for line, content in enumerate(text.splitlines(), 1):
        for link in LINK.finditer(content):
            target, _, heading = link["target"].partition("#")
            if ":" in target:
                continue
            path = document.parent / target if target else document
            found.append(Reference(document, line, path, heading, link["text"].strip("`").partition("::")[2]))
        found += [
            Reference(document, line, ROOT / quoted[1], name=quoted[2] or "")
            for quoted in QUOTED_PATH.finditer(content)
        ]
    return found


def headings(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as they are made from the text."""
    text = CODE_BLOCK.sub("", document.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


def defined(path: Path) -> set[str]:
    """Return the functions, classes, methods and variables that a Python file defines."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def problem(reference: Reference) -> str | None:
    """Return what is wrong with a reference, if anything is."""
    if not reference.path.exists():
        return f"{reference}: there is no {reference.path}"
    if (
        reference.heading
        and reference.path.suffix == ".md"
        and reference.heading not in headings(reference.path)
    ):
        return f"{reference}: {reference.path.name} has no heading #{reference.heading}"
    if reference.name and reference.name.rpartition("::")[2] not in defined(reference.path):
        return f"{reference}: {reference.path.name} does not define {reference.name}"
    return None


def blocks(document: Path, language: str) -> list[str]:
    """Return the document's code in one language, a string for each block."""
    text = document.read_text(encoding="utf-8")
    return [block["code"] for block in CODE_BLOCK.finditer(text) if block["language"] == language]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_all_that_a_document_points_to_is_there(document: Path) -> None:
    """Links, headings, quoted paths and the names that they mention exist."""
    problems = [found for found in map(problem, references(document)) if found is not None]
    assert not problems, "\n" + "\n".join(problems)


def marked_gotchas() -> set[tuple[int, Path, str]]:
    """Return number, file and name of each test with a `gotcha` mark."""
    found: set[tuple[int, Path, str]] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for mark in getattr(node, "decorator_list", []):
                if ast.unparse(mark).startswith("pytest.mark.gotcha("):
                    found.add((ast.literal_eval(mark.args[0]), path, node.name))  # type: ignore[attr-defined]
    return found


def test_each_gotcha_has_a_test_and_links_to_all_that_it_has() -> None:
    """The numbers in `docs/gotchas.md` and the marks of the tests agree in both directions."""
    lines = (ROOT / "docs" / "gotchas.md").read_text(encoding="utf-8").splitlines()
    numbers = {line: int(title[1]) for line, text in enumerate(lines, 1) if (title := GOTCHA.match(text))}
    linked = {
        (numbers[max(at for at in numbers if at <= reference.line)], reference.path.resolve(), reference.name)
        for reference in references(ROOT / "docs" / "gotchas.md")
        if reference.name.startswith("test_") and min(numbers) <= reference.line < lines.index(LAST_PART)
    }
    assert {number for number, _, _ in linked} == set(numbers.values()) == set(range(1, len(numbers) + 1))
    assert linked == marked_gotchas()


def test_the_check_finds_what_is_not_there(tmp_path: Path) -> None:
    """A missing file, heading or name is found; what is there, or elsewhere, or in a code block, is not."""
    (tmp_path / "code.py").write_text(
        "class There:\n    def method(self): ...\nLIMIT = 1\n", encoding="utf-8"
    )
    document = tmp_path / "a.md"
    document.write_text(
        "# One `title`, and more\n[x](#one-title-and-more) [y](code.py) [`code.py::method`](code.py)\n"
        "[`code.py::LIMIT`](code.py) [z](https://example.invalid/nothing) `tests/test_docs.py::problem`\n"
        "```\n[x](in-code.md)\n```\n"
        "[x](missing.md) [y](#no-such-title) [`code.py::absent`](code.py) `tests/no_such_file.py`\n",
        encoding="utf-8",
    )
    wrong = [found for found in references(document) if problem(found._replace(document=README)) is not None]
    assert [(found.line, found.path.name) for found in wrong] == [
        (7, "missing.md"),
        (7, "a.md"),
        (7, "code.py"),
        (7, "no_such_file.py"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    blocks(README, "python"),
    ids=[
        "lines",
        "function",
        "errors",
        "cancelling",
        "silence",
        "graphs",
        "many",
        "secrets",
        "limits",
        "loop",
    ],
)
def test_the_code_in_the_readme_runs_and_prints_what_it_says(code: str, tmp_path: Path) -> None:
    """Each block is a program of its own; its lines marked `#>` are printed, in this order."""
    run_and_compare(code, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks(GRAPHS, "python"))
def test_the_code_in_the_page_about_graphs_runs_and_prints_what_it_says(code: str, tmp_path: Path) -> None:
    """As in the README."""
    run_and_compare(code, tmp_path)


@pytest.mark.parametrize("code", blocks(MANY, "python"))
def test_the_code_in_the_page_about_many_inputs_runs_and_prints_what_it_says(
    code: str, tmp_path: Path
) -> None:
    """As in the README."""
    run_and_compare(code, tmp_path)


@pytest.mark.parametrize("code", blocks(WATCHING, "python"))
def test_the_code_in_the_page_about_watching_runs_and_prints_what_it_says(code: str, tmp_path: Path) -> None:
    """As in the README."""
    run_and_compare(code, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks(OBSERVABILITY, "python"))
def test_the_code_in_the_page_about_events_runs_and_prints_what_it_says(code: str, tmp_path: Path) -> None:
    """As in the README."""
    run_and_compare(code, tmp_path)


def run_and_compare(code: str, tmp_path: Path) -> None:
    """Run a block as a program of its own."""
    script = tmp_path / "snippet.py"
    script.write_text(code, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    printed = iter(ended.stdout.splitlines())
    for expected in PRINTED.findall(code):
        assert expected in printed, f"{expected!r} is not printed, or not in its place:\n{ended.stdout}"


def test_the_readme_keeps_its_order() -> None:
    """What it is, the two commands, a pipeline, errors, cancelling, and where one may come from."""
    titles = re.findall(r"^## (.*)$", README.read_text(encoding="utf-8"), re.MULTILINE)
    order = ["Two commands", "Commands and functions in one pipeline", "Errors", "Cancelling", "Coming from"]
    assert titles[: len(order)] == order


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_each_make_target_that_a_document_names_exists(document: str) -> None:
    """A command that a reader is told to type is one that the Makefile knows."""
    named = set(re.findall(r"^    make (\w+)", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE))
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert named
    assert named <= targets


def test_the_ci_script_can_be_run_and_hides_no_failure() -> None:
    """`.ci/run` is executable, stops at the first failure, and lets no step fail in silence."""
    script = ROOT / ".ci" / "run"
    text = script.read_text(encoding="utf-8")
    assert script.stat().st_mode & 0o111
    assert "set -euo pipefail" in text
    assert "||" not in text
    assert re.findall(r"^make \w+$", text, re.MULTILINE) == ["make test", "make lint"]
