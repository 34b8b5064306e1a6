"""One token credential for all event loops of a process: the user's, or DefaultAzureCredential made when first needed.

Tables and blobs ask for tokens on the hub's loop, Service Bus on the loop of its links, and an asynchronous
credential belongs to one loop only. So the user's credential is asked on a thread of its own, and its tokens are kept
until shortly before they expire.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from durabletask_azure.errors import DurableTaskError, HubAccessError

__all__ = ["SharedCredential", "Token"]

_RENEW_S: Final = 300.0
_KEEP_S: Final = 10.0
_RETRY_S: Final = 30.0
_AUTHORITIES: Final = {
    "chinacloudapi.cn": "login.chinacloudapi.cn",
    "usgovcloudapi.net": "login.microsoftonline.us",
}
_log = logging.getLogger("durabletask_azure.credential")


class Token(NamedTuple):
    """An access token as the SDKs take it: the text, and when it expires in seconds since 1970."""

    token: str
    expires_on: int

    def __repr__(self) -> str:
        return f"Token(expires_on={self.expires_on})"


@dataclass(slots=True)
class _Kept:
    token: Token
    renew_at: float


class SharedCredential:
    """An asynchronous token credential that any event loop may use.

    Args:
        credential: the user's, synchronous or asynchronous; ``None`` for ``DefaultAzureCredential``.
        endpoint_suffix: the cloud, for the latter's authority.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        credential: object | None = None,
        *,
        endpoint_suffix: str = "windows.net",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._credential = credential
        self._is_own = credential is None
        self._endpoint_suffix = endpoint_suffix
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[object, _Kept] = {}
        self._asked: dict[object, concurrent.futures.Future[Token]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **_: Any,
    ) -> Token:
        """Return a token that is good for some minutes at least; ask for one only if there is none.

        Raises:
            HubAccessError: the credential gives none.
        """
        key = (scopes, claims, tenant_id, enable_cae)
        options = {"claims": claims, "tenant_id": tenant_id, "enable_cae": enable_cae or None}
        given = {name: value for name, value in options.items() if value is not None}
        with self._lock:
            kept, now = self._kept.get(key), self._clock()
            if kept is not None and now < kept.renew_at and kept.token.expires_on - now > _KEEP_S:
                return kept.token
            asking = self._asked.get(key)
            if asking is None:
                asking = self._asked[key] = concurrent.futures.Future()
                self._start(key, asking, scopes, given)
        if kept is not None and kept.token.expires_on - now > _RENEW_S / 2:
            return kept.token  # it is being renewed, and is good for a while yet
        try:
            # Shielded: others may wait for the same token.
            return await asyncio.shield(asyncio.wrap_future(asking))
        except HubAccessError as error:
            if kept is not None and kept.token.expires_on - self._clock() > _KEEP_S:
                _log.warning("a token that ends soon could not be renewed: %s", error)
                return kept.token
            raise

    async def close(self) -> None:
        """End the thread; the user's credential stays open, as it belongs to the user."""
        self.end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        # The SDKs' clients enter and leave their credential; it is shared, and ends with the hub.
        return

    def end(self) -> None:
        """End the thread, and with it the credential if it was made here. Ending twice is harmless."""
        with self._lock:
            self._closed = True
            loop, self._loop = self._loop, None
            credential = self._credential if self._is_own else None
        if credential is not None:
            with contextlib.suppress(Exception):  # nothing is asked of it any more
                credential.close()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    # ------------------------------------------------------------------ asking

    def _start(
        self,
        key: object,
        asking: concurrent.futures.Future[Token],
        scopes: tuple[str, ...],
        options: dict[str, Any],
    ) -> None:
        """Ask the credential on another thread. Called with the lock held."""
        if self._closed:
            self._asked.pop(key, None)
            asking.set_exception(HubAccessError("the task hub was closed while a token was asked for"))
            return
        # Daemons: a credential that waits for a person or a network must not keep the interpreter from ending.
        threading.Thread(
            target=self._ask, args=(key, asking, scopes, options), name="durabletask-azure token", daemon=True
        ).start()

    def _ask(
        self,
        key: object,
        asking: concurrent.futures.Future[Token],
        scopes: tuple[str, ...],
        options: dict[str, Any],
    ) -> None:
        try:
            credential: Any = self._made()
            answer = credential.get_token(*scopes, **options)
            if inspect.isawaitable(answer):
                answer = asyncio.run_coroutine_threadsafe(_awaited(answer), self._own_loop()).result()
            token = Token(str(answer.token), int(answer.expires_on))
        except DurableTaskError as error:
            self._end_asking(key, asking, error)
        except Exception as error:
            refused = HubAccessError(
                f"credential gives no token for {', '.join(scopes)} ({type(error).__name__}: {_first_line(error)});"
                " sign in, or give AzureSettings another credential"
            )
            refused.__cause__ = error
            self._end_asking(key, asking, refused)
        else:
            now = self._clock()
            left = token.expires_on - now
            with self._lock:
                self._kept[key] = _Kept(token, now + max(left - _RENEW_S, left / 2))
            self._end_asking(key, asking, token)

    def _end_asking(
        self, key: object, asking: concurrent.futures.Future[Token], outcome: Token | Exception
    ) -> None:
        with self._lock:
            self._asked.pop(key, None)
            kept = self._kept.get(key)
            if kept is not None and isinstance(outcome, Exception):
                kept.renew_at = self._clock() + _RETRY_S
        if isinstance(outcome, Exception):
            asking.set_exception(outcome)
        else:
            asking.set_result(outcome)

    def _made(self) -> object:
        if self._credential is None:
            # Only now: importing it takes a second, and nobody who signs in with keys needs it.
            from azure.identity import DefaultAzureCredential

            authority = _AUTHORITIES.get(self._endpoint_suffix)
            made = DefaultAzureCredential(**({} if authority is None else {"authority": authority}))
            with self._lock:
                self._credential = self._credential or made
        return self._credential

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop that an asynchronous credential lives on."""
        with self._lock:
            if self._closed:
                raise HubAccessError("the task hub was closed while a token was asked for")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=_serve, args=(self._loop,), name="durabletask-azure credential", daemon=True
                ).start()
            return self._loop


async def _awaited(answer: Any) -> Any:
    return await answer


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")
