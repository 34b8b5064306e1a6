"""A hub that is opened by its first call: once, by whoever comes first, and again only if that failed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from durabletask_azure import (
    ConfigurationError,
    HubUnavailableError,
    Settings,
    TaskHub,
    TaskHubClient,
    TaskHubWorker,
)
from durabletask_azure.adapters.local import open_local
from durabletask_azure.hosting import HubHost
from durabletask_azure.ports import HubPorts

ROOT = Path(__file__).resolve().parents[2]


class Opening:
    """Opens a hub in memory, when it may, and fails when it is told to."""

    def __init__(self) -> None:
        self.count = 0
        self.errors: list[Exception] = []
        self.may_open = threading.Event()
        self.may_open.set()
        self.began = threading.Event()
        self.ended = 0

    async def __call__(self) -> HubPorts:
        self.count += 1
        self.began.set()
        while not self.may_open.is_set():
            await asyncio.to_thread(self.may_open.wait, 0.05)
        if self.errors:
            raise self.errors.pop()
        return open_local(None)

    def end(self) -> None:
        self.ended += 1


@pytest.fixture
def opening() -> Opening:
    return Opening()


@pytest.fixture
def host(opening: Opening) -> Iterator[HubHost]:
    made = HubHost(None, Settings(), "late", open_ports=opening, at_end=opening.end)
    yield made
    opening.may_open.set()
    made.close()


def anything(host: HubHost) -> None:
    assert TaskHubClient(host).get_orchestration_state("x") is None


def test_nothing_is_opened_before_the_first_call(host: HubHost, opening: Opening) -> None:
    before = threading.active_count()
    client = TaskHubClient(host)
    worker = TaskHubWorker(host)
    assert (opening.count, host.is_open, threading.active_count()) == (0, False, before)
    with pytest.raises(HubUnavailableError, match="not open"):
        _ = host.ports
    with pytest.raises(ConfigurationError):
        client.get_orchestration_state("")
    assert opening.count == 0, "a call that is refused needs no hub"
    worker.start()
    assert (opening.count, host.is_open) == (1, True)
    worker.stop()
    anything(host)
    assert opening.count == 1


def test_calls_at_once_open_it_once(host: HubHost, opening: Opening) -> None:
    opening.may_open.clear()
    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(anything, host) for _ in range(8)]
        assert opening.began.wait(30)
        opening.may_open.set()
        for call in calls:
            call.result(30)
    assert opening.count == 1


def test_who_waits_for_an_opening_that_fails_is_told_and_the_next_call_tries_again(
    host: HubHost, opening: Opening
) -> None:
    opening.errors = [HubUnavailableError("no network")]
    with pytest.raises(HubUnavailableError, match="no network"):
        host.open()
    assert not host.is_open
    anything(host)
    assert opening.count == 2


async def test_who_gives_up_does_not_cancel_it_for_others(host: HubHost, opening: Opening) -> None:
    opening.may_open.clear()
    impatient, patient = asyncio.create_task(host.aopen()), asyncio.create_task(host.aopen())
    assert await asyncio.to_thread(opening.began.wait, 30)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    opening.may_open.set()
    await patient
    assert (opening.count, host.is_open) == (1, True)


def test_closing_ends_an_opening_under_way(host: HubHost, opening: Opening) -> None:
    opening.may_open.clear()
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(host.open)
        assert opening.began.wait(30)
        host.close()
        with pytest.raises(HubUnavailableError, match="closed while"):
            call.result(30)
    assert opening.ended == 1
    with pytest.raises(ConfigurationError, match="closed"):
        host.open()


def test_closing_what_was_never_opened_starts_nothing(host: HubHost, opening: Opening) -> None:
    before = threading.active_count()
    host.close()
    assert (opening.count, threading.active_count()) == (0, before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_hub_that_was_not_used_yet_may_be_used_after_a_fork(run_python: Callable[[str], str]) -> None:
    said = run_python(
        """
        import os
        from durabletask_azure.adapters.local import open_local
        from durabletask_azure.hosting import HubHost
        from durabletask_azure import Settings, TaskHubClient

        async def opening():
            return open_local(None)

        hub = HubHost(None, Settings(), "late", open_ports=opening)
        child = os.fork()
        found = TaskHubClient(hub).get_orchestration_state("x")
        hub.close()
        if child:  # only after the child has said what it found
            assert os.waitpid(child, 0)[1] == 0
        print(found, flush=True)
        """
    )
    assert said.split() == ["None", "None"]


def test_making_a_hub_of_any_kind_loads_no_sdk(run_python: Callable[[str], str]) -> None:
    said = run_python(
        """
        import sys, durabletask_azure as package
        for name in package.__all__:
            getattr(package, name)
        package.TaskHub.local().close()
        settings = package.AzureSettings(service_bus="orders1", storage="orders", hub="shop")
        hub = package.TaskHub.azure(settings)
        package.TaskHubClient(hub), package.TaskHubWorker(hub)
        hub.close()
        loaded = [name for name in sys.modules if name.partition(".")[0] in ("azure", "aiohttp", "requests", "msal")]
        print(loaded)
        """
    )
    assert said.strip() == "[]"


@pytest.fixture
def run_python() -> Callable[[str], str]:
    def run(program: str) -> str:
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(program)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


# ------------------------------------------------------------------ the hub that the environment names

BUS = "Endpoint=sb://a.example/;SharedAccessKeyName=n;SharedAccessKey=k"


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"DURABLETASK_LOCAL": "memory"}, "memory"),
        ({}, "memory"),
        (
            {"DURABLETASK_SERVICE_BUS": BUS, "DURABLETASK_STORAGE": "orders", "DURABLETASK_HUB": "shop"},
            "shop",
        ),
    ],
)
def test_the_environment_names_a_hub(variables: dict[str, str], name: str) -> None:
    with TaskHub.from_env(variables, default="memory") as hub:
        assert hub.name == name


def test_the_environment_names_a_file(tmp_path: Path) -> None:
    with TaskHub.from_env({"DURABLETASK_LOCAL": str(tmp_path / "hub.db")}) as hub:
        assert hub.exists()
    assert (tmp_path / "hub.db").exists()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "set DURABLETASK_LOCAL to a file or to 'memory', or DURABLETASK_SERVICE_BUS"),
        ({"DURABLETASK_LOCAL": "x.db", "DURABLETASK_CONFIG": "y"}, "are both set"),
        ({"DURABLETASK_SERVICE_BUS": BUS}, "DURABLETASK_STORAGE and DURABLETASK_HUB must be set"),
        ({"DURABLETASK_CONFIG": "/nowhere/hub.toml"}, "cannot be read"),
    ],
)
def test_an_environment_that_names_no_hub_is_refused(variables: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        TaskHub.from_env(variables)
