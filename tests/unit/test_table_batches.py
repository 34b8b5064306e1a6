"""Transactions are sent as the SDK would send them, and their answers are read as the SDK would read them."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import ServiceRequestError
from azure.core.pipeline.transport import AioHttpTransport
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient

from durabletask_azure.adapters.tables.batches import Answer, decode_answers, encode_batch
from durabletask_azure.adapters.tables.transactions import Transactions
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


async def sent_here(all_steps: Sequence[Step]) -> Any:
    transport = Recording()
    options = {"transport": transport, "user_agent": "test"}
    with pytest.raises(ServiceRequestError):
        await Transactions(ACCOUNT, "orders", KEY, options).submit(all_steps)
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


async def test_requests_are_signed_as_the_sdk_signs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_795_521_099.0)
    theirs = await sent_by_the_sdk(every_kind())
    # The boundary is among what is signed.
    boundary = str(theirs.headers["Content-Type"]).rpartition("batch_")[2]
    monkeypatch.setattr(uuid, "uuid4", lambda: boundary)
    ours = await sent_here(every_kind())

    for name in ("x-ms-date", "Content-Type", "Authorization"):
        assert ours.headers[name] == theirs.headers[name]


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
