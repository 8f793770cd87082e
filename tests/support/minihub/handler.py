"""Requests: reading, answering, routing."""

from __future__ import annotations

import contextlib
import json
import time
import traceback
import uuid
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

from minihub.repos import Repos
from minihub.store import PLURAL, HttpError, Repo
from minihub.transfer import Transfer


class Handler(Repos, Transfer, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes: without this each answer waits 40 ms
    hub = None  # the MiniHub, set by it

    def log_message(self, *a):
        pass

    def handle_any(self):
        self.split = urlsplit(self.path)
        self.query = {k: v[-1] for k, v in parse_qs(self.split.query).items()}
        self.raw = self.read_body()
        self.entry = [self.command, unquote(self.split.path), None, self.split.query]
        self.hub.log.append(self.entry)
        f = self.hub.take_fault(self.command, self.path)
        try:
            if f:
                time.sleep(f["delay"])
                if f["post"]:
                    try:
                        self.sent = False
                        self.mute = True
                        self.dispatch()
                    finally:
                        self.mute = False
                if f["drop"]:
                    self.close_connection = True
                    self.entry[2] = "drop"
                    self.connection.close()
                    return None
                if f["status"]:
                    body = {"error": "injected"} if f["body"] is None else f["body"]
                    return self.send(f["status"], body, f["headers"])
            self.dispatch()
        except HttpError as e:
            h = dict(e.headers)
            if e.code:
                h["X-Error-Code"] = e.code
            h["X-Error-Message"] = e.message
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.send(e.status, e.body or {"error": e.message}, h)
        except (BrokenPipeError, ConnectionResetError):
            pass
        except Exception as e:  # noqa: BLE001 - a bug in the server must not look like a Hub answer
            traceback.print_exc()
            self.send(500, {"error": f"minihub bug: {e!r}"})

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any  # noqa: N815 - http.server's names

    def read_body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            out = b""
            while n := int(self.rfile.readline().split(b";")[0], 16):
                out += self.rfile.read(n)
                self.rfile.readline()
            self.rfile.readline()
            return out
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def json(self):
        return json.loads(self.raw or b"{}")

    def send(self, status, body=b"", headers=None, length=None):
        self.entry[2] = status
        if getattr(self, "mute", False):
            return
        if not isinstance(body, (bytes, bytearray)):
            body = json.dumps(body).encode()
            ctype = "application/json; charset=utf-8"
        else:
            ctype = "application/octet-stream"
        self.send_response(status)
        h = {
            "Content-Type": ctype,
            "Content-Length": str(len(body) if length is None else length),
            "X-Request-Id": uuid.uuid4().hex,
            **(headers or {}),
        }
        for k, v in h.items():
            self.send_header(k, v)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    # ---- helpers ----------------------------------------------------------
    def user(self):
        a = self.headers.get("Authorization", "")
        if not a.startswith("Bearer "):
            return None
        u = self.hub.users.get(a[7:])
        if u is None:
            raise HttpError(401, "Invalid credentials in Authorization header")
        return u

    def repo(self, type_, id_, write=False, content=False) -> Repo:
        u = self.user()
        r = self.hub.repos.get((type_, id_))
        if r is None or not self.hub.can_read(r, u):
            raise HttpError(
                404 if u else 401, "Repository not found" if u else "Invalid username or password.", "RepoNotFound"
            )
        if write and u is None:
            raise HttpError(401, "Invalid username or password.")
        if write and not self.hub.can_write(r, u):
            raise HttpError(403, f"You don't have the rights to write to {id_}")
        if content and r.gated and not self.hub.can_write(r, u, role=False) and not (u and u.name in r.allowed):
            raise HttpError(
                403 if u else 401,
                f"Access to dataset {id_} is restricted. You must be authenticated to access it.",
                "GatedRepo",
            )
        return r

    def base(self):
        return f"http://{self.headers.get('Host')}"

    # ---- routing: segments are split on the RAW path, then unquoted ------------------------------
    def dispatch(self):
        seg = [unquote(s) for s in self.split.path.strip("/").split("/")]
        m = self.command
        if seg[0] == "_blob":
            return self.blob(seg[1:])
        if seg[0] == "api":
            if seg[1:] == ["whoami-v2"]:
                u = self.user()
                if u is None:
                    raise HttpError(401, "Invalid username or password.")
                return self.send(
                    200,
                    {
                        "type": "user",
                        "id": u.name,
                        "name": u.name,
                        "fullname": u.name,
                        "isPro": False,
                        "orgs": [{"name": o, "roleInOrg": u.role} for o in u.orgs],
                        "auth": {"type": "access_token", "accessToken": {"displayName": "t", "role": u.role}},
                    },
                )
            if seg[1:] == ["repos", "create"]:
                return self.create_repo()
            if seg[1:] == ["repos", "delete"]:
                return self.delete_repo()
            if seg[1:] == ["repos", "move"]:
                return self.move_repo()
            if seg[1:] == ["validate-yaml"]:
                return self.validate_yaml()
            if seg[1] in PLURAL and len(seg) == 2:
                return self.list_repos(PLURAL[seg[1]])
            if seg[1] in PLURAL and len(seg) >= 4:
                return self.repo_api(PLURAL[seg[1]], "/".join(seg[2:4]), seg[4:])
            raise HttpError(404, "Not found")
        type_ = "model"
        if seg[0] in PLURAL:
            type_, seg = PLURAL[seg[0]], seg[1:]
        if len(seg) >= 5 and seg[1].endswith(".git") and seg[2:] == ["info", "lfs", "objects", "batch"]:
            return self.lfs_batch(type_, f"{seg[0]}/{seg[1][:-4]}")
        if len(seg) >= 5 and seg[2] in ("resolve", "raw") and m in ("GET", "HEAD"):
            return self.resolve(type_, f"{seg[0]}/{seg[1]}", seg[3], "/".join(seg[4:]))
        raise HttpError(404, "Not found")
