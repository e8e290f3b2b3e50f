"""The Python client of a mesh's lake (`/api/v1`, the lakeFS API with Tulle's additions).

    lake = LakeClient.connect("http://127.0.0.1:8080", token=…)
    lake.create_branch("sales", "try", source="main")

Answers are plain values as the API documents them; failures come back as the kinds of error the server raised.
Knows the API and nothing of how a lake does its work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import httpx

from tulle.errors import (
    Broken,
    Conflict,
    Denied,
    Invalid,
    LimitExceeded,
    NotFound,
    PreconditionFailed,
    TulleError,
    Unavailable,
    from_dict,
)
from tulle.sdk.client import part
from tulle.sdk.unanswered import unanswered

KINDS: Mapping[int, type[TulleError]] = {
    400: Invalid,
    401: Denied,
    403: Denied,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    412: PreconditionFailed,
    413: LimitExceeded,
    422: Invalid,
    429: LimitExceeded,
    501: Invalid,
    503: Unavailable,
}


class LakeClient:
    """Calls one mesh's lake. Any httpx transport will do: the network, or the application in this process."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    @classmethod
    def connect(cls, url: str, *, token: str, timeout: float = 120.0) -> LakeClient:
        """A client over the network."""
        return cls(httpx.Client(base_url=url, timeout=timeout, headers={"authorization": f"Bearer {token}"}))

    def close(self) -> None:
        """Release the connection."""
        self._http.close()

    # ── repositories ─────────────────────────────────────────────────────────────────────────────────────

    def repositories(self, prefix: str = "") -> Iterator[dict[str, Any]]:
        """Every repository whose name begins with a prefix."""
        return self._pages("/repositories", prefix=prefix)

    def repository(self, name: str) -> dict[str, Any]:
        """One repository."""
        return self._json("GET", f"/repositories/{part(name)}")

    def create_repository(
        self,
        name: str,
        *,
        namespace: str = "",
        default_branch: str = "main",
        read_only: bool = False,
        bare: bool = False,
    ) -> dict[str, Any]:
        """Make a repository; without a namespace its objects are in the mesh's own place."""
        body = {
            "name": name,
            "storage_namespace": namespace or "local://",
            "default_branch": default_branch,
            "read_only": read_only,
        }
        return self._json("POST", "/repositories", params={"bare": _flag(bare)}, json=body)

    def delete_repository(self, name: str, *, force: bool = False) -> None:
        """Forget a repository; its data stays."""
        self._call("DELETE", f"/repositories/{part(name)}", params={"force": _flag(force)})

    def setting(self, name: str, setting: str) -> Any:
        """A setting: branch_protection, gc_rules, quota or read_only."""
        return self._call("GET", f"/repositories/{part(name)}/settings/{setting}").json()

    def set_setting(self, name: str, setting: str, value: Any) -> None:
        """Set branch_protection, gc_rules, quota or read_only."""
        self._call(
            "POST" if setting == "read_only" else "PUT",
            f"/repositories/{part(name)}/settings/{setting}",
            json=value,
        )

    def delete_setting(self, name: str, setting: str) -> None:
        """Remove gc_rules."""
        self._call("DELETE", f"/repositories/{part(name)}/settings/{setting}")

    def metadata(self, name: str) -> dict[str, str]:
        """What was said about a repository."""
        return self._json("GET", f"/repositories/{part(name)}/metadata")

    # ── names ────────────────────────────────────────────────────────────────────────────────────────────

    def branches(self, repository: str, prefix: str = "") -> Iterator[dict[str, Any]]:
        """Branches by name: id and commit_id."""
        return self._pages(f"/repositories/{part(repository)}/branches", prefix=prefix, show_hidden="true")

    def create_branch(self, repository: str, name: str, *, source: str = "main") -> None:
        """Make a branch; copies nothing."""
        body = {"name": name, "source": source}
        self._call("POST", f"/repositories/{part(repository)}/branches", json=body)

    def delete_branch(self, repository: str, name: str, *, force: bool = False) -> None:
        """Remove a branch; with `force` also one that somebody relies on."""
        self._call("DELETE", self._branch(repository, name), params={"force": force})

    def reflog(self, repository: str, branch: str, *, limit: int = 50) -> list[dict[str, Any]]:
        """Where a branch was, newest first."""
        answer = self._json("GET", f"{self._branch(repository, branch)}/reflog", params={"amount": limit})
        return list(answer["results"])

    def tags(self, repository: str) -> Iterator[dict[str, Any]]:
        """Tags by name: id and commit_id."""
        return self._pages(f"/repositories/{part(repository)}/tags")

    def create_tag(self, repository: str, name: str, ref: str) -> dict[str, Any]:
        """Name a commit for good."""
        return self._json("POST", f"/repositories/{part(repository)}/tags", json={"id": name, "ref": ref})

    def delete_tag(self, repository: str, name: str, *, force: bool = False) -> None:
        """Remove a tag; with `force` also one that somebody relies on."""
        path = f"/repositories/{part(repository)}/tags/{part(name)}"
        self._call("DELETE", path, params={"force": force})

    # ── objects ──────────────────────────────────────────────────────────────────────────────────────────

    def objects(
        self, repository: str, ref: str, prefix: str = "", *, delimiter: str = ""
    ) -> Iterator[dict[str, Any]]:
        """Objects (and with a delimiter common prefixes) below a prefix at a ref."""
        return self._pages(f"{self._ref(repository, ref)}/objects/ls", prefix=prefix, delimiter=delimiter)

    def stat(self, repository: str, ref: str, path: str) -> dict[str, Any]:
        """One object's facts."""
        return self._json("GET", f"{self._ref(repository, ref)}/objects/stat", params={"path": path})

    def read(self, repository: str, ref: str, path: str) -> Iterator[bytes]:
        """The bytes of an object in pieces."""
        url = f"/api/v1{self._ref(repository, ref)}/objects"
        try:
            with self._http.stream("GET", url, params={"path": path}) as answer:
                if answer.is_error:
                    answer.read()
                    raise _failure(answer)
                yield from answer.iter_bytes()
        except httpx.TransportError as exc:
            raise unanswered(self._http, "GET", exc) from exc

    def upload(
        self,
        repository: str,
        branch: str,
        path: str,
        data: bytes | Iterable[bytes],
        *,
        content_type: str = "",
    ) -> dict[str, Any]:
        """Write an object to a branch."""
        headers = {"content-type": content_type or "application/octet-stream"}
        url = f"{self._branch(repository, branch)}/objects"
        return self._json("POST", url, params={"path": path}, content=data, headers=headers)

    def delete(self, repository: str, branch: str, paths: Sequence[str]) -> list[dict[str, Any]]:
        """Remove objects from a branch; what could not be removed, with the reason."""
        failed: list[dict[str, Any]] = []
        for start in range(0, len(paths), 1000):
            body = {"paths": list(paths[start : start + 1000])}
            url = f"{self._branch(repository, branch)}/objects/delete"
            failed += self._json("POST", url, json=body).get("errors") or []
        return failed

    def copy(self, repository: str, branch: str, source_ref: str, source: str, path: str) -> dict[str, Any]:
        """Put on a branch, under another path, what is at a ref; copies no bytes."""
        body = {"src_path": source, "src_ref": source_ref}
        url = f"{self._branch(repository, branch)}/objects/copy"
        return self._json("POST", url, params={"dest_path": path}, json=body)

    def move(self, repository: str, branch: str, source: str, path: str) -> dict[str, Any]:
        """Put an object of a branch under another path; copies no bytes."""
        body = {"src_path": source, "dest_path": path}
        return self._json("POST", f"{self._branch(repository, branch)}/objects/move", json=body)

    # ── history ──────────────────────────────────────────────────────────────────────────────────────────

    def status(self, repository: str, branch: str) -> Iterator[dict[str, Any]]:
        """What committing a branch now would change."""
        return self._pages(f"{self._branch(repository, branch)}/diff")

    def reset(self, repository: str, branch: str, *, path: str = "", prefix: str = "") -> None:
        """Forget what is staged: all of it, at a path, or under a prefix."""
        kind = "object" if path else "common_prefix" if prefix else "reset"
        self._call("PUT", self._branch(repository, branch), json={"type": kind, "path": path or prefix})

    def commit(
        self,
        repository: str,
        branch: str,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        allow_empty: bool = False,
    ) -> dict[str, Any]:
        """Commit what is staged on a branch."""
        body = {"message": message, "metadata": dict(metadata or {}), "allow_empty": allow_empty}
        return self._json("POST", f"{self._branch(repository, branch)}/commits", json=body)

    def amend(
        self, repository: str, branch: str, *, message: str | None, metadata: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Replace a branch's last commit."""
        body: dict[str, Any] = {}
        if message is not None:
            body["message"] = message
        if metadata is not None:
            body["metadata"] = dict(metadata)
        return self._json("POST", f"{self._branch(repository, branch)}/amend", json=body)

    def commit_info(self, repository: str, ref: str) -> dict[str, Any]:
        """The commit of a ref."""
        return self._json("GET", f"/repositories/{part(repository)}/commits/{part(ref)}")

    def log(
        self,
        repository: str,
        ref: str,
        *,
        limit: int = 20,
        paths: Sequence[str] = (),
        prefixes: Sequence[str] = (),
        first_parent: bool = False,
    ) -> list[dict[str, Any]]:
        """Commits from a ref backwards."""
        params = {
            "amount": min(limit, 1000),
            "objects": list(paths),
            "prefixes": list(prefixes),
            "first_parent": _flag(first_parent),
        }
        found: list[dict[str, Any]] = []
        for commit in self._pages(f"{self._ref(repository, ref)}/commits", **params):
            found.append(commit)
            if len(found) >= limit:
                break
        return found

    def diff(
        self, repository: str, left: str, right: str, *, three_dot: bool = False
    ) -> Iterator[dict[str, Any]]:
        """What changed from one ref to another."""
        kind = "three_dot" if three_dot else "two_dot"
        return self._pages(f"{self._ref(repository, left)}/diff/{part(right)}", type=kind)

    def merge(self, repository: str, source: str, destination: str, **options: Any) -> dict[str, Any]:
        """Merge a ref into a branch: message, metadata, strategy, choices, squash_merge, fast_forward, allow_empty."""
        body = {key: value for key, value in options.items() if value is not None}
        return self._json("POST", f"{self._ref(repository, source)}/merge/{part(destination)}", json=body)

    def conflicts(self, repository: str, source: str, destination: str) -> list[dict[str, Any]]:
        """The paths that stand against a merge."""
        url = f"{self._ref(repository, source)}/conflicts/{part(destination)}"
        return list(self._json("GET", url)["results"])

    def revert(self, repository: str, branch: str, ref: str, *, parent: int = 0) -> None:
        """Take back what a commit did."""
        self._call(
            "POST", f"{self._branch(repository, branch)}/revert", json={"ref": ref, "parent_number": parent}
        )

    def cherry_pick(self, repository: str, branch: str, ref: str, *, parent: int = 0) -> dict[str, Any]:
        """Do on a branch what a commit did."""
        body: dict[str, Any] = {"ref": ref}
        if parent:
            body["parent_number"] = parent
        return self._json("POST", f"{self._branch(repository, branch)}/cherry-pick", json=body)

    def hard_reset(self, repository: str, branch: str, ref: str) -> None:
        """Put a branch on another commit."""
        self._call("PUT", f"{self._branch(repository, branch)}/hard_reset", params={"ref": ref})

    # ── pull requests, hooks, upkeep ─────────────────────────────────────────────────────────────────────

    def pulls(self, repository: str, status: str = "all") -> Iterator[dict[str, Any]]:
        """Pull requests: open, closed or all."""
        return self._pages(f"/repositories/{part(repository)}/pulls", status=status)

    def pull(self, repository: str, id_: str) -> dict[str, Any]:
        """One pull request."""
        return self._json("GET", f"/repositories/{part(repository)}/pulls/{part(id_)}")

    def create_pull(
        self, repository: str, source: str, destination: str, title: str, description: str = ""
    ) -> str:
        """Ask for a branch to be merged; the request's id."""
        body = {
            "title": title,
            "description": description,
            "source_branch": source,
            "destination_branch": destination,
        }
        return str(self._json("POST", f"/repositories/{part(repository)}/pulls", json=body)["id"])

    def update_pull(self, repository: str, id_: str, **changes: str) -> None:
        """Change title, description or status (open, closed)."""
        self._call("PATCH", f"/repositories/{part(repository)}/pulls/{part(id_)}", json=changes)

    def merge_pull(self, repository: str, id_: str) -> dict[str, Any]:
        """Merge a pull request."""
        return self._json("PUT", f"/repositories/{part(repository)}/pulls/{part(id_)}/merge")

    def hook_runs(self, repository: str, *, branch: str = "", limit: int = 20) -> list[dict[str, Any]]:
        """Runs of hooks, newest first."""
        params = {"amount": limit, **({"branch": branch} if branch else {})}
        answer = self._json("GET", f"/repositories/{part(repository)}/actions/runs", params=params)
        return list(answer["results"])

    def hooks_of(self, repository: str, run: str) -> list[dict[str, Any]]:
        """The hooks of one run."""
        return list(self._pages(f"/repositories/{part(repository)}/actions/runs/{part(run)}/hooks"))

    def hook_output(self, repository: str, run: str, hook: str) -> str:
        """What a hook wrote."""
        url = f"/repositories/{part(repository)}/actions/runs/{part(run)}/hooks/{part(hook)}/output"
        return self._call("GET", url).text

    def start_import(
        self, repository: str, branch: str, paths: Sequence[Mapping[str, str]], message: str
    ) -> str:
        """Begin an import; its id. Each path has path, destination and type (common_prefix, object)."""
        body = {"paths": [dict(path) for path in paths], "commit": {"message": message}}
        return str(self._json("POST", f"{self._branch(repository, branch)}/import", json=body)["id"])

    def import_status(self, repository: str, branch: str, id_: str) -> dict[str, Any]:
        """How far an import is."""
        return self._json("GET", f"{self._branch(repository, branch)}/import", params={"id": id_})

    def cancel_import(self, repository: str, branch: str, id_: str) -> None:
        """Stop an import; nothing of it is committed."""
        self._call("DELETE", f"{self._branch(repository, branch)}/import", params={"id": id_})

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Any other call that asks for something, for example `/repositories/sales/gc/runs`."""
        return self._json("POST", path, json=dict(body or {}))

    def put(self, path: str, body: Mapping[str, Any] | None = None) -> None:
        """Any other call that sets something."""
        self._call("PUT", path, json=dict(body or {}))

    def remove(self, path: str, **params: Any) -> dict[str, Any]:
        """Any other call that removes something, and tells what."""
        return self._json("DELETE", path, params=params)

    def delete_at(self, path: str) -> None:
        """Any other call that removes something."""
        self._call("DELETE", path)

    def pages(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Everything a listing has, page by page."""
        return self._pages(path, **params)

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """Any other call that reads."""
        return self._json("GET", path, params=params)

    # ── transport ────────────────────────────────────────────────────────────────────────────────────────

    def _branch(self, repository: str, branch: str) -> str:
        return f"/repositories/{part(repository)}/branches/{part(branch)}"

    def _ref(self, repository: str, ref: str) -> str:
        return f"/repositories/{part(repository)}/refs/{part(ref)}"

    def _pages(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        after = ""
        while True:
            answer = self._json("GET", path, params={"amount": 1000, **params, "after": after})
            yield from answer["results"]
            if not answer["pagination"]["has_more"]:
                return
            after = answer["pagination"]["next_offset"]

    def _json(self, method: str, path: str, **kwargs: Any) -> dict[str, Any]:
        answer = self._call(method, path, **kwargs)
        try:
            return dict(answer.json())
        except ValueError:
            raise Broken(
                f"{method} {path}: HTTP {answer.status_code} with an answer that is not JSON"
            ) from None

    def _call(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, f"/api/v1{path}", **kwargs)
        except httpx.TransportError as exc:
            raise unanswered(self._http, method, exc) from exc
        if answer.is_error:
            raise _failure(answer)
        return answer


def _failure(answer: httpx.Response) -> TulleError:
    try:
        value = answer.json()
    except ValueError:
        value = {}
    if isinstance(value.get("error"), dict):
        return from_dict(value["error"])
    message = str(value.get("message") or f"HTTP {answer.status_code}")
    return KINDS.get(answer.status_code, Broken)(message, hint=value.get("hint"))


def _flag(value: bool) -> str:
    return "true" if value else "false"
