"""A hub on loopback: the part of the Hugging Face hub's protocol that its Python client uses here.

Models are fetched from it. Dataset repositories have commits: files are uploaded, inline or as LFS objects, and a
commit that names another parent than the last one is refused, as the real hub does.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote

from web import serve_on_loopback

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# bytes of a file of a model that are sent at once
_PART = 1 << 18
#: Files of dataset repositories from this size on are uploaded as LFS objects.
LFS_BYTES = 1000


@dataclass
class Hub:
    """What the hub has: model -> file -> bytes, what it says about them, and dataset -> commits, the last one last."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    wrong_digest: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    datasets: dict[str, list[dict[str, bytes]]] = field(default_factory=dict)
    lfs: dict[str, bytes] = field(default_factory=dict)
    ignored: str = ""
    """Files of datasets that end so are left out of commits, as a .gitignore would have it."""
    branches: dict[str, str] = field(default_factory=dict)
    """A dataset and a branch, as org/pets@review -> the key of its commits in ``datasets``."""
    tags: dict[str, str] = field(default_factory=dict)
    """A dataset and a tag, as org/pets@v1 -> a commit."""
    requests: list[str] = field(default_factory=list)
    failing: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Statuses and headers with which the next requests are answered, the last one first."""
    refused: int = 0
    """Commits on another parent than the last one."""
    address: str = ""
    ranges: list[str] = field(default_factory=list)
    """The ranges of files that were asked for."""
    sent: int = 0
    """Bytes of files of models that clients took."""
    between: Callable[[], None] = lambda: None
    """Called between two parts of a file of a model."""
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def serving_hub(hub: Hub) -> Iterator[Hub]:
    """Run the hub on a free port; its ``address`` is what HF_ENDPOINT takes."""
    with serve_on_loopback(_handler(hub)) as hub.address:
        yield hub


def commit_name(repository: str, number: int) -> str:
    """The hash of a commit of a dataset repository, from 0 on."""
    return hashlib.sha1(f"{repository} {number}".encode()).hexdigest()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_POST(self) -> None:
            self._answer(body=True)

        def do_PUT(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = self.path.partition("?")[0].strip("/")
            hub.requests.append(f"{self.command} {unquote(path)}")
            if hub.failing:
                status, headers = hub.failing.pop()
                self._body()
                return self._send(b"busy", headers, True, status)
            parts = [unquote(part) for part in path.split("/")]
            if parts[0] == "lfs":
                hub.lfs[parts[1]] = self._body()
                return self._send(b"", {}, True)
            if parts[:2] == ["api", "datasets"]:
                return self._dataset("/".join(parts[2:4]), parts[4], parts[5], "/".join(parts[6:]), body)
            if parts[0] == "datasets":
                if parts[2].endswith(".git"):
                    return self._lfs_batch()
                return self._dataset("/".join(parts[1:3]), parts[3], parts[4], "/".join(parts[5:]), body)
            return self._model(parts, body)

        def _model(self, parts: list[str], body: bool) -> None:
            if parts[:2] == ["api", "models"]:
                repository, rest = "/".join(parts[2:4]), parts[4:]
                if repository in hub.files and rest in ([], ["revision", "main"]):
                    return self._json(self._info(repository), body)
                if repository in hub.files:
                    return self._send(b"", {"X-Error-Code": "EntryNotFound"}, body, 404)
                return self._refuse(repository)
            repository, file = "/".join(parts[:2]), "/".join(parts[4:])
            if repository in hub.gated or repository not in hub.files:
                return self._refuse(repository)
            data = hub.files[repository].get(file)
            if data is None or not body:
                return self._file(data, COMMIT, body)
            return self._large_file(data)

        def _large_file(self, data: bytes) -> None:
            begin, tag = 0, f'"{hashlib.sha256(data).hexdigest()}"'
            if (wanted := self.headers["Range"]) and self.headers["If-Range"] in (None, tag):
                hub.ranges.append(wanted)
                begin = int(wanted.removeprefix("bytes=").partition("-")[0])
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
            for name, value in (("ETag", tag), ("X-Repo-Commit", COMMIT), ("Content-Length", str(len(data) - begin))):
                self.send_header(name, value)
            self.end_headers()
            for start in range(begin, len(data), _PART):
                part = data[start : start + _PART]
                self.wfile.write(part)
                with hub.lock:
                    hub.sent += len(part)
                hub.between()

        def _info(self, repository: str) -> dict[str, Any]:
            siblings = []
            for name, data in hub.files[repository].items():
                digest = "0" * 64 if repository in hub.wrong_digest else hashlib.sha256(data).hexdigest()
                lfs = {"sha256": digest, "size": len(data), "pointerSize": 1} if "." in name else None
                siblings.append({"rfilename": name, "size": len(data), "lfs": lfs})
            return {"id": repository, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False, "downloads": 0}

        def _dataset(self, repository: str, endpoint: str, revision: str, path: str, body: bool) -> None:
            if repository not in hub.datasets or repository in hub.gated:
                return self._refuse(repository)
            key, revision = hub.branches.get(f"{repository}@{revision}", repository), unquote(revision)
            revision = hub.tags.get(f"{repository}@{revision}", revision)
            keys = [repository, *(value for name, value in hub.branches.items() if name.startswith(f"{repository}@"))]
            known = {commit_name(name, n): (name, n) for name in keys for n in range(len(hub.datasets[name]))}
            if revision == "main" or key != repository:
                known[revision] = key, len(hub.datasets[key]) - 1
            if revision not in known:
                return self._send(b"", {"X-Error-Code": "RevisionNotFound"}, body, 404)
            key, number = known[revision]
            files, commit = hub.datasets[key][number], commit_name(key, number)
            match endpoint:
                case "revision":
                    return self._json({"id": repository, "sha": commit, "siblings": [], "tags": []}, body)
                case "resolve":
                    return self._file(files.get(path), commit, body)
                case "tree":
                    entries = _tree(files, path, deep="recursive=True" in self.path or "recursive=true" in self.path)
                    return self._json(entries, body) if entries or not path else self._send(b"", _NO_ENTRY, body, 404)
                case "paths-info":
                    asked = parse_qs(self._body().decode())["paths"]
                    return self._json([_entry(name, files[name]) for name in asked if name in files], body)
                case "preupload":
                    asked = json.loads(self._body())["files"]
                    return self._json({"files": [_mode(file) for file in asked]}, body)
                case "commit":
                    return self._commit(repository, key, self._body())
            raise AssertionError(endpoint)

        def _commit(self, repository: str, key: str, body: bytes) -> None:
            lines = [json.loads(line) for line in body.splitlines()]
            with hub.lock:
                commits = hub.datasets[key]
                if lines[0]["value"].get("parentCommit") not in (None, commit_name(key, len(commits) - 1)):
                    hub.refused += 1
                    text = json.dumps({"error": "A commit has happened since. Please refresh and try again."})
                    return self._send(text.encode(), {"Content-Type": "application/json"}, True, 412)
                files = dict(commits[-1])
                for line in lines[1:]:
                    value = line["value"]
                    if line["key"] == "deletedFile":
                        del files[value["path"]]
                        continue
                    data = hub.lfs[value["oid"]] if line["key"] == "lfsFile" else base64.b64decode(value["content"])
                    files[value["path"]] = data
                commits.append(files)
                commit = commit_name(key, len(commits) - 1)
            url = f"{hub.address}/datasets/{repository}/commit/{commit}"
            return self._json({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""}, True)

        def _lfs_batch(self) -> None:
            objects: list[dict[str, Any]] = json.loads(self._body())["objects"]
            for pointer in objects:
                pointer["actions"] = {"upload": {"href": f"{hub.address}/lfs/{pointer['oid']}"}}
            self._json({"transfer": "basic", "objects": objects}, True)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers["Content-Length"] or 0))
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data

        def _file(self, data: bytes | None, commit: str, body: bool) -> None:
            if data is None:
                return self._send(b"", _NO_ENTRY, body, 404)
            digest = hashlib.sha256(data).hexdigest()
            return self._send(data, {"ETag": f'"{digest}"', "X-Repo-Commit": commit}, body)

        def _refuse(self, repository: str) -> None:
            gated = repository in hub.gated
            self._send(b"", {"X-Error-Code": "GatedRepo" if gated else "RepoNotFound"}, True, 403 if gated else 404)

        def _json(self, value: Any, body: bool) -> None:
            self._send(json.dumps(value).encode(), {"Content-Type": "application/json"}, body)

        def _send(self, data: bytes, headers: dict[str, str], body: bool, status: int = 200) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

    def _mode(file: dict[str, Any]) -> dict[str, Any]:
        ignored = bool(hub.ignored) and file["path"].endswith(hub.ignored)
        mode = "lfs" if file["size"] >= LFS_BYTES else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": ignored}

    return Handler


_NO_ENTRY = {"X-Error-Code": "EntryNotFound"}


def _entry(path: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "oid": hashlib.sha1(data).hexdigest(), "size": len(data), "path": path}


def _tree(files: dict[str, bytes], folder: str, deep: bool) -> list[dict[str, Any]]:
    prefix = folder + "/" if folder else ""
    if deep:
        return [_entry(path, data) for path, data in files.items() if path.startswith(prefix)]
    entries: dict[str, dict[str, Any]] = {}
    for path, data in files.items():
        if path.startswith(prefix):
            head, slash, _ = path[len(prefix) :].partition("/")
            name = prefix + head
            entries[name] = (
                {"type": "directory", "oid": "0" * 40, "size": 0, "path": name} if slash else _entry(path, data)
            )
    return list(entries.values())
