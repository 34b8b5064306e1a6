"""A hub within the limits of Microsoft's Service Bus emulator, shown on this package's emulator held to them.

The queues are those of `containers/Config.json`; worker and client are the programs of the container image.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from azurite.start import RunningAzurite
from durabletask_azure.emulator.config import read_config
from durabletask_azure.emulator.fixture import RunningEmulator
from durabletask_azure.emulator.limits import Limits
from durabletask_azure.emulator.server import ServerSettings

pytestmark = [
    pytest.mark.azure,
    pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM is not sent on Windows"),
]
ROOT = Path(__file__).resolve().parents[2]
CONNECTIONS_MAX = 10
RUNS = 3


@pytest.fixture
def emulator() -> Iterator[RunningEmulator]:
    """An emulator of 10 connections and 256 KB messages, with the queues of the file; it forgets when it stops."""
    settings = ServerSettings(
        port=0,
        tls_port=0,
        admin_port=0,
        limits=Limits(
            connections_max=CONNECTIONS_MAX, message_bytes_max=256 * 1024, batch_bytes_max=256 * 1024
        ),
    )
    with RunningEmulator(settings) as running:
        queues = read_config(ROOT / "containers" / "Config.json")
        running.call(lambda server: [server.namespace.create(queue) for queue in queues])
        yield running


@pytest.fixture
def environment(emulator: RunningEmulator, azurite: RunningAzurite, tmp_path: Path) -> dict[str, str]:
    """The container's settings, with the addresses of the services that run here."""
    hub = (ROOT / "containers" / "hub.toml").read_text(encoding="utf-8")
    for line in hub.splitlines():
        key = line.partition(" ")[0]
        if key in ("service_bus", "storage"):
            there = emulator.connection_string if key == "service_bus" else azurite.connection_string
            hub = hub.replace(line, f'{key} = "{there}"')
    file = tmp_path / "hub.toml"
    file.write_text(f'{hub}admin_url = "{emulator.admin_url}"\n', encoding="utf-8")
    return os.environ | {"DURABLETASK_CONFIG": str(file), "PYTHONUNBUFFERED": "1"}


def program(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "containers.worker", *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_worker_and_a_client_keep_to_ten_connections(
    emulator: RunningEmulator, environment: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with program(environment) as worker:
        try:
            for run in range(RUNS):
                with program(environment, "start", "Lagos", f"Quito {run}") as client:
                    said, _ = client.communicate(timeout=60)
                assert client.returncode == 0, said
                assert said.splitlines()[-1] == f"['Hello, Lagos!', 'Hello, Quito {run}!']"
        finally:
            worker.send_signal(signal.SIGTERM)
            said, _ = worker.communicate(timeout=30)
            print(said)  # shown if the test fails
    assert worker.returncode == 0, said
    assert "ERROR" not in said
    # The emulator's log is this process's: it never had to refuse an eleventh connection.
    assert "a connection is refused" not in caplog.text
