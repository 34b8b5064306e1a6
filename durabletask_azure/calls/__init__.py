"""A client's calls, once for both clients: arguments checked, values serialised, the rest left as a coroutine to run.

Everything here runs in the caller's thread and raises there, before anything is written. What is returned runs on the
hub's thread and touches no user code. One kind of call each in this folder.
"""

from __future__ import annotations

import logging

from durabletask_azure.calls.arguments import Arguments
from durabletask_azure.calls.operations import Operations
from durabletask_azure.calls.purging import PurgingCalls
from durabletask_azure.calls.reading import ReadingCalls
from durabletask_azure.calls.rewinding import RewindingCalls
from durabletask_azure.calls.starting import BulkStarts
from durabletask_azure.calls.steering import SteeringCalls
from durabletask_azure.calls.upkeep import UpkeepCalls
from durabletask_azure.core.codec import DataConverter
from durabletask_azure.hosting import HubHost, checked_host, checked_logger

__all__ = ["ClientCalls"]


class ClientCalls:
    """The calls of one client on one hub."""

    def __init__(
        self,
        hub: HubHost,
        *,
        default_version: str | None,
        converter: DataConverter | None,
        logger: logging.Logger | None,
    ) -> None:
        host = checked_host(hub)
        operations = Operations(host)
        arguments = Arguments(
            host.settings, default_version=default_version, converter=converter, codecs=host.payload_codecs
        )
        log = checked_logger(logger, "durabletask_azure.client")
        self.steering = SteeringCalls(operations, arguments, log)
        self.reading = ReadingCalls(operations, arguments, log)
        self.purging = PurgingCalls(operations, arguments, log)
        self.bulk = BulkStarts(operations, arguments, log)
        self.upkeep = UpkeepCalls(operations, log)
        self.rewinding = RewindingCalls(operations, arguments, log)
