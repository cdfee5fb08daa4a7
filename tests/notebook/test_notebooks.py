"""Notebooks in a real kernel: what cells show, and the live view in a cell."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

# In a process of its own, because the client of a kernel has threads and sockets that stay.
RUN = """
import json, sys, warnings
warnings.simplefilter("ignore")
import nbclient, nbformat
cells = [nbformat.v4.new_code_cell(source) for source in json.load(sys.stdin)]
notebook = nbformat.v4.new_notebook(cells=cells)
nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
json.dump([cell["outputs"] for cell in notebook.cells], sys.stdout)
"""


def outputs_of(*cells: str) -> list[list[dict[str, Any]]]:
    """Return the outputs of each cell of a notebook, after the last one has ended."""
    done = subprocess.run(
        [sys.executable, "-c", RUN], input=json.dumps(cells), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: list[list[dict[str, Any]]] = json.loads(done.stdout)
    return found


def html_of(output: dict[str, Any]) -> str:
    found = output["data"]["text/html"]
    return found if isinstance(found, str) else "".join(found)


def test_plans_results_and_snapshots_are_shown_as_tables() -> None:
    _, plan, result, snapshot = outputs_of(
        "from penstock import *; pipeline = command('seq', '3', name='<seq>') | command('cat')",
        "pipeline.explain()",
        "pipeline.run(stdout=DEVNULL)",
        "run = command('sleep', '60').start(); shown = run.snapshot(); run.cancel(); shown",
    )
    for (output,) in (plan, result, snapshot):
        assert output["output_type"] == "execute_result"
        assert "<table>" in html_of(output)
        assert output["data"]["text/plain"]
    assert "&lt;seq&gt;" in html_of(plan[0])
    assert "ok" in html_of(result[0])
    assert "going on" in html_of(snapshot[0])


def test_the_live_view_is_one_output_of_its_cell() -> None:
    ((output,),) = outputs_of(
        "from penstock import *; line = command('seq', '9') | command('cat')\n"
        "result = line.run(stdout=DEVNULL, progress=True)"
    )
    assert output["output_type"] == "display_data"
    assert "ended" in html_of(output)
    assert "ended" in "".join(output["data"]["text/plain"])


def test_the_live_view_of_a_run_that_failed_and_of_an_event_loop() -> None:
    failed, awaited = outputs_of(
        "from penstock import *; ok = command('false').run(check=False, progress=True).ok",
        "ok = (await command('true').arun(progress=True)).ok",
    )
    for (output,) in (failed, awaited):
        assert output["output_type"] == "display_data"
        assert "ended" in html_of(output)


def test_a_view_goes_on_below_the_cell_that_started_the_run() -> None:
    first, second = outputs_of(
        "from penstock import *; run = command('cat').start(stdin=PIPE, stdout=DEVNULL, progress=True)",
        "run.stdin.close(); result = run.wait()",
    )
    assert second == []
    (output,) = first
    assert "ended" in html_of(output)


def test_a_report_is_written_from_a_notebook(tmp_path: Path) -> None:
    outputs_of(
        "from penstock import *; result = command('true').run(profile=True)",
        f"result.write_report({str(tmp_path / 'run.html')!r})",
    )
    assert "The run succeeded." in (tmp_path / "run.html").read_text()
