"""Makes a storage service answer 503 or 429, lose replies, or answer so after it has done what was asked.

A gate of `TcpProxy` for HTTP/1.1 without pipelining, which is what the storage SDKs speak. A request that no rule hits
passes untouched; a rule hits requests by method and path, as often as it says.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Action = Literal["refuse", "land-then-refuse", "land-then-cut", "cut"]
_HEAD_END: Final = b"\r\n\r\n"
_REASONS: Final = {429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}


@dataclass(slots=True)
class HttpRule:
    """What becomes of some requests.

    Attributes:
        action: `refuse` answers for the service; `land-then-refuse` lets the service do it and answers for it all the
            same; `land-then-cut` lets it do it and resets the connection; `cut` resets it before.
        status: of the answer.
        retry_after_s: in its header `Retry-After`, if not `None`.
        method: which requests, as a regular expression.
        path: which requests, as a regular expression searched for in path and query.
        count: how many it hits; `None` for all until it is taken away.
        skip: how many it lets pass first.
    """

    action: Action = "refuse"
    status: int = 503
    retry_after_s: float | None = None
    method: str = ".*"
    path: str = ""
    count: int | None = 1
    skip: int = 0

    def answer(self, *, close: bool = False) -> bytes:
        """Return the whole answer; with `close` it says that the connection ends with it."""
        body = (
            b'{"odata.error":{"code":"ServerBusy","message":{"lang":"en-US","value":"asked for by a test"}}}'
        )
        lines = [
            f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Refused')}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "x-ms-error-code: ServerBusy",
        ]
        if close:
            lines.append("Connection: close")
        if self.retry_after_s is not None:
            lines.append(f"Retry-After: {self.retry_after_s:g}")
        return "\r\n".join(lines).encode() + _HEAD_END + body


@dataclass
class HttpRules:
    """The rules of a proxy, shared by its connections, and what passed it. Safe to use from any thread."""

    waiting: list[HttpRule] = field(default_factory=list[HttpRule])
    hits: int = 0
    requests: list[str] = field(default_factory=list[str])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, rule: HttpRule) -> None:
        """Let a rule wait for its requests."""
        with self._lock:
            self.waiting.append(rule)

    def clear(self) -> None:
        """Forget all rules."""
        with self._lock:
            self.waiting.clear()

    def take(self, method: str, path: str) -> HttpRule | None:
        """Note a request and return the rule that hits it."""
        with self._lock:
            self.requests.append(f"{method} {path}")
            for rule in self.waiting:
                if not re.fullmatch(rule.method, method) or not re.search(rule.path, path):
                    continue
                if rule.skip:
                    rule.skip -= 1
                    continue
                if rule.count is not None:
                    rule.count -= 1
                    if rule.count == 0:
                        self.waiting.remove(rule)
                self.hits += 1
                return rule
        return None

    def gate(self) -> HttpGate:
        """Make the gate of one connection."""
        return HttpGate(self)


class HttpGate:
    """Follows the requests of one connection."""

    def __init__(self, rules: HttpRules) -> None:
        self._rules = rules
        self._buffer = b""
        self._body_left = 0
        self._rule: HttpRule | None = None
        # The rule of a request the service has and whose response is not to come through.
        self._landing: HttpRule | None = None
        self._is_over = False
        self._reply = b""
        self.cut = False

    def up(self, data: bytes) -> bytes:
        """Return what of the client's bytes goes to the service."""
        self._buffer += data
        forward = b""
        while self._buffer and not self.cut:
            if self._body_left:
                piece, self._buffer = self._buffer[: self._body_left], self._buffer[self._body_left :]
                self._body_left -= len(piece)
            else:
                end = self._buffer.find(_HEAD_END)
                if end < 0:
                    break
                piece, self._buffer = (
                    self._buffer[: end + len(_HEAD_END)],
                    self._buffer[end + len(_HEAD_END) :],
                )
                self._begin(piece)
            if self._rule is None or self._rule.action != "refuse":
                forward += piece
            if not self._body_left:
                self._finish()
        return forward

    def _begin(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = _headers(lines)
        if "chunked" in headers.get("transfer-encoding", ""):
            raise ValueError("a request in chunks is more than this gate reads")
        self._body_left = int(headers.get("content-length", "0"))
        self._rule = self._rules.take(method, path)
        if self._rule is not None and self._rule.action == "cut":
            self.cut = True

    def _finish(self) -> None:
        rule, self._rule = self._rule, None
        if rule is None:
            return
        if rule.action == "refuse":
            self._reply += rule.answer()
        else:
            self._landing = rule

    def down(self, data: bytes) -> bytes:
        """Return what of the service's bytes goes to the client."""
        if self._is_over:
            return b""
        if self._landing is None:
            return data
        # The service has answered, so it has done it. The rest of its answer may be under way: the connection goes too.
        self._is_over = True
        if self._landing.action == "land-then-refuse":
            self._reply += self._landing.answer(close=True)
        else:
            self.cut = True
        return b""

    def take_reply(self) -> bytes:
        """Return, once, what the client is told instead of by the service."""
        reply, self._reply = self._reply, b""
        return reply


def _headers(lines: list[str]) -> Mapping[str, str]:
    pairs = [line.partition(":") for line in lines if line]
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
