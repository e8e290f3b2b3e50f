"""Who may do what in the lake: users, groups, policies, access keys, and the trail of what they did."""

from __future__ import annotations

from tulle.lake.access.administrator import ADMINISTRATOR, ensure_administrator
from tulle.lake.access.decide import Access, Key, open_access
from tulle.lake.access.policy import Decision
from tulle.lake.access.requests import AccessLog

__all__ = ["ADMINISTRATOR", "Access", "AccessLog", "Decision", "Key", "ensure_administrator", "open_access"]
