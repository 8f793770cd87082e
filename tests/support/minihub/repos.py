"""The API of repositories: create, settings, info, trees, refs."""

from __future__ import annotations

import hashlib
import re
import time
from urllib.parse import parse_qs

from minihub.store import HttpError, Repo


class Repos:
    def create_repo(self):
        u, b = self.user(), self.json()
        if u is None:
            raise HttpError(401, "Invalid username or password.")
        ns = b.get("organization") or u.name
        id_, type_ = f"{ns}/{b['name']}", b.get("type") or "model"
        if not self.hub.can_write(ns, u):
            raise HttpError(403, f'You don\'t have the rights to create a {type_} under the namespace "{ns}"')
        private = b["visibility"] == "private" if "visibility" in b else bool(b.get("private"))
        prefix = "" if type_ == "model" else type_ + "s/"
        url = {"url": f"{self.base()}/{prefix}{id_}", "name": id_, "id": id_}
        with self.hub.lock:
            if (type_, id_) in self.hub.repos:
                raise HttpError(409, f"You already created this {type_} repo: {id_}", body={"error": "exists", **url})
            self.hub.repos[type_, id_] = Repo(self.hub, type_, id_, private, u.name)
        self.send(200, url)

    def delete_repo(self):
        b = self.json()
        u = self.user()
        id_ = f"{b.get('organization') or (u.name if u else '')}/{b['name']}"
        type_ = b.get("type") or "model"
        self.repo(type_, id_, write=True)
        del self.hub.repos[type_, id_]
        self.send(200, {"ok": True})

    def move_repo(self):
        b = self.json()
        t = b.get("type") or "model"
        r = self.repo(t, b["fromRepo"], write=True)
        del self.hub.repos[t, r.id]
        r.id = b["toRepo"]
        self.hub.repos[t, r.id] = r
        self.send(200, {"ok": True})

    def list_repos(self, type_):
        u = self.user()
        rs = [r for (t, _), r in sorted(self.hub.repos.items()) if t == type_ and self.hub.can_read(r, u)]
        if a := self.query.get("author"):
            rs = [r for r in rs if r.id.split("/")[0] == a]
        if s := self.query.get("search"):
            rs = [r for r in rs if s.lower() in r.id.lower()]
        self.send(200, [r.info("main") for r in rs])

    def validate_yaml(self):
        import yaml

        b = self.json()
        errors, warnings = [], []
        m = re.match(r"\A---\s*\r?\n(.*?)\r?\n---", b["content"], re.S)
        if not m:
            warnings.append({"message": "empty or missing yaml metadata in repo card"})
        else:
            try:
                d = yaml.safe_load(m.group(1)) or {}
                if "license" in d and not isinstance(d["license"], (str, list)):
                    errors.append({"message": '"license" must be a string'})
                listed = ("tags", "language", "task_categories", "size_categories")
                wrong = [k for k in listed if k in d and not isinstance(d[k], list | str)]
                errors += [{"message": f'"{k}" must be an array'} for k in wrong]
            except yaml.YAMLError as e:
                errors.append({"message": f"YAML error: {e}"})
        self.send(400 if errors else 200, {"errors": errors, "warnings": warnings})

    # ---- /api/<type>s/<ns>/<name>/... --------------------------------------------------------------
    def repo_api(self, type_, id_, rest):
        m, op, arg = self.command, rest[0] if rest else "", rest[1:]
        if m == "GET":
            return self.read_repo(type_, id_, op, arg)
        if op in ("branch", "tag", "super-squash"):
            return self.change_refs(self.repo(type_, id_, write=True), op, arg[0])
        if m == "POST" and op == "paths-info":
            r = self.repo(type_, id_)
            paths = (
                self.json()["paths"]
                if "json" in self.headers.get("Content-Type", "")
                else parse_qs(self.raw.decode()).get("paths", [])
            )
            everything = {t["path"]: t for t in self.tree(r, arg[0], "", recursive=True)}
            return self.send(200, [everything[p.strip("/")] for p in paths if p.strip("/") in everything])
        if m == "PUT" and op == "settings":
            r = self.repo(type_, id_, write=True)
            b = self.json()
            if "gated" in b:
                r.gated = b["gated"]
            if "visibility" in b or "private" in b:
                r.private = b.get("private", b.get("visibility") == "private")
            return self.send(200, b)
        if m == "POST" and op == "preupload":
            return self.preupload(self.repo(type_, id_, write=True), arg[0])
        if m == "POST" and op == "commit":
            return self.commit(self.repo(type_, id_, write=True), arg[0])
        raise HttpError(404, f"minihub: {m} {op} not implemented")

    def read_repo(self, type_, id_, op, arg):
        r = self.repo(type_, id_)
        if op in ("", "revision"):
            return self.send(200, r.info(arg[0] if arg else "main", "blobs" in self.query))
        if op == "auth-check":
            self.repo(type_, id_, write=arg == ["write"], content=True)
            return self.send(200, {})
        if op == "refs":

            def f(d, p):
                return [{"name": n, "ref": p + n, "targetCommit": s} for n, s in d.items()]

            br = {k: v for k, v in r.refs.items() if not k.startswith("refs/")}
            pr = {k: v for k, v in r.refs.items() if k.startswith("refs/pr/")}
            return self.send(
                200,
                {
                    "branches": f(br, "refs/heads/"),
                    "tags": f(r.tags, "refs/tags/"),
                    "converts": [],
                    "pullRequests": f(pr, ""),
                },
            )
        if op == "commits":
            return self.page(
                [
                    {
                        "id": c.id,
                        "title": c.title,
                        "message": c.message,
                        "date": c.date,
                        "authors": [{"user": c.author}],
                    }
                    for c in r.history(arg[0])
                ]
            )
        if op == "tree":
            r = self.repo(type_, id_, content=True)
            return self.page(self.tree(r, arg[0], "/".join(arg[1:])))
        if op in ("xet-read-token", "xet-write-token"):
            self.repo(type_, id_, write=op == "xet-write-token", content=op == "xet-read-token")
            exp = int(time.time()) + 3600
            cas = self.hub.new_cas()
            return self.send(
                200,
                {"casUrl": cas, "accessToken": "x", "exp": exp},
                {"X-Xet-Cas-Url": cas, "X-Xet-Access-Token": "x", "X-Xet-Token-Expiration": str(exp)},
            )
        raise HttpError(404, f"minihub: GET {op} not implemented")

    def change_refs(self, r, op, name):
        m = self.command
        with r.lock:
            if op == "branch" and m == "POST":
                if name in r.refs:
                    raise HttpError(409, f"Reference already exists: refs/heads/{name}")
                r.refs[name] = r.resolve(self.json().get("startingPoint") or "main").id
            elif op == "tag" and m == "POST":
                tag = self.json()["tag"]
                if tag in r.tags:
                    raise HttpError(409, f"Tag reference exists already: {tag}")
                r.tags[tag] = r.resolve(name).id
            elif op == "super-squash":
                tree = r.resolve(name).tree
                r.refs.pop(name)
                r.commit(name, tree, self.json().get("message") or "Super-squash", "", self.user().name)
            elif (r.refs if op == "branch" else r.tags).pop(name, None) is None:
                raise HttpError(404, f"Invalid rev id: {name}", "RevisionNotFound")
        self.send(200, {})

    def page(self, items):
        n, start = self.hub.page_size, int(self.query.get("cursor", 0))
        h = {}
        if start + n < len(items):
            q = self.split.query.split("&cursor=")[0]
            h["Link"] = f'<{self.base()}{self.split.path}?{q}&cursor={start + n}>; rel="next"'
        self.send(200, items[start : start + n], h)

    def tree(self, r, rev, path, recursive=None):
        c = r.resolve(rev)
        path = path.strip("/")
        prefix = path + "/" if path else ""
        recursive = self.query.get("recursive", "").lower() in ("1", "true") if recursive is None else recursive
        files, dirs = [], set()
        last = {"id": c.id, "title": c.title, "date": c.date}
        for p, e in sorted(c.tree.items()):
            if not p.startswith(prefix):
                continue
            parts = p[len(prefix) :].split("/")
            for i in range(1, len(parts) if recursive else min(2, len(parts))):
                dirs.add(prefix + "/".join(parts[:i]))
            if recursive or len(parts) == 1:
                d = {"type": "file", "oid": e.oid, "size": e.size, "path": p, "lastCommit": last}
                if e.lfs:
                    d["lfs"] = {"oid": e.lfs, "size": e.size, "pointerSize": 135}
                    if x := self.hub.xet_hash(e.lfs):
                        d["xetHash"] = x
                files.append(d)
        if path and not files and not dirs:
            raise HttpError(404, f'{path} does not exist on "{rev}"', "EntryNotFound")
        return [
            {"type": "directory", "oid": hashlib.sha1(d.encode()).hexdigest(), "size": 0, "path": d, "lastCommit": last}
            for d in sorted(dirs)
        ] + files
