"""The routes of a repository's pages: parse the request, ask the browser of the lake, fill a template."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from tulle.catalog.lake_browser import LakeBrowser

Ref = Annotated[str, Query(max_length=300)]
Refs = Annotated[str, Query(max_length=4000)]
Path = Annotated[str, Query(max_length=1024)]
Mode = Annotated[str, Query(pattern="^(two|three|staged)$")]
Status = Annotated[str, Query(pattern="^(open|closed|all)$")]
Render = Callable[[Request, str, Any], Response]


def lake_routes(router: APIRouter, browser: LakeBrowser, render: Render) -> None:
    """Put the pages below /lake/{repository} on `router`; `render` fills a template."""
    _history_routes(router, browser, render)
    _difference_routes(router, browser, render)
    _record_routes(router, browser, render)


def _history_routes(router: APIRouter, browser: LakeBrowser, render: Render) -> None:
    @router.get("/lake/{repository}/refs")
    def refs(request: Request, repository: str, after: Ref = "", after_tag: Ref = "") -> Response:
        return render(request, "lake_refs.html", browser.refs(repository, after=after, after_tag=after_tag))

    @router.get("/lake/{repository}/commits")
    def commits(request: Request, repository: str, ref: Ref = "") -> Response:
        return render(request, "lake_commits.html", browser.commits(repository, ref=ref))

    @router.get("/lake/{repository}/commits/{commit}")
    def commit(request: Request, repository: str, commit: str, after: Path = "") -> Response:
        return render(request, "lake_commit.html", browser.commit(repository, commit, after=after))

    @router.get("/lake/{repository}/object")
    def one(request: Request, repository: str, path: Path, ref: Ref = "") -> Response:
        return render(request, "lake_object.html", browser.object(repository, ref=ref, path=path))

    @router.get("/lake/{repository}/reflog")
    def reflog(request: Request, repository: str, branch: Ref) -> Response:
        return render(request, "lake_reflog.html", browser.reflog(repository, branch))


def _difference_routes(router: APIRouter, browser: LakeBrowser, render: Render) -> None:
    @router.get("/lake/{repository}/diff")
    def diff(
        request: Request,
        repository: str,
        left: Ref = "",
        right: Ref = "",
        mode: Mode = "two",
        prefix: Path = "",
        after: Path = "",
    ) -> Response:
        page = browser.diff(repository, left=left, right=right, mode=mode, prefix=prefix, after=after)
        return render(request, "lake_diff.html", page)

    @router.get("/lake/{repository}/rows")
    def rows(
        request: Request, repository: str, left: Ref, right: Ref, prefix: Path, key: Path = ""
    ) -> Response:
        page = browser.rows(repository, left=left, right=right, prefix=prefix, key=key)
        return render(request, "lake_rows.html", page)

    @router.get("/lake/{repository}/compare")
    def compare(request: Request, repository: str, base: Ref = "", refs: Refs = "") -> Response:
        return render(request, "lake_compare.html", browser.experiments(repository, base=base, refs=refs))


def _record_routes(router: APIRouter, browser: LakeBrowser, render: Render) -> None:
    @router.get("/lake/{repository}/pulls")
    def pulls(request: Request, repository: str, status: Status = "open", after: Ref = "") -> Response:
        return render(request, "lake_pulls.html", browser.pulls(repository, status=status, after=after))

    @router.get("/lake/{repository}/pulls/{pull_id}")
    def pull(request: Request, repository: str, pull_id: str, after: Path = "") -> Response:
        return render(request, "lake_pull.html", browser.pull(repository, pull_id, after=after))

    @router.get("/lake/{repository}/hooks")
    def hooks(request: Request, repository: str, after: Ref = "") -> Response:
        return render(request, "lake_hooks.html", browser.hooks(repository, after=after))

    @router.get("/lake/{repository}/hooks/{run_id}")
    def hook_run(request: Request, repository: str, run_id: str) -> Response:
        return render(request, "lake_hook_run.html", browser.hook_run(repository, run_id))

    @router.get("/lake/{repository}/settings")
    def settings(request: Request, repository: str) -> Response:
        return render(request, "lake_settings.html", browser.settings(repository))
