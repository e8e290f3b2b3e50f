"""The routes of a repository's pages: parse the request, ask the page's module, fill a template."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import Response

from tulle.catalog.hidden_names import HiddenNames
from tulle.catalog.lake.commits import commit_page, commits_page
from tulle.catalog.lake.differences import diff_page
from tulle.catalog.lake.masked import masked
from tulle.catalog.lake.objects import folder_page, object_page
from tulle.catalog.lake.opened import LakeBrowser, Opened
from tulle.catalog.lake.pull_requests import pull_page, pulls_page
from tulle.catalog.lake.record import hook_run_page, hooks_page, settings_page, work_page
from tulle.catalog.lake.refs import reflog_page, refs_page
from tulle.catalog.lake.rows import experiments_page, rows_page
from tulle.catalog.routes import Routes

Ref = Annotated[str, Query(max_length=300)]
Refs = Annotated[str, Query(max_length=4000)]
Path = Annotated[str, Query(max_length=1024)]
Mode = Annotated[str, Query(pattern="^(two|three|staged)$")]
Status = Annotated[str, Query(pattern="^(open|closed|all)$")]
Render = Callable[[Request, str, Any], Response]
Opening = Callable[..., Opened]  # of a request: a repository by its name, and texts that are looked for in it


def lake_routes(
    router: Routes, browser: LakeBrowser, unseen: Callable[[Request], HiddenNames], render: Render
) -> None:
    """Put the pages below /lake/{repository} on `router`.

    `unseen` is what who asks does not find; `render` fills a template.
    """

    def opened(request: Request, repository: str, *texts: str) -> Opened:
        request.state.hidden = unseen(request)
        return browser.open(repository, *texts, hidden=request.state.hidden)

    def shown(request: Request, template: str, page: Any) -> Response:
        return render(request, template, masked(page, request.state.hidden))

    _object_routes(router, opened, shown)
    _history_routes(router, opened, shown)
    _difference_routes(router, opened, shown)
    _record_routes(router, opened, shown)


def _object_routes(router: Routes, opening: Opening, render: Render) -> None:
    @router.get("/lake/{repository}")
    def folder(
        request: Request, repository: str, ref: Ref = "", prefix: Path = "", after: Path = ""
    ) -> Response:
        page = folder_page(opening(request, repository, ref), ref=ref, prefix=prefix, after=after)
        return render(request, "repository.html", page)

    @router.get("/lake/{repository}/object")
    def one(request: Request, repository: str, path: Path, ref: Ref = "") -> Response:
        page = object_page(opening(request, repository, ref), ref=ref, path=path)
        return render(request, "lake_object.html", page)


def _history_routes(router: Routes, opening: Opening, render: Render) -> None:
    @router.get("/lake/{repository}/refs")
    def refs(
        request: Request, repository: str, prefix: Ref = "", after: Ref = "", after_tag: Ref = ""
    ) -> Response:
        opened = opening(request, repository, prefix, after, after_tag)
        page = refs_page(opened, prefix=prefix.strip(), after=after, after_tag=after_tag)
        return render(request, "lake_refs.html", page)

    @router.get("/lake/{repository}/commits")
    def commits(
        request: Request, repository: str, ref: Ref = "", path: Path = "", after: Refs = ""
    ) -> Response:
        opened = opening(request, repository, ref, path, after)
        return render(request, "lake_commits.html", commits_page(opened, ref=ref, path=path, after=after))

    @router.get("/lake/{repository}/commits/{commit}")
    def commit(request: Request, repository: str, commit: str, after: Path = "") -> Response:
        page = commit_page(opening(request, repository, commit, after), commit, after=after)
        return render(request, "lake_commit.html", page)

    @router.get("/lake/{repository}/reflog")
    def reflog(request: Request, repository: str, branch: Ref) -> Response:
        return render(request, "lake_reflog.html", reflog_page(opening(request, repository, branch), branch))


def _difference_routes(router: Routes, opening: Opening, render: Render) -> None:
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
        opened = opening(request, repository, left, right)
        page = diff_page(opened, left=left, right=right, mode=mode, prefix=prefix, after=after)
        return render(request, "lake_diff.html", page)

    @router.get("/lake/{repository}/rows")
    def rows(
        request: Request, repository: str, left: Ref, right: Ref, prefix: Path, key: Path = ""
    ) -> Response:
        opened = opening(request, repository, left, right, key)
        page = rows_page(opened, left=left, right=right, prefix=prefix, key=key)
        return render(request, "lake_rows.html", page)

    @router.get("/lake/{repository}/compare")
    def compare(request: Request, repository: str, base: Ref = "", refs: Refs = "") -> Response:
        page = experiments_page(opening(request, repository, base, refs), base=base, refs=refs)
        return render(request, "lake_compare.html", page)

    @router.get("/lake/{repository}/pulls")
    def pulls(request: Request, repository: str, status: Status = "open", after: Ref = "") -> Response:
        page = pulls_page(opening(request, repository, after), status=status, after=after)
        return render(request, "lake_pulls.html", page)

    @router.get("/lake/{repository}/pulls/{pull_id}")
    def pull(request: Request, repository: str, pull_id: str, after: Path = "") -> Response:
        page = pull_page(opening(request, repository, pull_id, after), pull_id, after=after)
        return render(request, "lake_pull.html", page)


def _record_routes(router: Routes, opening: Opening, render: Render) -> None:
    @router.get("/lake/{repository}/hooks")
    def hooks(request: Request, repository: str, branch: Ref = "", after: Ref = "") -> Response:
        page = hooks_page(opening(request, repository, branch, after), branch=branch, after=after)
        return render(request, "lake_hooks.html", page)

    @router.get("/lake/{repository}/hooks/{run_id}")
    def hook_run(request: Request, repository: str, run_id: str) -> Response:
        page = hook_run_page(opening(request, repository, run_id), run_id)
        return render(request, "lake_hook_run.html", page)

    @router.get("/lake/{repository}/work")
    def work(request: Request, repository: str) -> Response:
        return render(request, "lake_work.html", work_page(opening(request, repository)))

    @router.get("/lake/{repository}/settings")
    def settings(request: Request, repository: str) -> Response:
        return render(request, "lake_settings.html", settings_page(opening(request, repository)))
