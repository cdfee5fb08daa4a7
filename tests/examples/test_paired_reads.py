"""Paired reads for a program that takes two file names, as aligners do."""

from __future__ import annotations

import gzip
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from penstock import PipelineError
from penstock.examples import paired_reads

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

COUNT = 5000
"""Reads in each file: together they are larger than the pipes."""

# Stands in for an aligner: it reads two FASTQ files by name, and writes the records of each pair one after
# the other. If one file ends sooner it stops there and succeeds, as programs do that trust their input.
INTERLEAVE = """
import sys
from itertools import islice
first, second = (open(name) for name in sys.argv[1:3])
while True:
    pair = [list(islice(file, 4)) for file in (first, second)]
    if not all(len(record) == 4 for record in pair):
        break
    sys.stdout.writelines(line for record in pair for line in record)
"""
ALIGNER = [sys.executable, "-c", INTERLEAVE]


def record(number: int, mate: int) -> str:
    """Return one FASTQ record."""
    return f"@read{number}/{mate}\n{'ACGT' * 20}\n+\n{'I' * 80}\n"


@pytest.fixture
def reads(tmp_path: Path) -> tuple[Path, Path]:
    """The two files of paired reads, compressed."""
    paths = tmp_path / "r1.fastq.gz", tmp_path / "r2.fastq.gz"
    for mate, path in enumerate(paths, 1):
        path.write_bytes(gzip.compress("".join(record(i, mate) for i in range(COUNT)).encode()))
    return paths


def test_the_pairs_come_side_by_side(reads: tuple[Path, Path]) -> None:
    """All of them, in order."""
    text = paired_reads.paired(ALIGNER, *reads).text()
    assert text == "".join(record(i, mate) for i in range(COUNT) for mate in (1, 2))


def test_a_file_need_not_be_compressed(reads: tuple[Path, Path], tmp_path: Path) -> None:
    """Its suffix decides."""
    plain = tmp_path / "r1.fastq"
    plain.write_bytes(gzip.decompress(reads[0].read_bytes()))
    assert paired_reads.paired(ALIGNER, plain, reads[1]).text().count("@read") == 2 * COUNT


def test_a_file_that_was_cut_short_is_an_error_although_the_program_succeeds(
    reads: tuple[Path, Path], tmp_path: Path
) -> None:
    """It is named, and the output file is as it was."""
    reads[1].write_bytes(reads[1].read_bytes()[:-1000])
    with pytest.raises(PipelineError, match="unexpected end of file") as caught:
        paired_reads.paired(ALIGNER, *reads).output()
    assert caught.value.stage == "gzip r2.fastq.gz"
    assert caught.value.result is not None
    assert caught.value.result.stage(sys.executable).error is None
    output = tmp_path / "out"
    output.write_text("before")
    assert paired_reads.main(["-o", str(output), *map(str, reads), "--", *ALIGNER]) == 1
    assert output.read_text() == "before"


def test_the_program_writes_the_output_of_the_aligner(reads: tuple[Path, Path], tmp_path: Path) -> None:
    """To a file, or to stdout."""
    output = tmp_path / "out"
    words = [sys.executable, "-m", "penstock.examples.paired_reads"]
    subprocess.run([*words, "-o", output, *reads, "--", *ALIGNER], check=True)
    ended = subprocess.run([*words, *reads, "--", *ALIGNER], check=True, stdout=subprocess.PIPE)
    assert ended.stdout == output.read_bytes()
    assert ended.stdout.count(b"@read") == 2 * COUNT
