"""Requests about rows are sent as the SDK would send them, and their answers are read as the SDK would read them."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import ServiceRequestError
from azure.core.pipeline.transport import AioHttpTransport
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient
from yarl import URL

from durabletask_azure.adapters.tables.batches import Answer, decode_answers, encode_batch
from durabletask_azure.adapters.tables.direct import DirectRequests
from durabletask_azure.adapters.tables.keys import escaped
from durabletask_azure.adapters.tables.writing import Step, lock_step, steps
from durabletask_azure.core.rows import (
    DeleteInstance,
    DeleteTombstone,
    LockRow,
    OutboxRow,
    PutInstance,
    PutOutbox,
    PutSegment,
    PutTombstone,
    Tombstone,
)
from tests.contract.builders import NOON, after, instance

ACCOUNT = "https://orders.table.core.windows.net"
KEY = AzureNamedKeyCredential("orders", "a2V5IG9mIG5vIGFjY291bnQ=")
ETAG = "W/\"datetime'2026-11-24T12%3A11%3A39.6292264Z'\""
ODD = "a b/ü🎉'c!%"


class Recording(AioHttpTransport):
    """Keeps requests instead of sending them."""

    def __init__(self) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.requests: list[Any] = []

    async def send(self, request: Any, **options: Any) -> Any:
        self.requests.append(request)
        raise ServiceRequestError("not sent")


def every_kind() -> list[Step]:
    row = instance(ODD, tail=b"\x00\xff" * 50_000, completed_at=after(1), due_at=after(2), version="ü")
    return [
        lock_step("p000", LockRow(owner="ü"), ETAG),
        *steps(
            "p000",
            [
                PutInstance(row),
                PutInstance(instance("other", reason="why"), ETAG),
                DeleteInstance("third", ETAG),
                PutSegment(ODD, "e1", 3, b"events"),
                PutOutbox(OutboxRow(n=1, index=2)),
                PutTombstone(Tombstone(instance_id="t", execution_id="e", expires_at=NOON)),
                DeleteTombstone(ODD),
            ],
        ),
    ]


def as_the_sdk_takes_it(step: Step) -> Any:
    guard: dict[str, Any] = {}
    if step.if_match is not None:
        guard = {"etag": step.if_match, "match_condition": MatchConditions.IfNotModified}
    match step.kind:
        case "create":
            return "create", step.entity, {"response_preference": "return-no-content"}
        case "upsert":
            return "upsert", step.entity, {"mode": UpdateMode.REPLACE}
        case "update":
            return "update", step.entity, {"mode": UpdateMode.REPLACE, **guard}
        case "delete":
            return "delete", step.entity, guard


async def sent_by_the_sdk(all_steps: Sequence[Step]) -> Any:
    transport = Recording()
    client: Any = TableClient(ACCOUNT, "orders", credential=KEY, transport=transport, retry_total=0)
    with pytest.raises(ServiceRequestError):
        await client.submit_transaction([as_the_sdk_takes_it(step) for step in all_steps])
    return transport.requests[-1]


def directly() -> tuple[DirectRequests, Recording]:
    transport = Recording()
    return DirectRequests(ACCOUNT, "orders", KEY, {"transport": transport, "user_agent": "test"}), transport


async def sent_here(all_steps: Sequence[Step]) -> Any:
    direct, transport = directly()
    with pytest.raises(ServiceRequestError):
        await direct.submit(all_steps)
    return transport.requests[-1]


def parts_of(body: bytes) -> list[tuple[str, dict[str, str], Any]]:
    """Return each operation's request line, headers without times and lengths, and properties with types."""
    parts: list[tuple[str, dict[str, str], Any]] = []
    for piece in body.decode().split("Content-Type: application/http\r\n")[1:]:
        _, rest = piece.split("\r\n\r\n", 1)
        head, _, rest = rest.partition("\r\n\r\n")
        line, *lines = head.split("\r\n")
        headers = dict(text.split(": ", 1) for text in lines)
        for name in ("x-ms-date", "Date", "Content-Length"):
            headers.pop(name, None)
        text = rest.partition("\r\n--")[0].strip()
        properties = json.loads(text) if text else None
        if properties is not None:  # a text needs no type
            properties = {name: value for name, value in properties.items() if value != "Edm.String"}
        parts.append((line, headers, properties))
    return parts


async def test_a_transaction_is_sent_as_the_sdk_sends_it() -> None:
    all_steps = every_kind()
    theirs, ours = await sent_by_the_sdk(all_steps), await sent_here(all_steps)

    assert (ours.method, ours.url) == (theirs.method, theirs.url)
    for name in ("x-ms-version", "DataServiceVersion", "MaxDataServiceVersion", "Accept"):
        assert ours.headers[name] == theirs.headers[name]
    assert re.fullmatch(r"multipart/mixed; boundary=batch_[0-9a-f-]{36}", ours.headers["Content-Type"])
    assert len(parts_of(theirs.content)) == len(all_steps) == 8
    for our_part, their_part in zip(parts_of(ours.content), parts_of(theirs.content), strict=True):
        assert our_part == their_part


async def test_a_transaction_is_framed_as_the_sdk_frames_it() -> None:
    theirs, ours = await sent_by_the_sdk(every_kind()), await sent_here(every_kind())

    def frame(request: Any) -> list[str]:
        lines = [line.decode() for line in request.content.split(b"\r\n") if line[:2] in (b"--", b"Co")]
        lines = [re.sub(r"(batch_)*[0-9a-f-]{36}", "X", line) for line in lines]
        return [re.sub(r"Content-Length: \d+", "Content-Length", line) for line in lines]

    assert frame(ours) == frame(theirs)


async def test_a_length_said_is_the_length_sent() -> None:
    body = (await sent_here(every_kind())).content

    found = re.findall(rb"Content-Length: (\d+)\r\n(?:[^\r\n]+\r\n)*\r\n(.*?)\r\n--", body, re.DOTALL)

    assert len(found) == 6
    assert all(int(length) == len(sent) for length, sent in found)


@pytest.mark.parametrize("odd", ["i", ODD, "{" * 80, "🎉" * 500, "\x00" * 100])
def test_a_transaction_is_never_larger_than_was_reckoned(odd: str) -> None:
    rows = [instance(f"{odd}{number}", version=odd, tail=b"\x00" * 300 * number) for number in range(5)]
    made = steps(
        "p000", [*map(PutInstance, rows), PutSegment(odd, odd, 1, b"x" * 100_000), DeleteTombstone(odd)]
    )
    url = f"https://{'a' * 24}.table.core.windows.net/{'t' * 63}"

    body = encode_batch(url, made, f"batch_{uuid.uuid4()}")

    assert len(body) <= sum(step.size for step in made) < len(body) * 3


async def test_requests_are_signed_as_the_sdk_signs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_795_521_099.0)
    theirs = await sent_by_the_sdk(every_kind())
    # The boundary is among what is signed.
    boundary = str(theirs.headers["Content-Type"]).rpartition("batch_")[2]
    monkeypatch.setattr(uuid, "uuid4", lambda: boundary)
    ours = await sent_here(every_kind())

    for name in ("x-ms-date", "Content-Type", "Authorization"):
        assert ours.headers[name] == theirs.headers[name]


@pytest.mark.parametrize("key", ["lock", "i!a(20b", "i!" + "".join(chr(code) for code in range(32, 127))])
async def test_requests_about_one_row_are_the_sdks(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_795_521_099.0)
    theirs, ours = Recording(), directly()
    client: Any = TableClient(ACCOUNT, "orders", credential=KEY, transport=theirs, retry_total=0)
    key = escaped(key).replace("(21", "!", 1)  # a key as this package makes them
    entity = {"PartitionKey": "p000", "RowKey": key, "body": b"\x00\xff", "more": True, "name": "ü"}
    quiet = {"response_preference": "return-no-content"}
    guard = {"etag": ETAG, "match_condition": MatchConditions.IfNotModified}
    pairs: list[tuple[Awaitable[Any], Awaitable[Any]]] = [
        (client.get_entity("p000", key), ours[0].read("p000", key, None)),
        (
            client.get_entity("p000", key, select=["body", "more"]),
            ours[0].read("p000", key, ("body", "more")),
        ),
        (client.create_entity(entity, **quiet), ours[0].insert(entity)),
        (client.update_entity(entity, UpdateMode.REPLACE, **guard), ours[0].replace(entity, ETAG)),
    ]

    for pair in pairs:
        for call in pair:
            with pytest.raises(ServiceRequestError):
                await call
        their, our = theirs.requests[-1], ours[1].requests[-1]
        assert our.method == their.method
        # Both go through yarl, which sends one form of an address and signs that.
        assert URL(our.url) == URL(their.url)
        for name in ("x-ms-version", "DataServiceVersion", "If-Match", "Prefer", "Authorization"):
            assert our.headers.get(name) == their.headers.get(name), name
        assert ("Content-Type" in our.headers) == ("Content-Type" in their.headers)
        if their.content is not None:
            properties = json.loads(their.content)
            assert json.loads(our.content) == {k: v for k, v in properties.items() if v != "Edm.String"}


def answered(*parts: str) -> bytes:
    begin = "--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=changesetresponse_1\r\n\r\n"
    head = (
        "--changesetresponse_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    )
    body = "".join(f"{head}{part}\r\n" for part in parts)
    return f"{begin}{body}--changesetresponse_1--\r\n--batchresponse_1--\r\n".encode()


DONE = f"HTTP/1.1 204 No Content\r\nContent-ID: 1\r\nDataServiceVersion: 3.0;\r\nETag: {ETAG}\r\n\r\n"
DELETED = "HTTP/1.1 204 No Content\r\nX-Content-Type-Options: nosniff\r\n\r\n"
REFUSED = (
    "HTTP/1.1 412 Precondition Failed\r\nContent-Type: application/json\r\n\r\n"
    '{"odata.error":{"code":"UpdateConditionNotSatisfied","message":{"lang":"en-US","value":'
    '"7:The update condition specified in the request was not satisfied.\\nRequestId:1"}}}'
)


def test_answers_are_read_in_order_with_their_etags() -> None:
    assert decode_answers(answered(DONE, DELETED, DONE.replace("ETag", "etag"))) == [
        Answer(204, ETAG),
        Answer(204, None),
        Answer(204, ETAG),
    ]


def test_a_refusal_says_for_which_operation_and_why() -> None:
    (answer,) = decode_answers(answered(REFUSED))

    assert (answer.status, answer.code) == (412, "UpdateConditionNotSatisfied")
    assert answer.text.startswith("7:The update condition")


@pytest.mark.parametrize("body", [b"", b"nonsense", b"HTTP/1.1 2", answered(DONE)[:120]])
def test_a_piece_of_an_answer_has_no_answers(body: bytes) -> None:
    assert decode_answers(body) == []


def test_a_refusal_that_cannot_be_read_is_one_all_the_same() -> None:
    assert decode_answers(b"HTTP/1.1 400 Bad Request\r\n\r\n<html>") == [Answer(400, None)]


def test_what_a_row_holds_cannot_look_like_a_boundary() -> None:
    tricky = b"\r\n--batch_1--\r\n--changeset_batch_1\r\nHTTP/1.1 204 No Content\r\n"
    row = instance("i", tail=tricky, version=tricky.decode(), output=tricky.decode())

    body = encode_batch(f"{ACCOUNT}/orders", steps("p000", [PutInstance(row)]), "batch_1")

    assert body.count(b"\r\n--changeset_batch_1") == 2
    assert body.count(b"\r\n--batch_1") == 1
