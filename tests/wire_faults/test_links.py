"""F12, F15, F25, F26, F31: what happens to links and services, not to processes."""

from __future__ import annotations

import signal
import time

import pytest

from tests.torture.programs import Order
from tests.wire.http_gate import HttpRule
from tests.wire_faults.conftest import OpenSite
from tests.wire_faults.site import MARKS, Site

pytestmark = MARKS


def test_f12_delays_and_reordering_change_no_result(site: Site) -> None:
    for name in ("one", "two"):
        site.working(name)
        for proxy in site.front(name).proxies:
            proxy.delay(0.02, jitter_s=0.15)
    instances: list[str] = []
    for partition, kind in enumerate(("chain", "fan", "family", "events", "eternal", "timers")):
        order = Order(40 + partition, count=3, pause_ms=200 if kind == "timers" else 0)
        instance = site.start(kind, order, instance=site.instance_in(partition % 4))
        site.tell(instance, kind, order)
        instances.append(instance)
    for instance in instances:
        site.completed(instance)
    site.settle()


@pytest.mark.parametrize("how", ["rst", "fin", "half-open", "detached"])
def test_f15_links_that_break_are_opened_again(site: Site, how: str) -> None:
    _, front = site.working("only")
    match how:
        case "rst":
            assert front.bus.cut(reset=True) > 1
        case "fin":
            assert front.bus.cut(reset=False) > 1
        case "half-open":
            assert front.bus.half_open() > 1
        case _:
            for operation in ("send", "settle"):
                site.emulator.fault(kind="drop-link", operation=operation, count=2)
    instances = [site.start("chain", Order(60 + n, count=3), instance=site.instance_in(n)) for n in range(4)]
    for instance in instances:
        site.completed(instance, 40)
    assert site.emulator.waiting_faults() == 0
    assert bool(front.bus.swallowed["up"]) == (how == "half-open")
    site.settle()


def test_f15_f35_the_emulator_restarts_with_all_it_had_and_all_goes_on(open_site: OpenSite) -> None:
    site = open_site(persist=True)
    site.working("only")
    instance = site.start("held")
    site.until_run(instance, "1")
    site.emulator.restart()
    site.let_go()
    site.completed(instance, 40)
    site.settle()


@pytest.mark.parametrize("status", [429, 503])
def test_f25_a_storm_of_refusals_by_storage_is_waited_out(site: Site, status: int) -> None:
    _, front = site.working("only")
    for rules in (front.table_rules, front.blob_rules):
        rules.add(HttpRule("refuse", status=status, retry_after_s=1, count=None))
    instances = [site.start("chain", Order(60 + n, count=3), instance=site.instance_in(n)) for n in range(4)]
    began, hits = time.monotonic(), front.table_rules.hits
    site.until(lambda: front.table_rules.hits >= hits + 12, "twelve refusals")
    asked_s = time.monotonic() - began
    front.heal()
    for instance in instances:
        site.completed(instance, 40)
    # It backs off: many calls a second would be a storm of its own.
    assert asked_s > 1.0
    site.settle()


def test_f25_throttling_by_service_bus_is_waited_out(site: Site) -> None:
    site.working("only")
    instances = [site.instance_in(partition) for partition in range(4)]
    epochs = [site.lock(instance).epoch for instance in instances]
    for operation in ("send", "settle", "manage"):
        site.emulator.fault(kind="throttle", operation=operation, count=6)
    for number, instance in enumerate(instances):
        site.start("chain", Order(60 + number, count=3), instance=instance)
    for instance in instances:
        site.completed(instance)
    assert [site.lock(instance).epoch for instance in instances] == epochs, "no session is given up for that"
    site.settle()


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        pytest.param("amqp:resource-limit-exceeded", "The queue is full (quota exceeded)", id="full"),
        pytest.param("com.microsoft:entity-disabled", "The entity is disabled", id="disabled"),
        pytest.param("amqp:unauthorized-access", "The token has expired", id="expired"),
    ],
)
def test_f26_a_queue_that_takes_nothing_is_waited_for(site: Site, condition: str, text: str) -> None:
    site.working("only")
    instances = [site.start("held", Order(60 + n), instance=site.instance_in(n)) for n in range(4)]
    for instance in instances:
        site.until_run(instance, "1")
    site.emulator.fault(kind="refuse", operation="send", count=5, condition=condition, description=text)
    site.let_go()
    for instance in instances:
        site.completed(instance)
        assert len(site.runs(instance, "1")) == 1, "its result is kept until it is sent"
    assert site.emulator.waiting_faults() == 0
    log = (site.folder / "log-only.txt").read_text()
    assert text.split(" (")[0] in log, "the log says why"
    site.settle()


def test_f31_a_worker_told_to_end_gives_its_sessions_back_before_it_ends(open_site: OpenSite) -> None:
    site = open_site(DURABLETASK_LOCK_DURATION_S="60", TORTURE_STOP_GRACE_S="300")
    first, _ = site.working("first")
    held = site.start("held")
    site.until_run(held, "1")
    site.working("second")
    began = time.monotonic()
    first.signal(signal.SIGTERM)
    instances = [site.start("chain", Order(60 + n, count=1), instance=site.instance_in(n)) for n in range(4)]
    for instance in instances:
        site.completed(instance)
    assert time.monotonic() - began < 55, "nobody waited for a lock of 60 seconds to run out"
    assert first.is_running, "it waits for its activity"
    site.let_go()
    assert first.wait() == 0
    site.completed(held)
    assert len(site.runs(held, "1")) == 1
    site.settle()


def test_f31_a_busy_worker_told_to_end_finishes_what_runs(site: Site) -> None:
    first, _ = site.working("first")
    instance = site.start("held")
    site.until_run(instance, "1")
    first.signal(signal.SIGTERM)
    site.let_go()
    assert first.wait() == 0
    site.worker("second")
    site.completed(instance)
    assert len(site.runs(instance, "1")) == 1, "its result was kept"
    site.settle()


def test_f31_a_busy_worker_told_to_end_twice_leaves_what_runs(open_site: OpenSite) -> None:
    site = open_site(TORTURE_STOP_GRACE_S="300")
    first, _ = site.working("first")
    instance = site.start("held")
    site.until_run(instance, "1")
    first.signal(signal.SIGTERM)
    site.worker("second")
    # The second completes something, so the first has seen the signal: two that come together may be seen as one.
    site.completed(site.start("chain", Order(60, count=1), instance=site.instance_in(1)))
    assert len(site.runs(instance, "1")) == 1
    first.signal(signal.SIGTERM)
    site.until_run(instance, "1", 2)
    site.let_go()
    assert first.wait() == 0
    site.completed(instance)
    site.settle()
