"""The hubs that behaviours are shown on: the embedded one in memory and in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from durabletask_azure import Settings, TaskHub
from tests.behaviours.stage import Stage

OpenHub = Callable[..., TaskHub]


@pytest.fixture(params=["memory", "disk"])
def hub_kind(request: pytest.FixtureRequest) -> str:
    """Which hub; a test for one kind only parametrizes this fixture itself."""
    return str(request.param)


@pytest.fixture
def open_stage(hub_kind: str, tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Open a hub with settings of the test's own; its workers are stopped and it is closed at the end."""
    stages: list[Stage] = []

    def open_one(**settings: object) -> Stage:
        path = None if hub_kind == "memory" else tmp_path / "hub.db"
        stage = Stage(TaskHub.local(path, settings=Settings(**settings)))  # pyright: ignore[reportArgumentType]
        stages.append(stage)
        return stage

    yield open_one
    for stage in stages:
        stage.hub.close()


@pytest.fixture
def stage(open_stage: Callable[..., Stage]) -> Stage:
    """A stage on a hub with the default settings."""
    return open_stage()


@pytest.fixture
def hub(stage: Stage) -> TaskHub:
    """The hub of that stage."""
    return stage.hub
