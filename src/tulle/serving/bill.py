"""The bill of materials of a package: its software, models, data and files, and which of them need which.

It is CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/) and follows from the manifest alone, so that a package is
written again byte for byte. What software there is tells `software`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec

from tulle.serving.function_code import FUNCTIONS
from tulle.serving.manifest import FileEntry, Manifest

_OF_DATA = ("indexes/", "data/")


def bill_of_materials(manifest: Manifest) -> bytes:
    """The bill of a package whose files are known, as JSON; the bill itself and the manifest are not in it."""
    reference = f"{manifest.service}@{manifest.version}"
    components = [*_software(manifest), *_parts(manifest), *_files(manifest), *_data(manifest)]
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
        "components": components,
        "dependencies": [
            {"ref": reference, "dependsOn": sorted(_needed_by_all(manifest, components))},
            *_dependencies(manifest),
        ],
    }
    return msgspec.json.format(msgspec.json.encode(bill), indent=2) + b"\n"


def _purl(name: str, version: str) -> str:
    kind = "generic" if name == "python" else "pypi"
    return f"pkg:{kind}/{name}@{version}" if version else f"pkg:{kind}/{name}"


def _software(manifest: Manifest) -> Iterator[Mapping[str, Any]]:
    for name, about in manifest.software.items():
        purl = _purl(name, about["version"])
        one: dict[str, Any] = {
            "type": "platform" if name == "python" else "library",
            "bom-ref": purl,
            "name": name,
            **({"version": about["version"]} if about["version"] else {}),
            "purl": purl,
        }
        if "sha256" in about:
            one["hashes"] = [{"alg": "SHA-256", "content": about["sha256"]}]
        if "expression" in about:
            one["licenses"] = [{"expression": about["expression"]}]
        elif "licence" in about:
            one["licenses"] = [{"license": {"name": about["licence"]}}]
        told = [("tulle:record:sha256", about.get("record")), ("tulle:for", about.get("for"))]
        if not about["version"]:
            told.append(("tulle:installed", "false"))
        if properties := [{"name": word, "value": value} for word, value in told if value]:
            one["properties"] = properties
        yield one


def _parts(manifest: Manifest) -> Iterator[Mapping[str, Any]]:
    """The models and the functions, each with its files."""
    for name, about in sorted(manifest.models.items()):
        metrics = [{"type": word, "value": str(value)} for word, value in about.get("metrics", {}).items()]
        yield {
            "type": "machine-learning-model",
            "bom-ref": f"model:{name}",
            "name": name,
            "version": manifest.commits.get(manifest.product, ""),
            "modelCard": {
                "modelParameters": {"task": about["task"], "modelArchitecture": about["estimator"]},
                "quantitativeAnalysis": {"performanceMetrics": metrics},
            },
            "properties": [{"name": "tulle:form", "value": about.get("conversion", {}).get("form", "")}],
            "components": [
                _file(file, entry) for file, entry in _sorted(manifest) if file.startswith(f"models/{name}/")
            ],
        }
    if code := [_file(file, entry) for file, entry in _sorted(manifest) if file.startswith(f"{FUNCTIONS}/")]:
        yield {"type": "application", "bom-ref": FUNCTIONS, "name": FUNCTIONS, "components": code}


def _files(manifest: Manifest) -> Iterator[Mapping[str, Any]]:
    """All others; of the indexes and data that it holds it is told that they are data."""
    parts = (f"{FUNCTIONS}/", *(f"models/{name}/" for name in manifest.models))
    for name, entry in _sorted(manifest):
        if name.startswith(_OF_DATA):
            yield {**_file(name, entry), "type": "data", "data": [{"type": "dataset", "name": name}]}
        elif not name.startswith(parts):
            yield _file(name, entry)


def _sorted(manifest: Manifest) -> Sequence[tuple[str, FileEntry]]:
    return sorted(manifest.files.items())


def _file(name: str, entry: FileEntry) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"file:{name}",
        "name": name,
        "hashes": [{"alg": "BLAKE3", "content": entry.blake3}],
    }


def _data(manifest: Manifest) -> Iterator[Mapping[str, Any]]:
    for repository, commit in sorted(manifest.commits.items()):
        yield {
            "type": "data",
            "bom-ref": f"data:{repository}@{commit}",
            "name": repository,
            "version": commit,
        }


def _needed_by_all(manifest: Manifest, components: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the service needs itself: what runs it, and all of its own that it consists of."""
    software = {_purl(name, about["version"]) for name, about in manifest.software.items()}
    yield from (one["bom-ref"] for one in components if one["bom-ref"] not in software)
    yield from (
        _purl(name, about["version"])
        for name, about in manifest.software.items()
        if name in {"python", "tulle"}
    )


def _dependencies(manifest: Manifest) -> Iterator[Mapping[str, Any]]:
    """Which software needs which, and which the parts need."""
    software = manifest.software
    parts: dict[str, set[str]] = {}
    for name, about in software.items():
        purl = _purl(name, about["version"])
        for part in about.get("for", "").split():
            parts.setdefault(part, set()).add(purl)
        needs = [
            _purl(need, software[need]["version"])
            for need in about.get("needs", "").split()
            if need in software
        ]
        if needs:
            yield {"ref": purl, "dependsOn": sorted(needs)}
    yield from ({"ref": part, "dependsOn": sorted(needs)} for part, needs in sorted(parts.items()))
