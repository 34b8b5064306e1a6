"""Values on their way to storage: small ones inline, large ones as a reference into the payload store.

A payload is JSON text, a reference, or nothing. Only the type tells them apart: text that looks like a reference or a
URL is text (B114). :class:`PayloadWriter` decides which values spill and remembers what has to be uploaded before the
commit; names are derived from instance, execution and content, so uploading twice is harmless (F24).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import final

import msgspec

from durabletask_azure.core.partitioning import partition_of
from durabletask_azure.errors import ConfigurationError, PayloadMissingError, PayloadTooLargeError

__all__ = [
    "ANY_EXECUTION",
    "BlobRef",
    "Payload",
    "PayloadWriter",
    "check_name",
    "check_own",
    "check_value",
    "is_name",
    "payload_name",
    "payload_prefix",
    "resolve",
]

ANY_EXECUTION = "-"
"""Stands for the execution in names of values sent to an instance from outside: events, reasons, inputs of starts."""


@final
class BlobRef(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="blob"):
    """A value kept in the payload store: its name there and its size in bytes of UTF-8."""

    name: str
    size: int


Payload = str | BlobRef | None
"""A serialised value: JSON text, a reference to it, or no value."""


def payload_name(partition: int, instance_id: str, execution_id: str, text: bytes) -> str:
    """Return the name under which the payload store keeps a value of an execution.

    ``p007/<hash of instance>/<execution>/<hash of content>``: the first two parts let orphan collection find the
    instance, the last makes a second upload of the same value a no-op.
    """
    return f"{payload_prefix(partition, instance_id)}{execution_id}/{_content(text)}"


def payload_prefix(partition: int, instance_id: str) -> str:
    """Return what all names of an instance's values start with, closing slash included."""
    owner = hashlib.blake2b(instance_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"p{partition:03d}/{owner}/"


# A part has no dot at its end, which services that keep values by name would take away.
_NAME = re.compile(r"p[0-9]{3}(/[A-Za-z0-9_-]([A-Za-z0-9_.-]{0,198}[A-Za-z0-9_-])?){3}")


def is_name(text: str) -> bool:
    """Tell whether a text has the form of a payload's name: what a store may take for a path below its own."""
    return _NAME.fullmatch(text) is not None


def check_name(name: str) -> None:
    """Raise ``ConfigurationError`` for what has not the form of a payload's name."""
    if not is_name(name):
        raise ConfigurationError(f"{name!r} is no name of a payload")


def check_own(ref: BlobRef, partition: int, instance_id: str) -> None:
    """Check that a reference is to a value of the instance that reads it: all of them are stored under its prefix.

    Raises:
        PayloadMissingError: it is not. Nobody writes such references: a row or message is damaged or forged.
    """
    if not (
        is_name(ref.name) and ref.name.startswith(payload_prefix(partition, instance_id)) and ref.size >= 0
    ):
        raise PayloadMissingError(f"{ref.name!r} is no value of instance {instance_id!r}")


def check_value(name: str, size: int, data: bytes) -> bytes:
    """Return the value read under a name if it is the one that was stored there.

    Raises:
        PayloadMissingError: it has another size, or another content than the name says.
    """
    if len(data) != size:
        raise PayloadMissingError(f"the payload {name} is {len(data):,} bytes instead of {size:,}")
    if _content(data) != name.rpartition("/")[2]:
        raise PayloadMissingError(f"the payload {name} is damaged")
    return data


def _content(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=20).hexdigest()


class PayloadWriter:
    """Spills what is over the inline limit and collects the uploads: ``uploads`` maps name to bytes.

    A value is stored under the name of the instance that will read it, so that purging the writer takes nothing away.
    """

    __slots__ = ("_bytes_max", "_inline_bytes_max", "_partitions", "uploads")

    def __init__(self, *, partitions: int, inline_bytes_max: int, bytes_max: int) -> None:
        self._partitions = partitions
        self._inline_bytes_max = inline_bytes_max
        self._bytes_max = bytes_max
        self.uploads: dict[str, bytes] = {}

    def store(self, text: str | None, *, instance_id: str, execution_id: str, what: str) -> Payload:
        """Return ``text`` itself when small, else a reference, noting the upload.

        Raises:
            PayloadTooLargeError: over the cap; the message names ``what``, the size and the cap.
            UnicodeEncodeError: (a ``ValueError``) the text has half a surrogate pair: no UTF-8 can hold it.
        """
        if text is None or (len(text) <= self._inline_bytes_max and text.isascii()):
            return text
        data = text.encode()
        if len(data) <= self._inline_bytes_max:
            return text
        if len(data) > self._bytes_max:
            raise PayloadTooLargeError(
                f"{what} of {instance_id!r} is {len(data):,} bytes; at most {self._bytes_max:,} are allowed"
            )
        name = payload_name(partition_of(instance_id, self._partitions), instance_id, execution_id, data)
        self.uploads[name] = data
        return BlobRef(name=name, size=len(data))


def resolve(payload: Payload, loaded: Mapping[str, str]) -> str | None:
    """Return the text of a payload, taking references from ``loaded`` (name to text).

    Raises:
        PayloadMissingError: the reference is not in ``loaded``.
    """
    if type(payload) is not BlobRef:  # isinstance() is slow for what is none
        return payload
    text = loaded.get(payload.name)
    if text is None:
        raise PayloadMissingError(
            f"the payload {payload.name} ({payload.size:,} bytes) is missing or damaged"
        )
    return text
