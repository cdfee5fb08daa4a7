"""Limits and worker processes need our own interpreter: if that cannot be started, the error names it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from penstock import Limits, Pipeline, StartError, command, map_lines

if TYPE_CHECKING:
    from pathlib import Path

LIMITED = command("true", limits=Limits(open_files=50))
ISOLATED = map_lines(bytes.upper, isolate="process")

BROKEN: dict[str, tuple[int, bytes, str]] = {
    "not executable": (0o644, b"#!/bin/sh\n", "not allowed to execute"),
    "another format": (0o755, b"no program\n", "not an executable format"),
    "no interpreter": (0o755, b"#!/no/such\n", "no such interpreter '/no/such'"),
}


@pytest.mark.parametrize("pipeline", [LIMITED, ISOLATED], ids=["limits", "isolate"])
@pytest.mark.parametrize("broken", [*BROKEN, "missing"])
def test_an_interpreter_that_cannot_be_started_is_named(
    broken: str, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the program, or the stage's function, is not blamed."""
    python = tmp_path / "python3"
    mode, content, text = BROKEN.get(broken, (0, b"", "no such program"))
    if broken in BROKEN:
        python.write_bytes(content)
        python.chmod(mode)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(StartError, match=r"the Python interpreter that .* could not be started") as caught:
        pipeline.run(input=b"a\n")
    cause = caught.value.cause
    assert isinstance(cause, OSError)
    assert cause.filename == str(python)
    assert text in str(cause)


def test_a_launcher_that_ends_at_once_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it has started the program."""
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(StartError, match=r"the Python interpreter that .* ended before that") as caught:
        LIMITED.run()
    assert str(python) in str(caught.value)


@pytest.mark.parametrize(
    ("pipeline", "text"),
    [
        (LIMITED.replace(cwd="/no/such"), "no such working directory"),
        (command("/no/such", limits=Limits(open_files=50)), "no such program"),
    ],
    ids=["cwd", "program"],
)
def test_other_reasons_are_told_as_before(pipeline: Pipeline, text: str) -> None:
    """Those of the command itself."""
    with pytest.raises(StartError, match=text) as caught:
        pipeline.run()
    assert isinstance(caught.value.cause, FileNotFoundError)
    assert caught.value.cause.filename == "/no/such"
