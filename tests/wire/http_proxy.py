"""An HTTP proxy on loopback that opens tunnels (CONNECT) for who knows its password, and notes where to."""

from __future__ import annotations

import base64
import socket
import socketserver
import threading
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

_HEAD_MAX: Final = 65_536
_PIECE: Final = 65_536


class HttpProxy:
    """A proxy with one user."""

    def __init__(self, user: str, password: str) -> None:
        self.targets: list[str] = []
        self.refused = 0
        self._asked_for = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                proxy.serve(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="http-proxy", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve(self, client: socket.socket) -> None:
        """Open a tunnel for one connection, and carry bytes both ways until either side ends."""
        head = b""
        while b"\r\n\r\n" not in head and len(head) < _HEAD_MAX and (piece := client.recv(_PIECE)):
            head += piece
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        method, _, rest = first.partition(" ")
        if method != "CONNECT" or headers.get("proxy-authorization") != self._asked_for:
            self.refused += 1
            client.sendall(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n"
                b"Content-Length: 0\r\nConnection: close\r\n\r\n"
            )
            return
        target = rest.partition(" ")[0]
        self.targets.append(target)
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port))) as service:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_carry, args=(service, client), daemon=True)
            back.start()
            _carry(client, service)
            back.join()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):  # whoever ends a connection ends the tunnel
        while piece := source.recv(_PIECE):
            sink.sendall(piece)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
