"""B130: none, strict, current or older, each with instances left waiting or failed; several versions in one worker."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from durabletask_azure import (
    OrchestrationContext,
    OrchestrationStatus,
    TaskFailedError,
    TaskHubWorker,
    VersionFailureStrategy,
    VersioningOptions,
    VersionMatchStrategy,
    WorkerStateError,
)
from tests.behaviours.stage import Stage

NONE, STRICT, OLDER = (
    VersionMatchStrategy.NONE,
    VersionMatchStrategy.STRICT,
    VersionMatchStrategy.CURRENT_OR_OLDER,
)
REJECT, FAIL = VersionFailureStrategy.REJECT, VersionFailureStrategy.FAIL
VERSIONS = [None, "1.9", "1.10", "2.0"]
RUN = {NONE: {None, "1.9", "1.10", "2.0"}, STRICT: {"1.10"}, OLDER: {None, "1.9", "1.10"}}


async def which(ctx: OrchestrationContext, _: Any) -> str | None:
    return ctx.version


async def parent(ctx: OrchestrationContext, version: str | None) -> str | None:
    return await ctx.call_sub_orchestrator(which, version=version)


async def waits(ctx: OrchestrationContext, _: Any) -> str:
    return await ctx.wait_for_external_event("go")


def versioned(stage: Stage, *orchestrators: Any, start: bool = True, **options: Any) -> TaskHubWorker:
    """Start a worker with versioning options."""
    worker = TaskHubWorker(stage.hub)
    for orchestrator in orchestrators:
        worker.add_orchestrator(orchestrator)
    worker.use_versioning(VersioningOptions(**options))
    if start:
        worker.start()
        stage.workers.append(worker)
    return worker


def reason_of(stage: Stage, instance_id: str) -> str:
    """Wait until an instance waits for a reason, and return it."""
    row = stage.until(instance_id, lambda row: row is not None and row.reason is not None)
    assert row is not None
    assert row.reason is not None
    return row.reason


@pytest.mark.parametrize("match", [NONE, STRICT, OLDER])
def test_b130_rejected_versions_wait_and_run_with_a_worker_that_fits(
    stage: Stage, match: VersionMatchStrategy
) -> None:
    worker = versioned(stage, which, version="1.10", match_strategy=match, failure_strategy=REJECT)
    ids = {version: stage.client.schedule_new_orchestration(which, version=version) for version in VERSIONS}

    for version in VERSIONS:
        if version in RUN[match]:
            assert stage.completed(ids[version]) == version
        else:
            assert "'1.10'" in reason_of(stage, ids[version])
            state = stage.state(ids[version])
            assert state.runtime_status is OrchestrationStatus.PENDING
            assert state.pending_reason is not None
            assert repr(version) in state.pending_reason

    worker.stop()
    versioned(stage, which, version="2.0", match_strategy=NONE)
    assert {version: stage.completed(ids[version]) for version in VERSIONS} == {v: v for v in VERSIONS}


@pytest.mark.parametrize("match", [NONE, STRICT, OLDER])
def test_b130_versions_that_do_not_fit_fail_if_the_worker_says_so(
    stage: Stage, match: VersionMatchStrategy
) -> None:
    versioned(stage, which, version="1.10", match_strategy=match, failure_strategy=FAIL)
    for version in VERSIONS:
        state = stage.run(which, version=version)
        if version in RUN[match]:
            assert (state.runtime_status, state.get_output()) == (OrchestrationStatus.COMPLETED, version)
            continue
        relation = "does not match" if match is STRICT else "is greater than"
        assert state.runtime_status is OrchestrationStatus.FAILED
        assert state.failure_details is not None
        assert state.failure_details.error_type == "VersionMismatch"
        assert (
            state.failure_details.message
            == f"The orchestration version '{version}' {relation} the worker version '1.10'."
        )


def test_b130_without_strategies_every_version_runs(stage: Stage) -> None:
    versioned(stage, which, version="1.0")
    assert [stage.result(which, version=version) for version in VERSIONS] == VERSIONS


def test_b130_without_a_failure_strategy_a_version_waits(stage: Stage) -> None:
    versioned(stage, which, version="1.0", match_strategy=STRICT)
    instance = stage.client.schedule_new_orchestration(which, version="2.0")
    assert "does not match" in reason_of(stage, instance)


def test_b130_sub_orchestrations_get_the_default_version(stage: Stage) -> None:
    versioned(stage, which, parent, default_version="3.0")
    assert stage.result(parent) == "3.0"
    assert stage.result(parent, "4.0") == "4.0"
    assert stage.result(which) is None


def test_b130_a_failed_version_of_a_child_reaches_its_parent(stage: Stage) -> None:
    async def careful(ctx: OrchestrationContext, _: Any) -> list[str] | str | None:
        try:
            return await ctx.call_sub_orchestrator(which, version="2.0")
        except TaskFailedError as error:
            return [error.details.error_type, error.details.message]

    versioned(stage, which, careful, version="1.0", match_strategy=OLDER, failure_strategy=FAIL)
    error_type, message = stage.result(careful)
    assert error_type == "VersionMismatch"
    assert "'2.0' is greater than the worker version '1.0'" in message


def test_b130_a_running_instance_meets_a_worker_of_another_version(stage: Stage) -> None:
    one = versioned(stage, waits, version="1.0", match_strategy=STRICT)
    left, failed = (stage.client.schedule_new_orchestration(waits, version="1.0") for _ in range(2))
    for instance in (left, failed):
        stage.until_status(instance, OrchestrationStatus.RUNNING)
    one.stop()

    two = versioned(stage, waits, version="2.0", match_strategy=STRICT, failure_strategy=REJECT)
    stage.client.raise_orchestration_event(left, "go", data="kept")
    assert "'1.0' does not match the worker version '2.0'" in reason_of(stage, left)
    assert stage.state(left).runtime_status is OrchestrationStatus.RUNNING
    two.stop()

    three = versioned(stage, waits, version="3.0", match_strategy=STRICT, failure_strategy=FAIL, start=False)
    one.start()
    assert stage.completed(left) == "kept"
    one.stop()
    three.start()
    stage.workers.append(three)
    stage.client.raise_orchestration_event(failed, "go")
    assert stage.end(failed).runtime_status is OrchestrationStatus.FAILED


def test_b130_a_new_generation_may_be_too_new_for_its_worker(stage: Stage) -> None:
    async def upgrading(ctx: OrchestrationContext, _: Any) -> str | None:
        if ctx.version == "1.0":
            ctx.continue_as_new(None, new_version="2.0")
        return ctx.version

    worker = versioned(stage, upgrading, version="1.0", match_strategy=OLDER)
    instance = stage.client.schedule_new_orchestration(upgrading, version="1.0")
    assert "greater" in reason_of(stage, instance)
    worker.stop()
    versioned(stage, upgrading, version="2.0", match_strategy=OLDER)
    assert stage.completed(instance) == "2.0"


def test_b130_several_versions_in_one_worker_and_their_order(stage: Stage) -> None:
    worker = TaskHubWorker(stage.hub)

    def of_version(version: str | None) -> None:
        async def job(ctx: OrchestrationContext, _: Any) -> str:
            return f"code {version} for {ctx.version}"

        worker.add_orchestrator(job, name="job", version=version)

    for version in (None, "1.0", "2.0", "3.0"):
        of_version(version)
    worker.use_versioning(
        VersioningOptions("2.0", match_strategy=OLDER, failure_strategy=FAIL, default_version="1.0")
    )
    worker.add_orchestrator(parent_of_job)
    worker.start()
    stage.workers.append(worker)

    assert stage.result("job") == "code None for None"
    assert stage.result("job", version="0.5") == "code None for 0.5"
    assert stage.result("job", version="1.0") == "code 1.0 for 1.0"
    assert stage.result("job", version="2.0") == "code 2.0 for 2.0"
    assert stage.run("job", version="3.0").runtime_status is OrchestrationStatus.FAILED
    assert stage.result(parent_of_job) == "code 1.0 for 1.0"


async def parent_of_job(ctx: OrchestrationContext, _: Any) -> str:
    return await ctx.call_sub_orchestrator("job")


def test_b130_a_later_start_waits_for_its_time_before_it_fails(stage: Stage) -> None:
    versioned(stage, which, version="1.0", match_strategy=STRICT, failure_strategy=FAIL)
    start_at = stage.hub.ports.clock.now() + timedelta(seconds=0.3)
    state = stage.run(which, version="2.0", start_at=start_at)
    assert state.runtime_status is OrchestrationStatus.FAILED
    assert stage.existing_row(state.instance_id).updated_at >= start_at


def test_b130_versioning_is_chosen_before_the_worker_starts(stage: Stage) -> None:
    worker = versioned(stage, which, version="1.0")
    with pytest.raises(WorkerStateError, match="running"):
        worker.use_versioning(VersioningOptions())
    worker.stop()
    with pytest.raises(TypeError, match="VersioningOptions"):
        worker.use_versioning("1.0")  # pyright: ignore[reportArgumentType]
