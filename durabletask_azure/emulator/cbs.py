"""Who may do what: shared access signatures, tokens, and the claims a connection has put (`$cbs`).

A signature is checked when the emulator knows the key of its policy. Without keys every signature is good, as in
Microsoft's emulator. Tokens (JWT) cannot be checked here; they are taken if the emulator is told to, until
they expire.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from urllib.parse import parse_qs, unquote

from durabletask_azure.emulator.amqp.message import Request
from durabletask_azure.emulator.amqp.types import AmqpError, Int, Value, text
from durabletask_azure.emulator.broker.settings import ALL_RIGHTS, Policy, QueueSettings

SAS: Final = "servicebus.windows.net:sastoken"
JWT: Final = "jwt"
NEVER: Final = float("inf")


class Claim(NamedTuple):
    """What a connection may do, and until when (seconds since 1970)."""

    rights: frozenset[str]
    until: float


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the emulator takes.

    Attributes:
        policies: the policies of the namespace, by name; without any, every signature is good.
        accept_tokens: whether tokens are taken, unchecked.
    """

    policies: Mapping[str, Policy] = field(default_factory=dict[str, Policy])
    accept_tokens: bool = False

    def check_signature(
        self, token: str, audience: str, now: float, of_queue: Sequence[Policy] = ()
    ) -> Claim:
        """Check a shared access signature and return what it allows.

        Args:
            token: `SharedAccessSignature sr=...&sig=...&se=...&skn=...`.
            audience: the address it is put for.
            now: seconds since 1970.
            of_queue: the policies of the queue at that address, good beside those of the namespace.

        Raises:
            AmqpError: it is not good.
        """
        kind, _, query = token.partition(" ")
        fields = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
        if kind != "SharedAccessSignature" or not {"sr", "sig", "se", "skn"} <= fields.keys():
            raise unauthorized("the signature is malformed")
        try:
            expiry = float(fields["se"])
        except ValueError as error:
            raise unauthorized("the expiry of the signature is not a number") from error
        if expiry <= now:
            raise unauthorized("the signature has expired (ExpiredToken)")
        if not self.policies:
            return Claim(frozenset(ALL_RIGHTS), expiry)
        # The signed text is the resource as it stands in the token, still quoted.
        quoted = next((part[3:] for part in query.split("&") if part.startswith("sr=")), "")
        name = fields["skn"]
        candidates = [policy for policy in of_queue if policy.name == name]
        candidates += [self.policies[name]] if name in self.policies else []
        for policy in candidates:
            keys = [key for key in (policy.key, policy.secondary_key) if key]
            if any(_signed(key, f"{quoted}\n{fields['se']}", fields["sig"]) for key in keys):
                if not covers(path_of(unquote(quoted)), path_of(audience)):
                    raise unauthorized("the signature is for another resource")
                return Claim(frozenset(policy.rights), expiry)
        raise unauthorized("the signature or the policy of the token is wrong (InvalidSignature)")

    def check_plain(self, response: bytes) -> bool:
        """Check the answer of SASL PLAIN: policy and key."""
        parts = response.split(b"\0")
        if len(parts) != 3:
            return False
        if not self.policies:
            return True
        policy = self.policies.get(parts[1].decode("utf-8", "replace"))
        return policy is not None and hmac.compare_digest(policy.key.encode(), parts[2])


def _signed(key: str, signed: str, signature: str) -> bool:
    digest = hmac.new(key.encode(), signed.encode(), hashlib.sha256).digest()
    return hmac.compare_digest(base64.b64encode(digest), signature.encode("utf-8", "replace"))


def unauthorized(why: str) -> AmqpError:
    """Return the error for somebody who may not."""
    return AmqpError("amqp:unauthorized-access", f"Unauthorized access: {why}.")


def path_of(address: str) -> str:
    """Return the path of an address, without scheme and host, in lower case."""
    _, scheme_ends, rest = address.partition("://")
    if scheme_ends:
        # Not `urlsplit`: it raises for hosts it does not like, and a host means nothing here.
        address = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")[2]
    return address.strip("/").casefold()


def covers(granted: str, wanted: str) -> bool:
    """Tell whether a claim for one path is good for another: the same, or below it."""
    return granted in ("", wanted) or wanted.startswith(f"{granted}/")


def expiry_of(token: str) -> float:
    """Return when a JWT expires by its own words (seconds since 1970); never, if it has none."""
    parts = token.split(".")
    if len(parts) != 3:
        return NEVER
    try:
        body = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(body["exp"])
    except (ValueError, KeyError, TypeError):
        return NEVER


class Access:
    """The claims of one connection.

    Args:
        credentials: what the emulator takes.
        clock: seconds since 1970.
        find: the settings of the queue at an address; raises `AmqpError` if there is none.
    """

    def __init__(
        self,
        credentials: Credentials,
        clock: Callable[[], float],
        find: Callable[[str], QueueSettings],
    ) -> None:
        self._credentials = credentials
        self._clock = clock
        self._find = find
        self._claims: dict[str, Claim] = {}
        self._everything = False

    def authenticate(self, mechanism: str, response: bytes) -> bool:
        """Judge a SASL mechanism: PLAIN proves itself, the others leave it to `$cbs`."""
        if mechanism == "PLAIN":
            self._everything = self._credentials.check_plain(response)
            return self._everything
        return mechanism in ("ANONYMOUS", "EXTERNAL", "MSSBCBS")

    def check(self, address: str, *rights: str) -> None:
        """Check that there is a claim for an address with one of some rights.

        Raises:
            AmqpError: there is none, or it has ended.
        """
        if self._everything:
            return
        wanted, now = path_of(address), self._clock()
        ended = False
        for path, claim in self._claims.items():
            if covers(path, wanted) and not claim.rights.isdisjoint(rights or ALL_RIGHTS):
                if claim.until > now:
                    return
                ended = True
        names = " or ".join(f"'{right}'" for right in rights) or "any"
        raise unauthorized(f"the claim {names} for '{address}' " + ("has expired" if ended else "is missing"))

    def put_token(self, request: Request) -> dict[str, Value]:
        """Answer a request of `$cbs`; return the properties of the answer."""
        name = text(request.properties.get("name"))
        kind = text(request.properties.get("type")).casefold()
        if text(request.properties.get("operation")) != "put-token":
            return _answer(400, "the operation is not put-token")
        path = path_of(name)
        try:
            settings = self._find(path.removesuffix("/$management")) if path else None
        except AmqpError as error:
            return _answer(404, error.description)
        try:
            self._claims[path] = self._judge(kind, text(request.body), name, settings)
        except AmqpError as error:
            return _answer(401, error.description)
        return _answer(202, "Accepted")

    def _judge(self, kind: str, token: str, audience: str, settings: QueueSettings | None) -> Claim:
        # The SDK calls a signature it made from a connection string `jwt` too (7.15.0, `_common/utils.py`), so the
        # token itself tells what it is.
        if kind == SAS or token.startswith("SharedAccessSignature "):
            policies = () if settings is None else settings.policies
            return self._credentials.check_signature(token, audience, self._clock(), policies)
        if kind == JWT and self._credentials.accept_tokens and token:
            until = expiry_of(token)
            if until <= self._clock():
                raise unauthorized("the token has expired (ExpiredToken)")
            return Claim(frozenset(ALL_RIGHTS), until)
        raise unauthorized(
            f"tokens of the type '{kind}' are not taken"
            + ("; start the emulator with --accept-tokens" if kind == JWT else "")
        )


def _answer(status: int, description: str) -> dict[str, Value]:
    return {"status-code": Int(status), "status-description": description}
