"""A small Hub for tests: it speaks the protocol that huggingface_hub, transformers and datasets use, from memory."""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

DATE = "2026-01-01T00:00:00.000Z"
PREFIX = {"": "model", "datasets/": "dataset", "spaces/": "space"}
LFS_SUFFIXES = (".safetensors", ".parquet", ".arrow", ".bin", ".npy")
API = re.compile(r"/api/(model|dataset|space)s/([^/]+/[^/]+?)(?:/(\w[\w-]*)(?:/([^/]+)(?:/(.+))?)?)?")
LFS_BATCH = re.compile(r"/(datasets/|spaces/|)([^/]+/[^/]+)\.git/info/lfs/objects/batch")
RESOLVE = re.compile(r"/(datasets/|spaces/|)([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Repo:
    """One repository: whether it is private, and its commits, oldest first, each (sha, title, files)."""

    private: bool
    commits: list[tuple[str, str, dict[str, bytes]]] = field(default_factory=list)

    def commit(self, title: str, files: dict[str, bytes]) -> str:
        """Adds a commit that holds exactly `files` and returns its sha."""
        parent = self.commits[-1][0] if self.commits else ""
        content = [(path, git_oid(data)) for path, data in sorted(files.items())]
        sha = hashlib.sha1(f"{parent}{len(self.commits)}{title}{content}".encode()).hexdigest()
        self.commits.append((sha, title, files))
        return sha

    def find(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Gives the sha and the files of `revision`, a sha or a branch; None if there is no such revision."""
        if revision in ("main", "HEAD"):
            return self.commits[-1][0], self.commits[-1][2]
        return next(((sha, files) for sha, _, files in self.commits if sha == revision), None)


class HubServer(ThreadingHTTPServer):
    """The Hub on a free port of 127.0.0.1, as a context manager.

    `repos` maps (type, id) to a `Repo`; `uploads` maps a SHA-256 to bytes sent by LFS; `unhandled` lists requests that
    no rule knew, which a test should find empty.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[tuple[str, str], Repo] = {}
        self.uploads: dict[str, bytes] = {}
        self.unhandled: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()

    def environment(self, home: Any) -> dict[str, str]:
        """The variables a client process needs before it imports huggingface_hub."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_TOKEN": "x",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "NO_PROXY": "127.0.0.1",
        }


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Stays silent."""

    def do_GET(self) -> None:
        path = self.start()
        if path == "/api/whoami-v2":
            return self.reply({"type": "user", "name": "org", "orgs": [], "auth": {"accessToken": {"role": "write"}}})
        if match := RESOLVE.fullmatch(path):
            return self.send_content(*match.groups())
        return self.dispatch(path, "GET")

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        oid = self.start().removeprefix("/lfs/")
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self.reply({"error": "these bytes have another SHA-256"}, 400)
        self.server.uploads[oid] = self.body
        self.reply({})

    def do_POST(self) -> None:
        path = self.start()
        if path == "/api/repos/create":
            return self.create_repo(json.loads(self.body))
        if path == "/api/validate-yaml":
            return self.reply({"errors": [], "warnings": []})
        if LFS_BATCH.fullmatch(path):
            return self.reply_lfs_batch(json.loads(self.body))
        return self.dispatch(path, "POST")

    def start(self) -> str:
        """Reads the body and gives the path without its query."""
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                self.body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return url.path

    def reply(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Sends `content`, bytes or something for JSON."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, code: str) -> None:
        """Sends 404 with the Hub's error code."""
        self.reply({"error": code}, 404, {"X-Error-Code": code, "X-Error-Message": code})

    def dispatch(self, path: str, method: str) -> None:
        """Answers a request below /api/models, /api/datasets or /api/spaces."""
        match = API.fullmatch(path)
        if match is None:
            self.server.unhandled.append(f"{method} {path}")
            return self.refuse("EntryNotFound")
        kind, repo_id, verb, revision, rest = match.groups()
        repo = self.server.repos.get((kind, repo_id))
        answer = getattr(self, f"{method}_{verb or 'revision'}".replace("-", "_").lower(), None)
        if answer is None:
            self.server.unhandled.append(f"{method} {path}")
            return self.refuse("EntryNotFound")
        if repo is None:
            return self.refuse("RepoNotFound")
        found = repo.find(unquote(revision or "main"))
        if found is None:
            return self.refuse("RevisionNotFound")
        answer(repo, repo_id, *found, unquote(rest or ""))

    def create_repo(self, request: dict[str, Any]) -> None:
        """Answers 409 if the repository exists, as the Hub does, and leaves it as it is."""
        kind, repo_id = request.get("type") or "model", f"{request.get('organization') or 'org'}/{request['name']}"
        prefix = next(prefix for prefix, name in PREFIX.items() if name == kind)
        url = {"url": f"{self.server.url}/{prefix}{repo_id}", "name": repo_id, "id": repo_id}
        if (kind, repo_id) in self.server.repos:
            return self.reply({"error": "You already created this repo", **url}, 409)
        # huggingface_hub says "visibility" since 2.0 and "private" before
        private = request.get("visibility") == "private" or request.get("private") is True
        repo = self.server.repos[kind, repo_id] = Repo(private)
        repo.commit("initial commit", {".gitattributes": b""})
        return self.reply(url)

    def reply_lfs_batch(self, request: dict[str, Any]) -> None:
        """Tells where to PUT each object that is not here yet."""
        objects = [{"oid": item["oid"], "size": item["size"]} for item in request["objects"]]
        for item in objects:
            if item["oid"] not in self.server.uploads:
                item["actions"] = {"upload": {"href": f"{self.server.url}/lfs/{item['oid']}", "header": {}}}
        self.reply({"transfer": "basic", "objects": objects})

    def post_preupload(self, repo: Repo, repo_id: str, sha: str, files: dict[str, bytes], rest: str) -> None:
        modes = [
            {
                "path": item["path"],
                "uploadMode": "lfs" if item["path"].endswith(LFS_SUFFIXES) else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for item in json.loads(self.body)["files"]
        ]
        self.reply({"files": modes})

    def post_commit(self, repo: Repo, repo_id: str, sha: str, files: dict[str, bytes], rest: str) -> None:
        files, title = dict(files), ""
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            match entry["key"]:
                case "header":
                    title = value["summary"]
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.server.uploads[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
                case "deletedFolder":
                    files = {path: data for path, data in files.items() if not path.startswith(value["path"])}
        sha = repo.commit(title, files)
        self.reply({"success": True, "commitOid": sha, "commitUrl": f"{self.server.url}/{repo_id}/commit/{sha}"})

    def post_paths_info(self, repo: Repo, repo_id: str, sha: str, files: dict[str, bytes], rest: str) -> None:
        request = parse_qs(self.body.decode()) if b"paths=" in self.body else json.loads(self.body)
        entries = listing(files)
        self.reply([entries[path] for path in request["paths"] if path in entries])

    def get_revision(self, repo: Repo, repo_id: str, sha: str, files: dict[str, bytes], rest: str) -> None:
        self.reply(
            {
                "id": repo_id,
                "sha": sha,
                "private": repo.private,
                "lastModified": DATE,
                "tags": [],
                "siblings": [{"rfilename": path, "size": len(data)} for path, data in files.items()],
            }
        )

    def get_tree(self, repo: Repo, repo_id: str, sha: str, files: dict[str, bytes], rest: str) -> None:
        top = f"{rest}/" if rest else ""
        inside = {path: entry for path, entry in listing(files).items() if path.startswith(top)}
        if rest and not inside:
            return self.refuse("EntryNotFound")
        if self.query.get("recursive", ["false"])[0].lower() not in ("true", "1"):
            inside = {path: entry for path, entry in inside.items() if "/" not in path.removeprefix(top)}
        self.reply(list(inside.values()))

    def get_refs(self, repo: Repo, repo_id: str, sha: str, files: dict[str, bytes], rest: str) -> None:
        branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": sha}
        self.reply({"branches": [branch], "converts": [], "tags": []})

    def get_commits(self, repo: Repo, repo_id: str, sha: str, files: dict[str, bytes], rest: str) -> None:
        commits = [
            {"id": sha, "title": title, "message": "", "date": DATE, "authors": []} for sha, title, _ in repo.commits
        ]
        self.reply(commits[::-1])

    def send_content(self, prefix: str, repo_id: str, revision: str, path: str) -> None:
        """Sends a file, or the part of it that a Range header asks for."""
        repo = self.server.repos.get((PREFIX[prefix], repo_id))
        found = repo.find(unquote(revision)) if repo else None
        if found is None:
            return self.refuse("RevisionNotFound" if repo else "RepoNotFound")
        sha, files = found
        data = files.get(unquote(path))
        if data is None:
            return self.reply({"error": "EntryNotFound"}, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
        headers = {"ETag": f'"{git_oid(data)}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, stop = int(match[1]), min(int(match[2] or len(data) - 1), len(data) - 1) + 1
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
            return self.reply(data[start:stop], 206, headers)
        return self.reply(data, 200, headers)


def git_oid(data: bytes) -> str:
    """The name git gives to `data`."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def listing(files: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    """The entries of all files, and of the folders they lie in, by path."""
    entries: dict[str, dict[str, Any]] = {}
    for path, data in files.items():
        for folder in list(PurePosixPath(path).parents)[:-1]:
            entries[str(folder)] = {"type": "directory", "path": str(folder), "size": 0, "oid": git_oid(b"")}
        entries[path] = {"type": "file", "path": path, "size": len(data), "oid": git_oid(data)}
        if path.endswith(LFS_SUFFIXES):
            oid = hashlib.sha256(data).hexdigest()
            entries[path]["lfs"] = {"oid": oid, "size": len(data), "pointerSize": 134}
    return entries
