"""The body of an entity group transaction, and its answer: multipart MIME as the Table service defines it.

The SDK writes and reads it with the standard library's e-mail package, which takes most of the processor time of a
transaction (decision 0025). This does only what a transaction of this adapter needs, and sends what the SDK would, part
by part and header by header; a test holds the two against each other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, assert_never, cast
from urllib.parse import quote

import msgspec
from azure.data.tables import EdmType

from durabletask_azure.adapters.tables.entities import Entity
from durabletask_azure.adapters.tables.writing import Step

__all__ = ["Answer", "decode_answers", "encode_batch", "encode_entity"]

_encode = msgspec.json.Encoder().encode
_STATUS = re.compile(rb"^HTTP/1\.[01] (\d{3})[^\r\n]*\r?\n", re.MULTILINE)
_ETAG = re.compile(rb"^etag:[ \t]*(.+?)[ \t]*\r?$", re.MULTILINE | re.IGNORECASE)
_JSON = "Content-Type: application/json\r\n"
_PART = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\nContent-ID: {}\r\n\r\n"
_COMMON = "x-ms-version: 2019-02-02\r\nDataServiceVersion: 3.0\r\n"
_MINIMAL = "Accept: application/json;odata=minimalmetadata\r\n"
_PLAIN = "Accept: application/json\r\n"


class _Message(msgspec.Struct):
    value: str = ""


class _Error(msgspec.Struct):
    code: str = ""
    message: _Message = msgspec.field(default_factory=_Message)


class _Refusal(msgspec.Struct):
    error: _Error = msgspec.field(default_factory=_Error, name="odata.error")


_decode_refusal = msgspec.json.Decoder(_Refusal).decode


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one operation; of a refused transaction the service answers only for the one it is refused for.

    ``text`` begins, in a refusal, with the operation's number and a colon.
    """

    status: int
    etag: str | None
    code: str = ""
    text: str = ""


def encode_batch(table_url: str, steps: Sequence[Step], name: str) -> bytes:
    """Return the body of a transaction; ``name`` is its boundary, ``table_url`` has no query and ends in the table."""
    changeset = f"changeset_{name}"
    parts: list[bytes] = [f"--{name}\r\nContent-Type: multipart/mixed; boundary={changeset}\r\n\r\n".encode()]
    before = f"--{changeset}\r\n"
    for number, step in enumerate(steps):
        head, body = _operation(table_url, step)
        parts.append(f"{before}{_PART.format(number)}{head}\r\n".encode())
        parts.append(body)
        before = f"\r\n--{changeset}\r\n"
    parts.append(f"\r\n--{changeset}--\r\n\r\n--{name}--\r\n".encode())
    return b"".join(parts)


def _operation(table_url: str, step: Step) -> tuple[str, bytes]:
    """Return the request line and headers of an operation, and its body."""
    entity = step.entity
    if step.kind == "create":
        body = encode_entity(entity)
        head = (
            f"POST {table_url} HTTP/1.1\r\n{_JSON}Content-Length: {len(body)}\r\n"
            f"{_COMMON}Prefer: return-no-content\r\n{_MINIMAL}"
        )
        return head, body
    partition, key = (quote(entity[each].replace("'", "''"), safe="") for each in ("PartitionKey", "RowKey"))
    address = f"{table_url}(PartitionKey='{partition}',RowKey='{key}')"
    match step.kind:
        case "delete":
            head = f"DELETE {address} HTTP/1.1\r\n{_COMMON}{_MINIMAL}If-Match: {step.if_match or '*'}\r\n"
            return head, b""
        case "update" | "upsert":
            body = encode_entity(entity)
            guard = "" if step.if_match is None else f"If-Match: {step.if_match}\r\n"
            head = f"PUT {address} HTTP/1.1\r\n{_JSON}Content-Length: {len(body)}\r\n{_COMMON}{_PLAIN}{guard}"
            return head, body
        case _:
            assert_never(step.kind)


def encode_entity(entity: Entity) -> bytes:
    """Return a row as it is sent."""
    return _encode(_with_types(entity))


def _with_types(entity: Entity) -> dict[str, Any]:
    """Return a row as JSON has it: a property whose type JSON does not tell has it beside it."""
    typed: dict[str, Any] = {}
    for name, value in entity.items():
        if isinstance(value, bytes):
            typed[name] = value
            typed[f"{name}@odata.type"] = "Edm.Binary"
        elif isinstance(value, tuple):
            text, kind = cast(tuple[str, EdmType], value)
            typed[name] = text
            typed[f"{name}@odata.type"] = kind.value
        else:
            typed[name] = value
    return typed


def decode_answers(body: bytes) -> list[Answer]:
    """Return the answers in a transaction's response, in order."""
    pieces = _STATUS.split(body)
    return [_answer(int(status), rest) for status, rest in zip(pieces[1::2], pieces[2::2], strict=True)]


def _answer(status: int, rest: bytes) -> Answer:
    headers, _, body = rest.partition(b"\r\n\r\n")
    if status >= 400:
        try:
            error = _decode_refusal(body.partition(b"\r\n--")[0].strip()).error
        except msgspec.MsgspecError:
            return Answer(status, None)
        return Answer(status, None, error.code, error.message.value)
    found = _ETAG.search(headers)
    return Answer(status, None if found is None else found[1].decode("ascii"))
