"""An emulator inside a test: in a thread of its own, on free ports.

with RunningEmulator() as emulator:
    emulator.create_queue("orders", requires_sessions=True)
    client = ServiceBusClient.from_connection_string(emulator.connection_string)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from durabletask_azure.emulator.broker.browse import Counts, count
from durabletask_azure.emulator.broker.settings import Policy, QueueSettings
from durabletask_azure.emulator.faults import Fault
from durabletask_azure.emulator.server import Emulator, ServerSettings

T = TypeVar("T")

START_TIMEOUT_S: Final = 30.0
POLICY: Final = "RootManageSharedAccessKey"
ANY_KEY: Final = "SAS_KEY_VALUE"


class RunningEmulator:
    """An emulator in a thread of its own.

    Args:
        settings: how it runs; ports of 0, which the default has, pick free ones.
    """

    def __init__(self, settings: ServerSettings | None = None) -> None:
        self._settings = settings or ServerSettings(port=0, tls_port=0, admin_port=0)
        self._emulator: Emulator | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------ life

    def start(self) -> Self:
        """Start it, and return when it listens."""
        started = threading.Event()
        failed: list[BaseException] = []
        self._thread = threading.Thread(
            target=self._run, args=(started, failed), name="servicebus-emulator", daemon=True
        )
        self._thread.start()
        if not started.wait(START_TIMEOUT_S):
            raise TimeoutError(f"the emulator did not start within {START_TIMEOUT_S:g} seconds")
        if failed:
            raise failed[0]
        return self

    def stop(self) -> None:
        """Stop it, and return when it has."""
        if self._loop is not None and self._stopping is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        self._loop = self._stopping = self._thread = self._emulator = None

    def restart(self) -> None:
        """Stop it and start it on the same ports; with a file to persist in, nothing acknowledged is lost."""
        server = self.server
        ports = {"port": server.port, "tls_port": server.tls_port, "admin_port": server.admin_port}
        self.stop()
        self._settings = replace(self._settings, **ports)
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, started: threading.Event, failed: list[BaseException]) -> None:
        asyncio.run(self._serve(started, failed))

    async def _serve(self, started: threading.Event, failed: list[BaseException]) -> None:
        try:
            emulator = Emulator(self._settings)
            await emulator.start()
        except Exception as error:  # handed to the thread that waits in `start`
            failed.append(error)
            started.set()
            return
        self._emulator, self._loop, self._stopping = emulator, asyncio.get_running_loop(), asyncio.Event()
        stopping = self._stopping
        started.set()
        await stopping.wait()
        await emulator.stop()

    # ------------------------------------------------------------ use

    @property
    def server(self) -> Emulator:
        """The emulator itself; what is called of it belongs into its own loop, see `call`."""
        if self._emulator is None:
            raise RuntimeError("the emulator does not run")
        return self._emulator

    @property
    def connection_string(self) -> str:
        """A connection string for `ServiceBusClient`, for plain AMQP."""
        policies = self._settings.credentials.policies.values()
        policy = next(iter(policies), Policy(POLICY, ANY_KEY))
        return (
            f"Endpoint=sb://{self._settings.host}:{self.server.port};SharedAccessKeyName={policy.name};"
            f"SharedAccessKey={policy.key};UseDevelopmentEmulator=true;"
        )

    @property
    def admin_url(self) -> str:
        """The address of the administration API."""
        return f"http://{self._settings.host}:{self.server.admin_port}"

    def call(self, function: Callable[[Emulator], T]) -> T:
        """Call something in the emulator's loop, and return what it returns."""
        server, loop = self.server, self._loop
        assert loop is not None

        async def inside() -> T:
            result = function(server)
            server.changed()
            return result

        return asyncio.run_coroutine_threadsafe(inside(), loop).result(START_TIMEOUT_S)

    def create_queue(self, name: str, **settings: Any) -> None:
        """Create a queue; the settings are fields of `QueueSettings`.

        Raises:
            SettingsError: one is not allowed.
            QueueExistsError: there is one of that name.
        """
        self.call(lambda server: server.namespace.create(QueueSettings(name, **settings)))

    def delete_queue(self, name: str) -> None:
        """Delete a queue and all in it.

        Raises:
            QueueNotFoundError: there is no such queue.
        """
        self.call(lambda server: server.namespace.delete(name))

    def counts(self, name: str) -> Counts:
        """Count the messages of a queue."""
        return self.call(lambda server: count(server.namespace.entry(name).queue))

    def add_fault(self, fault: Fault) -> None:
        """Let something go wrong."""
        self.call(lambda server: server.faults.add(fault))

    def cut_connections(self) -> None:
        """Cut every connection without a word."""
        self.call(lambda server: server.cut_all())
