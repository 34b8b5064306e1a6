"""Ids of new instances and executions have the form that ``uuid.uuid4().hex`` has."""

from __future__ import annotations

import uuid

from durabletask_azure.calls.operations import new_id


def test_a_new_id_is_a_random_uuid_of_version_4() -> None:
    ids = {new_id() for _ in range(1_000)}

    assert len(ids) == 1_000
    assert {len(one) for one in ids} == {32}
    assert {(uuid.UUID(one).version, uuid.UUID(one).variant) for one in ids} == {(4, uuid.RFC_4122)}
    assert {uuid.UUID(one).hex for one in ids} == ids
