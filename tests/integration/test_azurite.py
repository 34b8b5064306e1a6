"""Azurite as `azurite/start.py` runs it: on loopback, on disk or in memory, and never longer than its parent."""

# Much of the storage SDKs has no whole types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableClient, TableServiceClient
from azure.storage.blob import BlobServiceClient

from azurite.start import RunningAzurite

pytestmark = [pytest.mark.azure, pytest.mark.timeout(180)]
ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "azurite" / "start.py"


def write(azurite: RunningAzurite) -> None:
    with TableServiceClient.from_connection_string(azurite.connection_string) as tables:
        tables.create_table("rows").create_entity({"PartitionKey": "p", "RowKey": "r", "value": "kept"})
    with BlobServiceClient.from_connection_string(azurite.connection_string) as blobs:
        blobs.create_container("values").upload_blob("name", b"kept")


def values(azurite: RunningAzurite) -> tuple[object, bytes]:
    with TableClient.from_connection_string(azurite.connection_string, "rows") as table:
        row = table.get_entity("p", "r")["value"]
    with BlobServiceClient.from_connection_string(azurite.connection_string) as blobs:
        return row, blobs.get_blob_client("values", "name").download_blob().readall()


def test_on_disk_a_restart_keeps_ports_and_values(tmp_path: Path) -> None:
    with RunningAzurite(location=tmp_path) as azurite:
        write(azurite)
        before = azurite.connection_string

        azurite.restart()

        assert azurite.connection_string == before
        assert values(azurite) == ("kept", b"kept")


def test_in_memory_a_restart_forgets_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with RunningAzurite() as azurite:
        write(azurite)

        azurite.restart()

        with pytest.raises(ResourceNotFoundError):
            values(azurite)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name
)
def test_it_ends_with_the_process_that_started_it(number: signal.Signals) -> None:
    command = [sys.executable, str(SCRIPT)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as started:  # noqa: S603
        assert started.stdout is not None
        address: str = next(line for line in started.stdout if line.startswith("Blobs"))
        with socket.create_connection(("127.0.0.1", urlsplit(address.split()[1]).port or 0)) as connection:
            connection.settimeout(30)
            os.kill(started.pid, number)
            code = started.wait()
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
    assert code == (-signal.SIGKILL if number is signal.SIGKILL else 0)


def test_bad_arguments_are_refused() -> None:
    command = [sys.executable, str(SCRIPT), "--blob-port", "99999"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603

    assert done.returncode == 2
    assert "a port is 0 to 65535, not '99999'" in done.stderr
