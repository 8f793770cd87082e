"""Each test begins with nothing asked."""

from __future__ import annotations

import evaluated
import pytest


@pytest.fixture(autouse=True)
def _nothing_asked():
    for kept in (evaluated.ASKED, evaluated.SETTINGS, evaluated.FAILS):
        kept.clear()
