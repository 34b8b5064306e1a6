"""Processor time and memory of running processes, as Linux's ``/proc`` tells them; standard library only."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

__all__ = [
    "CpuClock",
    "end_process",
    "free_port",
    "peak_rss_mib",
    "require_linux",
    "rss_mib",
    "wait_for_port",
]

_END_S = 15.0


def require_linux() -> None:
    """End the program with a clear message where there is no ``/proc`` to read."""
    if not Path("/proc/self/status").exists():
        sys.exit("the benchmarks read processor time and memory from /proc, which this system does not have")


def rss_mib(pid: int) -> float:
    """Return the memory a process holds now."""
    return _status_mib(pid, "VmRSS:")


def peak_rss_mib(pid: int) -> float:
    """Return the most memory a process has held."""
    return _status_mib(pid, "VmHWM:")


def _status_mib(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} does not say its {field}")


class CpuClock:
    """The processor time some processes, and what they have started and awaited, took since it was made."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        self._pids = list(processes.values())
        self._begun = self._total()

    def seconds(self) -> float:
        """Return the time so far."""
        return self._total() - self._begun

    def _total(self) -> float:
        return sum(_cpu_s(pid) for pid in self._pids)


def _cpu_s(pid: int) -> float:
    # The name, in brackets, may hold spaces; utime, stime, cutime and cstime are fields 14 to 17.
    fields = (
        Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    )
    return sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Return a port nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 60.0) -> None:
    """Wait until something listens on a port of this machine.

    Raises:
        RuntimeError: the process that should has ended, or it took too long.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server for port {port} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port} after {seconds:.0f} s")


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, kill it if it does not, and wait for it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
