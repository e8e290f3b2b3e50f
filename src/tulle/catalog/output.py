"""What the process of a run wrote, as its page shows it: the end of it, and only where it can name nobody."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tulle.catalog.preview import may_show_text
from tulle.config import Settings
from tulle.pipeline.worker import log_file
from tulle.spec.product import DataProduct

MOST_BYTES = 32_000


@dataclass(frozen=True, slots=True)
class Output:
    """The end of what was written; `note` says why it is not shown. Neither where nothing was written."""

    text: str = ""
    is_cut: bool = False
    note: str = ""


def output_of(settings: Settings, run_id: str, product: DataProduct | None) -> Output:
    """What the process of a run wrote, of a run that there is."""
    try:
        with log_file(settings, run_id).open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            if not size:
                return Output()
            if not may_show_text(product, is_document=False):
                return Output(note="It may name people, so it is not shown here.")
            stream.seek(max(0, size - MOST_BYTES))
            data = stream.read(MOST_BYTES)
    except OSError:
        return Output()  # removed by now, or never there: not every run is a process of its own
    return Output(data.decode(errors="replace"), size > MOST_BYTES)
