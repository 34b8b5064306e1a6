"""Sites for fault tests, each with an emulator and a hub of its own; Azurite is shared."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from azurite.start import RunningAzurite
from tests.wire_faults.site import Site

OpenSite = Callable[..., Site]


@pytest.fixture
def open_site(tmp_path: Path, azurite: RunningAzurite) -> Iterator[OpenSite]:
    """Open a site with options of the test's own: `persist`, and variables of `AzureSettings.from_env`."""
    sites: list[Site] = []

    def open_one(*, persist: bool = False, **options: str) -> Site:
        sites.append(Site(tmp_path, azurite, persist=persist, **options))
        return sites[-1]

    yield open_one
    for site in sites:
        site.close()
    # What the SDK lets go of unclosed: here, where that is known, and not in whatever test comes next.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def site(open_site: OpenSite) -> Site:
    """A site as most tests need it."""
    return open_site()
