"""lakefs-sdk, the generated client: what the high-level one does not reach."""

import os
import time
from pathlib import Path

import lakefs_sdk
from awkward import KEYS, content, refused
from lakefs_sdk import models
from lakefs_sdk.client import LakeFSClient
from lakefs_sdk.exceptions import ApiException, ForbiddenException, NotFoundException, UnauthorizedException

repo = os.environ["REPOSITORY"]


def signed_in(key: str, secret: str) -> LakeFSClient:
    return LakeFSClient(
        lakefs_sdk.Configuration(host=os.environ["LAKEFS_ENDPOINT"], username=key, password=secret)
    )


def fails(status: int, call, *arguments, **more) -> None:
    try:
        call(*arguments, **more)
    except ApiException as exc:
        assert exc.status == status, (exc.status, exc.body)
        assert '"message"' in exc.body, exc.body
        return
    raise AssertionError(f"{status} was expected")


api = signed_in(os.environ["KEY"], os.environ["SECRET"])

# ── the server ───────────────────────────────────────────────────────────────────────────────────────────
api.health_check_api.health_check()
config = api.config_api.get_config()
assert config.storage_config.blockstore_type
assert config.version_config.version
assert api.auth_api.get_current_user().user.id == "admin"
token = api.auth_api.login(
    models.LoginInformation(access_key_id=os.environ["KEY"], secret_access_key=os.environ["SECRET"])
)
bearer = LakeFSClient(lakefs_sdk.Configuration(host=os.environ["LAKEFS_ENDPOINT"], access_token=token.token))
assert bearer.repositories_api.get_repository(repo).id == repo

# ── objects ──────────────────────────────────────────────────────────────────────────────────────────────
api.branches_api.create_branch(repo, models.BranchCreation(name="dev", source="main"))
assert {b.id for b in api.branches_api.list_branches(repo).results} == {"main", "dev"}
for key in KEYS:
    made = api.objects_api.upload_object(repo, "dev", key, content=content(key))
    assert (made.path, made.path_type, made.size_bytes) == (key, "object", len(content(key)))
    assert bytes(api.objects_api.get_object(repo, "dev", key)) == content(key), key
    assert api.objects_api.stat_object(repo, "dev", key).checksum == made.checksum
    api.objects_api.head_object(repo, "dev", key)
assert bytes(api.objects_api.get_object(repo, "dev", KEYS[0], range="bytes=3-6")) == content(KEYS[0])[3:7]
fails(416, api.objects_api.get_object, repo, "dev", KEYS[0], range="bytes=9999-")
fails(412, api.objects_api.upload_object, repo, "dev", KEYS[0], if_none_match="*", content=b"again")
etag = api.objects_api.stat_object(repo, "dev", KEYS[0]).checksum
fails(412, api.objects_api.upload_object, repo, "dev", KEYS[0], if_match="0" * 32, content=b"again")
api.objects_api.upload_object(repo, "dev", KEYS[0], if_match=etag, content=content(KEYS[0]))
api.objects_api.update_object_user_metadata(
    repo, "dev", KEYS[0], models.UpdateObjectUserMetadata(set={"colour": "blue"})
)
assert api.objects_api.stat_object(repo, "dev", KEYS[0]).metadata == {"colour": "blue"}
fails(404, api.objects_api.stat_object, repo, "dev", "nothing")
fails(404, api.objects_api.get_object, repo, "no-such-ref", KEYS[0])
fails(404, api.objects_api.upload_object, repo, "no-such-branch", "x", content=b"x")

copied = api.objects_api.copy_object(
    repo, "dev", "copies/a b%.txt", models.ObjectCopyCreation(src_path=KEYS[3], src_ref="dev")
)
assert bytes(api.objects_api.get_object(repo, "dev", copied.path)) == content(KEYS[3])
seen: list[str] = []
after = ""
while True:
    page = api.objects_api.list_objects(repo, "dev", after=after, amount=4)
    seen += [item.path for item in page.results]
    if not page.pagination.has_more:
        break
    after = page.pagination.next_offset
assert seen == sorted([*KEYS, "copies/a b%.txt"], key=str.encode)
folders = api.objects_api.list_objects(repo, "dev", delimiter="/").results
assert {item.path for item in folders if item.path_type == "common_prefix"} >= {"copies/", "deep/", "ünï/"}
errors = api.objects_api.delete_objects(repo, "dev", models.PathList(paths=["copies/a b%.txt", "nothing"]))
assert not [e for e in errors.errors if e.path != "nothing"]
api.objects_api.delete_object(repo, "dev", KEYS[1])
fails(404, api.objects_api.stat_object, repo, "dev", KEYS[1])

# ── writing beside the server ────────────────────────────────────────────────────────────────────────────
place = api.staging_api.get_physical_address(repo, "dev", "beside/data.bin")
with Path(place.physical_address.removeprefix("local://")).open("wb") as file:
    file.write(b"written beside")
linked = api.staging_api.link_physical_address(
    repo,
    "dev",
    "beside/data.bin",
    models.StagingMetadata(staging=place, checksum="c0ffee", size_bytes=14, user_metadata={"a": "b"}),
)
assert (linked.path, linked.size_bytes) == ("beside/data.bin", 14)
assert bytes(api.objects_api.get_object(repo, "dev", "beside/data.bin")) == b"written beside"

# ── history ──────────────────────────────────────────────────────────────────────────────────────────────
assert {d.type for d in api.branches_api.diff_branch(repo, "dev").results} == {"added"}
commit = api.commits_api.commit(repo, "dev", models.CommitCreation(message="One", metadata={"n": "1"}))
assert api.commits_api.get_commit(repo, commit.id[:12]).id == commit.id
assert api.refs_api.diff_refs(repo, "main", "dev", amount=3).pagination.has_more
merged = api.refs_api.merge_into_branch(repo, "dev", "main", merge=models.Merge(message="Merge it"))
assert api.branches_api.get_branch(repo, "main").commit_id == merged.reference
base = api.refs_api.find_merge_base(repo, "dev", "main")
assert base.base_commit_id == commit.id
assert api.commits_api.get_commit(repo, merged.reference).parents[1] == commit.id
assert [c.message for c in api.refs_api.log_commits(repo, "main", amount=2).results] == ["Merge it", "One"]
assert api.refs_api.log_commits(repo, "main", objects=[KEYS[2]]).results[0].message == "One"
fails(400, api.commits_api.commit, repo, "dev", models.CommitCreation(message="Nothing"))
api.tags_api.create_tag(repo, models.TagCreation(id="v1", ref="main"))
fails(409, api.tags_api.create_tag, repo, models.TagCreation(id="v1", ref="dev"))
assert api.tags_api.get_tag(repo, "v1").commit_id == merged.reference
api.objects_api.upload_object(repo, "main", "bad.txt", content=b"bad")
bad = api.commits_api.commit(repo, "main", models.CommitCreation(message="Bad"))
api.branches_api.revert_branch(repo, "main", models.RevertCreation(ref=bad.id, parent_number=0))
fails(404, api.objects_api.stat_object, repo, "main", "bad.txt")
picked = api.branches_api.cherry_pick(repo, "dev", models.CherryPickCreation(ref=bad.id))
assert bytes(api.objects_api.get_object(repo, picked.id, "bad.txt")) == b"bad"
api.experimental_api.hard_reset_branch(repo, "dev", commit.id)
assert api.branches_api.get_branch(repo, "dev").commit_id == commit.id
api.objects_api.upload_object(repo, "dev", "staged/x", content=b"x")
api.branches_api.reset_branch(repo, "dev", models.ResetCreation(type="common_prefix", path="staged/"))
assert api.branches_api.diff_branch(repo, "dev").results == []

# ── pull requests ────────────────────────────────────────────────────────────────────────────────────────
api.objects_api.upload_object(repo, "dev", "pulled.txt", content=b"p")
api.commits_api.commit(repo, "dev", models.CommitCreation(message="To pull"))
asked = api.pulls_api.create_pull_request(
    repo,
    models.PullRequestCreation(
        title="Please", description="…", source_branch="dev", destination_branch="main"
    ),
)
assert [p.id for p in api.pulls_api.list_pull_requests(repo, status="open").results] == [asked.id]
api.pulls_api.merge_pull_request(repo, asked.id)
assert api.pulls_api.get_pull_request(repo, asked.id).status == "merged"
assert bytes(api.objects_api.get_object(repo, "main", "pulled.txt")) == b"p"

# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────
api.repositories_api.set_branch_protection_rules(repo, [models.BranchProtectionRule(pattern="prod-*")])
assert [r.pattern for r in api.repositories_api.get_branch_protection_rules(repo)] == ["prod-*"]
api.branches_api.create_branch(repo, models.BranchCreation(name="prod-1", source="main"))
fails(403, api.objects_api.upload_object, repo, "prod-1", "x", content=b"x")
rules = models.GarbageCollectionRules(
    default_retention_days=21, branches=[models.GarbageCollectionRule(branch_id="main", retention_days=28)]
)
api.repositories_api.set_gc_rules(repo, rules)
assert api.repositories_api.get_gc_rules(repo).default_retention_days == 21
api.repositories_api.delete_gc_rules(repo)
fails(404, api.repositories_api.get_gc_rules, repo)

# ── users and what they may ──────────────────────────────────────────────────────────────────────────────
api.auth_api.create_user(models.UserCreation(id="reader"))
keys = api.auth_api.create_credentials("reader")
reader = signed_in(keys.access_key_id, keys.secret_access_key)
fails(403, reader.objects_api.get_object, repo, "main", "pulled.txt")
statement = models.Statement(
    effect="allow",
    resource=f"arn:lakefs:fs:::repository/{repo}*",
    action=["fs:ReadRepository", "fs:ReadObject", "fs:ListObjects", "fs:ReadBranch", "fs:ReadCommit"],
)
api.auth_api.create_policy(models.Policy(id="reads-it", statement=[statement]))
api.auth_api.create_group(models.GroupCreation(id="readers"))
api.auth_api.attach_policy_to_group("readers", "reads-it")
api.auth_api.add_group_membership("readers", "reader")
for _ in range(20):  # told anew within a second
    try:
        assert bytes(reader.objects_api.get_object(repo, "main", "pulled.txt")) == b"p"
        break
    except ForbiddenException:
        time.sleep(0.1)
else:
    raise AssertionError("the policy is not followed")
fails(403, reader.objects_api.upload_object, repo, "main", "x", content=b"x")
api.auth_api.delete_credentials("reader", keys.access_key_id)
time.sleep(1)
with refused(UnauthorizedException):
    reader.repositories_api.get_repository(repo)
api.auth_api.delete_user("reader")
with refused(NotFoundException):
    api.auth_api.get_user("reader")
assert api.actions_api.list_repository_runs(repo).results == []
print("done")
