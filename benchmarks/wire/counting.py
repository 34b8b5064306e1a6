"""Counts what a process asks of Azure Storage, where the SDKs hand requests to the network, whatever the adapters say.

What goes to Service Bus is counted by the emulator itself (``GET /traffic``).
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from azure.core.pipeline.transport import AioHttpTransport, RequestsTransport

__all__ = ["StorageRequests", "count_storage_requests"]

_PART = re.compile(rb"^(?:PUT|POST|PATCH|MERGE|DELETE) (\S+) HTTP/1\.1\r?$", re.MULTILINE)
_LOCK_KEY = "RowKey='lock'"

StorageRequests = Counter[str]
"""Requests and entities by kind:

``transactions``, the ``entities in transactions``, ``lock rows`` among them, and ``transaction bytes``; ``inserts``,
which are writes of a single row, and ``insert bytes``; ``point reads``; ``queries``, which are pages; ``blob puts``,
``blob gets``, ``blob others``; ``other``; and ``refused``: answers of 400 and more, counted under their kind as well.
"""


def count_storage_requests(table_url: str) -> StorageRequests:
    """Count this process's storage requests from now on; the counter is live. To be called once, before the SDKs are
    used; ``table_url`` tells tables from blobs."""
    counts: StorageRequests = Counter()
    tables = urlsplit(table_url).netloc
    _watch_async(AioHttpTransport, counts, tables)
    _watch_sync(RequestsTransport, counts, tables)
    return counts


def _watch_async(transport: type[Any], counts: StorageRequests, tables: str) -> None:
    send: Callable[..., Any] = transport.send

    @functools.wraps(send)
    async def counted(self: Any, request: Any, **options: Any) -> Any:
        _count(request, counts, tables)
        response = await send(self, request, **options)
        counts["refused"] += response.status_code >= 400
        return response

    transport.send = counted


def _watch_sync(transport: type[Any], counts: StorageRequests, tables: str) -> None:
    send: Callable[..., Any] = transport.send

    @functools.wraps(send)
    def counted(self: Any, request: Any, **options: Any) -> Any:
        _count(request, counts, tables)
        response = send(self, request, **options)
        counts["refused"] += response.status_code >= 400
        return response

    transport.send = counted


def _count(request: Any, counts: StorageRequests, tables: str) -> None:
    url, method = urlsplit(str(request.url)), request.method
    name = unquote(url.path).rpartition("/")[2]
    if url.netloc != tables:
        counts[{"PUT": "blob puts", "GET": "blob gets"}.get(method, "blob others")] += 1
    elif name == "$batch":
        body = _bytes(request)
        keys = [unquote(found.decode()) for found in _PART.findall(body)]
        counts["transactions"] += 1
        counts["entities in transactions"] += len(keys)
        counts["lock rows"] += sum(_LOCK_KEY in key for key in keys)
        counts["transaction bytes"] += len(body)
    elif method == "GET":
        counts["point reads" if "RowKey=" in name else "queries"] += 1
    elif name.startswith("Tables"):
        counts["other"] += 1
    else:
        counts["inserts"] += 1
        counts["insert bytes"] += len(_bytes(request))


def _bytes(request: Any) -> bytes:
    data: object = getattr(request, "content", None) or getattr(request, "data", None) or b""
    if isinstance(data, str):
        return data.encode()
    return data if isinstance(data, bytes) else b""
