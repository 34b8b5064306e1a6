"""F26: queues that an operator has disabled."""

from __future__ import annotations

import re

import pytest

from tests.torture.programs import Order
from tests.wire_faults.site import MARKS, Site

pytestmark = MARKS


def set_status(site: Site, queue: str, status: str) -> None:
    """Enable or disable a queue as an operator would, by the administration API."""
    entry = site.emulator.ask("GET", queue).decode()
    changed, count = re.subn(r"(<(?:\w+:)?Status>)\w+(</)", rf"\g<1>{status}\g<2>", entry)
    assert count == 1
    site.emulator.put(queue, changed.encode())


@pytest.mark.parametrize("status", ["Disabled", "SendDisabled", "ReceiveDisabled"])
@pytest.mark.parametrize("which", ["orchestrations", "activities"])
def test_f26_a_queue_an_operator_disabled_is_waited_for(site: Site, which: str, status: str) -> None:
    queue = site.names.orchestrations if which == "orchestrations" else site.names.activities()
    site.working("only")
    log = site.folder / "log-only.txt"
    held = site.start("held", instance=site.instance_in(1))
    site.until_run(held, "1")
    set_status(site, queue, status)
    site.let_go()
    # As much as can be accepted is: a start is its row.
    others = [site.start("chain", Order(60 + n, count=2), instance=site.instance_in(n)) for n in range(4)]
    site.until(lambda: "disabled" in log.read_text() or "does not" in log.read_text(), "a word about it")

    set_status(site, queue, "Active")

    for instance in (held, *others):
        site.completed(instance)
    site.settle()
