"""Back a folder up to several disks: one `tar`, one compression, a checksum on the way.

    python -m penstock.examples.backup FOLDER DISK [DISK ...]

The graph has one `tee` before the compression, and one after it:

    tar ── tee ── zstd ── tee ── first disk
            │              └──── each other disk
            └ sha256sum

- The folder is read once, and compressed once, however many disks there are. The slowest disk sets the pace.
- Each copy is `atomic`: the files appear under their names when the whole run has succeeded. A full disk, or
  a file that `tar` cannot read, leaves the last backup on every disk as it was.
- Afterwards each copy is read back and decompressed, and its checksum must be that of what `tar` wrote.

`gzip` takes the place of `zstd` if that is not installed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from penstock import Pipeline, PipelineError, atomic, command, tee

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["back_up", "damaged", "main", "targets"]


def compressor() -> tuple[str, str]:
    """Return the program that compresses, and the suffix of its files."""
    return ("zstd", ".zst") if shutil.which("zstd") else ("gzip", ".gz")


def targets(folder: Path, disks: Sequence[Path]) -> list[Path]:
    """Return the paths of the copies."""
    return [disk / f"{folder.name}.tar{compressor()[1]}" for disk in disks]


def back_up(folder: Path, copies: Sequence[Path]) -> str:
    """Write each copy, and return the checksum of the archive before its compression.

    Raises `PipelineError` if any part fails; then all copies are as they were.
    """
    program, _ = compressor()
    first, *others = copies
    archive = Pipeline(
        command("tar", "--create", "--directory", folder.parent, "--", folder.name),
        tee(command("sha256sum")),
        command(program, "-c"),
        tee(*map(atomic, others)),
    )
    return _checksum(archive.run(stdout=atomic(first)).output("sha256sum"))


def damaged(copies: Sequence[Path], checksum: str) -> list[Path]:
    """Read every copy back, and return those that are not what was written."""
    return [copy for copy in copies if _checksum_of(copy) != checksum]


def _checksum_of(copy: Path) -> str | None:
    program, _ = compressor()
    try:
        return _checksum((command(program, "-dc") | command("sha256sum")).output(stdin=copy))
    except PipelineError:  # it cannot even be decompressed
        return None


def _checksum(line: bytes) -> str:
    return line.split()[0].decode("ascii")


def main(arguments: Sequence[str] | None = None) -> int:
    """Back up, verify and say what was written; return the exit status."""
    parser = argparse.ArgumentParser(prog="backup", description="Back a folder up to several disks.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("disks", type=Path, nargs="+", metavar="DISK", help="a folder that gets a copy")
    options = parser.parse_args(arguments)
    folder = options.folder.resolve()
    copies = targets(folder, options.disks)
    try:
        checksum = back_up(folder, copies)
    except PipelineError as error:
        sys.stderr.write(f"backup: {error}\n")
        return 1
    wrong = damaged(copies, checksum)
    for copy in copies:
        sys.stdout.write(f"{'DAMAGED' if copy in wrong else checksum}  {copy}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
