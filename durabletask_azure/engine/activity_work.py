"""One activity task being run: from the serialised input to the serialised result or the recorded failure.

Nothing user code does gets out of here: every exception, ``SystemExit`` and ``KeyboardInterrupt`` included, and a
result that cannot be serialised become the failure of this task (B80, B122). Only being cancelled from outside does.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from typing import Any

import msgspec

from durabletask_azure.core.activity_context import ActivityContext
from durabletask_azure.core.definitions import ActivityDefinition
from durabletask_azure.core.failures import FailureDetails, describe_failure
from durabletask_azure.core.messages import ActivityTask
from durabletask_azure.core.replay import RuntimeOptions

__all__ = ["ActivityWork", "describe"]


class ActivityWork:
    """A unit of work of an :class:`ActivityExecutor`; when done, ``failure`` is set or ``result`` is the result.

    ``key`` is the caller's name for it.
    """

    __slots__ = ("_definition", "_options", "_task", "_text", "delivery_count", "failure", "key", "result")

    def __init__(
        self,
        key: int,
        definition: ActivityDefinition,
        task: ActivityTask,
        text: str | None,
        delivery_count: int,
        options: RuntimeOptions,
    ) -> None:
        self.key = key
        self.delivery_count = delivery_count
        self.result: str | None = None
        self.failure: FailureDetails | None = None
        self._definition = definition
        self._task = task
        self._text = text
        self._options = options

    @property
    def is_async(self) -> bool:
        """Whether the activity is registered as async."""
        return self._definition.is_async

    def run(self) -> Awaitable[Any] | None:
        """Run a sync activity; what turns out to be an awaitable is returned for :meth:`run_async`."""
        try:
            value = self._call()
            if inspect.isawaitable(value):
                return value
            self.result = self._options.codec.serialize(value)
        except BaseException as error:  # also SystemExit: user code must not end a thread of ours
            self._fail(error)
        return None

    async def run_async(self, awaitable: Awaitable[Any] | None) -> None:
        """Run an async activity, or finish one that :meth:`run` began."""
        try:
            value = self._call() if awaitable is None else awaitable
            if inspect.isawaitable(value):
                value = await value
            self.result = self._options.codec.serialize(value)
        except GeneratorExit:
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._fail(error)
        except BaseException as error:  # also SystemExit: it would stop the event loop
            self._fail(error)

    def _call(self) -> Any:
        task = self._task
        context = ActivityContext(
            task.instance_id,
            task.task_id,
            name=task.name,
            execution_id=task.execution_id,
            version=task.version,
            delivery_count=self.delivery_count,
        )
        value = self._options.codec.deserialize(self._text, self._definition.input_type)
        return self._definition.fn(context, value)

    def _fail(self, error: BaseException) -> None:
        self.failure = describe(error, self._options)


def describe(error: BaseException, options: RuntimeOptions) -> FailureDetails:
    """Return the record of an error, with the user's own properties of it (B78, B81)."""
    properties: dict[str, Any] | None = None
    if options.exception_properties is not None:
        try:
            properties = options.exception_properties(error)
            msgspec.json.encode(properties)
        except Exception:  # what only describes an error must not hide it
            properties = None
    return describe_failure(error, text_bytes_max=options.failure_text_bytes_max, properties=properties)
