"""Drawings of plans: each node and edge once, elastic edges dotted, and any name within its quotes."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from penstock import Plan, command, reading, shared, tee

NUMBERS = shared(command("seq", "9"))
DIAMOND = command("comm", "-12", reading(NUMBERS | command("grep", '"7"')), reading(NUMBERS)).explain()
NAMED = (command("cat", name='a "quoted" <b> & \\ c') | tee("file\n")).explain()


def test_mermaid_shows_each_node_and_edge() -> None:
    lines = DIAMOND.to_mermaid().splitlines()
    assert lines[0] == "flowchart LR"
    assert len(lines) == 1 + len(DIAMOND.nodes) + len(DIAMOND.edges)
    assert sum("-.->" in line for line in lines) == sum(edge.elastic for edge in DIAMOND.edges) == 2
    assert '    n2["shared seq"]' in lines


def test_mermaid_escapes_names() -> None:
    text = NAMED.to_mermaid()
    assert '["a &quot;quoted&quot; &lt;b&gt; &amp; \\ c"]' in text
    assert "file\\n" in text


@pytest.mark.parametrize("plan", [DIAMOND, NAMED, command("true").explain()])
def test_graphviz_takes_the_digraph(plan: Plan) -> None:
    text = plan.to_dot()
    assert text.startswith("digraph pipeline {\n")
    assert text.count(" -> ") == len(plan.edges)
    if (dot := shutil.which("dot")) is not None:
        drawn = subprocess.run([dot, "-Tplain"], input=text, capture_output=True, text=True, check=True)
        assert drawn.stdout.count("\nedge ") == len(plan.edges)
