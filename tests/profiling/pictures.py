"""Take the pictures of a report that stand in docs/watching.md: `python -m tests.profiling.pictures`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.support.browser import Browser

from penstock import DEVNULL, Result, command, tee, transform

DOCS = Path(__file__).parents[2] / "docs"
PICTURES = {"report_wide.webp": (1280, 1000, False), "report_phone.webp": (390, 900, True)}
"""The width, the height, and whether it is dark, of each."""
_QUALITY = 60


def graph_that_fails() -> Result:
    """Run a graph for some seconds, whose last stage says why it fails."""
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do head -c 3000000 /dev/urandom | base64; sleep 0.1; done"
    counted = (command("sort") | command("wc", "-l")).to(DEVNULL)
    packed = (command("gzip", "-c") | transform(lambda chunks: chunks, name="keep")).to(DEVNULL)
    refuse = "head -n 400000 > /dev/null; echo 'line 400001: no such account' >&2; exit 3"
    parse = command("sh", "-c", refuse, name="parse")
    pipeline = command("sh", "-c", script, name="generate") | tee(counted, packed) | parse
    return pipeline.run(stdout=DEVNULL, check=False, profile=True)


def main() -> None:
    """Write the pictures into the folder of the documents."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.html"
        graph_that_fails().write_report(path)
        browser = Browser(Path(folder) / "browser")
        for name, (width, height, dark) in PICTURES.items():
            page = browser.page(width, height, dark=dark)
            page.open(path)
            (DOCS / name).write_bytes(page.screenshot("webp", _QUALITY))
        browser.close()


if __name__ == "__main__":
    main()
