"""Settings of a repository: protected branches, the quota, and whether anything may change."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from tulle.errors import AlreadyExists, NotFound, PreconditionFailed
from tulle.lake.door import Outgoing
from tulle.lake.repository import Quota, Repository
from tulle.lake.rest.call import Call, json_answer, no_content
from tulle.lake.rest.router import Route

READ = "branches:GetBranchProtectionRules"
WRITE = "branches:SetBranchProtectionRules"


class _Rule(msgspec.Struct):
    pattern: str


class _Quota(msgspec.Struct):
    max_bytes: int | None = None
    max_objects: int | None = None


class _ReadOnly(msgspec.Struct):
    read_only: bool


def _etag(patterns: Sequence[str]) -> str:
    return f'"{hashlib.sha256(msgspec.json.encode(list(patterns))).hexdigest()[:32]}"'


def _rules(repository: Repository) -> Outgoing:
    patterns = repository.protection()
    return json_answer([{"pattern": pattern} for pattern in patterns], headers=[("etag", _etag(patterns))])


def get_protection(call: Call) -> Outgoing:
    """Which branches change by merges only."""
    call.demand_repository(READ)
    return _rules(call.repository())


def set_protection(call: Call) -> Outgoing:
    """Set which branches change by merges only, if nobody else did in the meantime."""
    call.demand_repository(WRITE)
    repository = call.repository()
    patterns = [rule.pattern for rule in call.json(list[_Rule])]
    expected = None
    if wanted := call.header("if-match"):
        expected = repository.protection()
        if wanted.strip().strip('"') not in {"*", _etag(expected).strip('"')}:
            raise PreconditionFailed(
                "the protection rules were changed by somebody else", hint="read them again"
            )
    repository.protect(patterns, expected=expected)
    call.note("repository.protected", repository.name, patterns=patterns)
    return no_content()


def add_protection(call: Call) -> Outgoing:
    """One pattern more."""
    call.demand_repository(WRITE)
    repository, rule = call.repository(), call.json(_Rule)
    patterns = repository.protection()
    if rule.pattern in patterns:
        raise AlreadyExists(f"there is a protection rule '{rule.pattern}'")
    repository.protect([*patterns, rule.pattern], expected=patterns)
    call.note("repository.protected", repository.name, patterns=[*patterns, rule.pattern])
    return no_content()


def remove_protection(call: Call) -> Outgoing:
    """One pattern less."""
    call.demand_repository(WRITE)
    repository, rule = call.repository(), call.json(_Rule)
    patterns = repository.protection()
    if rule.pattern not in patterns:
        raise NotFound(f"there is no protection rule '{rule.pattern}'")
    left = [pattern for pattern in patterns if pattern != rule.pattern]
    repository.protect(left, expected=patterns)
    call.note("repository.protected", repository.name, patterns=left)
    return no_content()


def may_protect(call: Call) -> Outgoing:
    """Whether the caller may set protection rules."""
    call.demand_repository(WRITE)
    call.repository()
    return no_content()


def _quota_form(quota: Quota) -> dict[str, int | None]:
    return {
        "max_bytes": quota.max_bytes,
        "max_objects": quota.max_objects,
        "used_bytes": quota.used_bytes,
        "used_objects": quota.used_objects,
    }


def get_quota(call: Call) -> Outgoing:
    """How much may be written, and how much was."""
    call.demand_repository("fs:ReadRepository")
    return json_answer(_quota_form(call.repository().quota()))


def set_quota(call: Call) -> Outgoing:
    """Set how much may be written; null or left out: without bound."""
    call.demand_repository("fs:UpdateRepository")
    wanted = call.json(_Quota)
    quota = call.repository().set_quota(max_bytes=wanted.max_bytes, max_objects=wanted.max_objects)
    call.note("repository.limited", call["repository"], **_quota_form(quota))
    return json_answer(_quota_form(quota))


def get_read_only(call: Call) -> Outgoing:
    """Whether nothing may be changed."""
    call.demand_repository("fs:ReadRepository")
    return json_answer({"read_only": call.repository().read_only})


def set_read_only(call: Call) -> Outgoing:
    """Let nothing change any more, or let it change again."""
    call.demand_repository("fs:UpdateRepository")
    repository = call.repository()
    repository.set_read_only(call.json(_ReadOnly).read_only)
    call.note("repository.frozen" if repository.read_only else "repository.thawed", repository.name)
    return json_answer({"read_only": repository.read_only})


_R = "/repositories/{repository}"

ROUTES = [
    Route("GET", f"{_R}/settings/branch_protection", get_protection, "getBranchProtectionRules"),
    Route("PUT", f"{_R}/settings/branch_protection", set_protection, "setBranchProtectionRules"),
    Route("GET", f"{_R}/branch_protection", get_protection, "internalGetBranchProtectionRules"),
    Route("POST", f"{_R}/branch_protection", add_protection, "internalCreateBranchProtectionRule"),
    Route("DELETE", f"{_R}/branch_protection", remove_protection, "internalDeleteBranchProtectionRule"),
    Route("GET", f"{_R}/branch_protection/set_allowed", may_protect, "createBranchProtectionRulePreflight"),
    Route("GET", f"{_R}/settings/quota", get_quota, "tulle.getQuota"),
    Route("PUT", f"{_R}/settings/quota", set_quota, "tulle.setQuota"),
    Route("GET", f"{_R}/settings/read_only", get_read_only, "tulle.getReadOnly"),
    Route("POST", f"{_R}/settings/read_only", set_read_only, "tulle.setReadOnly"),
]
