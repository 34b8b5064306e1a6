"""Bad input: an error of this package at the earliest point, which says what is allowed; nothing half-written.

Settings have their own tests (``tests/unit/test_settings.py``), so have disks that may not be written to
(``tests/integration/test_local_hub_file.py``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durabletask_azure import (
    ActivityContext,
    ArgumentTypeError,
    AsyncTaskHubClient,
    ConcurrencyOptions,
    ConfigurationError,
    DurableTaskError,
    OrchestrationContext,
    RetryPolicy,
    SchemaVersionError,
    TaskHub,
    TaskHubClient,
    TaskHubWorker,
    WorkerStateError,
)

Refusal = tuple[Callable[[Any], object], type[DurableTaskError], str]


def flow(ctx: OrchestrationContext, _: Any) -> str:
    return "done"


def work(ctx: ActivityContext, _: Any) -> str:
    return "done"


def too_many(one: int, two: int, three: int) -> None:
    raise AssertionError((one, two, three))


# ------------------------------------------------------------------ opening a hub


def newer(path: Path) -> Path:
    TaskHub.local(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE hub SET schema_version = 99")
        database.commit()
    return path


def foreign(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE hub(schema_version)")
    return path


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def hub(path: Any = None, **options: Any) -> TaskHub:
    return TaskHub.local(path, **options)


HUBS: list[Refusal] = [
    (lambda at: hub(at / "h", partition=4), ArgumentTypeError, "'partition'; did you mean partitions"),
    (
        lambda at: hub(at / "h", zzz=4),
        ArgumentTypeError,
        "it has other_payload_codecs, partitions, path, payload_codec, settings, synchronous",
    ),
    (lambda _: hub(3), ArgumentTypeError, "path must be a string or a pathlib.Path, not int"),
    (lambda _: hub(b"h"), ArgumentTypeError, "path must be a string or a pathlib.Path, not bytes"),
    (lambda _: hub(""), ConfigurationError, "leave it out for a hub in memory"),
    (lambda _: hub(":memory:"), ConfigurationError, "leave it out for a hub in memory"),
    (lambda at: hub(f"{at}/h\0"), ConfigurationError, "without zero characters"),
    (lambda at: hub(at / "h", settings={}), ArgumentTypeError, "must be a Settings object, not dict"),
    (
        lambda at: hub(at / "h", synchronous="MAYBE"),
        ConfigurationError,
        "one of OFF, NORMAL, FULL, EXTRA",
    ),
    (lambda at: hub(at / "h", synchronous=2), ConfigurationError, "one of OFF, NORMAL, FULL, EXTRA"),
    (lambda at: hub(at / "h", partitions=0), ConfigurationError, "must be 1 to 128, not 0"),
    (lambda at: hub(at / "h", partitions=129), ConfigurationError, "must be 1 to 128, not 129"),
    (lambda at: hub(at / "h", partitions="4"), ArgumentTypeError, "whole number from 1 to 128, not '4'"),
    (
        lambda at: hub(at / "h", partitions=True),
        ArgumentTypeError,
        "whole number from 1 to 128, not True",
    ),
    (
        lambda at: hub(at / "no" / "h"),
        ConfigurationError,
        "needs an existing folder .*no; create it first",
    ),
    (lambda at: hub(at), ConfigurationError, "is not a file; name a file to create or an existing hub"),
    (
        lambda at: hub(at / "text"),
        ConfigurationError,
        "is not a task hub, nor any SQLite file; name another",
    ),
    (lambda at: hub(at / "foreign"), ConfigurationError, "SQLite file of another application"),
    (lambda at: hub(at / "newer"), SchemaVersionError, "schema version 99; this version .* knows 1"),
]


@pytest.mark.parametrize(("call", "error", "message"), HUBS)
def test_a_hub_that_cannot_be_is_refused_and_nothing_is_created(
    tmp_path: Path, call: Callable[[Path], object], error: type[DurableTaskError], message: str
) -> None:
    newer(tmp_path / "newer")
    foreign(tmp_path / "foreign")
    written(tmp_path / "text", "not a database " * 100)

    def contents() -> dict[Path, bytes | None]:
        return {path: path.read_bytes() if path.is_file() else None for path in tmp_path.rglob("*")}

    before = contents()
    with pytest.raises(error, match=message):
        call(tmp_path)
    assert contents() == before


# ------------------------------------------------------------------ workers and clients


def registered(worker: TaskHubWorker) -> TaskHubWorker:
    worker.add_orchestrator(flow)
    worker.add_activity(work)
    return worker


def running(worker: TaskHubWorker) -> TaskHubWorker:
    registered(worker).start()
    return worker


WORKERS: list[Refusal] = [
    (
        lambda _: TaskHubWorker(as_any("x")),
        ArgumentTypeError,
        "hub must be a TaskHub.*TaskHub.local.*, not str",
    ),
    (lambda _: TaskHubClient(as_any(None)), ArgumentTypeError, "hub must be a TaskHub.*, not NoneType"),
    (lambda _: AsyncTaskHubClient(as_any(TaskHub)), ArgumentTypeError, "hub must be a TaskHub.*, not type"),
    (lambda h: as_any(TaskHubWorker)(h, options=1), ArgumentTypeError, "did you mean concurrency_options"),
    (lambda h: as_any(TaskHubClient)(h, version="1"), ArgumentTypeError, "did you mean default_version"),
    (
        lambda h: TaskHubClient(h, default_version=as_any(1)),
        ArgumentTypeError,
        "version must be a string, not int",
    ),
    (lambda h: TaskHubClient(h, data_converter=as_any("j")), ArgumentTypeError, "subclass of DataConverter"),
    (lambda h: TaskHubWorker(h, data_converter=as_any("j")), ArgumentTypeError, "subclass of DataConverter"),
    (lambda h: TaskHubWorker(h, logger=as_any("l")), ArgumentTypeError, "must be a logging.Logger, not str"),
    (
        lambda h: TaskHubWorker(h, exception_properties_provider=as_any(1)),
        ArgumentTypeError,
        r"a method get_exception_properties\(exception\); int has none",
    ),
    (
        lambda h: TaskHubWorker(h, concurrency_options=as_any(4)),
        ArgumentTypeError,
        "must be a ConcurrencyOptions object, not int",
    ),
    (lambda _: ConcurrencyOptions(0), ConfigurationError, "activity_work_items must be at least 1, not 0"),
    (
        lambda _: ConcurrencyOptions(None, -1),
        ConfigurationError,
        "orchestration_work_items must be at least 1",
    ),
    (
        lambda _: ConcurrencyOptions(None, None, as_any("x")),
        ArgumentTypeError,
        "must be a whole number, not 'x'",
    ),
    (
        lambda _: as_any(ConcurrencyOptions)(threads=1),
        ArgumentTypeError,
        "it has maximum_concurrent_activity",
    ),
    (lambda h: TaskHubWorker(h).add_orchestrator(5), ArgumentTypeError, r"give a function \(ctx, input\)"),
    (
        lambda h: TaskHubWorker(h).add_orchestrator(),
        ConfigurationError,
        "either as a function, class or instance",
    ),
    (
        lambda h: TaskHubWorker(h).add_orchestrator(too_many),
        ArgumentTypeError,
        r"write \(ctx, input\) or \(ctx\)",
    ),
    (
        lambda h: TaskHubWorker(h).add_orchestrator(lambda: 1),
        ConfigurationError,
        "pass name=... as well",
    ),
    (lambda h: TaskHubWorker(h).add_orchestrator(flow, name=""), ConfigurationError, "1 to 250 characters"),
    (
        lambda h: TaskHubWorker(h).add_orchestrator(flow, version=as_any(2)),
        ArgumentTypeError,
        "version must be",
    ),
    (lambda h: TaskHubWorker(h).add_activity("work"), ArgumentTypeError, r"give a function \(ctx, input\)"),
    (lambda h: TaskHubWorker(h).add_activity(work, name="w" * 251), ConfigurationError, "at most 250 are"),
    (
        lambda h: TaskHubWorker(h).add_activity(work, name=as_any(3)),
        ArgumentTypeError,
        "must be a string, not int",
    ),
    (lambda h: TaskHubWorker(h).add_activities_from(None), ConfigurationError, "has no public method"),
    (
        lambda h: registered(TaskHubWorker(h)).add_orchestrator(flow),
        ConfigurationError,
        "'flow' already exists",
    ),
    (lambda h: registered(TaskHubWorker(h)).add_activity(work), ConfigurationError, "'work' already exists"),
    (lambda h: running(TaskHubWorker(h)).add_orchestrator(flow), WorkerStateError, "stop it first"),
    (lambda h: running(TaskHubWorker(h)).add_activity(work), WorkerStateError, "stop it first"),
    (lambda h: running(TaskHubWorker(h)).start(), WorkerStateError, "already running"),
    (
        lambda h: RetryPolicy(first_retry_interval=as_any(1), max_number_of_attempts=3),
        ArgumentTypeError,
        "first_retry_interval must be a timedelta, not int",
    ),
]


def as_any(value: object) -> Any:
    """Hide a value's type from the type checker, which would refuse it first."""
    return value


@pytest.mark.parametrize(("call", "error", "message"), WORKERS)
def test_a_worker_or_client_that_cannot_be_is_refused(
    call: Callable[[TaskHub], object], error: type[DurableTaskError], message: str
) -> None:
    with TaskHub.local() as opened, pytest.raises(error, match=message):
        call(opened)
