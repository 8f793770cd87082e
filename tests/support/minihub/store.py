"""Repositories in memory: commits, branches, tags."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import threading
import time

GITATTRIBUTES = "".join(
    f"*.{e} filter=lfs diff=lfs merge=lfs -text\n"
    for e in [
        "7z",
        "arrow",
        "bin",
        "bz2",
        "gz",
        "npy",
        "npz",
        "parquet",
        "pickle",
        "tar",
        "zip",
        "zst",
        "jpg",
        "png",
        "wav",
        "mp3",
    ]
)
PLURAL = {"models": "model", "datasets": "dataset", "spaces": "space"}


@dataclasses.dataclass
class User:
    name: str
    orgs: tuple = ()
    role: str = "write"  # "write" or "read"


@dataclasses.dataclass(frozen=True)
class Entry:
    oid: str  # git blob sha1 (of the pointer file when lfs)
    size: int
    lfs: str | None = None  # sha256 of the content when stored as LFS/Xet


@dataclasses.dataclass
class Commit:
    id: str
    parent: str | None
    tree: dict
    title: str
    message: str
    author: str
    date: str


class HttpError(Exception):
    def __init__(self, status, message, code=None, headers=None, body=None):
        self.status, self.message, self.code, self.headers, self.body = status, message, code, headers or {}, body


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Repo:
    def __init__(self, hub, type_, id_, private, author):
        self.hub, self.type, self.id, self.private, self.gated = hub, type_, id_, private, False
        self.allowed, self.commits, self.refs, self.tags = set(), {}, {}, {}
        self.lock, self.pulls = threading.RLock(), 0
        self.commit("main", {".gitattributes": hub.put_regular(GITATTRIBUTES.encode())}, "initial commit", "", author)

    def commit(self, branch, tree, title, message, author):
        parent = self.refs.get(branch)
        n = len(self.commits)
        date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{n % 1000:03d}Z"
        body = json.dumps(
            [parent, sorted((p, dataclasses.astuple(e)) for p, e in tree.items()), title, message, author, n]
        )
        c = Commit(
            hashlib.sha1(f"{self.id}{body}".encode()).hexdigest(), parent, dict(tree), title, message, author, date
        )
        self.commits[c.id] = c
        self.refs[branch] = c.id
        return c

    def resolve(self, rev) -> Commit:
        sha = self.refs.get(rev) or self.tags.get(rev)
        if sha is None and re.fullmatch(r"[0-9a-f]{7,40}", rev):
            sha = next((c for c in self.commits if c.startswith(rev)), None)
        if sha is None:
            raise HttpError(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        return self.commits[sha]

    def history(self, rev):
        c = self.resolve(rev)
        while c:
            yield c
            c = self.commits.get(c.parent) if c.parent else None

    def info(self, rev, expand_blobs=False):
        c = self.resolve(rev)
        sib = []
        for p, e in sorted(c.tree.items()):
            s = {"rfilename": p}
            if expand_blobs:
                s |= {"size": e.size, "blobId": e.oid}
                if e.lfs:
                    s["lfs"] = {"sha256": e.lfs, "size": e.size, "pointerSize": 135}
            sib.append(s)
        return {
            "_id": hashlib.md5(self.id.encode()).hexdigest()[:24],
            "id": self.id,
            "author": self.id.split("/")[0],
            "sha": c.id,
            "lastModified": c.date,
            "createdAt": c.date,
            "private": self.private,
            "gated": self.gated,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": sib,
            "cardData": self.hub.card(c),
        }
