"""Every sample runs and prints exactly what its README says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = sorted(
    path.parent.name for path in (ROOT / "samples").glob("*/main.py") if path.parent.name != "demo"
)


def test_every_sample_has_a_readme() -> None:
    folders = [path.parent for path in (ROOT / "samples").glob("*/main.py")]
    assert [folder.name for folder in folders if not (folder / "README.md").exists()] == []


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_prints_what_its_readme_says(sample: str) -> None:
    readme = (ROOT / "samples" / sample / "README.md").read_text(encoding="utf-8")
    said = re.findall(r"^```text\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    command = [sys.executable, "-W", "error", "-m", f"samples.{sample}.main"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert done.stderr == ""
    assert [done.stdout] == said
    assert done.returncode == 0
