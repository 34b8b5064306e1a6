"""Programs about starting, asking and listing, with both clients, and about workers."""

from __future__ import annotations

import threading
from typing import Any

from tests.parity.book import Run, program
from tests.parity.sides import Side, Steps, plain_history, seen


def echoing(side: Side) -> Any:
    """Return an orchestrator that returns its input."""

    def echo(ctx: Any, value: Any) -> Any:
        return value

    side.add(echo)
    return echo


@program
def the_state_of_an_instance(side: Side) -> Run:
    echo = echoing(side)

    def run() -> Any:
        instance_id = side.start(echo, [1, {"a": None}], instance_id=side.id("state"))
        state = side.client.wait_for_orchestration_completion(instance_id, timeout=30)
        assert isinstance(state, side.api.client.OrchestrationState)
        assert state.created_at <= state.last_updated_at
        assert state.created_at.tzinfo is None
        assert state.runtime_status is side.api.client.OrchestrationStatus.COMPLETED
        bare = side.client.get_orchestration_state(instance_id, fetch_payloads=False)
        return [instance_id, seen(state), seen(bare), str(state.runtime_status), state.raise_if_failed()]

    return run


@program
def an_instance_that_does_not_exist(side: Side) -> Run:
    def run() -> Any:
        client, unknown = side.client, side.id("unknown")
        client.terminate_orchestration(unknown)
        purged = client.purge_orchestration(unknown)
        return [client.get_orchestration_state(unknown), purged.deleted_instance_count]

    return run


@program
def waiting_for_the_start(side: Side) -> Run:
    def flow(ctx: Any, _: Any) -> Steps:
        yield ctx.wait_for_external_event("go")

    def run() -> Any:
        instance_id = side.start(flow, "input")
        states = [
            side.client.wait_for_orchestration_start(instance_id, timeout=30),
            side.client.wait_for_orchestration_start(instance_id, fetch_payloads=True, timeout=30),
        ]
        late: list[str] = []
        try:
            side.client.wait_for_orchestration_completion(instance_id, timeout=0.05)
        except TimeoutError:
            late.append("not done")
        side.client.raise_orchestration_event(instance_id, "go")
        return [[state.get_input() for state in states], late, seen(side.end(instance_id))["status"]]

    side.add(flow)
    return run


@program
def an_id_that_is_generated(side: Side) -> Run:
    echo = echoing(side)

    def run() -> Any:
        ids = {side.start(echo) for _ in range(3)}
        assert all(side.end(instance_id).instance_id == instance_id for instance_id in ids)
        return [len(ids), {len(instance_id) for instance_id in ids}]

    return run


@program
def versions_of_a_start(side: Side) -> Run:
    def which(ctx: Any, _: Any) -> Any:
        return ctx.version

    def run() -> Any:
        default = side.new_client(default_version="1.5")
        found: list[Any] = []
        for client, options in ((side.client, {}), (default, {}), (default, {"version": "2"})):
            instance_id = client.schedule_new_orchestration(which, **options)
            found.append(side.end(instance_id).get_output())
        default.close()
        return found

    side.add(which)
    return run


@program
def listing_states(side: Side) -> Run:
    def ok(ctx: Any, value: Any) -> Any:
        return value

    def bad(ctx: Any, value: Any) -> Any:
        raise ValueError("bad")

    def run() -> Any:
        client, query = side.client, side.api.client.OrchestrationQuery
        status = side.api.client.OrchestrationStatus
        for number, flow in enumerate((ok, ok, bad)):
            side.end(side.start(flow, number, instance_id=side.id(f"listed-{number}")))
        prefix = side.id("listed-")
        times = [
            state.created_at
            for state in client.get_all_orchestration_states(query(instance_id_prefix=prefix))
        ]
        asked = [
            query(instance_id_prefix=prefix),
            query(instance_id_prefix=prefix, fetch_inputs_and_outputs=True),
            query(instance_id_prefix=prefix, runtime_status=[status.FAILED]),
            query(
                instance_id_prefix=prefix,
                runtime_status=[status.FAILED, status.COMPLETED],
                max_instance_count=2,
            ),
            query(instance_id_prefix=prefix, created_time_from=times[1]),
            query(instance_id_prefix=prefix, created_time_to=times[1]),
            query(instance_id_prefix=side.id("nothing-")),
        ]
        return [[[s.instance_id, seen(s)] for s in client.get_all_orchestration_states(one)] for one in asked]

    side.add(ok, bad)
    return run


@program
def listing_ids(side: Side) -> Run:
    echo = echoing(side)

    def run() -> Any:
        client, status = side.client, side.api.client.OrchestrationStatus
        ids = [side.id(f"id-{number}") for number in range(5)]
        for instance_id in ids:
            side.end(side.start(echo, instance_id=instance_id))
        found: list[str] = []
        token, pages = None, 0
        while token is not None or pages == 0:
            page = client.list_instance_ids([status.COMPLETED], page_size=3, continuation_token=token)
            assert isinstance(page, side.api.client.Page)
            assert len(page.items) <= 3
            found += page.items
            token, pages = page.continuation_token, pages + 1
        failed = client.list_instance_ids(runtime_status=[status.TERMINATED]).items
        return [sorted(set(ids) & set(found)), len(found) == len(set(found)), set(ids) & set(failed)]

    return run


@program
def from_async_code(side: Side) -> Run:
    def flow(ctx: Any, value: Any) -> Steps:
        ctx.set_custom_status("waiting")
        name = yield ctx.wait_for_external_event("name")
        return f"{value} {name}"

    async def use(client: Any) -> Any:
        unknown = await client.get_orchestration_state(side.id("unknown"))
        instance_id = await client.schedule_new_orchestration(
            flow, input="Hello", instance_id=side.id("async")
        )
        started = await client.wait_for_orchestration_start(instance_id, fetch_payloads=True, timeout=30)
        await client.suspend_orchestration(instance_id, reason="wait")
        await client.resume_orchestration(instance_id, reason="go on")
        await client.raise_orchestration_event(instance_id, "name", data="Kim")
        state = await client.wait_for_orchestration_completion(instance_id, timeout=30)
        history = plain_history(await client.get_orchestration_history(instance_id))
        query = side.api.client.OrchestrationQuery(instance_id_prefix=instance_id)
        states = await client.get_all_orchestration_states(query)
        page = await client.list_instance_ids()
        purged = await client.purge_orchestration(instance_id)
        gone = await client.get_orchestration_state(instance_id)
        return [
            [unknown, started.get_input(), seen(state), history, [seen(one) for one in states]],
            [instance_id in page.items or page.continuation_token is not None],
            [purged.deleted_instance_count, gone],
        ]

    side.add(flow)
    return lambda: side.with_async_client(use)


@program
def ending_from_async_code(side: Side) -> Run:
    def flow(ctx: Any, _: Any) -> Steps:
        yield ctx.wait_for_external_event("never")

    async def use(client: Any) -> Any:
        status = side.api.client.OrchestrationStatus
        instance_id = await client.schedule_new_orchestration(flow, instance_id=side.id("ended"))
        await client.terminate_orchestration(instance_id, output="enough")
        state = await client.wait_for_orchestration_completion(instance_id, timeout=30)
        purged = await client.purge_orchestrations_by(
            created_time_from=state.created_at, runtime_status=[status.TERMINATED]
        )
        return [
            seen(state),
            purged.deleted_instance_count >= 1,
            await client.get_orchestration_state(instance_id),
        ]

    side.add(flow)
    return lambda: side.with_async_client(use, default_version="1")


@program
def what_a_worker_refuses(side: Side) -> Run:
    def twice(ctx: Any, _: Any) -> None:
        return None

    def nameless(ctx: Any, _: Any) -> None:
        return None

    nameless.__name__ = "<lambda>"

    def run() -> Any:
        worker = side.new_worker()
        found: list[Any] = []
        found.append([worker.add_orchestrator(twice), worker.add_activity(twice)])
        for add in (worker.add_orchestrator, worker.add_activity):
            for wrong in (twice, nameless):
                try:
                    add(wrong)
                except ValueError:
                    found.append("refused")
        try:
            side.worker.add_activity(twice)
        except RuntimeError:
            found.append("running")
        return found

    return run


@program
def a_worker_of_its_own(side: Side) -> Run:
    def run() -> Any:
        def parallel(ctx: Any, _: Any) -> None:
            meet.wait(30)

        def flow(ctx: Any, count: int) -> Steps:
            yield side.api.task.when_all([ctx.call_activity(parallel) for _ in range(count)])
            return "met"

        meet = threading.Barrier(3)
        limits = {
            "maximum_concurrent_activity_work_items": 4,
            "maximum_concurrent_orchestration_work_items": 5,
            "maximum_concurrent_entity_work_items": 6,
            "maximum_thread_pool_workers": 7,
        }
        options = side.api.worker.ConcurrencyOptions(**limits)
        assert side.api.worker.ConcurrencyOptions(*limits.values()).maximum_thread_pool_workers == 7
        with side.apart() as own, own.new_worker(concurrency_options=options) as worker:
            assert worker.concurrency_options is options
            own.add(flow, activities=[parallel], worker=worker)
            worker.start()
            found = own.run(flow, 3)["output"]
            worker.stop()  # and once more at the end of the block
        return [found, [getattr(options, name) for name in limits]]

    return run
