"""What an orchestrator decided in one turn: the result of ``execute``, as data.

Values are serialised JSON text here; the commit plan decides what spills. ``id`` is the action's sequence number in its
execution (1, 2, 3, ...) and becomes the ``event_id`` of the event that records it.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import EventRaisedEvent

__all__ = [
    "Action",
    "Completed",
    "Completion",
    "ContinuedAsNew",
    "CreateTimer",
    "Decision",
    "Failed",
    "ScheduleTask",
    "SendEvent",
    "StartSubOrchestration",
]


class ScheduleTask(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Call an activity."""

    id: int
    name: str
    input: str | None = None
    version: str | None = None
    tags: dict[str, str] | None = None


class StartSubOrchestration(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Start a sub-orchestration; ``instance_id`` is always set (generated ids are deterministic)."""

    id: int
    name: str
    instance_id: str
    input: str | None = None
    version: str | None = None
    tags: dict[str, str] | None = None


class CreateTimer(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Create a timer; with ``final_fire_at`` it is a part of a longer one, which goes on when the part has fired."""

    id: int
    fire_at: datetime
    final_fire_at: datetime | None = None


class SendEvent(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Send an event to another instance."""

    id: int
    instance_id: str
    name: str
    input: str | None = None


Action = ScheduleTask | StartSubOrchestration | CreateTimer | SendEvent


class Completed(msgspec.Struct, frozen=True, gc=False):
    """The orchestrator returned."""

    result: str | None


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The orchestrator raised, or its replay was not deterministic."""

    failure: FailureDetails


class ContinuedAsNew(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The orchestrator asked for a new execution; ``carried`` are the unconsumed events it keeps."""

    input: str | None
    version: str | None = None
    carried: tuple[EventRaisedEvent, ...] = ()


Completion = Completed | Failed | ContinuedAsNew


class Decision(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Everything one turn of an orchestrator decided.

    ``custom_status`` is the JSON text last set (``None`` if cleared or never set); ``custom_status_set`` tells whether
    this turn set it. ``cancelled_timers`` are ids of timers in history that nobody waits for any more. ``completion``
    is ``None`` while the orchestrator still waits. ``unfed`` counts the last of the new events: those that came after
    the orchestrator had finished and were not given to it.
    """

    actions: tuple[Action, ...] = ()
    completion: Completion | None = None
    custom_status: str | None = None
    custom_status_set: bool = False
    cancelled_timers: tuple[int, ...] = ()
    unfed: int = 0
