"""A function's code: its signature read without running it, and its calls, in the process made for them.

Knows nothing of pools or sockets. What a file holds is executed by `function_apart` alone.
"""

from __future__ import annotations

import ast
import dataclasses
import datetime as dt
import decimal
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import msgspec

from tulle.errors import Broken, Invalid, Place, Problem, did_you_mean
from tulle.sdk.function import ApiError, Request, Response, answering

FUNCTIONS = "functions"  # the folder in product and package
KINDS = ("str", "int", "float", "bool", "list", "dict")


@dataclasses.dataclass(frozen=True, slots=True)
class Parameter:
    """One argument, as the signature has it; `type` empty: whatever JSON holds."""

    name: str
    type: str = ""
    required: bool = True
    nullable: bool = False


class Asked(msgspec.Struct, array_like=True):
    """What the function's process is asked: the JSON of the arguments, and by whom."""

    arguments: bytes
    id: str
    endpoint: str
    generation: str
    headers: dict[str, str]


class Done(msgspec.Struct, array_like=True):
    """What it gave: the JSON of a result, or with a content type what is sent as it is; or why there is none."""

    body: bytes
    status: int = 200
    content_type: str = ""
    headers: dict[str, str] = {}
    error_type: str = ""
    message: str = ""
    detail: str = ""
    microseconds: int = 0


# ── reading a signature ──────────────────────────────────────────────────────────────────────────────────


def signature_of(
    text: str, file: str, function: str, place: Place | None
) -> tuple[tuple[Parameter, ...], bool, str]:
    """Parameters, whether there may be others, and the first line of what a function says of itself.

    Nothing is executed. Invalid when there is no such function, or it cannot be called by names.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as exc:
        where = Place(file, getattr(exc, "lineno", 0) or 0, getattr(exc, "offset", 0) or 0)
        raise _invalid(f"{file} is not Python: {getattr(exc, 'msg', exc)}", where, None) from exc
    found = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    if function not in found:
        hint = did_you_mean(function, found) or "it must stand at the top of the file, as `def`"
        raise _invalid(f"there is no function '{function}' in {file}", place, hint)
    node = found[function]
    said = node.args
    if said.posonlyargs or said.vararg:
        raise _invalid(
            f"function '{function}' takes arguments without names",
            Place(file, node.lineno, node.col_offset + 1),
            "callers send arguments by name: remove `/` and `*args`",
        )
    parameters = []
    plain = [None] * (len(said.args) - len(said.defaults)) + list(said.defaults)
    for argument, default in [
        *zip(said.args, plain, strict=True),
        *zip(said.kwonlyargs, said.kw_defaults, strict=True),
    ]:
        kind, nullable = _annotated(argument.annotation)
        parameters.append(Parameter(argument.arg, kind, default is None, nullable or _is_none(default)))
    text = (ast.get_docstring(node) or "").strip().partition("\n")[0]
    return tuple(parameters), said.kwarg is not None, text


def _annotated(node: ast.expr | None) -> tuple[str, bool]:
    """The kind of value an annotation asks for, and whether null is one; nothing where it is not understood."""
    match node:
        case ast.Name(id=name) if name in KINDS:
            return name, False
        case ast.Subscript(value=ast.Name(id=name)) if name in {"list", "dict"}:
            return name, False
        case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
            return _annotated(left)[0], True
        case ast.BinOp(left=ast.Constant(value=None), op=ast.BitOr(), right=right):
            return _annotated(right)[0], True
    return "", True


def _is_none(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _invalid(message: str, place: Place | None, hint: str | None) -> Invalid:
    return Invalid(message, hint=hint, problems=[Problem(message, place, hint)])


# ── in the process of its own ────────────────────────────────────────────────────────────────────────────


def function_apart(folder: Path, file: str, function: str) -> Callable[[bytes], bytes]:
    """The function, imported, as a handler of requests. Whatever its file raises is raised."""
    call = _imported(folder, folder / file, function)

    def handle(request: bytes) -> bytes:
        done = _carried_out(call, msgspec.msgpack.decode(request, type=Asked))
        try:
            return msgspec.msgpack.encode(done)
        except (
            TypeError,
            ValueError,
            OverflowError,
        ) as exc:  # it is not what was asked for: text, bytes, numbers
            traceback.print_exc()
            return msgspec.msgpack.encode(_failed(exc))

    return handle


def _imported(folder: Path, file: Path, function: str) -> Callable[..., Any]:
    sys.path.insert(0, str(folder / FUNCTIONS))  # files beside it may be imported
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise Broken(f"'{file.name}' cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    found: Callable[..., Any] = getattr(module, function)
    return found


def _carried_out(call: Callable[..., Any], asked: Asked) -> Done:
    answering(Request(asked.id, asked.endpoint, asked.generation, asked.headers))
    start = perf_counter_ns()
    try:
        result = call(**msgspec.json.decode(asked.arguments))
        if isinstance(result, Response):
            content = result.content.encode() if isinstance(result.content, str) else result.content
            return Done(content, result.status, result.content_type, dict(result.headers))
        body = msgspec.json.encode(result, enc_hook=as_plain)
    except ApiError as exc:
        return Done(b"", exc.status, error_type=exc.error_type, message=exc.message, detail=exc.detail)
    except MemoryError:
        message = "the function needs more memory than its endpoint may have"
        return Done(b"", 500, error_type="TooMuchMemory", message=message)
    except Exception as exc:  # noqa: BLE001  whatever users' code raises
        traceback.print_exc()
        return _failed(exc)
    return Done(body, microseconds=(perf_counter_ns() - start) // 1000)


def _failed(exc: Exception) -> Done:
    # The text of the exception stays in the log: it may quote what callers should not see.
    message = f"the function raised {type(exc).__name__}"
    detail = "The service's log says where"
    return Done(b"", 500, error_type="FunctionFailed", message=message, detail=detail)


def as_plain(value: Any) -> Any:
    """What JSON has no word for, as something it has; TypeError for what cannot be."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal | complex):
        return str(value)
    raise TypeError(f"a result cannot hold a {type(value).__name__}")
