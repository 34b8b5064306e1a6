"""A small HTTP/1.1 server on asyncio, enough for the administration API."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from durabletask_azure.emulator.websocket import Receiving, handshake, serve, wants_websocket

logger = logging.getLogger("durabletask_azure.emulator")

HEAD_BYTES_MAX: Final = 65_536
READ_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Request:
    """A request.

    Attributes:
        method: in upper case.
        path: unquoted.
        query: the first value of each parameter.
        headers: by name in lower case.
        body: the body.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """An answer.

    Attributes:
        status: the status code.
        body: the body.
        content_type: its type.
        headers: more headers.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/xml; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class BadRequestError(Exception):
    """What came is not a request this server reads."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class HttpServer:
    """Answers requests with a handler.

    Args:
        handler: turns a request into an answer; it does not wait.
        body_bytes_max: the largest body taken.
        amqp: makes a protocol for AMQP over a websocket; None for none.
    """

    def __init__(
        self,
        handler: Callable[[Request], Response],
        body_bytes_max: int,
        amqp: Callable[[], Receiving] | None = None,
    ) -> None:
        self._handler = handler
        self._amqp = amqp
        self._body_bytes_max = body_bytes_max
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.StreamWriter] = set()

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen, and return the port."""
        server = await asyncio.start_server(self._serve, host, port, limit=HEAD_BYTES_MAX, ssl=tls)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and hang up."""
        for server in self._servers:
            server.close()
        for writer in list(self._connections):
            writer.transport.abort()
        for server in self._servers:
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (
            ConnectionError,
            asyncio.IncompleteReadError,
            asyncio.CancelledError,
            TimeoutError,
            ssl.SSLError,
        ):
            pass
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; tell whether another may follow on the connection."""
        keep = False
        try:
            request = await asyncio.wait_for(self._read(reader), READ_TIMEOUT_S)
            if wants_websocket(request.path, request.headers) and self._amqp is not None:
                writer.write(handshake(request.headers))
                await serve(reader, writer, self._amqp)
                return False
            keep = request.headers.get("connection", "").casefold() != "close"
            response = self._handler(request)
        except BadRequestError as error:
            response = Response(error.status, str(error).encode(), "text/plain; charset=utf-8")
        except asyncio.LimitOverrunError:
            response = Response(431, b"the head of the request is too long", "text/plain; charset=utf-8")
        writer.write(_encode(response, keep))
        await writer.drain()
        return keep

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise BadRequestError(400, "the request line is not one of HTTP/1.1")
        headers: dict[str, str] = {}
        for line in lines:
            name, found, value = line.partition(":")
            if found:
                headers[name.strip().casefold()] = value.strip()
        url = urlsplit(words[1])
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        body = await self._read_body(reader, headers)
        return Request(words[0].upper(), unquote(url.path), query, headers, body)

    async def _read_body(self, reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").casefold() == "chunked":
            return await self._read_chunks(reader)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._body_bytes_max:
            raise BadRequestError(413, f"a body has at most {self._body_bytes_max} bytes")
        return await reader.readexactly(int(length))

    async def _read_chunks(self, reader: asyncio.StreamReader) -> bytes:
        body = bytearray()
        while True:
            line = (await reader.readuntil(b"\r\n")).split(b";")[0].strip()
            try:
                size = int(line, 16)
            except ValueError as error:
                raise BadRequestError(400, "a chunk has no size") from error
            if size < 0 or len(body) + size > self._body_bytes_max:
                raise BadRequestError(413, f"a body has at most {self._body_bytes_max} bytes")
            body += await reader.readexactly(size)
            await reader.readuntil(b"\r\n")
            if size == 0:
                return bytes(body)


def _encode(response: Response, keep: bool) -> bytes:
    try:
        phrase = HTTPStatus(response.status).phrase
    except ValueError:
        phrase = ""
    lines = [
        f"HTTP/1.1 {response.status} {phrase}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        f"Connection: {'keep-alive' if keep else 'close'}",
        *[f"{name}: {value}" for name, value in response.headers.items()],
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace") + response.body
