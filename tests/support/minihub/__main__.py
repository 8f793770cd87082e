"""`python -m minihub FOLDER PORT`: a Hub to try things by hand, with one user."""

from __future__ import annotations

import sys

from minihub import MiniHub, User

hub = MiniHub(sys.argv[1], port=int(sys.argv[2]))
hub.users["hf_alice"] = User("alice", ("acme",))
print(hub.url, flush=True)
hub.server.serve_forever()
