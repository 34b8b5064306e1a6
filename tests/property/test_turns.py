"""Random orchestrations under random messages: what must hold of every turn is checked by the bench after each.

That is: a warm and a cold instance come to the same turn; the stored row equals the fold of the stored history; what a
new owner would send again is what the turn sends. Here in addition: each event counts once, and everything ends.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durabletask_azure.core.history import EventRaisedEvent, Parent, SubOrchestrationInstanceCreatedEvent
from durabletask_azure.core.messages import Message
from tests.unit.bench import Bench, after, put_back

Step = list[Any]

steps: st.SearchStrategy[Step] = st.one_of(
    st.just(["activity"]),
    st.just(["activity unawaited"]),
    st.just(["child"]),
    st.just(["child unawaited"]),
    st.just(["timer"]),
    st.just(["timer cancelled at once"]),
    st.just(["race"]),
    st.just(["event"]),
    st.just(["send"]),
    st.tuples(st.just("status"), st.integers(0, 300)).map(list),
)
endings = st.sampled_from(["return", "raise", "large", "too large", "continue", "continue and save"])
programs = st.lists(st.tuples(st.lists(steps, max_size=4), endings), min_size=1, max_size=4)
kinds = (
    *(
        "done",
        "done",
        "done",
        "event",
        "event",
        "fire",
        "fire early",
        "again",
        "suspend",
        "resume",
        "nothing",
    ),
    *("terminate", "purge", "fail", "replace", "child start", "no code", "code", "stranger"),
)
orders = st.lists(
    st.tuples(st.sampled_from(kinds), st.integers(0, 7), st.booleans(), st.booleans()), max_size=14
)


async def program(ctx: Any, value: Any) -> Any:
    todo, ending = value[0]
    for kind, *details in todo:
        match kind:
            case "activity":
                await ctx.call_activity("work", input=1)
            case "activity unawaited":
                ctx.call_activity("work", tags={"a": "b"})
            case "child":
                await ctx.call_sub_orchestrator("kid", input=2)
            case "child unawaited":
                ctx.call_sub_orchestrator("kid", instance_id="kid")
            case "timer":
                await ctx.create_timer(timedelta(seconds=60))
            case "timer cancelled at once":
                ctx.create_timer(timedelta(hours=3)).cancel()
            case "race":
                timer = ctx.create_timer(timedelta(hours=2))
                await ctx.wait_for_external_event("a")
                timer.cancel()
            case "event":
                await ctx.wait_for_external_event("a")
            case "send":
                ctx.send_event("other", "hello", data="y" * 100)
            case _:
                ctx.set_custom_status("z" * details[0])
    if ending.startswith("continue") and len(value) > 1:
        ctx.continue_as_new(value[1:], save_events=ending.endswith("save"))
    elif ending == "raise":
        raise ValueError("raised")
    return {"large": "x" * 300, "too large": "x" * 5_000}.get(ending)


class Run:
    """One instance's life, message by message."""

    def __init__(self, has_parent: bool) -> None:
        self.bench = Bench(
            program,
            is_confirming=False,
            payload_inline_bytes_max=200,
            payload_bytes_max=4_000,
            history_inline_bytes_max=1_500,
            segment_bytes_max=800,
            executions_kept=1,
            pending_bytes_max=1_000,
            seen_ids_max=9,
        )
        self.here = self.bench.registry
        self.nowhere = Bench().registry
        self.has_parent = has_parent
        self.sent: list[Message] = []
        self.waiting: list[Message] = []
        self.starts = 0
        self.applied: Counter[tuple[str, str]] = Counter()

    def make(self, kind: str, number: int) -> Message | None:
        """Return a message of that kind which fits the instance as it is now, or one of those of before."""
        bench = self.bench
        row = bench.rows.get("i1")
        execution = row.execution_id if row is not None else "x1"
        state = bench.load("i1").state
        tasks, timers = list(state.tasks.values()), list(state.timers.items())
        match kind:
            case "done" if tasks:
                task = tasks[number % len(tasks)]
                is_child = isinstance(task, SubOrchestrationInstanceCreatedEvent)
                make = bench.child_done if is_child else bench.task_done
                return make(task.event_id, number, execution=execution)
            case "fire" | "fire early" if timers:
                timer, fire_at = timers[number % len(timers)]
                if kind == "fire":
                    bench.now = max(bench.now, fire_at)
                return bench.fired(timer, fire_at, execution=execution)
            case "event":
                return bench.raised("a", number, source=f"e{number}")
            case "again" if self.sent:
                return self.sent[number % len(self.sent)]
            case "suspend":
                return bench.suspended(f"s{number}")
            case "resume":
                return bench.resumed(f"r{number}")
            case "terminate":
                return bench.terminated("x" * 50 * number, recurse=number > 3, source=f"t{number}")
            case "purge":
                return bench.purge(recursive=number > 3)
            case "fail":
                return bench.fail() if number == 0 else None
            case "replace":
                self.starts += 1
                statuses = ("COMPLETED", "FAILED", "TERMINATED", "RUNNING")[: 1 + number % 4]
                return bench.replace("program", statuses, execution=f"r{self.starts}", input=[[[], "return"]])
            case "child start":
                return bench.child_start("program", execution=f"c{number}", parent=Parent("p", "px", number))
            case "stranger":
                return bench.task_done(number, execution="x0")
            case _:
                return None

    def turn(self, *messages: Message) -> None:
        bench = self.bench
        turn = bench.turn(*messages)
        self.waiting += [message for message, _ in put_back(turn)]
        if "i1" in bench.rows:
            for event in bench.history():
                if isinstance(event, EventRaisedEvent) and event.commit == bench.n and turn.writes():
                    self.applied[bench.rows["i1"].execution_id, event.source_id] += 1


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(programs, orders, st.booleans(), st.booleans())
def test_every_turn_of_a_random_run_keeps_its_promises(
    program_of: list[Any], life: list[Any], has_parent: bool, is_scheduled: bool
) -> None:
    run = Run(has_parent)
    bench = run.bench
    if has_parent:
        body = bench.start_of("program", program_of, execution="c9", parent=Parent("p", "px", 9))
        first = bench.message(body)
    else:
        bench.insert("program", program_of, scheduled_start=after(30) if is_scheduled else None)
        first = bench.wake_up()
    run.sent.append(first)
    batch = [first]
    for kind, number, is_last, forgets in life:
        bench.now += timedelta(seconds=number)
        if kind in ("code", "no code"):
            bench.registry = run.here if kind == "code" else run.nowhere
            bench.warm.clear()
        message = run.make(kind, number)
        if message is not None:
            batch.append(message)
            run.sent.append(message)
        if is_last:
            run.turn(*batch, *run.waiting[:2])
            run.waiting = run.waiting[2:]
            batch = []
        if forgets:
            bench.warm.clear()
            bench.sent = bench.n
    bench.registry = run.here
    bench.warm.clear()
    bench.sent = bench.n
    run.turn(*batch)
    settle(run)
    assert all(count == 1 for count in run.applied.values())
    assert "i1" not in bench.rows or bench.rows["i1"].status.is_terminal
    row = bench.rows.get("i1")
    if row is not None:
        executions = {row.execution_id, *(past.execution_id for past in row.past)}
        assert {execution for _, execution, _ in bench.segments} <= executions


def settle(run: Run) -> None:
    """Complete what is open until the instance ends."""
    bench = run.bench
    for round in range(80):
        row = bench.rows.get("i1")
        if row is None or row.status.is_terminal:
            return
        bench.now += timedelta(hours=1)
        bench.sent = bench.n
        waiting, run.waiting = run.waiting, []
        more = (run.make("done", round), run.make("fire", round), bench.resumed(f"r!{round}"))
        event = bench.raised("a", round, source=f"e!{round}")
        run.turn(*waiting, *(message for message in more if message is not None), event)
