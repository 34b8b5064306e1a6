"""Stand-ins for the modules the SDK's tests import that are not in its source distribution, or need an Azure account.

They hand a test what its decorators ask for: a namespace, a queue, a policy, all of the emulator of this process.
"""

from __future__ import annotations

import functools
import inspect
import sys
import time
import types
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from durabletask_azure.emulator.broker.namespace import QueueNotFoundError
from durabletask_azure.emulator.broker.settings import ALL_RIGHTS, Policy
from durabletask_azure.emulator.durations import parse_duration
from durabletask_azure.emulator.fixture import RunningEmulator

NAMESPACE: Final = "sbemulatorns"
SUFFIX: Final = ".servicebus.windows.net"
HOST: Final = NAMESPACE + SUFFIX
POLICY: Final = "RootManageSharedAccessKey"
KEY: Final = "c2VjcmV0IG9mIHRoZSBlbXVsYXRvciBpbiB0ZXN0cw=="

Test = Callable[..., Any]
Given = dict[str, Any]


class Resource(NamedTuple):
    """What a test knows a namespace or queue by."""

    name: str
    id: str


def connection_string(policy: str, key: str, entity: str = "") -> str:
    """Return a connection string, of one entity if it is named."""
    text = f"Endpoint=sb://{HOST}/;SharedAccessKeyName={policy};SharedAccessKey={key}"
    return f"{text};EntityPath={entity}" if entity else text


@dataclass
class World:
    """The emulator of this process, and its policies, which tests add to."""

    emulator: RunningEmulator
    policies: dict[str, Policy]


class Preparer:
    """A decorator that gives a test what it asks for, and takes it away afterwards.

    Args:
        make: makes it from what other decorators gave; returns that and how to undo it.
    """

    def __init__(self, make: Callable[[Given], tuple[Given, Callable[[], None]]]) -> None:
        self._make = make

    def __call__(self, test: Test) -> Test:
        """Wrap a test."""
        make = self._make
        if inspect.iscoroutinefunction(test):

            @functools.wraps(test)
            async def prepared_async(this: object, *args: Any, **given: Any) -> None:
                more, undo = make(given)
                try:
                    await test(this, *args, **given, **more)
                finally:
                    undo()

            return prepared_async

        @functools.wraps(test)
        def prepared(this: object, *args: Any, **given: Any) -> None:
            more, undo = make(given)
            try:
                test(this, *args, **given, **more)
            finally:
                undo()

        return prepared


def nothing() -> None:
    """Undo nothing."""


def settings_preparer(**values: str) -> Callable[[Test], Test]:
    """Return a decorator that gives a test those of some values that it names, and hides them from pytest."""

    def decorate(test: Test) -> Test:
        parameters = inspect.signature(test).parameters
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        given = {name: value for name, value in values.items() if takes_all or name in parameters}
        if inspect.iscoroutinefunction(test):

            async def prepared_async(this: object) -> None:
                await test(this, **given)

            return named_like(test, prepared_async)

        def prepared(this: object) -> None:
            test(this, **given)

        return named_like(test, prepared)

    return decorate


def named_like(test: Test, prepared: Test) -> Test:
    """Give a wrapper the name of its test, but not its parameters."""
    prepared.__name__ = test.__name__
    prepared.__dict__.update({key: value for key, value in test.__dict__.items() if key != "__wrapped__"})
    return prepared


class Token(NamedTuple):
    """An access token of azure-core."""

    token: str
    expires_on: int


class SyncCredential:
    """A token credential."""

    def get_token(self, *scopes: str, **options: Any) -> Token:
        """Return a token, which the emulator takes unchecked."""
        del scopes, options
        return Token("a-token", int(time.time()) + 3600)


class AsyncCredential:
    """A token credential of asyncio."""

    async def get_token(self, *scopes: str, **options: Any) -> Token:
        """Return a token, which the emulator takes unchecked."""
        del scopes, options
        return Token("a-token", int(time.time()) + 3600)

    async def close(self) -> None:
        """Close nothing."""

    async def __aenter__(self) -> AsyncCredential:
        return self

    async def __aexit__(self, *details: object) -> None:
        pass


def get_credential(*, is_async: bool = False, **options: Any) -> SyncCredential | AsyncCredential:
    """Return a token credential."""
    del options
    return AsyncCredential() if is_async else SyncCredential()


def same(test: Test) -> Test:
    """Return a test as it is: nothing is recorded here."""
    return test


class Preparers:
    """The decorators of `servicebus_preparer`, on an emulator."""

    def __init__(self, world: World) -> None:
        self._world = world

    def resource_group(self, *args: Any, **options: Any) -> Preparer:
        """Give a resource group, which is only a name."""
        del args, options
        group = Resource("group", "group")
        return Preparer(lambda _: ({"resource_group": group, "location": "local"}, nothing))

    def namespace(self, *args: Any, parameter_name: str = "servicebus_namespace", **options: Any) -> Preparer:
        """Give the namespace."""
        del args, options
        given = {
            parameter_name: Resource(NAMESPACE, NAMESPACE),
            f"{parameter_name}_connection_string": connection_string(POLICY, KEY),
            f"{parameter_name}_key_name": POLICY,
            f"{parameter_name}_primary_key": KEY,
        }
        return Preparer(lambda _: (given, nothing))

    def queue(
        self,
        name_prefix: str = "",
        *,
        parameter_name: str = "servicebus_queue",
        requires_duplicate_detection: bool = False,
        dead_lettering_on_message_expiration: bool = False,
        requires_session: bool = False,
        lock_duration: str = "PT30S",
        **options: Any,
    ) -> Preparer:
        """Give a queue of its own to each test, also where the original shares one."""
        del options
        emulator = self._world.emulator

        def make(_: Given) -> tuple[Given, Callable[[], None]]:
            name = f"{name_prefix}{uuid.uuid4().hex[:12]}"
            emulator.create_queue(
                name,
                detects_duplicates=requires_duplicate_detection,
                dead_letters_expired=dead_lettering_on_message_expiration,
                requires_sessions=requires_session,
                lock_s=parse_duration(lock_duration),
            )

            def undo() -> None:
                with suppress(QueueNotFoundError):
                    emulator.delete_queue(name)

            return {parameter_name: Resource(name, name)}, undo

        return Preparer(make)

    def namespace_policy(
        self,
        name_prefix: str = "",
        *,
        parameter_name: str = "servicebus_authorization_rule",
        access_rights: list[Any] | None = None,
        **options: Any,
    ) -> Preparer:
        """Give a policy of the namespace."""
        del options
        policies = self._world.policies

        def make(_: Given) -> tuple[Given, Callable[[], None]]:
            name = f"{name_prefix}{uuid.uuid4().hex[:12]}"
            rights = tuple([str(right).rpartition(".")[2].capitalize() for right in access_rights or []])
            policies[name] = Policy(name, KEY, rights or ALL_RIGHTS)
            given = {
                parameter_name: Resource(name, name),
                f"{parameter_name}_connection_string": connection_string(name, KEY),
            }
            return given, lambda: policies.pop(name, None) and None

        return Preparer(make)

    def queue_policy(
        self,
        name_prefix: str = "",
        *,
        parameter_name: str = "servicebus_queue_authorization_rule",
        **options: Any,
    ) -> Preparer:
        """Give a policy of a queue."""
        del options
        policies = self._world.policies

        def make(given: Given) -> tuple[Given, Callable[[], None]]:
            name = f"{name_prefix}{uuid.uuid4().hex[:12]}"
            policies[name] = Policy(name, KEY, ALL_RIGHTS)
            string = connection_string(name, KEY, given["servicebus_queue"].name)
            return {
                parameter_name: Resource(name, name),
                f"{parameter_name}_connection_string": string,
            }, lambda: policies.pop(name, None) and None

        return Preparer(make)


def install(world: World) -> None:
    """Put the stand-ins where the tests import them from."""
    preparers = Preparers(world)
    tools: dict[str, Any] = {
        "AzureMgmtRecordedTestCase": type("AzureMgmtRecordedTestCase", (), {}),
        "AzureRecordedTestCase": type(
            "AzureRecordedTestCase", (), {"await_prepared_test": staticmethod(same)}
        ),
        "CachedResourceGroupPreparer": preparers.resource_group,
        "get_credential": get_credential,
        "recorded_by_proxy": same,
    }
    module("devtools_testutils", tools)
    module("devtools_testutils.aio", {"recorded_by_proxy_async": same})
    values = {
        "servicebus_connection_str": connection_string(POLICY, KEY),
        "servicebus_fully_qualified_namespace": HOST,
        "servicebus_sas_policy": POLICY,
        "servicebus_sas_key": KEY,
    }
    module("sb_env_loader", {"ServiceBusPreparer": functools.partial(settings_preparer, **values)})
    names: dict[str, Any] = {"SERVICEBUS_ENDPOINT_SUFFIX": SUFFIX}
    for prefix in ("", "Cached"):
        names[f"{prefix}ServiceBusResourceGroupPreparer"] = preparers.resource_group
        names[f"{prefix}ServiceBusNamespacePreparer"] = preparers.namespace
        names[f"{prefix}ServiceBusQueuePreparer"] = preparers.queue
        # Tests with topics are left out; their decorators need only be there.
        names[f"{prefix}ServiceBusTopicPreparer"] = preparers.resource_group
        names[f"{prefix}ServiceBusSubscriptionPreparer"] = preparers.resource_group
    names["ServiceBusNamespaceAuthorizationRulePreparer"] = preparers.namespace_policy
    names["ServiceBusQueueAuthorizationRulePreparer"] = preparers.queue_policy
    module("servicebus_preparer", names)
    errors = {name: type(name, (Exception,), {}) for name in ("AzureHttpError", "AzureConflictHttpError")}
    module("azure.common", dict(errors))
    # One test module takes an enumeration from a management package that needs an account.
    rights = types.SimpleNamespace(listen="Listen", send="Send", manage="Manage")
    for name in ("azure.mgmt", "azure.mgmt.servicebus"):
        module(name, {})
    module("azure.mgmt.servicebus.models", {"AccessRights": rights})


def module(name: str, contents: dict[str, Any]) -> None:
    """Make a module of a name."""
    made = types.ModuleType(name)
    made.__dict__.update(contents)
    made.__path__ = []
    sys.modules[name] = made
