"""One browser for a module."""

from __future__ import annotations

import pytest
from browser import started


@pytest.fixture(scope="module")
def browser():
    with started() as found:
        yield found
