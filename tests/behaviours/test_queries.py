"""B103, B104, B114, B115: finding instances by what they are, page by page, whatever their ids and values look like."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durabletask_azure import (
    AsyncTaskHubClient,
    ConfigurationError,
    OrchestrationContext,
    OrchestrationQuery,
    OrchestrationStatus,
    TaskHub,
    TaskHubClient,
)
from tests.behaviours.stage import WAIT_S, Stage

COMPLETED = OrchestrationStatus.COMPLETED
PENDING = OrchestrationStatus.PENDING
RUNNING = OrchestrationStatus.RUNNING
LATER = datetime(2100, 1, 1, tzinfo=UTC)
ODD_IDS = [
    *(
        "a|b",
        "it's",
        "a''b",
        "a/b",
        "../a",
        "50%",
        "%41",
        "_",
        "#?&=",
        "a b",
        "\\",
        '"',
        "a\tb",
        "é",
        "e\u0301",
        "🎉",
    ),
    *("Case", "case", "CASE", "x" * 500, "🎉" * 500, "p000", "i!a", "{}", "null"),
]


async def echo(ctx: OrchestrationContext, value: Any) -> Any:
    return value


async def waits(ctx: OrchestrationContext, _: Any) -> str:
    return await ctx.wait_for_external_event("go")


async def breaks(ctx: OrchestrationContext, _: Any) -> None:
    raise ValueError("broken")


def found(stage: Stage, page_size: int | None = None, **query: Any) -> list[str]:
    """Return the ids that a query finds, sorted; page by page, by iteration and at once it finds the same."""
    asked = OrchestrationQuery(**query)
    ids: list[str] = []
    token: str | None = None
    while True:
        page = stage.client.list_orchestration_states(asked, page_size=page_size, continuation_token=token)
        ids += [state.instance_id for state in page.items]
        token = page.continuation_token
        if token is None:
            break
        assert page_size is None or len(page.items) == page_size
    assert [
        state.instance_id for state in stage.client.iter_orchestration_states(asked, page_size=page_size)
    ] == ids
    at_once = stage.client.get_all_orchestration_states(asked)
    assert sorted(state.instance_id for state in at_once) == sorted(ids)
    return sorted(ids)


def test_b103_query_by_id_name_version_status_and_tags(stage: Stage) -> None:
    stage.worker(echo, waits, breaks)
    schedule = stage.client.schedule_new_orchestration
    schedule(echo, instance_id="it's 1", version="1", tags={"team": "a'b", "kind": "x"})
    schedule(echo, instance_id="it's 2", version="2", tags={"team": "a'b"})
    schedule(breaks, instance_id="broken", tags={"team": "c"})
    schedule("nobody's", instance_id="stuck", version="2")
    for instance_id in ("it's 1", "it's 2", "broken"):
        stage.end(instance_id)
    stage.until("stuck", lambda row: row is not None and row.reason is not None)
    everything = ["broken", "it's 1", "it's 2", "stuck"]

    assert found(stage) == everything
    assert found(stage, instance_ids=["it's 2", "nowhere", "broken", "broken"]) == ["broken", "it's 2"]
    assert found(stage, instance_ids=["it's 2", "broken"], names=["echo"]) == ["it's 2"]
    assert found(stage, instance_id_prefix="it's") == ["it's 1", "it's 2"]
    assert found(stage, names=["breaks", "nobody's"]) == ["broken", "stuck"]
    assert found(stage, versions=["2"]) == ["it's 2", "stuck"]
    assert found(stage, versions=[None]) == ["broken"]
    assert found(stage, versions=[None, "1", "1'"]) == ["broken", "it's 1"]
    assert found(stage, runtime_status=[COMPLETED]) == ["it's 1", "it's 2"]
    assert found(stage, runtime_status=[PENDING, OrchestrationStatus.FAILED]) == ["broken", "stuck"]
    assert found(stage, runtime_status=[COMPLETED], versions=["2"]) == ["it's 2"]
    assert found(stage, has_pending_reason=True) == ["stuck"]
    assert found(stage, has_pending_reason=False) == ["broken", "it's 1", "it's 2"]
    assert found(stage, tags={"team": "a'b"}) == ["it's 1", "it's 2"]
    assert found(stage, tags={"team": "a'b", "kind": "x"}) == ["it's 1"]
    assert found(stage, tags={"team": "a"}) == []
    assert found(stage, tags={"team": "a'b"}, versions=["2"]) == ["it's 2"]


def test_b103_query_by_times_of_creation_change_and_end(stage: Stage) -> None:
    stage.worker(echo, waits)
    for number in range(3):
        stage.result(echo, number, instance_id=f"{number}")
    stage.client.schedule_new_orchestration(waits, instance_id="living")
    stage.client.wait_for_orchestration_start("living", timeout=WAIT_S)
    one = stage.state("1")
    assert one.completed_at is not None

    assert found(stage, created_time_from=one.created_at) == ["1", "2", "living"]
    assert found(stage, created_time_to=one.created_at) == ["0"]
    assert found(stage, last_updated_time_from=one.last_updated_at) == ["1", "2", "living"]
    assert found(stage, last_updated_time_to=one.last_updated_at) == ["0"]
    assert found(stage, completed_time_from=one.completed_at) == ["1", "2"]
    assert found(stage, completed_time_to=one.completed_at) == ["0"]
    aware = one.created_at.replace(tzinfo=UTC).astimezone(tz=None)
    assert found(stage, created_time_from=aware, created_time_to=aware + timedelta(microseconds=1)) == ["1"]
    assert found(stage, created_time_from=LATER) == []


@pytest.mark.parametrize("page_size", [1, 3, 7, 50])
@pytest.mark.parametrize(
    "query", [{}, {"tags": {"parity": "1"}}, {"runtime_status": [PENDING]}, {"names": ["even"]}]
)
def test_b103_pages_hold_every_instance_once(stage: Stage, page_size: int, query: dict[str, Any]) -> None:
    names = ["even", "odd"]
    for number in range(20):
        tags = {"parity": str(number % 2), "long": "x" * 40_000 if number < 3 else ""}
        stage.client.schedule_new_orchestration(names[number % 2], instance_id=f"it's {number:02}", tags=tags)

    wanted = [f"it's {number:02}" for number in range(20)]
    if "tags" in query:
        wanted = wanted[1::2]
    if "names" in query:
        wanted = wanted[::2]
    assert found(stage, page_size, **query) == wanted


def test_b103_what_is_started_or_purged_meanwhile_disturbs_no_page(stage: Stage) -> None:
    stage.worker(echo)
    for number in range(12):
        stage.result(echo, instance_id=f"old {number}")
    seen: list[str] = []
    for count, state in enumerate(stage.client.iter_orchestration_states(page_size=2)):
        seen.append(state.instance_id)
        stage.client.schedule_new_orchestration(echo, instance_id=f"new {count}", start_at=LATER)
        if len(seen) == 4:
            stage.client.purge_orchestration(seen[0])
        assert count < 100
    assert len(seen) == len(set(seen))
    assert {f"old {number}" for number in range(12)} <= set(seen)


def test_b103_states_of_a_query_have_payloads_if_asked(stage: Stage) -> None:
    stage.worker(echo)
    stage.result(echo, "x" * 50_000, instance_id="large", tags={"a": "b"})
    for fetch, expected in ((False, None), (True, "x" * 50_000)):
        asked = OrchestrationQuery(fetch_inputs_and_outputs=fetch)
        (state,) = stage.client.list_orchestration_states(asked).items
        assert (state.get_output(), state.tags) == (expected, {"a": "b"})


@pytest.mark.parametrize(
    "other",
    [
        OrchestrationQuery(names=["echo"]),
        OrchestrationQuery(tags={"a": "b"}),
        OrchestrationQuery(instance_id_prefix="i"),
    ],
)
def test_b103_the_token_of_another_query_is_refused(stage: Stage, other: OrchestrationQuery) -> None:
    for number in range(3):
        stage.client.schedule_new_orchestration(echo, instance_id=f"{number}")
    token = stage.client.list_orchestration_states(page_size=1).continuation_token
    assert token is not None
    with pytest.raises(ConfigurationError, match="of this query came with, not of another query or hub"):
        stage.client.list_orchestration_states(other, continuation_token=token)
    with TaskHub.local() as elsewhere, pytest.raises(ConfigurationError, match="not of another query or hub"):
        TaskHubClient(elsewhere).list_orchestration_states(continuation_token=token)
    # The size of a page is not part of a query, and neither is how it is listed.
    assert (
        stage.client.list_orchestration_states(page_size=9, continuation_token=token).continuation_token
        is None
    )


async def test_b103_the_async_client_finds_the_same(hub: TaskHub) -> None:
    client = AsyncTaskHubClient(hub)
    for number in range(7):
        await client.schedule_new_orchestration("flow", instance_id=f"{number}", tags={"n": str(number)})
    ids = [state.instance_id async for state in client.iter_orchestration_states(page_size=2)]
    assert sorted(ids) == [str(number) for number in range(7)]
    page = await client.list_orchestration_states(OrchestrationQuery(tags={"n": "5"}))
    assert ([state.instance_id for state in page.items], page.continuation_token) == (["5"], None)
    page = await client.list_orchestration_states(page_size=3)
    assert [state.instance_id for state in page.items] == ids[:3]
    again = await client.list_orchestration_states(continuation_token=page.continuation_token)
    assert [state.instance_id for state in again.items] == ids[3:]
    with pytest.raises(ConfigurationError, match="page_size must be at least 1"):
        client.iter_orchestration_states(page_size=0)


def test_b104_an_id_never_stands_for_those_it_begins(stage: Stage) -> None:
    stage.worker(echo, waits)
    for instance_id in ("foo", "foobar", "foo-1", "fo"):
        stage.client.schedule_new_orchestration(waits, instance_id=instance_id)
        stage.client.wait_for_orchestration_start(instance_id, timeout=WAIT_S)
    others = ["fo", "foo-1", "foobar"]

    assert found(stage, instance_ids=["foo"]) == ["foo"]
    assert found(stage, instance_id_prefix="foo") == ["foo", "foo-1", "foobar"]
    stage.client.raise_orchestration_event("foo", "go", data="only you")
    assert stage.completed("foo") == "only you"
    assert stage.client.purge_orchestration("foo").deleted_instance_count == 1
    assert found(stage, runtime_status=[RUNNING]) == others
    assert stage.client.get_orchestration_state("foo") is None
    stage.client.terminate_orchestration("fo", output="over")
    assert stage.end("fo").get_output() == "over"
    assert found(stage, runtime_status=[RUNNING]) == ["foo-1", "foobar"]
    # By query, with a prefix: all that begin with it, and nothing that it begins with.
    for instance_id in ("foo-1", "foobar"):
        stage.client.terminate_orchestration(instance_id)
        stage.end(instance_id)
    purged = stage.client.purge_orchestrations_by(query=OrchestrationQuery(instance_id_prefix="foo"))
    assert purged.deleted_instance_count == 2
    assert found(stage) == ["fo"]


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com/blob?sv=1",
        "file:///etc/hostname",
        "p000/abc/def/0123456789abcdef",
        '{"name": "p000/abc/def/0", "size": 5}',
        '{"$ref": "p000/abc"}',
        "blob:v1:hub/container/name",
        "gzip:H4sIAAAA",
    ],
)
def test_b114_a_payload_that_looks_like_a_reference_stays_text(stage: Stage, text: str) -> None:
    async def flow(ctx: OrchestrationContext, value: str) -> list[str]:
        ctx.set_custom_status(value)
        event = await ctx.wait_for_external_event("go", data_type=str)
        return [value, event]

    stage.worker(flow, echo)
    # A real value under a name that could be meant, so that a look for it would find something.
    secret = stage.run(echo, "s" * 100_000)
    blob = stage.blobs(secret.instance_id)[0]
    for value in (text, blob, f'{{"name": "{blob}", "size": 100002}}'):
        instance_id = stage.client.schedule_new_orchestration(flow, input=value, tags={"t": value})
        stage.client.raise_orchestration_event(instance_id, "go", data=value)
        assert stage.completed(instance_id) == [value, value]
        state = stage.state(instance_id)
        assert (state.get_input(), state.get_custom_status(), state.tags) == (value, value, {"t": value})
        assert [found.get_output() for found in with_payloads(stage, instance_id)] == [[value, value]]
        assert stage.blobs(instance_id) == []


def with_payloads(stage: Stage, instance_id: str) -> list[Any]:
    asked = OrchestrationQuery(instance_ids=[instance_id], fetch_inputs_and_outputs=True)
    return stage.client.list_orchestration_states(asked).items


def test_b115_odd_ids_go_through_every_method_of_a_client(stage: Stage) -> None:
    async def parent(ctx: OrchestrationContext, child: str) -> Any:
        return await ctx.call_sub_orchestrator(waits, instance_id=child)

    stage.worker(echo, waits, parent)
    client = stage.client
    for number, instance_id in enumerate(ODD_IDS):
        assert (
            client.schedule_new_orchestration(waits, instance_id=instance_id, tags={"n": str(number)})
            == instance_id
        )
    for number, instance_id in enumerate(ODD_IDS):
        state = client.wait_for_orchestration_start(instance_id, timeout=WAIT_S)
        assert state is not None
        assert (state.instance_id, state.tags) == (instance_id, {"n": str(number)})
    assert found(stage, 7) == sorted(ODD_IDS)
    assert found(stage, 7, instance_ids=ODD_IDS) == sorted(ODD_IDS)
    for instance_id in ODD_IDS:
        assert found(stage, instance_ids=[instance_id]) == [instance_id]
        prefixed = [other for other in ODD_IDS if other.startswith(instance_id)]
        assert found(stage, instance_id_prefix=instance_id) == sorted(prefixed)
        client.suspend_orchestration(instance_id, reason="odd")
        stage.until_status(instance_id, OrchestrationStatus.SUSPENDED)
        client.resume_orchestration(instance_id)
        client.raise_orchestration_event(instance_id, "go", data=instance_id)
        assert stage.completed(instance_id) == instance_id
        assert stage.events(instance_id)[0] == "ExecutionStarted"
    assert sorted(client.list_instance_ids(page_size=1_000).items) == sorted(ODD_IDS)
    for instance_id in ODD_IDS[: len(ODD_IDS) // 2]:
        assert client.purge_orchestration(instance_id).deleted_instance_count == 1
        assert client.get_orchestration_state(instance_id) is None
        top = client.schedule_new_orchestration(parent, input=instance_id)
        stage.until_status(instance_id, RUNNING)
        client.terminate_orchestration(instance_id, output="cut")
        assert stage.end(top).failure_details is not None
    query = OrchestrationQuery(instance_ids=ODD_IDS)
    assert client.purge_orchestrations_by(query=query).deleted_instance_count == len(ODD_IDS)
    assert found(stage, instance_ids=ODD_IDS) == []


def test_b115_ids_that_differ_only_by_case_are_different_instances(stage: Stage) -> None:
    stage.worker(echo)
    for instance_id in ("Case", "case", "CASE"):
        assert stage.result(echo, instance_id, instance_id=instance_id) == instance_id
    assert stage.client.purge_orchestration("case").deleted_instance_count == 1
    assert found(stage) == ["CASE", "Case"]
    assert [stage.state(name).get_output() for name in ("CASE", "Case")] == ["CASE", "Case"]


def test_b103_a_listing_that_is_left_early_keeps_nothing_open(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(page_size_max=2)
    for number in range(6):
        stage.client.schedule_new_orchestration(echo, instance_id=f"{number}")
    assert len(next(iter(stage.client.iter_orchestration_states())).instance_id) == 1

    async def first() -> str:
        async for state in AsyncTaskHubClient(stage.hub).iter_orchestration_states():
            return state.instance_id
        raise AssertionError("there are some")

    assert len(asyncio.run(first())) == 1
    assert len(found(stage, 2)) == 6
