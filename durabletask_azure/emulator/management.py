"""The requests of `$management`: what the SDK asks of a queue beside sending and receiving.

Names and shapes are those of Microsoft's page "AMQP 1.0 in Azure Service Bus: request-response-based operations" and
of the SDK's `_common/constants.py` and `_common/mgmt_handlers.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import UUID

from durabletask_azure.emulator.amqp.message import SCHEDULED_FOR, Request, read_content
from durabletask_azure.emulator.amqp.types import (
    AmqpError,
    Array,
    Int,
    Symbol,
    Timestamp,
    Value,
    mapping,
    sequence,
    text,
    whole,
)
from durabletask_azure.emulator.broker import accepting, browse, settling
from durabletask_azure.emulator.broker.queue import Queue
from durabletask_azure.emulator.delivering import encode_message
from durabletask_azure.emulator.limits import Limits

PEEK_BYTES_MAX: Final = 1_048_576
# A listing of sessions without a filter asks for those updated after the end of time (the SDK's `_session_browser.py`).
SKIP_MAX: Final = 2**30
ALL_SESSIONS_MS: Final = 253_402_300_800_000
_STATUS: Final = {
    "com.microsoft:message-lock-lost": 410,
    "com.microsoft:session-lock-lost": 410,
    "com.microsoft:message-not-found": 404,
    "com.microsoft:session-cannot-be-locked": 409,
    "com.microsoft:timeout": 408,
    "com.microsoft:server-busy": 503,
    "com.microsoft:entity-disabled": 403,
    "com.microsoft:argument-out-of-range": 400,
    "amqp:not-found": 404,
    "amqp:unauthorized-access": 401,
    "amqp:resource-limit-exceeded": 403,
    "amqp:not-allowed": 400,
    "amqp:decode-error": 400,
    "amqp:link:message-size-exceeded": 413,
}

_NUMBERS: Final = "sequence-numbers"
Body = dict[Value, Value]


class Operation:
    """One request on one queue.

    Args:
        queue: the queue.
        request: the request.
        limits: the emulator's limits.
    """

    def __init__(self, queue: Queue, request: Request, limits: Limits) -> None:
        self.queue = queue
        self.body: Body = mapping(request.body)
        self.limits = limits
        link_name = request.properties.get("associated-link-name")
        self.link_name = link_name if isinstance(link_name, str) else None

    def field(self, name: str) -> Value:
        """Return a field of the body."""
        return self.body.get(name)

    @property
    def session_id(self) -> str | None:
        """The session the request is about."""
        value = self.field("session-id")
        return value if isinstance(value, str) else None

    @property
    def numbers(self) -> list[int]:
        """The sequence numbers it names."""
        return [whole(value) for value in sequence(self.field("sequence-numbers"))]

    @property
    def tokens(self) -> list[bytes]:
        """The lock tokens it names, as they stand in delivery tags."""
        tokens: list[bytes] = []
        for value in sequence(self.field("lock-tokens")):
            try:
                token = value if isinstance(value, UUID) else UUID(text(value))
            except ValueError as error:
                raise AmqpError("amqp:not-allowed", "a lock token is not a UUID") from error
            tokens.append(token.bytes_le)
        return tokens


def answer(queue: Queue, request: Request, limits: Limits) -> tuple[dict[str, Value], Value]:
    """Do what a request asks; return the properties and the body of the answer."""
    name = text(request.properties.get("operation"))
    handler = _OPERATIONS.get(name)
    try:
        if handler is None:
            raise AmqpError("amqp:not-implemented", f"there is no operation '{name}'")
        body = handler(Operation(queue, request, limits))
    except AmqpError as error:
        return refusal(error), None
    if body is None:
        return {"statusCode": Int(204), "statusDescription": "NoContent"}, None
    return {"statusCode": Int(200), "statusDescription": "OK"}, body


def operation_of(request: Request) -> str:
    """Return the name of the operation a request asks for, nothing for one that is not known."""
    name = text(request.properties.get("operation"))
    return name if name in _OPERATIONS else ""


def scheduled(body: Value) -> int:
    """Return how many messages the answer to a request confirms as scheduled."""
    numbers = body.get(_NUMBERS) if isinstance(body, dict) else None
    return len(numbers.items) if isinstance(numbers, Array) else 0


def refusal(error: AmqpError) -> dict[str, Value]:
    """Return the properties of an answer that is an error."""
    return {
        "statusCode": Int(_STATUS.get(error.condition, 500)),
        "statusDescription": error.description or error.condition,
        "errorCondition": Symbol(error.condition),
    }


def _milliseconds(seconds: float) -> Timestamp:
    return Timestamp(round(seconds * 1000))


def _renew_lock(operation: Operation) -> Body:
    ends = [_milliseconds(settling.renew(operation.queue, token)) for token in operation.tokens]
    return {"expirations": Array(tuple(ends))}


def _renew_session_lock(operation: Operation) -> Body:
    session = accepting.held_session(operation.queue, operation.session_id or "", operation.link_name)
    return {"expiration": _milliseconds(accepting.renew_session(operation.queue, session))}


def _get_session_state(operation: Operation) -> Body:
    session = accepting.held_session(operation.queue, operation.session_id or "", operation.link_name)
    return {"session-state": session.state}


def _set_session_state(operation: Operation) -> Body:
    session = accepting.held_session(operation.queue, operation.session_id or "", operation.link_name)
    value = operation.field("session-state")
    state = value.encode() if isinstance(value, str) else value
    if state is not None and not isinstance(state, bytes):
        raise AmqpError("amqp:not-allowed", "a session state is binary or null")
    if state is not None and len(state) > operation.limits.session_state_bytes_max:
        raise AmqpError(
            "amqp:not-allowed",
            f"a session state has at most {operation.limits.session_state_bytes_max} bytes, not {len(state)}",
        )
    accepting.set_session_state(operation.queue, session.session_id, state)
    return {}


def _schedule(operation: Operation) -> Body:
    contents = [read_content(payload) for payload in map(_message_of, sequence(operation.field("messages")))]
    if any(content.scheduled_ms is None for content in contents):
        raise AmqpError("amqp:not-allowed", f"a message to schedule has no {SCHEDULED_FOR}")
    if sum(content.size for content in contents) > operation.limits.message_bytes_max:
        raise AmqpError(
            "amqp:link:message-size-exceeded",
            f"a request has at most {operation.limits.message_bytes_max} bytes of messages",
        )
    return {_NUMBERS: Array(tuple(operation.queue.send(contents)))}


def _message_of(value: Value) -> bytes:
    message = mapping(value).get("message")
    if not isinstance(message, bytes):
        raise AmqpError("amqp:not-allowed", "a message to schedule is not binary")
    return message


def _cancel_scheduled(operation: Operation) -> Body:
    browse.cancel_scheduled(operation.queue, operation.numbers)
    return {}


def _peek(operation: Operation) -> Body | None:
    from_seq = whole(operation.field("from-sequence-number"), 1)
    count = whole(operation.field("message-count"), 1)
    found: list[Value] = []
    size = 0
    for message in browse.peek(operation.queue, from_seq, count, operation.session_id):
        payload = encode_message(message, None)
        size += len(payload)
        if found and size > PEEK_BYTES_MAX:
            break
        found.append({"message": payload})
    return {"messages": found} if found else None


def _receive_by_number(operation: Operation) -> Body | None:
    peek_lock = whole(operation.field("receiver-settle-mode")) == 1
    if operation.queue.settings.requires_sessions:
        accepting.held_session(operation.queue, operation.session_id or "", operation.link_name)
    taken = browse.receive_by_number(
        operation.queue, operation.numbers, operation.session_id, peek_lock=peek_lock
    )
    found: list[Value] = []
    for message, lock in taken:
        entry: Body = {"message": encode_message(message, lock)}
        if lock is not None:
            entry["lock-token"] = UUID(bytes_le=lock.token)
        found.append(entry)
    return {"messages": found} if found else None


def _update_disposition(operation: Operation) -> Body:
    status = text(operation.field("disposition-status"))
    changes = {text(name): value for name, value in mapping(operation.field("properties-to-modify")).items()}
    queue, tokens = operation.queue, operation.tokens
    for token in tokens:
        # All or none: a lock that has ended is found before anything is done.
        settling.find_lock(queue, token)
    for token in tokens:
        match status:
            case "completed":
                settling.complete(queue, token)
            case "abandoned":
                settling.abandon(queue, token, changes)
            case "defered":
                settling.defer(queue, token, changes)
            case "suspended":
                reason = operation.field("deadletter-reason")
                description = operation.field("deadletter-description")
                settling.dead_letter(queue, token, text(reason), text(description), changes)
            case _:
                raise AmqpError("amqp:not-allowed", f"'{status}' is no disposition")
    return {}


def _list_sessions(operation: Operation) -> Body | None:
    if not operation.queue.settings.requires_sessions:
        raise AmqpError(
            "amqp:not-allowed", f"the queue {operation.queue.path} does not have sessions to list"
        )
    after = whole(operation.field("last-updated-time"), ALL_SESSIONS_MS)
    skip = min(max(whole(operation.field("skip")), 0), SKIP_MAX)
    ids = browse.list_sessions(
        operation.queue,
        None if after >= ALL_SESSIONS_MS else after / 1000,
        skip,
        whole(operation.field("top"), 100),
    )
    if not ids:
        return None
    return {"skip": Int(skip + len(ids)), "sessions-ids": Array(tuple(ids))}


_OPERATIONS: Final[dict[str, Callable[[Operation], Body | None]]] = {
    "com.microsoft:renew-lock": _renew_lock,
    "com.microsoft:renew-session-lock": _renew_session_lock,
    "com.microsoft:get-session-state": _get_session_state,
    "com.microsoft:set-session-state": _set_session_state,
    "com.microsoft:schedule-message": _schedule,
    "com.microsoft:cancel-scheduled-message": _cancel_scheduled,
    "com.microsoft:peek-message": _peek,
    "com.microsoft:receive-by-sequence-number": _receive_by_number,
    "com.microsoft:update-disposition": _update_disposition,
    "com.microsoft:get-message-sessions": _list_sessions,
}
