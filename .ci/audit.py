"""Ask whether anything that is locked has a known vulnerability, and write the bill of materials of what users get.

Ends with 1 if there is one, or if it could not be found out about some packages only. Where no service can be reached
it says so and ends with 0; with AUDIT_REQUIRED=1 in the environment, with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
RUNTIME, EVERYTHING = ROOT / "requirements" / "runtime.txt", ROOT / "requirements" / "dev.txt"
LOCKED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^ ;\\]+)", re.MULTILINE)
# What `pip-audit` ends with when nobody answers.
UNREACHABLE = re.compile(r"ConnectionError|Timeout|Could not connect|Connection refused|Max retries exceeded")


def main() -> int:
    """Write the bill of materials, audit what is locked; return the exit code."""
    parser = argparse.ArgumentParser(prog="python .ci/audit.py", description=__doc__)
    parser.add_argument("--osv-url", help="ask this service, which speaks as api.osv.dev does, and no other")
    parser.add_argument(
        "--requirements", type=Path, default=EVERYTHING, help="the locked requirements to audit"
    )
    options = parser.parse_args()
    BUILD.mkdir(exist_ok=True)
    write_bill()
    services = [["pypi"], ["osv"]] if options.osv_url is None else [["osv", "--osv-url", options.osv_url]]
    silent: list[str] = []
    for service in services:
        try:
            return judge(ask(service, options.requirements))
        except SilentServiceError as error:
            silent.append(f"{service[0]}: {error}")
    print("NOTICE: nothing was audited for known vulnerabilities: no service can be reached from here.")
    for line in silent:
        print(f"        {line}")
    return int(os.environ.get("AUDIT_REQUIRED", "") == "1")


class SilentServiceError(Exception):
    """A service cannot be reached, or does not know any package at all."""


def write_bill() -> None:
    """Write build/sbom.json (CycloneDX), and check that it names what is locked."""
    bill = BUILD / "sbom.json"
    command = [
        sys.executable,
        "-m",
        "cyclonedx_py",
        "requirements",
        str(RUNTIME),
        "--pyproject",
        "pyproject.toml",
    ]
    command += ["--output-reproducible", "--of", "JSON", "-o", str(bill)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)  # noqa: S603
    components: list[dict[str, Any]] = json.loads(bill.read_text(encoding="utf-8"))["components"]
    named = {(each["name"].lower(), each["version"]) for each in components}
    locked = {
        (name.lower(), version) for name, version in LOCKED.findall(RUNTIME.read_text(encoding="utf-8"))
    }
    if named != locked:
        sys.exit(f"{bill} and {RUNTIME} differ: {sorted(named ^ locked)}")
    print(f"bill of materials: {len(named)} packages in {bill.relative_to(ROOT)}")


def ask(service: list[str], requirements: Path) -> list[dict[str, Any]]:
    """Return what a service says about each package.

    Raises:
        SilentServiceError: it says nothing about any.
    """
    report = BUILD / "audit.json"
    report.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--disable-pip",
        "--require-hashes",
        "-r",
        str(requirements),
    ]
    command += [
        "--progress-spinner",
        "off",
        "-f",
        "json",
        "-o",
        str(report),
        "--vulnerability-service",
        *service,
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)  # noqa: S603
    if not report.exists():
        said = done.stderr.strip().splitlines()[-1:] or [f"pip-audit ended with {done.returncode}"]
        if UNREACHABLE.search(done.stderr):
            raise SilentServiceError(said[0][:200])
        sys.exit(f"pip-audit failed: {done.stderr.strip()}")
    packages: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["dependencies"]
    if all("skip_reason" in each for each in packages):
        raise SilentServiceError(f"it answers, and knows none of {len(packages)} packages")
    return packages


def judge(packages: list[dict[str, Any]]) -> int:
    """Print what was found; return the exit code."""
    unknown = [f"{each['name']}: {each['skip_reason']}" for each in packages if "skip_reason" in each]
    found = [(each, one) for each in packages for one in each.get("vulns", ())]
    for package, one in found:
        fixed = ", ".join(one["fix_versions"]) or "none yet"
        print(f"{package['name']} {package['version']}: {one['id']} (fixed in: {fixed})")
    for line in unknown:
        print(f"not audited: {line}")
    print(f"audited {len(packages) - len(unknown)} packages: {len(found)} known vulnerabilities")
    return int(bool(found or unknown))


if __name__ == "__main__":
    sys.exit(main())
