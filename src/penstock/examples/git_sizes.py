"""List the largest files in the whole history of a git repository.

    python -m penstock.examples.git_sizes [-n COUNT] [REPOSITORY]

Four stages, each in its own process or thread, none of which holds more than a buffer:

    git rev-list --objects --all     every object that a branch, a tag or HEAD reaches: "ID" or "ID PATH"
    filter_lines(has_path)           drops the commits, which have no path
    git cat-file --batch-check=...   type and sizes for each ID; %(rest) hands the path through
    filter_lines(is_blob)            drops the trees and tags

Because `cat-file` repeats the rest of its input line, no stage has to remember a path for each of what may be
millions of objects. What the last stage emits is read as it comes, and only the COUNT largest are kept.

What git does with paths: `rev-list` names each object once, by one of its paths, and cuts a path at a line
feed. All other bytes arrive as they are in the repository; they are escaped only when they are printed.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import io
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock import ExitError, Pipeline, PipelineError, command, filter_lines

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Blob", "Tally", "blob_lines", "largest", "main", "report"]

FORMAT = "%(objecttype) %(objectsize) %(objectsize:disk) %(objectname) %(rest)"

# Inside a git hook these say which repository git works on; here the argument does.
HOOK_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX")


@dataclass(frozen=True, slots=True, order=True)
class Blob:
    """One version of one file: its size in bytes, plain and as the repository keeps it, its id and a path."""

    size: int
    disk: int
    name: str
    path: bytes


@dataclass(slots=True)
class Tally:
    """The sums over all blobs that went by; sizes in bytes."""

    blobs: int = 0
    size: int = 0
    disk: int = 0


def has_path(line: bytes) -> bool:
    """Tell the lines of trees and files from those of commits; the root tree's path is empty."""
    return b" " in line


def is_blob(line: bytes) -> bool:
    """Tell the lines of file contents from those of trees and tags."""
    return line.startswith(b"blob ")


def blob_lines(repository: str | os.PathLike[str]) -> Pipeline:
    """Return the pipeline that writes a line `blob SIZE DISK ID PATH` for each version of each file."""
    return Pipeline(
        command("git", "rev-list", "--objects", "--all"),
        filter_lines(has_path),
        command("git", "cat-file", "--buffer", f"--batch-check={FORMAT}"),
        filter_lines(is_blob),
        cwd=repository,
        env=dict.fromkeys(HOOK_VARIABLES),
    )


def parse(lines: Iterable[bytes], tally: Tally) -> Iterator[Blob]:
    """Turn the pipeline's lines into blobs, and add each to the tally."""
    for line in lines:
        _, size, disk, name, path = line.split(b" ", 4)
        blob = Blob(int(size), int(disk), name.decode("ascii"), path)
        tally.blobs += 1
        tally.size += blob.size
        tally.disk += blob.disk
        yield blob


def largest(repository: str | os.PathLike[str], count: int) -> tuple[list[Blob], Tally]:
    """Return the `count` largest blobs of a repository, largest first, and the sums over all of its blobs.

    Raises `PipelineError` where git is missing or fails, as it does where `repository` is none.
    """
    tally = Tally()
    # Closed on every way out, Ctrl-C between two lines included: closing ends what still runs.
    with contextlib.closing(blob_lines(repository).iter_lines()) as lines:
        return heapq.nlargest(count, parse(lines, tally)), tally


def printable(path: bytes) -> str:
    """Return text that a terminal shows and does not obey: control and undecodable bytes are escaped."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def report(blobs: Sequence[Blob], tally: Tally) -> str:
    """Return the table: a line for each blob, and one for the sums."""
    if not tally.blobs:
        return "no files in this repository's history"
    rows = [("size", "on disk", "object", "path")]
    rows += [(f"{blob.size:,}", f"{blob.disk:,}", blob.name[:12], printable(blob.path)) for blob in blobs]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{size:>{widths[0]}}  {disk:>{widths[1]}}  {name:<{widths[2]}}  {path}".rstrip()
        for size, disk, name, path in rows
    ]
    shown = (
        f"the {len(blobs):,} largest of {tally.blobs:,}"
        if len(blobs) < tally.blobs
        else f"all {tally.blobs:,}"
    )
    return "\n".join(
        [*lines, "", f"{shown} file versions; in all {tally.size:,} bytes, {tally.disk:,} on disk"]
    )


def explain(error: PipelineError) -> str:
    """Return what went wrong: git's own words where it had any, and else the error's."""
    words = error.cause.stderr if isinstance(error.cause, ExitError) else b""
    return "\n".join(map(printable, words.strip().splitlines())) or str(error)


def count_of(text: str) -> int:
    """Parse the value of `-n`."""
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {count}")
    return count


def die_of(signum: signal.Signals) -> int:
    """End this process as the signal would have, so that a shell sees why; quietly, with no traceback."""
    signal.signal(signum, signal.SIG_DFL)
    signal.raise_signal(signum)
    return 128 + signum  # not reached unless the signal is blocked


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table for the repository that the command line names; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="git_sizes", description="List the largest files in the whole history of a git repository."
    )
    parser.add_argument("repository", nargs="?", default=".", help="a folder in the repository (default: .)")
    parser.add_argument("-n", dest="count", type=count_of, default=10, help="how many to list (default: 10)")
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path need not fit the terminal's encoding
    try:
        blobs, tally = largest(options.repository, options.count)
        sys.stdout.write(report(blobs, tally) + "\n")
        sys.stdout.flush()
    except PipelineError as error:
        sys.stderr.write(f"git_sizes: {explain(error)}\n")
        return 1
    except BrokenPipeError:  # whoever read our output has seen enough: `| head`
        return die_of(signal.SIGPIPE)
    except KeyboardInterrupt:  # the run has been cancelled and reaped by now
        return die_of(signal.SIGINT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
