"""`MiniHub`: blobs on disk, users, faults, and the HTTP server around them."""

from __future__ import annotations

import hashlib
import re
import threading
import uuid
from http.server import ThreadingHTTPServer
from pathlib import Path

import yaml

from minihub.handler import Handler
from minihub.store import Commit, Entry, Repo, git_sha1
from minihub.xet import parse_shard


class MiniHub:
    page_size = 1000
    lfs_threshold = 10 * 1024 * 1024
    multipart_chunk = None  # e.g. 5 MiB => multipart LFS instructions
    cdn = False  # True: LFS files answer 302 to another host name, as the Hub does

    def __init__(self, root, xet=False, host="127.0.0.1", port=0):
        self.root = Path(root)
        (self.root / "blobs").mkdir(parents=True, exist_ok=True)
        self.xet = xet
        self.users, self.repos, self.log, self.faults, self.parts = {}, {}, [], [], {}
        self.shards, self.index, self.ncas = set(), {}, 0
        self.lock = threading.RLock()
        hub = self

        class H(Handler):
            pass

        H.hub = hub

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self.server = Server((host, port), H)
        self.url = f"http://{host}:{self.server.server_address[1]}"

    def start(self):
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()
        return self

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def put(self, type_, id_, files, title="upload"):
        """Commits files (path -> bytes) to main as the Hub's web page would; returns the commit's SHA."""
        repo = self.repos.get((type_, id_))
        if repo is None:
            repo = self.repos[type_, id_] = Repo(self, type_, id_, private=False, author=id_.split("/")[0])
        tree = dict(repo.resolve("main").tree)
        for path, data in files.items():
            lfs = path.endswith((".parquet", ".safetensors", ".gz"))
            tree[path] = self.lfs_entry(self.put_blob(data), len(data)) if lfs else self.put_regular(data)
        return repo.commit("main", tree, title, "", id_.split("/")[0]).id

    # ---- faults -----------------------------------------------------------
    def fail(
        self,
        status,
        method=".*",
        path=".*",
        times=1,
        headers=None,
        after=0,
        drop=False,
        delay=0.0,
        post=False,
        body=None,
    ):
        """Answer `status` to the next `times` matching requests; drop=True cuts the connection;
        post=True performs the request first (a lost response); body is answered instead of an error."""
        self.faults.append(
            {
                "status": status,
                "method": method,
                "path": path,
                "times": times,
                "headers": headers or {},
                "after": after,
                "drop": drop,
                "delay": delay,
                "post": post,
                "body": body,
            }
        )

    def take_fault(self, method, path):
        with self.lock:
            for f in self.faults:
                if f["times"] > 0 and re.fullmatch(f["method"], method) and re.search(f["path"], path):
                    if f["after"] > 0:
                        f["after"] -= 1
                        continue
                    f["times"] -= 1
                    return f
        return None

    # ---- blobs ------------------------------------------------------------
    def blob_path(self, sha256):
        return self.root / "blobs" / sha256[:2] / sha256

    def put_blob(self, data: bytes) -> str:
        sha = hashlib.sha256(data).hexdigest()
        p = self.blob_path(sha)
        if not p.exists():
            p.parent.mkdir(exist_ok=True)
            t = p.with_suffix(f".{uuid.uuid4().hex}.tmp")
            t.write_bytes(data)
            t.replace(p)
        return sha

    def put_regular(self, data: bytes) -> Entry:
        oid = git_sha1(data)
        p = self.blob_path(oid)
        p.parent.mkdir(exist_ok=True)
        p.write_bytes(data)
        return Entry(oid, len(data))

    def lfs_entry(self, sha256, size) -> Entry:
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
        return Entry(git_sha1(pointer), size, sha256)

    def has_lfs(self, sha256):
        return self.blob_path(sha256).exists() or (self.xet and sha256 in self.xet_index())

    def read(self, e: Entry) -> bytes:
        p = self.blob_path(e.lfs or e.oid)
        if e.lfs and not p.exists():
            self.xet_materialise(e)
        return p.read_bytes()

    def card(self, c: Commit):
        e = c.tree.get("README.md")
        if not e:
            return None
        try:
            m = re.match(r"\A---\s*\n(.*?)\n---", self.read(e).decode(), re.S)
            return yaml.safe_load(m.group(1)) if m else None
        except (yaml.YAMLError, UnicodeDecodeError):
            return None

    # ---- Xet: hf_xet's own disk store (casUrl local://), no CAS server needed ------------------
    # "write": every write token gets its own store (its redb file is locked by one process), downloads go over
    # plain HTTP; "shared": one store, and downloads go through Xet too (clients must share one process).
    def new_cas(self):
        with self.lock:
            self.ncas += self.xet == "write"
            return f"local://{self.root}/cas/{self.ncas}"

    def xet_index(self):
        """sha256 -> (xet hash, store), read from the MDB shards in the local stores."""
        with self.lock:
            for shard in (self.root / "cas").glob("*/xet/xorbs/shards/*.mdb"):
                if shard not in self.shards:
                    self.shards.add(shard)
                    self.index.update({k: (v, shard.parents[3]) for k, v in parse_shard(shard.read_bytes()).items()})
        return self.index

    def xet_hash(self, sha256):
        return self.xet_index().get(sha256, (None,))[0] if self.xet == "shared" else None

    def xet_materialise(self, e: Entry):
        import shutil

        import hf_xet

        h, cas = self.xet_index()[e.lfs]
        p = self.blob_path(e.lfs)
        p.parent.mkdir(exist_ok=True)
        tmp = self.root / f"tmp-{uuid.uuid4().hex}"
        if self.xet == "write":  # a copy: the client may still hold the lock
            shutil.copytree(cas, tmp)
            cas = tmp
        out = p.with_suffix(f".{uuid.uuid4().hex}.tmp")
        with hf_xet.XetSession().new_file_download_group(endpoint=f"local://{cas}") as g:
            g.start_download_file(hf_xet.XetFileInfo(h, e.size), str(out))
        out.replace(p)
        shutil.rmtree(tmp, ignore_errors=True)

    # ---- auth -------------------------------------------------------------
    def can_read(self, repo, user):
        return not repo.private or self.can_write(repo, user, role=False)

    def can_write(self, repo_or_ns, user, role=True):
        ns = repo_or_ns if isinstance(repo_or_ns, str) else repo_or_ns.id.split("/")[0]
        return user is not None and (user.name == ns or ns in user.orgs) and (not role or user.role == "write")
