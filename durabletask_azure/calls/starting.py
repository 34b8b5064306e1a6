"""Starting many orchestrations: portions that bound what is in memory and under way, and a result for each request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any

from durabletask_azure.bulk import BulkProgress, BulkStartResult, NewOrchestration, StartResult
from durabletask_azure.calls.arguments import Arguments, Call
from durabletask_azure.calls.operations import Operations, new_id
from durabletask_azure.calls.steering import SteeringCalls
from durabletask_azure.calls.steps import OnProgress, Steps, checked_progress
from durabletask_azure.core.codec import DataConverter
from durabletask_azure.errors import (
    ArgumentTypeError,
    BulkInterruptedError,
    DurableTaskError,
    HubUnavailableError,
    QueueFullError,
    SerializationError,
    ThrottledError,
)

__all__ = ["BulkStarts"]

_UNREACHABLE = (HubUnavailableError, QueueFullError, ThrottledError)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request that may be started, or why it may not."""

    instance_id: str | None
    call: Call[str] | None
    error: DurableTaskError | None = None


class BulkStarts:
    """Starts many orchestrations in one call."""

    def __init__(self, operations: Operations, arguments: Arguments, logger: logging.Logger) -> None:
        self._operations = operations
        self._arguments = arguments
        self._logger = logger

    def start_all(
        self, requests: Iterable[NewOrchestration], *, on_progress: OnProgress | None
    ) -> Steps[BulkStartResult]:
        """Start an orchestration for each request."""
        checked_progress(on_progress)
        if isinstance(requests, NewOrchestration) or not isinstance(requests, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(
                f"requests must be several NewOrchestration, such as a list, not {type(requests).__name__}"
            )
        total = len(requests) if isinstance(requests, Sized) else None
        self._logger.info("starting %s new instances", "many" if total is None else total)
        return self._steps(iter(requests), total, on_progress)

    def _steps(
        self, requests: Iterator[NewOrchestration], total: int | None, on_progress: OnProgress | None
    ) -> Steps[BulkStartResult]:
        results: list[StartResult] = []
        refused = 0
        preparing = _Preparing(self._operations, self._arguments, self._logger)
        try:
            while portion := preparing.portion(requests):
                try:
                    outcomes: list[StartResult] = yield lambda portion=portion: _start(portion)
                except Exception as error:
                    results += [StartResult(one.instance_id, one.error or _unknown(error)) for one in portion]
                    raise
                results += outcomes
                refused += sum(not one.is_started for one in outcomes)
                if on_progress is not None:
                    on_progress(BulkProgress(len(results) - refused, refused, total))
                if all(isinstance(one.error, _UNREACHABLE) for one in outcomes):
                    raise HubUnavailableError(f"no start came through any more: {outcomes[-1].error}")
        except Exception as error:
            raise BulkInterruptedError(
                f"starting was interrupted after {len(results):,} requests: {error}",
                BulkStartResult(tuple(results)),
            ) from error
        return BulkStartResult(tuple(results))


class _Preparing:
    """Takes requests in portions, bounded in number and in the size of what they hold."""

    def __init__(self, operations: Operations, arguments: Arguments, logger: logging.Logger) -> None:
        self._settings = arguments.settings
        self._measured = _Measured(arguments.plain)
        own = Arguments(
            arguments.settings,
            default_version=arguments.default_version,
            converter=self._measured,
            codecs=arguments.codecs,
        )
        self._steering = SteeringCalls(operations, own, logger)

    def portion(self, requests: Iterator[NewOrchestration]) -> list[_Prepared]:
        """Return the next requests, none at the end."""
        self._measured.chars = 0
        portion: list[_Prepared] = []
        for request in requests:
            portion.append(self._prepared(request))
            if (
                len(portion) >= self._settings.bulk_portion_max
                or self._measured.chars >= self._settings.bulk_portion_bytes_max
            ):
                break
        return portion

    def _prepared(self, request: object) -> _Prepared:
        if not isinstance(request, NewOrchestration):
            error = ArgumentTypeError(f"a request must be a NewOrchestration, not {type(request).__name__}")
            return _Prepared(None, None, error)
        given = request.instance_id
        instance_id = new_id() if given is None else given
        try:
            call = self._steering.schedule(
                request.orchestrator,
                input=request.input,
                instance_id=instance_id,
                start_at=request.start_at,
                tags=request.tags,
                version=request.version,
                raise_event=request.raise_event,
                reuse_id_policy=request.reuse_id_policy,
            )
        except Exception as error:
            known = instance_id if isinstance(given, str) else None
            return _Prepared(known, None, _refusal(error))
        return _Prepared(instance_id, call)


class _Measured(DataConverter):
    """Another converter, and how much text it made."""

    def __init__(self, converter: DataConverter) -> None:
        self._converter = converter
        self.chars = 0

    def serialize(self, value: Any) -> str | None:
        text = self._converter.serialize(value)
        self.chars += len(text) if isinstance(text, str) else 0
        return text

    def deserialize(self, data: str | None, target_type: Any = None) -> Any:
        return self._converter.deserialize(data, target_type)


async def _start(portion: list[_Prepared]) -> list[StartResult]:
    """Start what may be started, all at once: the hub commits them in groups."""

    async def one(prepared: _Prepared) -> StartResult:
        if prepared.call is None:
            return StartResult(prepared.instance_id, prepared.error)
        try:
            return StartResult(await prepared.call())
        except DurableTaskError as error:
            return StartResult(prepared.instance_id, error)
        except Exception as error:
            return StartResult(prepared.instance_id, _unknown(error))

    return await asyncio.gather(*map(one, portion))


def _unknown(error: Exception) -> HubUnavailableError:
    unknown = HubUnavailableError(f"it is unknown whether it was started: {error}")
    unknown.__cause__ = error
    return unknown


def _refusal(error: Exception) -> DurableTaskError:
    """Return the error of a request; what a data converter of the user's raised becomes one of this package."""
    if isinstance(error, DurableTaskError):
        return error
    refusal = SerializationError(f"the request cannot be stored: {type(error).__name__}: {error}")
    refusal.__cause__ = error
    return refusal
