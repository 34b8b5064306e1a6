"""Sends entity group transactions through a pipeline of azure-core, signed in as the SDK's own client is."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import re
import uuid
from collections.abc import Sequence
from email.utils import formatdate
from typing import Any, cast
from urllib.parse import urlsplit

from azure.core import AsyncPipelineClient
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import (
    AsyncBearerTokenCredentialPolicy,
    AzureSasCredentialPolicy,
    ProxyPolicy,
    RequestIdPolicy,
    SansIOHTTPPolicy,
    UserAgentPolicy,
)
from azure.core.rest import AsyncHttpResponse, HttpRequest

from durabletask_azure.adapters.storage import Credential
from durabletask_azure.adapters.tables.batches import Answer, decode_answers, encode_batch
from durabletask_azure.adapters.tables.writing import Step

__all__ = ["TransactionRefusedError", "Transactions"]

_SCOPE = "https://storage.azure.com/.default"
_TENANT = re.compile(r"authorization(?:_uri)?=\"?https://[^/\s\"]+/([^/\s\",]+)")
_ACCEPTED = 202
_LONG = 512 * 1024
_REFUSED = (400, 404, 409, 412, 413)
_ABOUT_THE_TABLE = ("TableNotFound", "TableBeingDeleted")


class TransactionRefusedError(Exception):
    """A transaction that did not happen because of its operation number ``index`` (``None``: because of all of it).

    For this adapter only.
    """

    def __init__(self, index: int | None, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.index = index
        self.status = status
        self.code = code


class Transactions:
    """Sends transactions on one table over the connections of the SDK's client, which closes them."""

    def __init__(self, account_url: str, table: str, credential: Credential, options: dict[str, Any]) -> None:
        self._url = account_url.rstrip("/")
        self._table_url = f"{self._url}/{table}"
        policies: list[Any] = [
            RequestIdPolicy(),
            UserAgentPolicy(user_agent=options["user_agent"]),
            ProxyPolicy(proxies=options.get("proxies")),
            _signing(credential),
        ]
        self._client: AsyncPipelineClient[HttpRequest, AsyncHttpResponse] = AsyncPipelineClient(
            self._url, policies=policies, transport=options["transport"]
        )

    async def submit(self, steps: Sequence[Step]) -> list[str | None]:
        """Apply the steps, all or none; return the new ETag of each row, ``None`` of a deleted one.

        Raises:
            TransactionRefusedError: one of them cannot be applied; nothing happened.
            AzureError: all the rest.
            ValueError: the answer is none to this transaction; it may have happened.
        """
        name = f"batch_{uuid.uuid4()}"
        request = HttpRequest(
            "POST",
            f"{self._url}/$batch",
            headers={
                "x-ms-version": "2019-02-02",
                "x-ms-date": formatdate(usegmt=True),
                "DataServiceVersion": "3.0",
                "MaxDataServiceVersion": "3.0;NetFx",
                "Content-Type": f"multipart/mixed; boundary={name}",
                "Accept": "application/json",
            },
            content=_content(encode_batch(self._table_url, steps, name)),
        )
        response = await self._client.send_request(request)
        if response.status_code != _ACCEPTED:
            raise _failure(response)
        answers = decode_answers(response.content)
        for answer in answers:
            if answer.status >= 400:
                raise _refusal(answer, response)
        if len(answers) != len(steps):
            raise ValueError(f"{len(answers)} answers to {len(steps)} operations")
        return [answer.etag for answer in answers]


def _content(body: bytes) -> Any:
    """Return a body as aiohttp wants it: a long one as a stream, so that others have their turn while it is sent."""
    return body if len(body) < _LONG else io.BytesIO(body)


def _failure(response: AsyncHttpResponse) -> Exception:
    """Return the error of a request that was refused as a whole."""
    code = response.headers.get("x-ms-error-code", "")
    if response.status_code in (400, 413):
        return TransactionRefusedError(
            None, response.status_code, code or "BadRequest", response.reason or ""
        )
    error = HttpResponseError(response=cast(Any, response))
    error.error_code = code or None  # pyright: ignore[reportAttributeAccessIssue]
    return error


def _refusal(answer: Answer, response: AsyncHttpResponse) -> Exception:
    if answer.status not in _REFUSED or answer.code in _ABOUT_THE_TABLE:
        error = HttpResponseError(answer.text.partition("\n")[0], response=cast(Any, response))
        error.status_code = answer.status
        error.error_code = answer.code  # pyright: ignore[reportAttributeAccessIssue]
        return error
    number, _, text = answer.text.partition(":")
    text = (text or answer.text).partition("\n")[0]
    return TransactionRefusedError(int(number) if number.isdecimal() else 0, answer.status, answer.code, text)


# ------------------------------------------------------------------ signing in


def _signing(credential: Credential) -> Any:
    if isinstance(credential, AzureNamedKeyCredential):
        return SharedKeyPolicy(credential)
    if isinstance(credential, AzureSasCredential):
        return AzureSasCredentialPolicy[Any, Any](credential)
    return TenantTokenPolicy(credential, _SCOPE)


class SharedKeyPolicy(SansIOHTTPPolicy[Any, Any]):
    """Signs requests with the account key, as the Table service's Shared Key scheme has it."""

    def __init__(self, credential: AzureNamedKeyCredential) -> None:
        self._credential = credential

    def on_request(self, request: PipelineRequest[Any]) -> None:
        name, key = self._credential.named_key
        sent = request.http_request
        path = urlsplit(str(sent.url)).path
        text = f"{sent.method}\n\n{sent.headers['Content-Type']}\n{sent.headers['x-ms-date']}\n/{name}{path}"
        digest = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
        sent.headers["Authorization"] = f"SharedKey {name}:{base64.b64encode(digest).decode()}"


class TenantTokenPolicy(AsyncBearerTokenCredentialPolicy[Any, Any]):
    """Signs in with tokens, and asks again for one of the account's own tenant when the service names that."""

    def __init__(self, credential: AsyncTokenCredential, scope: str) -> None:
        super().__init__(credential, scope)
        self._scope = scope

    async def on_challenge(self, request: PipelineRequest[Any], response: PipelineResponse[Any, Any]) -> bool:
        challenge: str = response.http_response.headers.get("WWW-Authenticate", "")
        tenant = _TENANT.search(challenge)
        if tenant is None:
            return await super().on_challenge(request, response)
        await self.authorize_request(request, self._scope, tenant_id=tenant[1])
        return True
