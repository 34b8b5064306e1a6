"""Where the peers live: a virtual environment and Restate's server, made on first use in a folder of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

__all__ = ["RESTATE_SERVER", "PeersEnvironment", "prepare"]

RESTATE_SERVER = "@restatedev/restate-server-linux-x64@1.7.12"
"""The npm package that holds the server's binary; it runs no script when it is installed."""

_REQUIREMENTS = Path(__file__).with_name("requirements.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersEnvironment:
    """What is installed; ``missing`` says of a system that cannot run why not."""

    python: Path
    restate_server: Path
    missing: dict[str, str]


def prepare(folder: Path) -> PeersEnvironment:
    """Install the peers in a folder, if they are not there yet.

    Raises:
        subprocess.CalledProcessError: a package could not be installed; the command's own message was printed.
    """
    python = folder / "venv" / "bin" / "python"
    installed = folder / "installed.txt"
    wanted = _REQUIREMENTS.read_text(encoding="utf-8")
    if not installed.exists() or installed.read_text(encoding="utf-8") != wanted:
        print(f"installing the peers in {folder}", file=sys.stderr)
        venv.create(folder / "venv", with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        subprocess.run([*command, "-r", str(_REQUIREMENTS)], check=True, stdout=sys.stderr)  # noqa: S603
        installed.write_text(wanted, encoding="utf-8")
    package, _, version = RESTATE_SERVER.rpartition("@")
    server = folder / version / "node_modules" / package / "bin" / "restate-server"
    missing: dict[str, str] = {}
    if not server.exists():
        reason = _install_server(folder / version)
        if reason:
            missing["restate"] = reason
    return PeersEnvironment(python=python, restate_server=server, missing=missing)


def _install_server(folder: Path) -> str:
    """Install Restate's server; return why it cannot be, or nothing."""
    npm = shutil.which("npm")
    if npm is None:
        return "its server comes from npm, which is not installed"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text("{}\n", encoding="utf-8")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", RESTATE_SERVER]
    done = subprocess.run(command, cwd=folder, stdout=sys.stderr, check=False)  # noqa: S603
    return "" if done.returncode == 0 else f"npm could not install {RESTATE_SERVER}"
