"""The demo's jobs: each starts orchestrations, waits for them, and checks what came of them.

A job checks the orchestration's own result and, from the lines outside the hub, how often each of its activities ran.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from durabletask_azure import OrchestrationState, OrchestrationStatus, TaskHubClient
from durabletask_azure.history import SubOrchestrationInstanceCreatedEvent
from samples.demo.lines import Lines, repeated
from samples.demo.orchestrations import ApprovalRequest, approval, chain, fan_out, order, slow_chain
from samples.demo.processes import DemoError, WorkerProcess
from samples.demo.report import Finding

__all__ = ["Jobs"]

Say = Callable[[str], None]

CHAIN_STEPS = 10
FAN_OUT = 1_000
APPROVAL_TIMEOUT_S = 1.0
CRASH_STEPS = 20
CRASH_AFTER = 8
_PATIENCE_S = 60.0
_LOOK_S = 0.002


class Jobs:
    """What is run on the hub, and ``findings``, what was found."""

    def __init__(self, client: TaskHubClient, lines: Lines, say: Say) -> None:
        self._client = client
        self._lines = lines
        self._say = say
        self.findings: list[Finding] = []

    # ------------------------------------------------------------------ undisturbed jobs

    def run_chain(self) -> None:
        """Ten activities, one after the other."""
        self._say(f"chain: {CHAIN_STEPS} activities, each gets the result of the one before")
        begun = time.monotonic()
        self._client.schedule_new_orchestration(chain, input=CHAIN_STEPS, instance_id="chain")
        self._check("chain", begun, ["chain"], CHAIN_STEPS, calls=CHAIN_STEPS)

    def run_fan_out(self) -> None:
        """A thousand activities at once."""
        self._say(f"fan-out: {FAN_OUT:,} activities at once, over both workers")
        begun = time.monotonic()
        self._client.schedule_new_orchestration(fan_out, input=FAN_OUT, instance_id="fan-out")
        self._check("fan-out", begun, ["fan-out"], sum(n * n for n in range(FAN_OUT)), calls=FAN_OUT)
        shares = Counter(run.pid for run in self._lines.runs("fan-out"))
        self._say(f"  shared as {' and '.join(f'{count:,}' for count in shares.values())}")

    def run_approvals(self) -> None:
        """Two requests for approval: a human answers one of them."""
        self._say(f"approval: one is answered, the other waits in vain for {APPROVAL_TIMEOUT_S:.0f} s")
        begun = time.monotonic()
        for item in ("bicycle", "yacht"):
            request = ApprovalRequest(item=item, timeout_s=APPROVAL_TIMEOUT_S)
            self._client.schedule_new_orchestration(approval, input=request, instance_id=item)
        self._client.raise_orchestration_event("bicycle", "approved", data="Kim")
        self._check("approved", begun, ["bicycle"], "bicycle: approved by Kim", calls=1)
        self._check(
            "timed out", begun, ["yacht"], "yacht: nobody answered", calls=1, at_least_s=APPROVAL_TIMEOUT_S
        )

    def run_order(self) -> None:
        """A sub-orchestration that fails once and is tried again, as a new instance."""
        self._say("retry: a sub-orchestration fails once; its parent's retry policy starts another")
        begun = time.monotonic()
        self._client.schedule_new_orchestration(order, input="lamp", instance_id="order")
        self._completed("order")
        children = [
            event.instance_id
            for event in self._client.get_orchestration_history("order")
            if isinstance(event, SubOrchestrationInstanceCreatedEvent)
        ]
        ended = [str(self._completed(child).runtime_status) for child in children]
        self._say(f"  sub-orchestrations ended as {', '.join(ended)}")
        wrong = [] if ended == ["FAILED", "COMPLETED"] else [f"sub-orchestrations ended as {ended}"]
        self._check("retry", begun, ["order", *children], "lamp: courier booked", calls=2, wrong=wrong)

    # ------------------------------------------------------------------ the crash

    def run_crash(self, victim: WorkerProcess, heir: WorkerProcess) -> None:
        """Kill the only worker in the middle of a chain, and have another one finish it."""
        heir.stop_working()
        self._say(
            f"crash: worker {heir.name} pauses; worker {victim.name} runs a chain of {CRASH_STEPS} alone"
        )
        begun = time.monotonic()
        self._client.schedule_new_orchestration(slow_chain, input=CRASH_STEPS, instance_id="crash")
        self._until(lambda: len(self._lines.runs("crash")) >= CRASH_AFTER, "the chain's first steps")
        code = victim.kill()
        killed = time.monotonic()
        before = self._lines.runs("crash")
        self._say(f"  killed worker {victim.name} in step {before[-1].step} (exit code {code})")
        heir.start_working()
        self._until(lambda: len(self._lines.runs("crash")) > len(before), "the chain to go on")
        recovery_s = time.monotonic() - killed
        self._say(f"  worker {heir.name} began the next activity {recovery_s:.2f} s after the kill")
        self._check("crash", begun, ["crash"], CRASH_STEPS, calls=CRASH_STEPS, exactly_once=False)
        runs = self._lines.runs("crash")
        if {run.pid for run in runs} != {victim.pid, heir.pid}:
            self.findings[-1].wrong.append("not both workers ran it")
        again = ", ".join(f"step {step}" for step in repeated(runs)) or "no step"
        self._say(f"  ran more than once: {again}; all others ran once")

    # ------------------------------------------------------------------ checks

    def _check(
        self,
        job: str,
        begun: float,
        instance_ids: list[str],
        expected: Any,
        *,
        calls: int,
        exactly_once: bool = True,
        at_least_s: float = 0.0,
        wrong: list[str] | None = None,
    ) -> None:
        state = self._completed(instance_ids[0])
        seconds = time.monotonic() - begun
        output: Any = state.get_output()
        runs = self._lines.runs(*instance_ids)
        called = len({run.call for run in runs})
        wrong = list(wrong or [])
        if state.runtime_status is not OrchestrationStatus.COMPLETED:
            wrong.append(f"it ended as {state.runtime_status}: {state.failure_details}")
        if output != expected:
            wrong.append(f"the result is {output!r}, not {expected!r}")
        if called != calls:
            wrong.append(f"{called} activity calls ran, not {calls}")
        if exactly_once and repeated(runs):
            wrong.append(f"ran more than once: steps {', '.join(repeated(runs))}")
        if seconds < at_least_s:
            wrong.append(f"it took {seconds:.3f} s, less than {at_least_s} s")
        self.findings.append(
            Finding(
                job=job,
                expected=str(expected),
                actual=str(output),
                calls=called,
                runs=len(runs),
                events=len(self._client.get_orchestration_history(instance_ids[0])),
                seconds=seconds,
                wrong=wrong,
            )
        )

    def _completed(self, instance_id: str) -> OrchestrationState:
        state = self._client.wait_for_orchestration_completion(instance_id, timeout=_PATIENCE_S)
        assert state is not None
        return state

    def _until(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not true():
            if time.monotonic() > deadline:
                raise DemoError(f"waited {_PATIENCE_S:.0f} s in vain for {what}")
            time.sleep(_LOOK_S)
