"""What a package was built with and consists of: the distributions of its environment, and a bill of materials.

The bill is CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/) and follows from the manifest alone, so that a package
is written again byte for byte. Functions may import more than is told here: what is in the environment they run in.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec

from tulle.serving.manifest import Manifest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
_LICENCE = re.compile(r"[A-Za-z0-9.+() -]{1,100}")  # an expression; some put the whole text there
MODELS = ("ml",)  # the extras that models need


def distributions(extras: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """What Tulle and these extras of it need and this environment has: name → version and licence, where it tells."""
    found: dict[str, dict[str, str]] = {}
    waiting = [("tulle", tuple(extras))]
    seen = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            normal, about, requires = _installed(name)
        except metadata.PackageNotFoundError:
            continue
        found[normal] = dict(about)
        waiting += [(need, ()) for need in _needs(requires, wanted)]
    return dict(sorted(found.items()))


@cache  # reading the files of a hundred distributions takes longer than all else in a small package
def _installed(name: str) -> tuple[str, Mapping[str, str], Sequence[str]]:
    one = metadata.distribution(name)
    return _normal(one.name), {"version": one.version, **_licence(one)}, tuple(one.requires or ())


def environment(extras: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """The interpreter and the distributions."""
    return {"python": {"version": platform.python_version(), "licence": "PSF-2.0"}, **distributions(extras)}


def bill_of_materials(manifest: Manifest) -> bytes:
    """The bill of a package whose files are known, as JSON; the bill itself and the manifest are not in it."""
    reference = f"{manifest.service}@{manifest.version}"
    bill = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, f'tulle:{reference}:{manifest.digest}')}",
        "version": 1,
        "metadata": {
            "timestamp": manifest.created,
            "component": {
                "type": "application",
                "bom-ref": reference,
                "name": manifest.service,
                "version": manifest.version,
                "description": manifest.description,
            },
        },
        "components": [*_software(manifest), *_files(manifest), *_data(manifest)],
    }
    return msgspec.json.format(msgspec.json.encode(bill), indent=2) + b"\n"


def _software(manifest: Manifest) -> Iterator[Mapping[str, Any]]:
    for name, about in manifest.software.items():
        purl = (
            f"pkg:generic/{name}@{about['version']}"
            if name == "python"
            else f"pkg:pypi/{name}@{about['version']}"
        )
        licence = about.get("licence")
        yield {
            "type": "platform" if name == "python" else "library",
            "bom-ref": purl,
            "name": name,
            "version": about["version"],
            "purl": purl,
            **({"licenses": [{"license": {"name": licence}}]} if licence else {}),
        }


def _files(manifest: Manifest) -> Iterator[Mapping[str, Any]]:
    for name, file in sorted(manifest.files.items()):
        kind = "machine-learning-model" if name.startswith("models/") else "file"
        yield {
            "type": kind,
            "bom-ref": f"file:{name}",
            "name": name,
            "hashes": [{"alg": "BLAKE3", "content": file.blake3}],
        }


def _data(manifest: Manifest) -> Iterator[Mapping[str, Any]]:
    for repository, commit in sorted(manifest.commits.items()):
        yield {
            "type": "data",
            "bom-ref": f"data:{repository}@{commit}",
            "name": repository,
            "version": commit,
        }


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
    told = [*(one.metadata.get_all("License-Expression") or ()), *(one.metadata.get_all("License") or ()), ""]
    said = str(told[0])
    if not _LICENCE.fullmatch(said):
        classifiers = one.metadata.get_all("Classifier") or []
        said = next((c.rpartition(" :: ")[2] for c in classifiers if c.startswith("License :: ")), "")
    return {"licence": said} if said else {}
