"""Limits and worker processes need our own interpreter: if that cannot be started, the error names it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from penstock import Limits, Pipeline, StartError, command

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.hosts import Host

LIMITED = command("true", limits=Limits(open_files=50))

BROKEN: dict[str, tuple[int, bytes, str]] = {
    "not executable": (0o644, b"#!/bin/sh\n", "not allowed to execute"),
    "another format": (0o755, b"no program\n", "not an executable format"),
    "no interpreter": (0o755, b"#!/no/such\n", "no such interpreter '/no/such'"),
}


def broken_python(tmp_path: Path, broken: str) -> tuple[Path, str]:
    """Make an interpreter that cannot be started; return it, and the reason in words."""
    python = tmp_path / "python3"
    mode, content, text = BROKEN.get(broken, (0, b"", "no such program"))
    if broken in BROKEN:
        python.write_bytes(content)
        python.chmod(mode)
    return python, text


@pytest.mark.parametrize("broken", [*BROKEN, "missing"])
def test_a_worker_process_that_cannot_be_started_is_named(broken: str, tmp_path: Path, host: Host) -> None:
    """In a program of its own, which has no idle workers."""
    python, text = broken_python(tmp_path, broken)
    said = host.output(f"""
sys.executable = {str(python)!r}
say(map_lines(bytes.upper, isolate="process").run(input=b"a", check=False, stdout=DEVNULL).error)
""")
    assert said.startswith('starting stage "upper": ')
    assert "the Python interpreter that runs stages with isolate='process' could not be started" in said
    assert text in said
    assert str(python) in said


@pytest.mark.parametrize("broken", [*BROKEN, "missing"])
def test_an_interpreter_that_cannot_be_started_is_named(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the program is not blamed."""
    python, text = broken_python(tmp_path, broken)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(StartError, match=r"the Python interpreter that .* could not be started") as caught:
        LIMITED.run(input=b"a\n")
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
