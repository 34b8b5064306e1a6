"""Registering orchestrators and activities, in every way they can be written (B14)."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, Protocol

import pytest

from durabletask_azure.core.annotations import signature_of
from durabletask_azure.core.naming import check_name
from durabletask_azure.core.registry import Registry, TaskActivity, TaskOrchestration, get_name
from durabletask_azure.errors import ArgumentTypeError, ConfigurationError
from tests.unit.play import Play


async def flow(ctx: Any, amount: int) -> str:
    return f"{amount}"


def generator_flow(ctx: Any, amount: int) -> Generator[Any, Any, str]:
    yield from ()
    return f"{amount}"


def plain_flow(ctx: Any) -> str:
    return "plain"


class ClassFlow(TaskOrchestration[int, str]):
    def __init__(self, prefix: str = "class") -> None:
        self.prefix = prefix

    async def run(self, ctx: Any, input: int, /) -> str:
        return f"{self.prefix} {input}"


class GeneratorClassFlow(TaskOrchestration[int, str]):
    def run(self, ctx: Any, input: int, /) -> Generator[Any, Any, str]:
        found = yield ctx.call_activity(ClassActivity, input=input)
        return found


class ClassActivity(TaskActivity[int, str]):
    def run(self, ctx: Any, input: int, /) -> str:
        return f"did {input}"


class Executed:
    async def execute(self, ctx: Any) -> str:
        return "executed"


def run_it(orchestrator: Any, input: Any = None) -> Any:
    play = Play(orchestrator, input)
    play.start()
    return play.result


def test_functions_of_each_kind_are_known_by_name() -> None:
    registry = Registry()
    names = [registry.add_orchestrator(each) for each in (flow, generator_flow, plain_flow)]
    assert names == ["flow", "generator_flow", "plain_flow"]
    found = registry.orchestrators
    assert [definition.kind for definition in found] == ["async", "generator", "plain"]
    assert [definition.input_type for definition in found] == [int, int, None]
    assert [definition.output_type for definition in found] == [str, str, str]
    assert run_it(flow, 5) == "5"
    assert run_it(plain_flow) == "plain"


def test_classes_instances_and_factories_run() -> None:
    assert run_it(ClassFlow, 1) == "class 1"
    assert run_it(ClassFlow("own"), 2) == "own 2"
    registry = Registry()
    registry.add_orchestrator(factory=lambda: ClassFlow("made"), name="made")

    def make_flow() -> ClassFlow:
        return ClassFlow("annotated")

    assert registry.add_orchestrator(factory=make_flow) == "make_flow"
    for name in ("made", "make_flow"):
        definition = registry.orchestrator(name)
        assert definition is not None
        assert (definition.kind, definition.input_type, definition.output_type) == ("async", int, str)


def test_a_class_calls_its_activity_by_the_class() -> None:
    play = Play(GeneratorClassFlow, 3)
    (action,) = play.start().actions
    assert getattr(action, "name", "") == "ClassActivity"
    play.turn(play.completed(1, "did 3"))
    assert play.result == "did 3"


def test_versions_are_kept_apart_and_fall_back_to_none() -> None:
    registry = Registry()
    registry.add_orchestrator(flow)
    registry.add_orchestrator(generator_flow, name="flow", version="2.0")
    exact, other = registry.orchestrator("flow", "2.0"), registry.orchestrator("flow", "9")
    assert exact is not None
    assert other is not None
    assert (exact.version, other.version) == ("2.0", None)
    assert registry.orchestrator("missing") is None
    with pytest.raises(ValueError, match=r"'flow' of version '2\.0' already exists"):
        registry.add_orchestrator(flow, version="2.0")
    with pytest.raises(ValueError, match="'flow' already exists"):
        registry.add_orchestrator(flow)


async def test_activities_are_registered_in_every_way() -> None:
    registry = Registry()

    def alone(ctx: Any) -> int:
        return 1

    async def pair(ctx: Any, value: int) -> int:
        return value

    class Callee:
        def __call__(self, ctx: Any, value: str) -> str:
            return value

    assert [registry.add_activity(each) for each in (alone, pair, ClassActivity, Executed())] == [
        "alone",
        "pair",
        "ClassActivity",
        "Executed",
    ]
    registry.add_activity(factory=ClassActivity, name="made")
    registry.add_activity(factory=Executed, name="executed")
    registry.add_activity(lambda ctx, value: value, name="lambda")  # pyright: ignore[reportUnknownLambdaType]
    registry.add_activity(Callee())
    registry.add_activity(ClassActivity().run)
    results: dict[str, Any] = {}
    for definition in registry.activities:
        result = definition.fn(None, 7)
        results[definition.name] = await result if definition.is_async else result
    assert results == {
        "alone": 1,
        "pair": 7,
        "ClassActivity": "did 7",
        "Executed": "executed",
        "made": "did 7",
        "executed": "executed",
        "lambda": 7,
        "Callee": 7,
        "run": "did 7",
    }
    found = registry.activity("ClassActivity")
    assert found is not None
    assert (found.input_type, found.output_type) == (int, str)
    assert registry.activity("missing") is None
    with pytest.raises(ValueError, match="already exists"):
        registry.add_activity(pair)


async def test_every_public_method_of_an_object_becomes_an_activity() -> None:
    class Bank:
        rate = 3
        kind = int

        def charge(self, ctx: Any, amount: int) -> int:
            return -amount

        async def audit(self, ctx: Any) -> str:
            return "audited"

        def add(self, left: int, right: int) -> int:
            return left + right

        def double(self, amount: int) -> int:
            return 2 * amount

        def ping(self) -> str:
            return "pong"

        def _secret(self) -> None:
            """Is not an activity."""

    registry = Registry()
    assert registry.add_activities_from(Bank()) == ["add", "audit", "charge", "double", "ping"]
    called = {"add": [1, 2], "charge": 5, "double": 4, "ping": None, "audit": None}
    results: dict[str, Any] = {}
    for name, value in called.items():
        definition = registry.activity(name)
        assert definition is not None
        result = definition.fn(None, value)
        results[name] = await result if definition.is_async else result
    assert results == {"add": 3, "charge": -5, "double": 8, "ping": "pong", "audit": "audited"}
    charge = registry.activity("charge")
    assert charge is not None
    assert charge.input_type is int
    with pytest.raises(ConfigurationError, match="no public method"):
        registry.add_activities_from(object())


REFUSED: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (lambda ctx: 1, {}, ValueError, "lambda"),  # pyright: ignore[reportUnknownLambdaType]
    (None, {}, ConfigurationError, "factory"),
    (flow, {"factory": ClassFlow}, ConfigurationError, "factory"),
    (flow, {"name": ""}, ValueError, "must not be empty"),
    (flow, {"name": "x" * 251}, ValueError, "at most 250"),
    (flow, {"name": 5}, TypeError, "must be a string"),
    (5, {}, TypeError, "is not an orchestrator"),
    (int, {}, TypeError, "is not an orchestrator"),
    (lambda: 1, {"name": "none"}, TypeError, "takes 0 parameters"),
    (lambda a, b, c: 1, {"name": "three"}, TypeError, "takes 3"),  # pyright: ignore[reportUnknownLambdaType]
]


@pytest.mark.parametrize(("target", "options", "error", "message"), REFUSED)
def test_what_cannot_be_registered_is_refused(
    target: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Registry().add_orchestrator(target, **options)


def test_a_function_of_any_number_of_arguments_gets_both() -> None:
    def anything(*given: Any) -> int:
        return len(given)

    assert run_it(anything) == 2


def test_a_factory_that_is_none_and_a_version_that_is_none_are_refused() -> None:
    wrong: Any = 5
    with pytest.raises(ArgumentTypeError, match="factory must be a function, not int"):
        Registry().add_orchestrator(factory=wrong)
    with pytest.raises(ArgumentTypeError, match="version must be a string, not int"):
        Registry().add_orchestrator(flow, version=wrong)


def test_of_an_interface_only_its_methods_become_activities() -> None:
    class Teller(Protocol):
        def deposit(self, amount: int) -> int: ...

        def withdraw(self, amount: int) -> int: ...

    class Bank:
        def deposit(self, amount: int) -> int:
            return amount

        def withdraw(self, amount: int) -> int:
            return -amount

        def rob(self) -> None:
            """Is not a teller's business."""

    class Half:
        def deposit(self, amount: int) -> int:
            return amount

    registry = Registry()
    assert registry.add_activities_from(Bank(), interface=Teller) == ["deposit", "withdraw"]
    found = registry.activity("withdraw")
    assert found is not None
    assert (found.fn(None, 3), found.input_type) == (-3, int)
    with pytest.raises(ConfigurationError, match="Half lacks withdraw of Teller"):
        registry.add_activities_from(Half(), interface=Teller)
    with pytest.raises(ConfigurationError, match="object has no public method"):
        registry.add_activities_from(Bank(), interface=object)
    with pytest.raises(ArgumentTypeError, match="interface must be a class"):
        registry.add_activities_from(Bank(), interface=Teller.deposit)  # pyright: ignore[reportArgumentType]


def test_a_factory_gives_each_execution_an_object_with_what_it_depends_on() -> None:
    made: list[str] = []

    def connected() -> ClassFlow:
        made.append("connection")
        return ClassFlow(prefix=made[-1])

    registry = Registry()
    registry.add_orchestrator(name="flow", version="1", factory=connected)
    registry.add_orchestrator(name="flow", version="2", factory=lambda: ClassFlow("second"))
    first, second = registry.orchestrator("flow", "1"), registry.orchestrator("flow", "2")
    assert first is not None
    assert second is not None
    before = len(made)
    for definition in (first, first, second):
        definition.start(None, 1).close()
    assert len(made) - before == 2
    assert (first.input_type, second.kind) == (int, "async")


def test_methods_are_registered_all_or_none() -> None:
    class Bank:
        def deposit(self, amount: int) -> int:
            return amount

        def withdraw(self, amount: int) -> int:
            return -amount

    registry = Registry()
    registry.add_activity(Bank().withdraw, name="withdraw")
    with pytest.raises(ConfigurationError, match="'withdraw' already exists"):
        registry.add_activities_from(Bank())
    assert [found.name for found in registry.activities] == ["withdraw"]


def test_the_known_orchestrators_are_named_for_people() -> None:
    registry = Registry()
    assert registry.known_orchestrators() == "none"
    registry.add_orchestrator(flow, name="b", version="2")
    registry.add_orchestrator(flow, name="a")
    assert registry.known_orchestrators() == "a, b 2"
    for number in range(25):
        registry.add_orchestrator(flow, name=f"c{number:02}")
    assert registry.known_orchestrators().endswith("c17 and 7 more")


def test_names_come_from_the_definition() -> None:
    assert get_name(flow) == "flow"
    assert get_name(ClassFlow) == "ClassFlow"
    assert get_name(ClassFlow()) == "ClassFlow"
    assert check_name("a", what="name", chars_max=1) == "a"
    with pytest.raises(ValueError, match="empty"):
        check_name("  ", what="name", chars_max=5)


def test_results_of_generators_and_awaitables_are_looked_through() -> None:
    def generator() -> Generator[Any, Any, int]: ...

    def coroutine() -> Coroutine[Any, Any, str]: ...

    def awaitable() -> Awaitable[bytes]: ...

    assert [signature_of(each).result for each in (generator, coroutine, awaitable)] == [int, str, bytes]


def test_an_empty_version_is_none() -> None:
    def flow(ctx: Any) -> None:
        """Do nothing."""

    registry = Registry()
    registry.add_orchestrator(flow, version="")
    assert registry.orchestrators[0].version is None
