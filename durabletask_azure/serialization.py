"""How values become text and text becomes values again, as ``durabletask.serialization`` has it.

A converter of one's own is given to workers and clients as ``data_converter``, the same one everywhere on a hub.
"""

from __future__ import annotations

from typing import Final

from durabletask_azure.core.codec import DataConverter, JsonDataConverter

__all__ = ["DEFAULT_DATA_CONVERTER", "DataConverter", "JsonDataConverter"]

DEFAULT_DATA_CONVERTER: Final[DataConverter] = JsonDataConverter()
"""What workers and clients use when they are given none."""
