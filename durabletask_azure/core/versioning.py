"""Which versions of orchestrations a worker runs, and what it does with the others.

Names, strategies and the order of versions are those of ``durabletask.worker``. When it is asked, and what follows, is
``core/admission.py``'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.naming import check_text
from durabletask_azure.errors import ArgumentTypeError

__all__ = [
    "VERSION_MISMATCH",
    "VersionFailureStrategy",
    "VersionMatchStrategy",
    "VersioningOptions",
    "compare_versions",
    "version_mismatch",
]

VERSION_MISMATCH = "VersionMismatch"
"""``error_type`` of an instance that was failed for its version."""


class VersionMatchStrategy(Enum):
    """Which versions of orchestrations a worker runs."""

    NONE = 1
    """Every version."""
    STRICT = 2
    """The worker's own version alone."""
    CURRENT_OR_OLDER = 3
    """The worker's own version and every earlier one."""


class VersionFailureStrategy(Enum):
    """What a worker does with an orchestration whose version it does not run."""

    REJECT = 1
    """Leave it waiting, with a reason, for a worker that runs it."""
    FAIL = 2
    """Fail it."""


@dataclass(frozen=True)
class VersioningOptions:
    """How a worker deals with the versions of orchestrations.

    Args:
        version: the version of the worker.
        default_version: given to sub-orchestrations that are started without a version.
        match_strategy: which versions the worker runs; every one if not given.
        failure_strategy: what it does with the others; it leaves them waiting if not given. ``FAIL`` fails those alone
            whose code is registered here; others wait for a worker that has it.

    Raises:
        ArgumentTypeError: an argument is of the wrong type.
    """

    version: str | None = None
    default_version: str | None = None
    match_strategy: VersionMatchStrategy | None = None
    failure_strategy: VersionFailureStrategy | None = None

    def __post_init__(self) -> None:
        for name in ("version", "default_version"):
            if getattr(self, name) is not None:
                check_text(getattr(self, name), name)
        _check_member("match_strategy", self.match_strategy, VersionMatchStrategy)
        _check_member("failure_strategy", self.failure_strategy, VersionFailureStrategy)

    @property
    def fails(self) -> bool:
        """Whether an orchestration of another version is failed, not left waiting."""
        return self.failure_strategy is VersionFailureStrategy.FAIL


@lru_cache(maxsize=1024)
def compare_versions(one: str | None, other: str | None) -> int:
    """Return -1, 0 or 1: whether ``one`` is earlier than, the same as, or later than ``other``.

    Both are compared by PEP 440 (``1.10`` is later than ``1.9``, ``1.0`` is ``1.0.0``), or as text if one of them is no
    version by it. None at all (``None`` or empty) comes before every version.
    """
    if not one or not other:
        return bool(one) - bool(other)
    # Here, not above: few programs compare versions, and all of them would wait for the import.
    from packaging.version import InvalidVersion, Version

    try:
        left, right = Version(one), Version(other)
    except InvalidVersion:
        return (one > other) - (one < other)
    return (left > right) - (left < right)


def version_mismatch(options: VersioningOptions, version: str | None) -> FailureDetails | None:
    """Return why a worker with these options does not run an orchestration of that version; ``None`` if it does."""
    strategy = options.match_strategy
    if strategy is None or strategy is VersionMatchStrategy.NONE:
        return None
    order = compare_versions(version, options.version)
    if order == 0 or (order < 0 and strategy is VersionMatchStrategy.CURRENT_OR_OLDER):
        return None
    relation = "does not match" if strategy is VersionMatchStrategy.STRICT else "is greater than"
    return FailureDetails(
        message=f"The orchestration version '{version}' {relation} the worker version '{options.version}'.",
        error_type=VERSION_MISMATCH,
        is_non_retriable=True,
    )


def _check_member(name: str, value: object, kind: type[Enum]) -> None:
    if value is not None and not isinstance(value, kind):
        allowed = ", ".join(f"{kind.__name__}.{member.name}" for member in kind)
        raise ArgumentTypeError(f"{name} must be one of {allowed}, or None, not {value!r}")
