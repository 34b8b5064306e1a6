"""Hints between the processes that have one hub open: what a commit changed, as datagrams on Unix sockets.

Only an economy: a hint may be lost or come twice, and whoever gets none finds out by the writer's slow poll. Each open
hub binds a socket in a folder of its own hub, which only this user may enter; after a commit it sends to all others
there. Where there are no such sockets (Windows) everybody polls.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import socket
import stat
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec

from durabletask_azure.adapters.local.bell import Bell, Topic, is_end, wake

__all__ = ["NoNeighbours", "SocketNeighbours", "open_neighbours"]

_NAMES_BYTES_MAX = 16_384
_DATAGRAM_BYTES_MAX = 65_536
_PATH_BYTES_MAX = 100
_BIND_TRIES = 5


class _Hint(msgspec.Struct, array_like=True):
    """Numbered topics, and those of instances.

    ``None`` for ``instances``: too many to name; then ``ends`` are those of ends among them, or ``None`` if these are
    too many as well. (Versions before had no ``ends``, and pass over it.)
    """

    numbers: list[int]
    instances: list[str] | None
    ends: list[str] | None = None

    def known_ends(self) -> list[str] | None:
        """Return the topics of ends, ``None`` if they are too many to name."""
        return self.ends if self.instances is None else list(filter(is_end, self.instances))


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Hint).decode


class NoNeighbours:
    """Where processes cannot be told anything; ``any`` says whether there may be some."""

    def __init__(self, *, any: bool = False) -> None:
        self.any = any

    @property
    def waiting(self) -> bool:
        return False

    def tell(self, topics: Iterable[Topic]) -> None:
        """Tell nobody."""

    def close(self) -> None:
        """Nothing is held."""


class SocketNeighbours:
    """Sends this open hub's hints, and rings the bell for those of others.

    :meth:`tell` is called by the writer's thread only. What another's full socket does not take is kept, joined, and
    tried again.
    """

    def __init__(self, folder: Path, bell: Bell) -> None:
        """Bind this open hub's socket.

        Raises:
            OSError: sockets of this kind cannot be bound here.
        """
        self._folder = folder
        self._bell = bell
        # Not the process's number: two containers that share the folder may have the same.
        self._own = folder / f"{secrets.token_hex(8)}.sock"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.bind(str(self._own))
            self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        except BaseException:
            self._socket.close()
            raise
        self._sender.setblocking(False)
        self._seen_at = -1
        self._others: list[str] = []
        self._kept: dict[str, _Hint] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._listen, name="durabletask-hub-hints", daemon=True)
        self._thread.start()

    @property
    def any(self) -> bool:
        """Whether other processes were there at the last look."""
        return bool(self._others)

    @property
    def waiting(self) -> bool:
        return bool(self._kept)

    def tell(self, topics: Iterable[Topic]) -> None:
        self._look()
        if not self._others:
            self._kept.clear()
            return
        told = _hint(set(topics))
        data = _encode(told) if told.numbers or told.instances != [] else b""
        for other in self._others:
            kept = self._kept.pop(other, None)
            if kept is not None:
                joined = _joined(kept, told)
                self._send(other, _encode(joined), joined)
            elif data:
                self._send(other, data, told)

    def _look(self) -> None:
        try:
            changed_at = self._folder.stat().st_mtime_ns
            if changed_at == self._seen_at:
                return
            names = os.listdir(self._folder)
        except OSError:
            # Somebody cleaned the temporary folder: the poll remains.
            self._others = []
            return
        self._seen_at = changed_at
        own = self._own.name
        self._others = [str(self._folder / name) for name in names if name.endswith(".sock") and name != own]
        self._kept = {other: kept for other, kept in self._kept.items() if other in self._others}

    def _send(self, other: str, data: bytes, hint: _Hint) -> None:
        try:
            self._sender.sendto(data, other)
        except BlockingIOError:
            self._kept[other] = hint
        except (ConnectionRefusedError, FileNotFoundError):
            # Its process is dead.
            with contextlib.suppress(OSError):
                os.unlink(other)
            self._seen_at = -1
        except OSError:
            # Only a hint.
            self._seen_at = -1

    def _listen(self) -> None:
        while True:
            try:
                data = self._socket.recv(_DATAGRAM_BYTES_MAX)
            except OSError:
                return
            if self._closed:
                return
            try:
                hint = _decode(data)
            except msgspec.MsgspecError:
                # Not from this version: take it as "something changed".
                wake(self._bell.ring_all())
                continue
            named = hint.ends if hint.instances is None else hint.instances
            waiters = self._bell.ring([*hint.numbers, *(named or ())])
            if hint.instances is None:
                waiters.extend(self._bell.ring_instances(with_ends=hint.ends is None))
            if waiters:
                wake(waiters)

    def close(self) -> None:
        """Stop listening and remove the socket. Blocks for a moment."""
        self._closed = True
        # Either wakes the listener: the socket may have lost its name, to whoever cleaned the temporary folder.
        with contextlib.suppress(OSError):
            self._sender.sendto(b"", str(self._own))
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=1.0)
        with contextlib.suppress(OSError):
            self._own.unlink()
            # The last one out; a newcomer makes it again.
            self._folder.rmdir()
        self._socket.close()
        self._sender.close()


def open_neighbours(hub: Path, bell: Bell) -> SocketNeighbours | NoNeighbours:
    """Return the way to the other processes that have the file ``hub`` open, as far as there is one."""
    if not hasattr(socket, "AF_UNIX") or not hasattr(os, "getuid"):
        return NoNeighbours(any=True)
    digest = hashlib.blake2b(os.fsencode(hub.resolve()), digest_size=12).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"dta-{digest}"
    if len(os.fsencode(folder)) > _PATH_BYTES_MAX - 24:
        return NoNeighbours(any=True)
    for _ in range(_BIND_TRIES):
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
                # Another user's: never to be trusted, nor to be told anything.
                break
            return SocketNeighbours(folder, bell)
        except FileNotFoundError:
            # The last of the others has just removed the folder.
            continue
        except OSError:
            break
    return NoNeighbours(any=True)


def _joined(one: _Hint, other: _Hint) -> _Hint:
    """Return one hint for two; it stays small, however long a process stands still."""
    numbers = {*one.numbers, *other.numbers}
    if one.instances is None or other.instances is None:
        ends, more = one.known_ends(), other.known_ends()
        return _Hint([*numbers], None, None if ends is None or more is None else _few({*ends, *more}))
    return _hint({*numbers, *one.instances, *other.instances})


def _hint(topics: Iterable[Topic]) -> _Hint:
    numbers: list[int] = []
    names: list[str] = []
    for topic in topics:
        if isinstance(topic, int):
            numbers.append(topic)
        else:
            names.append(topic)
    few = _few(names)
    return _Hint(numbers, few, _few(filter(is_end, names)) if few is None else None)


def _few(names: Iterable[str]) -> list[str] | None:
    """Return the names, ``None`` if they are too many for a hint."""
    few = [*names]
    return few if sum(map(len, few)) <= _NAMES_BYTES_MAX else None
