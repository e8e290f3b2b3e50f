"""What a product's services declare, as plain values that can be kept, compared and told in sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tulle.serving.access import Access
from tulle.serving.compose_declared import ComposeSpec
from tulle.serving.declared import FunctionSpec, PredictSpec, rows_of
from tulle.serving.keyed_rows import ALL, ERROR, FORBIDDEN, IGNORE, KeyedRows
from tulle.serving.query_declared import QuerySpec
from tulle.serving.service import Service
from tulle.spec.compare import Change
from tulle.spec.tier import Offer

_USUAL = ["contracts"]
_POLICIES = ("missing_key", "no_match", "several", "too_old")
# What changes answers and refuses none.
_DETAILS = ("defaults", "order_by", "most_rows", "event_time", "max_age_seconds")


def declared_as_plain(services: Sequence[Service]) -> dict[str, Any]:
    """By service and endpoint: its type, its model and the data sets it answers from, with the columns it needs."""
    return {
        service.name: {
            e.name: _endpoint(e) | _access(service.access) | _policies(service) | _offer(service.offer)
            for e in service.endpoints
        }
        for service in services
    }


def _offer(offer: Offer) -> dict[str, Any]:
    """Tiers and the version of the terms in words; nothing where none are declared. Said of every endpoint."""
    said: dict[str, Any] = {}
    if offer.tiers:
        said["tiers"] = {
            tier.name: tier.words + (", deprecated" if tier.deprecated else "") for tier in offer.tiers
        }
    if offer.terms is not None:
        said["terms"] = offer.terms.version
    return said


def _access(access: Access) -> dict[str, Any]:
    """By which ways callers come in, in words; nothing for the usual one. Said of every endpoint, as it holds there."""
    if access == Access():
        return {}
    words = {way: way for way in access.ways()}
    if access.public is not None:
        words["public"] += (
            f" ({access.public.limit} for {'each address' if access.public.by == 'address' else 'all'})"
        )
    if access.jwt is not None:
        asked = ", ".join([access.jwt.issuer, *access.jwt.audiences, *access.jwt.scopes])
        words["jwt"] += f" ({asked})" + (" of applications with a contract" if access.jwt.contract else "")
    return {"access": list(words.values())}


def _policies(service: Service) -> dict[str, Any]:
    """What the gateway does with requests, as written; nothing where nothing is. Said of every endpoint, too."""
    return {"gateway_policies": [dict(one) for one in service.policies]} if service.policies else {}


def _endpoint(endpoint: Any) -> dict[str, Any]:
    sources = [_source(rows) for rows in rows_of(endpoint)]
    said = {"type": endpoint.type, "model": getattr(endpoint, "model", ""), "sources": sources}
    if isinstance(endpoint, PredictSpec) and endpoint.shown is not None:
        said["shown"] = sorted(endpoint.shown.features)
    if isinstance(endpoint, FunctionSpec):
        said["function"] = f"{endpoint.file}: {endpoint.function}"
    if isinstance(endpoint, QuerySpec):
        said["sql"] = endpoint.sql
        said["parameters"] = {p.name: [p.type, p.required] for p in endpoint.parameters}
        said["connection"] = endpoint.connection
        said["sources"] = [
            {"product": product, "data_set": data_set, "key": [], "answers": None, "columns": None}
            for product, data_set in dict.fromkeys(endpoint.reads(""))
        ]
    if isinstance(endpoint, ComposeSpec):
        said["steps"] = [*endpoint.steps, endpoint.output]
        said["parameters"] = {p.name: [p.type, p.required] for p in endpoint.input}
    return said


def _source(rows: KeyedRows) -> dict[str, Any]:
    """`key` and `answers` have the names callers know, `columns` those of the data set; None: all of them."""
    needed = {column for _, column in rows.key} | {name.removeprefix("-") for name in rows.order_by}
    needed |= {rows.event_time} - {""}
    return {
        "product": rows.product,
        "data_set": rows.data_set,
        "key": [name for name, _ in rows.key],
        "answers": sorted(name for name, _ in rows.columns) if rows.columns else None,
        "columns": sorted({*needed, *rows.source_columns}) if rows.columns else None,
        "policies": {name: getattr(rows, name) for name in _POLICIES},
        "details": {name: _plain(getattr(rows, name)) for name in _DETAILS},
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value


def service_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """What differs between two declarations; what callers may miss is breaking."""
    for name, endpoints in old.items():
        subject = f"service {name}"
        if name not in new:
            yield Change("removed", subject, f"service '{name}' is removed", breaking=True)
            continue
        yield from _access_changes(name, endpoints, new[name])
        yield from _list_changes(name, endpoints, new[name])
        yield from _offer_changes(name, endpoints, new[name])
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


def _access_changes(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """Who came in by a way that is no longer there, or asks for more, is refused."""
    was, now = (next((e.get("access", _USUAL) for e in one.values()), _USUAL) for one in (old, new))
    if was != now:
        told = f"service {name}: it may be called by {', '.join(now)} (was {', '.join(was)})"
        yield Change("changed", f"service {name}", told, breaking=bool(set(was) - set(now)))


def _list_changes(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """Other policies of the gateway. Whom they refuse is not known here, so none is told as breaking."""
    was, now = (_listed(one) for one in (old, new))
    if was == now:
        return
    before, after = (", ".join(one["policy"] for one in said) or "none" for said in (was, now))
    told = f"service {name}: its policies are {after} (were {before})"
    if before == after:
        changed = [one["policy"] for one, other in zip(now, was, strict=True) if one != other]
        told = f"service {name}: its policies have other settings: {', '.join(changed)}"
    yield Change("changed", f"service {name}", told)


def _listed(endpoints: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = next((e.get("gateway_policies", []) for e in endpoints.values()), [])
    return found


def _offer_changes(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """Tiers that are others hit whoever has a contract under them at once."""
    subject = f"service {name}"
    was: Mapping[str, str] = next((e.get("tiers", {}) for e in old.values()), {})
    now: Mapping[str, str] = next((e.get("tiers", {}) for e in new.values()), {})
    for tier in sorted(was.keys() | now.keys()):
        if tier not in now:
            yield Change("removed", subject, f"{subject}: tier '{tier}' is taken out", breaking=True)
        elif tier not in was:
            yield Change("added", subject, f"{subject}: tier '{tier}' is offered: {now[tier]}")
        elif was[tier] != now[tier]:
            told = f"{subject}: tier '{tier}' is {now[tier]} (was {was[tier]})"
            yield Change("changed", subject, told)
    before, after = (next((e.get("terms", "") for e in one.values()), "") for one in (old, new))
    if before != after:
        told = f"the terms are version {after}" if after else "there are no terms any more"
        yield Change("changed", subject, f"{subject}: {told}" + (f" (was {before})" if before else ""))


def _endpoint_changes(at: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    if old["type"] != new["type"]:
        told = f"{at}: it is of type {new['type']} (was {old['type']})"
        yield Change("changed", at, told, breaking=True)
        return
    if old["model"] != new["model"]:
        yield Change("changed", at, f"{at}: the model is '{new['model']}' (was '{old['model']}')")
    yield from _query_changes(at, old, new)
    had, has = (one.get("shown", []) for one in (old, new))
    if had != has:
        told = f"answers may tell {', '.join(has) or 'no features'} (were {', '.join(had) or 'none'})"
        yield Change("changed", at, f"{at}: {told}", breaking=bool(set(had) - set(has)))
    if old.get("function") != new.get("function"):
        told = f"{at}: the function is {new.get('function')} (was {old.get('function')})"
        yield Change("changed", at, told)
    before, after = _numbered(old["sources"]), _numbered(new["sources"])
    sent = {name for one in old["sources"] for name in one["key"]}
    for source in sorted(before.keys() - after.keys()):
        told = f"{at}: it no longer answers from data set '{source[1]}'"
        yield Change("changed", at, told, breaking=new["type"] == "lookup")
    for source in sorted(after.keys() - before.keys()):
        now = after[source]
        needed = sorted({*now["key"]} - sent) if now.get("policies", {}).get("missing_key") == ERROR else []
        breaking = new["type"] == "lookup" and bool(needed)
        told = f", by {', '.join(needed)}, which has to be sent" if breaking else ""
        yield Change("changed", at, f"{at}: it answers from data set '{source[1]}'{told}", breaking=breaking)
    for source in sorted(before.keys() & after.keys()):
        was, now = before[source], after[source]
        if was["key"] != now["key"]:
            told = f"{at}: the key of '{source[1]}' is {', '.join(now['key'])} (was {', '.join(was['key'])})"
            yield Change("changed", at, told, breaking=True)
        had, has = _answers(was), _answers(now)
        gone = set(had or ()) - set(has or had or ())
        if gone or (had is None and has is not None):
            told = f"no longer {', '.join(sorted(gone))}" if gone else f"only {', '.join(has or ())}"
            yield Change("changed", at, f"{at}: of '{source[1]}' it gives {told}", breaking=True)
        yield from _policy_changes(at, source[1], was.get("policies", {}), now.get("policies", {}))
        for name, before_it in was.get("details", {}).items():
            if (after_it := now.get("details", {}).get(name, before_it)) != before_it:
                told = f"{at}: of '{source[1]}', '{name}' is {after_it or 'nothing'} (was {before_it or 'nothing'})"
                yield Change("changed", at, told)


def _numbered(sources: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, int], Mapping[str, Any]]:
    """Sources by product and data set, and by which one of it that is: it may be looked up by several keys."""
    found: dict[tuple[str, str, int], Mapping[str, Any]] = {}
    for one in sources:
        number = sum(known[:2] == (one["product"], one["data_set"]) for known in found)
        found[one["product"], one["data_set"], number] = one
    return found


def _query_changes(at: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """A query that asks for more, or takes another kind of value, breaks who sends what it took."""
    if old.get("sql") != new.get("sql"):
        yield Change("changed", at, f"{at}: the SQL is another one")
    if old.get("steps") != new.get("steps"):
        yield Change("changed", at, f"{at}: its steps, or what it makes of them, are others")
    before, after = old.get("parameters", {}), new.get("parameters", {})
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was == now:
            continue
        if now is None or was is None:
            told = "is no longer taken" if now is None else "is taken" + (", and needed" if now[1] else "")
            yield Change("changed", at, f"{at}: parameter '{name}' {told}", breaking=now is None or now[1])
        else:
            told = f"{now[0]}{'' if now[1] else ', which may be left out'}"
            breaking = was[0] != now[0] or now[1]
            yield Change("changed", at, f"{at}: parameter '{name}' is {told}", breaking=breaking)


def _answers(source: Mapping[str, Any]) -> Sequence[str] | None:
    found: Sequence[str] | None = source.get("answers", source["columns"])
    return found


def _policy_changes(
    at: str, data_set: str, old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[Change]:
    """What becomes of requests that find no row, several or an old one; to be refused where there was an answer
    breaks callers, and so does an answer of another form."""
    for name in _POLICIES:
        was, now = old.get(name, new.get(name)), new.get(name, old.get(name))
        if was != now:
            answered = was not in {ERROR, FORBIDDEN, IGNORE}
            breaking = now in {ERROR, FORBIDDEN} or (now == IGNORE and answered) or ALL in {was, now}
            told = f"{at}: of '{data_set}', '{name}' is {now} (was {was})"
            yield Change("changed", at, told, breaking=breaking)
