"""What a product's services declare, as plain values that can be kept, compared and told in sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tulle.serving.service import Service
from tulle.spec.compare import Change


def declared_as_plain(services: Sequence[Service]) -> dict[str, Any]:
    """By service and endpoint: its type, its model and the data sets it answers from, with the columns it needs."""
    return {service.name: {e.name: _endpoint(e) for e in service.endpoints} for service in services}


def _endpoint(endpoint: Any) -> dict[str, Any]:
    sources = []
    for one in (endpoint, *getattr(endpoint, "enrich", ())):
        data_set = getattr(one, "data_set", "")
        if data_set:
            columns = getattr(one, "columns", ())
            sources.append(
                {
                    "product": getattr(one, "product", ""),
                    "data_set": data_set,
                    "key": list(one.key),
                    "columns": sorted({*one.key, *columns}) if columns else None,
                }
            )
    return {"type": endpoint.type, "model": getattr(endpoint, "model", ""), "sources": sources}


def service_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """What differs between two declarations; what callers may miss is breaking."""
    for name, endpoints in old.items():
        subject = f"service {name}"
        if name not in new:
            yield Change("removed", subject, f"service '{name}' is removed", breaking=True)
            continue
        for endpoint, said in endpoints.items():
            at = f"{subject}: endpoint {endpoint}"
            now = new[name].get(endpoint)
            if now is None:
                yield Change("removed", at, f"{subject}: endpoint '{endpoint}' is removed", breaking=True)
            elif now != said:
                yield from _endpoint_changes(at, said, now)
        for endpoint in new[name]:
            if endpoint not in endpoints:
                at = f"{subject}: endpoint {endpoint}"
                yield Change("added", at, f"{subject}: endpoint '{endpoint}' is added")
    for name in new:
        if name not in old:
            yield Change("added", f"service {name}", f"service '{name}' is added")


def _endpoint_changes(at: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    if old["type"] != new["type"]:
        told = f"{at}: it is of type {new['type']} (was {old['type']})"
        yield Change("changed", at, told, breaking=True)
        return
    if old["model"] != new["model"]:
        yield Change("changed", at, f"{at}: the model is '{new['model']}' (was '{old['model']}')")
    before = {(s["product"], s["data_set"]): s for s in old["sources"]}
    after = {(s["product"], s["data_set"]): s for s in new["sources"]}
    for source in sorted(before.keys() - after.keys()):
        told = f"{at}: it no longer answers from data set '{source[1]}'"
        yield Change("changed", at, told, breaking=new["type"] == "lookup")
    for source in sorted(after.keys() - before.keys()):
        yield Change("changed", at, f"{at}: it answers from data set '{source[1]}'")
    for source in sorted(before.keys() & after.keys()):
        was, now = before[source], after[source]
        if was["key"] != now["key"]:
            told = f"{at}: the key of '{source[1]}' is {', '.join(now['key'])} (was {', '.join(was['key'])})"
            yield Change("changed", at, told, breaking=True)
        gone = set(was["columns"] or ()) - set(now["columns"] or was["columns"] or ())
        narrowed = was["columns"] is None and now["columns"] is not None
        if gone or narrowed:
            told = f"no longer {', '.join(sorted(gone))}" if gone else f"only {', '.join(now['columns'])}"
            yield Change("changed", at, f"{at}: of '{source[1]}' it gives {told}", breaking=True)
