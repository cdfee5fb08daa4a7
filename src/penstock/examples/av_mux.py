"""Make a film of a picture source and a sound source with `ffmpeg`, without files between them.

    python -m penstock.examples.av_mux [--seconds SECONDS] FILE

Both sources are test signals here, each from a process of its own. Any other program that writes a stream
could take their place: a decoder, a camera, a speech synthesizer. `ffmpeg` has one stdin, but two inputs:

    picture ──┐
              ffmpeg ── FILE
    sound ────┘

`reading` gives it a name for each: `-i /dev/fd/7 -i /dev/fd/8`. It inherits exactly these two descriptors,
and the sources none of them, so each input ends when its source does.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from penstock import Pipeline, PipelineError, atomic, command, reading

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["joined", "main", "picture", "sound"]

FFMPEG = ("ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error")


def picture(seconds: float) -> Pipeline:
    """Return the source of a moving test card, as uncompressed video."""
    card = f"testsrc=size=160x120:rate=10:duration={seconds}"
    return command(
        *FFMPEG, "-f", "lavfi", "-i", card, "-f", "yuv4mpegpipe", "-pix_fmt", "yuv420p", "-", name="picture"
    )


def sound(seconds: float) -> Pipeline:
    """Return the source of a tone, as uncompressed sound."""
    tone = f"sine=frequency=440:duration={seconds}"
    return command(*FFMPEG, "-f", "lavfi", "-i", tone, "-f", "wav", "-", name="sound")


def joined(video: Pipeline, audio: Pipeline) -> Pipeline:
    """Return the pipeline that writes a Matroska film of both."""
    inputs = ("-i", reading(video, via="fd"), "-i", reading(audio, via="fd"))
    return command(*FFMPEG, *inputs, "-c:v", "mpeg4", "-c:a", "aac", "-f", "matroska", "-")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the film; return the exit status."""
    parser = argparse.ArgumentParser(prog="av_mux", description="Make a film of two test signals.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0, help="its length (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        joined(picture(options.seconds), sound(options.seconds)).run(stdout=atomic(options.file))
    except PipelineError as error:
        sys.stderr.write(f"av_mux: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
