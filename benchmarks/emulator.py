"""The emulator's CPU next to that of the SDK that talks to it: `python -m benchmarks.emulator`.

The emulator is a process of its own; what is printed is CPU time of each process, so a busy machine changes little.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusClient, ServiceBusMessage, ServiceBusReceiver

BODY: Final = b"x" * 1024
IDLE_S: Final = 20.0
SESSIONS: Final = 100
CONFIG: Final = """{"UserConfig": {"Namespaces": [{"Name": "sbemulatorns", "Queues": [
    {"Name": "q", "Properties": {"LockDuration": "PT5M"}},
    {"Name": "s", "Properties": {"LockDuration": "PT5M", "RequiresSession": true}}], "Topics": []}]}}"""


class EmulatorProcess:
    """An emulator in a process of its own."""

    def __init__(self, folder: str) -> None:
        config = Path(folder, "Config.json")
        config.write_text(CONFIG, encoding="utf-8")
        command = [sys.executable, "-m", "durabletask_azure.emulator", "--port", "0", "--admin-port", "0"]
        self._process = subprocess.Popen(  # noqa: S603
            [*command, "--config", str(config)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        if self._process.stdout is None:
            raise RuntimeError("the emulator has no output")
        self.connection_string = next(
            line.strip() for line in self._process.stdout if line.startswith("Endpoint=")
        )

    def cpu_s(self) -> float:
        """Return the CPU seconds it has used."""
        text = Path(f"/proc/{self._process.pid}/schedstat").read_text(encoding="ascii")
        return int(re.split(r"\s+", text)[0]) / 1e9

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def measure(name: str, count: int, emulator: EmulatorProcess, work: Callable[[], None]) -> None:
    """Do some work and print the CPU of both sides, per message."""
    theirs, ours, began = time.process_time(), emulator.cpu_s(), time.perf_counter()
    work()
    client = (time.process_time() - theirs) / count * 1e6
    server = (emulator.cpu_s() - ours) / count * 1e6
    rate = count / (time.perf_counter() - began)
    print(f"{name:<28}{client:>12.0f}{server:>14.0f}{client / server:>10.1f}{rate:>14.0f}")


def send(client: ServiceBusClient, count: int) -> None:
    """Send one message after the other."""
    with client.get_queue_sender("q") as sender:
        for _ in range(count):
            sender.send_messages(ServiceBusMessage(BODY))


def send_batches(client: ServiceBusClient, count: int) -> None:
    """Send messages in batches of a hundred."""
    with client.get_queue_sender("q") as sender:
        for _ in range(count // 100):
            sender.send_messages([ServiceBusMessage(BODY) for _ in range(100)])


def receive(client: ServiceBusClient, count: int) -> None:
    """Receive and complete messages, with prefetch."""
    done = 0
    with client.get_queue_receiver("q", prefetch_count=100, socket_timeout=0.02) as receiver:
        while done < count:
            for message in receiver.receive_messages(max_message_count=1, max_wait_time=10):
                receiver.complete_message(message)
                done += 1


def idle(client: ServiceBusClient, emulator: EmulatorProcess) -> None:
    """Hold sessions and do nothing; print the emulator's share of a core."""
    with client.get_queue_sender("s") as sender:
        for n in range(SESSIONS):
            sender.send_messages(ServiceBusMessage(b"", session_id=f"{n}"))
    receivers: list[ServiceBusReceiver] = []
    try:
        for _ in range(SESSIONS):
            receiver = client.get_queue_receiver("s", session_id=NEXT_AVAILABLE_SESSION, max_wait_time=30)
            receiver.__enter__()
            receivers.append(receiver)
        before, theirs = emulator.cpu_s(), time.process_time()
        time.sleep(IDLE_S)
        share = (emulator.cpu_s() - before) / IDLE_S * 100
        client_share = (time.process_time() - theirs) / IDLE_S * 100
        print(f"{SESSIONS} idle sessions: emulator {share:.2f} % of a core, client {client_share:.2f} %")
    finally:
        for receiver in receivers:
            receiver.close()


def main() -> None:
    """Measure everything once."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.emulator", description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="messages of each kind (default %(default)s)")
    count = int(parser.parse_args().count)
    with TemporaryDirectory() as folder:
        emulator = EmulatorProcess(folder)
        try:
            with ServiceBusClient.from_connection_string(emulator.connection_string) as client:
                print(
                    f"{'1 KiB bodies':<28}{'client µs':>12}{'emulator µs':>14}{'ratio':>10}{'messages/s':>14}"
                )
                measure("send", count, emulator, lambda: send(client, count))
                measure("send in batches of 100", count, emulator, lambda: send_batches(client, count))
                measure("receive and complete", 2 * count, emulator, lambda: receive(client, 2 * count))
                idle(client, emulator)
        finally:
            emulator.stop()


if __name__ == "__main__":
    main()
