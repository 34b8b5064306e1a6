"""The proxy does what it is told: seen by a client and an echo service on plain sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.wire.http_gate import HttpRule, HttpRules
from tests.wire.proxy import TcpProxy

WAIT_S = 20.0


class Service:
    """Listens on loopback and echoes, in one thread; or answers each HTTP request with its number."""

    def __init__(self, *, http: bool = False) -> None:
        self.received = b""
        self.requests = 0
        self.ends: list[str] = []
        self.noted = threading.Condition()
        self._http = http
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads: list[threading.Thread] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            end = "reset"
            try:
                while data := connection.recv(65_536):
                    self._note(data)
                    if not self._http:
                        connection.sendall(data)
                        continue
                    self.requests += 1
                    body = str(self.requests).encode()
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                end = "fin"
            except OSError:
                pass
        with self.noted:
            self.ends.append(end)
            self.noted.notify_all()

    def _note(self, data: bytes) -> None:
        with self.noted:
            self.received += data
            self.noted.notify_all()

    def wait_received(self, data: bytes) -> None:
        """Wait until these bytes have arrived."""
        with self.noted:
            assert self.noted.wait_for(lambda: data in self.received, WAIT_S)

    def wait_ends(self, count: int) -> list[str]:
        """Wait until so many connections have ended, and return how."""
        with self.noted:
            assert self.noted.wait_for(lambda: len(self.ends) >= count, WAIT_S)
            return self.ends

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()


@pytest.fixture
def service() -> Iterator[Service]:
    running = Service()
    yield running
    running.close()


@pytest.fixture
def proxy(service: Service) -> Iterator[TcpProxy]:
    with TcpProxy(service.port, seed=1) as running:
        yield running


@pytest.fixture
def client(proxy: TcpProxy) -> Iterator[socket.socket]:
    with connect(proxy) as connection:
        assert echo(connection, b"hello") == b"hello"
        yield connection


def connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=WAIT_S)


def read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (piece := connection.recv(count - len(data))):
        data += piece
    return data


def echo(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return read(connection, len(data))


def is_silent(connection: socket.socket, seconds: float = 0.1) -> bool:
    """Nothing comes for a while."""
    connection.settimeout(seconds)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(WAIT_S)
    return False


def test_bytes_pass_both_ways_in_order(client: socket.socket) -> None:
    data = bytes(range(256)) * 8192
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()
    assert read(client, len(data)) == data
    sender.join()


def test_the_end_of_one_direction_passes(client: socket.socket, service: Service) -> None:
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""
    assert service.wait_ends(1) == ["fin"]


def test_a_cut_with_rst_resets_both_ends(client: socket.socket, proxy: TcpProxy, service: Service) -> None:
    assert proxy.cut() == 1
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert service.wait_ends(1) == ["reset"]
    assert (proxy.open, proxy.cuts) == (0, 1)


def test_a_cut_with_fin_ends_both_ends(client: socket.socket, proxy: TcpProxy, service: Service) -> None:
    proxy.cut(reset=False)
    assert client.recv(1) == b""
    assert service.wait_ends(1) == ["fin"]


def test_what_is_half_open_loses_all_and_new_connections_are_good(
    client: socket.socket, proxy: TcpProxy, service: Service
) -> None:
    assert proxy.half_open() == 1
    client.sendall(b"lost")
    assert is_silent(client)
    with connect(proxy) as other:
        assert echo(other, b"good") == b"good"
        assert bytes(proxy.swallowed["up"]) == b"lost"
    proxy.heal()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_cut_of_some_leaves_the_others(proxy: TcpProxy) -> None:
    connections = [connect(proxy) for _ in range(5)]
    assert [echo(connection, b"x") for connection in connections] == [b"x"] * 5
    assert proxy.cut(2) == 2
    assert proxy.open == 3
    alive = 0
    for connection in connections:
        try:
            alive += echo(connection, b"y") == b"y"
        except OSError:
            continue
        finally:
            connection.close()
    assert alive == 3


def test_replies_that_are_swallowed_do_not_come_though_the_request_did(
    client: socket.socket, proxy: TcpProxy, service: Service
) -> None:
    proxy.swallow("down")
    client.sendall(b"asked")
    service.wait_received(b"asked")
    assert is_silent(client)
    proxy.heal()
    # What has lost bytes cannot go on.
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_requests_that_are_swallowed_do_not_arrive(
    client: socket.socket, proxy: TcpProxy, service: Service
) -> None:
    proxy.swallow("up")
    client.sendall(b"lost")
    assert is_silent(client)
    assert service.received == b"hello"
    assert proxy.open == 1
    assert proxy.swallowed == {"up": b"lost", "down": b""}


def test_what_was_held_goes_on_without_loss(client: socket.socket, proxy: TcpProxy, service: Service) -> None:
    proxy.hold()
    client.sendall(b"later")
    assert is_silent(client)
    assert service.received == b"hello"
    assert proxy.waiting("up") == 5
    proxy.heal()
    assert read(client, 5) == b"later"


def test_the_end_of_a_side_is_not_told_while_words_get_lost(
    client: socket.socket, proxy: TcpProxy, service: Service
) -> None:
    proxy.swallow("up")
    client.close()
    with connect(proxy) as other:
        assert is_silent(other)
    assert service.ends == []


def test_a_delay_holds_for_each_way(client: socket.socket, proxy: TcpProxy) -> None:
    proxy.delay(0.05, jitter_s=0.05)
    began = time.monotonic()
    assert echo(client, b"slow") == b"slow"
    assert time.monotonic() - began >= 0.1
    proxy.heal()


def test_throttled_bytes_take_their_time(client: socket.socket, proxy: TcpProxy) -> None:
    proxy.throttle(100_000)
    began = time.monotonic()
    assert echo(client, b"x" * 20_000) == b"x" * 20_000
    assert time.monotonic() - began >= 0.2


def test_refused_connections_are_refused_and_open_ones_stay(client: socket.socket, proxy: TcpProxy) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    assert echo(client, b"still here") == b"still here"
    proxy.listen()
    with connect(proxy) as again:
        assert echo(again, b"back") == b"back"


def test_a_service_that_is_gone_resets_the_client(proxy: TcpProxy, service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        proxy.target = int(taken.getsockname()[1])
    # The reset may come while the client still connects.
    with pytest.raises(ConnectionResetError), connect(proxy) as connection:
        connection.recv(1)
    proxy.target = service.port
    with connect(proxy) as again:
        assert echo(again, b"there") == b"there"


# ------------------------------------------------------------ HTTP


@pytest.fixture
def web() -> Iterator[Service]:
    running = Service(http=True)
    yield running
    running.close()


def ask(connection: socket.socket, path: str = "/table") -> bytes:
    """Send a request and return the whole answer."""
    connection.sendall(f"POST {path} HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(1)
        if not piece:
            raise ConnectionResetError
        head += piece
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head + read(connection, length)


def test_a_rule_answers_for_the_service_as_often_as_it_says(web: Service) -> None:
    rules = HttpRules()
    rules.add(HttpRule("refuse", status=429, retry_after_s=3, count=2, skip=1, path="^/table$"))
    with TcpProxy(web.port, gate=rules.gate) as proxy, connect(proxy) as connection:
        assert ask(connection).endswith(b"1")
        for _ in range(2):
            answer = ask(connection)
            assert answer.startswith(b"HTTP/1.1 429 ")
            assert b"\r\nRetry-After: 3\r\n" in answer
        assert ask(connection, "/other").endswith(b"2")
        assert ask(connection).endswith(b"3")
    assert (rules.hits, rules.waiting, len(rules.requests)) == (2, [], 5)


def test_a_rule_for_large_requests_neither_hits_nor_skips_small_ones() -> None:
    rules = HttpRules()
    rules.add(HttpRule(skip=1, count=None, bytes_min=10))
    sizes = [size for size in (9, 10, 9, 10, 11) if rules.take("POST", "/", size)]
    assert (sizes, rules.hits) == ([10, 11], 2)


def test_a_request_can_land_and_be_refused_all_the_same(web: Service) -> None:
    rules = HttpRules()
    rules.add(HttpRule("land-then-refuse", status=500))
    with TcpProxy(web.port, gate=rules.gate) as proxy:
        with connect(proxy) as connection:
            assert ask(connection).startswith(b"HTTP/1.1 500 ")
        assert web.requests == 1
        with connect(proxy) as connection:
            assert ask(connection).endswith(b"2")


@pytest.mark.parametrize(("action", "landed"), [("land-then-cut", 1), ("cut", 0)])
def test_a_reply_can_be_lost_after_and_before_the_request_lands(
    web: Service, action: str, landed: int
) -> None:
    rules = HttpRules()
    rules.add(HttpRule(action))  # pyright: ignore[reportArgumentType]
    with TcpProxy(web.port, gate=rules.gate) as proxy, connect(proxy) as connection:
        with pytest.raises(ConnectionResetError):
            ask(connection)
        assert web.requests == landed
