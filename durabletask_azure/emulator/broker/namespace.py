"""All queues of a broker, by name and address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from durabletask_azure.emulator.amqp.message import Content
from durabletask_azure.emulator.amqp.types import AmqpError
from durabletask_azure.emulator.broker.around import Surroundings, Usage
from durabletask_azure.emulator.broker.journal import Journal, NoJournal
from durabletask_azure.emulator.broker.queue import Queue
from durabletask_azure.emulator.broker.settings import FOREVER_S, QueueSettings, SettingsError

DEAD_LETTERS: Final = "$deadletterqueue"
TRANSFER: Final = "$transfer"
FORWARDS_MAX: Final = 4
QUEUES_MAX: Final = 10_000


class QueueExistsError(Exception):
    """There is a queue of that name."""


class QueueNotFoundError(Exception):
    """There is no queue of that name."""


@dataclass(slots=True)
class Entry:
    """A queue with its sub-queues.

    Attributes:
        queue: the queue.
        transfer: the sub-queue for dead letters of forwarding, always empty here.
        created_at: seconds since 1970.
        updated_at: when its settings were changed, seconds since 1970.
    """

    queue: Queue
    transfer: Queue
    created_at: float
    updated_at: float


class Namespace:
    """The queues of a broker.

    Args:
        clock: seconds since 1970.
        alarm: asks that `tick` of a queue be called at a time.
        token_prefix: eight new random bytes each time it is called.
        journal: keeps changes.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        alarm: Callable[[Queue, float], None],
        token_prefix: Callable[[], bytes],
        journal: Journal | None = None,
    ) -> None:
        self.journal: Journal = journal or NoJournal()
        self._around = Surroundings(clock, self.journal, alarm, self._forward, token_prefix)
        self._entries: dict[str, Entry] = {}
        self._forwards = 0

    # ------------------------------------------------------------ queues

    def create(self, settings: QueueSettings, *, at: float | None = None) -> Entry:
        """Create a queue.

        Raises:
            SettingsError: its settings are not allowed.
            QueueExistsError: there is one of that name.
        """
        settings.validate()
        key = settings.name.casefold()
        if key in self._entries:
            raise QueueExistsError(settings.name)
        if len(self._entries) >= QUEUES_MAX:
            raise SettingsError(f"a namespace has at most {QUEUES_MAX} queues")
        now = self._around.clock() if at is None else at
        usage = Usage()
        dead = Queue(f"{key}/{DEAD_LETTERS}", _of_sub_queue(settings), self._around, usage)
        transfer = Queue(f"{key}/{TRANSFER}/{DEAD_LETTERS}", _of_sub_queue(settings), self._around, usage)
        entry = Entry(Queue(key, settings, self._around, usage, dead), transfer, now, now)
        self._entries[key] = entry
        self.journal.queue(settings, now, now)
        return entry

    def update(self, settings: QueueSettings) -> Entry:
        """Give a queue other settings.

        Raises:
            SettingsError: they are not allowed, or cannot be changed any more.
            QueueNotFoundError: there is no such queue.
        """
        settings.validate()
        entry = self.entry(settings.name)
        old = entry.queue.settings
        for what in ("requires_sessions", "detects_duplicates", "partitioned"):
            if getattr(old, what) != getattr(settings, what):
                raise SettingsError(f"{what} of a queue cannot be changed")
        settings = replace(settings, name=old.name)
        queues = (entry.queue, entry.queue.dead_letters, entry.transfer)
        for queue in queues:
            if queue is not None:
                queue.settings = settings if queue is entry.queue else _of_sub_queue(settings)
                queue.locks.reorder()
        entry.updated_at = self._around.clock()
        self.journal.queue(settings, entry.created_at, entry.updated_at)
        if settings.status != old.status and settings.status in ("Disabled", "ReceiveDisabled"):
            entry.queue.close(AmqpError("com.microsoft:entity-disabled", f"the queue {old.name} is disabled"))
        entry.queue.serve()
        return entry

    def delete(self, name: str) -> None:
        """Delete a queue and all in it.

        Raises:
            QueueNotFoundError: there is no such queue.
        """
        entry = self.entry(name)
        del self._entries[name.casefold()]
        error = AmqpError("amqp:not-found", f"The messaging entity '{name}' was deleted.")
        for queue in (entry.queue, entry.queue.dead_letters, entry.transfer):
            if queue is not None:
                queue.closed = error
                queue.close(error)
        self.journal.drop_queue(name.casefold())

    def entry(self, name: str) -> Entry:
        """Return a queue with its sub-queues.

        Raises:
            QueueNotFoundError: there is no such queue.
        """
        entry = self._entries.get(name.casefold())
        if entry is None:
            raise QueueNotFoundError(name)
        return entry

    def entries(self) -> list[Entry]:
        """Return all queues, by name."""
        return [self._entries[key] for key in sorted(self._entries)]

    def find(self, address: str) -> Queue:
        """Return the queue or sub-queue of an address.

        Raises:
            AmqpError: there is none.
        """
        path = address.casefold().strip("/")
        name, _, rest = path.partition("/$")
        entry = self._entries.get(name)
        queue = None
        if entry is not None:
            rest = f"${rest}" if rest else ""
            by_rest = {
                "": entry.queue,
                DEAD_LETTERS: entry.queue.dead_letters,
                f"{TRANSFER}/{DEAD_LETTERS}": entry.transfer,
            }
            queue = by_rest.get(rest)
        if queue is None:
            raise AmqpError("amqp:not-found", f"The messaging entity '{address}' could not be found.")
        return queue

    def queues(self) -> list[Queue]:
        """Return all queues and sub-queues."""
        found: list[Queue] = []
        for entry in self._entries.values():
            dead = entry.queue.dead_letters
            found += [entry.queue, entry.transfer] if dead is None else [entry.queue, dead, entry.transfer]
        return found

    # ------------------------------------------------------------ forwarding

    def _forward(self, name: str, content: Content) -> bool:
        # The administration API keeps forwarding targets as whole addresses.
        key = name.casefold().partition("://")[2].partition("/")[2] if "://" in name else name.casefold()
        entry = self._entries.get(key)
        if entry is None or self._forwards >= FORWARDS_MAX:
            return False
        self._forwards += 1
        try:
            entry.queue.send([content])
        except AmqpError:
            return False
        finally:
            self._forwards -= 1
        return True


def _of_sub_queue(settings: QueueSettings) -> QueueSettings:
    """Return the settings of a sub-queue: no sessions, no time to live, no duplicates, nowhere further."""
    return replace(
        settings,
        requires_sessions=False,
        detects_duplicates=False,
        ttl_s=FOREVER_S,
        dead_letters_expired=False,
        forward_to="",
        forward_dead_letters_to="",
    )
