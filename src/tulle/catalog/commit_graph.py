"""Commits as a drawing: one row a commit, one lane a line of history, curves where lines part and meet.

Pure: knows commits by id and parents. Whatever comes in children first has no line that runs upwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tulle.lake.entry import Commit

ROW: Final = 44  # height of a row, in pixels; portal.css gives the text beside it the same
LANE: Final = 16  # distance of two lanes
COLOURS: Final = 6


@dataclass(frozen=True, slots=True)
class Dot:
    """A commit's place: `x` and `y` are its middle, `lane` the line it is on."""

    commit: Commit
    lane: int
    x: float
    y: float

    @property
    def colour(self) -> int:
        """Which of the lines' colours it has."""
        return self.lane % COLOURS


@dataclass(frozen=True, slots=True)
class Line:
    """The way from a commit to a parent, as the `d` of an SVG path; `open` when the parent is further down."""

    way: str
    colour: int
    open: bool


@dataclass(frozen=True, slots=True)
class Drawing:
    """A drawn history. Sizes are in pixels."""

    dots: tuple[Dot, ...]
    lines: tuple[Line, ...]
    width: float
    height: float


@dataclass(slots=True)
class _Edge:
    row: int
    lane: int  # of the child
    along: int  # the lane it goes down in


def draw(commits: Sequence[Commit]) -> Drawing:
    """Draw commits, children before their parents."""
    lanes: list[str | None] = []  # the commit each lane leads to
    under_way: dict[str, list[_Edge]] = {}
    dots: list[Dot] = []
    lines: list[Line] = []
    widest = 0
    for row, commit in enumerate(commits):
        mine = [i for i, wanted in enumerate(lanes) if wanted == commit.id]
        lane = mine[0] if mine else _free(lanes)
        for taken in mine:
            lanes[taken] = None
        lines += [_line(edge, row, lane) for edge in under_way.pop(commit.id, ())]
        for number, parent in enumerate(commit.parents):
            if number == 0:
                along = lane
            else:
                along = next((i for i, wanted in enumerate(lanes) if wanted == parent), -1)
                along = _free(lanes) if along < 0 else along
            lanes[along] = parent
            under_way.setdefault(parent, []).append(_Edge(row, lane, along))
        widest = max(widest, len(lanes))
        dots.append(Dot(commit, lane, _x(lane), _y(row)))
    for edges in under_way.values():
        lines += [_line(edge, len(commits), edge.along, is_open=True) for edge in edges]
    return Drawing(tuple(dots), tuple(lines), LANE * (max(widest, 1) + 0.5), ROW * max(len(commits), 1))


def _free(lanes: list[str | None]) -> int:
    """The first lane that leads nowhere, taken."""
    for i, wanted in enumerate(lanes):
        if wanted is None:
            lanes[i] = ""
            return i
    lanes.append("")
    return len(lanes) - 1


def _x(lane: int) -> float:
    return LANE * (lane + 0.75)


def _y(row: int) -> float:
    return ROW * (row + 0.5)


def _line(edge: _Edge, row: int, lane: int, *, is_open: bool = False) -> Line:
    x, y = _x(edge.lane), _y(edge.row)
    end_x, end_y = _x(lane), ROW * row if is_open else _y(row)
    way = f"M{x:g} {y:g}"
    if edge.along != edge.lane and row > edge.row + 1:
        way += _bend(x, y, _x(edge.along), y + ROW)
        x, y = _x(edge.along), y + ROW
    if end_x == x:
        way += f"V{end_y:g}"
    else:
        if end_y - ROW > y:
            way += f"V{end_y - ROW:g}"
            y = end_y - ROW
        way += _bend(x, y, end_x, end_y)
    return Line(way, max(edge.along, edge.lane) % COLOURS, is_open)


def _bend(x: float, y: float, to_x: float, to_y: float) -> str:
    middle = (y + to_y) / 2
    return f"C{x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} {to_y:g}"
