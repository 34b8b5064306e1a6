"""B113: compression of spilled values can be turned on and off under running instances."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from durabletask_azure import (
    ActivityContext,
    FailureDetails,
    OrchestrationContext,
    OrchestrationStatus,
    PayloadTooLargeError,
)
from tests.behaviours.stage import Stage

WORDS = [f"word {n % 50}" for n in range(20_000)]
OFF = 100_000_000


def echo(ctx: ActivityContext, value: Any) -> Any:
    return value


async def two_steps(ctx: OrchestrationContext, value: list[str]) -> list[Any]:
    """Keep a large value before and after a pause."""
    before = await ctx.call_activity(echo, input=value)
    went = await ctx.wait_for_external_event("go")
    return [before == value, went == value, await ctx.call_activity(echo, input=before)]


def bytes_in_files(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("p[0-9]*/*/*/*") if path.is_file())


@pytest.mark.parametrize("begun", ["on", "off"])
def test_b113_compression_comes_and_goes(
    open_stage: Callable[..., Stage], hub_kind: str, tmp_path: Path, begun: str
) -> None:
    least = {"on": 1, "off": OFF}
    first = open_stage(payload_compress_bytes_min=least.pop(begun))
    worker = first.worker(two_steps, activities=[echo])
    first.client.schedule_new_orchestration(two_steps, input=WORDS, instance_id="one")
    first.eventually(lambda: "TaskCompleted" in first.events("one"))
    worker.stop()
    if hub_kind == "disk":
        assert (bytes_in_files(tmp_path) > 190_000) is (begun == "off")
    (other,) = least.values()
    # A hub in memory has no other opening.
    second = open_stage(payload_compress_bytes_min=other) if hub_kind == "disk" else first
    second.worker(two_steps, activities=[echo])
    second.client.raise_orchestration_event("one", "go", data=WORDS)
    for stage in (first, second):
        assert stage.completed("one") == [True, True, WORDS]
        assert stage.state("one").get_input() == WORDS


def test_b113_the_cap_counts_bytes_before_compression(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(payload_bytes_max=50_000, payload_compress_bytes_min=1)
    with pytest.raises(PayloadTooLargeError, match="100,004 bytes"):
        stage.client.schedule_new_orchestration(two_steps, input=["a" * 100_000])


@pytest.mark.parametrize("hub_kind", ["disk"])
def test_b113_a_value_that_grows_over_its_size_fails_its_instance(
    open_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    stage = open_stage()
    stage.client.schedule_new_orchestration(two_steps, input=WORDS, instance_id="one")
    (path,) = (path for path in tmp_path.rglob("p[0-9]*/*/*/*") if path.is_file())
    path.write_bytes(b"\xffz" + zlib.compress(bytes(500_000_000)))
    stage.worker(two_steps, activities=[echo])
    stage.until_status("one", OrchestrationStatus.FAILED)
    failure = stage.existing_row("one").failure
    assert isinstance(failure, FailureDetails)
    assert failure.error_type == "PayloadMissingError"
