"""Queries as callers write them, checked and turned into what a store and the reader compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from durabletask_azure.calls.arguments import Arguments, check_flag, text_or_none
from durabletask_azure.core.naming import check_tags, check_text
from durabletask_azure.errors import ArgumentTypeError, ConfigurationError
from durabletask_azure.ports import InstanceFilter
from durabletask_azure.query import OrchestrationQuery, before, check_statuses, moment_of, stored_statuses

__all__ = ["Selection", "select"]


@dataclass(frozen=True, slots=True)
class Selection:
    """A checked query: what the store compares, the tags the reader compares, and how much a request fetches."""

    where: InstanceFilter
    tags: dict[str, str] | None
    page_size: int
    fetch_payloads: bool


def select(query: object, arguments: Arguments, what: str = "orchestration_query") -> Selection:
    """Return the selection a query makes; that of all instances for ``None``.

    Raises:
        ArgumentTypeError, ConfigurationError: a field is of the wrong type or holds what is not allowed; names it.
    """
    query = OrchestrationQuery() if query is None else query
    if not isinstance(query, OrchestrationQuery):
        raise ArgumentTypeError(f"{what} must be an OrchestrationQuery, not {type(query).__name__}")
    ids = _texts(query.instance_ids, "instance_ids")
    ids_max = arguments.settings.page_size_max
    if len(ids) > ids_max:
        raise ConfigurationError(f"instance_ids must be at most {ids_max:,}, not {len(ids):,}")
    if query.has_pending_reason is not None:
        check_flag(query.has_pending_reason, "has_pending_reason")
    where = InstanceFilter(
        ids=tuple(arguments.instance_id(one) for one in ids),
        id_prefix=text_or_none(query.instance_id_prefix, "instance_id_prefix") or None,
        statuses=stored_statuses(check_statuses(query.runtime_status)),
        names=tuple(check_text(name, "one of names") for name in _texts(query.names, "names")),
        versions=tuple(
            text_or_none(version, "one of versions") for version in _texts(query.versions, "versions")
        ),
        created_from=moment_of(query.created_time_from, "created_time_from"),
        created_to=before(moment_of(query.created_time_to, "created_time_to")),
        updated_from=moment_of(query.last_updated_time_from, "last_updated_time_from"),
        updated_to=before(moment_of(query.last_updated_time_to, "last_updated_time_to")),
        completed_from=moment_of(query.completed_time_from, "completed_time_from"),
        completed_to=before(moment_of(query.completed_time_to, "completed_time_to")),
        with_reason=query.has_pending_reason,
    )
    page_size = arguments.page_size(query.max_instance_count, "max_instance_count")
    return Selection(where, _tags(query.tags), page_size, query.fetch_inputs_and_outputs)


def _texts(values: object, what: str) -> tuple[str, ...]:
    """Return the different values of a list, in order; nothing in it is checked yet."""
    if values is None:
        return ()
    if isinstance(values, str) or not isinstance(values, (Sequence, set, frozenset)):
        raise ArgumentTypeError(f"{what} must be a list, not {type(values).__name__}: {values!r}")
    given = list(cast(Sequence[str], values))
    if isinstance(values, (set, frozenset)):
        # A set's order differs from process to process, and a page's token is of one order.
        given.sort(key=str)
    if not given:
        raise ConfigurationError(f"{what} must not be empty; leave it out to ask for any")
    try:
        return tuple(dict.fromkeys(given))
    except TypeError as error:
        raise ArgumentTypeError(f"{what} must be a list of strings, not {given!r}") from error


def _tags(tags: object) -> dict[str, str] | None:
    checked = check_tags(tags)
    if checked is not None and not checked:
        raise ConfigurationError("tags must not be empty; leave them out to ask for any")
    return checked
