"""What travels over the queues: messages to instances, and tasks for activity workers.

A :class:`Message` goes to the partition of its instance, over the orchestration queue; an :class:`ActivityTask` goes to
whichever worker is free, over the activity queue. Ids are derived from what the message says, so a resend carries the
same id. The functions that turn a history event into its messages live in ``outbox.py``.
"""

from __future__ import annotations

from typing import final

import msgspec

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import (
    EventRaisedEvent,
    ExecutionResumedEvent,
    ExecutionStartedEvent,
    ExecutionSuspendedEvent,
    ExecutionTerminatedEvent,
    Handover,
    Sender,
    SubOrchestrationInstanceCompletedEvent,
    SubOrchestrationInstanceFailedEvent,
    Tags,
    TaskCompletedEvent,
    TaskFailedEvent,
    TimerFiredEvent,
)
from durabletask_azure.core.payloads import Payload
from durabletask_azure.core.stored_form import Moment, reader_of

__all__ = [
    "ActivityTask",
    "ContinuedChild",
    "FailInstance",
    "Inbound",
    "Message",
    "MessageBody",
    "Outbound",
    "PurgeInstance",
    "ReplaceInstance",
    "ResetInstance",
    "RewindInstance",
    "StartInstance",
    "ToActivities",
    "ToPartition",
    "decode_messages",
    "decode_task",
    "encode_messages",
    "encode_task",
    "source_of",
]


class StartInstance(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="StartInstance"):
    """Wake-up for a PENDING row that a client inserted; it carries nothing the row does not."""


class ReplaceInstance(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="kind", tag="ReplaceInstance"
):
    """A client's request to the owner: start ``start`` in place of the instance of that id, if the owner may.

    ``replace`` lists the statuses that may be replaced; a living instance among them is terminated first.
    ``created_at`` names the run the client has seen, with the executions that continue it: a request that comes late
    must not touch one that took its place. ``None``, of older versions, stands for any.
    """

    start: ExecutionStartedEvent
    replace: tuple[str, ...]
    event: EventRaisedEvent | None = None
    created_at: Moment | None = None


class PurgeInstance(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="kind", tag="PurgeInstance"
):
    """Request to remove a terminal instance, and with ``recursive`` its sub-orchestrations.

    ``parent_execution_id`` is set where the request was passed on: only a child of that execution is meant.
    """

    recursive: bool = False
    parent_execution_id: str | None = None


class RewindInstance(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="kind", tag="RewindInstance"
):
    """Request to take a failed execution up again where it failed, under the execution id ``next_execution_id``."""

    next_execution_id: str
    reason: Payload = None


class ResetInstance(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="kind", tag="ResetInstance"
):
    """Request to run an execution again from the beginning of one of its turns on, under a new execution id.

    ``turn`` counts the turns of its history from 0. Events raised after that point are given again if ``keep_events``.
    """

    next_execution_id: str
    turn: int
    keep_events: bool = True
    reason: Payload = None


class ContinuedChild(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="kind", tag="ContinuedChild"
):
    """From an execution that a rewind or reset continues: the sub-orchestration of one of its tasks.

    ``start`` names the continued execution as the parent, ``formers`` the executions it continues. With ``handover``
    one of them started the child; without, the task is new and a child of theirs under that id gives way.
    """

    start: ExecutionStartedEvent
    formers: tuple[str, ...]
    handover: Handover | None = None


class FailInstance(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="kind", tag="FailInstance"):
    """Fail a living instance visibly: a message to it is poison, or what it needs is lost.

    ``start`` is that message if it would have started the instance: it is started then, and fails before its code runs,
    so that whoever waits for it is told.
    """

    failure: FailureDetails
    start: ExecutionStartedEvent | ReplaceInstance | None = None


MessageBody = (
    StartInstance
    | FailInstance
    | ReplaceInstance
    | PurgeInstance
    | RewindInstance
    | ResetInstance
    | ContinuedChild
    | ExecutionStartedEvent
    | TaskCompletedEvent
    | TaskFailedEvent
    | SubOrchestrationInstanceCompletedEvent
    | SubOrchestrationInstanceFailedEvent
    | TimerFiredEvent
    | EventRaisedEvent
    | ExecutionTerminatedEvent
    | ExecutionSuspendedEvent
    | ExecutionResumedEvent
)


class Message(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One message to one instance.

    ``execution_id`` names the only execution it is meant for (``None``: whichever runs). ``sender`` and ``sender_sent``
    tell which commit of which partition created it, and up to which commit that partition had confirmed its sends when
    it was sent. ``parked`` counts how often it was put back because its instance was unknown, ``redriven`` how often it
    came back from the dead letters.
    """

    id: str
    instance_id: str
    body: MessageBody
    execution_id: str | None = None
    sender: Sender | None = None
    sender_sent: int = 0
    parked: int = 0
    redriven: int = 0


def source_of(message: Message) -> str:
    """Return what a message is recognised by when it comes again, maybe under another id of its own."""
    body = message.body
    if isinstance(
        body, (EventRaisedEvent, ExecutionTerminatedEvent, ExecutionSuspendedEvent, ExecutionResumedEvent)
    ):
        return body.source_id or message.id
    return message.id


class ActivityTask(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One call of an activity: who asked (instance, execution, task id) and what for.

    ``deliveries`` says how often it was handed out in messages that this one took the place of.
    """

    id: str
    instance_id: str
    execution_id: str
    task_id: int
    name: str
    version: str | None = None
    input: Payload = None
    tags: Tags = None
    parent_trace_context: str | None = None
    redriven: int = 0
    deliveries: int = 0


@final
class ToPartition(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="to", tag="partition"):
    """A message to send to a partition's session, at ``deliver_at`` (broker time) or at once."""

    partition: int
    message: Message
    deliver_at: Moment | None = None


class ToActivities(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="to", tag="activities"):
    """A task to send to the activity queue; ``group`` names the activity group ("" is the common queue)."""

    task: ActivityTask
    group: str = ""


Outbound = ToPartition | ToActivities


class Inbound(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A message as it arrived: when the broker took it in (for a scheduled one: when it became due), and how often
    it was delivered before, this time included."""

    message: Message
    enqueued_at: Moment
    delivery_count: int = 1


_encoder = msgspec.json.Encoder()
_read_messages = reader_of(tuple[Message, ...])
_read_task = reader_of(ActivityTask)


def encode_messages(messages: tuple[Message, ...]) -> bytes:
    """Return the body of a broker message that carries ``messages`` (a pack)."""
    return _encoder.encode(messages)


def decode_messages(body: bytes) -> tuple[Message, ...]:
    """Return the messages of a pack.

    Raises:
        msgspec.DecodeError: not a pack, or of a kind this version does not know.
    """
    return _read_messages(body)


def encode_task(task: ActivityTask) -> bytes:
    """Return the body of an activity task's broker message."""
    return _encoder.encode(task)


def decode_task(body: bytes) -> ActivityTask:
    """Return the activity task of a broker message.

    Raises:
        msgspec.DecodeError: not an activity task.
    """
    return _read_task(body)
