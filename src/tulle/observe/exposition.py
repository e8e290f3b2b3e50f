"""The counts of calls as Prometheus reads them: text of format 0.0.4, or OpenMetrics 1.0 where that is asked for.

Counters go on over restarts, as they are kept. Labels are names of services, environments, versions, generations and
kinds, which somebody deployed or we wrote: no caller can make one. Pure but for reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from tulle.observe.calls import Calls
from tulle.observe.calls_file import COLUMNS
from tulle.observe.durations import bucket, unpacked, upper

PLAIN: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
# Upper ends in milliseconds; each is moved to the end of its bucket, at most 2 % away.
_ENDS: Final = (0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000)
_PLACES: Final = tuple(bucket(round(end * 1000)) for end in _ENDS)
_CLASSES: Final = (("2xx", "c2"), ("3xx", "c3"), ("4xx", "c4"), ("5xx", "c5"))
MOST_SERIES: Final = 5000


def content_type(accept: str) -> str:
    """The format to answer in, by the Accept header of who asks."""
    return OPEN if "application/openmetrics-text" in accept else PLAIN


def exposed(calls: Calls, *, is_open: bool, tells: Callable[[str], bool] = lambda _: True) -> str:
    """The counts as text, of those services alone of whose name `tells` says so."""
    lines = [*_lines(calls, is_open, tells)]
    if is_open:
        lines.append("# EOF")
    return "\n".join(lines) + "\n"


def _lines(calls: Calls, is_open: bool, tells: Callable[[str], bool]) -> Iterator[str]:
    state = calls.state()
    with calls.read() as cx:
        columns = ", ".join(COLUMNS)
        every = cx.execute(
            f"SELECT service, environment, generation, version, {columns}, durations FROM totals "  # noqa: S608  ours
            "WHERE service != '' ORDER BY service, environment, generation, version"
        )
        rows = [*islice((row for row in every if tells(row[0])), MOST_SERIES)]
        every = cx.execute(
            "SELECT service, environment, generation, version, kind, violation, requests FROM kind_totals "
            "ORDER BY 1, 2, 5, 3, 4"
        )
        # The empty name is of no service: what came to none.
        kinds = [*islice((row for row in every if not row[0] or tells(row[0])), MOST_SERIES)]
    totals = [(_labels(*row[:4]), dict(zip(COLUMNS, row[4:-1], strict=True)), row[-1]) for row in rows]
    yield from _counter("tulle_requests", "Requests by the class of their status.", _classes(totals), is_open)
    named = [
        (labels | {"kind": kind, "violation": "true" if violation else "false"}, number)
        for *name, kind, violation, number in kinds
        for labels in [_labels(*name)]
    ]
    yield from _counter(
        "tulle_gateway_errors", "Requests that the gateway answered itself, by kind.", named, is_open
    )
    for name, column, help_ in (
        ("tulle_request_bytes", "bytes_in", "Bytes of the bodies of requests."),
        ("tulle_response_bytes", "bytes_out", "Bytes of the bodies of answers."),
    ):
        yield from _counter(name, help_, [(labels, sums[column]) for labels, sums, _ in totals], is_open)
    yield from _histogram(totals)
    if state is not None:
        yield "# HELP tulle_counted_timestamp_seconds When the last request that is counted was answered."
        yield "# TYPE tulle_counted_timestamp_seconds gauge"
        yield f"tulle_counted_timestamp_seconds {state.latest:.3f}"


def _classes(totals: Any) -> list[tuple[dict[str, str], int]]:
    found = []
    for labels, sums, _ in totals:
        rest = sums["requests"]
        for name, column in _CLASSES:
            rest -= sums[column]
            if sums[column]:
                found.append((labels | {"status": name}, sums[column]))
        if rest:
            found.append((labels | {"status": "none"}, rest))
    return found


def _counter(name: str, help_: str, values: list[tuple[dict[str, str], int]], is_open: bool) -> Iterator[str]:
    # OpenMetrics names the family without the ending that its samples have.
    family = name if is_open else f"{name}_total"
    yield f"# HELP {family} {help_}"
    yield f"# TYPE {family} counter"
    for labels, value in values:
        yield f"{name}_total{_told(labels)} {value}"


def _histogram(totals: Any) -> Iterator[str]:
    name = "tulle_request_duration_seconds"
    yield f"# HELP {name} From the first byte that came to the last that went."
    yield f"# TYPE {name} histogram"
    for labels, sums, packs in totals:
        counts = sorted(unpacked(packs).items())
        for place in _PLACES:
            below = sum(count for number, count in counts if number <= place)
            yield f"{name}_bucket{_told(labels | {'le': f'{upper(place) / 1e6:.6g}'})} {below}"
        yield f"{name}_bucket{_told(labels | {'le': '+Inf'})} {sums['requests']}"
        yield f"{name}_sum{_told(labels)} {sums['microseconds'] / 1e6:.6f}"
        yield f"{name}_count{_told(labels)} {sums['requests']}"


def _labels(service: str, environment: str, generation: str, version: str) -> dict[str, str]:
    return {"service": service, "environment": environment, "generation": generation, "version": version}


def _told(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
