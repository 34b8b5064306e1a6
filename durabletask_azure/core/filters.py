"""Work item filters: which orchestrations and activities a worker takes.

Names and fields are those of ``durabletask.worker``. A worker without filters takes everything; with filters it takes
what they name and nothing else, so a kind of work of which they name nothing is not taken at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from durabletask_azure.core.naming import check_text
from durabletask_azure.core.versioning import VersioningOptions, VersionMatchStrategy, compare_versions
from durabletask_azure.errors import ArgumentTypeError, ConfigurationError

__all__ = [
    "ActivityWorkItemFilter",
    "EntityWorkItemFilter",
    "OrchestrationWorkItemFilter",
    "WorkItemFilters",
    "takes_orchestration",
    "work_item_filters_of",
]

_ENTITY_MARK = "@"


@dataclass(frozen=True)
class OrchestrationWorkItemFilter:
    """Takes the orchestrations of a name, of certain versions or (without any) of every version."""

    name: str
    """The name of the orchestration."""
    versions: list[str] = field(default_factory=list[str])
    """The versions taken; an orchestration without a version counts as ``""``."""

    def __post_init__(self) -> None:
        _check_named(self.name, self.versions)


@dataclass(frozen=True)
class ActivityWorkItemFilter:
    """Takes the activities of a name."""

    name: str
    """The name of the activity."""
    versions: list[str] = field(default_factory=list[str])
    """The versions taken; an activity that is called without a version, as all are today, fits any."""

    def __post_init__(self) -> None:
        _check_named(self.name, self.versions)


@dataclass(frozen=True)
class EntityWorkItemFilter:
    """Takes the entities of a name, which is kept in lower case."""

    name: str
    """The name of the entity."""

    def __post_init__(self) -> None:
        name = check_text(self.name, "the name of a work item filter")
        if not name or _ENTITY_MARK in name:
            raise ConfigurationError(
                f"an entity's name must not be empty or contain {_ENTITY_MARK!r}, as {name!r} does"
            )
        object.__setattr__(self, "name", name.lower())


@dataclass(frozen=True)
class WorkItemFilters:
    """What a worker takes: the orchestrations, activities and entities named here, and no others."""

    orchestrations: list[OrchestrationWorkItemFilter] = field(
        default_factory=list[OrchestrationWorkItemFilter]
    )
    """The orchestrations; none if empty."""
    activities: list[ActivityWorkItemFilter] = field(default_factory=list[ActivityWorkItemFilter])
    """The activities; none if empty."""
    entities: list[EntityWorkItemFilter] = field(default_factory=list[EntityWorkItemFilter])
    """The entities; none if empty. There are no entities yet."""

    def __post_init__(self) -> None:
        _check_all("orchestrations", self.orchestrations, OrchestrationWorkItemFilter)
        _check_all("activities", self.activities, ActivityWorkItemFilter)
        _check_all("entities", self.entities, EntityWorkItemFilter)

    @property
    def activity_names(self) -> frozenset[str]:
        """The names of the activities taken."""
        return frozenset(one.name for one in self.activities)


def work_item_filters_of(
    orchestrators: Iterable[str], activities: Iterable[str], versioning: VersioningOptions | None
) -> WorkItemFilters:
    """Return the filters of a worker that takes what it has code for; with strict versioning of its version alone.

    A worker that fails other versions has to take them for that.
    """
    versions: list[str] = []
    if (
        versioning is not None
        and versioning.match_strategy is VersionMatchStrategy.STRICT
        and versioning.version
        and not versioning.fails
    ):
        versions = [versioning.version]
    return WorkItemFilters(
        orchestrations=[
            OrchestrationWorkItemFilter(name, [*versions]) for name in dict.fromkeys(orchestrators)
        ],
        activities=[ActivityWorkItemFilter(name, [*versions]) for name in dict.fromkeys(activities)],
    )


def takes_orchestration(filters: WorkItemFilters, name: str, version: str | None) -> bool:
    """Return whether a worker with these filters takes orchestrations of that name and version.

    Of several filters of one name each adds its versions, as in ``durabletask``: one without versions adds none unless
    it is alone.
    """
    named = [one for one in filters.orchestrations if one.name == name]
    versions = [accepted for one in named for accepted in one.versions]
    return bool(named) and (
        not versions or any(compare_versions(version, accepted) == 0 for accepted in versions)
    )


def _check_named(name: object, versions: object) -> None:
    if not check_text(name, "the name of a work item filter"):
        raise ConfigurationError("the name of a work item filter must not be empty")
    for version in _listed("versions", versions):
        check_text(version, "a version of a work item filter")


def _check_all(what: str, filters: object, kind: type) -> None:
    for one in _listed(what, filters):
        if not isinstance(one, kind):
            raise ArgumentTypeError(f"{what} takes {kind.__name__} objects, not {type(one).__name__}")


def _listed(what: str, values: object) -> list[object]:
    if not isinstance(values, (list, tuple)):
        raise ArgumentTypeError(f"{what} must be a list, not {type(values).__name__}")
    return list(cast(Any, values))
