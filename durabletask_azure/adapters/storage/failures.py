"""The errors of a storage account in this package's terms, without what must not be shown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

import msgspec
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

from durabletask_azure.errors import HubAccessError, HubUnavailableError, TaskHubError, ThrottledError
from durabletask_azure.targets import StorageTarget

__all__ = ["error_code", "translated"]

_TEXT_MAX = 300
_REFUSED = (401, 403)
_BUSY = (429, 503)
_NOT_FOUND = 404
_RETRY_AFTER_S_MAX = 3600.0


class _Error(msgspec.Struct):
    code: str


class _Refusal(msgspec.Struct):
    error: _Error = msgspec.field(name="odata.error")


_decode_refusal = msgspec.json.Decoder(_Refusal).decode


def translated(error: AzureError, doing: str, target: StorageTarget) -> TaskHubError:
    """Return the error to raise (``from error``) for one of an SDK that has no meaning of its own where it is met.

    ``doing`` says what was tried and on what, as "reading the rows of table 'orders'". Throttling becomes
    :class:`ThrottledError`, everything else :class:`HubUnavailableError`: the call may have taken effect.
    """
    if "sig=" in str(error):
        _mute(error)
    return _made(error, doing, target)


def _mute(error: AzureError) -> None:
    """Take the signature of an address out of an error that is going to be shown as a cause."""
    text = _unsigned(str(error))
    error.args = (text,)
    error.message = text
    error.__cause__ = None
    error.__suppress_context__ = True


def _made(error: AzureError, doing: str, target: StorageTarget) -> TaskHubError:
    where = f"{doing} of the storage account {target.account_name!r}"
    status = error.status_code if isinstance(error, HttpResponseError) else None
    code = error_code(error)
    if status in _REFUSED or isinstance(error, ClientAuthenticationError):
        return HubAccessError(
            f"{where}: the account refused the credentials ({code}): check in storage the account key or the shared"
            " access signature, or that the identity has the roles Storage Table Data Contributor and Storage Blob Data"
            " Contributor, and the account's firewall"
        )
    if status in _BUSY:
        return ThrottledError(f"{where}: the account is busy ({code})", retry_after=_retry_after(error))
    if status == _NOT_FOUND:
        return HubUnavailableError(
            f"{where}: it does not exist ({code}): check the name of the hub and the account, or create the hub first"
        )
    if status is not None:
        return HubUnavailableError(f"{where}: it failed ({status}, {code})")
    return HubUnavailableError(f"{where}: no answer: {_text(error, target)}")


def error_code(error: AzureError) -> str:
    """Return the service's own name of an error, which not every way out of the SDKs puts on it."""
    code = getattr(error, "error_code", None)
    if code is None and isinstance(error, HttpResponseError):
        response = cast(Any, error.response)
        code = getattr(response, "headers", {}).get("x-ms-error-code") or _code_in_body(response)
    if code is None:
        return type(error).__name__
    return str(getattr(code, "value", code))


def _code_in_body(response: Any) -> str | None:
    try:
        return _decode_refusal(response.content).error.code
    except (AttributeError, TypeError, ValueError, msgspec.DecodeError, AzureError):
        return None  # there is no body, it was not read, or it says something else


def _retry_after(error: AzureError) -> timedelta | None:
    response = error.response if isinstance(error, HttpResponseError) else None
    headers = cast(Mapping[str, str], getattr(response, "headers", {}))
    for name, unit_s in (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("Retry-After", 1.0)):
        text = headers.get(name)
        try:
            seconds = float(text) * unit_s if text is not None else -1.0
        except ValueError:  # a date: the caller's own pauses will do
            continue
        if 0 <= seconds <= _RETRY_AFTER_S_MAX:
            return timedelta(seconds=seconds)
    return None


def _text(error: AzureError, target: StorageTarget) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    secrets = (target.account_key, target.sas_token, target.proxy.password if target.proxy else None)
    for secret in secrets:
        if secret:
            text = text.replace(secret, "…")
    text = _unsigned(text)
    return text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]}…"


def _unsigned(text: str) -> str:
    before, found, _ = text.partition("sig=")
    return f"{before}sig=…" if found else text
