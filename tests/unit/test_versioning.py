"""Which versions a worker runs, and which names its filters take: the rules alone, without an instance."""

from __future__ import annotations

from typing import Any

import pytest

from durabletask_azure.core.filters import (
    ActivityWorkItemFilter,
    EntityWorkItemFilter,
    OrchestrationWorkItemFilter,
    WorkItemFilters,
    takes_orchestration,
    work_item_filters_of,
)
from durabletask_azure.core.registry import OrchestratorDefinition, Refusal, Registry
from durabletask_azure.core.versioning import (
    VersionFailureStrategy,
    VersioningOptions,
    VersionMatchStrategy,
    compare_versions,
    version_mismatch,
)
from durabletask_azure.errors import ArgumentTypeError, ConfigurationError


async def job(ctx: Any, value: Any) -> Any:
    return value


@pytest.mark.parametrize(
    ("one", "other", "order"),
    [
        ("1.9", "1.10", -1),
        ("2.0", "1.10", 1),
        ("1.0", "1.0.0", 0),
        ("1.0rc1", "1.0", -1),
        ("beta", "1.0", 1),
        ("a", "b", -1),
        ("b", "b", 0),
        (None, "1.0", -1),
        ("", "1.0", -1),
        ("1.0", None, 1),
        (None, "", 0),
    ],
)
def test_versions_compare_by_pep_440_else_as_text(one: str | None, other: str | None, order: int) -> None:
    assert compare_versions(one, other) == order
    assert compare_versions(other, one) == -order


@pytest.mark.parametrize(
    ("strategy", "runs"),
    [
        (None, {None, "1.0", "2.0", "3.0"}),
        (VersionMatchStrategy.NONE, {None, "1.0", "2.0", "3.0"}),
        (VersionMatchStrategy.STRICT, {"2.0"}),
        (VersionMatchStrategy.CURRENT_OR_OLDER, {None, "1.0", "2.0"}),
    ],
)
def test_a_strategy_says_which_versions_run(
    strategy: VersionMatchStrategy | None, runs: set[str | None]
) -> None:
    options = VersioningOptions("2.0", match_strategy=strategy)
    for version in (None, "1.0", "2.0", "3.0"):
        assert (version_mismatch(options, version) is None) is (version in runs)


def test_a_mismatch_is_told_as_durabletask_tells_it() -> None:
    strict = version_mismatch(VersioningOptions("2.0", match_strategy=VersionMatchStrategy.STRICT), "1.0")
    older = version_mismatch(
        VersioningOptions("2.0", match_strategy=VersionMatchStrategy.CURRENT_OR_OLDER), "3.0"
    )
    assert strict is not None
    assert older is not None
    assert strict.message == "The orchestration version '1.0' does not match the worker version '2.0'."
    assert older.message == "The orchestration version '3.0' is greater than the worker version '2.0'."
    assert strict.error_type == older.error_type == "VersionMismatch"
    assert strict.is_non_retriable
    assert older.is_non_retriable


@pytest.mark.parametrize(
    "options",
    [
        {"version": 1},
        {"default_version": 1.0},
        {"match_strategy": "STRICT"},
        {"match_strategy": VersionFailureStrategy.FAIL},
        {"failure_strategy": VersionMatchStrategy.STRICT},
    ],
)
def test_versioning_options_of_a_wrong_type_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentTypeError, match=next(iter(options))):
        VersioningOptions(**options)


def test_a_registry_gives_code_or_the_reason_why_not() -> None:
    registry = Registry()
    registry.add_orchestrator(job, version="1.0")
    registry.add_orchestrator(job, version="2.0")

    found = registry.code_for("job", "1.0")
    assert isinstance(found, OrchestratorDefinition)
    assert found.version == "1.0"

    missing = registry.code_for("job", "3.0")
    assert isinstance(missing, Refusal)
    assert "no orchestrator 'job' version '3.0'" in missing.reason
    assert missing.failure is None

    options: dict[str, Any] = {"version": "1.5", "match_strategy": VersionMatchStrategy.CURRENT_OR_OLDER}
    registry.versioning = VersioningOptions(**options)
    assert isinstance(registry.code_for("job", "1.0"), OrchestratorDefinition)
    waits = registry.code_for("job", "2.0")
    assert isinstance(waits, Refusal)
    assert "'2.0' is greater than the worker version '1.5'" in waits.reason
    assert waits.failure is None

    registry.versioning = VersioningOptions(**options, failure_strategy=VersionFailureStrategy.FAIL)
    fails = registry.code_for("job", "2.0")
    assert isinstance(fails, Refusal)
    assert fails.failure is not None
    # Who lacks the code does not know whether the version is right: as without versions, the instance waits.
    missing = registry.code_for("job", "3.0")
    assert isinstance(missing, Refusal)
    assert missing.failure is None

    registry.filters = WorkItemFilters(orchestrations=[OrchestrationWorkItemFilter("other")])
    left = registry.code_for("job", "1.0")
    assert isinstance(left, Refusal)
    assert "takes no 'job' version '1.0'" in left.reason


def test_filters_take_names_and_versions() -> None:
    filters = WorkItemFilters(
        orchestrations=[
            OrchestrationWorkItemFilter("any"),
            OrchestrationWorkItemFilter("some", ["1.0"]),
            OrchestrationWorkItemFilter("some", [""]),
        ],
        activities=[ActivityWorkItemFilter("work", ["1.0"]), ActivityWorkItemFilter("work")],
    )
    assert takes_orchestration(filters, "any", None)
    assert takes_orchestration(filters, "any", "9.0")
    assert takes_orchestration(filters, "some", "1.0")
    assert takes_orchestration(filters, "some", None)
    assert not takes_orchestration(filters, "some", "2.0")
    assert not takes_orchestration(filters, "none", None)
    assert not takes_orchestration(WorkItemFilters(), "any", None)
    assert filters.activity_names == {"work"}


def test_filters_made_of_what_is_registered() -> None:
    registry = Registry()
    registry.add_orchestrator(job, version="1.0")
    registry.add_orchestrator(job, version="2.0")
    registry.add_activity(job, name="work")

    assert registry.own_filters() == WorkItemFilters(
        orchestrations=[OrchestrationWorkItemFilter("job")], activities=[ActivityWorkItemFilter("work")]
    )
    registry.versioning = VersioningOptions("2.0", match_strategy=VersionMatchStrategy.STRICT)
    assert registry.own_filters() == WorkItemFilters(
        orchestrations=[OrchestrationWorkItemFilter("job", ["2.0"])],
        activities=[ActivityWorkItemFilter("work", ["2.0"])],
    )
    registry.versioning = VersioningOptions("2.0", match_strategy=VersionMatchStrategy.CURRENT_OR_OLDER)
    assert registry.own_filters() == work_item_filters_of(["job"], ["work"], None)
    registry.versioning = VersioningOptions(match_strategy=VersionMatchStrategy.STRICT)
    assert registry.own_filters() == work_item_filters_of(["job"], ["work"], None)


def test_an_entity_filter_keeps_its_name_in_lower_case() -> None:
    assert EntityWorkItemFilter("Counter") == EntityWorkItemFilter("counter")
    for name in ("", "@counter"):
        with pytest.raises(ConfigurationError, match="entity"):
            EntityWorkItemFilter(name)


@pytest.mark.parametrize(
    "make",
    [
        lambda: OrchestrationWorkItemFilter(""),
        lambda: ActivityWorkItemFilter(3),  # pyright: ignore[reportArgumentType]
        lambda: ActivityWorkItemFilter("work", "1.0"),  # pyright: ignore[reportArgumentType]
        lambda: ActivityWorkItemFilter("work", [1]),  # pyright: ignore[reportArgumentType]
        lambda: WorkItemFilters(orchestrations=["job"]),  # pyright: ignore[reportArgumentType]
        lambda: WorkItemFilters(activities={"work"}),  # pyright: ignore[reportArgumentType]
        lambda: WorkItemFilters(entities=[ActivityWorkItemFilter("work")]),  # pyright: ignore[reportArgumentType]
    ],
)
def test_filters_of_a_wrong_shape_are_refused(make: Any) -> None:
    with pytest.raises(ConfigurationError):
        make()
