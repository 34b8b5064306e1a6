"""Bad calls of a client: refused before anything is written, with an error that says what is allowed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from durabletask_azure import (
    ArgumentTypeError,
    AsyncTaskHubClient,
    ConfigurationError,
    DataConverter,
    DeadLetterNotFoundError,
    DurableTaskError,
    NewOrchestration,
    OrchestrationQuery,
    OrchestrationStatus,
    PayloadTooLargeError,
    SerializationError,
    Settings,
    TaskHub,
    TaskHubClient,
)
from durabletask_azure.adapters.local import LocalHub, open_hub
from durabletask_azure.hosting import HubHost

HOUR = timedelta(hours=1)
LOOP: list[Any] = []
LOOP.append(LOOP)
IDS = "1 to 500 characters are allowed"
NAMES = "1 to 250 characters are allowed"
Refusal = tuple[Callable[[Any], object], type[DurableTaskError], str]


class Half(DataConverter):
    """A converter whose text no store can hold."""

    def serialize(self, value: Any) -> str | None:
        return None if value is None else "\ud800"

    def deserialize(self, data: str | None, target_type: Any = None) -> Any:
        return data


class Traces:
    """An open hub, and everything that was ever written to it."""

    def __init__(self, opened: LocalHub, settings: Settings, path: Path | None) -> None:
        self._opened = opened
        self._path = path
        self.host = HubHost(opened.ports, settings, "traces")

    def seen(self) -> tuple[int, list[str], list[int], list[str]]:
        """Return how many writes were asked for, the spilled values, and on disk the rows per table and all files."""
        payloads = self._opened.ports.payloads

        async def names() -> list[str]:
            return [name for number in range(4) async for name, _ in payloads.list(f"p{number:03d}/")]

        rows: list[int] = []
        files: list[str] = []
        if self._path is not None:
            with closing(sqlite3.connect(self._path)) as database:
                tables = [
                    name
                    for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
                ]
                counts = [database.execute(f"SELECT count(*) FROM {name}") for name in sorted(tables)]  # noqa: S608
                rows = [count.fetchone()[0] for count in counts]
            files = sorted(str(file) for file in self._path.parent.rglob("*"))
        return self._opened.stats().requests, self.host.run(names), rows, files


@pytest.fixture(params=["memory", "disk"])
def traces(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Traces]:
    path = tmp_path / "hub.db" if request.param == "disk" else None
    settings = Settings()
    found = Traces(open_hub(path, settings=settings), settings, path)
    yield found
    found.host.close()


def start(client: Any, target: Any = "flow", **options: Any) -> object:
    return client.schedule_new_orchestration(target, **options)


def listed(client: Any, **options: Any) -> object:
    return client.get_all_orchestration_states(OrchestrationQuery(**options))


BIG = "x" * (10 * 1024 * 1024)
CALLS: list[Refusal] = [
    (
        lambda c: start(c, instance_id=""),
        ConfigurationError,
        IDS,
    ),
    (lambda c: start(c, instance_id="i" * 501), ConfigurationError, "has 501 characters; at most 500 are"),
    (lambda c: start(c, instance_id="\ud800"), ConfigurationError, "text that UTF-8 can hold"),
    (lambda c: start(c, instance_id="@i"), ConfigurationError, "must not start with '@', which is reserved"),
    (lambda c: start(c, instance_id=3), ArgumentTypeError, "an instance id must be a string, not int"),
    (lambda c: c.get_orchestration_state("i" * 501), ConfigurationError, "at most 500 are allowed"),
    (
        lambda c: c.get_orchestration_history("i", execution_id=4),
        ArgumentTypeError,
        "execution_id must be a string",
    ),
    (
        lambda c: c.terminate_orchestration(b"i"),
        ArgumentTypeError,
        "an instance id must be a string, not bytes",
    ),
    (lambda c: c.terminate_orchestration("i", recursive="no"), ArgumentTypeError, "must be True or False"),
    (lambda c: c.suspend_orchestration("@i"), ConfigurationError, "reserved for entities"),
    (
        lambda c: c.suspend_orchestration("i", reason=3),
        ArgumentTypeError,
        "reason must be a string, not int",
    ),
    (
        lambda c: c.resume_orchestration("i", reason="\udfff"),
        ConfigurationError,
        "half a surrogate pair at 0",
    ),
    (lambda c: c.purge_orchestration(""), ConfigurationError, IDS),
    (lambda c: c.purge_orchestration("i", recursive=1), ArgumentTypeError, "must be True or False, not 1"),
    (
        lambda c: c.purge_orchestrations_by(timeout=5),
        ArgumentTypeError,
        "timeout must be a timedelta, not int",
    ),
    (lambda c: c.purge_orchestrations_by(timeout=-HOUR), ConfigurationError, "must be greater than zero"),
    (lambda c: start(c, ""), ConfigurationError, "orchestrator name must not be empty or blank; 1 to 250"),
    (lambda c: start(c, "n" * 251), ConfigurationError, "orchestrator name has 251 characters; at most 250"),
    (lambda c: start(c, 5), ArgumentTypeError, "by name, function, class or instance, not by int"),
    (lambda c: start(c, lambda: 1), ConfigurationError, "a lambda has no name"),
    (lambda c: start(c, start_at="now"), ArgumentTypeError, "start_at must be a datetime, not str"),
    (
        lambda c: start(c, start_at=datetime.max.replace(tzinfo=timezone(-HOUR))),
        ConfigurationError,
        "start_at must lie in the years 1 to 9999 in UTC",
    ),
    (lambda c: start(c, tags=["a"]), ArgumentTypeError, "tags must be a dictionary of strings, not list"),
    (lambda c: start(c, tags={"a": 1}), ArgumentTypeError, "value of the tag 'a' must be a string, not int"),
    (lambda c: start(c, tags={2: "a"}), ArgumentTypeError, "name of a tag must be a string, not int"),
    (lambda c: start(c, version=2), ArgumentTypeError, "version must be a string, not int"),
    (lambda c: start(c, version="v" * 251), ConfigurationError, "at most 250 are allowed"),
    (lambda c: start(c, raise_event="go"), ArgumentTypeError, r"must be a tuple \(name, data\), not 'go'"),
    (lambda c: start(c, raise_event=("", 1)), ConfigurationError, "event name must not be empty"),
    (lambda c: start(c, raise_event=("go", BIG)), PayloadTooLargeError, "at most 10,485,760 are allowed"),
    (
        lambda c: start(c, input="x" * 40_000, raise_event=("go", BIG)),
        PayloadTooLargeError,
        "data of event 'go'",
    ),
    (
        lambda c: start(c, input=object()),
        SerializationError,
        r"give the class to_json\(\) and from_json\(\)",
    ),
    (lambda c: start(c, input={object()}), SerializationError, "or make it a dataclass"),
    (
        lambda c: start(c, input={"r": [float("nan")]}),
        SerializationError,
        r"\$\.r\[0\] \(nan\) is not a finite",
    ),
    (lambda c: start(c, input=LOOP), SerializationError, "list cannot be stored: .*[Cc]ircular"),
    (lambda c: start(c, input={(1, 2): 3}), SerializationError, "keys must be str"),
    (
        lambda c: start(c, input=BIG),
        PayloadTooLargeError,
        "10,485,762 bytes; at most 10,485,760 are allowed",
    ),
    (lambda c: c.raise_orchestration_event("i", ""), ConfigurationError, "event name must not be empty"),
    (
        lambda c: c.raise_orchestration_event("i", 7),
        ArgumentTypeError,
        "event name must be a string, not int",
    ),
    (lambda c: c.raise_orchestration_event("i", "e" * 251), ConfigurationError, "at most 250 are allowed"),
    (
        lambda c: c.raise_orchestration_event("i", "e", event_id=""),
        ConfigurationError,
        "event_id must not be",
    ),
    (
        lambda c: c.raise_orchestration_event("i", "e", event_id=3),
        ArgumentTypeError,
        "event_id must be a string",
    ),
    (
        lambda c: c.raise_orchestration_event("i", "e", data=object()),
        SerializationError,
        "make it a dataclass",
    ),
    (lambda c: c.raise_orchestration_event("i", "e", data=BIG), PayloadTooLargeError, "at most 10,485,760"),
    (lambda c: c.terminate_orchestration("i", output=LOOP), SerializationError, "cannot be stored"),
    (lambda c: c.terminate_orchestration("i", output=BIG), PayloadTooLargeError, "at most 10,485,760"),
    (lambda c: c.rewind_orchestration(7), ArgumentTypeError, "instance id must be a string, not int"),
    (lambda c: c.rewind_orchestration("i", reason=3), ArgumentTypeError, "reason must be a string"),
    (
        lambda c: c.reset_orchestration("i", event_index=1.5),
        ArgumentTypeError,
        "event_index must be a whole number, not float",
    ),
    (lambda c: c.reset_orchestration("i", event_index=-1), ConfigurationError, "must be 0 or more, not -1"),
    (
        lambda c: c.reset_orchestration("i", event_index=0, keep_events=1),
        ArgumentTypeError,
        "keep_events must be True or False",
    ),
    (
        lambda c: c.restart_orchestration("i", restart_with_new_instance_id="yes"),
        ArgumentTypeError,
        "restart_with_new_instance_id must be True or False",
    ),
    (
        lambda c: c.wait_for_orchestration_start("i", timeout="1"),
        ArgumentTypeError,
        "number of seconds or None",
    ),
    (
        lambda c: c.wait_for_orchestration_completion("i", timeout=-1),
        ConfigurationError,
        "0 seconds or more",
    ),
    (
        lambda c: c.wait_for_orchestration_completion("i", timeout=float("nan")),
        ConfigurationError,
        "not nan",
    ),
    (
        lambda c: c.list_instance_ids(page_size=0),
        ConfigurationError,
        "at least 1, not 0; leave it out for 1000",
    ),
    (lambda c: c.list_instance_ids(page_size="9"), ArgumentTypeError, "page_size must be a whole number"),
    (
        lambda c: c.list_instance_ids(continuation_token="x"),
        ConfigurationError,
        "continuation_token must be one that a page of a query came with",
    ),
    (
        lambda c: c.list_instance_ids(continuation_token="9:i"),
        ConfigurationError,
        "a page of a query came with",
    ),
    (
        lambda c: c.list_instance_ids(continuation_token="9" * 5000),
        ConfigurationError,
        "a page of a query came with",
    ),
    (
        lambda c: c.list_orchestration_states(continuation_token="WyJhIiwwLG51bGxd"),
        ConfigurationError,
        "a page of this query came with, not of another query or hub",
    ),
    (
        lambda c: c.list_orchestration_states(continuation_token="é"),
        ConfigurationError,
        "a page of a query came with",
    ),
    (lambda c: c.list_orchestration_states("all"), ArgumentTypeError, "must be an OrchestrationQuery"),
    (lambda c: c.list_orchestration_states(page_size=0), ConfigurationError, "page_size must be at least 1"),
    (
        lambda c: listed(c, instance_ids=[]),
        ConfigurationError,
        "instance_ids must not be empty; leave it out",
    ),
    (lambda c: listed(c, instance_ids=["i", ""]), ConfigurationError, IDS),
    (
        lambda c: listed(c, instance_ids=[str(n) for n in range(1_001)]),
        ConfigurationError,
        "at most 1,000, not 1,001",
    ),
    (lambda c: listed(c, names="flow"), ArgumentTypeError, "names must be a list, not str: 'flow'"),
    (lambda c: listed(c, names=[None]), ArgumentTypeError, "one of names must be a string, not NoneType"),
    (lambda c: listed(c, names=[[]]), ArgumentTypeError, "names must be a list of strings"),
    (lambda c: listed(c, versions=[1]), ArgumentTypeError, "one of versions must be a string, not int"),
    (lambda c: listed(c, tags={}), ConfigurationError, "tags must not be empty; leave them out"),
    (lambda c: listed(c, tags={"a": 1}), ArgumentTypeError, "value of the tag 'a' must be a string"),
    (
        lambda c: listed(c, last_updated_time_to="now"),
        ArgumentTypeError,
        "last_updated_time_to must be a datetime",
    ),
    (lambda c: listed(c, completed_time_from=1), ArgumentTypeError, "completed_time_from must be a datetime"),
    (lambda c: listed(c, has_pending_reason="no"), ArgumentTypeError, "has_pending_reason must be True or"),
    (lambda c: c.purge_orchestrations_by(query="all"), ArgumentTypeError, "query must be an Orchestration"),
    (
        lambda c: c.purge_orchestrations_by(runtime_status=[], query=OrchestrationQuery()),
        ConfigurationError,
        "give either a query, or created_time_from, created_time_to and runtime_status",
    ),
    (
        lambda c: c.purge_orchestrations_by(on_progress=1),
        ArgumentTypeError,
        "on_progress must be a function of one argument, not int",
    ),
    (lambda c: c.schedule_new_orchestrations(5), ArgumentTypeError, "requests must be several New"),
    (
        lambda c: c.schedule_new_orchestrations(NewOrchestration("flow")),
        ArgumentTypeError,
        "requests must be several NewOrchestration, such as a list",
    ),
    (
        lambda c: c.schedule_new_orchestrations([], on_progress="x"),
        ArgumentTypeError,
        "on_progress must be a function",
    ),
    (lambda c: c.redrive_dead_letter(1), ArgumentTypeError, "letter_id must be a string, not int"),
    (lambda c: c.redrive_dead_letter("\ud800"), ConfigurationError, "letter_id must be text"),
    (lambda c: c.redrive_dead_letter("1"), DeadLetterNotFoundError, "no kept dead letter '1'"),
    (lambda c: c.list_instance_ids(continuation_token=4), ArgumentTypeError, "must be a string, not int"),
    (
        lambda c: c.list_instance_ids(runtime_status=["FAILED"]),
        ArgumentTypeError,
        r"RUNNING, COMPLETED, FAILED",
    ),
    (
        lambda c: c.list_instance_ids(completed_time_to=1),
        ArgumentTypeError,
        "completed_time_to must be a datetime",
    ),
    (
        lambda c: c.get_all_orchestration_states("all"),
        ArgumentTypeError,
        "must be an OrchestrationQuery, not str",
    ),
    (lambda c: listed(c, runtime_status=OrchestrationStatus.FAILED), ArgumentTypeError, "must be a list of"),
    (lambda c: listed(c, created_time_from="1 May"), ArgumentTypeError, "must be a datetime, not str"),
    (lambda c: listed(c, max_instance_count=0), ConfigurationError, "max_instance_count must be at least 1"),
    (lambda c: listed(c, instance_id_prefix=1), ArgumentTypeError, "instance_id_prefix must be a string"),
]


@pytest.mark.parametrize(("call", "error", "message"), CALLS)
def test_a_call_with_bad_arguments_is_refused_and_nothing_is_written(
    traces: Traces, call: Callable[[Any], object], error: type[DurableTaskError], message: str
) -> None:
    before = traces.seen()
    with pytest.raises(error, match=message):
        call(TaskHubClient(traces.host))
    assert traces.seen() == before


async def test_the_async_client_refuses_the_same() -> None:
    async with TaskHub.local() as opened:
        client = AsyncTaskHubClient(opened)
        with pytest.raises(ConfigurationError, match=IDS):
            await client.schedule_new_orchestration("flow", instance_id="")
        with pytest.raises(PayloadTooLargeError, match="at most 10,485,760"):
            await client.schedule_new_orchestration("flow", input=BIG)
        assert await client.get_all_orchestration_states() == []


def test_text_of_a_converter_that_cannot_be_stored_is_refused(traces: Traces) -> None:
    before = traces.seen()
    with pytest.raises(SerializationError, match="half a surrogate pair"):
        TaskHubClient(traces.host, data_converter=Half()).schedule_new_orchestration("flow", input=1)
    assert traces.seen() == before
