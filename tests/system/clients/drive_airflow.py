"""The hook of airflow-provider-lakefs, as its operators use it.

Airflow itself is not installed, as it brings hundreds of packages: the two names the hook takes from it stand
here. Everything the hook does is its own.
"""

import os
import sys
import types
from dataclasses import dataclass, field


@dataclass
class Connection:
    host: str
    login: str
    password: str
    conn_type: str = "lakefs"
    extra_dejson: dict[str, str] = field(default_factory=dict)


class BaseHook:
    def get_connection(self, _conn_id: str) -> Connection:
        return Connection(os.environ["LAKEFS_ENDPOINT"], os.environ["KEY"], os.environ["SECRET"])


for name in ("airflow", "airflow.exceptions", "airflow.hooks", "airflow.hooks.base"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["airflow.exceptions"].AirflowException = type("AirflowException", (Exception,), {})
sys.modules["airflow.hooks.base"].BaseHook = BaseHook

from awkward import KEYS, content, refused  # noqa: E402
from lakefs_provider.hooks.lakefs_hook import LakeFSHook  # noqa: E402
from lakefs_sdk.exceptions import ApiException, NotFoundException  # noqa: E402

repo = os.environ["REPOSITORY"]
hook = LakeFSHook("lakefs_default")
assert hook.test_connection() == (True, "Connection Tested Successfully")
hook.create_branch(repo, "dag-run", "main")
for key in KEYS:
    assert hook.upload(repo, "dag-run", key, content(key))
    assert hook.stat_object(repo, "dag-run", key)["path"] == key
    assert bytes(hook.get_object(repo, "dag-run", key)) == content(key)
made = hook.commit(repo, "dag-run", "From a DAG", {"dag": "etl"})
assert hook.get_branch_commit_id(repo, "dag-run") == made
assert hook.get_commit(repo, "dag-run")["metadata"] == {"dag": "etl"}
merged = hook.merge(repo, "dag-run", "main", "Merge the run", {"dag": "etl"})
assert hook.get_branch_commit_id(repo, "main") == merged
log = list(hook.log_commits(repo, "main", 1))  # a page for each
assert [commit["message"] for commit in log][:2] == ["Merge the run", "From a DAG"]
hook.delete_branch(repo, "dag-run")
with refused(NotFoundException):
    hook.get_branch_commit_id(repo, "dag-run")
with refused(ApiException):
    hook.commit(repo, "main", "nothing to commit")
print("done")
