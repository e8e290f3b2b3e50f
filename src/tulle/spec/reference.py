"""The reference page of product.yaml, made from the capability registry so that it cannot go stale.

python -m tulle.spec.reference > docs/reference/product-yaml.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from tulle.spec.capability import Capability, Registry, builtin_registry
from tulle.spec.columns import MAX_PRECISION
from tulle.spec.load import MAX_BYTES, MAX_DEPTH
from tulle.spec.validate import words_of

_HEAD = f"""\
# product.yaml

<!-- Made by `python -m tulle.spec.reference`; a test fails when it is stale. Do not edit by hand. -->

A data product is described by one YAML document, `products/<domain>/<product>/product.yaml`:

```yaml
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
metadata:
  name: purchases        # optional; default: the name of the data-product component, in kebab-case
spec:
  components:
  - name: sales          # a name for readers
    type: domain         # one of the component types below
    properties: {{}}       # what the type asks for
```

- Every property may be written plainly (`owner: me`) or as `owner: {{value: me}}`; both mean the same.
- `components:` may also stand at the top level beside an empty `spec:`.
- `properties:` may be empty or missing, or the placeholder `...`, where a type requires none.
- There is exactly one component of type `domain` and one of type `data-product`; no two components of the same
  type have the same name.
- Machine names are made from names for readers: products, domains and ports in kebab-case (`Files port` →
  `files-port`), data sets in snake_case from the last dotted part of `table_name`, else from the component's name.
- References (`data_set`, `associated_output_port`, `service_level_name`) must lead somewhere; products may not take
  from each other in a circle.
- `tulle validate` tells every problem at once with its place (`--format github` marks them in a change);
  `tulle schema` prints the JSON Schema of the whole document for editors, and the control plane serves it at
  `/mesh/v1/schema`.

**How values are read.** Only `true` and `false` are booleans: `yes`, `no`, `on` and `off` are text. Only decimal
numbers are numbers: `012`, `0x1f`, `1:30`, `1.0.0` and dates are text. Inside `{{ }}` and `[ ]` a comma ends a
value, so `'decimal(10,2)'` needs quotes there. Repeated keys, merge keys (`<<`), tags, several documents, more than
{MAX_DEPTH} levels of nesting and files over {MAX_BYTES // 1_000_000} MB are refused.

**Column types**: `string`, `integer` (64 bits), `double`, `decimal(precision,scale)` (precision up to
{MAX_PRECISION}), `boolean`, `date`, `timestamp`, `binary`.
"""


def reference_page(registry: Registry) -> str:
    """The page as Markdown: the document, then each component type with its properties and an example."""
    return _HEAD + "".join(f"\n{_section(capability)}" for capability in registry)


def _section(capability: Capability) -> str:
    lines = [f"## {capability.name}", "", capability.description, "", *_table(capability.schema)]
    for name, inner in _mappings(capability.schema, ()):
        lines += ["", f"`{name}`:", "", *_table(inner)]
    lines += ["", "```yaml", capability.example.rstrip("\n"), "```", ""]
    return "\n".join(lines)


def _table(schema: Mapping[str, Any]) -> Iterator[str]:
    yield "| property | | what it is | value |"
    yield "|---|---|---|---|"
    required = schema.get("required", ())
    for name, inner in schema["properties"].items():
        must = "required" if name in required else ""
        default = f"; default `{_shown(inner['default'])}`" if "default" in inner else ""
        value = f"{words_of(inner)}{default}".replace("|", "\\|")
        yield f"| `{name}` | {must} | {inner['description']} | {value} |"


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _mappings(schema: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The mappings inside: properties that are one, or lists of them, with their dotted names."""
    for name, inner in schema["properties"].items():
        found, suffix = (inner["items"], "[]") if inner.get("type") == "array" else (inner, "")
        if "properties" in found:
            at = (*path, name + suffix)
            yield ".".join(at), found
            yield from _mappings(found, at)


if __name__ == "__main__":
    sys.stdout.write(reference_page(builtin_registry()))
