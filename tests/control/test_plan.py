"""The plan as a pure function: what it says, in which order, what breaks whom, and its digest."""

from __future__ import annotations

from dataclasses import replace

from tulle.control.plan import Detail, Plan, Standing, make_plan
from tulle.spec.compare import Change
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
BOTH = {"purchases", "features"}


def standing(product: DataProduct, **files: str) -> Standing:
    return Standing(
        product, files={f"transform/{name}.sql": digest for name, digest in files.items()}, services={}
    )


APPLIED = {"purchases": standing(PURCHASES, a="1"), "features": standing(FEATURES)}


def plan(*desired: Standing, repositories: set[str] = BOTH) -> Plan:
    return make_plan(desired, APPLIED, repositories, hits=hits)


def hits(change: Change, old: DataProduct, _new: DataProduct | None) -> tuple[str, ...]:
    return (f"product 'features' uses {change.column or 'it'} of {old.name}",)


def test_a_new_mesh_is_created_in_dependency_order() -> None:
    made = make_plan([standing(PURCHASES), standing(FEATURES)], {}, set())
    assert [(s.operation, s.subject) for s in made.steps] == [
        ("create-repository", "purchases"),
        ("register", "purchases"),
        ("create-repository", "features"),
        ("register", "features"),
    ]
    assert made.steps[1].sentence == (
        "register product 'purchases' of domain 'sales' with 0 input ports, 1 data set, 0 output ports"
    )


def test_what_is_as_the_documents_say_needs_nothing() -> None:
    made = plan(standing(PURCHASES, a="1"), standing(FEATURES))
    assert made.steps == ()
    assert made.basis == {}


def test_a_removed_column_is_breaking_and_says_whom_it_hits() -> None:
    fewer = replace(
        PURCHASES,
        data_sets=(replace(PURCHASES.data_sets[0], columns=(Column("id", "string"),)),),
        digest="p2",
    )
    made = plan(standing(fewer, a="1"), standing(FEATURES))
    (step,) = made.steps
    assert step.action == "change"
    assert step.breaking
    assert step.details == (
        Detail(
            "data-set purchases: column 'amount' is removed",
            True,
            ("product 'features' uses amount of purchases",),
        ),
    )
    (refused,) = made.refusals
    assert (
        "promises backward compatibility, but data-set purchases: column 'amount' is removed"
        in refused.message
    )
    released = replace(fewer, version="2.0.0")
    assert plan(standing(released, a="1"), standing(FEATURES)).refusals == ()


def test_changed_files_of_the_code_are_named() -> None:
    (step,) = plan(standing(PURCHASES, a="2", b="1"), standing(FEATURES)).steps
    assert not step.breaking
    assert [d.sentence for d in step.details] == ["transform/a.sql changed", "transform/b.sql is added"]
    (step,) = plan(standing(PURCHASES), standing(FEATURES)).steps
    assert [d.sentence for d in step.details] == ["transform/a.sql is removed"]


def test_many_changed_files_are_counted() -> None:
    (step,) = plan(standing(PURCHASES, **{f"f{n}": "1" for n in range(30)}), standing(FEATURES)).steps
    assert len(step.details) == 13
    assert step.details[-1].sentence == "19 further files of its code changed"


def test_code_of_which_the_files_were_not_kept_is_still_noticed() -> None:
    before = {"purchases": Standing(PURCHASES, "c1")}
    (step,) = make_plan([Standing(PURCHASES, "c2")], before, BOTH).steps
    assert step.details == (Detail("its transformations or checks changed"),)


def test_a_removed_product_is_retired_and_whom_it_hits_is_told() -> None:
    (step,) = plan(standing(FEATURES)).steps
    assert (step.operation, step.subject, step.breaking) == ("retire", "purchases", True)


def test_what_capabilities_do_comes_before_the_step_that_makes_it_count() -> None:
    made = make_plan(
        [standing(PURCHASES)], {}, BOTH, provision=lambda new, _: (Detail(f"a topic for {new.name}"),)
    )
    assert [s.operation for s in made.steps] == ["provision", "register"]
    assert made.steps[0].sentence == "provision 1 thing for product 'purchases'"


def test_the_digest_names_steps_documents_and_code() -> None:
    one = make_plan([standing(PURCHASES)], {}, set())
    assert one.digest == make_plan([standing(PURCHASES)], {}, set()).digest
    others = [
        make_plan([standing(PURCHASES)], {}, {"purchases"}),
        make_plan([standing(PURCHASES, a="1")], {}, set()),
        make_plan([standing(replace(PURCHASES, digest="p9"))], {}, set()),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 4
