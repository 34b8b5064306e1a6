"""How an orchestrator calls activities and sub-orchestrations: the part of its context that is typed by what is called.

There is one overload for each kind of thing that can be called and each way it can return, so that both pyright and
mypy find the result and check the input. At run time there is one method each, and nothing depends on the overloads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from functools import lru_cache
from types import FunctionType
from typing import Any, TypeVar, overload

from durabletask_azure.core.annotations import signature_of
from durabletask_azure.core.callables import (
    ActivityAlone,
    ActivityObjectAlone,
    ActivityObjectTaking,
    ActivityTaking,
    ObjectToExecute,
    ObjectToRun,
    OrchestratorAlone,
    OrchestratorTaking,
    RunsAlone,
    RunsWithInput,
)
from durabletask_azure.core.journal import Journal, child_action
from durabletask_azure.core.naming import check_instance_id, check_tags, check_version, target_name
from durabletask_azure.core.retry import RetryPolicy
from durabletask_azure.core.tasks import CompletableTask
from durabletask_azure.errors import ArgumentTypeError

__all__ = ["CallingContext"]

T = TypeVar("T")
TInput = TypeVar("TInput")


class CallingContext:
    """The calls of one execution; :class:`durabletask_azure.core.context.OrchestrationContext` has the rest."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @overload
    def call_activity(
        self,
        activity: str,
        *,
        input: Any = ...,
        retry_policy: RetryPolicy | None = ...,
        tags: dict[str, str] | None = ...,
        return_type: None = ...,
    ) -> CompletableTask[Any]: ...

    @overload
    def call_activity(
        self,
        activity: ActivityTaking[TInput, object]
        | ActivityAlone[object]
        | ObjectToRun
        | ObjectToExecute
        | str,
        *,
        input: TInput = ...,
        retry_policy: RetryPolicy | None = ...,
        tags: dict[str, str] | None = ...,
        return_type: type[T],
    ) -> CompletableTask[T]: ...

    @overload
    def call_activity(
        self,
        activity: ActivityTaking[TInput, Awaitable[T]],
        *,
        input: TInput,
        retry_policy: RetryPolicy | None = ...,
        tags: dict[str, str] | None = ...,
        return_type: None = ...,
    ) -> CompletableTask[T]: ...

    @overload
    def call_activity(
        self,
        activity: ActivityTaking[TInput, Awaitable[T] | T],
        *,
        input: TInput,
        retry_policy: RetryPolicy | None = ...,
        tags: dict[str, str] | None = ...,
        return_type: None = ...,
    ) -> CompletableTask[T]: ...

    @overload
    def call_activity(
        self,
        activity: ActivityAlone[Awaitable[T]] | ActivityTaking[None, Awaitable[T]],
        *,
        input: None = ...,
        retry_policy: RetryPolicy | None = ...,
        tags: dict[str, str] | None = ...,
        return_type: None = ...,
    ) -> CompletableTask[T]: ...

    @overload
    def call_activity(
        self,
        activity: ActivityAlone[Awaitable[T] | T] | ActivityTaking[None, Awaitable[T] | T],
        *,
        input: None = ...,
        retry_policy: RetryPolicy | None = ...,
        tags: dict[str, str] | None = ...,
        return_type: None = ...,
    ) -> CompletableTask[T]: ...

    @overload
    def call_activity(
        self,
        activity: ActivityObjectTaking[TInput, Awaitable[T]],
        *,
        input: TInput,
        retry_policy: RetryPolicy | None = ...,
        tags: dict[str, str] | None = ...,
        return_type: None = ...,
    ) -> CompletableTask[T]: ...

    @overload
    def call_activity(
        self,
        activity: ActivityObjectTaking[TInput, Awaitable[T] | T],
        *,
        input: TInput,
        retry_policy: RetryPolicy | None = ...,
        tags: dict[str, str] | None = ...,
        return_type: None = ...,
    ) -> CompletableTask[T]: ...

    @overload
    def call_activity(
        self,
        activity: ActivityObjectAlone[Awaitable[T]] | ActivityObjectTaking[None, Awaitable[T]],
        *,
        input: None = ...,
        retry_policy: RetryPolicy | None = ...,
        tags: dict[str, str] | None = ...,
        return_type: None = ...,
    ) -> CompletableTask[T]: ...

    @overload
    def call_activity(
        self,
        activity: ActivityObjectAlone[Awaitable[T] | T] | ActivityObjectTaking[None, Awaitable[T] | T],
        *,
        input: None = ...,
        retry_policy: RetryPolicy | None = ...,
        tags: dict[str, str] | None = ...,
        return_type: None = ...,
    ) -> CompletableTask[T]: ...

    def call_activity(
        self,
        activity: Any,
        *,
        input: Any = None,
        retry_policy: RetryPolicy | None = None,
        tags: dict[str, str] | None = None,
        return_type: Any = None,
    ) -> CompletableTask[Any]:
        """Schedule an activity, given by name, function, class or instance, and return the task of its result.

        ``return_type`` is what the result is rebuilt as; without it, the function's return annotation.

        Raises:
            TypeError: an argument is of a wrong type. ValueError: the name is not allowed.
            SerializationError: the input cannot be stored.
        """
        journal = self._journal
        name = target_name(activity, "activity", chars_max=journal.options.name_chars_max)
        if retry_policy is not None:
            _check_policy(retry_policy)
        text = journal.text_of(input)
        tags = None if tags is None else check_tags(tags)
        if return_type is None and not isinstance(activity, str):
            return_type = self._declared_result(activity)
        return journal.call_activity(name, text, tags, return_type=return_type, policy=retry_policy)

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: str,
        *,
        input: Any = ...,
        instance_id: str | None = ...,
        retry_policy: RetryPolicy | None = ...,
        version: str | None = ...,
        return_type: None = ...,
        tags: dict[str, str] | None = ...,
    ) -> CompletableTask[Any]: ...

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: OrchestratorTaking[TInput, object] | OrchestratorAlone[object] | ObjectToRun | str,
        *,
        input: TInput = ...,
        instance_id: str | None = ...,
        retry_policy: RetryPolicy | None = ...,
        version: str | None = ...,
        return_type: type[T],
        tags: dict[str, str] | None = ...,
    ) -> CompletableTask[T]: ...

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: OrchestratorTaking[TInput, Generator[Any, Any, T]],
        *,
        input: TInput,
        instance_id: str | None = ...,
        retry_policy: RetryPolicy | None = ...,
        version: str | None = ...,
        return_type: None = ...,
        tags: dict[str, str] | None = ...,
    ) -> CompletableTask[T]: ...

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: OrchestratorTaking[TInput, Awaitable[T]],
        *,
        input: TInput,
        instance_id: str | None = ...,
        retry_policy: RetryPolicy | None = ...,
        version: str | None = ...,
        return_type: None = ...,
        tags: dict[str, str] | None = ...,
    ) -> CompletableTask[T]: ...

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: OrchestratorTaking[TInput, Generator[Any, Any, T] | Awaitable[T] | T],
        *,
        input: TInput,
        instance_id: str | None = ...,
        retry_policy: RetryPolicy | None = ...,
        version: str | None = ...,
        return_type: None = ...,
        tags: dict[str, str] | None = ...,
    ) -> CompletableTask[T]: ...

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: OrchestratorAlone[Generator[Any, Any, T]]
        | OrchestratorTaking[None, Generator[Any, Any, T]],
        *,
        input: None = ...,
        instance_id: str | None = ...,
        retry_policy: RetryPolicy | None = ...,
        version: str | None = ...,
        return_type: None = ...,
        tags: dict[str, str] | None = ...,
    ) -> CompletableTask[T]: ...

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: OrchestratorAlone[Awaitable[T]] | OrchestratorTaking[None, Awaitable[T]],
        *,
        input: None = ...,
        instance_id: str | None = ...,
        retry_policy: RetryPolicy | None = ...,
        version: str | None = ...,
        return_type: None = ...,
        tags: dict[str, str] | None = ...,
    ) -> CompletableTask[T]: ...

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: OrchestratorAlone[Generator[Any, Any, T] | Awaitable[T] | T]
        | OrchestratorTaking[None, Generator[Any, Any, T] | Awaitable[T] | T],
        *,
        input: None = ...,
        instance_id: str | None = ...,
        retry_policy: RetryPolicy | None = ...,
        version: str | None = ...,
        return_type: None = ...,
        tags: dict[str, str] | None = ...,
    ) -> CompletableTask[T]: ...

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: RunsWithInput[TInput, Generator[Any, Any, T]],
        *,
        input: TInput,
        instance_id: str | None = ...,
        retry_policy: RetryPolicy | None = ...,
        version: str | None = ...,
        return_type: None = ...,
        tags: dict[str, str] | None = ...,
    ) -> CompletableTask[T]: ...

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: RunsWithInput[TInput, Awaitable[T]],
        *,
        input: TInput,
        instance_id: str | None = ...,
        retry_policy: RetryPolicy | None = ...,
        version: str | None = ...,
        return_type: None = ...,
        tags: dict[str, str] | None = ...,
    ) -> CompletableTask[T]: ...

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: RunsWithInput[TInput, Generator[Any, Any, T] | Awaitable[T] | T],
        *,
        input: TInput,
        instance_id: str | None = ...,
        retry_policy: RetryPolicy | None = ...,
        version: str | None = ...,
        return_type: None = ...,
        tags: dict[str, str] | None = ...,
    ) -> CompletableTask[T]: ...

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: RunsAlone[Generator[Any, Any, T]] | RunsWithInput[None, Generator[Any, Any, T]],
        *,
        input: None = ...,
        instance_id: str | None = ...,
        retry_policy: RetryPolicy | None = ...,
        version: str | None = ...,
        return_type: None = ...,
        tags: dict[str, str] | None = ...,
    ) -> CompletableTask[T]: ...

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: RunsAlone[Awaitable[T]] | RunsWithInput[None, Awaitable[T]],
        *,
        input: None = ...,
        instance_id: str | None = ...,
        retry_policy: RetryPolicy | None = ...,
        version: str | None = ...,
        return_type: None = ...,
        tags: dict[str, str] | None = ...,
    ) -> CompletableTask[T]: ...

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: RunsAlone[Generator[Any, Any, T] | Awaitable[T] | T]
        | RunsWithInput[None, Generator[Any, Any, T] | Awaitable[T] | T],
        *,
        input: None = ...,
        instance_id: str | None = ...,
        retry_policy: RetryPolicy | None = ...,
        version: str | None = ...,
        return_type: None = ...,
        tags: dict[str, str] | None = ...,
    ) -> CompletableTask[T]: ...

    def call_sub_orchestrator(
        self,
        orchestrator: Any,
        *,
        input: Any = None,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        version: str | None = None,
        return_type: Any = None,
        tags: dict[str, str] | None = None,
    ) -> CompletableTask[Any]:
        """Start a sub-orchestration and return the task of its result.

        Without ``instance_id`` the id comes from this execution's and the call's number; a retry gets a new one. The
        child has this instance's tags, overridden by ``tags``.

        Raises:
            TypeError: an argument is of a wrong type. ValueError: the name or instance id is not allowed.
            SerializationError: the input cannot be stored.
        """
        journal = self._journal
        name = self._name(orchestrator, "orchestrator")
        _check_policy(retry_policy)
        if instance_id is not None:
            self._check_instance_id(instance_id)
        merged = {**journal.start.tags, **(check_tags(tags) or {})}
        make = child_action(
            journal,
            name=name,
            instance_id=instance_id,
            text=self._text(input),
            version=self._version(version) or journal.options.default_version,
            tags=merged or None,
        )
        if return_type is None and not isinstance(orchestrator, str):
            return_type = self._declared_result(orchestrator)
        return journal.call(name, make, is_child=True, return_type=return_type, policy=retry_policy)

    # ------------------------------------------------------------ checks

    def _text(self, value: Any) -> str | None:
        return self._journal.text_of(value)

    def _name(self, target: Any, what: str) -> str:
        return target_name(target, what, chars_max=self._journal.options.name_chars_max)

    def _version(self, version: str | None) -> str | None:
        return check_version(version, chars_max=self._journal.options.name_chars_max)

    def _declared_result(self, target: Any) -> Any:
        result = _result_of_function(target) if type(target) is FunctionType else _result_of(target)
        return result if self._journal.options.codec.can_reconstruct(result) else None

    def _check_instance_id(self, instance_id: str) -> None:
        check_instance_id(instance_id, chars_max=self._journal.options.instance_id_chars_max)


def _check_policy(policy: object) -> None:
    if policy is not None and not isinstance(policy, RetryPolicy):
        raise ArgumentTypeError(f"retry_policy must be a RetryPolicy, not {type(policy).__name__}")


def _result_of(target: Any) -> Any:
    signature = signature_of(_method(target))
    result = signature.result
    made = _method(result) if signature.positional == 0 else None
    if made is not None and made is not result:  # a factory: what it makes does the work
        return signature_of(made).result
    return result


_result_of_function = lru_cache(maxsize=4_096)(_result_of)
"""Functions alone are sure to be told apart."""


def _method(target: Any) -> Any:
    if isinstance(target, type) or not callable(target):
        return getattr(target, "run", None) or getattr(target, "execute", target)
    return target
