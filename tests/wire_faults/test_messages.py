"""F11, F18, F21, F28, F30, F35, F38: messages that come twice, late, too early, unreadable, deadly, or not at all."""

from __future__ import annotations

import concurrent.futures
from typing import Any, cast

import pytest
from azure.data.tables import TableClient
from azure.servicebus import ServiceBusClient, ServiceBusMessage

from durabletask_azure import (
    OrchestrationAlreadyExistsError,
    OrchestrationIdReusePolicy,
    OrchestrationStatus,
    TaskHubClient,
)
from tests.torture.programs import OLD, TICK, Order
from tests.wire_faults.conftest import OpenSite
from tests.wire_faults.site import MARKS, Site

pytestmark = MARKS


def waiting_messages(site: Site, partition: int) -> list[ServiceBusMessage]:
    """Return copies, under new ids, of what waits for a partition."""
    bus, _ = site.services.connection_strings
    with (
        ServiceBusClient.from_connection_string(bus) as client,
        client.get_queue_receiver(site.names.orchestrations, session_id=f"p{partition:03d}") as receiver,
    ):
        return [
            ServiceBusMessage(b"".join(message.body), session_id=message.session_id)
            for message in receiver.peek_messages(100)
        ]


def send(site: Site, messages: list[ServiceBusMessage], queue: str = "") -> None:
    """Send messages by hand."""
    bus, _ = site.services.connection_strings
    with (
        ServiceBusClient.from_connection_string(bus) as client,
        client.get_queue_sender(queue or site.names.orchestrations) as sender,
    ):
        sender.send_messages(messages)


@pytest.mark.parametrize("detection", ["300", "none"])
def test_f11_messages_that_come_again_count_once(open_site: OpenSite, detection: str) -> None:
    site = open_site(DURABLETASK_DUPLICATE_WINDOW_S=detection)
    order = Order(7, count=4)
    instance = site.start("events", order)
    site.client.raise_orchestration_event(instance, TICK, data=7, event_id=f"{instance}/7")
    # Between the first event and those after it: whoever took a copy for another event would hear a wrong one.
    copies = waiting_messages(site, 0)
    assert len(copies) == 2
    send(site, copies)
    site.tell(instance, "events", order)
    copies = waiting_messages(site, 0)
    assert len(copies) >= 7
    send(site, list(reversed(copies)))

    site.worker("only")
    site.completed(instance)
    # And once more, long after: for the instance that has ended, and for the id when it is used again.
    send(site, copies)
    other = site.start("chain", Order(8, count=3))
    site.completed(other)
    assert len(site.runs(instance)) == 1
    assert site.events(instance).count("EventRaisedEvent") == 4
    site.settle()


def test_f18_a_result_for_an_earlier_execution_counts_for_nothing(site: Site) -> None:
    site.working("only")
    instance = site.instance_in(0)
    client = site.client
    client.schedule_new_orchestration("held", input=Order(1), instance_id=instance, version=OLD)
    site.until_run(instance, "1")
    (old,) = site.runs(instance, "1")
    client.terminate_orchestration(instance, output="the first")
    client.wait_for_orchestration_completion(instance)
    # The second execution is at the same task, under the same number, when the result for the first one comes.
    client.schedule_new_orchestration("held", input=Order(2), instance_id=instance, version=OLD)
    site.until_run(instance, "1", 2)
    site.let_go(old)
    site.until(
        lambda: (site.messages(site.names.activities()), site.messages(site.names.orchestrations)) == (1, 0),
        "the end of the old result",
    )
    assert not site.runs(instance, "2")
    site.let_go()
    state = client.wait_for_orchestration_completion(instance)
    assert state is not None
    assert state.runtime_status is OrchestrationStatus.COMPLETED
    assert old.token not in str(state.serialized_output)
    kinds = site.events(instance)
    assert kinds.count("TaskCompletedEvent") == kinds.count("TaskScheduledEvent") == 3
    site.purge()


def test_f21_of_concurrent_starts_one_wins_and_late_messages_of_the_old_run_are_ignored(site: Site) -> None:
    instance = site.instance_in(0)
    refuse = OrchestrationIdReusePolicy(replaceable_status=())

    def start(number: int) -> int | None:
        try:
            TaskHubClient(site.hub).schedule_new_orchestration(
                "events",
                input=Order(number),
                instance_id=instance,
                version=OLD,
                reuse_id_policy=refuse,
            )
        except OrchestrationAlreadyExistsError:
            return None
        return number

    site.hub.create()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(start, range(8)) if number is not None]
    assert len(winners) == 1
    site.client.raise_orchestration_event(instance, TICK, data=winners[0])
    late = waiting_messages(site, 0)
    site.worker("only")
    state = site.client.wait_for_orchestration_completion(instance)
    assert state is not None
    assert state.get_output()["heard"] == [winners[0]]

    # The id is used again, and what belongs to the run before comes in between.
    site.client.schedule_new_orchestration("events", input=Order(50), instance_id=instance, version=OLD)
    send(site, late)
    site.client.raise_orchestration_event(instance, TICK, data=50)
    state = site.client.wait_for_orchestration_completion(instance)
    assert state is not None
    assert state.get_output()["heard"] == [50]
    assert site.events(instance).count("ExecutionStartedEvent") == 1
    site.purge()


def test_f28_what_cannot_be_read_is_put_aside_and_others_go_on(site: Site) -> None:
    site.working("only")
    garbage = [
        b"\xff\xfe\x00",
        b"[]",
        b'{"v": 99}',
        b'[{"kind": "FromTheFuture", "instance_id": "x"}]',
        b"",
    ]
    send(site, [ServiceBusMessage(body, session_id="p000") for body in garbage])
    send(site, [ServiceBusMessage(body) for body in garbage], site.names.activities())
    instances = [site.start("chain", Order(60 + n, count=3)) for n in range(3)]
    for instance in instances:
        site.completed(instance)
    site.until(lambda: len(site.client.list_dead_letters()) >= 2 * len(garbage) - 2, "the dead letters")
    verdict = site.verdict()
    assert (verdict.lost, verdict.wrong, verdict.double) == ([], [], [])
    assert site.loops_failed() == []


def test_f28_a_row_that_cannot_be_read_harms_no_other_instance(site: Site) -> None:
    worker, _ = site.working("first")
    broken = site.start("held")
    site.until_run(broken, "1")
    worker.kill()
    _, storage = site.services.connection_strings
    with TableClient.from_connection_string(storage, site.names.table) as table:
        row = cast(Any, table).get_entity("p000", f"i!{broken}")
        for name, value in list(row.items()):
            if isinstance(value, bytes) or (isinstance(value, str) and value.startswith("{")):
                row[name] = type(value)()
        cast(Any, table).update_entity(row, mode="replace")
    site.let_go()
    site.worker("second")
    others = [site.start("chain", Order(60 + n, count=3)) for n in range(3)]
    for other in others:
        site.completed(other)
    site.until(lambda: site.client.list_dead_letters(), "the message that is put aside")
    assert site.loops_failed() == []


@pytest.mark.parametrize("deliveries", ["4", "10"])
@pytest.mark.parametrize("who", ["orchestrator", "activity"])
def test_f30_what_kills_its_process_every_time_fails_visibly(
    open_site: OpenSite, who: str, deliveries: str
) -> None:
    # Without duplicate detection each owner that ends adds a copy of the task, and each copy is counted by itself.
    site = open_site(DURABLETASK_MAX_DELIVERY_COUNT=deliveries, DURABLETASK_DUPLICATE_WINDOW_S="300")
    worker, _ = site.working("only")
    order = Order(7, partner="activity" if who == "activity" else "")
    client = site.client
    # Six processes end over an orchestrator: with four deliveries an activity would use up its own beside it.
    kind = "events" if (who, deliveries) == ("orchestrator", "4") else "chain"
    beside = Order(60, count=4)
    bystanders = [site.start(kind, beside, instance=site.instance_in(n)) for n in (1, 2, 3)]
    instance = client.schedule_new_orchestration("deadly", input=order, instance_id="killer", version=OLD)
    bystanders += [site.start(kind, beside, instance=site.instance_in(n)) for n in (1, 2, 3)]

    def has_failed() -> bool:
        if not worker.is_running:
            worker.wait()
            worker.start()
        state = client.get_orchestration_state(instance)
        return state is not None and state.runtime_status is OrchestrationStatus.FAILED

    if who == "activity":
        # Its failure reaches the orchestrator, which then takes the process along by itself: seen by the lines.
        site.until(lambda: has_failed() or len(site.runs(instance)) > 3, "the failure", 150)
    site.until(has_failed, "the failure", 150)
    state = client.get_orchestration_state(instance)
    assert state is not None
    assert state.failure_details is not None
    assert ("without a result" if who == "activity" else "ended over it") in state.failure_details.message
    if not worker.is_running:
        worker.start()
    for bystander in bystanders:
        site.tell(bystander, kind, beside)
        site.completed(bystander)


@pytest.mark.parametrize("worker_is", ["there", "gone"])
def test_f35_a_broker_that_lost_everything_is_made_anew_and_repaired(site: Site, worker_is: str) -> None:
    worker, _ = site.working("only")
    held = site.start("held")
    site.until_run(held, "1")
    timers = site.start("timers", Order(7, count=2, pause_ms=10_000), instance=site.instance_in(1))
    site.until_event(timers, "TimerCreatedEvent")
    events = site.start("events", Order(7, count=2), instance=site.instance_in(2))
    site.client.wait_for_orchestration_start(events)
    family = site.start("family", Order(7, count=2), instance=site.instance_in(3))

    if worker_is == "gone":  # and with it the activity: only the lost message knew of it
        site.until(lambda: (row := site.lock(held)).sent == row.n, "the note that all is sent")
        worker.kill()
    site.emulator.restart()
    done = site.hub.repair()
    if worker_is == "gone":
        worker.start()

    assert len(done.created) == 2
    assert done.timers == 1
    # The one that is held, and what the two children may be at, however far the family has come.
    assert 1 <= done.activities <= 3
    site.let_go()
    site.tell(events, "events", Order(7, count=2))
    for instance in (held, timers, events, family):
        site.completed(instance)
    site.settle()


def test_f38_an_event_that_overtakes_the_start_of_its_target_is_applied_after_it(site: Site) -> None:
    site.working("only")
    target = site.instance_in(1)
    early = site.start("asker", Order(7, partner=target))
    site.completed(early)
    # The event has no instance to go to, and is sent again after a while.
    site.start("answerer", Order(7), instance=target)
    site.completed(target)
    site.settle()
