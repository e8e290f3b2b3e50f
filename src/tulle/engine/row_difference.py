"""The rows by which two relations differ: by key, or as multisets. One or few passes, in the engine's bounds.

Works on four views that whoever calls has made: `l` and `r` hold the rows of the files only one side has,
`shared` those of the files both have (it is read for its keys alone). Knows no files.
"""

# ruff: noqa: S608  composing SQL is this module's work; names go through `quoted`, values through `literal`
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tulle.engine.columns_compared import Column, Pair, differs
from tulle.engine.duck import Reading
from tulle.engine.engine import quoted

_SHOWN_CHARACTERS = 1000
SETUP = (
    "CREATE TEMP MACRO shown(x) AS CASE WHEN length(CAST(x AS VARCHAR)) > "
    f"{_SHOWN_CHARACTERS} THEN left(CAST(x AS VARCHAR), {_SHOWN_CHARACTERS}) || '…' ELSE CAST(x AS VARCHAR) END"
)
Values = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """One row that differs. Values are text as the engine writes them, long ones cut; None is null.

    `left` is None of an added row, `right` of a removed one. `columns` are those whose values changed. `times` is
    how often more the row is on its side, in a comparison without a key.
    """

    key: Values
    left: Values | None
    right: Values | None
    columns: tuple[str, ...] = ()
    times: int = 1


@dataclass(frozen=True, slots=True)
class DuplicateKey:
    """A key that does not tell rows apart, and how many rows have it on each side."""

    key: Values
    left: int
    right: int


@dataclass(frozen=True, slots=True)
class RowDifference:
    """By how many rows two sides differ, with samples in the order of the key (of the values without one).

    With a key: `added`, `removed` and `changed` count rows; `changed_by_column` the changed ones per column.
    Keys more than one row has, on either side, are left out of these and told in `duplicate_keys`.
    Without a key `key` is empty, `added` and `removed` count rows with their multiplicity, `changed` is 0.
    `null_keys` are rows of changed files (left, right) whose key has a null; nulls compare as equal.
    """

    key: tuple[str, ...]
    added: int = 0
    removed: int = 0
    changed: int = 0
    changed_by_column: Mapping[str, int] | None = None
    added_rows: tuple[ChangedRow, ...] = ()
    removed_rows: tuple[ChangedRow, ...] = ()
    changed_rows: tuple[ChangedRow, ...] = ()
    duplicate_keys: int = 0
    duplicate_samples: tuple[DuplicateKey, ...] = ()
    null_keys: tuple[int, int] = (0, 0)

    @property
    def is_empty(self) -> bool:
        """Whether no row was found to differ. Keys that stand for several rows leave that open."""
        return not (self.added or self.removed or self.changed)


def by_key(
    session: Reading,
    common: Sequence[Pair],
    sides: tuple[Sequence[Column], Sequence[Column]],
    key: Sequence[str],
    *,
    tolerance: float,
    limit: int,
    shared: bool,
) -> RowDifference:
    """The difference where a key says which rows belong together. `shared`: whether that view has files."""
    keys = [pair for pair in common if pair.name in key]
    keys.sort(key=lambda pair: list(key).index(pair.name))
    values = [pair for pair in common if pair.name not in key]
    duplicates, samples = _duplicates(session, keys, limit, shared=shared)
    both = ("l.here IS NOT NULL", "r.here IS NOT NULL")
    conditions = [differs(p, f"l.c{i}", f"r.c{i}", tolerance) for i, p in enumerate(values)]
    joined = " AND ".join(f"l.k{i} IS NOT DISTINCT FROM r.k{i}" for i in range(len(keys)))
    inner = [f"({' AND '.join(both)}) AS met", "l.here AS l_here", "r.here AS r_here"]
    inner += [f"{' AND '.join(both)} AND {condition} AS d{i}" for i, condition in enumerate(conditions)]
    inner += [f"CASE WHEN l.here IS NULL THEN r.k{i} ELSE l.k{i} END AS k{i}" for i in range(len(keys))]
    shown = [_names(side) for side in sides]
    inner += [f"{s}.v{i} AS {s}v{i}" for s, names in zip("lr", shown, strict=True) for i in range(len(names))]
    different = " OR ".join(["NOT met", *(f"d{i}" for i in range(len(values)))])
    order = "struct_pack(" + ", ".join(f"k{i} := k{i}" for i in range(len(keys))) + ")"
    texts = {s: _texts([f"{s}v{i}" for i in range(len(names))]) for s, names in zip("lr", shown, strict=True)}
    flags = f"[{', '.join(f'd{i}' for i in range(len(values)))}]" if values else "CAST([] AS BOOLEAN[])"
    changed = f"struct_pack(l := {texts['l']}, r := {texts['r']}, d := {flags})"
    outer = [
        "count(*) FILTER (l_here IS NULL)",
        "count(*) FILTER (r_here IS NULL)",
        "count(*) FILTER (met)",
        f"min_by({texts['r']}, {order}, {limit}) FILTER (l_here IS NULL)",
        f"min_by({texts['l']}, {order}, {limit}) FILTER (r_here IS NULL)",
        f"min_by({changed}, {order}, {limit}) FILTER (met)",
        *(f"count(*) FILTER (d{i})" for i in range(len(values))),
    ]
    row = session.row(
        f"SELECT {', '.join(outer)} FROM (SELECT {', '.join(inner)}"
        f" FROM ({_side('l', keys, values, sides[0], without=duplicates > 0)}) l"
        f" FULL JOIN ({_side('r', keys, values, sides[1], without=duplicates > 0)}) r ON {joined})"
        f" WHERE {different}"
    )
    names = [pair.name for pair in keys]
    nulls = [
        session.row(
            f"SELECT count(*) FROM {side} WHERE " + " OR ".join(f"{quoted(name)} IS NULL" for name in names)
        )[0]
        for side in "lr"
    ]
    return RowDifference(
        key=tuple(names),
        added=row[0],
        removed=row[1],
        changed=row[2],
        changed_by_column={p.name: n for p, n in zip(values, row[6:], strict=True) if n},
        added_rows=tuple(_one(shown[1], texts_, names, "right") for texts_ in row[3] or ()),
        removed_rows=tuple(_one(shown[0], texts_, names, "left") for texts_ in row[4] or ()),
        changed_rows=tuple(_two(shown, found, names, [p.name for p in values]) for found in row[5] or ()),
        duplicate_keys=duplicates,
        duplicate_samples=samples,
        null_keys=(nulls[0], nulls[1]),
    )


def as_multisets(session: Reading, common: Sequence[Pair], *, limit: int) -> RowDifference:
    """The difference where rows are told apart by their values alone."""
    columns = [f"c{i}" for i in range(len(common))]
    sides = [
        f"SELECT {', '.join(f'{p.expression()} AS c{i}' for i, p in enumerate(common))}, {n} AS n FROM {side}"
        for side, n in (("l", -1), ("r", 1))
    ]
    order = "struct_pack(" + ", ".join(f"{c} := {c}" for c in columns) + ")"
    sample = f"struct_pack(t := {_texts(columns)}, n := n)"
    row = session.row(
        f"SELECT coalesce(sum(n) FILTER (n > 0), 0), coalesce(-sum(n) FILTER (n < 0), 0),"
        f" min_by({sample}, {order}, {limit}) FILTER (n > 0),"
        f" min_by({sample}, {order}, {limit}) FILTER (n < 0)"
        f" FROM (SELECT {', '.join(columns)}, CAST(sum(n) AS BIGINT) AS n"
        f" FROM ({' UNION ALL '.join(sides)}) GROUP BY {', '.join(columns)} HAVING sum(n) <> 0)"
    )
    names = [pair.name for pair in common]
    samples = [
        tuple(
            ChangedRow(
                {},
                dict(zip(names, found["t"], strict=True)) if side == "left" else None,
                dict(zip(names, found["t"], strict=True)) if side == "right" else None,
                times=abs(found["n"]),
            )
            for found in rows or ()
        )
        for side, rows in (("right", row[2]), ("left", row[3]))
    ]
    return RowDifference((), int(row[0]), int(row[1]), added_rows=samples[0], removed_rows=samples[1])


def _duplicates(
    session: Reading, keys: Sequence[Pair], limit: int, *, shared: bool
) -> tuple[int, tuple[DuplicateKey, ...]]:
    """The keys of changed files that more than one row has, on either side as a whole; kept as table `dup`."""
    columns = ", ".join(f"{pair.expression()} AS k{i}" for i, pair in enumerate(keys))
    names = ", ".join(f"k{i}" for i in range(len(keys)))
    touched = f"SELECT {columns}, 1 AS l, 0 AS r FROM l UNION ALL SELECT {columns}, 0, 1 FROM r"
    if shared:
        same = " AND ".join(f"s.k{i} IS NOT DISTINCT FROM t.k{i}" for i in range(len(keys)))
        touched += (
            f" UNION ALL SELECT s.*, 1, 1 FROM (SELECT {columns} FROM shared) s"
            f" SEMI JOIN (SELECT {columns} FROM l UNION ALL SELECT {columns} FROM r) t ON {same}"
        )
    session.run(
        f"CREATE TEMP TABLE dup AS SELECT {names}, CAST(sum(l) AS BIGINT) AS l, CAST(sum(r) AS BIGINT) AS r"
        f" FROM ({touched}) GROUP BY {names} HAVING sum(l) > 1 OR sum(r) > 1"
    )
    (count,) = session.row("SELECT count(*) FROM dup")
    texts = _texts([f"k{i}" for i in range(len(keys))])
    found = session.rows(f"SELECT {texts}, l, r FROM dup ORDER BY l + r DESC, {names} LIMIT {limit}")
    return count, tuple(
        DuplicateKey({p.name: text for p, text in zip(keys, texts_, strict=True)}, left, right)
        for texts_, left, right in found
    )


def _side(
    side: str, keys: Sequence[Pair], values: Sequence[Pair], columns: Sequence[Column], *, without: bool
) -> str:
    chosen = ["1 AS here"]
    chosen += [f"{pair.expression('s.')} AS k{i}" for i, pair in enumerate(keys)]
    chosen += [f"{pair.expression('s.')} AS c{i}" for i, pair in enumerate(values)]
    chosen += [f"s.{quoted(column.name)} AS v{i}" for i, column in enumerate(columns)]
    sql = f"SELECT {', '.join(chosen)} FROM {side} s"
    if without:
        same = " AND ".join(f"{p.expression('s.')} IS NOT DISTINCT FROM d.k{i}" for i, p in enumerate(keys))
        sql += f" ANTI JOIN dup d ON {same}"
    return sql


def _names(columns: Sequence[Column]) -> list[str]:
    return [column.name for column in columns]


def _texts(expressions: Sequence[str]) -> str:
    return "[" + ", ".join(f"shown({e})" for e in expressions) + "]"


def _one(names: Sequence[str], texts: Sequence[str | None], key: Sequence[str], side: str) -> ChangedRow:
    values = dict(zip(names, texts, strict=True))
    own = {name: values[name] for name in key}
    return ChangedRow(own, values if side == "left" else None, values if side == "right" else None)


def _two(
    names: Sequence[Sequence[str]],
    found: Mapping[str, Sequence[str]],
    key: Sequence[str],
    values: Sequence[str],
) -> ChangedRow:
    left = dict(zip(names[0], found["l"], strict=True))
    right = dict(zip(names[1], found["r"], strict=True))
    columns = tuple(name for name, changed in zip(values, found["d"], strict=True) if changed)
    return ChangedRow({name: right[name] for name in key}, left, right, columns)
