"""`.ci/audit.py` fails for a known vulnerability and for packages nobody knows, and says it if it could not ask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
WEAK = "requests"


class Service(BaseHTTPRequestHandler):
    """Speaks as api.osv.dev does, and knows one vulnerability."""

    def do_POST(self) -> None:
        question: Any = json.loads(self.rfile.read(int(self.headers["content-length"])))
        package = question["package"]["name"]
        affected = {
            "package": {"name": package, "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}],
        }
        one = {
            "id": "PYSEC-0-0",
            "published": "2026-01-01T00:00:00Z",
            "summary": "bad",
            "affected": [affected],
        }
        body = json.dumps({"vulns": [one]} if package == WEAK else {}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()
        thread.join()


def audit(url: str, requirements: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ".ci/audit.py", "--osv-url", url, "--requirements", str(requirements)]
    return subprocess.run(  # noqa: S603
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "AUDIT_REQUIRED": "", **environment},
    )


def locked(path: Path, *names: str) -> Path:
    path.write_text("".join(f"{name}==1.0 --hash=sha256:{'0' * 64}\n" for name in names))
    return path


def test_a_known_vulnerability_fails_and_is_named(service: str, tmp_path: Path) -> None:
    done = audit(service, locked(tmp_path / "locked.txt", "msgspec", WEAK))
    assert done.returncode == 1
    assert f"{WEAK} 1.0: PYSEC-0-0 (fixed in: 99.1)" in done.stdout
    assert "audited 2 packages: 1 known vulnerabilities" in done.stdout


def test_without_one_it_passes_and_the_bill_of_materials_is_written(service: str, tmp_path: Path) -> None:
    done = audit(service, locked(tmp_path / "locked.txt", "msgspec", "filelock"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "audited 2 packages: 0 known vulnerabilities" in done.stdout
    bill = json.loads((ROOT / "build" / "sbom.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "durabletask-azure"
    named = {component["name"]: component for component in bill["components"]}
    assert "azure-servicebus" in named
    assert named["msgspec"]["purl"].startswith("pkg:pypi/msgspec@")


def test_where_nobody_can_be_asked_it_says_so_and_fails_only_if_it_has_to(tmp_path: Path) -> None:
    # A port of this machine on which nobody listens, as far as anybody can know.
    requirements = locked(tmp_path / "locked.txt", "msgspec")
    for required, code in (("", 0), ("1", 1)):
        done = audit("http://127.0.0.1:9/v1/query", requirements, AUDIT_REQUIRED=required)
        assert done.returncode == code
        assert "NOTICE: nothing was audited for known vulnerabilities" in done.stdout
