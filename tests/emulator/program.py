"""The emulator as a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from typing import IO

CONFIG = """{"UserConfig": {"Namespaces": [{"Name": "sbemulatorns", "Queues": [
    {"Name": "load", "Properties": {"LockDuration": "PT5M", "MaxDeliveryCount": 10}}], "Topics": []}]}}"""


class Process:
    """The emulator as a process of its own."""

    def __init__(self, *arguments: str, log: IO[str] | None = None) -> None:
        command = [sys.executable, "-m", "durabletask_azure.emulator", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)  # noqa: S603
        assert self.process.stdout is not None
        ports: dict[str, int] = {}
        self.connection_string = ""
        for line in self.process.stdout:
            if found := re.match(r"(AMQP|AMQP over TLS|Administration) on \S+:(\d+)$", line):
                ports[found[1]] = int(found[2])
            elif line.startswith("Endpoint="):
                self.connection_string = line.strip()
                break
        self.port, self.admin_port = ports["AMQP"], ports["Administration"]
        self.tls_port = ports.get("AMQP over TLS", 0)

    def end(self, number: signal.Signals) -> int:
        """End it with a signal, and return its exit code."""
        self.process.send_signal(number)
        code = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code
