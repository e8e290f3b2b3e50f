"""The component type `transformation`: data sets that a project of another tool makes, as that project stands.

Only what is declared is here; how such a project is read and run is known above.
"""

from __future__ import annotations

from tulle.spec.capability import Capability, Registry
from tulle.spec.schemas import entity, list_of, one_of, text

BASE = "transformation"
DBT = "dbt"
_WORD = {"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"^[^-\s][^\s]*$"}

TRANSFORMATION = entity(
    ["project"],
    description=text("what the project makes"),
    type=one_of((DBT,), "the tool the project is written for", default=DBT),
    project=text(
        "the project's folder, in the folder of the product",
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*/?$",
        **{"x-expected": "a folder of its own beside product.yaml, such as dbt"},
    ),
    environment=text(
        "the Python environment with the tool, by its name in mesh.yaml; default: that of Tulle"
    ),
    sources={
        "type": "object",
        "maxProperties": 1000,
        "description": "which data set a source is (`raw.orders: orders_raw`), where it is not called like the table",
        "additionalProperties": {
            "type": "string",
            "pattern": r"^[a-z][a-z0-9_]{0,62}$",
            "x-expected": "the name of a data set, in snake_case",
        },
    },
    variables={
        "type": "object",
        "maxProperties": 200,
        "description": "values for the project's variables, by name; never secrets: they are read by everybody",
    },
    target=text("the name the project knows its target by", default="prod", pattern=r"^[A-Za-z0-9_-]{1,60}$"),
    select=list_of(_WORD, "what of the project is built, in the tool's own words; default: all of it"),
    exclude=list_of(_WORD, "what of the project is left out, in the tool's own words"),
)

_SKELETON = """\
- name: shop models
  type: transformation
  properties:
    type: dbt
    project: dbt
"""
_EXAMPLE = """\
- name: shop models
  type: transformation
  properties:
    description: The models that the sales team has always had
    type: dbt
    project: dbt
    sources: {till.orders: orders_raw}
    variables: {currency: EUR}
"""


def register(registry: Registry) -> None:
    """Add the component type."""
    description = (
        "A project of another tool that makes data sets of the product, and runs as it is: a dbt project."
    )
    registry.add(Capability(BASE, "Transformation", description, TRANSFORMATION, _SKELETON, _EXAMPLE))
