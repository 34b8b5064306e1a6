"""F2 to F4, F16, F17, F23, F24: a worker process is killed at a given point between what it writes and sends."""

from __future__ import annotations

import signal

from azure.storage.blob import ContainerClient

from durabletask_azure import OrchestrationStatus
from tests.torture.programs import Order
from tests.wire.http_gate import HttpRule
from tests.wire_faults.site import MARKS, Site

pytestmark = MARKS

BATCHES = r"\$batch"


def test_f2_killed_between_commit_and_send_the_next_owner_sends(site: Site) -> None:
    worker, front = site.working("first")
    instance = site.start_unsent(front, "chain", Order(7, count=2), label="0")
    worker.kill()
    front.bus.cut()

    site.worker("second")

    site.completed(instance)
    assert len(site.runs(instance, "0")) == len(site.runs(instance, "1")) == 1
    site.settle()


def test_f3_killed_when_some_of_the_messages_are_sent(site: Site) -> None:
    worker, _ = site.working("first")
    # Inputs of 25 KB: a batch takes about ten.
    site.emulator.fault(kind="delay", operation="send", entity="*-activities", skip=1, count=99, seconds=60)
    instance = site.start("fan", Order(7, count=40, pad_bytes=25_000))
    site.until(lambda: site.emulator.hit("send"), "the second batch")
    worker.kill()
    site.emulator.clear_faults()

    site.worker("second")

    site.completed(instance)
    site.settle()


def test_f4_killed_between_send_and_complete_a_redelivery_applies_nothing(site: Site) -> None:
    worker, _ = site.working("first")
    site.emulator.fault(kind="delay", operation="settle", entity="*-orchestrations", count=99, seconds=60)
    instance = site.start("chain", Order(7, count=1))
    site.until_run(instance)
    site.until(lambda: site.emulator.hit("settle"), "the completion")
    worker.kill()
    site.emulator.clear_faults()

    site.worker("second")

    site.completed(instance)
    assert len({run.key for run in site.runs(instance)}) == 1
    site.settle()


def test_f16_an_activity_that_outlives_its_lock_runs_again_and_counts_once(site: Site) -> None:
    site.emulator.fault(kind="refuse", operation="manage", entity="*-activities*", count=999)
    site.worker("first")
    instance = site.start("held")
    site.until_run(instance, "1")
    site.worker("second")
    site.until_run(instance, "1", count=2)
    site.emulator.clear_faults()

    site.let_go()

    site.completed(instance)
    assert len(site.runs(instance, "2")) == 1
    site.settle()


def test_f17_killed_with_a_result_that_was_not_sent(site: Site) -> None:
    worker, _ = site.working("first")
    instance = site.start("held")
    site.until_run(instance, "1")
    # So that nobody sends the task again: only the message that was received is left of it.
    site.until(lambda: (row := site.lock(instance)).sent == row.n, "the note that all is sent")
    # The result waits; what is settled is settled at once.
    site.emulator.fault(kind="delay", operation="send", entity="*-orchestrations", count=99, seconds=60)
    site.let_go()
    site.until(lambda: site.emulator.hit("send"), "the result on its way")
    worker.kill()
    site.emulator.clear_faults()

    site.worker("second")

    site.completed(instance)
    assert len(site.runs(instance, "1")) == 2
    assert site.events(instance).count("TaskCompletedEvent") == 3
    site.settle()


def test_f23_killed_between_the_parts_of_a_commit(site: Site) -> None:
    worker, front = site.working("first")
    # By their size: small commits, of which some still come after the first orchestrations, are not what is meant.
    front.table_rules.add(
        HttpRule("cut", method="POST", path=BATCHES, skip=1, count=None, bytes_min=1_000_000)
    )
    instance = site.start("fan", Order(7, count=120, pad_bytes=25_000))
    site.until(lambda: front.table_rules.hits, "the second part")
    staged = [line for line in site.leftovers() if " h!" in line]
    assert staged, "the first part is there"
    assert "TaskScheduledEvent" not in site.events(instance), "and nobody sees it"
    worker.kill()

    site.worker("second")

    site.completed(instance)
    site.settle()


def test_f24_a_value_whose_commit_was_lost_is_not_left(site: Site) -> None:
    worker, front = site.working("first")
    # Spilled values are written before the commit that names them, which never lands here.
    front.table_rules.add(HttpRule("cut", method="POST", path=BATCHES, count=None))
    instance = site.start("chain", Order(7, count=3, pad_bytes=40_000))
    site.until(lambda: any(line.startswith("blob: ") for line in site.leftovers()), "the value")
    worker.kill()

    site.worker("second")

    site.completed(instance)
    site.settle()


def test_f24_an_instance_whose_value_is_gone_fails_visibly(site: Site) -> None:
    worker = site.worker("first")
    other = site.start("chain", Order(8, count=3))
    instance = site.start("held", Order(7, pad_bytes=40_000))
    site.until_run(instance, "1")
    worker.kill()
    _, storage = site.services.connection_strings
    with ContainerClient.from_connection_string(storage, site.names.container) as container:
        blobs = [blob.name for blob in container.list_blobs()]
        assert blobs
        for blob in blobs:
            container.delete_blob(blob)
    site.let_go()

    site.worker("second")

    site.completed(other)
    state = site.end(instance)
    assert state.runtime_status is OrchestrationStatus.FAILED
    assert state.failure_details is not None
    assert "is missing" in state.failure_details.message or "Missing" in state.failure_details.error_type
    site.purge()


def test_f2_f4_killed_again_and_again_at_any_moment(site: Site) -> None:
    worker = site.worker("first")
    instances = [site.start("chain", Order(100 + n, count=6)) for n in range(4)]
    for instance in instances:
        for label in ("0", "2", "4"):
            site.until_run(instance, label)
            worker.signal(signal.SIGKILL)
            worker.wait()
            worker.start()
    for instance in instances:
        site.completed(instance)
    site.settle()
