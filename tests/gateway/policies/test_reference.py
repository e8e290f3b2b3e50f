"""The page about policies tells every kind as the code has it, and its examples are right."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tulle.gateway import processing
from tulle.gateway.envoy_errors import local_replies
from tulle.gateway.policies.kind import Kind, known_kinds
from tulle.gateway.policies.listed import parse_policies
from tulle.gateway.policies.mirror import MORE_SECRETS
from tulle.gateway.processing.secret_names import SECRETS

PAGE = Path(__file__).parents[3] / "docs/reference/policies.md"


def section(kind: Kind) -> Iterator[str]:
    """What the page has to say of a kind, beside its own words."""
    yield f"### `{kind.name}`"
    yield kind.summary
    yield "```yaml\n- " + kind.example.replace("\n", "\n  ") + "\n```"
    for name, schema in kind.properties.items():
        needed = " (needed)" if name in kind.required else ""
        yield f"| `{name}` | {schema['description']}{needed} |"


def test_every_kind_is_told_as_it_is() -> None:
    page = PAGE.read_text()
    parts = {part.split("`", 2)[1]: part for part in re.split(r"(?=^### `)", page, flags=re.MULTILINE)[1:]}
    assert list(parts) == sorted(kind.name for kind in known_kinds())
    for kind in known_kinds():
        for line in section(kind):
            assert line in parts[kind.name], f"{kind.name} lacks:\n{line}"


def test_the_examples_are_right() -> None:
    blocks = re.findall(r"^```yaml\n(- policy.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    found = {written.policy.kind for text in blocks for written in parse_policies(text)}
    assert found == {kind.name for kind in known_kinds()}


def row_of_error(row: str) -> tuple[set[tuple[int, str]], str]:
    """The pairs of status and errorType that a row of the page is about, and its words."""
    statuses, words, _ = (cell.strip() for cell in row.strip("| ").split(" | "))
    found = [0] if statuses == "as said" else [int(one) for one in statuses.split(", ")]
    return {(status, name) for status in found for name in re.findall(r"`([A-Z][A-Za-z]+)`", words)}, words


def by_envoy() -> Iterator[tuple[tuple[int, str], set[str], str]]:
    """Status and errorType of what Envoy is told to answer, its headers, and on what condition."""
    replies: Mapping[str, Any] = local_replies([one for kind in known_kinds() for one in kind.refusals])
    for mapper in replies["mappers"]:
        body = mapper["body_format_override"].get("json_format", {})
        by_status = mapper["filter"].get("status_code_filter", {}).get("comparison", {}).get("value", {})
        status = mapper.get("status_code", by_status.get("default_value", 0))
        headers = {one["header"]["key"] for one in mapper["headers_to_add"]}
        when = mapper["filter"].get("extension_filter", {}).get("typed_config", {}).get("expression", "")
        if "errorType" in body:
            yield (status, body["errorType"]), headers, when


def by_processor() -> Iterator[tuple[int, str]]:
    """Status and errorType of every refusal that stands in the processor's code."""
    for file in Path(str(processing.__file__)).parent.glob("*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "Refusal" and len(call.args) > 1:
                statuses, name = ast.walk(call.args[0]), call.args[1]
                for one in statuses:
                    if isinstance(one, ast.Constant) and isinstance(name, ast.Constant):
                        yield one.value, str(name.value)


def test_every_error_of_a_policy_is_told_with_its_status_and_no_other_one() -> None:
    (table,) = re.findall(
        r"^\| status \| .*?\n\|---.*?\n(.*?)\n\n", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    rows = [row_of_error(row) for row in table.splitlines()]
    told = {pair for pairs, _ in rows for pair in pairs}
    of_envoy, of_processor = [*by_envoy()], {*by_processor()}
    known = {pair for pair, _, _ in of_envoy} | of_processor
    # Of these the reply has whatever status the filter gave it.
    any_status = {name for status, name in known if not status}
    assert {pair for pair in told if pair[1] not in any_status} <= known
    # What routes answer by themselves is no policy's.
    of_policies = {pair for pair, _, when in of_envoy if when and "'direct_response'" not in when}
    wanted = of_policies | of_processor | {(401, "InvalidClient"), (403, "NoContract")}
    assert {pair for pair in wanted if pair[0]} <= told
    assert {name for _, name in wanted} <= {name for _, name in told}
    for pair, headers, _ in of_envoy:
        for pairs, words in rows:
            if pair in pairs:
                for header in headers & {"www-authenticate", "retry-after"}:
                    assert f"`{header}`" in words, pair


def test_the_page_tells_which_headers_are_not_mirrored() -> None:
    told = PAGE.read_text().partition("### `mirror`")[2].partition("### ")[0]
    words = re.sub(r"-\?_\?", "-", f"{SECRETS}|{MORE_SECRETS}").replace("^", "").replace("$", "").split("|")
    assert [word for word in words if f"`{word}`" not in told] == []
