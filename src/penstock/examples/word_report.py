"""Report on the words of a text: how many there are, the most frequent, and those that no dictionary has.

    python -m penstock.examples.word_report [-n COUNT] [--dictionary FILE] TEXT

The text is read once, and split into words once. Three branches work on the words at the same time:

    tr ── lower ── shared ─┬ wc -l ──────────────────────────────┐
                           ├ sort ── uniq -c ── sort -rn ── head ─ concat ── stdout
                           └ sort -u ── comm -23 ────────────────┘
                                          │
                       sort -u FILE ──────┘

`shared` makes one node of the words; without it each branch would read the text anew. The branches meet again
in `concat`, which reads one after the other. Such a diamond can deadlock with pipes made by hand, when
`concat` waits for one branch while another is full. Here the bytes for the full one are kept until its turn.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from penstock import Pipeline, PipelineError, command, concat, echo, map_lines, reading, shared

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "report"]


def lower(word: bytes) -> bytes | None:
    """Return the word in small letters; None for the empty line before the first word."""
    return word.lower() or None


def report(text: Path, count: int, dictionary: Path | None = None) -> Pipeline:
    """Return the pipeline that writes the report."""
    words = shared(Pipeline(command("tr", "-cs", "A-Za-z", "\n"), map_lines(lower), stdin=text))
    ranked = command("sort") | command("uniq", "-c") | command("sort", "-k1,1nr", "-k2")
    parts = [
        echo("words:"),
        words | command("wc", "-l"),
        echo("most frequent:"),
        words | ranked | command("head", "-n", str(count)),
    ]
    if dictionary is not None:
        known = Pipeline(map_lines(lower), command("sort", "-u"), stdin=dictionary)
        parts += [
            echo("unknown:"),
            command("comm", "-23", reading(words | command("sort", "-u")), reading(known)),
        ]
    return concat(*parts).replace(env={"LC_ALL": "C"})  # sort and comm have to agree on the order


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; return the exit status."""
    parser = argparse.ArgumentParser(prog="word_report", description="Report on the words of a text.")
    parser.add_argument("text", type=Path)
    parser.add_argument("-n", dest="count", type=int, default=10, help="how many to list (default: 10)")
    parser.add_argument("--dictionary", type=Path, help="a file of known words, one a line")
    options = parser.parse_args(arguments)
    try:
        report(options.text, options.count, options.dictionary).run()
    except PipelineError as error:
        sys.stderr.write(f"word_report: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
