"""The columns that a dbt project's data sets are made from, read from the SQL that dbt compiled.

Models between are looked through, so a column of a data set leads to columns of the product's other data sets.
Best effort: what cannot be followed leads nowhere. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tulle.engine.engine import ColumnType
from tulle.engine.statement import Statement, column_sources

Pairs = list[list[str]]
_Place = tuple[str, str]


def lineage(
    nodes: Sequence[Mapping[str, Any]], sources: Sequence[Mapping[str, Any]], wanted: Collection[str]
) -> dict[str, dict[str, Pairs]]:
    """For each wanted data set, by column, the columns of other data sets it is computed from."""
    return _Lineage(nodes, sources, wanted).told()


class _Lineage:
    def __init__(
        self,
        nodes: Sequence[Mapping[str, Any]],
        sources: Sequence[Mapping[str, Any]],
        wanted: Collection[str],
    ) -> None:
        self.wanted = set(wanted)
        self.names: dict[_Place, str] = {_place(s["place"]): str(s["data_set"]) for s in sources}
        self.by_place: dict[_Place, Mapping[str, Any]] = {}
        self.by_id = {str(s["unique_id"]): str(s["data_set"]) for s in sources}
        self.columns: dict[_Place, list[str]] = {
            _place(s["place"]): [name for name, _ in s.get("columns", ())] for s in sources
        }
        for node in nodes:
            if node["kind"] in {"model", "seed", "snapshot"} and node.get("columns"):
                place = _place(node["place"])
                self.by_place[place] = node
                self.columns[place] = [name for name, _ in node["columns"]]
                self.by_id[str(node["unique_id"])] = str(node["name"]).lower()
        self.known: dict[_Place, dict[str, Pairs]] = {}

    def told(self) -> dict[str, dict[str, Pairs]]:
        """Everything that is wanted."""
        return {
            str(node["name"]).lower(): self._own(place)
            for place, node in self.by_place.items()
            if str(node["name"]).lower() in self.wanted
        }

    def _own(self, place: _Place) -> dict[str, Pairs]:
        """The columns of one node and what they are made from; what lies between is looked through."""
        if place in self.known:
            return self.known[place]
        self.known[place] = {}  # a model that reads itself adds nothing
        node = self.by_place[place]
        found: dict[str, Pairs] = {}
        if node["language"] == "python":
            reads = [[self.by_id[each], ""] for each in node["reads"] if each in self.by_id]
            found = dict.fromkeys(self.columns[place], reads)
        elif node["compiled"]:
            found = self._of_sql(str(node["compiled"]), place)
        self.known[place] = found
        return found

    def _of_sql(self, sql: str, own: _Place) -> dict[str, Pairs]:
        try:
            tree = sqlglot.parse_one(sql, dialect="duckdb")
        except (SqlglotError, RecursionError):
            return {}
        if not isinstance(tree, exp.Query):
            return {}
        called: dict[str, _Place] = {}
        for table in tree.find_all(exp.Table):
            if not table.db:
                continue
            place = table.db.lower(), table.name.lower()
            name = f"_t{len(called)}"
            called[name] = place
            alias = table.alias or table.name
            table.replace(exp.to_table(name).as_(alias, table=True))
        columns = {
            name: [ColumnType(column, "string") for column in self.columns.get(place, ())]
            for name, place in called.items()
        }
        traced = column_sources(Statement(sql, "", tree=tree), columns)
        found: dict[str, Pairs] = {}
        for column, origins in traced.items():
            pairs: dict[tuple[str, str], None] = {}
            for origin in origins:
                place = called.get(origin.relation, ("", ""))
                for pair in self._leads_to(place, origin.column, own):
                    pairs[pair] = None
            found[column] = [list(pair) for pair in pairs]
        return found

    def _leads_to(self, place: _Place, column: str, own: _Place) -> list[tuple[str, str]]:
        if place in self.names:
            return [(self.names[place], column)]
        node = self.by_place.get(place)
        if node is None or place == own:
            return []
        name = str(node["name"]).lower()
        if name in self.wanted or node["kind"] == "seed":
            return [(name, column)]
        below = {key.lower(): pairs for key, pairs in self._own(place).items()}
        return [(pair[0], pair[1]) for pair in below.get(column.lower(), ())]


def _place(given: Sequence[Any]) -> _Place:
    schema, name = given
    return str(schema).lower(), str(name).lower()
