"""List the largest files in the whole history of a git repository.

    python -m penstock.examples.git_sizes [-n COUNT] [REPOSITORY]

There are four stages, each in its own process or thread. No stage holds more than a buffer:

    git rev-list --objects --all     lists each object that a branch, a tag or HEAD reaches: "ID" or "ID PATH"
    filter_lines(has_path)           drops the commits, which have no path
    git cat-file --batch-check=...   adds type and sizes to each ID; %(rest) repeats the path
    filter_lines(is_blob)            drops the trees and tags

Because `cat-file` repeats the rest of its input line, no stage has to remember the paths of millions of
objects. The program reads the output of the last stage as it comes, and keeps only the COUNT largest blobs.

`git rev-list` names each object once, by one of its paths, and cuts a path at a line feed. All other bytes
arrive as they are in the repository; they are escaped only when they are printed.
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

# Inside a git hook these variables select the repository; here the argument does.
HOOK_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX")


@dataclass(frozen=True, slots=True, order=True)
class Blob:
    """One version of one file: its size in bytes, plain and in the repository, its id and a path."""

    size: int
    disk: int
    name: str
    path: bytes


@dataclass(slots=True)
class Tally:
    """The sums over all blobs; sizes in bytes."""

    blobs: int = 0
    size: int = 0
    disk: int = 0


def has_path(line: bytes) -> bool:
    """Return whether the line is about a tree or a file, not a commit; the root tree's path is empty."""
    return b" " in line


def is_blob(line: bytes) -> bool:
    """Return whether the line is about file contents, not about a tree or a tag."""
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

    Raises `PipelineError` if git is missing or fails, as it does if `repository` is not a repository.
    """
    tally = Tally()
    # Closed on every way out, including Ctrl-C between two lines: closing ends the processes.
    with contextlib.closing(blob_lines(repository).iter_lines()) as lines:
        return heapq.nlargest(count, parse(lines, tally)), tally


def printable(path: bytes) -> str:
    """Return text that is safe to print: control characters and undecodable bytes are escaped."""
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
    """Return the message of git if it printed one, or else the text of the error."""
    words = error.cause.stderr if isinstance(error.cause, ExitError) else b""
    return "\n".join(map(printable, words.strip().splitlines())) or str(error)


def count_of(text: str) -> int:
    """Parse the value of `-n`."""
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {count}")
    return count


def die_of(signum: signal.Signals) -> int:
    """End this process as the signal would have, without a traceback, so that a shell sees the reason."""
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
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # the terminal's encoding may lack a path's characters
    try:
        blobs, tally = largest(options.repository, options.count)
        sys.stdout.write(report(blobs, tally) + "\n")
        sys.stdout.flush()
    except PipelineError as error:
        sys.stderr.write(f"git_sizes: {explain(error)}\n")
        return 1
    except BrokenPipeError:  # the reader of our output has gone: `| head`
        return die_of(signal.SIGPIPE)
    except KeyboardInterrupt:  # the run has been cancelled and reaped by now
        return die_of(signal.SIGINT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
