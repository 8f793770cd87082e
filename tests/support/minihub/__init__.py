"""A loopback Hub for tests: the real `huggingface_hub` and `datasets` clients talk to it through `HF_ENDPOINT`.

::

    hub = MiniHub(folder).start()
    hub.users["token_of_alice"] = User("alice")
    hub.put("dataset", "alice/prefs", {"data/train.jsonl": b"..."})
    hub.fail(status=503, method="POST", path=r"/commit/", times=2)

Blobs lie on disk by content, repositories in memory. It answers what the clients ask, by the clients' source: it is
no proof of what the real Hub does. `python -m minihub FOLDER PORT` serves one by hand.
"""

from __future__ import annotations

from minihub.server import MiniHub
from minihub.store import Commit, Entry, Repo, User

__all__ = ["Commit", "Entry", "MiniHub", "Repo", "User"]
