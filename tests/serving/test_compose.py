"""Compositions: steps in order, beside one another, by case and for each entry; what fails and what is done about it."""

from __future__ import annotations

import asyncio
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from tests.serving.conftest import Mesh
from tests.serving.test_function import Product

from tulle.errors import Invalid
from tulle.serving.endpoint import Headed
from tulle.serving.fit import misfits
from tulle.serving.index import READ_ERRORS
from tulle.serving.loaded import Loaded, load
from tulle.serving.path_values import condition_of, made_of, roots_of
from tulle.serving.request import RequestError
from tulle.serving.service import load_service

CODE = """
import time
from pathlib import Path
from tulle.sdk.function import ApiError

def work(what: str, log: str = "", seconds: float = 0) -> dict:
    if log:
        with open(log, "a") as file:
            file.write(what + "\\n")
    time.sleep(seconds)
    if what == "fail":
        raise ApiError("it will not", status=503, error_type="Broken")
    if what == "refuse":
        raise ApiError("not like this", status=400, error_type="Wrong")
    if what == "second" and Path(log).read_text().count("second") < 2:
        raise ApiError("not yet", status=500)
    return {"done": what}
"""
BASE = """
service: offers
endpoints:
- {name: work, type: function, file: work.py, pool: {floor: 1, ceil: 3}}
- {name: high-value, type: predict, model: high_value,
   enrich: [{product: customer-features, data_set: customer_features, key: customer_id}]}
- {name: profile, type: lookup, product: customer-features, data_set: customer_features, key: customer_id}
- name: alike
  type: query
  sql: SELECT customer_id, spend FROM customer_features WHERE vip = $vip ORDER BY customer_id LIMIT 3
  data_sets: {customer_features: {product: customer-features, data_set: customer_features}}
  parameters: {vip: {type: boolean}}
"""


def composed(text: str) -> str:
    """The base and one composition, `it`."""
    return BASE + textwrap.indent(textwrap.dedent(text), "  ").replace(
        "  ", "- name: it\n  type: compose\n  ", 1
    )


@pytest.fixture
def product(tmp_path: Path) -> Product:
    folder = tmp_path / "product"
    (folder / "functions").mkdir(parents=True)
    (folder / "functions/work.py").write_text(CODE)
    return Product(folder)


def build(mesh: Mesh, product: Product, text: str) -> Loaded:
    built = mesh.build(composed(text), product=product)
    return load(mesh.unpacked(built), "g1")


def ask(loaded: Loaded, *bodies: Any) -> list[Any]:
    """Whole answers, with their steps, or the errors."""

    async def work() -> list[Any]:
        action = loaded.endpoints["it"].actions["run"]
        assert isinstance(action, Headed)
        found: list[Any] = []
        for body in bodies:
            try:
                answer = await action.call(json.dumps(body).encode(), "r-1", [(b"tulle-steps", b"1")])
                found.append(json.loads(answer.body))
            except RequestError as error:
                found.append((error.status, error.error_type, error.message))
        loaded.close()
        return found

    return asyncio.run(work())


def test_a_customers_number_becomes_an_offer(mesh: Mesh, product: Product) -> None:
    loaded = build(
        mesh,
        product,
        """
        input: {customer: {}}
        steps:
        - name: both
          parallel:
          - {name: profile, call: profile, with: {customer_id: $input.customer}}
          - {name: value, call: high-value, with: {customer_id: $input.customer}}
        - {name: alike, call: alike, with: {vip: $profile.vip}}
        - name: each
          map: $alike
          as: other
          call: work
          with: {what: $other.customer_id}
        - name: offer
          switch:
          - when: {value: $value.prediction, equals: 1}
            steps: [{name: gold, value: {kind: gold, price: $$9}}]
          - when: {value: $profile.spend, above: 100}
            steps: [{name: silver, value: {kind: silver}}]
          - steps: [{name: none, value: {kind: none, why: $profile.nothing?}}]
        output:
          customer: $input.customer
          chance: $value.probas.1
          offer: $offer
          others: $each
          first: $alike.0.customer_id
        """,
    )
    low, high, unknown = ask(loaded, {"customer": "00003"}, {"customer": "00150"}, {"customer": "nobody"})
    _, predicted = asyncio.run(loaded.ask("high-value", {"features": {"customer_id": "00003"}}))
    assert low["response"] == {
        "customer": "00003",
        "chance": json.loads(predicted)["result"]["probas"]["1"],
        "offer": {"kind": "none", "why": None},
        "others": [{"done": "00001"}, {"done": "00003"}, {"done": "00005"}],
        "first": "00001",
    }
    assert high["response"]["offer"] in ({"kind": "gold", "price": "$9"}, {"kind": "silver"})
    assert [step["name"] for step in low["steps"]][:3] == ["profile", "value", "alike"]
    assert set(low["timing"]) == {"profile", "value", "alike", "each", "total"}
    assert set(low["apiContext"]["dataCommits"]) == {"customer-features", "high-value-customers"}
    status, error_type, message = unknown
    assert (status, error_type) == (404, "NoMatch")
    assert message.startswith(("step 'profile': nothing is known of", "step 'value': nothing is known of"))
    loaded.close()


def test_what_fails_is_tried_again_or_replaced(mesh: Mesh, product: Product, tmp_path: Path) -> None:
    log = tmp_path / "log"
    loaded = build(
        mesh,
        product,
        f"""
        input: {{what: {{}}, tries: {{default: none}}}}
        steps:
        - {{name: kept, call: work, with: {{what: fail, log: {log}}}, retry: 1, fallback: {{done: instead of, for: $input.what}}}}
        - {{name: again, call: work, with: {{what: second, log: {log}}}, retry: 2}}
        - {{name: slow, call: work, with: {{what: slow, seconds: 20}}, timeout: 0.2, fallback: null}}
        - {{name: last, call: work, with: {{what: $input.what}}}}
        output: [$kept, $again, $slow, $last]
        """,
    )
    good, refused, failed = ask(loaded, {"what": "x"}, {"what": "refuse"}, {"what": "fail"})
    assert good["response"] == [{"done": "instead of", "for": "x"}, {"done": "second"}, None, {"done": "x"}]
    kept, again, slow, last = good["steps"]
    assert (kept["status"], kept["error"], kept["attempts"], kept["fallback"]) == (503, "Broken", 2, True)
    assert (again["status"], again["attempts"]) == (200, 1)  # of the failed ones
    assert (slow["error"], slow["fallback"]) == ("TookTooLong", True)
    assert "error" not in last
    assert log.read_text().split()[:4] == ["fail", "fail", "second", "second"]
    assert refused == (400, "Wrong", "step 'last': not like this")
    assert failed == (503, "Broken", "step 'last': it will not")


def test_answers_are_taken_again_for_a_while(mesh: Mesh, product: Product, tmp_path: Path) -> None:
    log = tmp_path / "log"
    loaded = build(
        mesh,
        product,
        f"""
        input: {{what: {{}}}}
        steps: [{{name: work, call: work, with: {{what: $input.what, log: {log}}}, cache: 60}}]
        output: $work.done
        """,
    )
    answers = ask(loaded, {"what": "a"}, {"what": "a"}, {"what": "b"}, {"what": "a"})
    assert [answer["response"] for answer in answers] == ["a", "a", "b", "a"]
    assert [answer["steps"][0].get("cached", False) for answer in answers] == [False, True, False, True]
    assert log.read_text().split() == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: [{name: a}]\noutput: $a", "step 'a' has nothing to do"),
        ("steps: [{name: a, value: 1, call: work}]\noutput: $a", "step 'a' has both 'call' and 'value'"),
        ("steps: [{name: a, call: wrok}]\noutput: $a", "step 'a' calls 'wrok', which it cannot"),
        ("steps: [{name: a, call: it}]\noutput: $a", "step 'a' calls 'it', which it cannot"),
        ("steps: [{name: a, value: $b}]\noutput: $a", "step 'a': nothing before it gives '$b'"),
        ("steps: [{name: a, value: 1}]\noutput: $aa", "'output': nothing before it gives '$aa'"),
        ("steps: [{name: a, value: 1}, {name: a, value: 2}]\noutput: $a", "another value has that name"),
        ("steps: [{name: input, value: 1}]\noutput: 1", "another value has that name"),
        ("steps: [{name: a, value: '$b c'}]\noutput: 1", "is no path"),
        (
            "steps: [{name: a, parallel: [{name: b, value: 1}, {name: c, value: $b}]}]\noutput: 1",
            "step 'c': nothing before it gives '$b'",
        ),
        (
            "steps: [{name: a, switch: [{steps: [{name: b, value: 1}]}]}]\noutput: $b",
            "'output': nothing before it gives '$b'",
        ),
    ],
)
def test_what_cannot_be_composed_is_told(mesh: Mesh, product: Product, text: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        build(mesh, product, text)
    assert message in caught.value.problems[0].message
    assert str(caught.value.problems[0].place).startswith("services/s.yaml:")
    services = [load_service(composed(text), name="s.yaml")]
    found = [problem.message for problem in misfits(services, lambda _product, _data_set: None)]
    assert any(message in one for one in found)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("{name: a, call: work, retry: 6}", "5"),
        ("{name: a, call: work, most: 3}", "'map' is missing"),
        ("{name: a b, value: 1}", "expected a name"),
        ("{name: a, switch: [{when: {value: $input}, steps: [{name: b, value: 1}]}]}", "when"),
    ],
)
def test_a_step_of_another_form_is_told_at_its_place(step: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        load_service(composed(f"steps: [{step}]\noutput: 1"), name="s.yaml")
    assert any(message in str(problem) and problem.place for problem in caught.value.problems)


def test_values_are_put_together_from_others() -> None:
    values = {"a": {"b": [1, {"c": "x"}], "d e": None}, "n": 3}
    made = made_of({"p": "$a.b.1.c", "q": ["$n", "n", "$$n"], "r": "$a.z.y?", "s": 1.5})
    assert made(values) == {"p": "x", "q": [3, "n", "$n"], "r": None, "s": 1.5}
    assert list(roots_of({"x": ["$a.b", {"y": "$n"}], "z": "$$a"})) == ["a", "n"]
    for path in ("$a.b.2", "$a.b.x", "$a.z", "$n.a", "$a.b.-3"):
        with pytest.raises(RequestError, match="there is no"):
            made_of(path)(values)
    assert made_of("$s.²")({"s": {"²": 1}}) == 1  # a digit to Python, and no place in a list
    assert made_of("$s." + "1" * 5000 + "?")({"s": []}) is None
    deep: Any = "$n"
    for _ in range(150):
        deep = [deep]
    found = made_of(deep)(values)
    while isinstance(found, list):
        (found,) = found
    assert found == 3
    for path in ("$", "$1", "$a b", "$a."):
        with pytest.raises(ValueError, match="is no path"):
            made_of(path)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"value": "$n", "equals": 3}, True),
        ({"value": "$n", "not": 3}, False),
        ({"value": "$n", "above": 2, "below": 4}, True),
        ({"value": "$n", "above": "2"}, False),
        ({"value": "$t", "above": "a"}, True),
        ({"value": "$flag", "above": 0}, False),
        ({"value": "$n", "in": [1, "$n"]}, True),
        ({"value": "$none.a", "exists": False}, True),
        ({"value": "$n", "exists": True}, True),
        ({"value": "$none.a", "equals": None}, True),
        ({"value": "$(n * 2)", "equals": 6}, True),
        ({"value": "$$n", "equals": "$$n"}, True),
    ],
)
def test_conditions(condition: dict[str, Any], holds: bool) -> None:
    assert condition_of(condition)({"n": 3, "t": "b", "flag": True}) is holds


def test_what_fails_may_be_left_out_and_told(mesh: Mesh, product: Product) -> None:
    loaded = build(
        mesh,
        product,
        """
        input: {what: {}}
        steps:
        - name: both
          parallel:
          - {name: kept, call: work, with: {what: fine}}
          - {name: lost, call: work, with: {what: fail}, on_failure: leave_out}
        - {name: each, map: '$(["one", input.what, "two"])', call: work, with: {what: $item}, on_failure: leave_out}
        - {name: sum, value: $(1 / (len(input.what) - 3)), fallback: none}
        output: {lost: $lost?, kept: $kept.done, each: $each, both: $both, why: '$(default(lost.done, "left out"))', sum: $sum}
        """,
    )
    failed, bad = ask(loaded, {"what": "fail"}, {"what": "bad"})
    assert failed["response"]["lost"] is None
    assert failed["response"]["why"] == "left out"
    assert failed["response"]["kept"] == "fine"
    assert failed["response"]["each"] == [{"done": "one"}, {"done": "two"}]
    assert failed["response"]["both"] == {"kept": {"done": "fine"}}
    assert failed["response"]["sum"] == 1.0
    assert failed["failed"] == [
        {"step": "lost", "status": 503, "errorType": "Broken", "message": "step 'lost': it will not"},
        {
            "step": "each",
            "item": 1,
            "status": 503,
            "errorType": "Broken",
            "message": "step 'each': it will not",
        },
    ]
    assert [one["step"] for one in bad["failed"]] == ["lost"]
    assert bad["response"]["sum"] == "none"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "steps: [{name: a, call: work, on_failure: leave_out}]\noutput: $a.done",
            "'output' needs '$a', which may be left out",
        ),
        (
            "steps: [{name: a, call: work, on_failure: leave_out}, {name: b, value: $(a.done)}]\noutput: $b",
            "step 'b' needs '$a', which may be left out",
        ),
        (
            "steps: [{name: a, call: work, on_failure: leave_out, fallback: 1}]\noutput: 1",
            "has both 'fallback' and 'on_failure: leave_out'",
        ),
        (
            "steps: [{name: a, parallel: [{name: b, call: work}, {name: c, call: work}], fallback: 1}]\noutput: $b.done",
            "'output' needs '$b', which may be left out",
        ),
        ("steps: [{name: a, value: $(1 + )}]\noutput: $a", "is not understood at character"),
        ("steps: [{name: a, value: $(b + 1)}]\noutput: $a", "nothing before it gives '$b'"),
        (
            "steps: [{name: a, switch: [{when: $(open(1)), steps: [{name: b, value: 1}]}]}]\noutput: $a",
            "there is no function 'open'",
        ),
    ],
)
def test_an_expression_that_is_none_and_what_may_be_left_out_are_told(
    mesh: Mesh, product: Product, text: str, message: str
) -> None:
    with pytest.raises(Invalid) as caught:
        build(mesh, product, text)
    assert message in caught.value.problems[0].message


def test_an_entry_of_a_list_that_fails_ends_the_others(mesh: Mesh, product: Product, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    loaded = build(
        mesh,
        product,
        f"""
        input: {{first: {{}}}}
        steps:
        - name: each
          map: '$([input.first] + ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"])'
          call: work
          with: {{what: $item, log: {log}, seconds: 0.02}}
        output: $each
        """,
    )

    async def work() -> None:
        action = loaded.endpoints["it"].actions["run"]
        assert isinstance(action, Headed)
        with pytest.raises(RequestError, match="step 'each': it will not"):
            await action.call(b'{"first": "fail"}', "r-1", [])
        begun = log.read_text()
        await asyncio.sleep(0.2)  # for what would go on
        assert log.read_text() == begun
        assert "l" not in begun.split()
        answer = json.loads((await action.call(b'{"first": "z"}', "r-2", [])).body)
        assert [one["done"] for one in answer["response"]] == list("zabcdefghijkl")
        assert list(answer["timing"]) == ["each", "total"]  # each name once, whatever was called how often
        assert answer["timing"]["each"] >= 13 * 20_000
        loaded.close()

    asyncio.run(work())


def test_a_step_called_total_is_not_what_the_whole_took(mesh: Mesh, product: Product) -> None:
    loaded = build(mesh, product, "steps: [{name: total, call: work, with: {what: x}}]\noutput: $total.done")
    (answer,) = ask(loaded, {})
    assert (answer["response"], list(answer["timing"])) == ("x", ["total"])


def test_answers_that_are_kept_do_not_depend_on_who_asked(mesh: Mesh, tmp_path: Path) -> None:
    folder = tmp_path / "product"
    (folder / "functions").mkdir(parents=True)
    (folder / "functions/work.py").write_text(
        "from tulle.sdk.function import request\n\n"
        "def work(what: str) -> dict:\n    return {'who': request().headers.get('x-user')}\n"
    )
    loaded = build(
        mesh,
        Product(folder),
        """
        steps:
        - {name: kept, call: work, with: {what: a}, cache: 60}
        - {name: own, call: work, with: {what: a}}
        output: [$kept.who, $own.who]
        """,
    )

    async def work() -> None:
        action = loaded.endpoints["it"].actions["run"]
        assert isinstance(action, Headed)
        for user in ("ann", "bob"):
            answer = await action.call(b"{}", "r", [(b"x-user", user.encode())])
            assert json.loads(answer.body)["response"] == [None, user]
        loaded.close()

    asyncio.run(work())


def test_what_cannot_be_written_is_an_error_of_the_values(mesh: Mesh, product: Product) -> None:
    loaded = build(
        mesh,
        product,
        """
        input: {what: {default: null}}
        steps: [{name: a, value: '$({input.what: 1})'}]
        output: $a
        """,
    )
    nameless, good = ask(loaded, {}, {"what": "x"})
    assert nameless[:2] == (422, "NotJson")
    assert good["response"] == {"x": 1}


def test_a_damaged_index_is_not_hidden_by_a_fallback(mesh: Mesh, product: Product) -> None:
    """The worker itself has to hear of it: it starts anew, from a package that is unpacked again."""
    loaded = build(
        mesh,
        product,
        """
        input: {who: {}}
        steps:
        - name: both
          parallel:
          - {name: a, call: profile, with: {customer_id: $input.who}, fallback: null}
          - {name: b, call: work, with: {what: x}}
        - {name: each, map: '$([input.who])', call: profile, with: {customer_id: $item}, on_failure: leave_out}
        output: $both
        """,
    )
    profile = loaded.endpoints["profile"]

    def damaged(*_: Any) -> bytes:
        raise READ_ERRORS[0]("a page is not what it says")

    profile.finders[0].get = damaged  # type: ignore[attr-defined]
    loaded.replace(loaded.endpoints)

    async def work() -> None:
        action = loaded.endpoints["it"].actions["run"]
        assert isinstance(action, Headed)
        with pytest.raises(READ_ERRORS):
            await action.call(b'{"who": "00003"}', "r", [])
        loaded.close()

    asyncio.run(work())


def test_what_stands_in_for_a_failure_is_told_in_the_log(
    mesh: Mesh, product: Product, caplog: pytest.LogCaptureFixture
) -> None:
    """Callers do not see it, and somebody has to."""
    loaded = build(
        mesh,
        product,
        """
        input: {what: {}}
        steps:
        - {name: kept, call: work, with: {what: $input.what}, fallback: none}
        - {name: lost, call: work, with: {what: $input.what}, on_failure: leave_out}
        output: $kept
        """,
    )
    answers = ask(loaded, {"what": "fail"}, {"what": "fail"}, {"what": "refuse"})
    assert [answer["response"] for answer in answers] == ["none"] * 3
    told = [record.message for record in caplog.records if "step '" in record.message]
    assert told == [  # once for two failures; what the caller is to blame for is none
        "step 'kept' fails with 503 Broken and has its fallback (failures since this was told last: 1)",
        "step 'lost' fails with 503 Broken and is left out (failures since this was told last: 1)",
    ]
