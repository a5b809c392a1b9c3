"""A Hugging Face hub on loopback: what `huggingface_hub` asks of it, kept in memory.

It keeps repositories as lists of commits, large files apart, and breaks on request: `hub.fail(...)`
makes the next requests of a route fail before or after the work is done.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "fakeTOKEN" * 4
READ_TOKEN = "hf_" + "readTOKEN" * 4
LFS_BYTES = 20_000
"""Files from this size on, and weights, are kept apart."""

_REPO = r"(?P<kind>models|datasets|spaces)/(?P<id>[^/]+/[^/]+)"
_PLACE = r"/(?:(?P<kind>datasets|spaces)/)?(?P<id>[^/]+/[^/]+)"
_ROUTES = {
    ("POST", "create"): r"/api/repos/create",
    ("POST", "validate"): r"/api/validate-yaml",
    ("POST", "preupload"): rf"/api/{_REPO}/preupload/(?P<rev>[^/]+)",
    ("POST", "commit"): rf"/api/{_REPO}/commit/(?P<rev>[^/]+)",
    ("POST", "tag"): rf"/api/{_REPO}/tag/(?P<rev>[^/]+)",
    ("GET", "tree"): rf"/api/{_REPO}/tree/(?P<rev>[^/]+)",
    ("GET", "refs"): rf"/api/{_REPO}/refs",
    ("GET", "info"): rf"/api/{_REPO}(?:/revision/(?P<rev>[^/]+))?",
    ("POST", "lfs"): rf"{_PLACE}\.git/info/lfs/objects/batch",
    ("PUT", "blob"): r"/blobs/(?P<oid>[0-9a-f]{64})",
    ("POST", "verify"): r"/verify",
    ("GET", "resolve"): rf"{_PLACE}/resolve/(?P<rev>[^/]+)/(?P<path>.+)",
}


@dataclass
class Commit:
    oid: str
    message: str
    files: dict[str, bytes]
    lfs: set[str]


@dataclass
class Repository:
    private: bool
    commits: list[Commit] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    def at(self, revision: str | None) -> Commit:
        name = self.tags.get(revision or "main", revision)
        return next((c for c in self.commits if c.oid == name), self.head)

    def add(self, message: str, files: dict[str, bytes], lfs: set[str]) -> Commit:
        content = json.dumps([len(self.commits), message, sorted(files)]).encode()
        digest = hashlib.sha1(content + b"".join(files[name] for name in sorted(files)))
        commit = Commit(digest.hexdigest(), message, files, lfs)
        self.commits.append(commit)
        return commit


@dataclass
class Fault:
    """What happens to one request: a status, or a connection that ends; after the work or not."""

    status: int | None
    is_after: bool = False
    headers: dict[str, str] = field(default_factory=dict)


class FakeHub:
    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.requests: list[str] = []
        """Routes asked for, in order."""
        self.lock = Lock()
        self.url = ""

    def fail(
        self, route: str, status: int | None = None, *, times: int = 1, **options: Any
    ) -> None:
        """Let the next requests of a route fail; without a status the connection ends."""
        self.faults.setdefault(route, []).extend(Fault(status, **options) for _ in range(times))

    def repository(self, repo_id: str, kind: str = "models") -> Repository:
        return self.repositories[kind, repo_id]

    def make(self, repo_id: str, *, private: bool = True, kind: str = "models") -> Repository:
        repository = Repository(private)
        repository.add("initial commit", {".gitattributes": b"*.safetensors filter=lfs\n"}, set())
        self.repositories[kind, repo_id] = repository
        return repository

    @contextmanager
    def serving(self) -> Iterator[FakeHub]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


class Answer(Exception):
    """Ends a request with an error of the hub's."""

    def __init__(
        self, status: int, code: str = "", message: str = "", document: Any = None
    ) -> None:
        super().__init__(status)
        self.status, self.document = status, document or {"error": message}
        self.headers = {"X-Error-Message": message or f"error {status}"}
        if code:
            self.headers["X-Error-Code"] = code


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def pointer(content: bytes) -> bytes:
    digest = hashlib.sha256(content).hexdigest()
    lines = ["version https://git-lfs.github.com/spec/v1", f"oid sha256:{digest}"]
    return "\n".join([*lines, f"size {len(content)}", ""]).encode()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        pass

    Handler.hub = hub
    return Handler


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        method = "GET" if self.command == "HEAD" else self.command
        found = [
            (name, match)
            for (wanted, name), pattern in _ROUTES.items()
            if wanted == method and (match := re.fullmatch(pattern, path))
        ]
        if not found:
            self._send(404, {"error": f"no route {method} {path}"})
            return
        name, match = found[0]
        with self.hub.lock:
            self.hub.requests.append(name)
            queue = self.hub.faults.get(name, [])
            fault = queue.pop(0) if queue else None
            if fault is not None and not fault.is_after:
                self._break(fault)
                return
            try:
                status, document, headers = 200, *getattr(self, f"_{name}")(match, body)
            except Answer as answer:
                status, document, headers = answer.status, answer.document, answer.headers
        if fault is not None:
            self._break(fault)
            return
        self._send(status, document, headers)

    def _break(self, fault: Fault) -> None:
        if fault.status is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._send(fault.status, {"error": "as asked"}, fault.headers)

    def _send(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _may(self, *, write: bool) -> None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in (TOKEN, READ_TOKEN):
            message = "Invalid credentials in Authorization header"
            raise Answer(401, message=message)
        if write and token != TOKEN:
            raise Answer(403, message="you don't have the rights to write")

    def _found(self, match: re.Match[str], *, write: bool = False) -> Repository:
        self._may(write=write)
        found = self.hub.repositories.get((match["kind"] or "models", match["id"]))
        if found is None:
            raise Answer(404, "RepoNotFound", "Repository not found")
        return found

    def _create(self, match: re.Match[str], body: bytes) -> Any:
        self._may(write=True)
        wanted = json.loads(body)
        kind = f"{wanted.get('type', 'model')}s"
        repo_id = f"{wanted['organization']}/{wanted['name']}"
        private = wanted.get("visibility") == "private" or wanted.get("private") is True
        document = {"url": f"{self.hub.url}/{repo_id}"}
        if (kind, repo_id) in self.hub.repositories:
            raise Answer(409, message="You already created this model repo", document=document)
        self.hub.make(repo_id, private=private, kind=kind)
        return document, {}

    def _validate(self, match: re.Match[str], body: bytes) -> Any:
        return {"errors": [], "warnings": []}, {}

    def _preupload(self, match: re.Match[str], body: bytes) -> Any:
        repository = self._found(match, write=True)
        files = []
        for file in json.loads(body)["files"]:
            path = file["path"]
            is_large = file["size"] >= LFS_BYTES or path.endswith(".safetensors")
            there = repository.head.files.get(path)
            oid = None
            if there is not None:
                is_lfs = path in repository.head.lfs
                oid = hashlib.sha256(there).hexdigest() if is_lfs else git_sha1(there)
            mode = "lfs" if is_large else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": files}, {}

    def _lfs(self, match: re.Match[str], body: bytes) -> Any:
        self._found(match, write=True)
        objects = []
        for entry in json.loads(body)["objects"]:
            if entry["oid"] in self.hub.blobs:
                objects.append(entry)
                continue
            actions = {"upload": {"href": f"{self.hub.url}/blobs/{entry['oid']}"}}
            actions["verify"] = {"href": f"{self.hub.url}/verify"}
            objects.append({**entry, "authenticated": True, "actions": actions})
        return {"transfer": "basic", "objects": objects}, {}

    def _blob(self, match: re.Match[str], body: bytes) -> Any:
        assert "Authorization" not in self.headers, "storage must not see the token"
        assert hashlib.sha256(body).hexdigest() == match["oid"]
        self.hub.blobs[match["oid"]] = body
        return {}, {}

    def _verify(self, match: re.Match[str], body: bytes) -> Any:
        assert json.loads(body)["oid"] in self.hub.blobs
        return {}, {}

    def _commit(self, match: re.Match[str], body: bytes) -> Any:
        repository = self._found(match, write=True)
        lines = [json.loads(line) for line in body.splitlines()]
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, repository.head.oid):
            raise Answer(412, message="A commit has happened since. Please refresh and try again.")
        files, lfs = dict(repository.head.files), set(repository.head.lfs)
        for line in lines[1:]:
            path = line["value"]["path"]
            lfs.discard(path)
            if line["key"] == "file":
                files[path] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "lfsFile":
                files[path] = self.hub.blobs[line["value"]["oid"]]
                lfs.add(path)
            else:
                assert line["key"] == "deletedFile"
                del files[path]
        commit = repository.add(header["summary"], files, lfs)
        url = f"{self.hub.url}/{match['id']}/commit/{commit.oid}"
        return {"success": True, "commitOid": commit.oid, "commitUrl": url, "hookOutput": ""}, {}

    def _tag(self, match: re.Match[str], body: bytes) -> Any:
        repository = self._found(match, write=True)
        tag = json.loads(body)["tag"]
        if tag in repository.tags:
            raise Answer(409, message="Tag already exists")
        repository.tags[tag] = repository.at(unquote(match["rev"])).oid
        return {}, {}

    def _tree(self, match: re.Match[str], body: bytes) -> Any:
        commit = self._found(match).at(unquote(match["rev"]))
        entries = []
        for path, content in commit.files.items():
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content)}
            entry["oid"] = git_sha1(content)
            if path in commit.lfs:
                digest = hashlib.sha256(content).hexdigest()
                entry["oid"] = git_sha1(pointer(content))
                entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
            entries.append(entry)
        folders = {path.rsplit("/", 1)[0] for path in commit.files if "/" in path}
        entries += [{"type": "directory", "path": f, "size": 0, "oid": "0" * 40} for f in folders]
        return entries, {}

    def _refs(self, match: re.Match[str], body: bytes) -> Any:
        repository = self._found(match)
        branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.head.oid}
        tags = [
            {"name": name, "ref": f"refs/tags/{name}", "targetCommit": oid}
            for name, oid in repository.tags.items()
        ]
        return {"branches": [branch], "tags": tags, "converts": []}, {}

    def _info(self, match: re.Match[str], body: bytes) -> Any:
        repository = self._found(match)
        siblings = [{"rfilename": path} for path in repository.head.files]
        document = {"_id": "0", "id": match["id"], "sha": repository.head.oid, "tags": []}
        return {**document, "private": repository.private, "siblings": siblings}, {}

    def _resolve(self, match: re.Match[str], body: bytes) -> Any:
        commit = self._found(match).at(unquote(match["rev"]))
        path = unquote(match["path"])
        if path not in commit.files:
            raise Answer(404, "EntryNotFound", "Entry not found")
        content = commit.files[path]
        return content, {"X-Repo-Commit": commit.oid, "ETag": f'"{git_sha1(content)}"'}
