"""The administration API: queues over HTTP, `/health`, `/traffic`, and faults for tests."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import msgspec

from durabletask_azure.emulator.admin.atom import read_description, write_entry, write_error, write_feed
from durabletask_azure.emulator.admin.http import Request, Response
from durabletask_azure.emulator.amqp.types import AmqpError
from durabletask_azure.emulator.broker.browse import count
from durabletask_azure.emulator.broker.namespace import Namespace, QueueExistsError, QueueNotFoundError
from durabletask_azure.emulator.broker.settings import MANAGE, SettingsError
from durabletask_azure.emulator.cbs import Credentials, unauthorized
from durabletask_azure.emulator.faults import Fault, FaultKind, Faults, Operation
from durabletask_azure.emulator.traffic import Traffic

logger = logging.getLogger("durabletask_azure.emulator")

JSON: Final = "application/json"
PAGE: Final = 100


class FaultRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A fault as it is asked for in JSON; the fields are those of `Fault`."""

    kind: FaultKind
    operation: Operation
    entity: str = "*"
    count: int = 1
    skip: int = 0
    seconds: float = 0.0
    condition: str = "amqp:internal-error"
    description: str = "refused by a fault a test asked for"


class AdminApi:
    """Answers the requests of the administration API.

    Args:
        namespace: the queues.
        credentials: what is taken of clients.
        faults: what goes wrong on request.
        traffic: what was sent and received.
        clock: seconds since 1970.
        changed: called after a change, so that it is kept and its consequences are sent.
        status: tells what `/health` shows.
        restart: cuts every connection.
    """

    def __init__(
        self,
        namespace: Namespace,
        credentials: Credentials,
        faults: Faults,
        traffic: Traffic,
        clock: Callable[[], float],
        changed: Callable[[], None],
        status: Callable[[], dict[str, object]],
        restart: Callable[[], None],
    ) -> None:
        self._namespace = namespace
        self._credentials = credentials
        self._faults = faults
        self._traffic = traffic
        self._clock = clock
        self._changed = changed
        self._status = status
        self._restart = restart

    def handle(self, request: Request) -> Response:
        """Answer a request."""
        try:
            response = self._route(request)
        except AmqpError as error:
            response = Response(401, write_error(401, error.description))
        except SettingsError as error:
            response = Response(400, write_error(400, f"SubCode=40000. {error}"))
        except QueueExistsError as error:
            response = Response(
                409, write_error(409, f"SubCode=40900. Conflict: a queue named '{error}' exists already.")
            )
        except QueueNotFoundError as error:
            response = Response(
                404, write_error(404, f"SubCode=40400. Not Found. The entity '{error}' does not exist.")
            )
        logger.debug("%s %s: %d", request.method, request.path, response.status)
        self._changed()
        return response

    def _route(self, request: Request) -> Response:
        path = request.path.strip("/")
        if path == "health":
            return _json({"status": "healthy", **self._status()})
        if path == "faults":
            return self._do_faults(request)
        if path == "traffic":
            return self._do_traffic(request)
        if path == "restart" and request.method == "POST":
            self._restart()
            return Response(204)
        self._authorize(request)
        match request.method:
            case "GET" if path.casefold() in ("$resources/queues", "$resources/topics"):
                return self._list(request, path.casefold().endswith("queues"))
            case "GET":
                return self._get(path, request)
            case "PUT":
                return self._put(path, request)
            case "DELETE":
                self._namespace.delete(path)
                logger.info("queue %s deleted", path)
                return Response(200)
            case _:
                return Response(405, write_error(405, f"{request.method} is not allowed here"))

    def _authorize(self, request: Request) -> None:
        if not self._credentials.policies:
            return
        token = request.headers.get("authorization", "")
        if token.startswith("Bearer ") and self._credentials.accept_tokens:
            return
        if not token:
            raise unauthorized("the request has no Authorization header")
        claim = self._credentials.check_signature(
            token, f"sb://host/{request.path.strip('/')}", self._clock()
        )
        if MANAGE not in claim.rights:
            raise unauthorized("the policy does not allow to manage")

    def _list(self, request: Request, queues: bool) -> Response:
        skip, top = _number(request, "$skip", 0), _number(request, "$top", PAGE)
        entries = self._namespace.entries() if queues else []
        page = [(entry, count(entry.queue)) for entry in entries[skip : skip + top]]
        base = f"https://{request.headers.get('host', 'localhost')}"
        more = skip + top < len(entries)
        link = f"{base}/$Resources/queues?$skip={skip + top}&$top={top}" if more and top else ""
        return Response(200, write_feed("Queues" if queues else "Topics", page, base, link))

    def _get(self, path: str, request: Request) -> Response:
        base = f"https://{request.headers.get('host', 'localhost')}"
        if not path:
            raise SettingsError("the name of the entity is missing")
        try:
            entry = self._namespace.entry(path)
        except QueueNotFoundError:
            # Azure answers with an empty list, from which the SDK makes its ResourceNotFoundError.
            return Response(200, write_feed("Publicly Listed Services", [], base))
        return Response(200, write_entry(entry, count(entry.queue), base))

    def _put(self, path: str, request: Request) -> Response:
        base = f"https://{request.headers.get('host', 'localhost')}"
        settings = read_description(request.body, path)
        if request.headers.get("if-match") == "*":
            entry, status = self._namespace.update(settings), 200
            logger.info("queue %s updated", path)
        else:
            entry, status = self._namespace.create(settings), 201
            logger.info("queue %s created", path)
        return Response(status, write_entry(entry, count(entry.queue), base))

    def _do_faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._faults.clear()
            return Response(204)
        if request.method == "POST":
            try:
                asked = msgspec.json.decode(request.body, type=FaultRequest)
                self._faults.add(Fault(**{name: getattr(asked, name) for name in asked.__struct_fields__}))
            except (msgspec.MsgspecError, ValueError) as error:
                return Response(400, msgspec.json.encode({"error": str(error)}), JSON)
            return Response(204)
        return _json({"faults": self._faults.waiting})

    def _do_traffic(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._traffic.clear()
            return Response(204)
        return _json(self._traffic.as_json())


def _json(value: object) -> Response:
    return Response(200, msgspec.json.encode(value), JSON)


def _number(request: Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isdecimal():
        raise SettingsError(f"{name} is a number of 0 or more, not {text!r}")
    return int(text)
