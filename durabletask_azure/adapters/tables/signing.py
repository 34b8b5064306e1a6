"""Signs requests to the Table service, as the SDK's own client does it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Any

from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import (
    AsyncBearerTokenCredentialPolicy,
    AzureSasCredentialPolicy,
    SansIOHTTPPolicy,
)
from yarl import URL

from durabletask_azure.adapters.storage import Credential

__all__ = ["signing_policy"]

_SCOPE = "https://storage.azure.com/.default"
_TENANT = re.compile(r"authorization(?:_uri)?=\"?https://[^/\s\"]+/([^/\s\",]+)")


def signing_policy(credential: Credential) -> Any:
    """Return the policy of a pipeline that signs in with a credential."""
    if isinstance(credential, AzureNamedKeyCredential):
        return _SharedKeyPolicy(credential)
    if isinstance(credential, AzureSasCredential):
        return AzureSasCredentialPolicy[Any, Any](credential)
    return _TenantTokenPolicy(credential, _SCOPE)


class _SharedKeyPolicy(SansIOHTTPPolicy[Any, Any]):
    """Signs requests with the account key, as the Table service's Shared Key scheme has it."""

    def __init__(self, credential: AzureNamedKeyCredential) -> None:
        self._credential = credential

    def on_request(self, request: PipelineRequest[Any]) -> None:
        name, key = self._credential.named_key
        sent = request.http_request
        kind = sent.headers.get("Content-Type", "")
        path = URL(sent.url).raw_path  # in the very form in which it is sent
        text = f"{sent.method}\n\n{kind}\n{sent.headers['x-ms-date']}\n/{name}{path}"
        digest = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
        sent.headers["Authorization"] = f"SharedKey {name}:{base64.b64encode(digest).decode()}"


class _TenantTokenPolicy(AsyncBearerTokenCredentialPolicy[Any, Any]):
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
