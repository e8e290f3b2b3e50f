"""How long the control plane and the portal take with 10,000 applications and 1,000 APIs, and what memory they have.

The mesh is made as tests make theirs, in one transaction. Pages and lists are asked for by a stranger, an owner and
somebody who may see little. Told are the first time, the middle of several after it, and of these the processor time,
which is the same on a machine that has other work to do.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
from benchmarks.serving.load import verdict
from tests.catalog.test_exchange import cookie_of
from tests.control.bazaar import Bazaar
from tests.control.crowd import crowd

from tulle.gateway import contract_record
from tulle.gateway.admitted import admitted

PAGE_MS = 300
PAGES = (
    "/exchange",
    "/exchange?q=title+77",
    "/exchange?domain=domain-03&tag=orders&page=2",
    "/exchange/apis/api-0050",
    "/applications",
    "/applications?owner=team-011",
    "/applications/app-00500",
    "/access",
    "/access?product=product-003",
    "/access?service=api-0050",
    "/access/requests",
    "/insight",
    "/",
)
LISTS = (
    "/apis",
    "/apis/api-0050",
    "/applications",
    "/applications?limit=1000",
    "/contracts?limit=1000",
    "/access",
    "/access?service=api-0050",
    "/access?application=app-00500",
)


def measure(*, quick: bool) -> None:
    """Print what each takes."""
    apis, applications, times = (100, 1_000, 2) if quick else (1_000, 10_000, 7)
    with tempfile.TemporaryDirectory(prefix="tulle-size-") as name:
        bazaar = Bazaar(Path(name) / "mesh")
        began = time.perf_counter()
        crowd(bazaar, apis=apis, applications_=applications)
        took = time.perf_counter() - began
        told = f"{apis:,} APIs, {applications:,} applications: made in {took:.1f} s"
        print(f"\n{told:68} ms: first  median  processor   kB")
        slowest = max(*_pages(bazaar, times), *_lists(bazaar, times))
        print(f"    slowest, processor time: {verdict(slowest, PAGE_MS, at_most=True, unit=' ms')}")
        _steps(bazaar)
        print(f"    memory of the process: {psutil.Process().memory_info().rss / 1e6:.0f} MB", flush=True)
        bazaar.close()


def _pages(bazaar: Bazaar, times: int) -> list[float]:
    cookies = {"": "", **{who: cookie_of(bazaar, who) for who in ("ann", "kim")}}
    return [
        _told(
            f"{path} {who}",
            times,
            lambda: bazaar.send("GET", path, accept="text/html", cookie=cookie),  # noqa: B023  asked at once
        )
        for path in PAGES
        for who, cookie in cookies.items()
    ]


def _lists(bazaar: Bazaar, times: int) -> list[float]:
    return [
        _told(f"/mesh/v1{path} {who}", times, lambda: bazaar.call("GET", path, as_=who))  # noqa: B023
        for path in LISTS
        for who in ("", "ann", "kim")
        if not (who and path.startswith("/access?application"))
    ]


def _steps(bazaar: Bazaar) -> None:
    """A request is decided and an application leaves; then who is admitted is read anew, as the gateway is told."""
    database = bazaar.workspace.database
    first, *_ = contract_record.heads(database, "pending")
    _told("a request is approved", 1, lambda: bazaar.call("POST", f"/contracts/{first.id}/approve", {}))
    _told("an application leaves", 1, lambda: bazaar.call("DELETE", "/applications/app-00007"))
    _timed("who is admitted, read anew", 1, lambda: len(admitted(database).clients) // 1000)


def _told(what: str, times: int, ask: Callable[[], httpx.Response]) -> float:
    def asked() -> int:
        answer = ask()
        if answer.status_code not in {200, 404}:
            raise SystemExit(f"{what}: {answer.status_code} {answer.text[:200]}")
        return len(answer.content) // 1000

    return _timed(what, times, asked)


def _timed(what: str, times: int, ask: Callable[[], int]) -> float:
    took, worked, size = [], [], 0
    for _ in range(1 + times if times > 1 else 1):
        began, working = time.perf_counter(), time.process_time()
        size = ask()
        took.append((time.perf_counter() - began) * 1000)
        worked.append((time.process_time() - working) * 1000)
    median, processor = statistics.median(took[1:] or took), statistics.median(worked[1:] or worked)
    print(f"  {what:70} {took[0]:>6.0f} {median:>7.0f} {processor:>10.0f} {size:>6}", flush=True)
    return processor
