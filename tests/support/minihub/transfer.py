"""Commits, uploads and downloads."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import re

from minihub.store import HttpError


class Transfer:
    # ---- publishing --------------------------------------------------------------------------------
    def preupload(self, r, rev):
        tree, b = (r.resolve(rev) if rev in r.refs else r.resolve("main")).tree, self.json()
        attributes = self.hub.read(tree[".gitattributes"]).decode() if ".gitattributes" in tree else ""
        pats = [line.split()[0] for line in attributes.splitlines() if "filter=lfs" in line]
        ignored = b.get("gitIgnore")
        if ignored is None and ".gitignore" in tree:
            ignored = self.hub.read(tree[".gitignore"]).decode()
        out = []
        for f in b["files"]:
            p = f["path"]
            e = tree.get(p)
            lfs = f["size"] >= self.hub.lfs_threshold or any(
                fnmatch.fnmatch(p, g) or fnmatch.fnmatch(p.split("/")[-1], g) for g in pats
            )
            out.append(
                {
                    "path": p,
                    "uploadMode": "lfs" if lfs else "regular",
                    "shouldIgnore": any(fnmatch.fnmatch(p, line) for line in (ignored or "").splitlines()),
                    **({"oid": e.lfs or e.oid} if e else {}),
                }
            )
        self.send(200, {"files": out, "commitOid": r.resolve("main").id})

    def lfs_batch(self, type_, id_):
        self.repo(type_, id_, write=True)
        b = self.json()
        objs = []
        for o in b["objects"]:
            d = {"oid": o["oid"], "size": o["size"]}
            if not self.hub.has_lfs(o["oid"]):
                c = self.hub.multipart_chunk
                if c and o["size"] > c and "multipart" in b.get("transfers", []):
                    n = -(-o["size"] // c)
                    up = {
                        "href": f"{self.base()}/_blob/done/{o['oid']}",
                        "header": {
                            "chunk_size": str(c),
                            **{str(i + 1): f"{self.base()}/_blob/part/{o['oid']}/{i + 1}" for i in range(n)},
                        },
                    }
                else:
                    up = {"href": f"{self.base()}/_blob/{o['oid']}"}
                d["actions"] = {"upload": up, "verify": {"href": f"{self.base()}/_blob/verify/{o['oid']}"}}
            objs.append(d)
        self.send(200, {"transfer": "basic", "objects": objs, "hash_algo": "sha256"})

    def blob(self, seg):
        if seg[0] == "part":
            self.hub.parts[seg[1], int(seg[2])] = self.raw
            return self.send(200, b"", {"ETag": hashlib.md5(self.raw).hexdigest()})
        if seg[0] == "done":
            data = b"".join(self.hub.parts.pop((seg[1], p["partNumber"])) for p in self.json()["parts"])
            if self.hub.put_blob(data) != seg[1]:
                raise HttpError(422, "sha256 mismatch")
            return self.send(200, {})
        if seg[0] == "cdn":  # a signed CDN URL: no Authorization may arrive here
            if "Authorization" in self.headers:
                raise HttpError(400, "Only one auth mechanism allowed")
            return self.send_file(
                self.hub.blob_path(seg[1]).read_bytes(), {"ETag": f'"{seg[1]}"', "Accept-Ranges": "bytes"}
            )
        if seg[0] == "verify":
            return self.send(200 if self.hub.has_lfs(seg[1]) else 404, {})
        if self.command == "PUT":
            if hashlib.sha256(self.raw).hexdigest() != seg[0]:
                raise HttpError(400, "sha256 mismatch")
            self.hub.put_blob(self.raw)
            return self.send(200)
        raise HttpError(405, "method")

    def commit(self, r, rev):
        lines = [json.loads(line) for line in self.raw.splitlines() if line.strip()]
        head = next(line["value"] for line in lines if line["key"] == "header")
        with r.lock:
            branch = rev
            if rev not in r.refs:
                raise HttpError(404, f"Invalid rev id: {rev}", "RevisionNotFound")
            parent = head.get("parentCommit")
            pr = self.query.get("create_pr") == "1"
            if parent and not pr and not r.refs[rev].startswith(parent):
                raise HttpError(412, "A commit has happened since. Please refresh and try again.")
            tree = dict(r.resolve(parent if pr and parent else rev).tree)
            for line in lines:
                v = line["value"]
                if line["key"] == "file":
                    tree[v["path"]] = self.hub.put_regular(base64.b64decode(v["content"]))
                elif line["key"] == "lfsFile":
                    if not self.hub.has_lfs(v["oid"]):
                        raise HttpError(400, f"LFS object {v['oid']} was not uploaded")
                    size = v.get("size") or self.hub.blob_path(v["oid"]).stat().st_size
                    tree[v["path"]] = self.hub.lfs_entry(v["oid"], size)
                elif line["key"] == "deletedFile":
                    if tree.pop(v["path"], None) is None:
                        raise HttpError(404, "A file with this name doesn't exist", "EntryNotFound")
                elif line["key"] == "deletedFolder":
                    p = v["path"].rstrip("/") + "/"
                    tree = {k: e for k, e in tree.items() if not k.startswith(p)}
            if pr:
                r.pulls += 1
                branch = f"refs/pr/{r.pulls}"
                r.refs[branch] = r.refs[rev]
            c = r.commit(branch, tree, head["summary"], head.get("description") or "", self.user().name)
        prefix = "" if r.type == "model" else r.type + "s/"
        self.send(
            200,
            {
                "success": True,
                "commitOid": c.id,
                "commitUrl": f"{self.base()}/{prefix}{r.id}/commit/{c.id}",
                "hookOutput": "",
                **({"pullRequestUrl": f"{self.base()}/{prefix}{r.id}/discussions/{r.pulls}"} if pr else {}),
            },
        )

    # ---- downloads -----------------------------------------------------------------------------------
    def resolve(self, type_, id_, rev, path):
        r = self.repo(type_, id_, content=True)
        c = r.resolve(rev)
        h = {"X-Repo-Commit": c.id, "Accept-Ranges": "bytes"}
        e = c.tree.get(path)
        if e is None:
            raise HttpError(404, "Entry not found", "EntryNotFound", h)
        h["ETag"] = f'"{e.lfs or e.oid}"'
        if e.lfs:
            h |= {"X-Linked-Size": str(e.size), "X-Linked-Etag": f'"{e.lfs}"'}
            if x := self.hub.xet_hash(e.lfs):
                route = f"{self.base()}/api/{type_}s/{id_}/xet-read-token/{c.id}"
                h |= {"X-Xet-Hash": x, "X-Xet-Refresh-Route": route, "Link": f'<{route}>; rel="xet-auth"'}
        if e.lfs and self.hub.cdn:
            self.hub.read(e)  # materialise a Xet upload
            return self.send(
                302, b"", {**h, "Location": f"{self.base().replace('127.0.0.1', 'localhost')}/_blob/cdn/{e.lfs}"}
            )
        if self.command == "HEAD":
            return self.send(200, b"", h, length=e.size)
        self.send_file(self.hub.read(e), h)
        return None

    def send_file(self, data, h):
        if rng := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            a, z = rng.groups()
            if a == "":
                a, z = max(0, len(data) - int(z)), len(data) - 1
            else:
                a, z = int(a), min(int(z), len(data) - 1) if z else len(data) - 1
            if a >= len(data):
                raise HttpError(416, "range", headers={"Content-Range": f"bytes */{len(data)}"})
            return self.send(206, data[a : z + 1], {**h, "Content-Range": f"bytes {a}-{z}/{len(data)}"})
        return self.send(200, data, h)
