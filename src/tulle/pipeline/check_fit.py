"""Written checks held against the columns of what they look at, without a row.

What would fail in every run, whatever the rows are, is thus found when a product is validated. Nothing is said of
checks whose data sets have columns that are not known before a run, and of programs, which are never run here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tulle.config import Warehouse
from tulle.engine.duck import Describing, DuckEngine
from tulle.engine.engine import ColumnType, Relation, quoted
from tulle.errors import Invalid, Problem
from tulle.pipeline.graph import ProductCode
from tulle.quality.check import Check
from tulle.quality.kind import kind_named

_Known = Mapping[str, tuple[ColumnType, ...]]


def unfit_checks(code: ProductCode) -> Iterator[Problem]:
    """A problem for each check that cannot be carried out on the columns there are."""
    if code.problems:
        return  # what is not read whole is told already
    known = {name: columns for name, columns in code.columns.items() if columns}
    wanted = [check for check in code.checks if _is_known(check, known)]
    if not wanted:
        return
    # No statement is run, so nothing is ever spilled.
    with tempfile.TemporaryDirectory(prefix="tulle-checks-") as folder:
        engine = DuckEngine(Warehouse(threads=1, memory="256MB"), Path(folder)).knowing(code.macros)
        with engine.describing() as describing:
            for name, columns in known.items():
                describing.name(Relation(name, columns=columns))
            for check in wanted:
                yield from _misfits(check, known, describing)


def _is_known(check: Check, known: _Known) -> bool:
    """Whether the columns of all that it reads are known, in this product."""
    return not check.elsewhere and {check.data_set, *check.reads, *check.others} <= known.keys()


def _misfits(check: Check, known: _Known, describing: Describing) -> Iterator[Problem]:
    kind, column = kind_named(check.kind), str(check.settings.get("column", ""))
    types = {one.name.lower(): one.type for one in known[check.data_set]}
    found = types.get(column.lower())
    if kind.takes and found is not None and found not in kind.takes:
        message = f"column '{column}' is {found}, and '{check.kind}' is for {' or '.join(kind.takes)}"
        yield Problem(f"check '{check.name}': {message}", check.place)
        return
    data_set = quoted(check.data_set)
    asked = [f"SELECT 1 AS one FROM {data_set} WHERE ({check.where})"] if check.where else []  # noqa: S608
    is_plain = kind.prepare is None or kind.fails is not None  # its SQL is the same whatever the rows are
    if is_plain and (failing := kind.failing(check.settings, check.data_set)) is not None:
        asked.append(f"SELECT count(*) AS n FROM ({failing}\n)")  # noqa: S608  what the run itself would ask
    for statement in asked:
        try:
            describing.columns(statement)
        except Invalid as exc:
            told = exc.problems[0].message if exc.problems else exc.message
            hint = exc.problems[0].hint if exc.problems else exc.hint
            yield Problem(f"check '{check.name}' cannot be carried out: {told}", check.place, hint)
            return
