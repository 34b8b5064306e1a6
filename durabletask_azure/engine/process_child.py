"""A worker process: takes activities from the process that started it, runs them one at a time, answers.

It has no hub: input and result cross as text, the function by its name. It ends when the pipe is closed, and with the
process that started it, however that one ends. Signals to the whole group (Ctrl-C, a service manager's SIGTERM) it
leaves to that process, which drains.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
import threading
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from durabletask_azure.core.codec import DataConverter
from durabletask_azure.core.definitions import ActivityDefinition
from durabletask_azure.core.registry import Registry
from durabletask_azure.core.replay import RuntimeOptions
from durabletask_azure.engine.activity_work import (
    ActivityReply,
    ActivityRequest,
    ActivityWork,
    describe_briefly,
    properties_function,
)
from durabletask_azure.errors import ConfigurationError

__all__ = ["ProcessSetup", "find_target", "serve"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_request_decoder = msgspec.json.Decoder(ActivityRequest)
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class ProcessSetup:
    """What a worker process is given once, when it starts: all of it is pickled."""

    converter: DataConverter
    properties_provider: Any
    failure_text_bytes_max: int


def find_target(path: str) -> Any:
    """Return the function or class of a name ``module:qualified.name``, importing its module.

    Raises:
        ConfigurationError: there is none, or importing its module fails.
    """
    module, _, names = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in names.split("."):
            found = getattr(found, name)
    except Exception as error:  # whatever the module raises
        raise ConfigurationError(
            f"a worker process cannot find {names!r} of module {module!r}: {type(error).__name__}: {error}"
        ) from error
    return found


def serve(pipe: Connection, setup: ProcessSetup) -> None:
    """Run what comes through ``pipe`` until it is closed."""
    _leave_signals_to_parent()
    if hasattr(signal, "pthread_sigmask"):  # they were blocked until now, see the parent
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    options = RuntimeOptions(
        codec=setup.converter,
        failure_text_bytes_max=setup.failure_text_bytes_max,
        exception_properties=properties_function(setup.properties_provider),
    )
    definitions: dict[tuple[str, str], ActivityDefinition] = {}
    try:
        pipe.send_bytes(b"ready")
        while True:
            pipe.send_bytes(_answer(pipe.recv_bytes(), options, definitions))
    except (EOFError, OSError):
        return


def _leave_signals_to_parent() -> None:
    """Pass over Ctrl-C and SIGTERM here, not in processes that an activity starts: it ends them by SIGTERM."""
    # A handler, not SIG_IGN, which a new program would inherit.
    handlers = {number: signal.signal(number, _pass_over) for number in _SIGNALS}
    if sys.platform == "win32":
        return

    def restore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    # Blocked while a fork is under way: Python drops what arrives before a forked process runs its own code.
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS),
        after_in_child=restore,
    )


def _pass_over(_number: int, _frame: object) -> None:
    """The parent drains."""


def _end_with_parent() -> None:
    """End this process at once when the one that started it is gone: nobody waits for its result any more."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _answer(
    data: bytes, options: RuntimeOptions, definitions: dict[tuple[str, str], ActivityDefinition]
) -> bytes:
    """Return the encoded reply to a request. Never raises: what goes wrong is the failure of the activity."""
    try:
        request = _request_decoder.decode(data)
        key = (request.target, request.task.name)
        if key not in definitions:
            registry = Registry()
            registry.add_activity(find_target(request.target), name=request.task.name)
            (definitions[key],) = registry.activities
        work = ActivityWork(0, definitions[key], request.task, request.text, request.delivery_count, options)
        _run(work)
        return _encoder.encode(ActivityReply(result=work.result, failure=work.failure))
    except (
        BaseException
    ) as error:  # also SystemExit from importing the module, and a result that UTF-8 cannot hold
        return _encoder.encode(ActivityReply(result=None, failure=describe_briefly(error)))


def _run(work: ActivityWork) -> None:
    awaitable = None if work.is_async else work.run()
    if awaitable is None and not work.is_async:
        return
    try:
        asyncio.run(work.run_async(awaitable))
    except BaseException as error:  # a cancellation by user code: there is nobody else here to cancel it
        work.fail(error)
