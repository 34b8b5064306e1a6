"""Which orchestrators and activities a worker knows, by name.

A definition may be given as a function, a method, a class, an instance, or a factory; activities also as all public
methods of an object (B14). One name (and version) is registered once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from durabletask_azure.core.annotations import Signature, signature_of
from durabletask_azure.core.definitions import (
    ActivityDefinition,
    OrchestratorDefinition,
    OrchestratorKind,
    TaskActivity,
    TaskOrchestration,
)
from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.filters import WorkItemFilters, takes_orchestration, work_item_filters_of
from durabletask_azure.core.import_path import importable
from durabletask_azure.core.naming import check_name, check_version, get_name
from durabletask_azure.core.versioning import VersioningOptions, version_mismatch
from durabletask_azure.errors import ArgumentTypeError, ConfigurationError

__all__ = [
    "ActivityDefinition",
    "OrchestratorDefinition",
    "Refusal",
    "Registry",
    "TaskActivity",
    "TaskOrchestration",
    "get_name",
]

_NAME_CHARS_MAX = 250
_NAMES_SHOWN_MAX = 20
_CONTEXT_NAMES = frozenset({"ctx", "context", "_", "_ctx", "_context"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a worker does not run an orchestration: it waits for another worker, or ends with ``failure`` if set."""

    reason: str
    failure: FailureDetails | None = None


class Registry:
    """The orchestrators and activities of a worker, and which work the worker takes.

    ``versioning`` and ``filters`` are ``None`` for a worker that takes every version and every name.
    """

    def __init__(self) -> None:
        self._orchestrators: dict[tuple[str, str | None], OrchestratorDefinition] = {}
        self._activities: dict[str, ActivityDefinition] = {}
        self.versioning: VersioningOptions | None = None
        self.filters: WorkItemFilters | None = None

    @property
    def orchestrators(self) -> tuple[OrchestratorDefinition, ...]:
        """Every registered orchestrator, in order of registration."""
        return tuple(self._orchestrators.values())

    @property
    def activities(self) -> tuple[ActivityDefinition, ...]:
        """Every registered activity, in order of registration."""
        return tuple(self._activities.values())

    def add_orchestrator(
        self,
        target: Any = None,
        *,
        name: str | None = None,
        version: str | None = None,
        factory: Callable[[], Any] | None = None,
    ) -> str:
        """Register an orchestrator and return its name.

        ``target`` is a function ``(ctx, input)`` or ``(ctx)``, a class or instance with a method ``run``; ``factory``
        instead makes one object with a method ``run`` per execution. Without ``name`` it is the target's own.

        Raises:
            ConfigurationError: (a ``ValueError``) the name and version are taken, or there is no target.
            ValueError: a lambda without a name. TypeError: nothing that can be run.
        """
        make, method = _resolve(target, factory, ("run",), "orchestrator")
        name = _name(name, target, factory, "orchestrator name")
        version = check_version(version, chars_max=_NAME_CHARS_MAX) or None
        if (name, version) in self._orchestrators:
            which = f"{name!r}" if version is None else f"{name!r} of version {version!r}"
            raise ConfigurationError(f"an orchestrator {which} already exists")
        signature, style = _style(method, unbound=make is not None)
        self._orchestrators[name, version] = OrchestratorDefinition(
            name=name,
            version=version,
            kind=_kind(method),
            start=_starter(make, method, "run", style),
            input_type=signature.second if style == 2 else None,
            output_type=signature.result,
        )
        return name

    def add_activity(
        self,
        target: Any = None,
        *,
        name: str | None = None,
        factory: Callable[[], Any] | None = None,
        process: bool = False,
    ) -> str:
        """Register an activity and return its name; targets as for orchestrators, ``run`` may be called ``execute``.

        With ``process`` it runs in a worker process, which has to find the target by its name.

        Raises:
            ConfigurationError: (a ``ValueError``) the name is taken, or there is no target.
            ValueError: a lambda without a name. TypeError: nothing that can be run.
        """
        make, method = _resolve(target, factory, ("run", "execute"), "activity")
        name = _name(name, target, factory, "activity name")
        found_by = importable(target, f"activity {name!r}") if process else None
        signature, style = _style(method, unbound=make is not None)
        attribute = getattr(method, "__name__", "run") if make is not None else ""
        return self._add_activity(
            ActivityDefinition(
                name=name,
                fn=_starter(make, method, attribute, style),
                is_async=_kind(method) == "async",
                input_type=signature.second if style == 2 else None,
                output_type=signature.result,
                process=found_by,
            )
        )

    def add_activities_from(self, target: Any, *, interface: type | None = None) -> list[str]:
        """Register every public method of an object as an activity of the method's name; return the names, sorted.

        With ``interface`` (a class, abstract class or protocol) only the methods that it declares.

        A method whose first parameter is called ``ctx`` or ``context`` takes ``(ctx, input)`` or ``(ctx)``; any other
        takes the input alone, and one with several parameters takes the members of a list as its arguments.

        Raises:
            ConfigurationError: (a ``ValueError``) a name is taken, the object or the interface has no public method, or
                the object lacks one of the interface.
        """
        methods = _public_methods(target)
        if interface is not None:
            if not isinstance(interface, type):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ArgumentTypeError(f"interface must be a class, not {type(interface).__name__}")
            declared = _public_methods(interface)
            missing = ", ".join(sorted(declared.keys() - methods.keys()))
            if missing:
                raise ConfigurationError(f"{type(target).__name__} lacks {missing} of {interface.__name__}")
            methods = {name: methods[name] for name in declared}
        definitions = [_interface_method(name, method) for name, method in methods.items()]
        if not definitions:
            where = type(target).__name__ if interface is None else interface.__name__
            raise ConfigurationError(f"{where} has no public method to make an activity of")
        for definition in definitions:
            self._check_free(definition.name)
        return [self._add_activity(definition) for definition in definitions]

    def orchestrator(self, name: str, version: str | None = None) -> OrchestratorDefinition | None:
        """Return the orchestrator of that name and version, else the one registered without a version."""
        return self._orchestrators.get((name, version)) or self._orchestrators.get((name, None))

    def code_for(self, name: str, version: str | None) -> OrchestratorDefinition | Refusal:
        """Return the orchestrator that this worker runs for that name and version, or why it runs none."""
        if self.filters is not None and not takes_orchestration(self.filters, name, version):
            return Refusal(
                reason=f"the worker that owns the instance takes no {_which(name, version)}: see its work item filters"
            )
        definition = self.orchestrator(name, version)
        if definition is None:
            return Refusal(
                reason=f"no orchestrator {_which(name, version)} is registered with the worker that owns the instance"
                f" (registered: {self.known_orchestrators()})"
            )
        mismatch = None if self.versioning is None else version_mismatch(self.versioning, version)
        if mismatch is not None:
            fails = self.versioning is not None and self.versioning.fails
            return Refusal(
                reason=f"the worker that owns the instance runs other versions: {mismatch.message}",
                failure=mismatch if fails else None,
            )
        return definition

    def own_filters(self) -> WorkItemFilters:
        """Return filters that take what is registered here, and with strict versioning its version alone."""
        orchestrators = [name for name, _ in self._orchestrators]
        return work_item_filters_of(orchestrators, self._activities, self.versioning)

    def known_orchestrators(self) -> str:
        """Return the first names and versions that are registered, for messages to people."""
        known = sorted(
            name if version is None else f"{name} {version}" for name, version in self._orchestrators
        )
        more = f" and {len(known) - _NAMES_SHOWN_MAX:,} more" if len(known) > _NAMES_SHOWN_MAX else ""
        return (", ".join(known[:_NAMES_SHOWN_MAX]) or "none") + more

    def activity(self, name: str) -> ActivityDefinition | None:
        """Return the activity of that name."""
        return self._activities.get(name)

    def _add_activity(self, definition: ActivityDefinition) -> str:
        self._check_free(definition.name)
        self._activities[definition.name] = definition
        return definition.name

    def _check_free(self, name: str) -> None:
        if name in self._activities:
            raise ConfigurationError(f"an activity {name!r} already exists")


def _which(name: str, version: str | None) -> str:
    return f"{name!r} version {version!r}" if version else f"{name!r}"


def _name(name: str | None, target: Any, factory: Any, what: str) -> str:
    chosen = name if name is not None else get_name(target if target is not None else factory)
    return check_name(chosen, what=what, chars_max=_NAME_CHARS_MAX)


def _resolve(
    target: Any, factory: Callable[[], Any] | None, attributes: tuple[str, ...], what: str
) -> tuple[Callable[[], Any] | None, Callable[..., Any]]:
    """Return the maker of instances (if each execution gets its own) and the function or method to look at."""
    if (target is None) == (factory is None):
        raise ConfigurationError(
            f"an {what} is given either as a function, class or instance, or by factory=..."
        )
    made: Any = target
    if factory is not None:
        if not callable(factory):
            raise ArgumentTypeError(f"factory must be a function, not {type(factory).__name__}")
        # What the factory makes shows in its annotation; one instance is made now if it does not say.
        annotated = signature_of(factory).result
        made = annotated if isinstance(annotated, type) else type(factory())
    if isinstance(made, type):
        method = _find(cast(Any, made), attributes)
        if method is not None:
            return (factory or cast(Callable[[], Any], made)), method
    elif inspect.isroutine(made):
        return None, cast(Callable[..., Any], made)
    else:
        method = _find(made, attributes)
        if method is not None or callable(made):
            return None, method or made
    raise ArgumentTypeError(
        f"{made!r} is not an {what}: give a function (ctx, input), or a class or instance with a method"
        f" {' or '.join(attributes)}(ctx, input)"
    )


def _find(owner: Any, attributes: tuple[str, ...]) -> Callable[..., Any] | None:
    for attribute in attributes:
        method = getattr(owner, attribute, None)
        if callable(method):
            return method
    return None


def _style(method: Callable[..., Any], *, unbound: bool) -> tuple[Signature, int]:
    """Return the signature as seen by a caller, and whether to pass the context alone (1) or the input too (2)."""
    signature = signature_of(method)
    if unbound:
        # The first parameter is self; the context's type does not matter.
        function = cast(Any, method)
        hints = signature_of(_without_self(function))
        signature = hints
    if signature.positional is None:
        return signature, 2
    if not 1 <= signature.positional <= 2:
        name = getattr(method, "__qualname__", method)
        raise ArgumentTypeError(
            f"{name} takes {signature.positional} parameters; write (ctx, input) or (ctx)"
        )
    return signature, signature.positional


def _without_self(function: Any) -> Callable[..., Any]:
    """Bind a function found on its class, so that its signature reads as on an instance."""
    return function.__get__(object()) if inspect.isfunction(function) else function


def _kind(method: Callable[..., Any]) -> OrchestratorKind:
    function = method if inspect.isroutine(method) else type(method).__call__
    if inspect.iscoroutinefunction(function):
        return "async"
    return "generator" if inspect.isgeneratorfunction(function) else "plain"


def _starter(
    make: Callable[[], Any] | None, method: Callable[..., Any], attribute: str, style: int
) -> Callable[[Any, Any], Any]:
    if make is not None:
        if style == 1:
            return lambda ctx, _: getattr(make(), attribute)(ctx)
        return lambda ctx, value: getattr(make(), attribute)(ctx, value)
    if style == 1:
        return lambda ctx, _: method(ctx)
    return method


def _without_context(method: Callable[..., Any], parameters: int | None) -> Callable[[Any, Any], Any]:
    def call(ctx: Any, value: Any) -> Any:
        if parameters == 0:
            return method()
        return method(value) if parameters == 1 else method(*value)

    return call


def _public_methods(target: Any) -> dict[str, Callable[..., Any]]:
    return {
        name: method
        for name, method in inspect.getmembers(target, callable)
        if not name.startswith("_") and not inspect.isclass(method)
    }


def _interface_method(name: str, method: Callable[..., Any]) -> ActivityDefinition:
    signature = signature_of(method)
    is_async = _kind(method) == "async"
    if signature.first_name in _CONTEXT_NAMES:
        signature, style = _style(method, unbound=False)
        fn = _starter(None, method, name, style)
        input_type = signature.second if style == 2 else None
    else:
        fn = _without_context(method, signature.positional)
        input_type = signature.first if signature.positional == 1 else None
    return ActivityDefinition(
        name=name, fn=fn, is_async=is_async, input_type=input_type, output_type=signature.result
    )
