"""The services of an Azure hub for tests that harm them: Azurite, an emulator in a process of its own, and proxies.

A `Front` is what one process sees of the services: proxies of its own before each, so that one worker can be cut off
while the others are not.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.error import URLError
from urllib.request import Request, urlopen

from azurite.start import ACCOUNT, KEY, RunningAzurite
from tests.wire.http_gate import HttpRules
from tests.wire.proxy import TcpProxy

ROOT: Final = Path(__file__).resolve().parents[2]
START_S: Final = 30.0


class EmulatorProcess:
    """The Service Bus emulator as a process that may be killed and restarted on the same ports.

    Args:
        persist: the file that keeps everything; `None` forgets everything with the process.
        log: where its messages go.
    """

    def __init__(self, log: Path, persist: Path | None = None) -> None:
        self.port = 0
        self.admin_port = 0
        self.restarts = 0
        self._persist = persist
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        """Start it, and return when it listens."""
        command = [sys.executable, "-m", "durabletask_azure.emulator", "--port", str(self.port)]
        command += ["--admin-port", str(self.admin_port)]
        if self._persist is not None:
            command += ["--persist", str(self._persist)]
        with self._log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own module
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert process.stdout is not None
        ports: dict[str, int] = {}
        for line in process.stdout:
            if found := re.match(r"(AMQP|Administration) on [\d.]+:(\d+)", line):
                ports[found[1]] = int(found[2])
            elif line.startswith("Endpoint="):
                break
        if len(ports) < 2:
            process.kill()
            process.wait()
            raise RuntimeError(f"the emulator did not start; see {self._log}")
        self.port, self.admin_port = ports["AMQP"], ports["Administration"]
        self._process = process
        return self

    def signal(self, number: signal.Signals) -> None:
        """Send its process a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it without warning."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def restart(self) -> None:
        """Kill it and start it on the same ports."""
        self.kill()
        self.start()
        self.restarts += 1

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    # ------------------------------------------------------------ administration

    @property
    def admin_url(self) -> str:
        """The address of its administration API."""
        return f"http://127.0.0.1:{self.admin_port}"

    def ask(self, method: str, path: str, body: object | None = None) -> bytes:
        """Send a request to the administration API, and return the answer."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.admin_url}/{path}", data=data, method=method)  # noqa: S310 - loopback
        with urlopen(request, timeout=START_S) as answer:  # noqa: S310
            return bytes(answer.read())

    def put(self, path: str, entry: bytes) -> None:
        """Replace an entity's description, as the administration client does."""
        headers = {"Content-Type": "application/atom+xml", "If-Match": "*"}
        request = Request(f"{self.admin_url}/{path}", data=entry, method="PUT", headers=headers)  # noqa: S310
        with urlopen(request, timeout=START_S):  # noqa: S310 - loopback
            pass

    def fault(self, **fault: object) -> None:
        """Let something go wrong (docs/emulator.md has the fields)."""
        self.ask("POST", "faults", fault)

    def clear_faults(self) -> None:
        """Let nothing go wrong any more."""
        self.ask("DELETE", "faults")

    def waiting_faults(self) -> int:
        """Return how many faults have not hit everything yet."""
        return len(json.loads(self.ask("GET", "faults"))["faults"])

    def hit(self, operation: str) -> bool:
        """Return whether a fault on this operation is past what it lets pass, and has hit something."""
        faults = json.loads(self.ask("GET", "faults"))["faults"]
        asked = [fault for fault in faults if fault["operation"] == operation]
        return any(fault["skip"] == 0 and fault["count"] < 99 for fault in asked) or not asked

    def faults_hit(self, count: int) -> int:
        """Return how often the faults that wait have hit, each of which was to hit so often."""
        return sum(count - fault["count"] for fault in json.loads(self.ask("GET", "faults"))["faults"])

    def messages(self) -> dict[str, int]:
        """Return how many messages each queue holds: active, scheduled and dead ones."""
        feed = self.ask("GET", "$Resources/queues").decode()
        titles = re.findall(r"<(?:\w+:)?title(?: type=\"text\")?>([^<]*)<", feed)[1:]
        counts = re.findall(r"<(?:\w+:)?MessageCount>(\d+)<", feed)
        return dict(zip(titles, map(int, counts), strict=True))


class Front:
    """The services as one process sees them: through proxies of its own."""

    def __init__(self, services: WireServices, seed: int = 0) -> None:
        self.services = services
        self.table_rules, self.blob_rules = HttpRules(), HttpRules()
        azurite = services.azurite
        self.bus = TcpProxy(services.emulator.port, seed=seed)
        self.tables = TcpProxy(_port(azurite.table_url), seed=seed + 1, gate=self.table_rules.gate)
        self.blobs = TcpProxy(_port(azurite.blob_url), seed=seed + 2, gate=self.blob_rules.gate)
        for proxy in self.proxies:
            proxy.start()

    @property
    def proxies(self) -> tuple[TcpProxy, ...]:
        """All of them."""
        return (self.bus, self.tables, self.blobs)

    @property
    def storage(self) -> tuple[TcpProxy, ...]:
        """Those before storage."""
        return (self.tables, self.blobs)

    @property
    def connection_strings(self) -> tuple[str, str]:
        """Service Bus and storage."""
        return connection_strings(self.bus.port, self.tables.port, self.blobs.port)

    def heal(self) -> None:
        """Let everything pass again."""
        self.table_rules.clear()
        self.blob_rules.clear()
        for proxy in self.proxies:
            proxy.heal()

    def stop(self) -> None:
        """End the proxies."""
        for proxy in self.proxies:
            proxy.stop()


class WireServices:
    """One Azurite and one emulator process, with fronts for those who work on them."""

    def __init__(self, azurite: RunningAzurite, emulator: EmulatorProcess) -> None:
        self.azurite = azurite
        self.emulator = emulator
        self._fronts: dict[str, Front] = {}

    @property
    def fronts(self) -> Iterable[Front]:
        """All fronts so far."""
        return self._fronts.values()

    def front(self, name: str) -> Front:
        """Return the front of that name."""
        if name not in self._fronts:
            self._fronts[name] = Front(self, seed=len(self._fronts) * 10)
        return self._fronts[name]

    @property
    def connection_strings(self) -> tuple[str, str]:
        """Service Bus and storage, without a proxy between."""
        azurite = self.azurite
        return connection_strings(self.emulator.port, _port(azurite.table_url), _port(azurite.blob_url))

    def environment(self, hub: str, front: str | None = None) -> dict[str, str]:
        """Return the variables `AzureSettings.from_env` reads, through a front or straight."""
        bus, storage = self.connection_strings if front is None else self.front(front).connection_strings
        return {
            "DURABLETASK_SERVICE_BUS": bus,
            "DURABLETASK_STORAGE": storage,
            "DURABLETASK_ADMIN_URL": self.emulator.admin_url,
            "DURABLETASK_HUB": hub,
        }

    def stop_fronts(self) -> None:
        """End all proxies."""
        while self._fronts:
            self._fronts.popitem()[1].stop()


def connection_strings(bus: int, tables: int, blobs: int) -> tuple[str, str]:
    """Return connection strings for Service Bus and storage on these ports of loopback."""
    host = "127.0.0.1"
    return (
        f"Endpoint=sb://{host}:{bus};SharedAccessKeyName=RootManageSharedAccessKey;"
        "SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true;",
        f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
        f"TableEndpoint=http://{host}:{tables}/{ACCOUNT};BlobEndpoint=http://{host}:{blobs}/{ACCOUNT};",
    )


def _port(url: str) -> int:
    found = re.search(r":(\d+)", url.partition("//")[2])
    assert found is not None
    return int(found[1])


def until_healthy(emulator: EmulatorProcess) -> None:
    """Wait until the emulator answers, as after it was stopped."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            emulator.ask("GET", "health")
            return
        except (URLError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            threading.Event().wait(0.05)
