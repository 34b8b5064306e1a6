"""How failures are recorded and asked for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from durabletask_azure.core.failures import FailureDetails, describe_failure, qualified_name, truncate
from durabletask_azure.errors import NonRetriableError, OrchestrationFailedError, TaskFailedError


class CustomError(ValueError):
    pass


class LeftError(CustomError):
    pass


class RightError(CustomError):
    pass


class BothError(LeftError, RightError):
    pass


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def described(error: BaseException, text_bytes_max: int = 10_000, **more: Any) -> FailureDetails:
    try:
        raise error
    except type(error) as caught:
        return describe_failure(caught, text_bytes_max=text_bytes_max, **more)


def test_b78_type_message_and_stack_trace_are_kept() -> None:
    details = described(CustomError("no"))
    assert (details.message, details.error_type) == ("no", qualified_name(CustomError))
    assert details.stack_trace is not None
    assert "in described" in details.stack_trace
    assert (details.inner_failure, details.properties, details.is_non_retriable) == (None, None, False)
    assert described(NonRetriableError("never")).is_non_retriable


def test_b78_is_caused_by_knows_names_and_subclasses() -> None:
    details = described(BothError("no"))
    for known in (
        BothError,
        LeftError,
        RightError,
        CustomError,
        ValueError,
        Exception,
        "BothError",
        details.error_type,
    ):
        assert details.is_caused_by(known)
    for unknown in (KeyError, "KeyError", "other.BothError", ""):
        assert not details.is_caused_by(unknown)
    assert FailureDetails("no", "ValueError").is_caused_by(ValueError)
    assert FailureDetails("no", "BothError").is_caused_by(CustomError)
    with pytest.raises(TypeError, match="takes an exception class"):
        details.is_caused_by(5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="takes an exception class"):
        details.is_caused_by(int)  # pyright: ignore[reportArgumentType]


def chain(kind: str) -> BaseException:
    try:
        try:
            raise KeyError("root")
        except KeyError as root:
            if kind == "cause":
                raise CustomError("top") from root
            if kind == "suppressed":
                raise CustomError("top") from None
            raise CustomError("top")  # noqa: B904
    except CustomError as top:
        return top


def test_b44_causes_become_inner_failures() -> None:
    for kind in ("cause", "context"):
        inner = describe_failure(chain(kind), text_bytes_max=1_000).inner_failure
        assert inner is not None
        assert inner.error_type == "KeyError"
    assert describe_failure(chain("suppressed"), text_bytes_max=1_000).inner_failure is None


def test_a_failed_task_hands_on_its_own_details() -> None:
    own = FailureDetails("root", "KeyError")
    assert described(TaskFailedError("task failed", own)).inner_failure == own
    assert described(OrchestrationFailedError("it failed", own)).inner_failure == own


def test_a_chain_of_causes_has_an_end() -> None:
    error: BaseException = ValueError("0")
    for number in range(1, 20):
        after = ValueError(str(number))
        after.__cause__ = error
        error = after
    details: FailureDetails | None = describe_failure(error, text_bytes_max=100_000)
    depth = 0
    while details is not None:
        details, depth = details.inner_failure, depth + 1
    assert depth == 9


def test_an_error_that_cannot_tell_its_text_is_recorded() -> None:
    error = MuteError()
    assert describe_failure(error, text_bytes_max=100).message == "<the error's text failed: RuntimeError>"


def test_properties_are_at_once_what_a_replay_reads() -> None:
    codes = [1]
    properties = {"at": datetime(2026, 1, 2, tzinfo=UTC), "pair": (1, 2), "by": {1: "a"}, "codes": codes}
    details = described(ValueError("no"), properties=properties)
    codes.append(2)
    assert details.properties == {
        "at": "2026-01-02T00:00:00Z",
        "pair": [1, 2],
        "by": {"1": "a"},
        "codes": [1],
    }


def test_properties_are_kept_and_made_storable() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    properties = {"code": 7, "nested": {"a": [1]}, "odd": object, "half": "\ud800", "cycle": cycle}
    details = described(ValueError("no"), properties=properties)
    assert details.properties is not None
    assert (details.properties["code"], details.properties["nested"]) == (7, {"a": [1]})
    assert details.properties["odd"] == "<class 'object'>"
    assert details.properties["half"] == "'\\ud800'"
    assert details.properties["cycle"] == "[[...]]"
    assert described(ValueError("no"), properties={}).properties is None


@pytest.mark.parametrize("letter", ["a", "é", "🎈"])
def test_b81_truncated_text_fits_and_says_so(letter: str) -> None:
    whole = letter * 1_000
    width = len(letter.encode())
    assert truncate(whole, 1_000 * width) == whole
    cut = truncate(whole, 500)
    assert len(cut.encode()) <= 500
    assert cut.endswith(f"… [truncated: {1_000 * width:,} bytes]")
    assert truncate("short", 500) == "short"
    assert truncate("half \ud800", 500) == "half ?"
    assert truncate(whole, 1).startswith("…")


def test_a_failed_task_may_be_made_of_an_exception() -> None:
    cause = LookupError("no lamp")
    error = TaskFailedError("the task failed", cause)
    assert str(error) == "the task failed"
    assert (error.details.error_type, error.details.message) == ("LookupError", "no lamp")
    assert described(error).inner_failure == error.details
