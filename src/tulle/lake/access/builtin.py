"""The policies and groups every lake begins with, named as in lakeFS. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_EVERYTHING = "*"


def _allow(*actions: str, resource: str = _EVERYTHING) -> dict[str, Any]:
    return {"effect": "allow", "action": list(actions), "resource": resource}


_READ = ("fs:List*", "fs:Read*")
_OWN = "arn:lakefs:auth:::user/${user}"

POLICIES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "FSFullAccess": [_allow("fs:*", "pr:*")],
    "FSReadWriteAll": [
        _allow(
            *_READ,
            "fs:WriteObject",
            "fs:DeleteObject",
            "fs:RevertBranch",
            "fs:CreateBranch",
            "fs:DeleteBranch",
            "fs:CreateTag",
            "fs:DeleteTag",
            "fs:CreateCommit",
            "fs:CreateMetaRange",
            "pr:*",
        )
    ],
    "FSReadAll": [_allow(*_READ, "pr:List*", "pr:Read*")],
    "RepoManagementFullAccess": [_allow("ci:*", "retention:*", "branches:*", "fs:ReadConfig")],
    "RepoManagementReadAll": [_allow("ci:Read*", "retention:Get*", "branches:Get*", "fs:ReadConfig")],
    "AuthFullAccess": [_allow("auth:*")],
    "AuthManageOwnCredentials": [
        _allow(
            "auth:CreateCredentials",
            "auth:DeleteCredentials",
            "auth:ListCredentials",
            "auth:ReadCredentials",
            "auth:ReadUser",
            resource=_OWN,
        )
    ],
}

GROUPS: Mapping[str, Sequence[str]] = {
    "Admins": ["FSFullAccess", "AuthFullAccess", "RepoManagementFullAccess"],
    "SuperUsers": ["FSFullAccess", "AuthManageOwnCredentials", "RepoManagementReadAll"],
    "Developers": ["FSReadWriteAll", "AuthManageOwnCredentials", "RepoManagementReadAll"],
    "Viewers": ["FSReadAll", "AuthManageOwnCredentials"],
}

PERMISSIONS: Mapping[str, Sequence[str]] = {
    # what lakeFS's simple permissions of a group stand for
    "Read": GROUPS["Viewers"],
    "Write": GROUPS["Developers"],
    "Super": GROUPS["SuperUsers"],
    "Admin": GROUPS["Admins"],
}
