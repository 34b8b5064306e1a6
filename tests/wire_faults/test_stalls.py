"""F8 to F10, F27, F37: an owner stands still, is cut off or is wedged, and another one takes over."""

from __future__ import annotations

import signal

import pytest

from tests.torture.programs import Order
from tests.wire_faults.site import MARKS, Site

pytestmark = MARKS


def test_f8_a_commit_after_the_lock_is_refused(site: Site) -> None:
    stalled, front = site.working("stalled")
    front.tables.hold("up")
    instance = site.start("chain", Order(7, count=3))
    site.until(lambda: front.tables.waiting("up") > 0, "the commit")
    epoch = site.lock(instance).epoch
    stalled.signal(signal.SIGSTOP)
    front.bus.hold("up")

    other = site.worker("other")
    site.completed(instance)
    after = site.lock(instance)
    assert after.epoch > epoch
    # Now the commit that was under way all the time arrives.
    front.heal()
    stalled.signal(signal.SIGCONT)
    late = site.start("chain", Order(8, count=3))
    site.completed(late)
    other.kill()
    last = site.start("chain", Order(9, count=3))
    site.completed(last)
    site.settle()


def test_f9_two_owners_send_the_same_and_it_counts_once(site: Site) -> None:
    stalled, front = site.working("stalled")
    instance = site.start_unsent(front, "held", label="1")
    stalled.signal(signal.SIGSTOP)

    site.worker("other")
    site.until_run(instance, "1")
    front.heal()
    stalled.signal(signal.SIGCONT)
    # Its task is a second message of the call that has been answered, and its result comes while the next one runs.
    site.until_run(instance, "0", 2)
    site.until(
        lambda: (site.messages(site.names.activities()), site.messages(site.names.orchestrations)) == (1, 0),
        "the second result's end",
    )
    site.let_go()
    site.completed(instance)
    site.settle()


def test_f10_two_workers_that_believe_they_own_a_partition_write_one_chain(site: Site) -> None:
    workers = [site.worker("one"), site.worker("two")]
    order = Order(7, count=12)
    instances = [site.start("events", order, instance=site.instance_in(partition)) for partition in range(4)]
    epochs = [site.lock(instance).epoch for instance in instances]
    for turn in range(4):
        standing, _ = workers[turn % 2], workers[1 - turn % 2]
        standing.signal(signal.SIGSTOP)
        # Each owner in turn has something to write for every partition while the other one stands still.
        done = site.start("chain", Order(turn, count=2), instance=site.instance_in(turn))
        site.completed(done)
        standing.signal(signal.SIGCONT)
        for instance in instances:
            site.client.raise_orchestration_event(
                instance,
                "tick",
                data=7 + 3 * turn,
                event_id=f"{instance}/{7 + 3 * turn}",
            )
    assert [site.lock(instance).epoch for instance in instances] != epochs
    for instance in instances:
        site.tell(instance, "events", order)
        site.completed(instance)
    site.settle()


@pytest.mark.parametrize("cut_off", ["bus", "storage"])
def test_f27_a_worker_cut_off_from_one_service_is_replaced_and_comes_back(site: Site, cut_off: str) -> None:
    _, front = site.working("cut-off")
    for proxy in (front.bus,) if cut_off == "bus" else front.storage:
        proxy.refuse()
        proxy.swallow()
    instance = site.start("chain", Order(7, count=3))

    other = site.worker("other")
    site.completed(instance)
    front.heal()
    other.kill()
    last = site.start("chain", Order(9, count=3))
    site.completed(last)
    site.settle()


def test_f37_an_owner_whose_store_never_answers_gives_its_session_up(site: Site) -> None:
    _, front = site.working("wedged")
    for proxy in front.storage:
        proxy.hold()
    instances = [
        site.start("chain", Order(7, count=2), instance=site.instance_in(partition)) for partition in range(4)
    ]
    site.until(lambda: front.tables.waiting("up") > 0, "a call that hangs")

    site.worker("other")
    for instance in instances:
        site.completed(instance)
    front.heal()
    site.settle()


def test_f37_an_owner_whose_loop_is_blocked_gives_its_session_up(site: Site) -> None:
    site.working("wedged")
    mark = str(site.folder / "blocked")
    instance = site.start("blocking", Order(7, pause_ms=90_000, partner=mark))
    site.until(lambda: (site.folder / "blocked").exists(), "the block")

    site.worker("other")
    site.completed(instance)
    site.settle()
