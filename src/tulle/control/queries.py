"""Test queries of services: made from data, asked of any generation, two generations compared on them.

Also over HTTP, below `/mesh/v1`. Packages are asked in a process of their own, since loading one may run users' code.
Knows nothing of how an endpoint answers.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import yaml
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog.routes import Routes
from tulle.control import deployment_queries, release
from tulle.control.asking import user_of
from tulle.control.compare import engine_of
from tulle.control.workspace import Workspace
from tulle.engine.engine import Relation, quoted
from tulle.errors import Conflict, Invalid, NotFound, did_you_mean
from tulle.lake.access import Access
from tulle.serving import generation, package
from tulle.serving.answers import (
    Comparison,
    Question,
    compared,
    expectation,
    judged,
    message_of,
    questions_of,
)
from tulle.serving.inner_call import request_of
from tulle.serving.kinds import Spec
from tulle.serving.loaded import Verdict
from tulle.serving.package import LakeSource, Package
from tulle.serving.sendable import sendable
from tulle.serving.service import queries_file
from tulle.spec.environment import production

MOST_ROWS = 1000
MOST_QUESTIONS = 10_000
_USUAL_TOLERANCE = 1e-6
_HEADER = """\
# Test queries of {service}/{endpoint}, made from data: this file is written anew by
#   {command}
# What is written by hand belongs to `test_queries:` of the services file.
"""


@dataclass(frozen=True, slots=True)
class Made:
    """Test queries made from data: the file they are in, below the product's folder, and its text."""

    service: str
    endpoint: str
    version: str | None  # that was asked what to expect
    queries: Sequence[Mapping[str, Any]]
    file: str
    text: str


def compare(
    workspace: Workspace,
    name: str,
    left: str,
    right: str,
    *,
    questions: Sequence[Question] | None = None,
    tolerance: float = 1e-6,
) -> Comparison:
    """Ask two versions of a service the same: the test queries of both, or `questions`.

    Conflict when there is nothing to ask; NotFound for a version that is not there.
    """
    release.declared_service(workspace, name)
    both = [package.get(workspace.database, name, version) for version in (left, right)]
    if questions is None:
        known = {(q.endpoint, q.name): q for one in both for q in questions_of(one.manifest.endpoints)}
        questions = list(known.values())
    if not questions:
        hint = f"`tulle service queries make {name}/ENDPOINT --from DATA_SET` makes some"
        raise Conflict(f"service '{name}' has no test queries to compare on", hint=hint)
    if len(questions) > MOST_QUESTIONS:
        raise Invalid(f"{len(questions):,} questions are more than {MOST_QUESTIONS:,}")
    first, second = (generation.ask(generation.unpack(one, workspace.settings), questions) for one in both)
    return Comparison(
        name,
        left,
        right,
        tuple(
            compared(question, _answer(one), _answer(other), tolerance)
            for question, one, other in zip(questions, first, second, strict=True)
        ),
    )


def _answer(verdict: Verdict) -> tuple[int, Any, float]:
    return verdict.status, verdict.answer, verdict.milliseconds


@dataclass(frozen=True, slots=True)
class Tried:
    """What a version answered to one test query, and what it would have to answer again, where that is an object."""

    version: str
    verdict: Verdict
    expectation: Mapping[str, Any] | None


def attempt(
    workspace: Workspace,
    name: str,
    endpoint: str,
    sent: Any,
    *,
    expect: Mapping[str, Any] | None = None,
    tolerance: float = _USUAL_TOLERANCE,
    version: str | None = None,
) -> Tried:
    """Ask the package of a version one test query, saved or not; by default of the one that answers, else the newest.

    `sent` is what the query holds: features, data, arguments, parameters. NotFound for what the version has not.
    """
    release.declared_service(workspace, name)
    chosen = release.chosen_version(workspace, name, version)
    kinds = {str(one["name"]): str(one["type"]) for one in chosen.manifest.endpoints}
    if endpoint not in kinds:
        raise NotFound(
            f"{name} {chosen.version} has no endpoint '{endpoint}'",
            hint=did_you_mean(endpoint, kinds)
            or f"`tulle service package {name}` packages what is declared now",
        )
    body = request_of(kinds[endpoint], sent)
    (found,) = generation.ask(
        generation.unpack(chosen, workspace.settings), [Question(endpoint, "tried", body)]
    )
    message = judged(expect, tolerance, found.status, found.answer)
    verdict = replace(found, passed=not message, message=message)
    return Tried(chosen.version, verdict, expectation(found.status, found.answer))


def make(
    workspace: Workspace,
    name: str,
    endpoint: str,
    *,
    data_set: str,
    product: str = "",
    rows: int = 20,
    seed: int = 1,
    expect: bool = False,
    tolerance: float = 1e-6,
    columns: Mapping[str, str] | None = None,
    write: bool = True,
) -> Made:
    """Test queries of an endpoint from rows of a data set that are drawn by a seed: equal data, equal rows.

    What the endpoint takes is read from the columns of the same names, or those that `columns` maps (name sent →
    column). With `expect`, the version that answers (else the newest) is asked what to expect. Raises NotFound and
    Invalid for what is not there or does not fit.
    """
    declared = release.declared_service(workspace, name)
    specs = {spec.name: spec for spec in declared.service.endpoints}
    if endpoint not in specs:
        raise NotFound(
            f"service '{name}' has no endpoint '{endpoint}'",
            hint=did_you_mean(endpoint, specs) or "it has: " + ", ".join(specs),
        )
    if not 1 <= rows <= MOST_ROWS:
        raise Invalid(f"{rows} rows, expected 1 to {MOST_ROWS:,}")
    chosen = _newest(workspace, name)
    owner = product or declared.product.name
    found = _drawn(workspace, owner, data_set, rows * 5, seed)  # different rows may ask the same
    if not found:
        message = f"data set '{data_set}' of product '{owner}' has no rows"
        raise Conflict(message, hint=f"`tulle run {owner}` publishes what there is")
    sent = sendable(specs[endpoint], chosen.manifest.endpoints if chosen else (), _folder(workspace, chosen))
    word, bodies = sent.bodies(found, columns or {})
    queries: list[dict[str, Any]] = [
        {"name": f"{data_set} {number + 1}", word: body} for number, body in enumerate(bodies[:rows])
    ]
    if expect:
        _expect(workspace, name, endpoint, chosen, specs[endpoint], word, queries, tolerance)
    file = queries_file(declared.service.file.parent, name, endpoint)
    command = ["tulle", "service", "queries", "make", f"{name}/{endpoint}"]
    command += ["--from", f"{product}/{data_set}" if product else data_set]
    command += ["--rows", str(rows), "--seed", str(seed), *(["--expect"] if expect else [])]
    command += ["--tolerance", f"{tolerance:g}"] if tolerance != _USUAL_TOLERANCE else []
    command += [word for pair in (columns or {}).items() for word in ("--column", "=".join(pair))]
    written = " ".join(shlex.join(command).split("\n"))  # a comment is one line
    header = _HEADER.format(service=name, endpoint=endpoint, command=written)
    text = header + yaml.safe_dump(queries, sort_keys=False, allow_unicode=True, width=110)
    if write:
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = file.with_suffix(".tmp")
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(file)
    below = (
        str(file.relative_to(declared.product.folder))
        if file.is_relative_to(declared.product.folder)
        else str(file)
    )
    return Made(name, endpoint, chosen.version if expect and chosen else None, queries, below, text)


def _newest(workspace: Workspace, name: str) -> Package | None:
    try:
        return release.chosen_version(workspace, name)
    except NotFound:
        return None


def _folder(workspace: Workspace, chosen: Package | None) -> Path | None:
    return None if chosen is None else generation.unpack(chosen, workspace.settings)


def _expect(
    workspace: Workspace,
    name: str,
    endpoint: str,
    chosen: Package | None,
    spec: Spec,
    word: str,
    queries: Sequence[dict[str, Any]],
    tolerance: float,
) -> None:
    if chosen is None:
        raise Conflict(
            f"service '{name}' has no package that could say what to expect",
            hint=f"`tulle service package {name}`, or leave --expect out",
        )
    asked = [Question(endpoint, query["name"], request_of(spec.type, query[word])) for query in queries]
    answers = generation.ask(generation.unpack(chosen, workspace.settings), asked)
    for query, answer in zip(queries, answers, strict=True):
        if answer.status >= 500:
            raise Conflict(f"'{query['name']}' is no query to keep: {message_of(answer.answer)}")
        expected = expectation(answer.status, answer.answer)
        if expected is not None:
            query["expect"] = dict(expected)
            if tolerance != _USUAL_TOLERANCE:
                query["tolerance"] = tolerance


def _drawn(
    workspace: Workspace, product: str, data_set: str, rows: int, seed: int
) -> list[Mapping[str, Any]]:
    """Rows in an order that the seed makes, as plain values of JSON."""
    source = LakeSource(workspace.lake, "main")
    scratch = workspace.settings.run_folder / "queries"
    try:
        relation: Relation = source.relation(product, data_set, scratch)
    except NotFound as exc:
        known = source.names(product) if _is_there(source, product) else ()
        raise NotFound(
            f"product '{product}' has no data set '{data_set}'",
            hint=did_you_mean(data_set, known) or exc.hint,
        ) from None
    engine = engine_of(workspace, None)
    name = quoted(relation.name)
    # Rows that are the same are one: their order would be chance.
    sql = f"SELECT DISTINCT * FROM {name} AS t ORDER BY md5(concat('{int(seed)}', t::VARCHAR)) LIMIT {int(rows)}"  # noqa: S608
    found = engine.query(sql, [relation]).to_pylist()
    return [{column: _plain(value) for column, value in row.items()} for row in found]


def _is_there(source: LakeSource, product: str) -> bool:
    try:
        source.commit(product)
    except NotFound:
        return False
    return True


def _plain(value: Any) -> Any:
    match value:
        case decimal.Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case dt.datetime():
            return value.isoformat().replace("+00:00", "Z")
        case dt.date():
            return value.isoformat()
        case float() if not math.isfinite(value):  # which JSON does not have
            return None
        case None | bool() | int() | float() | str():
            return value
    return msgspec.to_builtins(value, str_keys=True)


# ── over HTTP ────────────────────────────────────────────────────────────────────────────────────────────


class QuestionBody(BaseModel):
    """One question: the whole body of a request to the endpoint's usual action."""

    model_config = ConfigDict(extra="forbid")

    endpoint: str
    name: str = ""
    body: dict[str, Any] = {}


class CompareBody(BaseModel):
    """Two versions, and what to ask them; their test queries where nothing is said."""

    model_config = ConfigDict(extra="forbid")

    left: str
    right: str
    tolerance: float = Field(1e-6, ge=0)
    queries: list[QuestionBody] | None = Field(None, max_length=MOST_QUESTIONS)


class TryBody(BaseModel):
    """A test query as it is filled in: what is sent, and what is expected of which version."""

    model_config = ConfigDict(extra="forbid")

    sent: dict[str, Any] | list[Any]
    expect: dict[str, Any] | None = None
    tolerance: float = Field(_USUAL_TOLERANCE, ge=0)
    version: str | None = None


class MakeBody(BaseModel):
    """Which rows test queries are made from."""

    model_config = ConfigDict(extra="forbid")

    data_set: str
    product: str = ""
    rows: int = Field(20, ge=1, le=MOST_ROWS)
    seed: int = 1
    expect: bool = False
    tolerance: float = Field(1e-6, ge=0)
    columns: dict[str, str] = {}
    write: bool = True


def router(workspace: Workspace, access: Access) -> Routes:
    """The routes on one mesh; `access` knows what users may read."""
    api = Routes(prefix="/mesh/v1")

    @api.post("/services/{name}/compare")
    def compare_generations(name: str, body: CompareBody) -> dict[str, Any]:
        asked = body.queries
        questions = None if asked is None else [Question(q.endpoint, q.name, q.body) for q in asked]
        found = compare(workspace, name, body.left, body.right, questions=questions, tolerance=body.tolerance)
        return comparison_as_plain(found)

    @api.post("/services/{name}/generations/{version}/test")
    def test_generation(name: str, version: str, environment: str | None = None) -> dict[str, Any]:
        """The test queries of a generation that runs; `active` is the one that most requests meet."""
        chosen = None if version == "active" else version
        found = deployment_queries.ask_running(workspace, name, chosen, environment=environment)
        verdicts = [asdict(verdict) for verdict in found.verdicts]
        where = {"environment": found.environment, "version": found.version, "saved": found.saved}
        return {"service": name, **where, "verdicts": verdicts}

    @api.post("/services/{name}/endpoints/{endpoint}/attempt")
    def try_query(name: str, endpoint: str, body: TryBody) -> dict[str, Any]:
        """What a version answers to one test query, beside what is expected."""
        return {"service": name, **asdict(attempt(workspace, name, endpoint, **body.model_dump()))}

    @api.get("/services/{name}/snippets")
    def snippets(name: str, endpoint: str | None = None) -> dict[str, Any]:
        found = release.snippets_of(workspace, name, endpoint)
        return {"service": name, "endpoints": {e: [asdict(one) for one in each] for e, each in found.items()}}

    @api.post("/services/{name}/endpoints/{endpoint}/test-queries")
    def make_queries(request: Request, name: str, endpoint: str, body: MakeBody) -> dict[str, Any]:
        if (
            user := user_of(request)
        ) is not None:  # rows are told, so they must be readable by any other door
            owner = body.product or release.declared_service(workspace, name).product.name
            rows = access.resource_object(owner, production(workspace.settings).branch, f"{body.data_set}/")
            access.demand(user, "fs:ReadObject", *rows)
        return asdict(make(workspace, name, endpoint, **body.model_dump()))

    return api


def comparison_as_plain(found: Comparison) -> dict[str, Any]:
    """A comparison as plain values, with what is counted of it."""
    left, right = found.medians
    return {
        "service": found.service,
        "left": found.left,
        "right": found.right,
        "asked": len(found.questions),
        "equal": found.equal,
        "different": len(found.questions) - found.equal,
        "milliseconds": {"left": left, "right": right},
        "questions": [{**asdict(one), "equal": one.is_equal} for one in found.questions],
    }
