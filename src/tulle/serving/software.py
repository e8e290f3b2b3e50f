"""What of this environment a package needs to answer: distributions with their versions, and what of it needs them.

What models and functions need is read from what they are: the modules that code imports, the classes that a saved model
names, what a `requirements.txt` beside them says. Nothing of a user's is run or loaded. What code imports by a name
that it makes up cannot be seen.
"""

from __future__ import annotations

import ast
import hashlib
import mmap
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import msgspec

from tulle.pipeline.model_signature import CODE, FILES, MODEL, ONNX, Signature
from tulle.serving.function_code import FUNCTIONS

MODELS = ("ml",)  # the extras that every model needs
REQUIREMENTS = "requirements.txt"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
_LICENCE = re.compile(r"[A-Za-z0-9.+() -]{1,100}")  # an expression; some put the whole text there
# In a pickle: the text of a module, that of a name or one that was there before, and the opcode that looks both up.
_CLASS = re.compile(rb"\x8c.([A-Za-z_][\w.]*)\x94(?:\x8c.[\w.]+\x94|h.|j....)\x93", re.DOTALL)
_MADE_HERE = re.compile(
    r"(^|/)(\.\./|__pycache__/)|\.pyc$|\.dist-info/(INSTALLER|REQUESTED|RECORD|direct_url\.json)$"
)
_MOST_CODE = 4 << 20  # bytes of one file of code, more is data
Installed = tuple[tuple[str, int], ...]
About = Mapping[str, str]  # of a distribution: version, licence or expression, needs, for, record, sha256


def environment(folder: Path, models: Mapping[str, Signature]) -> dict[str, dict[str, str]]:
    """The interpreter and the distributions that a package in this folder needs, by name.

    `for` are the parts that need it themselves (`functions`, `model:<name>`), `needs` what it needs in turn; of what is
    not installed the version is empty.
    """
    found = {"python": {"version": platform.python_version(), "expression": "PSF-2.0"}}
    found |= distributions(MODELS if models else ())
    for part, names in sorted(_needed(folder, models).items()):
        for name, about in _closure([(one, ()) for one in names], absent=names).items():
            one = found.setdefault(name, dict(about))
            if name in names:
                one["for"] = " ".join(sorted({*one.get("for", "").split(), part}))
    return dict(sorted(found.items()))


def distributions(extras: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """What Tulle and these extras of it need and this environment has, by name."""
    return _closure([("tulle", tuple(extras))])


def _closure(
    names: Iterable[tuple[str, tuple[str, ...]]], absent: Iterable[str] = ()
) -> dict[str, dict[str, str]]:
    """Distributions and what they need in turn. Those of `absent` are told even where they are not installed."""
    found = _closed(tuple(sorted(names)), frozenset(absent), _installed())
    return {name: dict(about) for name, about in found.items()}


def _installed() -> Installed:
    """What changes when something is installed or removed: reading all of it takes a tenth of a second."""
    places = [Path(place or ".") for place in sys.path]
    return tuple((str(place), place.stat().st_mtime_ns) for place in places if place.is_dir())


@lru_cache(maxsize=32)
def _closed(
    names: tuple[tuple[str, tuple[str, ...]], ...], told: frozenset[str], _installed: Installed
) -> Mapping[str, About]:
    found: dict[str, dict[str, str]] = {}
    seen = set()
    waiting = list(names)
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            one = metadata.distribution(name)
        except (metadata.PackageNotFoundError, ValueError):
            if name in told:
                found[_normal(name)] = {"version": ""}
            continue
        needs = {_normal(need) for need in _needs(one.requires or (), wanted)}
        waiting += [(need, ()) for need in sorted(needs)]
        before = found.get(_normal(one.name)) or {"version": one.version, **_licence(one), **_content(one)}
        needs |= set(before.get("needs", "").split())
        found[_normal(one.name)] = {**before, "needs": " ".join(sorted(needs))} if needs else before
    for about in found.values():  # what is not here is not needed here
        if "needs" in about:
            about["needs"] = " ".join(need for need in about["needs"].split() if need in found)
    return dict(sorted(found.items()))


# ── what the parts of a package need ─────────────────────────────────────────────────────────────────────


def _needed(folder: Path, models: Mapping[str, Signature]) -> dict[str, set[str]]:
    """The names of distributions by part; a module that no distribution has is told by its own name."""
    functions = folder / FUNCTIONS
    modules = {FUNCTIONS: set(_imported(functions))}
    needed = {FUNCTIONS: set(_required(functions))}
    for name, signature in models.items():
        part, home = f"model:{name}", folder / "models" / name
        own = {file.stem for file in (home / CODE).glob("*.py")}
        modules[part] = {
            *_imported(home / CODE),
            *_imported(home / FILES, most=200),
            *_classes(home / MODEL),
        } - own
        needed[part] = set(_required(home / FILES))
        if (home / ONNX).exists():
            modules[part].add("onnxruntime")
        else:  # it answers as it was saved
            needed[part] |= {library for library in signature.libraries if library != "python"}
    has = _by_module(_installed()) if any(modules.values()) or any(needed.values()) else {}
    found: dict[str, set[str]] = {}
    for part, some in modules.items():
        named = {min(has.get(module, [module])) for module in some}
        named |= {_distribution(one, has) for one in needed[part]}
        if some or needed[part]:
            found[part] = {_normal(one) for one in named} - {"tulle"}
    return found


@lru_cache(maxsize=2)
def _by_module(_installed: Installed) -> Mapping[str, Sequence[str]]:
    return metadata.packages_distributions()


def _distribution(name: str, has: Mapping[str, Sequence[str]]) -> str:
    """A distribution, which may be named by its module, as `xgboost` of xgboost-cpu."""
    try:
        return metadata.distribution(name).name
    except (metadata.PackageNotFoundError, ValueError):
        return min(has.get(name, [name]))


def _imported(folder: Path, most: int = 10_000) -> Iterator[str]:
    """The modules that code in a folder imports, those of Python and of the folder itself left out."""
    files = [file for file in sorted(folder.rglob("*.py")) if file.stat().st_size <= _MOST_CODE][:most]
    own = {part for file in files for part in (*file.relative_to(folder).parts[:-1], file.stem)}
    for file in files:
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # which whoever runs it is told
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [one.name for one in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            else:
                continue
            yield from _others((name.partition(".")[0] for name in names), own)


def _classes(file: Path) -> Iterator[str]:
    """The modules of the classes and functions that a saved model names."""
    if not file.is_file() or not file.stat().st_size:
        return
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as text:
        found = {one[1].decode().partition(".")[0] for one in _CLASS.finditer(text)}
    yield from _others(found)


def _others(modules: Iterable[str], own: Iterable[str] = ()) -> Iterator[str]:
    yield from (one for one in modules if one not in {*sys.stdlib_module_names, *own, "tulle"})


def _required(folder: Path) -> Iterator[str]:
    """What the `requirements.txt` of a folder names."""
    for file in sorted(folder.rglob(REQUIREMENTS)):
        if file.stat().st_size > _MOST_CODE:
            continue
        for line in file.read_text(errors="replace").splitlines():
            if found := _NAME.match(line.strip()):
                yield found[0]


# ── what distributions say of themselves ─────────────────────────────────────────────────────────────────


def _needs(requires: Sequence[str], extras: Sequence[str]) -> Iterator[str]:
    """The names in requirements, of the extras only those that are wanted."""
    for text in requires:
        extra = _EXTRA.search(text)
        name = _NAME.match(text)
        if name is not None and (extra is None or extra[1] in extras):
            yield name[0]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _licence(one: metadata.Distribution) -> dict[str, str]:
    expressions = one.metadata.get_all("License-Expression") or []
    if expressions and _LICENCE.fullmatch(str(expressions[0])):
        return {"expression": str(expressions[0])}
    said = str([*(one.metadata.get_all("License") or ()), ""][0])
    if not _LICENCE.fullmatch(said):
        classifiers = one.metadata.get_all("Classifier") or []
        said = next((c.rpartition(" :: ")[2] for c in classifiers if c.startswith("License :: ")), "")
    return {"licence": said} if said else {}


class _Url(msgspec.Struct):
    archive_info: _Archive | None = None


class _Archive(msgspec.Struct):
    hashes: dict[str, str] = {}


def _content(one: metadata.Distribution) -> dict[str, str]:
    """`sha256` of the archive it was installed from, where that is known; `record`: of the list of its files.

    The list is the same wherever the same archive was installed: what installers add is left out.
    """
    found = {}
    for name in ("provenance_url.json", "direct_url.json"):
        try:
            archive = msgspec.json.decode(one.read_text(name) or "{}", type=_Url).archive_info
        except msgspec.MsgspecError:
            continue
        if archive is not None and re.fullmatch(r"[0-9a-f]{64}", archive.hashes.get("sha256", "")):
            found["sha256"] = archive.hashes["sha256"]
            break
    lines = (one.read_text("RECORD") or "").splitlines()
    lasting = sorted(
        line for line in lines if "sha256=" in line and not _MADE_HERE.search(line.partition(",")[0])
    )
    if lasting:
        found["record"] = hashlib.sha256("\n".join(lasting).encode()).hexdigest()
    return found
