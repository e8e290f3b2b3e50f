"""The plan as a pure function: what it says, in which order, what breaks whom, and its digest."""

from __future__ import annotations

from dataclasses import replace

from tulle.control.plan import Actual, make_plan
from tulle.spec.product import Column, DataProduct, DataSet, InputPort

PURCHASES = DataProduct(
    name="purchases",
    title="Purchases",
    domain="sales",
    description="what was bought",
    version="1.0.0",
    data_sets=(
        DataSet("purchases", "purchases", "", columns=(Column("id", "string"), Column("amount", "double"))),
    ),
    digest="p1",
)
FEATURES = DataProduct(
    name="features",
    title="Features",
    domain="customer",
    description="",
    input_ports=(InputPort("in", "in", "", product="purchases"),),
    digest="f1",
)
CODE = {"purchases": "c1", "features": "c2"}
APPLIED = {"purchases": Actual(PURCHASES, "c1"), "features": Actual(FEATURES, "c2")}
READERS = {"purchases": ["features"]}


def test_a_new_mesh_is_created_in_dependency_order() -> None:
    plan = make_plan([PURCHASES, FEATURES], CODE, {}, set(), READERS)
    assert [(s.operation, s.subject) for s in plan.steps] == [
        ("create-repository", "purchases"),
        ("register", "purchases"),
        ("create-repository", "features"),
        ("register", "features"),
    ]
    assert plan.steps[1].sentence == (
        "register product 'purchases' of domain 'sales' with 0 input ports, 1 data set, 0 output ports"
    )


def test_what_is_as_the_documents_say_needs_nothing() -> None:
    plan = make_plan([PURCHASES, FEATURES], CODE, APPLIED, {"purchases", "features"}, READERS)
    assert plan.steps == ()


def test_a_removed_column_is_breaking_and_names_who_reads_it() -> None:
    fewer = replace(
        PURCHASES,
        data_sets=(replace(PURCHASES.data_sets[0], columns=(Column("id", "string"),)),),
        digest="p2",
    )
    (step,) = make_plan([fewer, FEATURES], CODE, APPLIED, {"purchases", "features"}, READERS).steps
    assert step.action == "change"
    assert step.breaking
    assert any("amount" in detail.sentence for detail in step.details)
    assert any("'features' reads it" in detail.sentence for detail in step.details)


def test_changed_code_alone_is_an_update_that_breaks_nobody() -> None:
    plan = make_plan(
        [PURCHASES, FEATURES], {**CODE, "purchases": "c9"}, APPLIED, {"purchases", "features"}, READERS
    )
    (step,) = plan.steps
    assert not step.breaking
    assert step.details[0].sentence == "its transformations or checks changed"


def test_a_removed_product_is_retired_and_its_readers_are_named() -> None:
    (step,) = make_plan([FEATURES], CODE, APPLIED, {"purchases", "features"}, READERS).steps
    assert (step.operation, step.subject, step.breaking) == ("retire", "purchases", True)


def test_the_digest_names_the_plan() -> None:
    one = make_plan([PURCHASES], CODE, {}, set(), {})
    assert one.digest == make_plan([PURCHASES], CODE, {}, set(), {}).digest
    assert one.digest != make_plan([PURCHASES], CODE, {}, {"purchases"}, {}).digest
