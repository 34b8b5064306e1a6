"""Restate: its server with the defaults, and a Python service on hypercorn; an activity is a ``ctx.run``.

Three processes: server, service and client. A step's result is written to the server's log (RocksDB, synced) before the
handler goes on. The client is aiohttp: with the SDK's own (httpx) and 200 connections the client would be what is
measured. Runs in the peers' environment.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.processes import end_process, free_port, wait_for_port
from benchmarks.workloads import FULL, SMALL, Sizes, finished, own_process, run_system
from benchmarks.yardsticks import yardsticks

__all__ = ["main"]

_WAIT_S = 300
_REGISTER_S = 30.0
_MANY = 2**31 - 1


def noop(x: int) -> int:
    """Return what came in."""
    return x


def service() -> Any:
    """Return the service's application."""
    restate: Any = importlib.import_module("restate")
    bench = restate.Service("Bench")
    handler: Callable[..., Any] = bench.handler

    @handler("chain")
    async def chain(ctx: Any, steps: int) -> int:
        total = 0
        for index in range(steps):
            total += await ctx.run_typed("noop", noop, x=index)
        return total

    @handler("fan_out")
    async def fan_out(ctx: Any, width: int) -> int:
        runs = [ctx.run_typed("noop", noop, x=index) for index in range(width)]
        done = await restate.gather(*runs)
        return sum([await run for run in done])

    return restate.app([bench])


def serve(port: int) -> None:
    """Serve the service until this process is ended."""
    config: Any = importlib.import_module("hypercorn.config").Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel = "ERROR"
    config.h2_max_concurrent_streams = config.keep_alive_max_requests = config.keep_alive_timeout = _MANY
    asyncio.run(importlib.import_module("hypercorn.asyncio").serve(service(), config))


class Restate:
    """The service as a client sees it; a :class:`benchmarks.workloads.System`."""

    def __init__(self, session: Any, ingress: int) -> None:
        self._session = session
        self._url = f"http://127.0.0.1:{ingress}/Bench"

    async def chain(self, steps: int) -> int:
        """Run one chain."""
        return await self._call("chain", steps)

    async def chains(self, count: int, steps: int) -> list[int]:
        """Run chains, all called at once."""
        return await asyncio.gather(*(self._call("chain", steps) for _ in range(count)))

    async def fan_out(self, width: int) -> int:
        """Run one fan-out."""
        return await self._call("fan_out", width)

    async def _call(self, handler: str, value: int) -> Any:
        async with self._session.post(f"{self._url}/{handler}", json=value) as response:
            if response.status != 200:
                raise AssertionError(f"{handler}({value}) failed: {await response.text()}")
            return await response.json()


async def run_workloads(ingress: int, sizes: Sizes, processes: dict[str, int]) -> dict[str, float]:
    """Run all workloads once and return the figures."""
    aiohttp: Any = importlib.import_module("aiohttp")
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=sizes.w1_orchestrations),
        timeout=aiohttp.ClientTimeout(total=_WAIT_S),
    ) as session:
        return await run_system(Restate(session, ingress), sizes, processes)


def register(admin: int, port: int) -> None:
    """Tell the server of the service, waiting until it answers.

    Raises:
        RuntimeError: it does not in time.
    """
    deadline = time.monotonic() + _REGISTER_S
    body = json.dumps({"uri": f"http://127.0.0.1:{port}"}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{admin}/deployments", data=body, headers={"content-type": "application/json"}
    )
    while True:
        try:
            with urllib.request.urlopen(request, timeout=_REGISTER_S):  # noqa: S310
                return
        except (urllib.error.URLError, ConnectionError) as error:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server does not take the service: {error}") from error
        time.sleep(0.2)


def start_server(executable: str, folder: Path, *, ingress: int, admin: int) -> subprocess.Popen[bytes]:
    """Start the server on the loopback interface, with its defaults and a new data folder."""
    options = {
        "RESTATE_BASE_DIR": str(folder),
        "RESTATE_BIND_IP": "127.0.0.1",
        "RESTATE_BIND_PORT": str(free_port()),
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_ADVERTISED_HOST": "127.0.0.1",
        "RESTATE_LOG_FILTER": "warn",
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_INGRESS__BIND_IP": "127.0.0.1",
        "RESTATE_INGRESS__BIND_PORT": str(ingress),
        "RESTATE_ADMIN__BIND_IP": "127.0.0.1",
        "RESTATE_ADMIN__BIND_PORT": str(admin),
        "RESTATE_ADMIN__DISABLE_WEB_UI": "true",
    }
    with (folder / "server.log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603
            [executable, "--no-logo"], env={**os.environ, **options}, cwd=folder, stdout=log, stderr=log
        )


def main(executable: str, small: bool) -> None:
    """Start server and service, run all workloads once, and print the run."""
    before = yardsticks()
    port, ingress, admin = free_port(), free_port(), free_port()
    started: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="benchmark-restate-", ignore_cleanup_errors=True) as folder:
        try:
            server = start_server(executable, Path(folder), ingress=ingress, admin=admin)
            started.append(server)
            worker = subprocess.Popen([sys.executable, "-m", __spec__.name, "serve", str(port)])  # noqa: S603
            started.append(worker)
            for one, process in ((port, worker), (ingress, server), (admin, server)):
                wait_for_port(one, process)
            register(admin, port)
            time.sleep(
                1.0
            )  # as in the first measurements: what the server does after it has started is over then
            processes = own_process(worker=worker.pid, server=server.pid)
            figures = asyncio.run(run_workloads(ingress, SMALL if small else FULL, processes))
            said = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True)  # noqa: S603
            run = finished(
                "restate",
                "one node, default configuration (RocksDB, log synced); activity: ctx.run; aiohttp client",
                {
                    "restate-server": said.stdout.split()[-1],
                    **{name: version(name) for name in ("restate-sdk", "hypercorn")},
                },
                figures,
                before,
                processes,
            )
        except BaseException:
            sys.stderr.write(
                (Path(folder) / "server.log").read_text(encoding="utf-8", errors="replace")[-3000:]
            )
            raise
        finally:
            for process in reversed(started):
                end_process(process)
    print(json.dumps(asdict(run)), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        main(sys.argv[1], small=sys.argv[2] == "small")
