"""A Hypothesis strategy: a document with some of its values left out and some of its lists turned round."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, below in inner:
        found += _paths(below, (*path, step))
    return found


@st.composite
def pruned(draw: st.DrawFn, document: Any) -> Any:
    """The document without up to a dozen of its values, with up to two lists in another order."""
    made = copy.deepcopy(document)
    for _ in range(draw(st.integers(0, 12))):
        paths = _paths(made)
        if not paths:
            break
        *above, last = draw(st.sampled_from(paths))
        holder = made
        for step in above:
            holder = holder[step]
        del holder[last]
    for _ in range(draw(st.integers(0, 2))):
        lists = [p for p in _paths(made) if isinstance(_at(made, p), list)]
        if lists:
            _at(made, draw(st.sampled_from(lists))).reverse()
    return made


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value
