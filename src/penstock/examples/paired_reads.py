"""Give a program two compressed files to read side by side, without unpacking them to the disk.

    python -m penstock.examples.paired_reads [-o FILE] FIRST SECOND -- PROGRAM [ARGUMENT ...]
    python -m penstock.examples.paired_reads -o out.sam r1.fastq.gz r2.fastq.gz -- bwa mem ref.fa

A sequencer writes paired reads as two files, and an aligner such as `bwa mem` takes their names. In bash one
writes `bwa mem ref.fa <(gzip -dc r1.fastq.gz) <(gzip -dc r2.fastq.gz) > out.sam`. The graph is the same:

    gzip -dc FIRST  ──┐
                      PROGRAM ── FILE
    gzip -dc SECOND ──┘

But bash looks at the exit status of the program alone. If a file is cut short, the program sees the end of
its input, succeeds, and the output is half as long as it should be. Here `gzip` is a stage as any other: its
failure is the failure of the run, and FILE, which is `atomic`, stays as it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from penstock import Pipeline, PipelineError, atomic, command, reading

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "paired"]


def unpacked(path: Path) -> Pipeline:
    """Return the source of a file's bytes."""
    program = ("gzip", "-dc") if path.suffix == ".gz" else ("cat",)
    return Pipeline(
        command(*program, name=f"{program[0]} {path.name}"), stdin=path
    )  # an error says which file


def paired(program: Sequence[str], first: Path, second: Path) -> Pipeline:
    """Return the pipeline that runs the program with the names of two pipes as its last arguments."""
    return command(*program, reading(unpacked(first)), reading(unpacked(second)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="paired_reads", description="Give a program two compressed files to read side by side."
    )
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("program", nargs="+", help="the program and its arguments, after --")
    parser.add_argument("-o", dest="output", type=Path, help="the file to write (default: standard output)")
    options = parser.parse_args(arguments)
    pipeline = paired(options.program, options.first, options.second)
    try:
        if options.output is None:
            pipeline.run()
        else:
            pipeline.run(stdout=atomic(options.output))
    except PipelineError as error:
        sys.stderr.write(f"paired_reads: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
