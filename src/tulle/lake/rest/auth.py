"""Users, groups, policies and access keys: who may do what, in lakeFS's forms.

Permissions have lakeFS's names: `auth:CreateUser` on `arn:lakefs:auth:::user/ann`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection

from tulle import events
from tulle.errors import Denied, Invalid
from tulle.lake.access import people
from tulle.lake.access.builtin import PERMISSIONS
from tulle.lake.access.people import AccessKey, Group, Holder, User
from tulle.lake.access.policy import Policy
from tulle.lake.door import Outgoing
from tulle.lake.rest.call import Call, cut, json_answer, no_content, page_of, paged
from tulle.lake.rest.failure import Refusal, unauthenticated, unsupported
from tulle.lake.rest.router import Handler, Route
from tulle.state.db import now

MAX_KEY_SECONDS = 10 * 366 * 86_400

T = TypeVar("T")


class _Login(msgspec.Struct):
    access_key_id: str
    secret_access_key: str


class _NewUser(msgspec.Struct):
    id: str
    invite_user: bool = False


class _NewGroup(msgspec.Struct):
    id: str
    description: str = ""


class _NewPolicy(msgspec.Struct):
    id: str
    statement: Any = None  # judged after the permission


class _Acl(msgspec.Struct):
    permission: str


# ── forms ────────────────────────────────────────────────────────────────────────────────────────────────


def _user(user: User) -> dict[str, Any]:
    form: dict[str, Any] = {"id": user.id, "creation_date": int(user.created_at)}
    if user.friendly_name:
        form["friendly_name"] = user.friendly_name
    if user.email:
        form["email"] = user.email
    return form


def _group(group: Group) -> dict[str, Any]:
    return {
        "id": group.id,
        "name": group.id,
        "description": group.description,
        "creation_date": int(group.created_at),
    }


def _policy(policy: Policy) -> dict[str, Any]:
    return {
        "id": policy.id,
        "creation_date": int(policy.created_at),
        "statement": [statement.as_dict() for statement in policy.statements],
    }


def _key(key: AccessKey) -> dict[str, Any]:
    form: dict[str, Any] = {"access_key_id": key.id, "creation_date": int(key.created_at)}
    if key.expires_at is not None:
        form["expiration_date"] = int(key.expires_at)
    return form


def _page(
    call: Call, query: Callable[[Connection, str, str, int], Sequence[T]], form: Callable[[T], dict[str, Any]]
) -> Outgoing:
    """A page of what `query(cx, prefix, after, limit)` finds."""
    prefix, after, amount = call.query("prefix"), call.query("after"), call.amount()
    kept, more = cut(call.access.read(lambda cx: query(cx, prefix, after, amount + 1)), amount)
    forms = [form(item) for item in kept]
    last = (forms[-1].get("id") or forms[-1]["access_key_id"]) if forms else ""
    return json_answer(page_of(forms, has_more=more, next_offset=last))


def _changed(call: Call, kind: str, subject: str, work: Callable[[Connection], T], **details: object) -> T:
    return call.access.change(call.user, kind, subject, work, details)


# ── signing in ───────────────────────────────────────────────────────────────────────────────────────────


def current_user(call: Call) -> Outgoing:
    """Who calls. Everybody may know that of themselves."""
    return json_answer({"user": _user(call.access.read(lambda cx: people.get_user(cx, call.user)))})


def login(call: Call) -> Outgoing:
    """A token for an access key; it ends with the key."""
    given = call.json(_Login)
    try:
        call.user = call.access.sign_in(given.access_key_id, given.secret_access_key)
    except Denied as exc:
        raise unauthenticated(exc.message) from None
    token, expires = call.access.issue_token(call.user, key=given.access_key_id)
    return json_answer({"token": token, "token_expiration": expires}, headers=[("cache-control", "no-store")])


def capabilities(call: Call) -> Outgoing:  # noqa: ARG001  every handler has one form
    """Nobody is invited by mail, and there are no passwords to forget."""
    return json_answer({"invite_user": False, "forgot_password": False})


def setup_state(call: Call) -> Outgoing:  # noqa: ARG001
    """A mesh has its administrator from the start."""
    sign_in = {
        "RBAC": "internal",
        "login_url": "",
        "login_url_method": "none",
        "login_cookie_names": [],
        "logout_url": "",
    }
    return json_answer({"state": "initialized", "comm_prefs_missing": False, "login_config": sign_in})


def setup(call: Call) -> Outgoing:  # noqa: ARG001
    """It was done when the mesh was made."""
    raise Refusal(409, "the lake is set up already: .tulle/lakectl.yaml has the administrator's key")


def setup_preferences(call: Call) -> Outgoing:
    """What somebody tells of themselves is taken and dropped: nothing leaves this mesh."""
    call.request.body(1024 * 1024)
    return Outgoing(200, b"")


# ── users ────────────────────────────────────────────────────────────────────────────────────────────────


def _demand_user(call: Call, action: str) -> str:
    call.demand(action, call.access.resource_user(call["userId"]))
    return call["userId"]


def list_users(call: Call) -> Outgoing:
    """Users by name."""
    call.demand("auth:ListUsers", "*")
    return _page(call, people.list_users, _user)


def create_user(call: Call) -> Outgoing:
    """Make a user, who may do nothing yet."""
    new = call.json(_NewUser)
    call.demand("auth:CreateUser", call.access.resource_user(new.id))
    if new.invite_user:
        raise unsupported("nobody is invited by mail here; make the user and hand over an access key")
    made = _changed(
        call, events.ACCESS_USER_CREATED, f"user/{new.id}", lambda cx: people.add_user(cx, new.id)
    )
    return json_answer(_user(made), 201)


def get_user(call: Call) -> Outgoing:
    """One user."""
    user = _demand_user(call, "auth:ReadUser")
    return json_answer(_user(call.access.read(lambda cx: people.get_user(cx, user))))


def delete_user(call: Call) -> Outgoing:
    """Remove a user, with all keys."""
    user = _demand_user(call, "auth:DeleteUser")
    _changed(call, events.ACCESS_USER_DELETED, f"user/{user}", lambda cx: people.delete_user(cx, user))
    return no_content()


def user_groups(call: Call) -> Outgoing:
    """The groups a user is in."""
    user = _demand_user(call, "auth:ReadUser")
    return _page(call, lambda cx, *page: people.groups_of(cx, user, *page), _group)


def user_policies(call: Call) -> Outgoing:
    """The policies of a user; with `effective` those of the user's groups too."""
    user = _demand_user(call, "auth:ReadUser")
    if call.flag("effective"):
        found = call.access.read(lambda cx: people.effective_policies(cx, user))
        return paged([(policy.id, _policy(policy)) for policy in found], call)
    return _page(call, lambda cx, *page: people.policies_of(cx, "user", user, *page), _policy)


# ── access keys ──────────────────────────────────────────────────────────────────────────────────────────


def list_keys(call: Call) -> Outgoing:
    """A user's keys, without their secrets."""
    user = _demand_user(call, "auth:ListCredentials")
    return _page(call, lambda cx, *page: people.keys_of(cx, user, *page), _key)


def create_key(call: Call) -> Outgoing:
    """Make a key; its secret is told this once. `expires_in` is its life in seconds, without end by default."""
    user = _demand_user(call, "auth:CreateCredentials")
    seconds = call.number("expires_in", 0, 1, MAX_KEY_SECONDS)
    made = call.access.create_key(call.user, user, expires_at=now() + seconds if seconds else None)
    form = {**_key(made), "secret_access_key": made.secret}
    return json_answer(form, 201, headers=[("cache-control", "no-store")])


def get_key(call: Call) -> Outgoing:
    """One key, without its secret."""
    user = _demand_user(call, "auth:ReadCredentials")
    return json_answer(_key(call.access.read(lambda cx: people.get_key(cx, user, call["accessKeyId"]))))


def delete_key(call: Call) -> Outgoing:
    """Take a key away."""
    user = _demand_user(call, "auth:DeleteCredentials")
    call.access.delete_key(call.user, user, call["accessKeyId"])
    return no_content()


# ── groups ───────────────────────────────────────────────────────────────────────────────────────────────


def _demand_group(call: Call, action: str) -> str:
    call.demand(action, call.access.resource_group(call["groupId"]))
    return call["groupId"]


def list_groups(call: Call) -> Outgoing:
    """Groups by name."""
    call.demand("auth:ListGroups", "*")
    return _page(call, people.list_groups, _group)


def create_group(call: Call) -> Outgoing:
    """Make a group, which gives nothing yet."""
    new = call.json(_NewGroup)
    call.demand("auth:CreateGroup", call.access.resource_group(new.id))
    made = _changed(
        call,
        events.ACCESS_GROUP_CREATED,
        f"group/{new.id}",
        lambda cx: people.add_group(cx, new.id, new.description),
    )
    return json_answer(_group(made), 201)


def get_group(call: Call) -> Outgoing:
    """One group."""
    group = _demand_group(call, "auth:ReadGroup")
    return json_answer(_group(call.access.read(lambda cx: people.get_group(cx, group))))


def delete_group(call: Call) -> Outgoing:
    """Remove a group; its members stay."""
    group = _demand_group(call, "auth:DeleteGroup")
    _changed(call, events.ACCESS_GROUP_DELETED, f"group/{group}", lambda cx: people.delete_group(cx, group))
    return no_content()


def list_members(call: Call) -> Outgoing:
    """The users of a group."""
    group = _demand_group(call, "auth:ReadGroup")
    return _page(call, lambda cx, *page: people.members(cx, group, *page), _user)


def add_member(call: Call) -> Outgoing:
    """Put a user into a group."""
    group, user = _demand_group(call, "auth:AddGroupMember"), call["userId"]
    _changed(
        call,
        events.ACCESS_MEMBER_ADDED,
        f"group/{group}",
        lambda cx: people.add_member(cx, group, user),
        user=user,
    )
    return Outgoing(201, b"")


def remove_member(call: Call) -> Outgoing:
    """Take a user out of a group."""
    group, user = _demand_group(call, "auth:RemoveGroupMember"), call["userId"]
    _changed(
        call,
        events.ACCESS_MEMBER_REMOVED,
        f"group/{group}",
        lambda cx: people.remove_member(cx, group, user),
        user=user,
    )
    return no_content()


def group_policies(call: Call) -> Outgoing:
    """The policies of a group."""
    group = _demand_group(call, "auth:ReadGroup")
    return _page(call, lambda cx, *page: people.policies_of(cx, "group", group, *page), _policy)


def set_acl(call: Call) -> Outgoing:
    """Give a group what one of lakeFS's four permissions stands for, instead of all it has."""
    group = _demand_group(call, "auth:AttachPolicy")
    permission = call.json(_Acl).permission
    wanted = PERMISSIONS.get(permission.capitalize())
    if wanted is None:
        raise Invalid(f"'{permission}' is no permission", hint=", ".join(PERMISSIONS))

    def work(cx: Connection) -> None:
        for policy in people.policies_of(cx, "group", group):
            people.detach(cx, policy.id, "group", group)
        for name in wanted:
            people.attach(cx, name, "group", group)

    _changed(call, events.ACCESS_GROUP_PERMITTED, f"group/{group}", work, permission=permission)
    return Outgoing(201, b"")


def get_acl(call: Call) -> Outgoing:
    """Which of lakeFS's permissions a group has, where its policies are just those of one."""
    group = _demand_group(call, "auth:ReadGroup")
    has = {policy.id for policy in call.access.read(lambda cx: people.policies_of(cx, "group", group))}
    for permission, wanted in PERMISSIONS.items():
        if has == set(wanted):
            return json_answer({"permission": permission})
    raise Refusal(
        404,
        f"what the policies of group '{group}' allow is none of the four permissions",
        fields={"no_acl": True},
    )


# ── policies ─────────────────────────────────────────────────────────────────────────────────────────────


def _demand_policy(call: Call, action: str) -> str:
    call.demand(action, call.access.resource_policy(call["policyId"]))
    return call["policyId"]


def list_policies(call: Call) -> Outgoing:
    """Policies by name."""
    call.demand("auth:ListPolicies", "*")
    return _page(call, people.list_policies, _policy)


def create_policy(call: Call) -> Outgoing:
    """Make a policy, which nobody has yet."""
    new = call.json(_NewPolicy)
    call.demand("auth:CreatePolicy", call.access.resource_policy(new.id))
    made = _changed(
        call,
        events.ACCESS_POLICY_CREATED,
        f"policy/{new.id}",
        lambda cx: people.add_policy(cx, new.id, new.statement),
        statement=new.statement,
    )
    return json_answer(_policy(made), 201)


def get_policy(call: Call) -> Outgoing:
    """One policy."""
    policy = _demand_policy(call, "auth:ReadPolicy")
    return json_answer(_policy(call.access.read(lambda cx: people.get_policy(cx, policy))))


def update_policy(call: Call) -> Outgoing:
    """Replace the statements of a policy."""
    policy = _demand_policy(call, "auth:UpdatePolicy")
    new = call.json(_NewPolicy)
    if new.id != policy:
        raise Invalid(f"policy '{policy}' cannot become '{new.id}'", hint="a policy keeps its name")
    made = _changed(
        call,
        events.ACCESS_POLICY_CHANGED,
        f"policy/{policy}",
        lambda cx: people.set_policy(cx, policy, new.statement),
        statement=new.statement,
    )
    return json_answer(_policy(made))


def delete_policy(call: Call) -> Outgoing:
    """Remove a policy, from whoever has it."""
    policy = _demand_policy(call, "auth:DeletePolicy")
    _changed(
        call, events.ACCESS_POLICY_DELETED, f"policy/{policy}", lambda cx: people.delete_policy(cx, policy)
    )
    return no_content()


def _attacher(kind: Holder) -> Handler:
    demand = _DEMANDS[kind]

    def attach(call: Call) -> Outgoing:
        holder, policy = demand(call, "auth:AttachPolicy"), call["policyId"]
        _changed(
            call,
            events.ACCESS_POLICY_ATTACHED,
            f"{kind}/{holder}",
            lambda cx: people.attach(cx, policy, kind, holder),
            policy=policy,
        )
        return Outgoing(201, b"")

    return attach


def _detacher(kind: Holder) -> Handler:
    demand = _DEMANDS[kind]

    def detach(call: Call) -> Outgoing:
        holder, policy = demand(call, "auth:DetachPolicy"), call["policyId"]
        _changed(
            call,
            events.ACCESS_POLICY_DETACHED,
            f"{kind}/{holder}",
            lambda cx: people.detach(cx, policy, kind, holder),
            policy=policy,
        )
        return no_content()

    return detach


_DEMANDS: Mapping[Holder, Callable[[Call, str], str]] = {"user": _demand_user, "group": _demand_group}

_U = "/auth/users/{userId}"
_G = "/auth/groups/{groupId}"
_P = "/auth/policies/{policyId}"

ROUTES = [
    Route("GET", "/user", current_user, "getCurrentUser"),
    Route("POST", "/auth/login", login, "login", public=True),
    Route("GET", "/auth/capabilities", capabilities, "getAuthCapabilities", public=True),
    Route("GET", "/setup_lakefs", setup_state, "getSetupState", public=True),
    Route("POST", "/setup_lakefs", setup, "setup", public=True),
    Route("POST", "/setup_comm_prefs", setup_preferences, "setupCommPrefs", public=True),
    Route("GET", "/auth/users", list_users, "listUsers"),
    Route("POST", "/auth/users", create_user, "createUser"),
    Route("GET", _U, get_user, "getUser"),
    Route("DELETE", _U, delete_user, "deleteUser"),
    Route("GET", f"{_U}/groups", user_groups, "listUserGroups"),
    Route("GET", f"{_U}/policies", user_policies, "listUserPolicies"),
    Route("PUT", f"{_U}/policies/{{policyId}}", _attacher("user"), "attachPolicyToUser"),
    Route("DELETE", f"{_U}/policies/{{policyId}}", _detacher("user"), "detachPolicyFromUser"),
    Route("GET", f"{_U}/credentials", list_keys, "listUserCredentials"),
    Route("POST", f"{_U}/credentials", create_key, "createCredentials"),
    Route("GET", f"{_U}/credentials/{{accessKeyId}}", get_key, "getCredentials"),
    Route("DELETE", f"{_U}/credentials/{{accessKeyId}}", delete_key, "deleteCredentials"),
    Route("GET", "/auth/groups", list_groups, "listGroups"),
    Route("POST", "/auth/groups", create_group, "createGroup"),
    Route("GET", _G, get_group, "getGroup"),
    Route("DELETE", _G, delete_group, "deleteGroup"),
    Route("GET", f"{_G}/members", list_members, "listGroupMembers"),
    Route("PUT", f"{_G}/members/{{userId}}", add_member, "addGroupMembership"),
    Route("DELETE", f"{_G}/members/{{userId}}", remove_member, "deleteGroupMembership"),
    Route("GET", f"{_G}/policies", group_policies, "listGroupPolicies"),
    Route("PUT", f"{_G}/policies/{{policyId}}", _attacher("group"), "attachPolicyToGroup"),
    Route("DELETE", f"{_G}/policies/{{policyId}}", _detacher("group"), "detachPolicyFromGroup"),
    Route("POST", f"{_G}/acl", set_acl, "setGroupACL"),
    Route("GET", f"{_G}/acl", get_acl, "getGroupACL"),
    Route("GET", "/auth/policies", list_policies, "listPolicies"),
    Route("POST", "/auth/policies", create_policy, "createPolicy"),
    Route("GET", _P, get_policy, "getPolicy"),
    Route("PUT", _P, update_policy, "updatePolicy"),
    Route("DELETE", _P, delete_policy, "deletePolicy"),
]
