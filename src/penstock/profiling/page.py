"""The report of a run as one page of HTML. A pure function from a result to a text.

The page has no script, and its policy forbids everything but its own style sheet, so that a name or a line of
stderr that got past the escapes could not load or run anything either. Every text from outside goes through
`markup.text` or `markup.block`.

Out of scope: writing the file (`profiling.files`).
"""

from __future__ import annotations

import time

from penstock.core.errors import text_of
from penstock.core.excerpt import Excerpt
from penstock.core.sizes import binary_size
from penstock.profiling.curves import cpu_charts, memory_charts, throughput_charts, timeline
from penstock.profiling.graph_drawing import draw_graph
from penstock.profiling.markup import block, cut, scrolling, seconds, table, text
from penstock.profiling.style import STYLE
from penstock.profiling.words import outcome_of, sentences_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from penstock.core.result import Result, StageResult

    _Value = TypeVar("_Value")

__all__ = ["page_of"]

_STDERR_LINES = 200
"""Lines that are shown of the end of each stderr."""
_STDERR_BYTES = 16 * 1024
_TITLE_COLUMNS = 200

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Nothing is loaded. The icon is an empty one, so that no browser asks a server for its own."""


def page_of(result: Result) -> str:
    """Return the page of a run, with a profile or without one."""
    title = cut(" | ".join(stage.name for stage in result.stages), _TITLE_COLUMNS)
    parts = [
        _section("Graph", scrolling("The graph of the run", draw_graph(result), "graph-box")),
        *_profile_sections(result),
        _section("Stages", _stage_table(result)),
        _section("Edges", _edge_table(result)),
        _section("Stderr", _stderr(result)),
    ]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{"ok" if result.ok else "failed"}: {text(title)}</title>
<link rel="icon" href="data:,">
<style>
{STYLE}</style>
</head>
<body>
<header>
<h1>{text(title)}</h1>
{_verdict(result)}
</header>
<main>
{"".join(parts)}</main>
<footer><p>A report of Penstock.</p></footer>
</body>
</html>
"""


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{text(title)}</h2>\n{content}\n</section>\n"


def _verdict(result: Result) -> str:
    lines = "".join(f"<p>{text(sentence)}</p>" for sentence in sentences_of(result))
    kind = "verdict" if result.ok else "verdict bad"
    return f'<div class="{kind}">{lines}</div>\n<p class="soft">{text(_summary(result))}</p>'


def _summary(result: Result) -> str:
    took = f"It took {seconds(result.elapsed)}"
    profile = result.profile
    if profile is not None:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(profile.began))
        took = f"It began at {began} UTC and took {seconds(result.elapsed)}"
    stages = len(result.stages)
    return f"{took}, with {stages} {'stage' if stages == 1 else 'stages'}."


def _profile_sections(result: Result) -> list[str]:
    profile = result.profile
    if profile is None:
        told = "There is no timeline, because the run had no profile. Run it with <code>profile=True</code>."
        return [_section("Timeline", f"<p>{told}</p>")]
    return [
        _section("Timeline", timeline(result, profile)),
        _section("Processor time", cpu_charts(result, profile)),
        _section("Memory", memory_charts(result, profile)),
        _section("Throughput", throughput_charts(result, profile)),
    ]


def _stage_table(result: Result) -> str:
    header = ["stage", "kind", "branch", "outcome", "exit", "wall", "user", "system", "peak memory", "error"]
    rows = [_stage_row(result, index, stage) for index, stage in enumerate(result.stages)]
    right = frozenset({"exit", "wall", "user", "system", "peak memory"})
    caption = "Peak memory is at least what this program had when it started the command."
    return table(caption, header, rows, right)


def _stage_row(result: Result, index: int, stage: StageResult) -> list[str]:
    return [
        f"{index + 1} {stage.name}",
        stage.kind,
        stage.branch,
        outcome_of(result, index),
        _known(stage.returncode, str),
        _known(stage.elapsed, seconds),
        _known(stage.user_time, seconds),
        _known(stage.system_time, seconds),
        _known(stage.peak_memory or stage.max_rss, binary_size),
        "" if stage.error is None else text_of(stage.error) or type(stage.error).__name__,
    ]


def _edge_table(result: Result) -> str:
    rows = [
        [
            f"{edge.source} to {edge.target}",
            edge.kind if edge.port == "main" else f"{edge.port}: {edge.kind}",
            _known(edge.bytes, binary_size),
            binary_size(edge.spooled) if edge.spooled else "",
        ]
        for edge in result.edges
    ]
    caption = "Bytes are unknown where the kernel carried them past Penstock."
    return table(
        caption,
        ("edge", "carrier", "bytes", "held for a join"),
        rows,
        frozenset({"bytes", "held for a join"}),
    )


def _stderr(result: Result) -> str:
    parts = []
    for index, stage in enumerate(result.stages):
        if not stage.stderr.strip():
            continue
        excerpt = Excerpt()
        excerpt.feed(stage.stderr)
        shown = excerpt.last_lines(_STDERR_LINES, _STDERR_BYTES)
        lines = stage.stderr.rstrip().count(b"\n") + 1
        cut_note = "" if len(shown.split("\n")) >= lines else f'<p class="soft">The end of {lines} lines.</p>'
        parts.append(f"<h3>{text(f'{index + 1} {stage.name}')}</h3>{cut_note}<pre>{block(shown)}</pre>")
    return "\n".join(parts) or "<p>No stderr was captured.</p>"


def _known(value: _Value | None, show: Callable[[_Value], str]) -> str:
    return "" if value is None else show(value)
