"""What S3 keeps beside buckets and objects, and the lake does not: what clients that look for it are told.

Reading is answered with "nothing is configured" in S3's words; changing is refused, since it would not happen.
"""

from __future__ import annotations

from collections.abc import Mapping

from tulle.lake.door import Outgoing
from tulle.lake.s3.call import Call, answer
from tulle.lake.s3.failure import S3Error, not_implemented
from tulle.lake.s3.objects import head_object
from tulle.lake.s3.xml import element

_INSTANCE = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"'

# GET of a bucket's subresource: either an error's code, or the root and content of a document.
_BUCKET: Mapping[str, str | tuple[str, str]] = {
    "accelerate": ("AccelerateConfiguration", ""),
    "analytics": ("ListBucketAnalyticsConfigurationResult", "<IsTruncated>false</IsTruncated>"),
    "cors": "NoSuchCORSConfiguration",
    "encryption": "ServerSideEncryptionConfigurationNotFoundError",
    "intelligent-tiering": (
        "ListBucketIntelligentTieringConfigurationsOutput",
        "<IsTruncated>false</IsTruncated>",
    ),
    "inventory": ("ListInventoryConfigurationsResult", "<IsTruncated>false</IsTruncated>"),
    "lifecycle": "NoSuchLifecycleConfiguration",
    "logging": ("BucketLoggingStatus", ""),
    "metrics": ("ListMetricsConfigurationsResult", "<IsTruncated>false</IsTruncated>"),
    "notification": ("NotificationConfiguration", ""),
    "object-lock": "ObjectLockConfigurationNotFoundError",
    "ownershipControls": (
        "OwnershipControls",
        "<Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule>",
    ),
    "policy": "NoSuchBucketPolicy",
    "policyStatus": "NoSuchBucketPolicy",
    "publicAccessBlock": "NoSuchPublicAccessBlockConfiguration",
    "replication": "ReplicationConfigurationNotFoundError",
    "requestPayment": ("RequestPaymentConfiguration", "<Payer>BucketOwner</Payer>"),
    "tagging": "NoSuchTagSet",
    "versioning": ("VersioningConfiguration", ""),
    "website": "NoSuchWebsiteConfiguration",
}
_OBJECT: Mapping[str, str | tuple[str, str]] = {
    "legal-hold": "NoSuchObjectLockConfiguration",
    "retention": "NoSuchObjectLockConfiguration",
    "tagging": ("Tagging", "<TagSet></TagSet>"),
}
BUCKET_NAMES = frozenset({*_BUCKET, "acl", "metadataTable", "session"})
OBJECT_NAMES = frozenset({*_OBJECT, "acl", "restore", "select", "torrent", "encryption"})


def read_of_bucket(call: Call, name: str) -> Outgoing:
    """GET /bucket?name."""
    call.demand_bucket("fs:ReadRepository")
    call.repository()
    if name == "acl":
        return _private(call)
    found = _BUCKET.get(name)
    if found is None:
        raise not_implemented(f"'?{name}' of a bucket")
    return _told(call, name, found)


def read_of_object(call: Call, name: str) -> Outgoing:
    """GET /bucket/key?name."""
    head_object(call)  # may it be read, and is it there
    if name == "acl":
        return _private(call)
    found = _OBJECT.get(name)
    if found is None:
        raise not_implemented(f"'?{name}' of an object")
    return _told(call, name, found)


def change(call: Call, name: str) -> Outgoing:
    """PUT, POST or DELETE of a subresource: refused, after the rights to write there."""
    if call.key:
        call.demand_object("fs:WriteObject", *call.place())
    else:
        call.demand_bucket("fs:UpdateRepository")
    call.repository()
    raise not_implemented(f"changing '?{name}' of {'an object' if call.key else 'a bucket'}")


def _told(call: Call, name: str, found: str | tuple[str, str]) -> Outgoing:
    if isinstance(found, tuple):
        return answer(found[0], [found[1]])
    raise S3Error(found, f"nothing is configured for '{name}'", {"BucketName": call.bucket})


def _private(call: Call) -> Outgoing:
    whose = element("ID", call.user) + element("DisplayName", call.user)
    grantee = f"<Grantee {_INSTANCE}>{whose}</Grantee>"
    grant = f"<Grant>{grantee}<Permission>FULL_CONTROL</Permission></Grant>"
    return answer(
        "AccessControlPolicy", [f"<Owner>{whose}</Owner><AccessControlList>{grant}</AccessControlList>"]
    )
