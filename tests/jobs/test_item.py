"""`item`: what it stands for, where it may stand, and what cannot be done with it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from penstock import (
    CAPTURE,
    Arg,
    Pipeline,
    appending,
    atomic,
    command,
    concat,
    ignore_error,
    is_error,
    item,
    map_lines,
    merge,
    reading,
    shared,
    tee,
    writing,
)
from penstock.core.item import MapInput, bound, expand, parse_template

ANY: Any = item
GIVEN = MapInput(Path("in/b.tar.gz"), 7)


@pytest.mark.parametrize(
    ("placeholder", "value"),
    [
        (item, Path("in/b.tar.gz")),
        (item.path, "in/b.tar.gz"),
        (item.name, "b.tar.gz"),
        (item.stem, "b.tar"),
        (item.suffix, ".gz"),
        (item.parent, "in"),
        (item.parent.parent, "."),
        (item.parent / "c", "in/c"),
        (item.with_suffix(".zst"), "in/b.tar.zst"),
        (item.with_suffix(""), "in/b.tar"),
        (item.with_name("c"), "in/c"),
        (item.index, "7"),
        ("--n=" + item.index + "!", "--n=7!"),
    ],
    ids=repr,
)
def test_a_placeholder_stands_for_a_part_of_the_input(placeholder: Any, value: object) -> None:
    assert bound(placeholder, GIVEN) == value


@pytest.mark.parametrize("name", ["a", "a.b", "a.b.c", ".a", ".a.b", "x/a.b", "/a.b", "x.y/a", "x/a.b/"])
def test_the_parts_of_a_path_are_those_of_pathlib(name: str) -> None:
    given, path = MapInput(name, 0), Path(name)
    assert bound(item.name, given) == path.name
    assert bound(item.stem, given) == path.stem
    assert bound(item.suffix, given) == path.suffix
    assert bound(item.parent, given) == str(path.parent)
    assert bound(item.with_suffix(".new"), given) == str(path.with_suffix(".new"))


def test_entries_of_the_input_have_the_same_parts() -> None:
    given = MapInput({"r1": Path("a/b.fq"), "n": 3, "more": [{"x": "y"}]}, 0)
    assert bound(item["r1"].stem, given) == "b"
    assert bound(item["n"], given) == "3"
    assert bound("-n" + item["n"], given) == "-n3"
    assert bound(item["more"][0]["x"], given) == "y"


@pytest.mark.parametrize(
    ("placeholder", "value", "says"),
    [
        (item["x"], {"y": 1}, "there is no 'x'"),
        (item[3], ("a",), "out of range"),
        (item["x"], "text", "has no entries"),
        (item.stem, {"y": 1}, "choose an entry by item"),
        (item, None, "it is None"),
        (item["x"], {"x": True}, "it is True"),
    ],
    ids=repr,
)
def test_an_input_that_has_no_such_part_is_named(placeholder: Any, value: object, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        bound(placeholder, MapInput(value, 5))
    assert f"{placeholder!r} of input 5" in str(caught.value)


@pytest.mark.parametrize(
    "use",
    [
        lambda: f"{item.stem}.png",
        lambda: str(item),
        lambda: os.fspath(ANY),
        lambda: list(ANY),
        lambda: "x" in ANY,
        lambda: ANY.with_suffix(3),
        lambda: ANY + 3,
    ],
)
def test_a_placeholder_has_no_text_yet(use: Any) -> None:
    with pytest.raises(TypeError):
        use()


@pytest.mark.parametrize("wrong", [lambda: item.with_suffix("png"), lambda: item.with_name("a/b")])
def test_a_suffix_or_a_name_that_no_file_can_have_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="slash"):
        wrong()


def test_a_template_has_the_same_names() -> None:
    given = MapInput("in/b.gz", 2)
    assert expand(parse_template("{parent}/{{{stem}}}-{index}{suffix}"), given) == "in/{b}-2.gz"
    assert expand(parse_template("{}!"), given) == "in/b.gz!"
    assert expand(parse_template("{sample}"), MapInput({"sample": "x"}, 0)) == "x"
    for wrong in ("{stem", "stem}", "{st{em}"):
        with pytest.raises(ValueError, match="brace"):
            parse_template(wrong)


def test_a_pipeline_with_a_placeholder_cannot_be_run() -> None:
    templates = [
        command(item.path),
        command("echo", item),
        command("echo", env={"A": item.name}),
        command("echo", cwd=item.parent),
        command("echo", stderr=item.with_suffix(".log")),
        Pipeline(command("cat"), stdin=item.path),
        Pipeline(command("cat"), stdout=atomic(item.path)),
        Pipeline(command("cat"), env={"A": item.name}),
        Pipeline(command("cat"), cwd=item.parent) | command("cat"),
        command("cat") | tee(item.path),
        command("cat", reading(command("cat", item))),
        command("cat", reading(item.path)),
        command("tee", writing(item.path)),
        ignore_error(command("cat", item), is_error(ValueError)),
        concat(command("cat", item), command("cat")),
        merge(Pipeline(command("cat"), stdin=item.path)),
    ]
    for template in templates:
        for run in (template.run, template.start, template.explain):
            with pytest.raises(ValueError, match=r"use \.map\(inputs\)"):
                run()
        assert "item" in str(template)
        assert repr(pickle.loads(pickle.dumps(template))) == repr(template)


def test_an_option_of_a_run_may_take_the_place_of_a_placeholder() -> None:
    template = Pipeline(command("pwd"), cwd=item.parent)
    assert template.text(cwd="/") == template.replace(cwd="/").text() == "/\n"


def text_of(template: Pipeline, value: object) -> Any:
    (job,) = template.map([value], collect="text")
    return job.stdout


def test_every_place_is_filled_in(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("b\na\n")
    path = tmp_path / "a.txt"
    assert text_of(command(item["program"], "x"), {"program": "echo"}) == "x\n"
    assert text_of(command("sh", "-c", "echo $A", env={"A": item.name}), path) == "a.txt\n"
    assert text_of(command("pwd", cwd=item.parent), path) == f"{tmp_path}\n"
    assert text_of(Pipeline(command("sort"), stdin=item.path), path) == "a\nb\n"
    assert text_of(Pipeline(command("pwd"), cwd=item.parent) | command("cat"), path) == f"{tmp_path}\n"
    assert text_of(command("sh", "-c", "echo oops >&2", stderr=item.with_suffix(".log")), path) == ""
    assert (tmp_path / "a.log").read_text() == "oops\n"
    assert text_of(command("cat", item) | tee(item.with_suffix(".copy")) | command("wc", "-l"), path) == "2\n"
    assert (tmp_path / "a.copy").read_text() == "b\na\n"
    assert text_of(command("cat", reading(command("cat", item) | command("sort"))), path) == "a\nb\n"
    assert text_of(command("cat", Arg(reading(command("cat", item)))), path) == "b\na\n"
    written = command("sh", "-c", 'echo x >"$1"', "sh", writing(command("cat").to(item.with_suffix(".w"))))
    assert text_of(written | command("echo", item.index), path) == "0\n"
    assert (tmp_path / "a.w").read_text() == "x\n"
    both = shared(command("cat", item))
    assert text_of(command("paste", reading(both), reading(both | command("tac"))), path) == "b\ta\na\tb\n"
    assert (
        text_of(ignore_error(command("cat", item), is_error(ValueError)) | map_lines(bytes.upper), path)
        == "B\nA\n"
    )
    assert text_of(concat(command("cat", item), command("echo", item.stem)), path) == "b\na\na\n"
    assert text_of(Pipeline(command("echo", "x"), stderr=appending(item.with_suffix(".log"))), path) == "x\n"


def test_a_value_that_is_filled_in_is_checked() -> None:
    for value in ("a\0b", ""):
        (job,) = command(item, "x").map([value], check=False)
        assert isinstance(job.error.cause if job.error else None, ValueError)


def test_the_template_itself_is_not_changed() -> None:
    template = command("echo", item)
    before = repr(template)
    assert text_of(template, "x") == "x\n"
    assert repr(template) == before
    assert template.replace(stdout=CAPTURE).stages == template.stages
