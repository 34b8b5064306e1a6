"""Programs about instances that are taken up again: rewound and restarted."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.parity.book import Run, differing, program
from tests.parity.programs.activities import retrying
from tests.parity.sides import Side, Steps


class Shop:
    """An activity that fails for some inputs until they are mended, and counts its calls."""

    def __init__(self, *broken: str) -> None:
        self.broken = set(broken)
        self.calls: Counter[str] = Counter()

    def work(self, ctx: Any, name: str) -> str:
        """Return the name in capitals."""
        self.calls[name] += 1
        if name in self.broken:
            raise ValueError(f"{name} is broken")
        return name.upper()


def registered(side: Side, shop: Shop, *orchestrators: Any) -> Any:
    """Register orchestrators and the shop's activity; return the activity."""

    def work(ctx: Any, name: str) -> str:
        return shop.work(ctx, name)

    side.add(*orchestrators, activities=[work])
    return work


def rewound(side: Side, instance_id: str) -> str:
    """Rewind an instance, and return the status it comes to."""
    side.client.rewind_orchestration(instance_id, reason="mended")
    side.eventually(lambda: side.status(instance_id) == "COMPLETED")
    return side.status(instance_id)


@program
def rewound_where_it_failed(side: Side) -> Run:
    shop = Shop("b")

    def flow(ctx: Any, names: list[str]) -> Steps:
        results: list[str] = []
        for name in names:
            results.append((yield ctx.call_activity(work, input=name)))
        return results

    work = registered(side, shop, flow)

    def run() -> Any:
        instance_id = side.start(flow, ["a", "b", "c"])
        failed = side.end(instance_id).runtime_status.name
        shop.broken.clear()
        status = rewound(side, instance_id)
        return [failed, status, side.end(instance_id).get_output(), dict(shop.calls)]

    return run


@program
def rewound_with_a_child(side: Side) -> Run:
    shop = Shop("x")

    def child(ctx: Any, name: str) -> Steps:
        return (yield ctx.call_activity(work, input=name))

    def parent(ctx: Any, name: str) -> Steps:
        first: Any = yield ctx.call_activity(work, input="a")
        second: Any = yield ctx.call_sub_orchestrator(child, input=name)
        return [first, second]

    work = registered(side, shop, child, parent)

    def run() -> Any:
        instance_id = side.start(parent, "x")
        side.end(instance_id)
        shop.broken.clear()
        return [rewound(side, instance_id), side.end(instance_id).get_output(), dict(shop.calls)]

    return run


@program
def only_what_failed_can_be_rewound(side: Side) -> Run:
    def flow(ctx: Any, _: Any) -> int:
        return 1

    def refused(instance_id: str) -> bool:
        try:
            side.client.rewind_orchestration(instance_id)
        except Exception:
            return True
        return False

    def run() -> Any:
        instance_id = side.start(flow)
        side.end(instance_id)
        return [refused(instance_id), refused(side.id("nobody")), side.observe(instance_id)]

    side.add(flow)
    return run


@program
def restarted(side: Side) -> Run:
    def flow(ctx: Any, number: int) -> list[Any]:
        return [number, ctx.version]

    def run() -> Any:
        client, instance_id = side.client, side.id("first")
        side.start(flow, 3, instance_id=instance_id)
        side.end(instance_id)
        same = client.restart_orchestration(instance_id)
        ended = side.end(same).get_output()
        other = client.restart_orchestration(instance_id, restart_with_new_instance_id=True)
        return [same == instance_id, ended, other != instance_id, side.end(other).get_output()]

    side.add(flow)
    return run


@differing
def rewound_after_a_retry(side: Side) -> Run:
    shop = Shop("a")

    def flow(ctx: Any, _: Any) -> Steps:
        return (yield ctx.call_activity(work, input="a", retry_policy=retrying(side, 2)))

    work = registered(side, shop, flow)

    def run() -> Any:
        instance_id = side.start(flow)
        side.end(instance_id)
        shop.broken.clear()
        side.client.rewind_orchestration(instance_id)
        side.eventually(lambda: side.status(instance_id) in ("COMPLETED", "FAILED"))
        state = side.end(instance_id)
        failure = state.failure_details
        return [state.get_output(), None if failure is None else failure.error_type]

    return run
