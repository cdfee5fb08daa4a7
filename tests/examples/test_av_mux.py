"""A film of two test signals, by three processes of ffmpeg."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from penstock import PipelineError, command
from penstock.examples import av_mux

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed"),
]


def frames(film: Path, stream: str) -> int:
    """Return how many pictures or pieces of sound a film has."""
    words = ["ffmpeg", "-v", "error", "-i", str(film), "-map", f"0:{stream}", "-f", "framemd5", "-"]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return sum(not line.startswith("#") for line in text.splitlines())


def test_the_film_has_a_picture_and_a_sound(tmp_path: Path) -> None:
    """Both as long as they were to be."""
    film = tmp_path / "film.mkv"
    assert av_mux.main(["--seconds", "2", str(film)]) == 0
    assert frames(film, "v") == 20
    assert frames(film, "a") > 80  # of 1024 samples


def test_a_source_that_fails_leaves_no_film(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named."""
    assert av_mux.main(["--seconds", "-1", str(tmp_path / "film.mkv")]) == 1
    assert "av_mux: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_source_that_breaks_off_is_an_error_of_the_run() -> None:
    """Although ffmpeg takes the end for the end of the film."""
    sound = command("sh", "-c", "cat; exit 3", name="sound")
    with pytest.raises(PipelineError) as caught:
        av_mux.joined(av_mux.picture(1), av_mux.sound(1) | sound).output()
    assert caught.value.stage == "sound"
    assert caught.value.result is not None
    assert caught.value.result.stdout
