"""Keeping reads quick: merging small layers into larger ones, and folding all layers into the base.

Neither changes what a commit contains: both publish another manifest for the same commit. A fold rewrites only
the ranges some layer row falls into, and gives the same base as if all entries had been written at once.
Nothing is removed, so readers of the older manifest go on undisturbed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import pyarrow as pa

from tulle.errors import TulleError
from tulle.lake import refs
from tulle.lake.manifest import Manifest
from tulle.lake.reading import Content, Reader
from tulle.lake.replace import Interval, pieces
from tulle.lake.runs import Metarange, RangeRun, Run, RunRef, TreeWriter
from tulle.lake.spool import Spool
from tulle.lake.view import View

LAYERS_IN_A_TIER = 8
MAX_LAYERS = 24
SMALL_ROWS = 4096  # so many layer rows are no burden, however small the base is

log = logging.getLogger(__name__)


def is_due(manifest: Manifest) -> bool:
    """Whether a commit's layers should be merged or folded."""
    return _fold_is_due(manifest) or _tier(manifest.layers) > 0


def keep_up(reader: Reader, commit_id: str) -> None:
    """Merge or fold the layers of a commit where that is due. A failure is logged: the commit is good as it is."""
    try:
        content = reader.content(commit_id)
        if not _fold_is_due(content.manifest):
            content = _merge_tier(reader, content)
        if _fold_is_due(content.manifest):
            _fold(reader, content)
    except (TulleError, OSError, pa.ArrowException) as exc:
        log.warning("layers of commit %s stay as they are: %s", commit_id, exc)


def fold(reader: Reader, commit_id: str) -> bool:
    """Merge all layers of a commit into its base; False when it has none."""
    content = reader.content(commit_id)
    if not content.manifest.layers and content.manifest.base is not None:
        return False
    _fold(reader, content)
    return True


def _fold_is_due(manifest: Manifest) -> bool:
    base_rows = manifest.base.rows if manifest.base else 0
    return manifest.layer_rows > max(SMALL_ROWS, base_rows // 10) or len(manifest.layers) > MAX_LAYERS


def _tier(layers: Sequence[RunRef]) -> int:
    """How many of the newest layers to merge into one; 0 for none. At least eight of about one size."""
    sizes = [int(math.log(max(1, layer.rows / 1024), LAYERS_IN_A_TIER)) for layer in layers]
    for largest in sorted(set(sizes)):
        count = next((n for n, size in enumerate(sizes) if size > largest), len(sizes))
        if count >= LAYERS_IN_A_TIER:
            return count
    return 0


def _merge_tier(reader: Reader, content: Content) -> Content:
    manifest = content.manifest
    count = _tier(manifest.layers)
    if not count:
        return content
    view = View([reader.manifests.open(layer) for layer in manifest.layers[:count]])
    merged = reader.runs.write_chunks(view.chunks(tombstones=True))
    layers = (merged, *manifest.layers[count:])
    return _publish(reader, content, Manifest(manifest.commit, manifest.delta, manifest.base, layers))


def _fold(reader: Reader, content: Content) -> Content:
    manifest = content.manifest
    layers = [(reader.manifests.open(layer), layer.deleted > 0) for layer in manifest.layers]
    writer = Spool(reader.runs)
    base = Metarange([], [], [], []) if manifest.base is None else reader.runs.metarange(manifest.base.id)
    _rewrite(reader, base, layers, writer)
    folded = Manifest(manifest.commit, manifest.delta, writer.finish(), ())
    return _publish(reader, content, folded)


Layer = tuple[Run, bool]  # and whether it has tombstones


def _rewrite(reader: Reader, base: Metarange, layers: Sequence[Layer], writer: TreeWriter) -> None:
    """Write the base anew with the layers (newest first) merged in, a bounded number of rows at a time.

    Ranges of the base that nothing touches are taken over whole, and so are those of layers that lie between.
    """
    position = b""
    for number, (first, last) in enumerate(zip(base.firsts, base.lasts, strict=True)):
        _fill(writer, layers, (position, first))
        position = last + b"\0"
        touching = _within(layers, (first, position))
        is_end = number == len(base.ids) - 1 and bool(_within(layers, (position, None)))
        if (
            writer.aligned and not touching and not is_end
        ):  # the last range ended with its rows, not by the rule
            writer.take(base, number)
            continue
        runs: list[Run] = [*(run for run, _ in touching), RangeRun(reader.runs.range(base.ids[number]))]
        for chunk in View(runs).chunks(first, position):
            writer.add(chunk)
        writer.cut()
    _fill(writer, layers, (position, None))


def _fill(writer: TreeWriter, layers: Sequence[Layer], place: Interval) -> None:
    """Add what layers have where the base has nothing."""
    found = _within(layers, place)
    has_tombstones = {id(run): deleted for run, deleted in found}
    for piece in pieces([run for run, _ in reversed(found)], place):
        tree = piece.tree
        if tree is None or has_tombstones[id(tree)] or piece.number == len(tree.metarange.ids) - 1:
            writer.add(piece.load().live())
            continue
        writer.cut()
        if writer.aligned:
            writer.take(tree.metarange, piece.number)
        else:
            writer.add(piece.load())


def _within(layers: Sequence[Layer], place: Interval) -> list[Layer]:
    start, end = place
    if end is not None and start >= end:
        return []
    return [layer for layer in layers if layer[0].chunk(start, end, 1)[0].rows]


def _publish(reader: Reader, content: Content, manifest: Manifest) -> Content:
    name = reader.manifests.put(manifest)
    with reader.database.write() as cx:
        refs.swap_manifest(cx, reader.id, manifest.commit.id, content.manifest_name, name)
    return Content(manifest, name, View(reader.manifests.content(manifest)))
