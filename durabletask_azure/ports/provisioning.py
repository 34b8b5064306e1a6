"""A task hub as a whole: whether it is there, made, removed, looked over, and put together again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["HubFinding", "HubReport", "Provisioning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFinding:
    """One thing that was looked at: ``part`` and ``field`` name it, ``wanted`` and ``actual`` are for people.

    ``remedy`` says what to do if it is not as it should be.
    """

    part: str
    field: str
    wanted: str
    actual: str
    is_sound: bool
    remedy: str = ""

    def __str__(self) -> str:
        if self.is_sound:
            return f"{self.part}: {self.field} is {self.actual}"
        return f"{self.part}: {self.field} is {self.actual}, not {self.wanted}; {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubReport:
    """What a look over a hub has found, in the order in which it was looked at; ``str`` has a line for each."""

    findings: tuple[HubFinding, ...]

    @property
    def problems(self) -> tuple[HubFinding, ...]:
        """What is not as it should be."""
        return tuple(finding for finding in self.findings if not finding.is_sound)

    @property
    def is_sound(self) -> bool:
        """Whether all is as it should be."""
        return not self.problems

    def __str__(self) -> str:
        return "\n".join(f"{'ok   ' if finding.is_sound else 'WRONG'} {finding}" for finding in self.findings)


class Provisioning(Protocol):
    """What can be done to a hub as a whole. Nobody uses its ports meanwhile, in this process at least."""

    async def exists(self) -> bool:
        """Return whether the hub is there: it was created whole, and not deleted.

        Raises:
            HubUnavailableError: it cannot be found out.
        """
        ...

    async def create(self) -> bool:
        """Create whatever of the hub is missing; return whether the hub was not there.

        Several may do so at once, and one that died half-way is carried on: one of them returns true, and in the end
        there is one hub.

        Raises:
            ConfigurationError: it cannot be created as the settings say. HubMismatchError: what is there is different.
            HubUnavailableError: a service cannot be reached, or this process may not create.
        """
        ...

    async def delete(self) -> bool:
        """Delete the hub and all that is in it; return whether there was anything.

        Raises:
            HubUnavailableError: it could not be deleted, or only in part; deleting again goes on.
            WorkerStateError: it is seen to be in use.
        """
        ...

    async def check(self) -> HubReport:
        """Look over the hub and report field by field; a service that cannot be reached is a finding, not an error."""
        ...

    async def restore(self) -> Sequence[str]:
        """Create the missing parts of a hub that exists, and return their names. Errors as :meth:`create`.

        Raises:
            TaskHubNotFoundError: there is no such hub.
        """
        ...
