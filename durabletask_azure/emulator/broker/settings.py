"""What a queue is told to be, and what Azure allows it to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

FOREVER_S: Final = float("inf")
QUEUE_MB_STEP: Final = 1024
QUEUE_MB_MIN: Final = 1024
QUEUE_MB_MAX: Final = 5120
LOCK_S_MIN: Final = 5.0
LOCK_S_MAX: Final = 300.0
DELIVERIES_MIN: Final = 1
DELIVERIES_MAX: Final = 2000
DUPLICATES_S_MIN: Final = 20.0
DUPLICATES_S_MAX: Final = 7 * 86_400.0
IDLE_DELETE_S_MIN: Final = 300.0
TTL_S_MIN: Final = 1.0
NAME_CHARACTERS_MAX: Final = 260

ACTIVE: Final = "Active"
DISABLED: Final = "Disabled"
SEND_DISABLED: Final = "SendDisabled"
RECEIVE_DISABLED: Final = "ReceiveDisabled"
STATUSES: Final = (ACTIVE, DISABLED, SEND_DISABLED, RECEIVE_DISABLED)


class SettingsError(ValueError):
    """A setting Azure would not take; the text names what is allowed."""


LISTEN: Final = "Listen"
SEND: Final = "Send"
MANAGE: Final = "Manage"
ALL_RIGHTS: Final = (MANAGE, SEND, LISTEN)


@dataclass(frozen=True, slots=True)
class Policy:
    """A shared access policy.

    Attributes:
        name: its name.
        key: its key.
        rights: what it allows, of `ALL_RIGHTS`.
        secondary_key: another key that is as good, empty for none.
    """

    name: str
    key: str = field(repr=False)
    rights: tuple[str, ...] = ALL_RIGHTS
    secondary_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """The settings of a queue, with Azure's defaults.

    Attributes:
        name: its name, which is looked up without regard to case.
        lock_s: how long a message or session stays locked, in seconds.
        size_mb_max: how much it holds, in megabytes.
        requires_sessions: whether every message belongs to a session.
        detects_duplicates: whether a message id seen in the window is dropped.
        duplicates_s: that window, in seconds.
        ttl_s: the longest time to live, in seconds.
        dead_letters_expired: whether expired messages go to the dead-letter queue.
        deliveries_max: after how many deliveries a message goes there.
        status: one of `STATUSES`.
        forward_to: the queue messages go on to, empty for none.
        forward_dead_letters_to: the queue dead letters go on to, empty for none.
        idle_delete_s: kept and shown; the emulator deletes nothing by itself.
        batched_operations: kept and shown.
        partitioned: kept and shown.
        express: kept and shown.
        user_metadata: kept and shown.
        policies: the shared access policies of this queue alone.
    """

    name: str
    lock_s: float = 60.0
    size_mb_max: int = 1024
    requires_sessions: bool = False
    detects_duplicates: bool = False
    duplicates_s: float = 600.0
    ttl_s: float = FOREVER_S
    dead_letters_expired: bool = False
    deliveries_max: int = 10
    status: str = ACTIVE
    forward_to: str = ""
    forward_dead_letters_to: str = ""
    idle_delete_s: float = FOREVER_S
    batched_operations: bool = True
    partitioned: bool = False
    express: bool = False
    user_metadata: str = ""
    policies: tuple[Policy, ...] = ()

    def validate(self) -> None:
        """Check every setting.

        Raises:
            SettingsError: one is not allowed.
        """
        check_name(self.name)
        _between("the lock duration", self.lock_s, LOCK_S_MIN, LOCK_S_MAX, "seconds")
        _between("the delivery count", self.deliveries_max, DELIVERIES_MIN, DELIVERIES_MAX, "deliveries")
        _between("the duplicate window", self.duplicates_s, DUPLICATES_S_MIN, DUPLICATES_S_MAX, "seconds")
        if self.size_mb_max % QUEUE_MB_STEP or not QUEUE_MB_MIN <= self.size_mb_max <= QUEUE_MB_MAX:
            raise SettingsError(
                f"the size of a queue is {QUEUE_MB_MIN} to {QUEUE_MB_MAX} megabytes in steps of"
                f" {QUEUE_MB_STEP}, not {self.size_mb_max}"
            )
        if self.ttl_s < TTL_S_MIN:
            raise SettingsError(f"the time to live is at least {TTL_S_MIN} seconds, not {self.ttl_s}")
        if self.idle_delete_s < IDLE_DELETE_S_MIN:
            raise SettingsError(
                f"the idle time before deletion is at least {IDLE_DELETE_S_MIN} seconds, not {self.idle_delete_s}"
            )
        if self.status not in STATUSES:
            raise SettingsError(f"the status is one of {', '.join(STATUSES)}, not {self.status!r}")


def _between(what: str, value: float, low: float, high: float, unit: str) -> None:
    if not low <= value <= high:
        raise SettingsError(f"{what} is {low:g} to {high:g} {unit}, not {value:g}")


def check_name(name: str) -> None:
    """Check the name of a queue.

    Raises:
        SettingsError: Azure would not take it.
    """
    good = bool(name) and len(name) <= NAME_CHARACTERS_MAX and not name.startswith("/")
    good = good and all(character.isalnum() or character in "._-/~" for character in name)
    if not good or not (name[0].isalnum() and name[-1].isalnum()):
        raise SettingsError(
            f"a queue's name has 1 to {NAME_CHARACTERS_MAX} letters, digits, '.', '-', '_', '~' and '/',"
            f" and begins and ends with a letter or digit, which {name!r} does not"
        )
