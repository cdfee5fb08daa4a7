"""`opentelemetry-instrument python app.py` finds the instrumentor by its entry point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.support.waiting import DEADLINE

ROOT = Path(__file__).parents[2]
APP = """
import penstock
print(penstock.command("printenv", "TRACEPARENT").text(name="shown"), end="")
penstock.command("sh", "-c", "exit 3").run(check=False, name="failed")
"""


def _installed(folder: Path) -> Path:
    """Write the metadata of the package as an installer would, with the entry points of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / f"penstock-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: penstock\nVersion: {project['version']}\n", encoding="utf-8"
    )
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_without_the_packages_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['opentelemetry'] = None; import penstock.otel"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stderr.endswith(
        "ImportError: penstock.otel needs OpenTelemetry: pip install 'penstock[otel]'\n"
    )


def test_a_program_is_instrumented_without_a_change(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP, encoding="utf-8")
    path = [str(_installed(tmp_path / "site")), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "OTEL_TRACES_EXPORTER": "console",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_PYTHON_PENSTOCK_CAPTURE_ARGS": "true",
    }
    environ.pop("TRACEPARENT", None)
    done = subprocess.run(
        [Path(sys.executable).with_name("opentelemetry-instrument"), sys.executable, app],
        env=environ, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=DEADLINE * 3,
    )  # fmt: skip
    shown, _, rest = done.stdout.partition("\n")
    spans = []
    decoder = json.JSONDecoder()
    while rest.strip():
        span, end = decoder.raw_decode(rest.lstrip())
        rest = rest.lstrip()[end:]
        spans.append(span)
    assert [span["name"] for span in spans] == ["printenv", "shown", "sh", "failed"]
    printenv, run, failing, _ = spans
    assert shown.split("-")[2] == printenv["context"]["span_id"].removeprefix("0x")
    assert printenv["parent_id"] == run["context"]["span_id"]
    assert failing["attributes"]["process.command_args"] == ["sh", "-c", "exit 3"]
    assert failing["status"]["status_code"] == "ERROR"
