"""What functions, queries and compositions put into a package: code, the data that SQL reads, the kinds they call.

Every name is checked against what is there, and nothing of a user's is run.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tulle.errors import Invalid, Problem, TulleError, did_you_mean
from tulle.serving.bundle import Bundle, answered, check_queries, invalid
from tulle.serving.compose import ComposeEntry
from tulle.serving.compose_declared import ComposeSpec, reaches_out
from tulle.serving.declared import FunctionSpec
from tulle.serving.function import FunctionEntry
from tulle.serving.function_code import FUNCTIONS, signature_of
from tulle.serving.index import Column
from tulle.serving.outer_call import HARMLESS
from tulle.serving.query import QueryEntry, record_of
from tulle.serving.query_declared import QueryParameter, QuerySpec, only_of_files
from tulle.serving.request import RequestError
from tulle.serving.step_form import every

# Values like those that callers send, to see which columns a query gives.
_EXAMPLES: Mapping[str, Any] = {
    "string": "",
    "integer": 1,
    "double": 1.0,
    "decimal": decimal.Decimal(1),
    "boolean": True,
    "date": dt.date(2000, 1, 1),
    "timestamp": dt.datetime(2000, 1, 1),  # noqa: DTZ001
}


def bundle_compose(spec: ComposeSpec, bundle: Bundle) -> ComposeEntry:
    """Check what a composition calls; Invalid, with places, for endpoints that are not there or come after it."""
    problems = list(spec.problems(bundle.callable_from(spec.name), bundle.others))
    callees = {} if problems else _callees(spec, bundle, problems)
    problems += twice(spec, callees)
    if problems:
        raise Invalid(problems[0].message, hint=problems[0].hint, problems=problems)
    check_queries(spec.test_queries, "", record_of(spec.input), spec.places)
    return ComposeEntry(
        name=spec.name,
        steps=spec.steps,
        output=spec.output,
        callees=callees,
        input=spec.input,
        description=spec.description,
        test_queries=spec.test_queries,
        # Whether it is well must not depend on what is elsewhere.
        probe=None if reaches_out(spec.steps) else answered(spec.test_queries) or None,
    )


def _callees(spec: ComposeSpec, bundle: Bundle, problems: list[Problem]) -> dict[str, str]:
    """The kinds of what a composition calls of other services; what is not there is added to `problems`."""
    found: dict[str, str] = {}
    for callee, at in spec.callees.items():
        service, _, endpoint = callee.partition("/")
        known = bundle.others.get(service, {})
        if endpoint in known:
            found[callee] = known[endpoint]
            continue
        message = f"endpoint '{spec.name}': service '{service}' has no endpoint '{endpoint}'"
        hint = did_you_mean(endpoint, known) or "no product declares that service"
        problems.append(Problem(message, spec.place_of(at), hint))
    return found


def twice(spec: ComposeSpec, callees: Mapping[str, str]) -> Iterator[Problem]:
    """Steps that are tried again as one, and calls within that may not be made again after they were answered."""
    for path, step in every(spec.steps):
        if "call" in step or not step.get("retry"):
            continue
        for _, one in every([step]):
            kind = callees.get(one.get("call", ""))
            if kind is not None and kind not in HARMLESS:
                message = (
                    f"endpoint '{spec.name}': step '{step['name']}' has 'retry', and '{one['call']}' within it, "
                    f"a {kind}, may not be called twice"
                )
                yield Problem(
                    message, spec.place_of((*path, "retry")), "put 'retry' on the steps that may be"
                )


def bundle_function(spec: FunctionSpec, bundle: Bundle) -> FunctionEntry:
    """Add the product's functions; Invalid, with places, when file or function are not there."""
    texts = bundle.functions()
    if spec.file not in texts:
        hint = did_you_mean(spec.file, texts) or f"put it into {FUNCTIONS}/ of the product"
        raise invalid(
            f"product '{bundle.product}' has no file {FUNCTIONS}/{spec.file}", spec.places.get("file"), hint
        )
    place = spec.places.get("function", spec.places.get("name"))
    file = f"{FUNCTIONS}/{spec.file}"
    parameters, is_open, told = signature_of(texts[spec.file], file, spec.function, place)
    return FunctionEntry(
        name=spec.name,
        file=file,
        function=spec.function,
        parameters=parameters,
        is_open=is_open,
        bounds=spec.bounds,
        again=spec.retry,
        description=spec.description or told,
        test_queries=spec.test_queries,
    )


def bundle_query(spec: QuerySpec, bundle: Bundle) -> QueryEntry:
    """Copy the data a query reads; Invalid, with places, when it is no SELECT, or does not fit the data."""
    from tulle.engine.statement import read_statement  # noqa: PLC0415  a worker imports this module and reads no SQL

    if spec.connection:
        return _bundle_database_query(spec, bundle)
    places = spec.places
    statement = read_statement(spec.sql, f"the SQL of endpoint '{spec.name}'")
    if statement.problems:
        problem = statement.problems[0]
        raise invalid(f"endpoint '{spec.name}': {problem.message}", places.get("sql"), problem.hint)
    if "?" in statement.parameters:
        raise invalid(f"endpoint '{spec.name}': '?' stands for nothing", places.get("sql"), "name it: $name")
    parameters = _parameters(spec, statement.parameters)
    relations, files, commits = [], {}, {}
    for name in statement.reads:
        said, data_set = spec.data_sets.get(name, ("", name))
        product = said or bundle.product
        relation, files[name] = bundle.data(product, data_set, places.get("data_sets", places.get("sql")))
        relations.append(replace(relation, name=name))
        commits[product] = bundle.commits[product]
    examples = {parameter.name: _EXAMPLES[parameter.type] for parameter in parameters}
    try:
        columns = bundle.engine.describe(spec.sql, relations, parameters=examples)
    except Invalid as exc:
        raise invalid(f"endpoint '{spec.name}': {exc.message}", places.get("sql"), exc.hint) from exc
    check_queries(spec.test_queries, "", record_of(parameters, exact=True), places)
    needed = any(parameter.required for parameter in parameters)
    return QueryEntry(
        name=spec.name,
        sql=spec.sql,
        parameters=parameters,
        files=files,
        columns=tuple(Column(c.name, c.type) for c in columns),
        most_rows=spec.most_rows,
        commits=dict(sorted(commits.items())),
        bounds=spec.bounds,
        description=spec.description,
        test_queries=spec.test_queries,
        probe=answered(spec.test_queries) or (None if needed else {}),
    )


def _parameters(spec: QuerySpec, named: Sequence[str]) -> tuple[QueryParameter, ...]:
    """What callers send, in the order in which the SQL names it. Invalid for what it does not name, and defaults."""
    declared = {parameter.name: parameter for parameter in spec.parameters}
    place = spec.places.get("parameters")
    if unused := [name for name in declared if name not in named]:
        hint = did_you_mean(unused[0], named) or f"write ${unused[0]} where its value is meant"
        raise invalid(f"the SQL has no parameter '{unused[0]}'", place, hint)
    parameters = tuple(declared.get(name, QueryParameter(name)) for name in named)
    try:
        record_of(parameters, exact=True).convert(
            {p.name: p.default for p in parameters if not p.required and p.default is not None}
        )
    except RequestError as error:
        raise invalid(f"a default does not fit: {error.message}", place, None) from None
    return parameters


def _bundle_database_query(spec: QuerySpec, bundle: Bundle) -> QueryEntry:
    """Have the database say what a query gives; Invalid, with places, when it is no SELECT, or cannot be asked."""
    from tulle.serving.database_sql import described, read_sql  # noqa: PLC0415  a worker imports this and reads no SQL
    from tulle.serving.store import demand_postgres  # noqa: PLC0415

    places = spec.places
    if other := only_of_files(places):
        message = f"'{other}' has no meaning where connection '{spec.connection}' answers"
        raise invalid(f"endpoint '{spec.name}': {message}", places[other], f"leave `{other}` out")
    try:
        asked = read_sql(spec.sql)
    except Invalid as exc:
        raise invalid(f"endpoint '{spec.name}': {exc.message}", places.get("sql"), exc.hint) from exc
    parameters = _parameters(spec, asked.parameters)
    # Text fits what it is compared with: nobody knows what would be an example of that.
    examples = {p.name: None if p.type == "string" else _EXAMPLES[p.type] for p in parameters}
    try:
        opened = bundle.connection(spec.connection)
        demand_postgres(opened)
    except TulleError as exc:
        raise invalid(exc.message, places.get("connection"), exc.hint) from exc
    try:
        statement, columns = described(opened, asked, examples, spec.most_rows)
    except TulleError as exc:
        raise invalid(f"endpoint '{spec.name}': {exc.message}", places.get("sql"), exc.hint) from exc
    check_queries(spec.test_queries, "", record_of(parameters, exact=True), places)
    return QueryEntry(
        name=spec.name,
        sql=spec.sql,
        parameters=parameters,
        files={},
        columns=columns,
        most_rows=spec.most_rows,
        commits={},
        bounds=spec.bounds,
        description=spec.description,
        connection=spec.connection,
        connections=spec.connections,
        statement=statement,
        test_queries=spec.test_queries,
        probe=None,  # whether it is well must not depend on what is elsewhere
    )
