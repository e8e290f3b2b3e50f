"""The one decision of the lake's doors: may this user do that here; and who a caller is.

What is decided from is read from the database at most twice a second and at once after a change of this process,
so that a key or policy that was taken away has no effect after half a second. Knows no door.
"""

from __future__ import annotations

import hmac
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from sqlalchemy import Connection

from tulle.errors import Denied, NotFound, TulleError
from tulle.events import ACCESS_DENIED, ACCESS_KEY_CREATED, ACCESS_KEY_DELETED, Event
from tulle.lake.access import people
from tulle.lake.access.builtin import GROUPS, POLICIES
from tulle.lake.access.people import AccessKey
from tulle.lake.access.policy import Decision, Rules, rules_for
from tulle.lake.access.tokens import Signer
from tulle.state import log
from tulle.state.db import Database, in_turn, now
from tulle.state.secrets import Secrets, open_secrets

FRESH_SECONDS = 0.5
TOKEN_SECONDS = 7 * 86_400.0
DENIALS_A_MINUTE = 60  # of one user in the trail; what comes beyond is in the doors' own logs

MOST_DECISIONS = 50_000  # kept; beyond, all are made anew
MOST_KEYS = 10_000

T = TypeVar("T")

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Key:
    """Whose an access key is, and its secret, which signatures need."""

    user: str
    secret: str = field(repr=False)


@dataclass(slots=True)
class _Known:
    """What is known of a user until a moment: none of it when there is no such user."""

    until: float
    rules: Rules | None
    since: float
    decided: dict[tuple[str, ...], Decision] = field(default_factory=dict)


class Access:
    """Users and what they may do. Safe to share between threads."""

    def __init__(self, database: Database, secrets: Secrets) -> None:
        self.database = database
        self.signer = Signer(secrets.derived("tulle signatures"), now)
        self._secrets = secrets
        self._lock = threading.Lock()
        self._changes = 0  # what was read before a change is not kept after it
        self._keys: dict[str, tuple[float, Key | None]] = {}
        self._users: dict[str, _Known] = {}
        self._decisions = 0
        self._denials: dict[str, tuple[int, int]] = {}

    # ── who ──────────────────────────────────────────────────────────────────────────────────────────────

    def key(self, access_key_id: str) -> Key | None:
        """Whose the key is, with its secret; None when there is none, or it has expired."""
        found = self._keys.get(access_key_id)
        if found is not None and found[0] > time.monotonic():
            return found[1]
        changes = self._changes
        with self.database.read() as cx:
            row = people.find_key(cx, access_key_id)
        key = None if row is None else Key(row[0].user, self._secrets.decrypt(row[1], access_key_id))
        with self._lock:
            if len(self._keys) > MOST_KEYS:
                self._keys.clear()
            if changes == self._changes:
                self._keys[access_key_id] = time.monotonic() + FRESH_SECONDS, key
        return key

    def sign_in(self, access_key_id: str, secret: str) -> str:
        """The user whose key and secret these are. Denied, the same for an unknown key and a wrong secret."""
        key = self.key(access_key_id)
        known = (key.secret if key else "?" * 40).encode()
        if not hmac.compare_digest(known, secret.encode("utf-8", "replace")) or key is None:
            raise Denied("the access key or its secret is wrong")
        return key.user

    def issue_token(self, user: str, seconds: float = TOKEN_SECONDS, *, key: str = "") -> tuple[str, int]:
        """A token that stands for a user, and when it expires (seconds since the epoch).

        With the `key` it was got with it ends when that key does.
        """
        return self.signer.token(user, seconds, key)

    def user_of_token(self, token: str) -> str:
        """Whom a token stands for. Denied, also when the user or the key it was got with is gone."""
        claim = self.signer.claim_of(token)
        known = self._known(claim.user)
        if known.rules is None or claim.issued < known.since:
            raise Denied("the token's user does not exist any more")
        if claim.key:
            key = self.key(claim.key)
            if key is None or key.user != claim.user:
                raise Denied("the access key of this token does not exist any more", hint="sign in again")
        return claim.user

    # ── what ─────────────────────────────────────────────────────────────────────────────────────────────

    def decide(self, user: str, action: str, *resources: str, client: str = "") -> Decision:
        """Whether a user may do `action` on what the names name (several names of the same thing), and why."""
        known = self._known(user)
        rules = known.rules
        if rules is None:
            return Decision(False, "the user does not exist")
        question = (client if rules.conditional else "", action, *resources)
        decided = known.decided.get(question)
        if decided is None:
            decided = rules.decide(action, resources, client)
            known.decided[question] = decided  # with the rules it was made by, and gone with them
            self._decisions += 1
            if self._decisions > MOST_DECISIONS:
                with self._lock:
                    self._users.clear()
                    self._decisions = 0
        return decided

    def demand_below(self, user: str, action: str, *beginnings: str) -> None:
        """Denied unless the user may do `action` on everything whose name begins with one of the names."""
        decision = self._rules(user).decide_below(action, beginnings)
        if not decision.allowed:
            self.refuse(user, action, f"all of {beginnings[0]}*", decision)

    def decide_shown(self, user: str, action: str, hidden: Sequence[str], shown: Sequence[str]) -> Decision:
        """Whether what begins with one of `hidden`, once it is below `shown`, is open to no user it was not."""
        return self._rules(user).decide_shown(action, hidden, shown)

    def _rules(self, user: str) -> Rules:
        rules = self._known(user).rules
        if rules is None:
            raise Denied(f"user '{user}' does not exist")
        return rules

    def demand(self, user: str, action: str, *resources: str, client: str = "") -> None:
        """Denied, with the reason, unless the user may; a denial is in the trail."""
        decision = self.decide(user, action, *resources, client=client)
        if not decision.allowed:
            self.refuse(user, action, resources[0] if resources else "*", decision)

    def refuse(self, user: str, action: str, what: str, decision: Decision) -> NoReturn:
        """Denied, with the reason; it is in the trail."""
        if self._is_worth_recording(user):
            try:
                self.audit(user, action, what, "denied", reason=decision.reason)
            except TulleError as exc:  # what cannot be recorded is denied all the same
                _LOG.warning("a denial could not be recorded: %s", exc.message)
        raise Denied(
            f"user '{user}' may not {action} on {what}: {decision.reason}",
            hint="have a policy attached that allows it",
        )

    @staticmethod
    def resource_repository(repository: str) -> str:
        """The name of a repository."""
        return f"arn:lakefs:fs:::repository/{repository}"

    @staticmethod
    def resource_branch(repository: str, branch: str) -> str:
        """The name of a branch."""
        return f"arn:lakefs:fs:::repository/{repository}/branch/{branch}"

    @staticmethod
    def resource_tag(repository: str, tag: str) -> str:
        """The name of a tag."""
        return f"arn:lakefs:fs:::repository/{repository}/tag/{tag}"

    @staticmethod
    def resource_object(repository: str, branch: str, path: str) -> tuple[str, ...]:
        """The names of an object: lakeFS's, which is the same on all branches, and ours on this branch."""
        top = f"arn:lakefs:fs:::repository/{repository}"
        return f"{top}/object/{path}", f"{top}/branch/{branch}/object/{path}"

    @staticmethod
    def resource_user(user: str) -> str:
        """The name of a user."""
        return f"arn:lakefs:auth:::user/{user}"

    @staticmethod
    def resource_group(group: str) -> str:
        """The name of a group."""
        return f"arn:lakefs:auth:::group/{group}"

    @staticmethod
    def resource_policy(policy: str) -> str:
        """The name of a policy."""
        return f"arn:lakefs:auth:::policy/{policy}"

    # ── changing and recording ───────────────────────────────────────────────────────────────────────────

    def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query of `people`."""
        with self.database.read() as cx:
            return query(cx)

    def change(
        self,
        actor: str,
        kind: str,
        subject: str,
        work: Callable[[Connection], T],
        details: Mapping[str, Any] | None = None,
    ) -> T:
        """Run a change of `people`, record it in the trail in the same transaction, and let it have effect.

        `kind` is that of the event, `subject` whom it is about (`user/ann`).
        """
        try:
            with self.database.write() as cx:
                in_turn(cx, "access")  # nobody is given a policy while being removed
                result = work(cx)
                log.append(cx, Event(kind, _plain(subject), dict(details or {})), actor=actor)
        finally:
            self.forget()
        return result

    def create_key(self, actor: str, user: str, *, expires_at: float | None = None) -> AccessKey:
        """Make an access key for a user; its secret is in the answer and nowhere else. NotFound."""
        details: dict[str, Any] = {} if expires_at is None else {"expires_at": expires_at}

        def work(cx: Connection) -> AccessKey:
            made = people.add_key(cx, user, self._secrets.encrypt, expires_at=expires_at)
            details["key"] = made.id
            return made

        return self.change(actor, ACCESS_KEY_CREATED, f"user/{user}", work, details)

    def delete_key(self, actor: str, user: str, access_key_id: str) -> None:
        """Take a key away: at once in this process, within half a second in the others. NotFound."""
        self.change(
            actor,
            ACCESS_KEY_DELETED,
            f"user/{user}",
            lambda cx: people.delete_key(cx, user, access_key_id),
            {"key": access_key_id},
        )

    def audit(self, actor: str, action: str, resource: str, outcome: str, **details: Any) -> None:
        """Record in the trail what somebody did or was denied."""
        data = {"action": action, "outcome": outcome, **details}
        kind = ACCESS_DENIED if outcome == "denied" else action
        with self.database.write() as cx:
            log.append(cx, Event(kind, _plain(resource), data), actor=actor)

    def forget(self) -> None:
        """Let the next decisions be made from what the database says now."""
        with self._lock:
            self._changes += 1
            self._keys.clear()
            self._users.clear()

    def _known(self, user: str) -> _Known:
        found = self._users.get(user)
        if found is not None and found.until > time.monotonic():
            return found
        changes = self._changes
        rules, since = None, 0.0
        with self.database.read() as cx:
            try:
                since = people.get_user(cx, user).created_at
                rules = rules_for(user, people.effective_policies(cx, user))
            except NotFound:
                rules = None
        known = _Known(time.monotonic() + FRESH_SECONDS, rules, since)
        if found is not None and found.rules == rules:
            known.decided = found.decided
        with self._lock:
            if len(self._users) > MOST_KEYS:
                self._users.clear()
            if changes == self._changes:
                self._users[user] = known
        return known

    def _is_worth_recording(self, user: str) -> bool:
        minute = int(time.monotonic() // 60)
        with self._lock:
            if len(self._denials) > 1000:
                self._denials.clear()
            since, count = self._denials.get(user, (minute, 0))
            count = count + 1 if since == minute else 1
            self._denials[user] = minute, count
        return count <= DENIALS_A_MINUTE


def open_access(database: Database, secrets_file: Path) -> Access:
    """The access of a mesh; makes the key file, and once the built-in policies and groups.

    Unavailable when the key file is missing though keys are encrypted with it, or cannot be used.
    """
    with database.read() as cx:
        is_new, has_keys = not people.has_any(cx), people.has_keys(cx)
    access = Access(database, open_secrets(secrets_file, make=not has_keys))
    if is_new:
        with database.write() as cx:
            in_turn(cx, "access")
            make_built_in(cx)  # asks again inside: another process may be as new
    return access


def make_built_in(cx: Connection) -> None:
    """Make the built-in policies and groups where there is none of any kind: in a new mesh, before all others."""
    if people.has_any(cx):
        return
    for name, statements in POLICIES.items():
        people.add_policy(cx, name, statements)
    for name, attached in GROUPS.items():
        people.add_group(cx, name)
        for policy in attached:
            people.attach(cx, policy, "group", name)


def _plain(text: str) -> str:
    return text[:255].encode("utf-8", "replace").decode()
