"""Run the tests of the SDK's source distribution against the emulator: `python -m tests.emulator.conformance`.

The distribution is fetched with pip into `build/` on the first run.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[3]
BUILD: Final = ROOT / "build" / "conformance"
FILES: Final = (
    "test_queues.py",
    "test_sessions.py",
    "test_list_sessions.py",
    "test_sb_client.py",
    "mgmt_tests/test_mgmt_queues.py",
    "async_tests/test_queues_async.py",
    "async_tests/test_sessions_async.py",
    "async_tests/test_list_sessions_async.py",
    "async_tests/test_sb_client_async.py",
    "mgmt_tests/async/test_mgmt_queues_async.py",
)


def fetch() -> Path:
    """Return the folder of the SDK's tests, fetched if it is not there, and repaired as the book says."""
    version = importlib.metadata.version("azure-servicebus")
    tests = BUILD / f"azure_servicebus-{version}" / "tests"
    archive = BUILD / f"azure_servicebus-{version}.tar.gz"
    if not archive.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*command, "--dest", str(BUILD), f"azure-servicebus=={version}"], check=True)  # noqa: S603
    repairs = tomllib.loads(Path(__file__).with_name("book.toml").read_text(encoding="utf-8"))["repairs"]
    stamp = tests / "repairs.json"
    wanted = json.dumps(repairs, indent=1)
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(tests, ignore_errors=True)
        with tarfile.open(archive) as members:
            members.extractall(BUILD, filter="data")
        repair(tests, repairs)
        stamp.write_text(wanted, encoding="utf-8")
    return tests


def repair(tests: Path, repairs: Sequence[Mapping[str, str]]) -> None:
    """Mend what the book says is wrong with the tests themselves."""
    for each in repairs:
        path = tests / each["file"]
        text = path.read_text(encoding="utf-8")
        if text.count(each["wrong"]) != 1:
            sys.exit(f"{path.name} should hold once what book.toml repairs: {each['wrong']}")
        path.write_text(text.replace(each["wrong"], each["right"]), encoding="utf-8")


def main() -> int:
    """Run them; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.emulator.conformance", description=__doc__)
    parser.add_argument("--slow", action="store_true", help="only the tests that take minutes each")
    parser.add_argument("--jobs", default="16", help="test processes at once; most of the time they wait")
    parser.add_argument("files", nargs="*", default=list(FILES), help="test files of the distribution")
    options, more = parser.parse_known_args()
    tests = fetch()
    folders = [tests, tests / "async_tests", tests / "mgmt_tests", tests / "mgmt_tests" / "async", ROOT]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    command = [sys.executable, "-m", "pytest", "-c", str(Path(__file__).with_name("pytest.ini"))]
    command += ["--rootdir", str(tests), "-p", "tests.emulator.conformance.plugin", "-n", options.jobs]
    command += ["-q", "--dist", "worksteal", *(["--slow"] if options.slow else []), *more]
    return subprocess.run([*command, *options.files], cwd=tests, env=environment, check=False).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
