"""Where dead letters are kept once they are dealt with, so that a person can look at them and have them sent again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from durabletask_azure.ports.queues import DeadLetter

__all__ = ["ArchivedLetter", "DeadLetterArchive"]


@dataclass(frozen=True, slots=True)
class ArchivedLetter:
    """A kept dead letter under the id it is asked for by; ``letter.messages`` and ``task`` are decoded at each look, so
    what an older version could not read may be readable now."""

    id: str
    letter: DeadLetter


class DeadLetterArchive(Protocol):
    """The dead letters of both queues that were dealt with and not sent again.

    It holds at most ``Settings.dead_letters_kept_max``; beyond that the oldest go.
    """

    async def keep(self, letter: DeadLetter) -> None:
        """Take a dead letter from its queue into the archive, in place of settling it. Keeping one twice is harmless:
        after a lost reply it is kept once, at worst twice, never dropped."""
        ...

    async def kept(self) -> Sequence[ArchivedLetter]:
        """Return all kept letters, the one kept longest first."""
        ...

    async def find(self, letter_id: str) -> ArchivedLetter | None:
        """Return a kept letter, ``None`` if there is none of that id."""
        ...

    async def remove(self, letter_id: str) -> None:
        """Forget a kept letter; one that is gone is no error."""
        ...
