"""Every limit and default of a task hub, with its unit, in one frozen object.

Sizes are bytes of UTF-8 unless the name says otherwise, times are seconds unless the name says otherwise. Sources of
the figures: docs/architecture.md, and the service limits of Azure named beside each value that comes from there.
"""

from __future__ import annotations

import math
import os
from typing import TypeGuard, cast

import msgspec

from durabletask_azure.errors import ConfigurationError
from durabletask_azure.options import KnownOptions

__all__ = ["Settings"]

_KIB = 1024
_MIB = 1024 * 1024
_MAY_BE_ZERO = frozenset({"executions_kept", "pack_delay_s", "activity_prefetch_max", "queue_full_wait_s"})
_RETENTIONS = ("retention_s", "retention_completed_s", "retention_failed_s", "retention_terminated_s")
_ORDERED = (
    ("payload_inline_bytes_max", "payload_bytes_max"),
    ("careful_delivery_count", "delivery_count_max"),
    ("poll_s_min", "poll_s_max"),
)


class Settings(msgspec.Struct, frozen=True, kw_only=True, metaclass=KnownOptions):
    """Limits and defaults of a worker or client; pass one to :class:`TaskHub` to change any of them.

    Raises:
        ConfigurationError: there is no such option, or a value is of the wrong type, outside its range or does not
            fit another; the message says what is allowed.
    """

    # Payloads
    payload_inline_bytes_max: int = 30 * _KIB
    """A larger value is kept in the payload store (a Table property ends at 32,768 UTF-16 units)."""
    payload_bytes_max: int = 10 * _MIB
    """A larger value is refused."""
    payload_compress_bytes_min: int = 4 * _KIB
    """Values in the payload store are compressed from this size on; above ``payload_bytes_max`` none is. It counts, as
    all limits do, bytes before compression."""
    failure_text_bytes_max: int = 16 * _KIB
    """Longer exception messages and stack traces are truncated, and say so."""

    # History
    history_inline_bytes_max: int = 8 * _KIB
    """History kept inside the instance row; beyond it the events move to a segment row."""
    segment_bytes_max: int = 256 * _KIB
    """Target size of one segment row (an entity ends at 1 MiB)."""
    history_events_max: int = 1_000_000
    """Events in the history of one execution, unconsumed external events included; an instance that has more fails.
    Continue-as-new begins a new history."""
    open_tasks_max: int = 250_000
    """Activities, sub-orchestrations and timers an execution may have open at once; beyond it it fails."""
    executions_kept: int = 10
    """Past executions of an instance (continue-as-new) whose history stays readable."""
    seen_ids_s: float = 3600.0
    """How long, by broker time, the id of an applied event is remembered."""
    seen_ids_max: int = 10_000
    """Remembered event ids per instance; beyond it new events wait until old ids expire."""
    pending_bytes_max: int = 24 * _KIB
    """Messages kept in the row of an instance that cannot run yet; beyond it they are parked."""
    tombstone_s: float = 24 * 3600.0
    """How long a purged instance's id refuses late messages."""
    park_delays_s: tuple[float, ...] = (10.0, 60.0, 600.0)
    """Delays after which a message for an unknown instance is tried again; then it is dropped."""

    # Partition loop
    receive_messages_max: int = 200
    """Broker messages taken into one turn of a partition."""
    commit_instances_max: int = 50
    """Instances written by one commit (an entity group transaction ends at 100 rows)."""
    pipeline_turns_max: int = 2
    """Turns of a partition that may run ahead of the last finished commit."""
    unsent_names_max: int = 200
    """Instances with unsent messages named in the lock row; older ones move to outbox rows."""
    unsent_tasks_max: int = 10_000
    """Activity tasks that a partition's owner keeps until they are sent; beyond it they are read again when there is
    room (on Azure, where a queue may be full)."""
    unsettled_max: int = 1_000
    """Messages committed but not known completed; when full, a partition stops receiving."""
    warm_instances_max: int = 2_000
    """Live orchestrators a worker keeps, over all its partitions."""
    sweep_s: float = 600.0
    """How often the owner looks for overdue starts and timers, and lets go of its session."""
    orphan_collect_s: float = 3600.0
    """How often the owner looks for spilled values that nobody refers to."""
    orphan_age_s: float = 24 * 3600.0
    """How old such a value must be before it is deleted: longer than any commit or start may take."""
    retention_s: float | None = None
    """How long ended instances are kept; then the owner of their partition purges them. ``None``: until purged."""
    retention_completed_s: float | None = None
    """How long COMPLETED ones are kept, if not as ``retention_s`` says."""
    retention_failed_s: float | None = None
    """How long FAILED ones are kept, if not as ``retention_s`` says."""
    retention_terminated_s: float | None = None
    """How long TERMINATED ones are kept, if not as ``retention_s`` says."""
    retention_sweep_s: float = 60.0
    """How often the owner looks for instances that were kept long enough."""
    retention_purges_max: int = 200
    """Such instances of a partition whose purge is under way at once."""
    timer_grace_s: float = 30.0
    """How long overdue a timer must be before the sweep applies it itself."""
    timer_cancel_s_min: float = 3600.0
    """A cancelled timer at least this far away is also removed from the queue."""
    careful_delivery_count: int = 3
    """From this delivery count on a message is handled alone."""
    delivery_count_max: int = 10
    """After this many deliveries a message is dead-lettered (Microsoft's emulator allows up to 10)."""
    dead_letters_kept_max: int = 1_000
    """Dead letters kept to be looked at and redriven; beyond it the oldest go."""
    unregistered_retry_s: float = 30.0
    """How often the owner retries an instance whose orchestrator it does not know."""
    turn_warning_s: float = 1.0
    """An orchestrator that runs longer than this without awaiting is reported."""
    stall_drop_s: float = 1800.0
    """A process that stood still for longer drops its partitions before it sends anything."""

    # Sending
    pack_events_max: int = 64
    """Events sent to one partition in one broker message."""
    pack_delay_s: float = 0.005
    """How long a result may wait for others to the same partition."""
    send_retry_s_max: float = 30.0
    """Longest pause between two tries of a send or store call."""
    pack_bytes_max: int = 60 * _KIB
    """What such a broker message may weigh (Service Bus bills operations by 64 KiB)."""

    # Service Bus
    link_poll_s: float = 0.05
    """How long a link that waits for messages may hold up what is to be told on it (completing, renewing, closing)."""
    link_timeout_s: float = 20.0
    """Longest that one operation on a link may take; after that its connection counts as dead."""
    link_close_s: float = 1.0
    """Longest that closing a link may take, with all that is given back."""
    wedged_s: float = 120.0
    """After so long without progress of a partition's loop its session is let go of; at least two lock durations."""
    send_waiting_max: int = 10_000
    """Messages waiting to be sent; beyond it senders wait."""
    settle_waiting_max: int = 1_000
    """Activity tasks waiting to be completed after their results were sent; beyond it finishing waits."""
    scheduled_kept_max: int = 10_000
    """Far timers whose number in the queue is remembered, so that they can be cancelled there."""
    dead_letter_link_s: float = 5.0
    """How long the link to the dead letters stays open unused."""

    # Activities
    activity_concurrency_max: int = 200
    """Activities running at once in one worker."""
    activity_threads_max: int = 32
    """Threads for synchronous activities in one worker."""
    activity_processes_max: int = msgspec.field(default_factory=lambda: os.cpu_count() or 1)
    """Processes for activities registered with ``process=True`` in one worker; one per processor if not given."""
    activity_prefetch_max: int = 100
    """Activity tasks taken ahead of a free place."""
    switch_interval_s: float = 0.0001
    """How long a thread keeps the interpreter from others that want it while a synchronous activity takes long, if the
    program's own switch interval is not shorter (docs/decisions/0038)."""

    # Worker
    lock_s: float = 30.0
    """Lock duration asked of the broker for sessions and activity tasks."""
    heartbeat_s: float = 5.0
    """How often a worker announces itself; for balancing only, never for safety."""
    balance_s: float = 1.0
    """How often a worker compares its share of partitions."""
    stop_grace_s: float = 20.0
    """How long a graceful stop waits for running activities."""

    # Storage account
    storage_connect_s: float = 10.0
    """How long a connection to the storage account may take."""
    storage_read_s: float = 35.0
    """How long an answer of the storage account may take, or the next part of one (the service gives up after 30 s)."""
    storage_connections_max: int = 100
    """Connections of one process to each of the storage account's two services."""

    # Clients
    messages_waiting_max: int = 100_000
    """Messages to orchestrations that wait in an embedded hub; from then on starts and events of clients wait for room.
    What orchestrations send is never held back. On Azure the queue's own size does this (``AzureSettings``)."""
    activities_waiting_max: int = 100_000
    """Activities that wait in an embedded hub for a free place in a worker; from then on clients' starts wait."""
    queue_full_wait_s: float = 30.0
    """How long a client's call waits for room in a full queue; then it is refused."""
    poll_s_min: float = 0.02
    poll_s_max: float = 1.0
    """A waiting client polls after the first, growing to the second, unless woken earlier."""
    watch_reads_per_s_max: float = 50.0
    """Rows a waiting client reads a second, where it is not told of changes, for all it waits for together."""
    instance_id_chars_max: int = 500
    """Longest instance id (a Table key ends at 1 KiB, and an id may have to be escaped)."""
    name_chars_max: int = 250
    """Longest name of an orchestrator, activity or event."""
    page_size_max: int = 1_000
    """Instances returned in one page of a query (the Table service's own limit)."""
    bulk_portion_max: int = 500
    """Starts or purges that a bulk call has under way at once."""
    bulk_portion_bytes_max: int = 8 * _MIB
    """Inputs of the starts under way at once; a single larger one goes alone."""

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(self):
            _check(field.name, getattr(self, field.name), field.type)
        if self.payload_inline_bytes_max > 32_000:
            raise ConfigurationError(
                "payload_inline_bytes_max must be at most 32000, not"
                f" {self.payload_inline_bytes_max}: a Table property ends there"
            )
        for lower, upper in _ORDERED:
            if getattr(self, lower) > getattr(self, upper):
                raise ConfigurationError(
                    f"{lower} must be at most {upper}, which is {getattr(self, upper)!r},"
                    f" not {getattr(self, lower)!r}"
                )


def _check(name: str, value: object, kind: object) -> None:
    """Refuse a value of one field that is of the wrong type or out of range."""
    if value is None and name in _RETENTIONS:
        return
    if name == "park_delays_s":
        delays = cast(tuple[object, ...], value)
        if not isinstance(value, tuple) or not all(_is_number(delay) and delay > 0 for delay in delays):
            raise ConfigurationError(f"{name} must be a tuple of positive numbers of seconds, not {value!r}")
    elif kind is int:
        least = 0 if name in _MAY_BE_ZERO else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigurationError(f"{name} must be a whole number, at least {least}, not {value!r}")
    elif not _is_number(value) or value < 0 or (value == 0 and name not in _MAY_BE_ZERO):
        least_s = "0 or more" if name in _MAY_BE_ZERO else "more than 0"
        least_s += ", or None" if name in _RETENTIONS else ""
        raise ConfigurationError(f"{name} must be a finite number of seconds, {least_s}, not {value!r}")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
