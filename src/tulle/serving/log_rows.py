"""From what a worker noted to the rows of the query log: bodies and answers taken apart, an item a row.

Values that the contracts of the data do not let out are masked here, before anything is kept for longer. Pure: knows
nothing of files or of the lake.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import itemgetter
from typing import Any

import msgspec
import pyarrow as pa

from tulle.serving.log_segment import INFER, Record, SegmentHeader, SegmentRoute, Told

LOG = logging.getLogger("tulle")
MASK = "•••"
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,99}")
SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("item", pa.int64(), nullable=False),  # its place in a request for many
        pa.field("asked_at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("service", pa.string(), nullable=False),
        pa.field("environment", pa.string(), nullable=False),  # empty: that of consumers
        pa.field("endpoint", pa.string(), nullable=False),
        pa.field("action", pa.string(), nullable=False),
        pa.field("generation", pa.string(), nullable=False),
        pa.field("shadow", pa.bool_(), nullable=False),
        pa.field("caller", pa.string()),
        pa.field("way", pa.string()),  # by which the caller came in
        pa.field("status", pa.int64(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("microseconds", pa.int64(), nullable=False),  # of the whole request
        pa.field("steps", pa.string()),  # JSON: microseconds of each
        pa.field("sent", pa.string()),  # JSON
        pa.field("features", pa.string()),  # JSON: what the model was given
        pa.field("result", pa.string()),  # JSON
        pa.field("lookups", pa.string()),  # JSON
    ]
)
FEEDBACK_SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("item", pa.int64(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),  # JSON
        pa.field("told_at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("caller", pa.string()),
        pa.field("way", pa.string()),
    ]
)
_BODY = {"predict": "features", "lookup": "data"}  # the member of a request's body that holds values
_MANY = "-multi"  # the end of actions of requests for many
_RESULT = {"predict": "result", "function": "response", "compose": "response", "forecast": "results"}
_NOTHING = dict.fromkeys(SCHEMA.names)
# What of an answer to one prediction is not kept as it is, and how times are written where nobody else wrote them.
_TAKEN_APART = re.compile(rb'"(?:error|lookups|status|customKeys|features)"')
_TIMES = re.compile(rb'\{(?:"[A-Za-z]+":[0-9]+,?)*\}')


@dataclass(frozen=True, slots=True)
class Shown:
    """What of an endpoint's values may be kept, by their names.

    `closed`: none of them. `masked` keep their name alone, those `left_out` not even that. `known`: the only names
    that are kept of what was sent; None for any. Where people are named somewhere (`texts_masked`), texts are kept
    only under names that are `declared` to name nobody.
    """

    masked: frozenset[str] = frozenset()
    left_out: frozenset[str] = frozenset()
    known: frozenset[str] | None = None
    declared: frozenset[str] = frozenset()
    texts_masked: bool = False
    closed: bool = False

    @property
    def is_open(self) -> bool:
        """Whether every value is kept that has a name which is kept."""
        return not (self.closed or self.masked or self.left_out or self.texts_masked)

    def of(self, values: Any, *, is_sent: bool = False) -> Any:
        """The same values without what may not be kept."""
        if self.closed:
            return None
        if isinstance(values, list):
            return [self.of(value, is_sent=is_sent) for value in values]
        if not isinstance(values, dict):
            return None if is_sent else values  # what is sent has names, or is not what was asked for
        known = self.known if is_sent else None
        return {
            name: self._value(name, value)
            for name, value in values.items()
            if name not in self.left_out and (known is None or name in known)
        }

    def _value(self, name: str, value: Any) -> Any:
        if value is None:
            return None
        if name in self.masked:
            return MASK
        if isinstance(value, dict | list):
            return MASK if self.texts_masked and name not in self.declared else self.of(value)
        if self.texts_masked and isinstance(value, str) and name not in self.declared:
            return MASK
        return value


def query_rows(
    header: SegmentHeader, records: Sequence[Record], shown: Mapping[str, Shown], environment: str = ""
) -> Iterator[dict[str, Any]]:
    """The rows of a segment, with every column; an endpoint that `shown` does not tell of is closed."""
    closed = Shown(closed=True)
    routes = [
        (route, rule := shown.get(route.endpoint, closed), _is_simple(route, rule)) for route in header.routes
    ]
    for record in records:
        route, rule, is_simple = routes[record.route]
        whole = {
            **_NOTHING,
            "request_id": record.request_id,
            "item": 0,
            "asked_at": record.asked_ns // 1000,
            "service": header.service,
            "environment": environment,
            "endpoint": route.endpoint,
            "action": route.action,
            "generation": header.generation,
            "shadow": _is_shadow(record.host),
            "caller": _text(record.caller),
            "way": _text(record.way),
            "status": record.status,
            "microseconds": record.spent_ns // 1000,
        }
        if is_simple and record.status == 200 and (simple := _simple(route, record, rule)) is not None:
            whole.update(simple)
            yield whole
            continue
        try:
            items = list(_items(route, record, rule))
        except Exception:  # a request may be anything; what is not understood is kept without its content
            LOG.exception("the content of request %s is not logged", record.request_id)
            items = [{}]
        for number, one in enumerate(items):
            yield {**whole, "item": number, **one}


class _SimpleBody(msgspec.Struct):
    features: dict[str, msgspec.Raw]


class _SimpleAnswer(msgspec.Struct):
    result: msgspec.Raw
    timing: msgspec.Raw


_read_body = msgspec.json.Decoder(_SimpleBody).decode
_read_answer = msgspec.json.Decoder(_SimpleAnswer).decode
_write = msgspec.json.Encoder().encode


def _is_simple(route: SegmentRoute, rule: Shown) -> bool:
    return route.kind == "predict" and route.action == "predict" and rule.is_open


def _simple(route: SegmentRoute, record: Record, rule: Shown) -> dict[str, str | None] | None:
    """Of a prediction all of which is kept: its parts as they were written, several times quicker than read.

    None where it is anything else than nearly all of them are.
    """
    content, answer = record.content, record.answer
    if not isinstance(content, bytes) or answer is None:
        return None
    try:
        sent, said = _read_body(content).features, _read_answer(answer)
        if rule.known is not None and not sent.keys() <= rule.known:
            sent = {name: value for name, value in sent.items() if name in rule.known}
        result, timing = bytes(said.result), bytes(said.timing)
        if result[:1] != b"{" or _TAKEN_APART.search(result) or not _TIMES.fullmatch(timing):
            return None
        features = (
            _write(dict(zip(route.features, record.rows, strict=False))).decode() if record.rows else None
        )
        return {
            "steps": timing.decode(),
            "sent": _write(sent).decode(),
            "features": features,
            "result": result.decode(),
        }
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError):
        return None


def feedback_rows(told: Sequence[Told], shown: Callable[[bytes], bytes]) -> Iterator[dict[str, Any]]:
    """What was told, a row each; `shown` leaves of an outcome, as JSON, what may be kept."""
    for one in told:
        yield {
            "request_id": one.request_id,
            "item": one.item,
            "outcome": shown(one.outcome).decode(),
            "told_at": one.told_ns // 1000,
            "caller": _text(one.caller),
            "way": _text(one.way),
        }


def outcome_rule(shown: Mapping[str, Shown]) -> Shown:
    """The rule of what turned out, which may be of any endpoint: what one does not let out is not kept."""
    rules = [rule for rule in shown.values() if not rule.closed]
    masked = frozenset[str]().union(*(rule.masked for rule in rules))
    left_out = frozenset[str]().union(*(rule.left_out for rule in rules))
    return Shown(
        masked=masked,
        left_out=left_out,
        declared=frozenset[str]().union(*(rule.declared for rule in rules)) - masked - left_out,
        texts_masked=len(rules) < len(shown) or any(rule.masked or rule.texts_masked for rule in rules),
        closed=not rules,
    )


def shown_outcome(outcome: bytes, rule: Shown, classes: Collection[str] = ()) -> bytes:
    """What may be kept and shown of what turned out; both are JSON."""
    if not (rule.closed or rule.texts_masked or rule.left_out):
        return outcome
    return msgspec.json.encode(_outcome(msgspec.json.decode(outcome), rule, classes))


def _outcome(value: Any, rule: Shown, classes: Collection[str]) -> Any:
    if rule.closed:
        return MASK
    if isinstance(value, list):
        return [_outcome(one, rule, classes) for one in value]
    if isinstance(value, str) and rule.texts_masked and value not in classes:
        return MASK
    return rule.of(value)


def table_of(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table; times are microseconds since the epoch."""
    values = zip(*map(itemgetter(*schema.names), rows), strict=True)  # a row at a time is in the cache
    columns = []
    for field, column in zip(schema, values, strict=True):
        is_time = pa.types.is_timestamp(field.type)  # numbers become times much faster than values do
        made = pa.array(column, pa.int64() if is_time else field.type)
        columns.append(made.cast(field.type) if is_time else made)
    return pa.table(columns, schema=schema)


def _items(route: SegmentRoute, record: Record, rule: Shown) -> Iterator[dict[str, Any]]:
    """What differs between the items of a request; a single one for a request for one."""
    body, answer = _body(record.content), _json(record.answer)
    answer = answer if isinstance(answer, dict) else {}
    shared: dict[str, Any] = {"steps": _written(_steps(answer.get("timing")))}
    is_prediction = route.kind == "predict"
    if record.status != 200:
        # Refused as a whole: a small body may list very many, and each would be a row.
        sent = None if _is_many(route) else _sent(route, body)
        shared["error"] = _word(answer.get("errorType"))
        yield {**shared, "sent": _written(rule.of(sent, is_sent=True))}
        return
    if not _is_many(route):
        features = dict(zip(route.features, record.rows, strict=False)) if record.rows else None
        yield {
            **shared,
            "sent": _written(rule.of(_sent(route, body), is_sent=True)),
            "features": _written(rule.of(features)),
            **_answered(_result(route, answer), rule, is_prediction=is_prediction),
        }
        return
    if route.action == INFER:
        sent, results = _tensor_rows(route, body), _tensor_results(route, answer)
    else:
        sent, results = _sent_items(route, body), answer.get("results") or []
    enriched: dict[int, Any] = {}
    if record.rows:
        places, rows = record.rows
        enriched = {
            place: dict(zip(route.features, row, strict=False))
            for place, row in zip(places, rows, strict=True)
        }
    for number in range(max(len(sent), len(results), 1)):
        yield {
            **shared,
            "sent": _written(rule.of(sent[number], is_sent=True)) if number < len(sent) else None,
            "features": _written(rule.of(enriched.get(number))),
            **_answered(
                results[number] if number < len(results) else None, rule, is_prediction=is_prediction
            ),
        }


def _is_many(route: SegmentRoute) -> bool:
    """Whether a request has items; what was sent cannot say so, since callers write what they like."""
    return route.action.endswith(_MANY) or route.action == INFER


def _sent(route: SegmentRoute, body: Any) -> Any:
    """The values that were sent; None where they are not understood."""
    if not isinstance(body, dict):
        return None
    member = _BODY.get(route.kind)
    return body if member is None or route.action == "predict-simple" else body.get(member)


def _sent_items(route: SegmentRoute, body: Any) -> list[Any]:
    """The values of each item that was sent."""
    member = _BODY.get(route.kind, "")
    items = body.get("items") if isinstance(body, dict) else None
    if not isinstance(items, list):
        return []
    return [one.get(member, one) if isinstance(one, dict) else None for one in items]


def _tensor_rows(route: SegmentRoute, body: Any) -> list[dict[str, Any]]:
    """The values of each row of tensors, by name: one tensor a name, or one of all features in their order."""
    inputs = body["inputs"] if isinstance(body, dict) else ()
    columns: dict[str, list[Any]] = {}
    for tensor in inputs:
        values = tensor["data"]
        if values and isinstance(values[0], list):
            values = [value for row in values for value in (row if isinstance(row, list) else [row])]
        shape, width = tensor["shape"], len(route.features)
        if len(inputs) == 1 and len(shape) == 2 and shape[1] == width:
            columns = {name: values[place::width] for place, name in enumerate(route.features)}
        else:
            columns[tensor["name"]] = values
    if not columns:
        return []
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _tensor_results(route: SegmentRoute, answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The result of each row of tensors, as other predictions have it."""
    outputs = {one["name"]: one["data"] for one in answer.get("outputs") or ()}
    labels, shares = outputs.get("predict", ()), outputs.get("predict_proba", ())
    width = len(route.classes)
    results: list[dict[str, Any]] = [{"prediction": label} for label in labels]
    for place in range(len(shares) // width if width else 0):
        if place == len(results):
            results.append({})
        some = shares[place * width : (place + 1) * width]
        results[place]["probas"] = dict(zip(route.classes, some, strict=True))
    return results


def _result(route: SegmentRoute, answer: Mapping[str, Any]) -> Any:
    if route.kind == "lookup":
        results = answer.get("results")
        return results[0] if isinstance(results, list) and results else None
    if route.kind == "query":
        return {name: answer[name] for name in ("columns", "rows", "truncated") if name in answer}
    return answer.get(_RESULT.get(route.kind, ""))


def _answered(result: Any, rule: Shown, *, is_prediction: bool) -> dict[str, Any]:
    """Result, lookups and error of one item."""
    found: dict[str, Any] = {}
    if isinstance(result, dict):
        if isinstance(error := result.get("error"), dict) and isinstance(error.get("errorType"), str):
            found["error"] = _word(error["errorType"])
            result = {name: value for name, value in result.items() if name != "error"}
        lookups = result.get("lookups")
        if lookups is None and "status" in result and "data" in result:
            lookups = {name: result[name] for name in ("status", "eventTime") if name in result}
        if isinstance(lookups, list) and "data" in result:  # of several data sets, whose rows the result has
            lookups = [_without_rows(one) for one in lookups]
        found["lookups"] = _written(lookups)
    found["result"] = _written(shown_result(result, rule, is_prediction=is_prediction))
    return found


def _without_rows(look_up: Any) -> Any:
    if not isinstance(look_up, dict):
        return look_up
    return {name: value for name, value in look_up.items() if name not in {"found", "rows"}}


def kept_answer(kind: str, answer: Any, rule: Shown) -> tuple[Any, str | None]:
    """Result and error of an answer to one item, as a row of the log would have them; `answer` is JSON read."""
    said = answer if isinstance(answer, dict) else {}
    if "errorType" in said:
        return None, _word(said["errorType"])
    result = _result(SegmentRoute("", kind, "", []), said)
    found = _answered(result, rule, is_prediction=kind == "predict")
    kept = found["result"]
    return None if kept is None else msgspec.json.decode(kept), found.get("error")


def shown_result(result: Any, rule: Shown, *, is_prediction: bool) -> Any:
    """What may be kept and shown of a result."""
    if rule.closed:
        return None
    if (
        is_prediction
    ):  # its names are ours, and it holds no value of a row, but for what a predictor of their own adds
        if (
            isinstance(result, dict) and "features" in result
        ):  # told to the caller: they have a column of their own
            result = {name: value for name, value in result.items() if name != "features"}
        if not isinstance(result, dict) or "customKeys" not in result:
            return result
        is_careful = rule.texts_masked or bool(rule.masked or rule.left_out)
        return {**result, "customKeys": replace(rule, texts_masked=is_careful).of(result["customKeys"])}
    # A lookup has its row in `data`, and maybe further ones in `rows`.
    if isinstance(result, dict) and isinstance(result.get("data"), dict):
        shown = {name: rule.of(result[name]) for name in ("data", "rows") if name in result}
        if isinstance(
            lookups := result.get("lookups"), list
        ):  # of several data sets, maybe with rows of each
            has_rows = [isinstance(one, dict) and "rows" in one for one in lookups]
            shown["lookups"] = [
                {**one, "rows": rule.of(one["rows"])} if has else one
                for one, has in zip(lookups, has_rows, strict=True)
            ]
        return {**result, **shown}
    return rule.of(result)


def _word(error_type: Any) -> str | None:
    """The word for an error; what users' code says instead of one may quote anything."""
    if not isinstance(error_type, str):
        return None
    return error_type if _WORD.fullmatch(error_type) else "Error"


def _steps(timing: Any) -> dict[str, Any] | None:
    """Times alone: an answer that users' code writes whole may have anything there."""
    if not isinstance(timing, dict):
        return None
    return {name: took for name, took in timing.items() if isinstance(took, int | float)}


@lru_cache(1024)
def _is_shadow(host: bytes | None) -> bool:
    """Whether a request was copied to a generation whose answer nobody gets: the gateway marks its host."""
    return host is not None and (host.partition(b":")[0].endswith(b"-shadow") or host.endswith(b"-shadow"))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


def _body(content: bytes | Sequence[tuple[str, str]] | None) -> Any:
    if content is None or isinstance(content, bytes):
        return _json(content) if content else {} if content == b"" else None
    return dict(content)


def _json(content: bytes | None) -> Any:
    if not content:
        return None
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _written(value: Any) -> str | None:
    if value is None:
        return None
    try:
        return msgspec.json.encode(value).decode()
    except (
        ValueError,
        OverflowError,
        RecursionError,
        TypeError,
    ):  # numbers or depths that JSON has no place for
        return None
