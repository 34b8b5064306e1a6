"""What becomes of a start whose instance id is taken: ``OrchestrationIdReusePolicy``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from durabletask_azure.errors import ConfigurationError
from durabletask_azure.query import OrchestrationStatus, check_statuses

__all__ = ["IdReuseAction", "OrchestrationIdReusePolicy"]

_ENDED = (OrchestrationStatus.COMPLETED, OrchestrationStatus.FAILED, OrchestrationStatus.TERMINATED)


class IdReuseAction(Enum):
    """What a start does about the instance that has its id."""

    ERROR = "error"
    """Raise ``OrchestrationAlreadyExistsError``."""
    IGNORE = "ignore"
    """Start nothing and return the id."""
    REPLACE = "replace"
    """Start in its place, after terminating it if it is alive, with its sub-orchestrations."""


@dataclass(frozen=True, slots=True)
class OrchestrationIdReusePolicy:
    """What a start does about an instance of its id, by that one's status.

    ``replaceable_status`` (as ``durabletask`` has it) are replaced, those of ``ignorable_status`` are left alone and
    the start returns their id; any other is an error. Without a policy, ended ones are replaced.

    Raises:
        ArgumentTypeError: not a list of statuses.
        ConfigurationError: a status is in both, or is CONTINUED_AS_NEW, which no instance stays in.
    """

    replaceable_status: Sequence[OrchestrationStatus] = _ENDED
    ignorable_status: Sequence[OrchestrationStatus] = ()

    def __post_init__(self) -> None:
        replaceable = check_statuses(self.replaceable_status, "replaceable_status")
        ignorable = check_statuses(self.ignorable_status, "ignorable_status")
        both = [status.name for status in replaceable if status in ignorable]
        if both:
            raise ConfigurationError(
                f"a status is either replaceable or ignorable, but both have {', '.join(both)}"
            )
        if OrchestrationStatus.CONTINUED_AS_NEW in (*replaceable, *ignorable):
            raise ConfigurationError(
                "no instance stays CONTINUED_AS_NEW: leave that status out of the policy"
            )
        object.__setattr__(self, "replaceable_status", replaceable)
        object.__setattr__(self, "ignorable_status", ignorable)

    def action_for(self, status: OrchestrationStatus) -> IdReuseAction:
        """Return what happens to a start whose id an instance of that status has."""
        if status in self.replaceable_status:
            return IdReuseAction.REPLACE
        return IdReuseAction.IGNORE if status in self.ignorable_status else IdReuseAction.ERROR
