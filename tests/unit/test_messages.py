"""Messages and tasks on the wire."""

from __future__ import annotations

import msgspec
import pytest

from durabletask_azure.core.history import decode_events
from durabletask_azure.core.messages import (
    ActivityTask,
    FailInstance,
    Message,
    ReplaceInstance,
    StartInstance,
    decode_messages,
    decode_task,
    encode_messages,
    encode_task,
)
from tests.unit.bench import Bench, after, failure


def test_a_pack_comes_back_as_it_was() -> None:
    bench = Bench()
    start = bench.start_of("flow", {"a": [1]}, scheduled_start=after(5))
    pack = (
        Message(id="1", instance_id="i", body=StartInstance()),
        Message(id="2", instance_id="i", body=FailInstance(failure=failure()), execution_id="x"),
        Message(id="3", instance_id="i", body=ReplaceInstance(start=start, replace=("FAILED",)), redriven=2),
        Message(id="4", instance_id="i", body=start, parked=1, sender_sent=9),
    )
    assert decode_messages(encode_messages(pack)) == pack
    assert decode_messages(encode_messages(())) == ()


def test_a_task_comes_back_as_it_was() -> None:
    task = ActivityTask(
        id="1", instance_id="i", execution_id="x", task_id=3, name="work", input="🎈", tags="{}", redriven=1
    )
    assert decode_task(encode_task(task)) == task


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{}", b"[{}]", b"\xff", b'[{"id":"1","instance_id":"i","body":{"kind":"New"}}]'),
        *(b'[{"id":"\xff"}]', b'{"id":"\xed\xa0\x80"}', b"[" * 100_000, b'{"input":' * 100_000),
    ],
)
def test_what_is_not_a_pack_is_an_error(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_messages(body)
    with pytest.raises(msgspec.DecodeError):
        decode_task(body)
    with pytest.raises(msgspec.DecodeError):
        decode_events(body or b"-")


def test_what_is_nested_too_deep_is_an_error() -> None:
    inner = b'{"message":"m","error_type":"E","inner_failure":'
    deep = inner * 50_000 + b"null" + b"}" * 50_000
    body = b'[{"id":"1","instance_id":"i","body":{"kind":"FailInstance","failure":' + deep + b"}}]"
    with pytest.raises(msgspec.DecodeError, match="RecursionError"):
        decode_messages(body)
