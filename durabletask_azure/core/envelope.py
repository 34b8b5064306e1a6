"""How text that a payload codec has encoded is told from other text: ``~codec:<codec id>:<base64>``.

No JSON text begins like that, so plain and encoded values may stand side by side.
"""

from __future__ import annotations

import base64
import binascii
import re

__all__ = ["ID_FORM", "encoded_by", "open_envelope", "put_in_envelope"]

_MARK = "~codec:"
_FORM = re.compile(r"~codec:([A-Za-z0-9._-]{1,64}):([A-Za-z0-9+/=]*)")

ID_FORM = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What the id of a codec looks like."""


def put_in_envelope(codec_id: str, data: bytes) -> str:
    """Return encoded bytes as text that names the codec."""
    return f"{_MARK}{codec_id}:{base64.b64encode(data).decode()}"


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
