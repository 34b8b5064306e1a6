"""Mutants: one rule of the design taken out at a time, to show that the simulator would notice.

Each is a patch of a named seam of the product, applied for one run and undone after it. ``profiles`` are those under
which it must be caught within ``seeds`` seeds.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.simulation import carelessness, sabotage

__all__ = ["MUTANTS", "Mutant"]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A patch of one attribute: ``seam`` is ``module:Class.attribute``, ``patch`` makes the new value of the old."""

    name: str
    breaks: str
    seam: str
    patch: Callable[[Any], Any]
    profiles: tuple[str, ...]
    seeds: int = 150

    @contextmanager
    def applied(self) -> Generator[None]:
        """Patch the seam for the duration."""
        module_name, path = self.seam.split(":")
        owner: Any = importlib.import_module(module_name)
        *parents, attribute = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        original = getattr(owner, attribute)
        setattr(owner, attribute, self.patch(original))
        try:
            yield
        finally:
            setattr(owner, attribute, original)


_ENGINE = "durabletask_azure.engine"
_CORE = "durabletask_azure.core"
_CHAIN = f"{_ENGINE}.chain:CommitChain"
_OWNER = f"{_ENGINE}.partition:PartitionOwner"
_COMMITTER = f"{_ENGINE}.committing:Committer"
_RECOVERY = f"{_ENGINE}.recovery:Recovery"
_SENDER = f"{_ENGINE}.sender:Sender"
_ADMISSION = f"{_CORE}.admission:Admission"

_ALL = (
    Mutant(
        "no-fence",
        "commits do not match the lock row's ETag",
        f"{_CHAIN}._transact",
        sabotage.no_fence,
        ("stalls",),
    ),
    Mutant(
        "unfenced-staging",
        "staged parts do not match the lock row's ETag",
        f"{_CHAIN}.commit",
        sabotage.unfenced_staging,
        ("staging",),
        600,
    ),
    Mutant(
        "rows-before-fence",
        "a new owner goes by what it read before it took the fence",
        f"{_CHAIN}.take_over",
        sabotage.rows_before_fence,
        ("stalls", "staging"),
        600,
    ),
    Mutant(
        "complete-first",
        "messages are completed before their effect is committed",
        f"{_OWNER}._take_in",
        sabotage.complete_first,
        ("crashes",),
    ),
    Mutant(
        "sent-early",
        "`sent` covers a commit whose sends are not confirmed",
        f"{_SENDER}.end",
        sabotage.sent_early,
        ("sends", "crashes"),
    ),
    Mutant(
        "no-resend",
        "a new owner sends nothing again",
        f"{_RECOVERY}.resume",
        sabotage.no_resend,
        ("crashes", "sends"),
    ),
    Mutant(
        "late-resend",
        "a new owner sends new messages before it has sent the old ones again",
        f"{_RECOVERY}.resume",
        sabotage.late_resend,
        ("crashes", "sends", "partings", "tight"),
    ),
    Mutant(
        "send-first",
        "messages are sent before the commit that causes them",
        f"{_COMMITTER}._transact",
        sabotage.send_first,
        ("crashes", "stalls"),
    ),
    Mutant(
        "no-open-task-check",
        "a completion counts whether or not its task is open",
        f"{_ADMISSION}._accept",
        sabotage.no_open_task_check,
        ("duplicates", "settles"),
    ),
    Mutant(
        "no-seen-ids",
        "ids of applied events are not remembered",
        f"{_CORE}.state:ExecutionState._see",
        sabotage.forget,
        ("duplicates", "settles"),
    ),
    Mutant(
        "seen-ids-end-with-the-execution",
        "continue-as-new forgets the ids of applied events",
        f"{_CORE}.state:ExecutionState.seen_to_carry",
        sabotage.nothing_carried,
        ("duplicates", "settles"),
        300,
    ),
    Mutant(
        "sequence-watermark",
        "messages up to the highest sequence number seen are skipped",
        f"{_OWNER}._take_in",
        sabotage.sequence_watermark,
        ("swallow", "recreated"),
    ),
    Mutant(
        "own-commit-is-a-rival",
        "a refused commit of one's own that landed is taken for a rival's, and its effect for undone",
        f"{_CHAIN}._has_landed",
        sabotage.own_commit_is_not_recognised,
        ("replies",),
    ),
    Mutant(
        "own-refusal-is-a-rival",
        "an owner lets go of its partition whenever a commit of its own answers 412 (scored by recovery)",
        f"{_CHAIN}._has_landed",
        sabotage.own_refusal_is_a_rival,
        ("landed",),
    ),
    Mutant(
        "local-clock",
        "now is the worker's clock, not the broker's",
        f"{_OWNER}._take_in",
        sabotage.local_clock,
        ("clocks",),
    ),
    Mutant(
        "one-blob-name",
        "values of an execution share a blob name",
        f"{_CORE}.payloads:payload_name",
        sabotage.one_blob_name,
        ("calm", "crashes"),
        400,
    ),
    Mutant(
        "no-tombstone",
        "a purged instance leaves nothing that late messages meet",
        f"{_CORE}.instance:Instance.__init__",
        sabotage.no_tombstone,
        ("duplicates",),
        300,
    ),
    Mutant(
        "continue-drops-unsent",
        "continue-as-new lets go of what the old execution has not sent",
        f"{_ADMISSION}.archive",
        sabotage.archive_as_sent,
        ("partings",),
        300,
    ),
    Mutant(
        "child-starts-again",
        "a duplicate of a child's start starts it over",
        f"{_CORE}.admission:child_start",
        sabotage.child_starts_again,
        ("duplicates", "crashes"),
    ),
    Mutant(
        "any-execution",
        "a message for another execution counts",
        f"{_ADMISSION}._admit",
        sabotage.any_execution,
        ("reuse", "duplicates"),
        600,
    ),
    Mutant(
        "session-kept",
        "a session is never let go of, so a swallowed message never comes",
        f"{_OWNER}._take_session_again",
        sabotage.does_nothing_async,
        ("swallow",),
    ),
    Mutant(
        "no-sweep",
        "nobody looks for what is due",
        f"{_RECOVERY}.sweep",
        sabotage.does_nothing_async,
        ("recreated", "mixed"),
    ),
    Mutant(
        "unsent-names-dropped",
        "names that do not fit the lock row are forgotten",
        f"{_COMMITTER}._bookkeeping",
        sabotage.unsent_names_dropped,
        ("tight", "sends"),
        300,
    ),
    Mutant(
        "outbox-not-read",
        "outbox rows of the last owner are not sent",
        "tests.simulation.fakes.ports:SimStore.read_outbox",
        sabotage.nothing_in_the_outbox,
        ("overtakes", "crashes", "sends"),
        300,
    ),
    Mutant(
        "blind-renewal",
        "a session is renewed although its owner makes no progress",
        f"{_OWNER}._renew",
        sabotage.renew_blindly,
        ("wedged",),
        300,
    ),
    Mutant(
        "no-dead-letter-reader",
        "nobody looks after what the broker put aside",
        f"{_ENGINE}.dead_letters:DeadLetterReader.look",
        sabotage.finds_nothing,
        ("killers",),
    ),
    Mutant(
        "events-not-kept",
        "what comes for an instance that cannot run yet is dropped",
        f"{_ADMISSION}._keep",
        sabotage.not_kept,
        ("rollback", "overtakes"),
    ),
    Mutant(
        "never-parked",
        "an event that overtakes the start of its instance is dropped",
        f"{_ADMISSION}.put_back",
        sabotage.not_parked,
        ("overtakes",),
    ),
    Mutant(
        "repair-forgets-what-is-open",
        "a repair does not send open tasks, timers and children again",
        f"{_ENGINE}.repair:_Repairer._open",
        sabotage.opens_nothing,
        ("failover",),
    ),
    # Faults the simulator found in the product: each taken out again, so that the cure stays.
    Mutant(
        "stale-values-wanted",
        "the lost value of a message for a past execution fails the instance",
        f"{_ENGINE}.running:needed_refs",
        sabotage.values_of_stale_messages,
        ("settles", "reuse", "duplicates", "crashes"),
        2_000,
    ),
    Mutant(
        "deletes-without-number",
        "deletions of outbox rows make a transaction too long, and an instance is blamed",
        f"{_COMMITTER}._outbox_deletes",
        sabotage.any_number_of_deletes,
        ("tight", "staging"),
        600,
    ),
    Mutant(
        "deletes-forgotten",
        "outbox rows are taken for deleted before the commit that deletes them",
        f"{_COMMITTER}._outbox_deletes",
        sabotage.deletes_forgotten,
        ("staging", "tight"),
        600,
    ),
    Mutant(
        "session-leaked",
        "an owner that ends while it takes its session again keeps it",
        f"{_OWNER}._take_session_again",
        sabotage.session_leaked,
        ("restarts", "stops"),
        4_000,
    ),
    Mutant(
        "trimmed-after-the-commit",
        "segments of past executions are deleted after the row has forgotten them",
        f"{_CORE}.turn:trim_past",
        sabotage.trimmed_after_the_commit,
        ("crashes", "mixed", "purges"),
        600,
    ),
    Mutant(
        "receives-cancelled",
        "a second stop cancels a receive under way",
        f"{_OWNER}.abandon",
        sabotage.cancels_everything,
        ("stops",),
    ),
    # What runs again under a new execution id.
    Mutant(
        "child-keeps-its-parent",
        "a sub-orchestration is not handed over to the continued execution of its parent",
        f"{_CORE}.continuing:_adopt",
        sabotage.does_nothing,
        ("rewinds",),
    ),
    Mutant(
        "causes-overlooked",
        "a rewind keeps the failure that the orchestrator failed of, if it did something since",
        f"{_CORE}.continuing:rewind_point",
        sabotage.without_a_failure,
        ("rewinds",),
        600,
    ),
    Mutant(
        "not-cut-off",
        "what was started after the point of a reset goes on beside what runs again",
        f"{_CORE}.continuing:_give_way",
        sabotage.refused_as_any_other,
        ("rewinds",),
        600,
    ),
    Mutant(
        "owners-in-vain-forgotten",
        "an owner does not know how many before it committed nothing",
        f"{_RECOVERY}.resume",
        carelessness.owners_in_vain_forgotten,
        ("uncounted",),
    ),
    Mutant(
        "sweep-clears-suspicion",
        "an owner that committed what its sweep found counts as one that was not in vain",
        f"{_CHAIN}.execute",
        carelessness.sweep_clears_suspicion,
        ("uncounted",),
    ),
    Mutant(
        "attempts-forgotten",
        "an owner does not know what its predecessors ended over",
        f"{_ENGINE}.work:Attempts.take_over",
        carelessness.attempts_forgotten,
        ("uncounted",),
    ),
    Mutant(
        "suspects-beside-others",
        "an activity that may end its worker runs beside others",
        f"{_ENGINE}.caution:Caution.is_on",
        carelessness.never_on,
        ("killers",),
        1_500,
    ),
    Mutant(
        "start-forgotten",
        "an instance whose start is put aside as poison never is, and nobody is told",
        f"{_ENGINE}.dead_letters:DeadLetterReader._fail",
        carelessness.start_forgotten,
        ("uncounted",),
        3_000,
    ),
)
MUTANTS: dict[str, Mutant] = {mutant.name: mutant for mutant in _ALL}
