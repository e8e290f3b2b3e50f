"""Facts that happened, as frozen values. Slices that may not import each other meet through these.

An event is appended in the same transaction as the change it tells of (`state.log`), so it is there if and
only if the change is. What each means, its fields and who is told of it: docs/reference/events.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One fact: `kind` is a dotted past-tense verb (`run.finished`), `subject` names what it is about."""

    kind: str
    subject: str
    data: Mapping[str, Any] = field(default_factory=dict)


PRODUCT_APPLIED = "product.applied"
PRODUCT_DESTROYED = "product.destroyed"
NOTICE_GIVEN = "product.notice_given"  # to who relied on what was destroyed all the same
RUN_STARTED = "run.started"
RUN_FINISHED = "run.finished"
STEP_STARTED = "step.started"
STEP_FINISHED = "step.finished"
STEPS_KEPT = "steps.kept"  # several at once: nothing was to be done
PRODUCT_DEPRECATED = "product.deprecated"
PRODUCT_REINSTATED = "product.reinstated"
RELEASE_MADE = "release.made"
PROMOTION_REQUESTED = "promotion.requested"
PROMOTION_DECIDED = "promotion.decided"
PROMOTION_REOPENED = "promotion.reopened"  # what it breaks is no longer what was approved
PROMOTION_ENDED = "promotion.ended"
ROLLBACK_ENDED = "rollback.ended"
PREVIEW_CREATED = "preview.created"
PREVIEW_REMOVED = "preview.removed"
DATA_LATE = "data.late"
SERVICE_DRIFT = "service.drift"  # of a product's services: `drifted`, and what (`message`)
CALLS_WATCHED = "calls.watched"  # of a product's service: `watch`, `broken`, and what (`message`, `severity`)
SCHEDULE_PAUSED = "schedule.paused"
SCHEDULE_RESUMED = "schedule.resumed"
BACKFILL_STARTED = "backfill.started"
BACKFILL_RESUMED = "backfill.resumed"
BACKFILL_CANCELLED = "backfill.cancelled"
PACKAGE_BUILT = "package.built"
GENERATION_REQUESTED = "generation.requested"
GENERATION_ACTIVATED = "generation.activated"
GENERATION_FAILED = "generation.failed"
GENERATION_TESTED = "generation.tested"  # how its test queries went (`status`, `message`) once it ran
GENERATION_WITHDRAWN = "generation.withdrawn"
SERVICE_CHANGED = "service.changed"
SERVICE_REPLAYED = "service.replayed"  # recorded requests were asked again of a `version`
SERVICE_WRITTEN = "service.written"
DEPLOYMENT_REQUESTED = "deployment.requested"
DEPLOYMENT_DECIDED = "deployment.decided"
DEPLOYMENT_ENDED = "deployment.ended"
APPLICATION_REGISTERED = "application.registered"
APPLICATION_ROTATED = "application.rotated"
APPLICATION_REVOKED = "application.revoked"
SERVICE_KEY_CREATED = "service_key.created"
SERVICE_KEY_CHANGED = "service_key.changed"
SERVICE_KEY_REVOKED = "service_key.revoked"
ADMIN_KEY_CREATED = "admin_key.created"
ADMIN_KEY_DELETED = "admin_key.deleted"
SERVICE_ACCESS_CHANGED = "service.access_changed"
SERVICE_POLICIES_CHANGED = "service.policies_changed"
APPLICATION_CHANGED = "application.changed"
APPLICATION_SECRET_ENDS = "application.secret_ends"  # noqa: S105  an event: soon, `until`
CONTRACT_REQUESTED = "contract.requested"
CONTRACT_APPROVED = "contract.approved"
CONTRACT_REJECTED = "contract.rejected"
CONTRACT_CHANGED = "contract.changed"
CONTRACT_REVOKED = "contract.revoked"
CONTRACT_RESTORED = "contract.restored"
CONTRACT_EXPIRING = "contract.expiring"  # soon: `until`
CONTRACT_EXPIRED = "contract.expired"
CONTRACT_DELETED = "contract.deleted"
TERMS_ACCEPTED = "terms.accepted"
OFFER_CHANGED = "offer.changed"
API_CHANGED = "api.changed"  # of a version: where it is in its life, or that it is gone
API_RATED = "api.rated"  # or the rating taken back; `stars` None
API_REPLIED = "api.replied"  # an owner, to a rating
API_ASKED = "api.asked"  # a question of somebody's
API_ANSWERED = "api.answered"
API_REMARK_REMOVED = "api.remark_removed"  # a question or an answer
API_POLICIES_CHANGED = "api.policies_changed"  # of an instance, by hand; nothing said: as its version says
API_BOUND = "api.bound"  # what answers an instance; nothing said: what is declared
MESH_TAKEN_UP = "mesh.taken_up"  # what mesh.yaml says of the gateway, while the mesh runs
GATEWAY_PUBLISHED = "gateway.published"
GATEWAY_PINNED = "gateway.pinned"  # rolled back to a version, until it is resumed
GATEWAY_RESTARTED = "gateway.restarted"  # another process was asked to take it over
GATEWAY_RESUMED = "gateway.resumed"
GATEWAY_GUESSED = "gateway.guessed"  # secrets were tried, from `address`
AUTHORITY_MADE = "authority.made"
AUTHORITY_ENDED = "authority.ended"
ACCESS_USER_CREATED = "access.user_created"
ACCESS_USER_DELETED = "access.user_deleted"
ACCESS_GROUP_CREATED = "access.group_created"
ACCESS_GROUP_DELETED = "access.group_deleted"
ACCESS_GROUP_PERMITTED = "access.group_permitted"
ACCESS_MEMBER_ADDED = "access.member_added"
ACCESS_MEMBER_REMOVED = "access.member_removed"
ACCESS_POLICY_CREATED = "access.policy_created"
ACCESS_POLICY_CHANGED = "access.policy_changed"
ACCESS_POLICY_DELETED = "access.policy_deleted"
ACCESS_POLICY_ATTACHED = "access.policy_attached"
ACCESS_POLICY_DETACHED = "access.policy_detached"
ACCESS_KEY_CREATED = "access.key_created"
ACCESS_KEY_DELETED = "access.key_deleted"
ACCESS_PASSWORD_SET = "access.password_set"  # noqa: S105  no secret
ACCESS_PASSWORD_REMOVED = "access.password_removed"  # noqa: S105  no secret
ACCESS_ROLES_CHANGED = "access.roles_changed"  # of a product, by its document
ACCESS_DENIED = "access.denied"
CONNECTION_CHANGED = "connection.changed"
CONNECTION_REMOVED = "connection.removed"
