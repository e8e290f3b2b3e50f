"""Steps carried out as one: in time, again, kept, for each entry of a list, nested in one another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.serving.conftest import Mesh
from tests.serving.test_compose import ask, build, product  # noqa: F401  a fixture
from tests.serving.test_function import Product

from tulle.serving import asked as bounds
from tulle.serving.asked import Asked
from tulle.serving.request import RequestError
from tulle.serving.step_form import calls_at_once
from tulle.serving.step_group import taken_by
from tulle.serving.steps import sequence


class Callee:
    """What steps of these tests call: it is sent JSON, and `work` gives the value."""

    waits = True
    name = "it"

    def __init__(self, work: Callable[[Any], Any], *, may_repeat: bool = True, for_all: bool = False) -> None:
        self.work, self.may_repeat, self.for_all = work, may_repeat, for_all
        self.sent: list[Any] = []
        self.commit = b"a"
        self.running = self.most = 0

    def content(self, sent: Any) -> bytes:
        return json.dumps(sent).encode()

    def key(self, content: bytes) -> bytes:
        return content + self.commit

    def ask(self, content: bytes, _asked: Asked) -> Any:
        return self._answer(json.loads(content))

    async def _answer(self, sent: Any) -> Any:
        self.sent.append(sent)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            given = self.work(sent)
            return await given if asyncio.iscoroutine(given) else given
        finally:
            self.running -= 1

    def may_retry(self, error: RequestError) -> bool:
        return error.status >= 500


def carried_out(text: str, callee: Callee, *inputs: dict[str, Any], asked: Asked | None = None) -> list[Any]:
    """The values after the steps, or the error, of one request after the other."""
    target_of: Any = lambda _said, is_kept: _kept(callee, is_kept)  # noqa: E731
    steps = sequence(yaml.safe_load(text), target_of)

    async def work() -> list[Any]:
        found: list[Any] = []
        for given in inputs:
            values = {"input": given}
            try:
                waited = steps(values, asked or Asked("r", []))
                if waited is not None:
                    await waited
                found.append({name: value for name, value in values.items() if name != "input"})
            except RequestError as error:
                found.append((error.status, error.error_type, error.message))
        return found

    return asyncio.run(work())


def _kept(callee: Callee, is_kept: bool) -> Callee:
    callee.for_all = is_kept
    return callee


def test_steps_of_every_kind_are_nested_and_told_of(mesh: Mesh, product: Product, tmp_path: Path) -> None:  # noqa: F811
    log = tmp_path / "log"
    loaded = build(
        mesh,
        product,
        f"""
        input: {{customers: {{type: list}}}}
        steps:
        - name: sides
          parallel:
          - name: scored
            map: $input.customers
            as: who
            on_failure: leave_out
            steps:
            - {{name: profile, call: profile, with: {{customer_id: $who}}}}
            - {{name: chance, call: high-value, with: {{customer_id: $who}}, cache: 60}}
            - {{name: it, value: {{who: $who, spend: $profile.spend, prediction: $chance.prediction}}}}
          - name: slow
            timeout: 0.2
            fallback: too late
            steps: [{{name: work, call: work, with: {{what: x, seconds: 20}}}}]
          - name: again
            retry: 2
            steps:
            - {{name: first, call: work, with: {{what: begun, log: {log}}}}}
            - {{name: then, call: work, with: {{what: second, log: {log}}}}}
        - name: kind
          cache: 60
          switch:
          - when: $(len(scored) > 1)
            steps: [{{name: many, call: work, with: {{what: many, log: {log}}}}}]
          - steps: [{{name: few, value: few}}]
        output: {{scored: $scored, slow: $slow, again: $again.done, kind: $kind.done?}}
        """,
    )
    first, second = ask(loaded, *[{"customers": ["00003", "nobody", "00150"]}] * 2)
    assert isinstance(first, dict), first
    assert [one["who"] for one in first["response"]["scored"]] == ["00003", "00150"]
    assert all(one["spend"] > 0 and one["prediction"] in (0, 1) for one in first["response"]["scored"])
    assert first["response"] == second["response"]
    assert (first["response"]["slow"], first["response"]["again"]) == ("too late", "second")
    assert first["response"]["kind"] == "many"
    assert log.read_text().split() == ["begun", "second"] * 2 + ["many"] + ["begun", "second"]
    assert [(one["step"], one["item"], one["status"]) for one in first["failed"]] == [("scored", 1, 404)]
    assert first["failed"][0]["message"].startswith("step 'scored.profile': nothing is known of")
    told = {step["name"]: step for step in first["steps"]}
    assert {"scored.profile", "scored.chance", "scored", "slow", "again.first", "again.then", "again"} <= set(
        told
    )
    assert (told["slow"]["status"], told["slow"]["error"], told["slow"]["fallback"]) == (
        504,
        "TookTooLong",
        True,
    )
    assert told["again"]["attempts"] == 1
    assert {"name": "kind", "cached": True}.items() <= second["steps"][-1].items()
    assert list(first["timing"]).count("again.first") == 1
    assert first["timing"]["again"] >= first["timing"]["again.first"]


def test_a_group_is_tried_again_as_a_whole_where_that_does_no_harm() -> None:
    def work(sent: Any) -> Any:
        if sent == {"second": 1} and len(callee.sent) < 6:
            raise RequestError(503, "Busy", "not now")
        if sent == {"second": 2}:
            raise RequestError(404, "NoMatch", "nobody")
        return sent

    text = """
    - name: both
      retry: 4
      steps: [{name: a, call: it, with: {first: $input.n}}, {name: b, call: it, with: {second: $input.n}}]
    """
    callee = Callee(work)
    (found,) = carried_out(text, callee, {"n": 1})
    assert found == {"both": {"second": 1}}  # and nothing of what is in it
    assert callee.sent == [{"first": 1}, {"second": 1}] * 3
    callee = Callee(work)
    assert carried_out(text, callee, {"n": 2}) == [(404, "NoMatch", "step 'both.b': nobody")]
    assert len(callee.sent) == 2  # the caller is to blame
    callee = Callee(work, may_repeat=False)
    assert carried_out(text, callee, {"n": 1}) == [(503, "Busy", "step 'both.b': not now")]
    assert len(callee.sent) == 2  # the first has done its work


def test_what_takes_too_long_is_ended_with_all_that_is_in_it() -> None:
    ended = []

    async def forever() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(1)

    text = """
    - name: late
      timeout: 0.05
      retry: 1
      on_failure: leave_out
      parallel:
      - {name: a, call: it}
      - {name: b, steps: [{name: c, value: 1}, {name: d, call: it}]}
    - {name: then, value: '$(default(late, "nothing"))'}
    """
    asked = Asked("r", [])
    (found,) = carried_out(text, Callee(lambda _: forever()), {}, asked=asked)
    assert found == {"then": "nothing"}
    assert len(ended) == 4
    assert [(one["step"], one["errorType"]) for one in asked.failed] == [("late", "TookTooLong")]
    assert asked.steps()[-1]["attempts"] == 2


def test_what_is_kept_depends_on_what_is_taken_and_on_nothing_else() -> None:
    text = """
    - {name: more, value: $input.z}
    - name: both
      cache: 60
      parallel:
      - {name: a, call: it, with: {x: $input.x}}
      - name: b
        steps:
        - {name: c, value: $(more + 1)}
        - {name: d, call: it, with: {y: "$input.y?", c: $c}}
    """
    assert taken_by(yaml.safe_load(text)[1]) == ["$c", "$input.x", "$input.y", "$more"]
    callee = Callee(lambda sent: sent)
    same = {"x": 1, "y": 2, "z": 3}
    first, again = carried_out(text, callee, same, same | {"other": 9})
    assert first == again
    assert first["b"] == {"y": 2, "c": 4}  # steps beside one another are known after them, kept or not
    assert len(callee.sent) == 2
    assert callee.for_all  # nothing of the request has a part in it
    callee = Callee(lambda sent: sent)
    missing = {"x": 1, "z": 3}
    carried_out(text, callee, same, same | {"x": 2}, same | {"y": None}, missing, same | {"z": 4}, same)
    assert len(callee.sent) == 10


def test_what_stands_in_for_a_failure_is_not_kept() -> None:
    failing = [True]

    def work(_: Any) -> Any:
        if failing.pop() if failing else False:
            raise RequestError(503, "Busy", "not now")
        return 1

    text = "- {name: a, cache: 60, steps: [{name: b, call: it, fallback: 0}]}"
    callee = Callee(work)
    assert carried_out(text, callee, {}, {}, {}) == [{"a": 0}, {"a": 1}, {"a": 1}]
    assert len(callee.sent) == 2


def test_what_was_answered_from_another_commit_is_not_taken_again() -> None:
    def work(_: Any) -> Any:
        commits, callee.commit = callee.commit, b"b"
        return commits.decode()

    callee = Callee(work)
    text = "- {name: a, cache: 60, switch: [{steps: [{name: b, call: it}]}]}"
    assert carried_out(text, callee, {}, {}, {}) == [{"a": "a"}, {"a": "b"}, {"a": "b"}]


def test_calls_and_entries_of_one_request_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
    - name: rows
      map: $input.rows
      as: row
      steps:
      - {name: cells, map: $row, as: cell, steps: [{name: some, map: $cell, call: it, with: {n: $item}}]}
    """
    assert calls_at_once(yaml.safe_load(text)) == 512
    rows = [[list(range(10))] * 10] * 10
    callee = Callee(lambda sent: sent["n"])

    async def work() -> Any:  # as a composition begins a request
        values: dict[str, Any] = {"input": {"rows": rows}}
        waited = sequence(yaml.safe_load(text), lambda _said, _kept: callee)(
            values, Asked("r", [], asyncio.Semaphore(bounds.MOST_CALLS))
        )
        assert waited is not None
        await waited
        return values["rows"]

    assert asyncio.run(work()) == rows
    assert len(callee.sent) == 1000
    assert 8 < callee.most <= bounds.MOST_CALLS
    monkeypatch.setattr(bounds, "MOST_ENTRIES", 1000)
    (found,) = carried_out(text, callee, {"rows": rows})
    assert found[:2] == (422, "TooMany")
    assert found[2].endswith("its steps are carried out for more than 1,000 entries of lists")


def test_nothing_is_left_that_was_never_begun(recwarn: pytest.WarningsRecorder) -> None:
    text = """
    - name: both
      fallback: none
      parallel:
      - {name: a, steps: [{name: b, call: it}, {name: c, value: 1}]}
      - {name: d, steps: [{name: e, parallel: [{name: f, call: it}]}], timeout: 5}
      - {name: g, steps: [{name: h, value: $input.nothing}]}
    """
    callee = Callee(lambda sent: sent)
    assert carried_out(text, callee, {}) == [{"both": "none"}]
    assert callee.sent == []
    assert not recwarn.list
