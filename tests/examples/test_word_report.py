"""The words of a text, by three branches of one shared source."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from penstock import PipelineError
from penstock.examples import word_report

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def expected(text: str, count: int, known: set[str] | None = None) -> list[str]:
    """Return the report's words, made the simple way."""
    words = [word.lower() for word in re.findall("[A-Za-z]+", text)]
    ranked = sorted(Counter(words).items(), key=lambda item: (-item[1], item[0]))[:count]
    report = ["words:", str(len(words)), "most", "frequent:"]
    report += [part for word, number in ranked for part in (str(number), word)]
    if known is not None:
        report += ["unknown:", *sorted(set(words) - known)]
    return report


def test_the_report_is_right(tmp_path: Path) -> None:
    """Also for a text that begins with no letter, and words that differ in case."""
    text = tmp_path / "text"
    text.write_text("-- The cat saw the other cat;\nit saw THE cat too.")
    (tmp_path / "known").write_text("The\nsaw\ncat\nzebra\n")
    report = word_report.report(text, 2, tmp_path / "known").text()
    assert report.split() == expected(text.read_text(), 2, {"the", "saw", "cat"})
    assert report.split()[-3:] == ["it", "other", "too"]


def test_a_text_that_is_larger_than_all_pipes_does_not_hang(tmp_path: Path) -> None:
    """`concat` reads one branch to its end while the others have to wait."""
    rng = random.Random(1)
    words = ["".join(rng.choices("abcde", k=6)) for _ in range(3000)]
    text = " ".join(rng.choices(words, k=300_000))
    (tmp_path / "text").write_text(text)
    (tmp_path / "known").write_text("\n".join(words[:1000]))
    report = word_report.report(tmp_path / "text", 5, tmp_path / "known").text(timeout=60)
    assert report.split() == expected(text, 5, set(words[:1000]))


def test_the_program_prints_it(tmp_path: Path) -> None:
    """And names a file that is missing."""
    (tmp_path / "text").write_text("a b a")
    words = [sys.executable, "-m", "penstock.examples.word_report", "-n", "1"]
    ended = subprocess.run([*words, tmp_path / "text"], check=True, capture_output=True, text=True)
    assert ended.stdout.split() == expected("a b a", 1)
    ended = subprocess.run([*words, tmp_path / "missing"], check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "missing" in ended.stderr
    with pytest.raises(PipelineError):
        word_report.report(tmp_path / "missing", 1).output()
