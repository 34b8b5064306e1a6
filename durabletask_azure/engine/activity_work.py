"""One activity task being run: from the serialised input to the recorded outcome and the message that tells it.

Nothing user code does gets out of here: every exception, ``SystemExit`` and ``KeyboardInterrupt`` included, and a
result that cannot be serialised become the failure of this task (B80, B122). Only a cancellation does: whether it was
the executor's own, or the task has failed of it, the executor knows.

A unit can also be run by another process: its :class:`ActivityRequest` is made into the same unit there, and the
:class:`ActivityReply` that comes back says what came of it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import msgspec

from durabletask_azure.core.activity_context import ActivityContext
from durabletask_azure.core.codec import rebuilt_as_declared
from durabletask_azure.core.definitions import ActivityDefinition
from durabletask_azure.core.failures import FailureDetails, describe_failure, qualified_name, truncate
from durabletask_azure.core.history import TaskCompletedEvent, TaskFailedEvent
from durabletask_azure.core.messages import ActivityTask, ToPartition
from durabletask_azure.core.outbox import to_instance
from durabletask_azure.core.partitioning import stable_id
from durabletask_azure.core.payload_codec import NO_CODECS
from durabletask_azure.core.payloads import Payload, PayloadWriter
from durabletask_azure.core.record import store_failure
from durabletask_azure.core.registry import Registry
from durabletask_azure.core.replay import RuntimeOptions
from durabletask_azure.errors import ActivityNotRegisteredError, PayloadTooLargeError

__all__ = [
    "ActivityReply",
    "ActivityRequest",
    "ActivityWork",
    "describe",
    "describe_briefly",
    "not_registered",
    "properties_function",
    "stored_ending",
    "task_ended",
    "task_failed",
]

_BRIEF_BYTES_MAX = 1_000
_NEVER_AWAITABLE = frozenset({type(None), bool, int, float, str, list, dict, tuple})
"""What activities mostly return: asking each whether it can be awaited costs more than running a small one."""


class ActivityRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker process has to run: the function's name there, the task without its input, and the input's text."""

    target: str
    task: ActivityTask
    text: str | None
    delivery_count: int


class ActivityReply(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    result: str | None
    failure: FailureDetails | None


_request_encoder = msgspec.json.Encoder()
_reply_decoder = msgspec.json.Decoder(ActivityReply)


class ActivityWork(msgspec.Struct, eq=False):
    """A unit of work of an :class:`ActivityExecutor`; when done, ``failure`` is set or ``result`` is the result.

    ``key`` is the caller's name for it. With ``is_lost`` there is no result: the process that ran it has died of it.
    """

    key: int
    definition: ActivityDefinition
    task: ActivityTask
    text: str | None
    delivery_count: int
    options: RuntimeOptions
    result: str | None = None
    failure: FailureDetails | None = None
    is_lost: bool = False

    @property
    def is_async(self) -> bool:
        """Whether the activity is registered as async."""
        return self.definition.is_async

    @property
    def process_target(self) -> str | None:
        """The name a worker process finds the activity by, ``None`` if it does not run in one."""
        return None if self.definition.process is None else self.definition.process.path

    def request(self) -> bytes:
        """Return what a worker process needs to run it, as an encoded :class:`ActivityRequest`."""
        assert self.definition.process is not None
        return _request_encoder.encode(
            ActivityRequest(
                target=self.definition.process.path,
                task=msgspec.structs.replace(self.task, input=None, tags=None),
                text=self.options.codecs.decode(self.text),
                delivery_count=self.delivery_count,
            )
        )

    def answered(self, reply: bytes) -> None:
        """Take over what came of it in a worker process, an encoded :class:`ActivityReply`."""
        answer, codecs = _reply_decoder.decode(reply), self.options.codecs
        self.result = codecs.encode(answer.result)
        # The process has no codecs: what it says is as if stored without.
        plain = None if answer.failure is None else NO_CODECS.decode_failure(answer.failure)
        self.failure = None if plain is None else codecs.encode_failure(plain)

    def lost(self) -> None:
        """Take note that the worker process died before it answered."""
        self.is_lost = True

    def run(self) -> Awaitable[Any] | None:
        """Run a sync activity; what turns out to be an awaitable is returned for :meth:`run_async`."""
        try:
            value = self._call()
            if type(value) not in _NEVER_AWAITABLE and inspect.isawaitable(value):
                return value
            self.result = self.options.codec.serialize(value)
        except BaseException as error:  # also SystemExit: user code must not end a thread of ours
            self.fail(error)
        return None

    async def run_async(self, awaitable: Awaitable[Any] | None) -> None:
        """Run an async activity, or finish one that :meth:`run` began."""
        try:
            value = self._call() if awaitable is None else awaitable
            if inspect.isawaitable(value):
                value = await value
            self.result = self.options.codec.serialize(value)
        except (GeneratorExit, asyncio.CancelledError):
            raise
        except BaseException as error:  # also SystemExit: it would stop the event loop
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Record ``error`` as the failure of this task."""
        self.failure = describe(error, self.options)

    def _call(self) -> Any:
        """Call the activity; what it returns may be awaitable."""
        return self.definition.fn(self._context(), self._input())

    def _context(self) -> ActivityContext:
        task = self.task
        return ActivityContext(
            task.instance_id,
            task.task_id,
            name=task.name,
            execution_id=task.execution_id,
            version=task.version,
            delivery_count=self.delivery_count,
        )

    def _input(self) -> Any:
        return rebuilt_as_declared(self.options.codec, self.text, self.definition.input_type)


def describe(error: BaseException, options: RuntimeOptions) -> FailureDetails:
    """Return the record of an error, with the user's own properties of it (B78, B81)."""
    properties: dict[str, Any] | None = None
    if options.exception_properties is not None:
        try:
            properties = options.exception_properties(error)
            msgspec.json.encode(properties)
        except Exception:  # what only describes an error must not hide it
            properties = None
    failure = describe_failure(error, text_bytes_max=options.failure_text_bytes_max, properties=properties)
    return options.codecs.encode_failure(failure)


def properties_function(provider: Any) -> Callable[[BaseException], dict[str, Any] | None] | None:
    """Return what asks a provider of exception properties, ``None`` without one."""
    if provider is None:
        return None

    def properties(error: BaseException) -> dict[str, Any] | None:
        found = provider.get_exception_properties(error) if isinstance(error, Exception) else None
        return dict(found) if found is not None else None

    return properties


def describe_briefly(error: BaseException) -> FailureDetails:
    """Return the record of an error that has room in a message whatever the settings: type and text only."""
    message = truncate(str(error), _BRIEF_BYTES_MAX)
    return FailureDetails(message=message, error_type=qualified_name(type(error)))


def not_registered(task: ActivityTask, registry: Registry, options: RuntimeOptions) -> FailureDetails:
    """Return the failure of a task whose activity this worker, which takes it, does not know."""
    known = ", ".join(sorted(definition.name for definition in registry.activities)) or "none"
    message = f"no activity {task.name!r} is registered (registered: {known})"
    return describe(ActivityNotRegisteredError(message), options)


def stored_ending(
    task: ActivityTask,
    text: str | None,
    failure: FailureDetails | None,
    writer: PayloadWriter,
    at: datetime,
    options: RuntimeOptions,
) -> TaskCompletedEvent | TaskFailedEvent:
    """Return the event that ends ``task``, large values left to ``writer``; a result over the cap is a failure."""
    home = {"instance_id": task.instance_id, "execution_id": task.execution_id}
    result: Payload = None
    if failure is None:
        try:
            result = writer.store(text, **home, what=f"the result of activity {task.name!r}")
        except PayloadTooLargeError as error:
            failure = describe(error, options)
    if failure is None:
        return TaskCompletedEvent(timestamp=at, task_scheduled_id=task.task_id, result=result)
    stored = store_failure(failure, writer, **home)
    return TaskFailedEvent(timestamp=at, task_scheduled_id=task.task_id, failure=stored)


def task_failed(task: ActivityTask, failure: FailureDetails, *, at: datetime, partitions: int) -> ToPartition:
    """Return the message that ends ``task`` with ``failure``, a small one."""
    body = TaskFailedEvent(timestamp=at, task_scheduled_id=task.task_id, failure=failure)
    return task_ended(task, body, partitions=partitions)


def task_ended(
    task: ActivityTask, body: TaskCompletedEvent | TaskFailedEvent, *, partitions: int
) -> ToPartition:
    """Return the message that ends ``task``, of the same id each time."""
    return to_instance(
        task.instance_id,
        body,
        message_id=stable_id(task.id, "done"),
        partitions=partitions,
        execution_id=task.execution_id,
    )
