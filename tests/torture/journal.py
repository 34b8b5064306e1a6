"""What a client writes down about its own doing, line by line, each on disk before it goes on.

A client that was killed reads its journal when it begins again, and the checker reads it at the end. So what was
accepted, and what was seen, is known without asking the hub.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import msgspec

from tests.torture.expectations import Start


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line.

    `what` is `intent` (is about to be started as `start` says), `accepted` (the start call returned), `observed` (the
    client saw the end: `status`, `output`), `purging` and `purged`.
    """

    what: str
    instance: str
    at: float
    start: Start | None = None
    status: str = ""
    output: str | None = None


class Journal:
    """The file of one client; several processes may have written to it, one after the other."""

    def __init__(self, path: Path) -> None:
        self.entries = read(path)
        _cut_off_rest(path)
        self._file: IO[bytes] = path.open("ab")

    def note(
        self,
        what: str,
        instance: str,
        *,
        start: Start | None = None,
        status: str = "",
        output: str | None = None,
    ) -> None:
        """Write a line, and return when it is on disk."""
        self.note_all([Entry(what, instance, time.time(), start, status, output)])

    def note_all(self, entries: Iterable[Entry]) -> None:
        """Write lines, all of them on disk when this returns."""
        for entry in entries:
            self.entries.append(entry)
            self._file.write(msgspec.json.encode(entry) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(path: Path) -> list[Entry]:
    """Return the lines of a journal, whose client may be writing to it."""
    return [msgspec.json.decode(line, type=Entry) for line in whole_lines(path)]


def whole_lines(path: Path) -> list[bytes]:
    """Return the lines of a file; a last one that is being written, or was cut off by a kill, is not there."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def _cut_off_rest(path: Path) -> None:
    """Remove a last line that a kill cut off, so that what is appended next does not become part of it."""
    if path.exists():
        rest = path.read_bytes().rpartition(b"\n")[2]
        os.truncate(path, path.stat().st_size - len(rest))
