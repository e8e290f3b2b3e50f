"""Expressions in compositions: `$(profile.spend * 1.2)`, a small part of Python's own syntax.

Arithmetic, comparisons, `and`/`or`/`not`, `x if y else z`, lists, objects, comprehensions and the functions below. They
are read and judged when a service is validated and packaged, and carried out by simpleeval, with less than it allows:
a member is always a member of an object and never a method, formats and slices are not there, and one evaluation has a
bounded number of steps. Whoever wrote the expression is trusted with the service; what it works on is not.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import simpleeval

from tulle.errors import did_you_mean
from tulle.serving.request import RequestError

LONGEST = 2_000  # characters of an expression
MOST_STEPS = 100_000  # of one evaluation
MOST_ENTRIES = 10_000  # of a list or characters of a text that an expression makes, times ten
_MOST_INTEGER = 2**63
_MOST_DIGITS = 30  # to which a number is rounded


class _Missing(Exception):
    """There is no such member."""


def _what(value: Any) -> str:
    """What kind of value it is, and not which: it may be one that callers are not to see."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "text"
        case int() | float():
            return "a number"
    return "a list" if isinstance(value, list) else "an object"


def _text(value: Any) -> str:
    """Numbers and texts as text; true and false as JSON has them."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
    raise TypeError(f"{_what(value)} is no text or number")


def _bounded(value: Any) -> Any:
    if isinstance(value, str | list) and len(value) > MOST_ENTRIES * (10 if isinstance(value, str) else 1):
        raise OverflowError("what it makes is too long")
    if isinstance(value, int) and abs(value) >= _MOST_INTEGER:
        raise OverflowError("what it makes is too large a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise OverflowError("what it makes is no number that JSON has")
    return value


def _join(values: list[Any], between: str = "") -> str:
    texts, between = [_text(value) for value in values], _text(between)
    if sum(map(len, texts)) + len(between) * len(texts) > MOST_ENTRIES * 10:
        raise OverflowError("what it makes is too long")
    return between.join(texts)


def _unique(values: list[Any]) -> list[Any]:
    return list({msgspec.json.encode(value): value for value in values}.values())


def _converted(kind: type[float] | type[int]) -> Callable[[Any], Any]:
    def work(value: Any) -> Any:
        try:
            return kind(value)
        except ValueError:  # whose words have the whole value
            raise ValueError(f"{_what(value)} is no number that {kind.__name__} understands") from None

    return work


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{_what(value)} is no object")
    return value


def _merge(*objects: dict[str, Any]) -> dict[str, Any]:
    return {name: value for one in objects for name, value in _object(one).items()}


def _round(value: Any, *digits: int) -> Any:
    """Python would work out ten to the power of any number of digits."""
    if any(abs(number) > _MOST_DIGITS for number in digits):
        raise ValueError(f"a number is rounded to {_MOST_DIGITS} digits at most")
    return round(_number(value), *digits)


# By the names they have; `default` is taken care of where its first argument is evaluated.
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": abs,
    "all": all,
    "any": any,
    "float": _converted(float),
    "int": _converted(int),
    "join": _join,
    "keys": lambda value: list(_object(value)),
    "len": len,
    "lower": str.lower,
    "max": max,
    "merge": _merge,
    "min": min,
    "round": _round,
    "sorted": sorted,
    "split": str.split,
    "sum": sum,
    "text": _text,
    "unique": _unique,
    "upper": str.upper,
    "values": lambda value: list(_object(value).values()),
}
FUNCTIONS = tuple(sorted([*_FUNCTIONS, "default"]))


def _plus(left: Any, right: Any) -> Any:
    return _bounded(left + right)


def _number(value: Any) -> Any:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{_what(value)} is no number")
    return value


def _of_numbers(work: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda left, right: _bounded(work(_number(left), _number(right)))


_OPERATORS: Mapping[type, Any] = {
    ast.Add: _plus,
    ast.Sub: _of_numbers(operator.sub),
    ast.Mult: _of_numbers(operator.mul),
    ast.Div: _of_numbers(operator.truediv),
    ast.FloorDiv: _of_numbers(operator.floordiv),
    ast.Mod: _of_numbers(operator.mod),
    ast.USub: lambda value: -_number(value),
    ast.UAdd: _number,
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda value, among: value in among,
    ast.NotIn: lambda value, among: value not in among,
    ast.Is: operator.eq,  # `is None`, as people write it
    ast.IsNot: operator.ne,
}
_KNOWN: tuple[type, ...] = (
    *(ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Store, ast.Attribute, ast.Subscript),
    *(ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.And, ast.Or, ast.Compare, ast.IfExp, ast.Call),
    *(ast.List, ast.Dict, ast.ListComp, ast.GeneratorExp, ast.DictComp, ast.comprehension),
    *_OPERATORS,
)
_NO_VALUES: Mapping[str, Any] = {}
_LITERALS = {"true": True, "false": False, "null": None}


class _Evaluator(simpleeval.EvalWithCompoundTypes):  # type: ignore[misc]
    """simpleeval with members in place of attributes and a bound on what one evaluation does."""

    def __init__(self) -> None:
        super().__init__(operators=dict(_OPERATORS), functions={}, names={})
        self.functions = dict(_FUNCTIONS)
        self.left = 0

    def _eval(self, node: ast.AST) -> Any:
        self.left -= 1
        if self.left < 0:
            raise OverflowError("it takes too many steps")
        return self.nodes[type(node)](node)

    def _eval_compare(self, node: ast.Compare) -> Any:
        left = self._eval(node.left)
        for operation, comparator in zip(node.ops, node.comparators, strict=True):
            right = self._eval(comparator)
            self._charge((right,))
            if not _OPERATORS[type(operation)](left, right):
                return False
            left = right
        return True

    def _charge(self, given: Sequence[Any]) -> None:
        """What walks over a list within another walk takes its steps, too."""
        for value in given:
            if isinstance(value, list | str | dict):
                self.left -= len(value) // 20

    def _eval_name(self, node: ast.Name) -> Any:
        if node.id in self.names:
            return self.names[node.id]
        if node.id in _LITERALS:
            return _LITERALS[node.id]
        raise _Missing(node.id)

    def _eval_attribute(self, node: ast.Attribute) -> Any:
        return _member(self._eval(node.value), node.attr)

    def _eval_subscript(self, node: ast.Subscript) -> Any:
        return _member(self._eval(node.value), self._eval(node.slice))

    def _eval_call(self, node: ast.Call) -> Any:
        name = node.func.id  # type: ignore[attr-defined]  # judged when it was read
        if name != "default":
            given = [self._eval(one) for one in node.args]
            self._charge(given)
            return _bounded(self.functions[name](*given))
        try:
            value = self._eval(node.args[0])
        except _Missing:
            value = None
        return self._eval(node.args[1]) if value is None else value


def _member(value: Any, name: Any) -> Any:
    try:
        if isinstance(value, dict):
            return value[name]
        if isinstance(value, list) and isinstance(name, int):
            return value[name]
    except (KeyError, IndexError, TypeError):
        pass
    raise _Missing(str(name)[:60])


def compiled(text: str) -> Callable[[Mapping[str, Any]], Any]:
    """What gives the value of an expression. ValueError, which says where, for one that is none."""
    tree = _read(text)
    evaluator = _Evaluator()

    def evaluate(values: Mapping[str, Any]) -> Any:
        evaluator.names, evaluator.left, evaluator._max_count = values, MOST_STEPS, 0  # noqa: SLF001
        try:
            return _bounded(evaluator._eval(tree.body))  # noqa: SLF001
        except _Missing as missing:
            advice = f"Write default({missing}, …) where it may be missing"
            raise RequestError(422, "MissingValue", f"there is no {missing} in $({text})", advice) from None
        except (ArithmeticError, TypeError, ValueError, LookupError, RecursionError) as exc:
            raise RequestError(422, "ExpressionFailed", f"$({text}): {exc}") from None
        except simpleeval.InvalidExpression as exc:
            raise RequestError(422, "ExpressionFailed", f"$({text}): {exc}") from None
        finally:  # nothing of a request is kept
            evaluator.names = _NO_VALUES

    return evaluate


def roots(text: str) -> Iterator[str]:
    """The names of values that an expression takes from. ValueError for one that is none."""
    yield from _roots_in(_read(text))


def _roots_in(tree: ast.Expression) -> Iterator[str]:
    own = {
        name.id
        for node in ast.walk(tree)
        if isinstance(node, ast.comprehension)
        for name in ast.walk(node.target)
        if isinstance(name, ast.Name)
    }
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and id(node) not in called and node.id not in own | set(_LITERALS):
            yield node.id


def certain_roots(text: str) -> Iterator[str]:
    """Those of `roots` whose value is needed: all but what is the first argument of `default`."""
    tree = _read(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.func.id == "default":  # type: ignore[attr-defined]
            node.args[0] = ast.Constant(None)
    yield from _roots_in(tree)


def _read(text: str) -> ast.Expression:
    if len(text) > LONGEST:
        raise ValueError(f"an expression has {LONGEST:,} characters at most, this one has {len(text):,}")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as exc:
        raise ValueError(f"$({text}) is not understood at character {exc.offset}: {exc.msg}") from None
    except (ValueError, RecursionError, MemoryError) as exc:
        raise ValueError(f"$({text[:60]}) is not understood: {exc}") from None
    for node in ast.walk(tree):
        if reason := _refused(node):
            at = getattr(node, "col_offset", 0) + 1
            raise ValueError(f"$({text}) at character {at}: {reason}")
    return tree


def _refused(node: ast.AST) -> str:  # noqa: PLR0911  a case a line
    """Why a part of an expression cannot be, or nothing."""
    match node:
        case ast.Call(func=ast.Name(id=name), args=given, keywords=named):
            if name not in FUNCTIONS:
                near = did_you_mean(name, FUNCTIONS)
                return f"there is no function '{name}'. {near or 'There are ' + ', '.join(FUNCTIONS)}"
            if named or any(isinstance(one, ast.Starred) for one in given):
                return f"{name} takes values only"
            return "default takes two values" if name == "default" and len(given) != 2 else ""
        case ast.Call():
            return "members cannot be called; functions are " + ", ".join(FUNCTIONS)
        case ast.comprehension(target=target, is_async=is_async):
            return "" if isinstance(target, ast.Name) and not is_async else "an entry has one name"
        case ast.Constant(value=value):
            kinds = (str, int, float, bool, type(None))
            return "" if isinstance(value, kinds) else f"{value!r} is no JSON value"
        case ast.Dict(keys=keys):
            return "" if None not in keys else "write merge(a, b)"
    return "" if isinstance(node, _KNOWN) else f"{type(node).__name__} cannot be written here"
