"""Activities in worker processes: what they get, how they fail, what happens when the process dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durabletask_azure import (
    ActivityContext,
    ConfigurationError,
    OrchestrationContext,
    OrchestrationStatus,
    PayloadCodec,
    RetryPolicy,
    Settings,
    TaskFailedError,
    TaskHub,
    TaskHubWorker,
)
from durabletask_azure.core.failures import FailureDetails
from tests.behaviours.stage import Stage
from tests.integration import process_activities as activities

ROOT = Path(__file__).resolve().parents[2]


async def call(ctx: OrchestrationContext, name_and_input: list[Any]) -> Any:
    return await ctx.call_activity(name_and_input[0], input=name_and_input[1])


@pytest.fixture
def open_stage() -> Iterator[Callable[..., Stage]]:
    stages: list[Stage] = []

    def open_one(
        *targets: Any,
        worker: dict[str, Any] | None = None,
        codec: PayloadCodec | None = None,
        processes_max: int = 2,
        **settings: Any,
    ) -> Stage:
        chosen = Settings(activity_processes_max=processes_max, **settings)
        stage = Stage(TaskHub.local(settings=chosen, payload_codec=codec))
        stages.append(stage)
        one = TaskHubWorker(stage.hub, **(worker or {}))
        one.add_orchestrator(call)
        for target in targets:
            one.add_activity(target, process=True)
        one.start()
        stage.workers.append(one)
        return stage

    yield open_one
    for stage in stages:
        stage.hub.close()


def failure(stage: Stage, name: str, value: Any = None) -> FailureDetails:
    """Return the failure of an activity."""
    state = stage.run(call, [name, value])
    assert state.runtime_status is OrchestrationStatus.FAILED
    assert state.failure_details is not None
    assert state.failure_details.is_caused_by(TaskFailedError)
    assert state.failure_details.inner_failure is not None
    return state.failure_details.inner_failure


def is_alive(process: int) -> bool:
    """Tell whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_it_runs_in_another_process_with_the_same_context(open_stage: Callable[..., Stage]) -> None:
    targets = (activities.add_up, activities.tell_process, activities.tell_context, activities.Doubling)
    stage = open_stage(*targets)

    assert stage.result(call, ["add_up", [1, 2, 3]]) == 6
    assert stage.result(call, ["tell_process", None]) != os.getpid()
    assert stage.result(call, ["Doubling", 4]) == 8
    instance = stage.client.schedule_new_orchestration(call, input=["tell_context", None])
    execution = stage.existing_row(instance).execution_id
    told = [instance, 1, "tell_context", execution, None, 1, f"{execution}/1"]
    assert stage.completed(instance) == told


def test_a_process_runs_many_activities(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(activities.tell_process, processes_max=1)
    assert len({stage.result(call, ["tell_process", None]) for _ in range(5)}) == 1


def test_others_run_where_they_always_ran(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(activities.tell_process)
    stage.workers[0].stop()
    stage.workers[0].add_activity(activities.tell_process, name="here")
    stage.workers[0].start()
    assert stage.result(call, ["here", None]) == os.getpid()
    assert stage.result(call, ["tell_process", None]) != os.getpid()


def test_an_async_one_runs_on_a_loop_in_the_process(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(activities.think, activities.give_up)
    assert stage.result(call, ["think", 4]) == 5
    assert failure(stage, "give_up").error_type == "asyncio.exceptions.CancelledError"


def test_a_failure_keeps_everything(open_stage: Callable[..., Stage]) -> None:
    options = {"exception_properties_provider": activities.NumberOf()}
    stage = open_stage(activities.fail, activities.refuse, activities.leave, worker=options)

    failed = failure(stage, "fail", 3)
    assert (failed.error_type, failed.message) == ("tests.integration.process_activities.Odd", "3 is odd")
    assert failed.properties == {"number": 3}
    assert failed.stack_trace is not None
    assert "process_activities.py" in failed.stack_trace
    assert failed.inner_failure is not None
    assert failed.inner_failure.is_caused_by(KeyError)
    assert failure(stage, "refuse").is_non_retriable
    assert failure(stage, "leave").error_type == "SystemExit"


def test_the_data_converter_is_used_there(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(activities.shout, worker={"data_converter": activities.Shouting()})
    assert stage.result(call, ["shout", "quiet"]) == "QUIET"


def test_values_are_decoded_before_they_go_there_and_encoded_when_they_are_back(
    open_stage: Callable[..., Stage],
) -> None:
    class Mirror:
        """Stays in this process: no other could have it."""

        id = "mirror"

        def encode(self, data: bytes) -> bytes:
            return data[::-1]

        decode = encode

    stage = open_stage(activities.add_up, activities.fail, codec=Mirror())
    instance = stage.client.schedule_new_orchestration(call, input=["add_up", [1, 2]])
    assert stage.completed(instance) == 3
    assert str(stage.existing_row(instance).output).startswith("~codec:mirror:")
    assert failure(stage, "fail", 3).message == "3 is odd"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are ended by signals")
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_it_may_start_and_end_processes_of_its_own(open_stage: Callable[..., Stage], method: str) -> None:
    stage = open_stage(activities.run_process_of_its_own)
    assert stage.result(call, ["run_process_of_its_own", method]) == [5, -signal.SIGTERM]


def test_one_whose_process_is_killed_runs_again_in_another(
    open_stage: Callable[..., Stage], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage = open_stage(activities.die_at_first, activities.tell_process, processes_max=1)
    file = tmp_path / "first"
    assert stage.result(call, ["die_at_first", str(file)]) == 2
    assert stage.result(call, ["tell_process", None]) != int(file.read_text(encoding="utf-8"))
    assert "ended (exit code -9) before it answered" in caplog.text


def test_one_whose_process_always_dies_fails_in_the_end_and_takes_nothing_else_with_it(
    open_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    stage = open_stage(activities.always_die, activities.hold, delivery_count_max=3)
    held = stage.client.schedule_new_orchestration(call, input=["hold", str(tmp_path)])
    stage.eventually((tmp_path / "pid").exists)
    assert failure(stage, "always_die").error_type == "ActivityDeliveriesExhausted"
    (tmp_path / "go").touch()
    assert stage.completed(held) == "held"
    assert stage.existing_row(held).status.name == "COMPLETED"


def test_a_graceful_stop_waits_for_it(open_stage: Callable[..., Stage], tmp_path: Path) -> None:
    stage = open_stage(activities.hold)
    instance = stage.client.schedule_new_orchestration(call, input=["hold", str(tmp_path)])
    stage.eventually((tmp_path / "pid").exists)
    (tmp_path / "go").touch()
    stage.workers[0].stop()
    stage.workers[0].start()
    assert stage.completed(instance) == "held"
    assert stage.events(instance).count("TaskCompleted") == 1


def test_what_does_not_end_within_the_grace_is_killed_and_runs_again(
    open_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    stage = open_stage(activities.hold, stop_grace_s=0.2)
    instance = stage.client.schedule_new_orchestration(call, input=["hold", str(tmp_path)])
    stage.eventually((tmp_path / "pid").exists)
    first = int((tmp_path / "pid").read_text(encoding="utf-8"))
    stage.workers[0].stop()
    assert not is_alive(first)
    (tmp_path / "go").touch()
    stage.workers[0].start()
    assert stage.completed(instance) == "held"


def test_what_no_process_can_find_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def inner(ctx: ActivityContext, _: Any) -> None: ...

    anonymous: Callable[[Any, Any], None] = lambda ctx, _: None  # noqa: E731

    with TaskHub.local() as hub:
        worker = TaskHubWorker(hub)
        with pytest.raises(
            ConfigurationError, match="defined inside a function; move it to the top of a module"
        ):
            worker.add_activity(inner, process=True)
        with pytest.raises(ConfigurationError, match="is a lambda"):
            worker.add_activity(anonymous, name="a", process=True)
        with pytest.raises(ConfigurationError, match="give a function or class of a module, not Doubling"):
            worker.add_activity(activities.Doubling(), name="b", process=True)
        with pytest.raises(ConfigurationError, match="process must be True or False"):
            worker.add_activity(activities.add_up, process="yes")  # pyright: ignore[reportArgumentType]
        worker.activity(name="c", process=True)(activities.add_up)
        monkeypatch.setattr(activities, "add_up", activities.shout)
        with pytest.raises(ConfigurationError, match="is something else than what was registered"):
            worker.start()


def test_a_converter_that_no_process_can_have_is_refused() -> None:
    class Local(activities.Shouting): ...

    with TaskHub.local() as hub:
        worker = TaskHubWorker(hub, data_converter=Local())
        worker.add_activity(activities.add_up, process=True)
        with pytest.raises(
            ConfigurationError, match="data_converter is needed in the processes of activities"
        ):
            worker.start()


MAIN = """
import sys
from durabletask_azure import TaskHub, TaskHubClient, TaskHubWorker

def hold(ctx, folder):
    import os, pathlib
    pathlib.Path(folder, "pid").write_text(str(os.getpid()))
    while not pathlib.Path(folder, "go").exists():
        pass
    return "held"

async def flow(ctx, folder):
    return await ctx.call_activity(hold, input=folder)

{guard}
    hub = TaskHub.local()
    worker = TaskHubWorker(hub)
    worker.add_orchestrator(flow)
    worker.add_activity(hold, process=True)
    worker.start()
    client = TaskHubClient(hub)
    state = client.wait_for_orchestration_completion(client.schedule_new_orchestration(flow, input=sys.argv[1]))
    print(state.get_output() if state.failure_details is None else state.failure_details.message)
    hub.close()
"""


def program(folder: Path, guard: str) -> subprocess.Popen[str]:
    (folder / "main.py").write_text(MAIN.format(guard=guard), encoding="utf-8")
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "main.py", str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def held(folder: Path, process: subprocess.Popen[str], stage: Stage) -> int:
    """Wait until the activity of a program runs; return its process."""
    stage.eventually(lambda: process.poll() is not None or (folder / "pid").exists())
    assert process.poll() is None
    stage.eventually(lambda: (folder / "pid").read_text(encoding="utf-8") != "")
    return int((folder / "pid").read_text(encoding="utf-8"))


@pytest.fixture
def waiting() -> Iterator[Stage]:
    with TaskHub.local() as hub:
        yield Stage(hub)


GUARD = 'if __name__ == "__main__":'


def test_a_function_of_the_main_module_is_found(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    said, errors = program(tmp_path, GUARD).communicate(timeout=60)
    assert (said, errors) == ("held\n", "")


def test_a_main_module_that_starts_itself_over_and_over_is_told_so(tmp_path: Path) -> None:
    said, _ = program(tmp_path, "if True:").communicate(timeout=60)
    assert "it imports the main module, which must start nothing by that" in said


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at processes there")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_processes_end_with_the_one_that_started_them(
    tmp_path: Path, waiting: Stage, number: signal.Signals
) -> None:
    process = program(tmp_path, GUARD)
    child = held(tmp_path, process, waiting)
    process.send_signal(number)
    process.communicate(timeout=60)
    waiting.eventually(lambda: not is_alive(child))


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at processes there")
def test_a_signal_to_the_whole_group_is_left_to_the_program(tmp_path: Path, waiting: Stage) -> None:
    process = program(tmp_path, GUARD)
    child = held(tmp_path, process, waiting)
    os.kill(child, signal.SIGINT)
    os.kill(child, signal.SIGTERM)
    (tmp_path / "go").touch()
    assert process.communicate(timeout=60) == ("held\n", "")


def test_retry_policies_count_as_ever(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(activities.fail)
    stage.workers[0].stop()

    async def retrying(ctx: OrchestrationContext, _: Any) -> Any:
        policy = RetryPolicy(first_retry_interval=timedelta(milliseconds=1), max_number_of_attempts=3)
        return await ctx.call_activity(activities.fail, input=5, retry_policy=policy)

    stage.workers[0].add_orchestrator(retrying)
    stage.workers[0].start()
    instance = stage.client.schedule_new_orchestration(retrying)
    assert stage.end(instance).runtime_status is OrchestrationStatus.FAILED
    assert stage.events(instance).count("TaskFailed") == 3
