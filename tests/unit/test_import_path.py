"""The name by which another process finds a function or class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from durabletask_azure.core.import_path import importable
from durabletask_azure.core.registry import Registry
from durabletask_azure.errors import ConfigurationError


def double(_ctx: Any, number: int) -> int:
    return 2 * number


class Halving:
    def run(self, _ctx: Any, number: int) -> int:
        return number // 2

    @staticmethod
    def third(_ctx: Any, number: int) -> int:
        return number // 3


@pytest.mark.parametrize(
    ("target", "name"), [(double, "double"), (Halving, "Halving"), (Halving.third, "Halving.third")]
)
def test_what_stands_in_a_module_is_found_by_its_name(target: Any, name: str) -> None:
    assert importable(target, "it") == (f"{__name__}:{name}", target)


def test_what_has_no_name_in_its_module_is_refused() -> None:
    def inner(_ctx: Any) -> None: ...

    anonymous: Callable[[Any], None] = lambda _ctx: None  # noqa: E731
    for target, reason in [
        (inner, "is defined inside a function; move it to the top of a module"),
        (anonymous, "is a lambda; move it to the top of a module"),
        (Halving(), "give a function or class of a module, not Halving"),
        (None, "give a function or class of a module, not NoneType"),
    ]:
        with pytest.raises(ConfigurationError, match=f"^activity 'a' runs in another process, .* {reason}$"):
            importable(target, "activity 'a'")


def test_a_registry_says_which_activities_run_in_a_process() -> None:
    registry = Registry()
    registry.add_activity(double, process=True)
    registry.add_activity(double, name="here")
    assert [definition.process for definition in registry.activities] == [
        (f"{__name__}:double", double),
        None,
    ]
