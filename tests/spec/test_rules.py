"""What is wrong between the components of one document, and beyond their schemas."""

from __future__ import annotations

import pytest
from tests.spec.conftest import HEAD, a_product, problems_of

from tulle.errors import Place

DATA_SET = "  - {name: purchases, type: data-set, properties: {description: x}}\n"


def one(components: str, head: str = HEAD) -> tuple[str, str]:
    (only,) = problems_of(components, head)
    assert only.place
    assert only.place.line
    return only.message, only.hint or ""


def test_exactly_one_domain_and_one_product() -> None:
    head = "apiVersion: core.oam.dev/v1beta1\nkind: DataProduct\nspec:\n  components:\n"
    found = problems_of(DATA_SET, head)
    assert [p.message for p in found] == [
        "the product has no component of type 'domain'",
        "the product has no component of type 'data-product'",
    ]
    assert found[0].place == Place("product.yaml", 4, 3)
    message, hint = one("  - {name: hr, type: domain}\n")
    assert message == "a second component of type 'domain': 'hr'"
    assert hint.endswith("the first is at line 5")


def test_names_of_components_differ() -> None:
    message, hint = one(DATA_SET + DATA_SET)
    assert message == "a second data-set named 'purchases'"
    assert "line 7" in hint
    message, _ = one(DATA_SET + "  - {name: Purchases!, type: data-set, properties: {description: x}}\n")
    assert message == "'Purchases!' makes the same data set 'purchases' as 'purchases'"
    port = "  - {name: NAME, type: output-port, properties: {description: x}}\n"
    message, _ = one(port.replace("NAME", "A port") + port.replace("NAME", "a-port"))
    assert message == "'a-port' makes the same output port 'a-port' as 'A port'"


def test_input_ports_fill_different_data_sets() -> None:
    first = port("data_set: raw, source: {type: file, path: a.csv}")
    message, _ = one(first.replace("name: in", "name: a") + first.replace("name: in", "name: b"))
    assert message == "input-port 'b' fills the data set 'raw', as 'a' does"


def test_references_lead_somewhere() -> None:
    port = "  - {name: p, type: output-port, properties: {description: x, data_set: purchase}}\n"
    assert one(DATA_SET + port) == (
        "output-port 'p' offers 'purchase', which is no data set of this product",
        "did you mean 'purchases'?",
    )
    assert one(port)[1] == "add a component of type data-set"
    level = "  - {name: Fresh daily, type: service-level-asset, properties: {description: x}}\n"
    indicator = level.replace("Fresh daily", "i").replace("asset", "indicator")
    indicator = indicator.replace("description: x", "description: x, service_level_name: Fresh dayly")
    assert one(level + indicator) == (
        "indicator 'i' measures 'Fresh dayly', which is no service level here",
        "did you mean 'Fresh daily'?",
    )


def test_an_output_port_offers_the_only_data_set() -> None:
    port = "  - {name: p, type: output-port, properties: {description: x}}\n"
    assert a_product(DATA_SET + port).output_ports[0].data_set == "purchases"
    second = DATA_SET.replace("purchases", "returns")
    assert a_product(DATA_SET + second + port).output_ports[0].data_set == ""
    assert a_product(port).output_ports[0].data_set == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ab", "the product's name 'ab', made from 'ab', is not 3 to 63 characters"),
        ("数据", "the product's name '', made from '数据', is not 3 to 63 characters"),
        ("x" * 64, f"the product's name '{'x' * 60}…', made from '{'x' * 60}…', is not 3 to 63 characters"),
    ],
)
def test_a_product_needs_a_machine_name(name: str, message: str) -> None:
    head = HEAD.replace("{name: purchases, type: data-product", f"{{name: {name}, type: data-product")
    found, hint = one("", head)
    assert found == message
    assert "metadata" in hint
    named = head.replace("spec:", "metadata: {name: my-name}\nspec:")
    assert a_product("", named).name == "my-name"


@pytest.mark.parametrize("written", ["1st", "models", "数据", "x" * 64])
def test_data_sets_need_a_machine_name(written: str) -> None:
    message, hint = one(f"  - {{name: {written}, type: data-set, properties: {{description: x}}}}\n")
    assert "data set" in message
    assert "table_name" in hint
    mended = f"  - {{name: {written}, type: data-set, properties: {{description: x, table_name: a.b.Good name}}}}\n"
    assert a_product(mended).data_sets[0].name == "good_name"


def columns(*written: str) -> str:
    lines = "".join(f"      - {column}\n" for column in written)
    return f"  - name: purchases\n    type: data-set\n    properties:\n      description: x\n      columns:\n{lines}"


def test_columns() -> None:
    message, hint = one(columns("{name: a, type: string}", "{name: A, type: date}"))
    assert message == "the column 'A' is given twice in data-set 'purchases'"
    assert "line 12" in hint
    assert (
        one(columns("{name: a, type: 'decimal(2,4)'}"))[0]
        == "the scale of 'decimal(2,4)' is larger than its precision"
    )
    message, hint = one(columns("{name: a, type: varchar(20)}"))
    assert message.startswith(
        "'type' in 'columns[0]' in data-set 'purchases' is the text 'varchar(20)', expected string,"
    )
    assert hint == "write 'string'"


def test_rules_also_see_components_their_schema_refused() -> None:
    found = problems_of(columns("{name: a, type: strng}", "{name: a, type: date}", "{name: b}", "5"))
    assert [p.place.line for p in found if p.place] == [12, 13, 14, 15]


def port(properties: str) -> str:
    return f"  - {{name: in, type: input-port, properties: {{description: x, {properties}}}}}\n"


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ("source: {type: file, path: a.txt}", "the ending of 'a.txt' does not tell how the file is written"),
        (
            "source: {type: file, path: a.txt, format: whitespace, header: false}",
            "a whitespace file without a header needs its columns named",
        ),
        (
            "source: {type: file, path: a.csv, header: false}",
            "a csv file without a header needs its columns named",
        ),
        ("source: {type: file, path: a.json, header: true}", "'header' has no meaning for a json file"),
        (
            "source: {type: file, path: a.parquet, encoding: utf-8}",
            "'encoding' has no meaning for a parquet file",
        ),
        (
            "source: {type: file, path: a.csv}, product: other",
            "input-port 'in' has both a source and 'product'",
        ),
        (
            "source: {type: file, path: a.csv}, associated_output_port: p",
            "input-port 'in' has both a source and 'associated_output_port'",
        ),
        ("product: other", "input-port 'in' names a product but not its output port"),
    ],
)
def test_input_ports(properties: str, message: str) -> None:
    assert one(port(properties))[0] == message


@pytest.mark.parametrize(
    ("path", "form", "delimiter"),
    [
        ("a.csv", "csv", ","),
        ("a.tsv.gz", "csv", "\t"),
        ("data/*.JSONL", "json", ","),
        ("a.ndjson", "json", ","),
        ("a.parquet", "parquet", ","),
    ],
)
def test_the_format_is_told_by_the_ending(path: str, form: str, delimiter: str) -> None:
    source = a_product(port(f"source: {{type: file, path: '{path}'}}")).input_ports[0].source
    assert source
    assert (source.format, source.delimiter) == (form, delimiter)


def test_a_tab_may_be_written_as_an_escape() -> None:
    source = a_product(port(r"source: {type: file, path: a.csv, delimiter: '\t'}")).input_ports[0].source
    assert source
    assert source.delimiter == "\t"


def test_dates_must_exist() -> None:
    agreement = "  - {name: a, type: data-sharing-agreement, properties: {description: x, expires: DATE}}\n"
    assert a_product(agreement.replace("DATE", "2028-02-29")).agreements[0].expires == "2028-02-29"
    assert one(agreement.replace("DATE", "2027-02-29"))[0] == "there is no day '2027-02-29'"
    assert "expected a date such as" in one(agreement.replace("DATE", "tomorrow"))[0]
    assert "expected a date such as" in one(agreement.replace("DATE", "2027-2-1"))[0]
