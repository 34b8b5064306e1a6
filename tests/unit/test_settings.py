"""Settings: what is refused, and that the message names the field, the value and what is allowed."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from durabletask_azure.errors import ArgumentTypeError, ConfigurationError
from durabletask_azure.settings import Settings

MAY_BE_NONE = {"retention_s", "retention_completed_s", "retention_failed_s", "retention_terminated_s"}
NUMBERS = sorted(set(Settings.__struct_fields__) - {"park_delays_s"} - MAY_BE_NONE)
WHOLE = [name for name in NUMBERS if isinstance(getattr(Settings(), name), int)]


def settings(**options: Any) -> Settings:
    return Settings(**options)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("foo", "it has activities_waiting_max, .*, warm_instances_max"),
        ("poll_min_s", "did you mean poll_s_min"),
        ("payload_inline_max", "did you mean payload_inline_bytes_max"),
    ],
)
def test_an_option_nobody_knows_is_refused_naming_those_near_to_it(name: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=f"Settings has no option '{name}'; {meant}") as caught:
        settings(**{name: 1})
    assert isinstance(caught.value, ArgumentTypeError)


def test_options_are_given_by_name() -> None:
    kind: Any = Settings
    with pytest.raises(ArgumentTypeError, match="by name"):
        kind(30)


@pytest.mark.parametrize("value", ["1", None, True, -1, math.nan, math.inf, [1]])
def test_a_value_of_a_wrong_type_or_out_of_range_is_refused_whatever_the_option(value: object) -> None:
    for name in NUMBERS:
        with pytest.raises(ConfigurationError) as caught:
            settings(**{name: value})
        assert str(caught.value).startswith(f"{name} must be a ")
        assert str(caught.value).endswith(f", not {value!r}")


@pytest.mark.parametrize("name", sorted(MAY_BE_NONE))
def test_a_retention_is_a_positive_number_of_seconds_or_none(name: str) -> None:
    assert getattr(settings(**{name: None}), name) is None
    assert getattr(settings(**{name: 0.5}), name) == 0.5
    for value in ("1", True, 0, -1, math.nan, math.inf):
        with pytest.raises(ConfigurationError, match=f"^{name} must be a finite number of seconds"):
            settings(**{name: value})


def test_half_of_something_countable_is_refused() -> None:
    for name in WHOLE:
        with pytest.raises(ConfigurationError, match=f"{name} must be a whole number.*, not 2.5"):
            settings(**{name: 2.5})


def test_zero_is_refused_where_it_makes_no_sense() -> None:
    may_be_zero = {"executions_kept", "pack_delay_s", "activity_prefetch_max", "queue_full_wait_s"}
    assert all(getattr(settings(**{name: 0}), name) == 0 for name in may_be_zero)
    for name in set(NUMBERS) - may_be_zero:
        with pytest.raises(ConfigurationError, match=rf"{name} must be .*(at least 1|more than 0), not 0"):
            settings(**{name: 0})


@pytest.mark.parametrize("delays", [5.0, [1.0], (0,), (1, -1), ("1",), (True,), (math.inf,)])
def test_delays_are_a_tuple_of_positive_numbers(delays: object) -> None:
    with pytest.raises(ConfigurationError, match="park_delays_s must be a tuple of positive numbers"):
        settings(park_delays_s=delays)
    assert settings(park_delays_s=()).park_delays_s == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"poll_s_min": 2.0}, "poll_s_min must be at most poll_s_max, which is 1.0, not 2.0"),
        (
            {"payload_bytes_max": 5},
            "payload_inline_bytes_max must be at most payload_bytes_max, which is 5, not 30720",
        ),
        (
            {"careful_delivery_count": 11},
            "careful_delivery_count must be at most delivery_count_max, which is 10, not",
        ),
        ({"payload_inline_bytes_max": 32_001}, "payload_inline_bytes_max must be at most 32000, not 32001"),
    ],
)
def test_values_that_do_not_fit_one_another_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        settings(**options)


def test_a_changed_copy_is_checked_as_well() -> None:
    base = settings(lock_s=5.0)
    assert msgspec.structs.replace(base, poll_s_min=0.5).lock_s == 5.0
    with pytest.raises(ConfigurationError, match="poll_s_min must be at most"):
        msgspec.structs.replace(base, poll_s_min=5.0)
