"""Errors of the SDK in this package's terms: what happened, where, and what to look at. No secret is in a text."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from azure.core.exceptions import ClientAuthenticationError
from azure.servicebus.exceptions import (
    MessageSizeExceededError,
    MessagingEntityDisabledError,
    MessagingEntityNotFoundError,
    OperationTimeoutError,
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
    ServiceBusQuotaExceededError,
    ServiceBusServerBusyError,
)

from durabletask_azure.errors import (
    DurableTaskError,
    HubAccessError,
    HubUnavailableError,
    PayloadTooLargeError,
    QueueFullError,
    TaskHubError,
    ThrottledError,
)

__all__ = ["THROTTLED_S", "Entity", "is_missing", "translate", "translated"]

THROTTLED_S: Final = 2.0
"""How long Service Bus asks to wait when it throttles (error 50009)."""
_TEXT_MAX: Final = 400
_NOT_FOUND: Final = 404
_REFUSED: Final = (401, 403)
_SECRETS: Final = re.compile(
    r"(?i)(sharedaccesskey|sharedaccesssignature|sig|password|token)\s*[=:]\s*[^\s;&,]+"
)


class Entity:
    """A queue, or a sub-queue of one, as errors name it."""

    __slots__ = ("namespace", "queue")

    def __init__(self, namespace: str, queue: str) -> None:
        self.namespace = namespace
        self.queue = queue

    def __str__(self) -> str:
        return f"queue {self.queue!r} of {self.namespace}"


def translate(error: BaseException, what: str, entity: Entity) -> TaskHubError:
    """Return the error of this package for what an SDK call raised; ``what`` says what was being done."""
    if isinstance(error, TaskHubError):
        return error
    begin = f"{what} ({entity})"
    match error:
        case ServiceBusServerBusyError():
            return ThrottledError(
                f"{begin}: Service Bus is throttling", retry_after=timedelta(seconds=THROTTLED_S)
            )
        case ServiceBusQuotaExceededError():
            if "connection" in str(error).lower():
                return HubUnavailableError(f"{begin}: the namespace has no connection left: {_said(error)}")
            return QueueFullError(
                f"{begin}: the queue is full; its size is a setting of the hub: {_said(error)}"
            )
        case MessageSizeExceededError():
            return PayloadTooLargeError(
                f"{begin}: a message is larger than the namespace takes (256 KB on Standard); lower"
                f" Settings.payload_inline_bytes_max: {_said(error)}"
            )
        case _ if is_missing(error):
            return HubUnavailableError(
                f"{begin}: there is no such queue. Check the namespace and the hub's name, or create the hub"
            )
        case _ if _is_refused(error):
            return HubAccessError(
                f"{begin}: not allowed. Check that service_bus has the right key, or that the identity has the roles"
                f" Azure Service Bus Data Sender and Data Receiver: {_said(error)}"
            )
        case MessagingEntityDisabledError():
            return HubUnavailableError(f"{begin}: the queue is disabled: {_said(error)}")
        case TimeoutError() | OperationTimeoutError():
            return HubUnavailableError(f"{begin}: no answer in time. Check that the namespace can be reached")
        case _:
            return HubUnavailableError(f"{begin}: {_said(error)}")


def is_missing(error: BaseException) -> bool:
    """Whether an error of the SDK says that there is no such queue; it may say so when a token is put."""
    return isinstance(error, MessagingEntityNotFoundError) or _status(error) == _NOT_FOUND


def _is_refused(error: BaseException) -> bool:
    refusals = (ServiceBusAuthenticationError, ServiceBusAuthorizationError, ClientAuthenticationError)
    return isinstance(error, refusals) or _status(error) in _REFUSED


def _status(error: BaseException) -> object:
    """Return the status of a token that was refused; with an address of one's own, the SDK has no other sign."""
    return getattr(getattr(error, "inner_exception", None), "status_code", None)


@contextmanager
def translated(what: str, entity: Entity) -> Generator[None]:
    """Raise this package's errors for those of the SDK."""
    try:
        yield
    except DurableTaskError:
        raise
    except Exception as error:
        raise translate(error, what, entity) from error


def _said(error: BaseException) -> str:
    """Return what an error says, short and without anything secret."""
    text = " ".join(str(error).split()) or type(error).__name__
    return _SECRETS.sub(r"\1=***", text)[:_TEXT_MAX]
