"""A look over an Azure hub, field by field: what cannot be reached is a finding like any other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final, TypeVar

from durabletask_azure.adapters.azure.parts import HubParts, HubPlace
from durabletask_azure.adapters.azure.probing import probe_sending, probe_sessions
from durabletask_azure.adapters.azure.provisioning import missing_hub
from durabletask_azure.adapters.azure.queue_plan import compared
from durabletask_azure.adapters.azure.upgrades import SCHEMA_VERSION
from durabletask_azure.errors import DurableTaskError, HubMismatchError
from durabletask_azure.ports import HubFinding, HubInfo, HubReport

__all__ = ["looked_over"]

_SKEW_S_MAX: Final = 60.0
T = TypeVar("T")


async def looked_over(place: HubPlace, parts: HubParts, now: Callable[[], datetime]) -> HubReport:
    """Return the report; ``now`` is this machine's clock."""
    look = _Look(place, parts)
    await look.at_storage(now)
    if parts.administration is not None:
        await look.at_queues()
    await look.at_links()
    return HubReport(findings=tuple(look.findings))


class _Look:
    def __init__(self, place: HubPlace, parts: HubParts) -> None:
        self.findings: list[HubFinding] = []
        self._place = place
        self._parts = parts

    def _note(self, part: str, field: str, wanted: object, actual: object, sound: bool, remedy: str) -> None:
        self.findings.append(
            HubFinding(
                part=part,
                field=field,
                wanted=str(wanted),
                actual=str(actual),
                is_sound=sound,
                remedy="" if sound else remedy,
            )
        )

    async def _asked(self, part: str, field: str, call: Callable[[], Awaitable[T]]) -> tuple[T] | None:
        """Return what a call returns, in a tuple; ``None`` if it failed, which is noted."""
        try:
            return (await call(),)
        except DurableTaskError as error:
            self._note(
                part, field, "reachable, with the rights it takes", "refused or silent", False, str(error)
            )
            return None

    async def at_storage(self, now: Callable[[], datetime]) -> None:
        table = f"table {self._place.names.table}"
        there = await self._asked(table, "access", self._parts.table.table_exists)
        if there is not None:
            self._note(table, "access", "granted", "granted", True, "")
            info = (
                await self._asked(table, "the hub's row", self._parts.table.read_hub) if there[0] else (None,)
            )
            if info is not None:
                self._at_row(table, info[0])
            if there[0]:
                await self._at_clock(now)
        container = f"container {self._place.names.container}"
        found = await self._asked(container, "access", self._parts.blobs.exists)
        if found is not None:
            actual = "there" if found[0] else "missing"
            self._note(
                container, "the container", "there", actual, found[0], "create it with TaskHub.repair()"
            )

    def _at_row(self, table: str, info: HubInfo | None) -> None:
        actual = "missing" if info is None else "there"
        self._note(table, "the hub's row", "there", actual, info is not None, str(missing_hub(self._place)))
        if info is None:
            return
        self._note(
            table,
            "schema version",
            f"{SCHEMA_VERSION} or less",
            info.schema_version,
            info.schema_version <= SCHEMA_VERSION,
            "update durabletask-azure",
        )
        wanted = self._place.partitions or info.partitions
        self._note(
            table,
            "partitions",
            wanted,
            info.partitions,
            wanted == info.partitions,
            f"say partitions={info.partitions}, or leave it out",
        )

    async def _at_clock(self, now: Callable[[], datetime]) -> None:
        before = now()
        answer = await self._asked("clock", "this machine's", self._parts.table.store.server_time)
        if answer is None:
            return
        # The service's time has whole seconds, and was taken somewhere between the two readings.
        skew = max(before - answer[0] - timedelta(seconds=1), answer[0] - now(), timedelta())
        self._note(
            "clock",
            "ahead or behind storage (s)",
            f"at most {_SKEW_S_MAX:g}",
            f"{skew.total_seconds():.0f}",
            skew.total_seconds() <= _SKEW_S_MAX,
            "set this machine's clock: requests are signed with the time, and leases are judged by it",
        )

    async def at_queues(self) -> None:
        administration = self._parts.administration
        assert administration is not None
        for plan in self._place.plans:
            part = f"queue {plan.name}"
            found = await self._asked(
                part, "administration", lambda plan=plan: administration.find(plan.name)
            )
            if found is None:
                return
            if found[0] is None:
                self._note(part, "the queue", "there", "missing", False, "create it with TaskHub.repair()")
            else:
                self.findings += compared(plan, found[0])

    async def at_links(self) -> None:
        for plan in self._place.plans:
            part = f"queue {plan.name}"
            if await self._asked(part, "sending", lambda plan=plan: probe_sending(self._place, plan.name)):
                self._note(part, "sending", "allowed", "allowed", True, "")
        if self._parts.administration is None:
            try:
                await probe_sessions(self._place)
            except HubMismatchError as error:
                self.findings += error.differences
            except DurableTaskError:
                return  # the sender has told already
