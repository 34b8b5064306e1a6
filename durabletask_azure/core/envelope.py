"""How text that a payload codec has encoded is told from other text: ``~codec:<codec id>:<base64>``.

No JSON text looks like that, so plain and encoded values may stand side by side. Plain text that does, which a data
converter of one's own or a person may write, is stored as ``~codec::<text>``: no codec has an empty id.
"""

from __future__ import annotations

import base64
import binascii
import re

__all__ = ["ID_FORM", "encoded_by", "marked_plain", "open_envelope", "plain_text_of", "put_in_envelope"]

_MARK = "~codec:"
_PLAIN_MARK = "~codec::"
_FORM = re.compile(r"~codec:([A-Za-z0-9._-]{1,64}):([A-Za-z0-9+/=]*)")

ID_FORM = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What the id of a codec looks like."""


def put_in_envelope(codec_id: str, data: bytes) -> str:
    """Return encoded bytes as text that names the codec."""
    return f"{_MARK}{codec_id}:{base64.b64encode(data).decode()}"


def marked_plain(text: str) -> str:
    """Return plain text as it is to be stored."""
    looks_marked = encoded_by(text) is not None or text.startswith(_PLAIN_MARK)
    return f"{_PLAIN_MARK}{text}" if looks_marked else text


def plain_text_of(text: str) -> str:
    """Return stored text, which no codec has encoded, as it was before :func:`marked_plain`."""
    return text.removeprefix(_PLAIN_MARK)


def encoded_by(text: str) -> str | None:
    """Return the id of the codec that has encoded ``text``, ``None`` if none has."""
    if not text.startswith(_MARK):
        return None
    found = _FORM.fullmatch(text)
    return None if found is None else found[1]


def open_envelope(text: str) -> bytes:
    """Return the encoded bytes of a text that :func:`encoded_by` knows. Raises ``ValueError``: it is damaged."""
    try:
        return base64.b64decode(text.rpartition(":")[2], validate=True)
    except binascii.Error as error:
        raise ValueError(f"the base64 is damaged: {error}") from error
