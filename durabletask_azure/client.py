"""Starting, asking about and steering orchestrations: ``TaskHubClient`` and its async twin.

Arguments are checked and values serialised in the caller's thread, before anything is written; ``_Requests`` does that
once for both clients. What then happens is ``engine.operations``. A client owns nothing: closing the hub ends it.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Generator
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from durabletask_azure import history
from durabletask_azure.core.codec import DataConverter, JsonDataConverter
from durabletask_azure.core.context import OrchestrationContext
from durabletask_azure.core.naming import check_name, get_name
from durabletask_azure.engine.operations import ClientOperations, StartRequest
from durabletask_azure.errors import ConfigurationError, OrchestrationFailedError
from durabletask_azure.hosting import HubHost
from durabletask_azure.ports import InstanceFilter
from durabletask_azure.query import (
    OrchestrationQuery,
    OrchestrationState,
    OrchestrationStatus,
    Page,
    PurgeInstancesResult,
    aware_utc,
    state_of,
    stored_statuses,
)

__all__ = [
    "AsyncTaskHubClient",
    "OrchestrationFailedError",
    "OrchestrationQuery",
    "OrchestrationState",
    "OrchestrationStatus",
    "Page",
    "PurgeInstancesResult",
    "TaskHubClient",
]
