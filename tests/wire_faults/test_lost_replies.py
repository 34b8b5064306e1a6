"""F5 to F7, F13, F14, F36: what was done is done, and whoever asked for it does not hear of it."""

from __future__ import annotations

import pytest

from durabletask_azure import TaskHubClient
from tests.torture.hubs import open_hub
from tests.torture.programs import OLD, Order
from tests.wire.amqp_gate import AmqpRules
from tests.wire.http_gate import HttpRule
from tests.wire_faults.site import MARKS, Site

pytestmark = MARKS


@pytest.mark.parametrize(
    ("action", "status"),
    [
        pytest.param("land-then-cut", 0, id="f5-landed-and-reply-lost"),
        pytest.param("cut", 0, id="f6-not-landed-and-reply-lost"),
        pytest.param("land-then-refuse", 500, id="f7-landed-and-answered-500"),
        pytest.param("land-then-refuse", 503, id="f7-landed-and-answered-503"),
    ],
)
def test_f5_f6_f7_a_commit_without_a_reply_is_known_for_ones_own(
    site: Site, action: str, status: int
) -> None:
    _, front = site.working("only")
    front.table_rules.add(HttpRule(action, status=status, method="POST", path=r"\$batch", count=4))  # pyright: ignore[reportArgumentType]
    instances = [site.start("chain", Order(50 + n, count=5)) for n in range(3)]
    epoch = site.lock(instances[0]).epoch
    for instance in instances:
        site.completed(instance)

    assert front.table_rules.waiting == [], "all four were met"
    assert site.lock(instances[0]).epoch == epoch, "nobody took the partition from itself"
    for instance in instances:
        assert [len(site.runs(instance, str(label))) for label in range(5)] == [1] * 5
    site.settle()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"kind": "swallow-reply"}, id="done-and-unanswered"),
        pytest.param({"kind": "refuse", "condition": "com.microsoft:session-lock-lost"}, id="lock-lost"),
        pytest.param({"kind": "drop-connection"}, id="connection-lost"),
    ],
)
def test_f13_a_lost_settlement_applies_nothing_twice(site: Site, fault: dict[str, str]) -> None:
    site.working("only")
    site.emulator.fault(**fault, operation="settle", entity="*-orchestrations", count=2)
    instances = [site.start("chain", Order(50 + n, count=4)) for n in range(3)]
    for instance in instances:
        site.completed(instance)
    assert site.emulator.waiting_faults() == 0
    site.settle()


def test_f14_messages_locked_for_a_link_that_got_none_come_again(site: Site) -> None:
    _, front = site.working("only")
    front.bus.swallow("down")
    instance = site.start("chain", Order(7, count=3))
    site.until(lambda: instance.encode() in front.bus.swallowed["down"], "the message on its way")
    front.bus.heal()
    site.completed(instance, 30)
    site.settle()


def test_f36_a_message_the_sdk_swallowed_comes_again_after_the_session_was_let_go_of(site: Site) -> None:
    rules = AmqpRules()
    site.front("only").bus.gate = rules.gate
    site.working("only")
    rules.drop_transfers(1)
    instance = site.start("events", Order(7, count=3))
    site.until(lambda: rules.dropped == 1, "the message that gets lost")
    site.tell(instance, "events", Order(7, count=3))
    # The sweep lets go of the session every ten seconds here.
    site.completed(instance)
    site.settle()


def test_f7_a_replaced_row_whose_reply_is_lost_is_known_for_ones_own(site: Site) -> None:
    worker, _ = site.working("only")
    instance = site.instance_in(0)
    first, second = Order(1, count=2), Order(2, count=2)
    site.client.schedule_new_orchestration("chain", input=first, instance_id=instance, version=OLD)
    site.client.wait_for_orchestration_completion(instance)
    # Only then does the client write the row itself, and not the owner for it.
    site.until(lambda: (row := site.lock(instance)).sent == row.n, "the note that all is sent")
    site.until(lambda: site.messages(site.names.orchestrations) == 0, "the completion of all")
    worker.kill()
    rules = site.front("client").table_rules
    with open_hub(site.environment("client")) as hub:
        client = TaskHubClient(hub)
        assert client.get_orchestration_state(instance) is not None
        # On a connection used before, aiohttp makes a PUT that got no answer once more, by itself: it is refused.
        rules.add(HttpRule("land-then-cut", method="PUT", path="RowKey"))
        client.schedule_new_orchestration("chain", input=second, instance_id=instance, version=OLD)

    assert rules.waiting == []
    assert sum(request.startswith("PUT ") for request in rules.requests) == 2
    assert site.messages(site.names.orchestrations) == 1, "its owner is woken all the same"
    worker.start()
    state = site.client.wait_for_orchestration_completion(instance)
    assert state is not None
    assert state.get_input(Order) == second
    assert {len(site.runs(instance, label)) for label in ("0", "1")} == {2}
    site.purge()
