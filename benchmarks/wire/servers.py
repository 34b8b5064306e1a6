"""Azurite and the Service Bus emulator, each in a process of its own, as every run of the benchmark has them anew."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from azurite.start import RunningAzurite

__all__ = ["FLOOR_SESSIONS", "FLOOR_TASKS", "Servers", "clear_traffic", "read_traffic", "running_servers"]

FLOOR_SESSIONS, FLOOR_TASKS = "floor-orchestrations", "floor-activities"
"""The queues that are there from the start, for the bare SDKs; the hub makes its own."""

_TIMEOUT_S = 30.0
_QUEUES = {
    "UserConfig": {
        "Namespaces": [
            {
                "Name": "sbemulatorns",
                "Queues": [
                    {"Name": FLOOR_SESSIONS, "Properties": {"LockDuration": "PT1M", "RequiresSession": True}},
                    {"Name": FLOOR_TASKS, "Properties": {"LockDuration": "PT1M"}},
                ],
                "Topics": [],
            }
        ]
    }
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Where the two servers of a run are; JSON can hold it, for the processes that use them."""

    service_bus: str
    """The emulator's connection string."""
    admin_url: str
    storage: str
    """Azurite's connection string."""
    table_url: str
    emulator_pid: int
    azurite_pid: int

    def processes(self) -> dict[str, int]:
        """Return their processes by name."""
        return {"emulator": self.emulator_pid, "Azurite": self.azurite_pid}


@contextlib.contextmanager
def running_servers() -> Generator[Servers]:
    """Start both, empty, in memory and on free ports; stop them in the end."""
    with RunningAzurite() as azurite, _emulator() as (process, said):
        yield Servers(
            service_bus=next(line for line in said if line.startswith("Endpoint=")),
            admin_url="http://"
            + next(_after(line) for line in said if line.startswith("Administration on ")),
            storage=azurite.connection_string,
            table_url=azurite.table_url,
            emulator_pid=process.pid,
            azurite_pid=azurite.pid,
        )


@contextlib.contextmanager
def _emulator() -> Generator[tuple[subprocess.Popen[str], list[str]]]:
    command = [sys.executable, "-m", "durabletask_azure.emulator", "--port", "0", "--admin-port", "0"]
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-wire-") as folder,
        subprocess.Popen(  # noqa: S603 - our own module
            [*command, "--config", str(_config(folder))],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process,
    ):
        try:
            said: list[str] = []
            for line in process.stdout or ():
                said.append(line.strip())
                if line.startswith("Endpoint="):
                    break
            else:
                raise RuntimeError("the Service Bus emulator ended before it listened")
            yield process, said
        finally:
            process.terminate()


def _config(folder: str) -> Path:
    path = Path(folder, "Config.json")
    path.write_bytes(msgspec.json.encode(_QUEUES))
    return path


def _after(line: str) -> str:
    return line.rpartition(" ")[2]


def read_traffic(admin_url: str) -> dict[str, dict[str, Any]]:
    """Return what the emulator counted on its wire, by queue."""
    with urllib.request.urlopen(f"{admin_url}/traffic", timeout=_TIMEOUT_S) as answer:  # noqa: S310 - loopback
        return msgspec.json.decode(answer.read(), type=dict[str, dict[str, Any]])


def clear_traffic(admin_url: str) -> None:
    """Have the emulator count anew."""
    request = urllib.request.Request(f"{admin_url}/traffic", method="DELETE")  # noqa: S310 - loopback
    urllib.request.urlopen(request, timeout=_TIMEOUT_S).close()  # noqa: S310
