"""What two versions of a public module offer, and what one of them lacks: names, parameters, defaults, kinds."""

from __future__ import annotations

import enum
import importlib
import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

THEIRS = "durabletask"
OURS = "durabletask_azure"
MODULES = ("task", "client", "worker", "history", "serialization", "payload")
OUR_NAMES = {
    "TaskHubGrpcClient": "TaskHubClient",
    "AsyncTaskHubGrpcClient": "AsyncTaskHubClient",
    "TaskHubGrpcWorker": "TaskHubWorker",
}


def load(package: str, module: str) -> ModuleType | None:
    """Return a module of a package, or nothing if there is none of that name."""
    name = f"{package}.{module}" if module else package
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None


def public_names(module: ModuleType) -> list[str]:
    """Return the names a module offers itself: not what it imported, no type variables."""
    if module.__name__ == THEIRS:
        return sorted(module.__all__)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and name != "TYPE_CHECKING"
        and not inspect.ismodule(value)
        and type(value).__name__ not in ("TypeVar", "Logger", "_Feature")
        and (getattr(value, "__module__", module.__name__).startswith(module.__name__))
    ) + sorted(name for name in ("Activity", "Orchestrator", "Entity") if name in vars(module))


def lacking() -> Iterator[str]:
    """Yield the path of everything that Microsoft's package offers and ours does not, or not in the same way."""
    for module in ("", *MODULES):
        theirs, ours = load(THEIRS, module), load(OURS, module)
        assert theirs is not None
        if ours is None:
            yield module
            continue
        for name in public_names(theirs):
            path = f"{module}.{name}" if module else name
            own = getattr(ours, OUR_NAMES.get(name, name), None)
            if own is None:
                yield path
            else:
                yield from differing(path, getattr(theirs, name), own)


def differing(path: str, theirs: Any, ours: Any) -> Iterator[str]:
    """Yield the paths below ``path`` at which ``ours`` cannot stand for ``theirs``."""
    if inspect.isclass(theirs):
        if not inspect.isclass(ours):
            yield path
        else:
            yield from differing_class(path, theirs, ours)
    elif callable(theirs) and inspect.isroutine(theirs):
        yield from differing_call(path, theirs, ours)


def differing_class(path: str, theirs: type[Any], ours: type[Any]) -> Iterator[str]:
    """Compare bases of errors, members of enumerations, construction, fields, methods and properties."""
    for base in theirs.__mro__:
        if base.__module__ == "builtins" and issubclass(base, Exception) and base not in ours.__mro__:
            yield f"{path}: {base.__name__}"
    members: dict[str, Any] | None = getattr(theirs, "__members__", None)
    if members is not None:  # an enumeration
        for name, member in members.items():
            if getattr(getattr(ours, name, None), "value", None) != member.value:
                yield f"{path}.{name}"
        return
    records = [
        hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__struct_fields__") for kind in (theirs, ours)
    ]
    if records == [True, False]:
        yield path
    if not inspect.isabstract(theirs) and not getattr(theirs, "_is_protocol", False):
        yield from differing_call(path, theirs, ours)
    for name, member in vars(theirs).items():
        if name.startswith("_") or inspect.isclass(member):
            continue
        if isinstance(member, property) or inspect.isroutine(member):
            own = getattr(ours, name, None)
            if own is None:
                yield f"{path}.{name}"
            elif inspect.isroutine(member):
                if inspect.iscoroutinefunction(member) != inspect.iscoroutinefunction(own):
                    yield f"{path}.{name}: async"
                yield from differing_call(f"{path}.{name}", member, own)


def differing_call(path: str, theirs: Callable[..., Any], ours: Callable[..., Any]) -> Iterator[str]:
    """Yield ``path(parameter)`` for what a call of ``theirs`` may pass and ``ours`` does not take in the same way."""
    own = parameters(ours)
    positional = [name for name, p in own.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    position = 0
    for name, parameter in parameters(theirs).items():
        if name.startswith("_"):
            continue
        match = own.get(name)
        optional = parameter.default is not parameter.empty
        if (
            match is None
            or (optional and normal(match.default) != normal(parameter.default))
            or (
                parameter.kind is parameter.POSITIONAL_OR_KEYWORD
                and positional[position : position + 1] != [name]
            )
        ):
            yield f"{path}({name})"
        position += parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    known = parameters(theirs)
    hub = ("hub",) if path.split(".")[-1] in OUR_NAMES else ()
    for name, parameter in own.items():
        is_extra = name not in known and name not in hub
        if is_extra and parameter.default is parameter.empty and "VAR" not in parameter.kind.name:
            yield f"{path}: needs {name}"


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a callable by name, ``self`` left out."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        return {}
    return {name: p for name, p in signature.parameters.items() if name != "self"}


def normal(default: Any) -> Any:
    """Return a default value in a form that can be compared across packages."""
    if isinstance(default, enum.Enum):
        return default.name
    if default is inspect.Parameter.empty or isinstance(default, (str, int, float, bool, type(None))):
        return default
    return type(default).__name__
