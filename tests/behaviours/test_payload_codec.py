"""With a payload codec nothing a user hands over is stored as it is; a real cipher, other bytes each time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from durabletask_azure import (
    ActivityContext,
    DataConverter,
    ExceptionPropertiesProvider,
    NewOrchestration,
    OrchestrationContext,
    OrchestrationQuery,
    OrchestrationState,
    OrchestrationStatus,
    PayloadCodec,
    PayloadCodecError,
    Settings,
    TaskFailedError,
    TaskHub,
    TaskHubClient,
)
from durabletask_azure.history import (
    ExecutionResumedEvent,
    ExecutionRewoundEvent,
    ExecutionSuspendedEvent,
)
from tests.behaviours.shop import Shop, chain, failed
from tests.behaviours.stage import Stage

CANARY = "".join(("cana", "ry ", "β"))
KEYS = {"k1": bytes(range(32)), "k2": bytes(range(1, 33))}


class Aes:
    """AES-GCM with a new nonce for each value."""

    def __init__(self, id: str) -> None:
        self.id = id
        self._cipher = AESGCM(KEYS[id])

    def encode(self, data: bytes) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._cipher.encrypt(nonce, data, self.id.encode())

    def decode(self, data: bytes) -> bytes:
        return self._cipher.decrypt(data[:12], data[12:], self.id.encode())


class Properties:
    def get_exception_properties(self, exception: Exception) -> dict[str, Any]:
        return {"text": str(exception)}


OpenWith = Callable[..., Stage]


@pytest.fixture
def open_with(hub_kind: str, tmp_path: Path) -> Iterator[OpenWith]:
    """Open a hub with codecs; the second time the same one, if it is in a file."""
    hubs: list[TaskHub] = []

    def open_one(codec: PayloadCodec | None = None, *others: PayloadCodec) -> Stage:
        for hub in hubs:
            hub.close()
        path = None if hub_kind == "memory" else tmp_path / "hub.db"
        settings = Settings(payload_inline_bytes_max=2_000, history_inline_bytes_max=4_000)
        hub = TaskHub.local(path, settings=settings, payload_codec=codec, other_payload_codecs=others)
        hubs.append(hub)
        return Stage(hub)

    yield open_one
    for hub in hubs:
        hub.close()


def echo(ctx: ActivityContext, value: Any) -> Any:
    return value


def fail(ctx: ActivityContext, value: str) -> None:
    try:
        raise KeyError(value)
    except KeyError as error:
        raise ValueError(f"bad: {value}") from error


async def child(ctx: OrchestrationContext, value: Any) -> Any:
    if value == "fail":
        raise LookupError(CANARY)
    ctx.send_event("listener", "heard", data=value)
    return value


async def flow(ctx: OrchestrationContext, value: list[str]) -> Any:
    """Send a value through everything there is."""
    ctx.set_custom_status(value)
    first = await ctx.wait_for_external_event("go")
    echoed = await ctx.call_activity(echo, input=[value, first])
    grown = await ctx.call_sub_orchestrator(child, input=echoed)
    caught: list[Any] = []
    for call in (
        lambda: ctx.call_activity(fail, input=value[0][:20]),
        lambda: ctx.call_sub_orchestrator(child, input="fail"),
    ):
        try:
            await call()
        except TaskFailedError as error:
            caught.append((error.details.message, error.details.is_caused_by(LookupError)))
    if len(value) < 3:
        ctx.continue_as_new([*value, CANARY], save_events=True)
        return None
    return [grown, caught]


async def listener(ctx: OrchestrationContext, _: Any) -> Any:
    return [await ctx.wait_for_external_event("heard") for _ in range(4)]


async def broken(ctx: OrchestrationContext, value: str) -> None:
    await ctx.call_activity(fail, input=value)


def run_everything(stage: Stage) -> None:
    """Use every way a value takes, and look at it through the client."""
    provider: ExceptionPropertiesProvider = Properties()
    stage.worker(
        *(flow, child, listener, broken), activities=[echo, fail], exception_properties_provider=provider
    )
    client, large = stage.client, CANARY * 1_000
    client.schedule_new_orchestration(listener, instance_id="listener")
    for size, word in (("small", CANARY), ("large", large)):
        value = [word, CANARY]
        client.schedule_new_orchestration(flow, input=value, instance_id=size, tags={"kind": "shown"})
        client.raise_orchestration_event(size, "go", data=word)
        client.suspend_orchestration(size, reason=word)
        client.resume_orchestration(size, reason=word)
        client.raise_orchestration_event(size, "go", data=word)
        grown, caught = stage.completed(size)
        assert grown == [[*value, CANARY], word]
        assert caught == [
            [f"bad: {CANARY}"[:25] if size == "small" else f"bad: {word[:20]}", False],
            [CANARY, True],
        ]
        state = stage.state(size)
        assert state.get_custom_status() == [*value, CANARY]
        assert state.serialized_output is not None
        assert state.serialized_output.startswith("[[[")
        assert state.tags == {"kind": "shown"}
    assert [heard[1] for heard in stage.completed("listener")] == [CANARY, CANARY, large, large]

    failed = stage.run(broken, CANARY, instance_id="broken").failure_details
    assert failed is not None
    assert failed.inner_failure is not None
    assert failed.inner_failure.message == f"bad: {CANARY}"
    assert failed.inner_failure.properties == {"text": f"bad: {CANARY}"}
    assert failed.inner_failure.inner_failure is not None
    assert CANARY in (failed.inner_failure.stack_trace or "")

    client.schedule_new_orchestration(listener, instance_id="ended")
    client.terminate_orchestration("ended", output=large)
    assert stage.end("ended").get_output() == large
    told = repr([client.get_orchestration_history(name) for name in ("small", "large", "broken", "ended")])
    assert told.count(CANARY) > 10
    assert "~codec:" not in told


def stored(folder: Path) -> bytes:
    """Return every byte of a hub's files."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize("hub_kind", ["disk"])
def test_no_value_is_stored_as_it_is(open_with: OpenWith, tmp_path: Path) -> None:
    stage = open_with(Aes("k1"))
    run_everything(stage)
    seen = stored(tmp_path)
    stage.hub.close()
    seen += stored(tmp_path)
    assert seen.count(b"~codec:k1:") > 20
    assert b"shown" in seen
    for form in (CANARY.encode(), CANARY[:6].encode(), b"secret", b"bad: "):
        assert form not in seen


def test_everything_works_with_values_encoded(open_with: OpenWith) -> None:
    run_everything(open_with(Aes("k1")))


def test_an_instance_is_rebuilt_from_encoded_history(open_with: OpenWith) -> None:
    stage = open_with(Aes("k1"))
    stage.worker(flow, child, listener, activities=[echo, fail])
    stage.client.schedule_new_orchestration(flow, input=[CANARY, "b", "c"], instance_id="one")
    stage.restart()
    stage.client.raise_orchestration_event("one", "go", data=1)
    assert stage.completed("one")[0] == [[CANARY, "b", "c"], 1]


async def two_steps(ctx: OrchestrationContext, value: str) -> list[Any]:
    before = await ctx.call_activity(echo, input=value)
    return [before, await ctx.wait_for_external_event("go"), value]


@pytest.mark.parametrize("hub_kind", ["disk"])
def test_the_key_changes_and_the_codec_comes_and_goes(open_with: OpenWith) -> None:
    def step(stage: Stage) -> OrchestrationState:
        """Let all instances begun before go on; begin another."""
        stage.worker(two_steps, activities=[echo])
        number = len(stage.client.get_all_orchestration_states())
        stage.client.schedule_new_orchestration(two_steps, input=CANARY, instance_id=f"i{number}")
        stage.until(f"i{number}", lambda row: row is not None and b"TaskCompleted" in row.tail)
        if number:
            stage.client.raise_orchestration_event(f"i{number - 1}", "go", data=number)
            assert stage.completed(f"i{number - 1}") == [CANARY, number, CANARY]
        return stage.state(f"i{number}")

    step(open_with())
    step(open_with(Aes("k1")))
    step(open_with(Aes("k2"), Aes("k1")))
    step(open_with(None, Aes("k1"), Aes("k2")))
    step(open_with(Aes("k1"), Aes("k2")))


class Words(DataConverter):
    """Text as it is, so that it may look like anything."""

    def serialize(self, value: Any) -> str | None:
        return None if value is None else str(value)

    def deserialize(self, data: str | None, target_type: Any = None) -> Any:
        return data


@pytest.mark.parametrize("is_encoded", [False, True])
def test_text_that_looks_encoded_is_text(open_with: OpenWith, is_encoded: bool) -> None:
    stage = open_with(Aes("k1")) if is_encoded else open_with()
    word = "~codec:k1:AAAA"

    async def flow(ctx: OrchestrationContext, value: str) -> str:
        ctx.set_custom_status(value)
        heard = await ctx.wait_for_external_event("go")
        await ctx.wait_for_external_event("on")
        got = [value, heard, await ctx.call_activity(echo, input=value)]
        try:
            await ctx.call_activity(fail, input=value)
        except TaskFailedError as error:
            got.append(error.details.message)
        assert got == [word, word, word, f"bad: {word}"]
        try:
            await ctx.call_activity(raise_it, input=value)
        except TaskFailedError as error:
            return error.details.message
        return "nothing was raised"

    def raise_it(ctx: ActivityContext, value: str) -> None:
        raise ValueError(value)

    stage.worker(flow, activities=[echo, fail, raise_it], data_converter=Words())
    client = TaskHubClient(stage.hub, data_converter=Words())
    instance_id = client.schedule_new_orchestration(flow, input=word)
    client.raise_orchestration_event(instance_id, "go", data=word)
    client.suspend_orchestration(instance_id, reason=word)
    client.resume_orchestration(instance_id, reason=word)
    client.raise_orchestration_event(instance_id, "on", data=word)
    stage.end(instance_id)
    state = client.get_orchestration_state(instance_id)
    assert state is not None
    state.raise_if_failed()
    assert [state.get_input(), state.get_custom_status(), state.get_output()] == [word, word, word]
    told = [
        event.input
        for event in client.get_orchestration_history(instance_id)
        if isinstance(event, ExecutionSuspendedEvent | ExecutionResumedEvent)
    ]
    assert told == [word, word]


@pytest.mark.parametrize("hub_kind", ["disk"])
def test_without_its_codec_an_instance_fails_and_names_it_and_others_go_on(open_with: OpenWith) -> None:
    stage = open_with(Aes("k1"))
    stage.worker(two_steps, activities=[echo])
    for name in ("waits", "is over"):
        stage.client.schedule_new_orchestration(two_steps, input=CANARY, instance_id=name)
    stage.client.raise_orchestration_event("is over", "go", data=0)
    stage.completed("is over")
    stage.until("waits", lambda row: row is not None and b"TaskCompleted" in row.tail)
    stage.client.schedule_new_orchestration(broken, input=CANARY, instance_id="pending")

    stage = open_with()
    stage.worker(two_steps, broken, activities=[echo, fail])
    stage.client.raise_orchestration_event("waits", "go", data=0)
    missing = "a value was encoded with the payload codec 'k1', which this hub was not opened with"
    for name in ("waits", "pending"):
        failed = stage.end(name).failure_details
        assert failed is not None
        assert missing in failed.message
    over = stage.state("is over")
    assert over.runtime_status is OrchestrationStatus.COMPLETED
    assert (over.serialized_output or "").startswith("~codec:k1:")
    with pytest.raises(Exception, match=missing):
        over.get_output()
    assert stage.result(two_steps, 5, raise_event=("go", 1)) == [5, 1, 5]

    stage = open_with(Aes("k2"))
    with pytest.raises(PayloadCodecError, match=f"{missing} .it has 'k2'.$"):
        stage.state("is over").get_input()
    stage = open_with(Aes("k1"))
    assert stage.state("is over").get_output() == [CANARY, 0, CANARY]


@pytest.mark.parametrize("hub_kind", ["disk"])
def test_b97_b99_an_instance_with_encoded_values_is_taken_up_again(
    open_with: OpenWith, tmp_path: Path
) -> None:
    async def cleaning(ctx: OrchestrationContext, names: list[str]) -> list[Any]:
        first = await ctx.call_activity(shop.work, input=names[0])
        try:
            return [first, await ctx.call_sub_orchestrator(chain, input=names[1:])]
        except TaskFailedError:
            await ctx.call_activity(shop.work, input="clean up")
            raise

    shop = Shop(CANARY)
    stage = open_with(Aes("k1"))
    stage.worker(cleaning, chain, activities=[shop.work])
    stage.client.schedule_new_orchestration(cleaning, input=["a", CANARY], instance_id="one")
    failed(stage, "one")
    shop.broken.clear()
    stage.client.rewind_orchestration("one", reason=CANARY)
    # The failure says which call it came from: what was done about it is undone.
    assert stage.completed("one") == ["A", [CANARY.upper()]]
    assert shop.calls == {"a": 1, CANARY: 2, "clean up": 1}
    events = stage.client.get_orchestration_history("one")
    assert [event.reason for event in events if isinstance(event, ExecutionRewoundEvent)] == [CANARY]

    stage.client.restart_orchestration("one")
    stage.eventually(lambda: shop.calls["a"] == 2)
    assert stage.completed("one") == ["A", [CANARY.upper()]]
    stage.client.reset_orchestration("one", event_index=0, reason=CANARY)
    stage.eventually(lambda: shop.calls["a"] == 3)
    assert stage.completed("one") == ["A", [CANARY.upper()]]
    assert CANARY.encode() not in stored(tmp_path)


@pytest.mark.parametrize("hub_kind", ["disk"])
def test_b129_many_starts_encode_their_inputs_once(open_with: OpenWith, tmp_path: Path) -> None:
    async def same(ctx: OrchestrationContext, value: str) -> str:
        return value

    stage = open_with(Aes("k1"))
    requests = [NewOrchestration(same, CANARY, f"i{number}") for number in range(10)]
    assert len(stage.client.schedule_new_orchestrations(requests).started) == 10
    assert CANARY.encode() not in stored(tmp_path)
    stage.worker(same)
    assert {stage.completed(f"i{number}") for number in range(10)} == {CANARY}
    query = OrchestrationQuery(fetch_inputs_and_outputs=True)
    states = stage.client.get_all_orchestration_states(query)
    assert [(state.get_input(), state.get_output()) for state in states] == [(CANARY, CANARY)] * 10
    assert states[0].serialized_output == f'"{CANARY}"'
