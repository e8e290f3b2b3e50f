"""The access log shown to who writes down callers, as the control plane does."""

from __future__ import annotations

from tulle.config import Settings
from tulle.gateway.envoy_values import ACCESS_LOG
from tulle.gateway.last_used import LastUsed
from tulle.gateway.log_line import LineReader
from tulle.gateway.log_place import LogReader
from tulle.state.db import Database


class ShownLog:
    """Shows what is new, each line once."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._last_used = LastUsed(settings, database)
        self._reader = LogReader(settings.state_folder / ACCESS_LOG)
        self._lines = LineReader()
        self._place = ("", 0)

    def look(self) -> None:
        for piece in self._reader.pieces(*self._place):
            self._last_used.see(self._lines.read(piece.data))
            self._place = (piece.file, piece.position)
        self._last_used.write()
