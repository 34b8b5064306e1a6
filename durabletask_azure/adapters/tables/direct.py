"""The requests that nearly all of a hub's traffic is made of: transactions, and reads and writes of single rows.

They go through a pipeline of azure-core over the connections of the SDK's client, signed in as that is, but around its
generated layer, which takes two to eight times as long as all the rest of a request (decision 0025). Everything else,
queries among it, goes through the SDK.
"""

from __future__ import annotations

import io
import itertools
import secrets
import uuid
from binascii import a2b_base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.utils import formatdate, parsedate_to_datetime
from typing import Any, cast
from urllib.parse import quote

import msgspec
from azure.core import AsyncPipelineClient
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import ProxyPolicy, UserAgentPolicy
from azure.core.rest import AsyncHttpResponse, HttpRequest

from durabletask_azure.adapters.storage import Credential, error_code
from durabletask_azure.adapters.tables.batches import Answer, decode_answers, encode_batch, encode_entity
from durabletask_azure.adapters.tables.entities import Entity, Row
from durabletask_azure.adapters.tables.signing import signing_policy
from durabletask_azure.adapters.tables.writing import Step

__all__ = ["DirectRequests", "TransactionRefusedError"]

_OK, _ACCEPTED, _NO_CONTENT = 200, 202, 204
_NOT_FOUND, _CONFLICT, _PRECONDITION_FAILED = 404, 409, 412
_REFUSED = (400, _NOT_FOUND, _CONFLICT, _PRECONDITION_FAILED, 413)
_ABOUT_THE_TABLE = ("TableNotFound", "TableBeingDeleted")
_LONG = 512 * 1024
_UNQUOTED = "!(:~"
"""What besides letters and digits is sent in an address as it is; everything else of a key is quoted."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class TransactionRefusedError(Exception):
    """A transaction that did not happen because of its operation number ``index`` (``None``: because of all of it).

    For this adapter only.
    """

    def __init__(self, index: int | None, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.index = index
        self.status = status
        self.code = code


class DirectRequests:
    """Makes requests about the rows of one table over the connections of the SDK's client, which closes them.

    All methods raise, beside what they name, ``AzureError`` for what went wrong on the way, and ``ValueError`` for an
    answer that cannot be read; in both cases the request may have taken effect.
    """

    def __init__(
        self, account_url: str, table: str, credential: Credential, options: Mapping[str, Any]
    ) -> None:
        self._url = account_url.rstrip("/")
        self._table_url = f"{self._url}/{table}"
        policies: list[Any] = [
            UserAgentPolicy(user_agent=options["user_agent"]),
            ProxyPolicy(proxies=options.get("proxies")),
            signing_policy(credential),
        ]
        self._client: AsyncPipelineClient[HttpRequest, AsyncHttpResponse] = AsyncPipelineClient(
            self._url, policies=policies, transport=options["transport"]
        )
        self._id = secrets.token_hex(8)
        self._numbers = itertools.count(1)

    # ------------------------------------------------------------------ single rows

    async def read(self, partition: str, key: str, select: Sequence[str] | None) -> Row | None:
        """Return a row, or some of its properties; ``None`` if there is none. It says no time of writing."""
        response = await self._get(partition, key, select)
        if response.status_code == _NOT_FOUND:
            error = _failure(response)
            if error_code(error) in _ABOUT_THE_TABLE:
                raise error
            return None
        if response.status_code != _OK:
            raise _failure(response)
        values = _decode(response.content)
        etag = values.get("odata.etag") or response.headers.get("ETag", "")
        return Row(_typed(values), etag, None)

    async def server_time(self, partition: str, key: str) -> datetime:
        """Return the service's time, in whole seconds, from an answer about a row that need not be there."""
        response = await self._get(partition, key, ("RowKey",))
        if response.status_code not in (_OK, _NOT_FOUND):
            raise _failure(response)
        return parsedate_to_datetime(response.headers["Date"])

    async def insert(self, entity: Entity) -> str | None:
        """Insert a row and return its ETag; ``None`` if there is one of that key."""
        kind = {"Content-Type": "application/json;odata=nometadata", "Prefer": "return-no-content"}
        response = await self._send("POST", self._table_url, encode_entity(entity), kind)
        return _etag(response, _CONFLICT)

    async def replace(self, entity: Entity, etag: str) -> str | None:
        """Replace a row and return its new ETag; ``None`` if its ETag is another by now, or there is no row."""
        address = self._address(entity["PartitionKey"], entity["RowKey"])
        response = await self._send("PUT", address, encode_entity(entity), {"If-Match": etag})
        return _etag(response, _PRECONDITION_FAILED, _NOT_FOUND)

    async def _get(self, partition: str, key: str, select: Sequence[str] | None) -> AsyncHttpResponse:
        address = self._address(partition, key)
        if select is not None:
            address += f"?$select={','.join(select)}"
        return await self._send("GET", address, None, {})

    def _address(self, partition: str, key: str) -> str:
        return f"{self._table_url}(PartitionKey='{quote(partition)}',RowKey='{quote(key, safe=_UNQUOTED)}')"

    async def _send(
        self, method: str, address: str, body: bytes | None, headers: Mapping[str, str]
    ) -> AsyncHttpResponse:
        sent = {
            "x-ms-version": "2019-02-02",
            "x-ms-date": formatdate(usegmt=True),
            "x-ms-client-request-id": f"{self._id}-{next(self._numbers)}",
            "DataServiceVersion": "3.0",
            "MaxDataServiceVersion": "3.0;NetFx",
            "Accept": "application/json;odata=minimalmetadata",
            **headers,
        }
        if body is None:
            return await self._client.send_request(HttpRequest(method, address, headers=sent))
        sent.setdefault("Content-Type", "application/json")
        # A long body as a stream, so that others have their turn while it is sent.
        content: Any = body if len(body) < _LONG else io.BytesIO(body)
        return await self._client.send_request(HttpRequest(method, address, headers=sent, content=content))

    # ------------------------------------------------------------------ transactions

    async def submit(self, steps: Sequence[Step]) -> list[str | None]:
        """Apply the steps, all or none; return the new ETag of each row, ``None`` of a deleted one.

        Raises:
            TransactionRefusedError: one of them cannot be applied; nothing happened.
        """
        name = f"batch_{uuid.uuid4()}"
        body = encode_batch(self._table_url, steps, name)
        kind = {"Content-Type": f"multipart/mixed; boundary={name}", "Accept": "application/json"}
        response = await self._send("POST", f"{self._url}/$batch", body, kind)
        if response.status_code != _ACCEPTED:
            if response.status_code in (400, 413):
                error = _failure(response)
                raise TransactionRefusedError(
                    None, response.status_code, error_code(error), response.reason or ""
                )
            raise _failure(response)
        answers = decode_answers(response.content)
        for answer in answers:
            if answer.status >= 400:
                raise _refusal(answer, response)
        if len(answers) != len(steps):
            raise ValueError(f"{len(answers)} answers to {len(steps)} operations")
        return [answer.etag for answer in answers]


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of an answer; a time stays a text."""
    typed = {name: value for name, value in values.items() if "odata." not in name}
    for name in typed:
        if values.get(f"{name}@odata.type") == "Edm.Binary":
            typed[name] = a2b_base64(values[name])
    return typed


def _etag(response: AsyncHttpResponse, *refused: int) -> str | None:
    """Return the ETag in the answer to a write; ``None`` if the row was refused with one of these."""
    if response.status_code == _NO_CONTENT:
        return response.headers["ETag"]
    error = _failure(response)
    if response.status_code in refused and error_code(error) not in _ABOUT_THE_TABLE:
        return None
    raise error


def _failure(response: AsyncHttpResponse) -> HttpResponseError:
    return HttpResponseError(response=cast(Any, response))


def _refusal(answer: Answer, response: AsyncHttpResponse) -> Exception:
    if answer.status not in _REFUSED or answer.code in _ABOUT_THE_TABLE:
        error = HttpResponseError(answer.text.partition("\n")[0], response=cast(Any, response))
        error.status_code = answer.status
        error.error_code = answer.code  # pyright: ignore[reportAttributeAccessIssue]
        return error
    number, _, text = answer.text.partition(":")
    text = (text or answer.text).partition("\n")[0]
    return TransactionRefusedError(int(number) if number.isdecimal() else 0, answer.status, answer.code, text)
