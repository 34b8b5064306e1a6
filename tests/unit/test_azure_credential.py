"""A user's credential, shared by several event loops."""

from __future__ import annotations

import asyncio
import threading

import pytest

from durabletask_azure import HubAccessError
from durabletask_azure.azure_credential import SharedCredential, Token

SCOPE = "https://storage.azure.com/.default"
HOUR_S = 3600


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Credential:
    """Hands out numbered tokens; ``failing`` makes it refuse."""

    def __init__(self, clock: Clock, life_s: int = HOUR_S) -> None:
        self.clock = clock
        self.life_s = life_s
        self.asked: list[tuple[str, ...]] = []
        self.failing = False

    def get_token(self, *scopes: str) -> Token:
        self.asked.append(scopes)
        if self.failing:
            raise OSError("no network\nsecret details")
        return Token(f"token{len(self.asked)}", int(self.clock.now) + self.life_s)


class AsyncCredential(Credential):
    """The same, asynchronous; as aiohttp does, it insists on one loop."""

    loop: asyncio.AbstractEventLoop | None = None

    async def get_token(self, *scopes: str) -> Token:  # pyright: ignore[reportIncompatibleMethodOverride]
        assert self.loop in (None, asyncio.get_running_loop())
        self.loop = asyncio.get_running_loop()
        return super().get_token(*scopes)


@pytest.fixture(params=[Credential, AsyncCredential])
def credential(request: pytest.FixtureRequest) -> Credential:
    return request.param(Clock())


def ask(shared: SharedCredential, *scopes: str) -> str:
    """Ask on a loop of its own."""
    return asyncio.run(shared.get_token(*(scopes or (SCOPE,)))).token


def ask_until_renewed(shared: SharedCredential, old: str) -> str:
    while (token := ask(shared)) == old:
        pass
    return token


def test_a_token_is_kept_for_all_loops_and_each_scope_has_its_own(credential: Credential) -> None:
    shared = SharedCredential(credential, clock=credential.clock)
    assert [ask(shared), ask(shared), ask(shared, "other"), ask(shared)] == [
        "token1",
        "token1",
        "token2",
        "token1",
    ]
    assert credential.asked == [(SCOPE,), ("other",)]
    shared.end()


def test_a_token_is_renewed_before_it_ends_and_only_once(credential: Credential) -> None:
    shared = SharedCredential(credential, clock=credential.clock)
    assert ask(shared) == "token1"
    credential.clock.now += HOUR_S - 301
    assert ask(shared) == "token1"
    credential.clock.now += 2
    assert ask_until_renewed(shared, "token1") == "token2"
    assert len(credential.asked) == 2
    shared.end()


def test_an_expired_token_is_never_given(credential: Credential) -> None:
    shared = SharedCredential(credential, clock=credential.clock)
    assert ask(shared) == "token1"
    credential.clock.now += HOUR_S
    assert ask(shared) == "token2"
    credential.clock.now += HOUR_S
    credential.failing = True
    for _ in range(2):
        with pytest.raises(
            HubAccessError, match=r"gives no token for https://storage.*\(OSError: no network\)"
        ):
            ask(shared)
    shared.end()


def test_a_token_that_cannot_be_renewed_is_used_to_its_end(credential: Credential) -> None:
    shared = SharedCredential(credential, clock=credential.clock)
    assert ask(shared) == "token1"
    credential.failing = True
    credential.clock.now += HOUR_S - 60
    assert ask(shared) == "token1"
    credential.failing = False
    credential.clock.now += 31
    assert ask(shared) == "token3"
    shared.end()


def test_many_who_ask_at_once_share_one_answer(credential: Credential) -> None:
    shared = SharedCredential(credential, clock=credential.clock)

    async def all_at_once() -> set[str]:
        return {token.token for token in await asyncio.gather(*(shared.get_token(SCOPE) for _ in range(50)))}

    assert asyncio.run(all_at_once()) == {"token1"}
    assert len(credential.asked) == 1
    shared.end()


def test_a_closed_credential_gives_nothing_and_leaves_no_loop(credential: Credential) -> None:
    others = threading.enumerate()
    shared = SharedCredential(credential, clock=credential.clock)
    ask(shared)
    shared.end()
    shared.end()
    with pytest.raises(HubAccessError, match="closed"):
        ask(shared, "other")
    for thread in threading.enumerate():
        if thread not in others and thread.name.startswith("durabletask-azure"):
            thread.join(10)
            assert not thread.is_alive()


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(Token("secret", 5))
