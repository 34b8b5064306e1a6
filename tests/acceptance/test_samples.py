"""Every sample runs and prints exactly what its README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.azure_services import AzureServices

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = sorted(
    path.parent.name for path in (ROOT / "samples").glob("*/main.py") if path.parent.name != "demo"
)


def test_every_sample_has_a_readme() -> None:
    folders = [path.parent for path in (ROOT / "samples").glob("*/main.py")]
    assert [folder.name for folder in folders if not (folder / "README.md").exists()] == []


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_prints_what_its_readme_says(sample: str) -> None:
    done = run(sample, {})
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.azure
@pytest.mark.timeout(180)
@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_prints_the_same_on_an_azure_hub(
    sample: str, azure_services: AzureServices, tmp_path: Path
) -> None:
    settings = tmp_path / "hub.toml"
    settings.write_text(
        "[azure]\n"
        f'service_bus = "{azure_services.emulator.connection_string}"\n'
        f'admin_url = "{azure_services.emulator.admin_url}"\n'
        f'storage = "{azure_services.storage_string}"\n'
        f'hub = "{azure_services.names.hub}"\n'
        "create_if_missing = true\n"
    )
    done = run(sample, {"DURABLETASK_CONFIG": str(settings)})
    assert done.returncode == 0, done.stderr


def run(sample: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a sample, and compare what it prints with its README."""
    readme = (ROOT / "samples" / sample / "README.md").read_text(encoding="utf-8")
    said = re.findall(r"^```text\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    command = [sys.executable, "-W", "error", "-m", f"samples.{sample}.main"]
    done = subprocess.run(  # noqa: S603
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert [done.stdout] == said, done.stderr
    return done
