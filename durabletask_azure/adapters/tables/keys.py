"""The keys of a hub's rows, and how an instance id becomes part of one (DESIGN 5).

An escaped id has only ASCII characters that Tables, addresses and filters take as they are, is different for different
ids (case included), can be turned back, and sorts as the id does by code points, so that a range of keys is a range of
ids. Letters, digits, ``-``, ``_`` and ````` stand for themselves; all others are a lead, whose place among the former
is that of the characters it stands for, and their number:

======================  ========  ===========
characters              lead      then
======================  ========  ===========
below ``-``             ``(``     two digits (hexadecimal, lower case, as all below)
``.`` and ``/``         ``.``     ``d``, ``s``
``:`` to ``@``          ``:``     two digits
``[`` to ``^``          ``[``     two digits
``{`` to U+007F         ``{``     two digits
U+0080 to U+FFFF        ``|``     four digits
above                   ``~``     six digits
======================  ========  ===========

A key ends at 512 characters. An escaped id that is too long is cut, and a hash of the whole id follows; such a key
sorts among those of other ids by what is left of it, and the row has the id itself.
"""

from __future__ import annotations

import hashlib
import re

__all__ = [
    "DEAD",
    "HUB",
    "INSTANCES",
    "LOCK",
    "OUTBOX",
    "TOMBSTONES",
    "WORKERS",
    "escaped",
    "instance_id_of",
    "instance_key",
    "is_whole",
    "key_after",
    "outbox_key",
    "prefix_range",
    "segment_key",
    "tombstone_key",
    "unescaped",
]

HUB = "hub"
"""PartitionKey and RowKey of the row that says what the hub is."""
WORKERS = "workers"
DEAD = "dead"
LOCK = "lock"
INSTANCES = "i!"
TOMBSTONES = "t!"
OUTBOX = "o!"

_ESCAPED_MAX = 500
_CUT = 440
_SEGMENT_ESCAPED_MAX = 200
_SEGMENT_CUT = 150
_HASH_BYTES = 20
_PLAIN = re.compile(r"[0-9A-Za-z_`-]*", re.ASCII)
_TO_ESCAPE = re.compile(r"[^0-9A-Za-z_`-]", re.ASCII)
_ESCAPE = re.compile(r"([(:\[{])([0-9a-f]{2})|\.([ds])|\|([0-9a-f]{4})|~([0-9a-f]{6})")


def escaped(text: str) -> str:
    """Return any text as part of a key; see the module."""
    return text if _PLAIN.fullmatch(text) else _TO_ESCAPE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code >= 0x80:
        return f"|{code:04x}" if code < 0x10000 else f"~{code:06x}"
    if code in (0x2E, 0x2F):
        return ".d" if code == 0x2E else ".s"
    lead = "(" if code < 0x2D else ":" if code <= 0x40 else "[" if code <= 0x5E else "{"
    return f"{lead}{code:02x}"


def unescaped(text: str) -> str:
    """Return what :func:`escaped` made ``text`` of."""
    return _ESCAPE.sub(_unescape, text)


def _unescape(found: re.Match[str]) -> str:
    _, ascii_digits, dot, digits, many = found.groups()
    if dot is not None:
        return "." if dot == "d" else "/"
    return chr(int(ascii_digits or digits or many, 16))


def instance_key(instance_id: str) -> str:
    """Return the RowKey of an instance."""
    return INSTANCES + _shortened(instance_id, _ESCAPED_MAX, _CUT)


def tombstone_key(instance_id: str) -> str:
    """Return the RowKey of a tombstone."""
    return TOMBSTONES + _shortened(instance_id, _ESCAPED_MAX, _CUT)


def segment_key(instance_id: str, execution_id: str, index: int) -> str:
    """Return the RowKey of a segment of history; those of an execution sort by ``index``."""
    instance = _shortened(instance_id, _SEGMENT_ESCAPED_MAX, _SEGMENT_CUT)
    execution = _shortened(execution_id, _SEGMENT_ESCAPED_MAX, _SEGMENT_CUT)
    return f"h!{instance}!{execution}!{index:010d}"


def outbox_key(n: int, index: int) -> str:
    """Return the RowKey of an outbox row; they sort by commit and index."""
    return f"{OUTBOX}{n:020d}!{index:010d}"


def is_whole(key: str) -> bool:
    """Return whether the key of an instance holds all of its id."""
    return "!" not in key[len(INSTANCES) :]


def instance_id_of(key: str) -> str:
    """Return the id in a key that :func:`is_whole`."""
    return unescaped(key[len(INSTANCES) :])


def prefix_range(prefix: str) -> tuple[str, str]:
    """Return the first key and the one after the last of all instances whose id begins with ``prefix``.

    Ids with another beginning may be between them if ``prefix`` is very long.
    """
    first = INSTANCES + escaped(prefix)[:_CUT]
    return first, key_after(first)


def key_after(beginning: str) -> str:
    """Return the key above all that begin so."""
    return beginning[:-1] + chr(ord(beginning[-1]) + 1)


def _shortened(text: str, longest: int, cut: int) -> str:
    whole = escaped(text)
    if len(whole) <= longest:
        return whole
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).hexdigest()
    return f"{whole[:cut]}!{digest}"
