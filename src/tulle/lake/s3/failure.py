"""What can go wrong at the S3 door: S3's error codes, and the one table from our failures to them.

Knows nothing of requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tulle import errors
from tulle.errors import TulleError
from tulle.lake.writing import NothingThereError

# Every code this door says, with its HTTP status.
STATUS: Mapping[str, int] = {
    "AccessControlListNotSupported": 400,
    "AccessDenied": 403,
    "AuthorizationHeaderMalformed": 400,
    "AuthorizationQueryParametersError": 400,
    "BadDigest": 400,
    "BucketAlreadyOwnedByYou": 409,
    "ConditionalRequestConflict": 409,
    "EntityTooLarge": 400,
    "EntityTooSmall": 400,
    "IncompleteBody": 400,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidArgument": 400,
    "InvalidBucketName": 400,
    "InvalidDigest": 400,
    "InvalidPart": 400,
    "InvalidPartNumber": 416,
    "InvalidPartOrder": 400,
    "InvalidRange": 416,
    "InvalidRequest": 400,
    "InvalidStorageClass": 400,
    "InvalidToken": 400,
    "InvalidURI": 400,
    "KeyTooLongError": 400,
    "MalformedTrailerError": 400,
    "MalformedXML": 400,
    "MetadataTooLarge": 400,
    "MethodNotAllowed": 405,
    "MissingContentLength": 411,
    "NoSuchBucket": 404,
    "NoSuchBucketPolicy": 404,
    "NoSuchCORSConfiguration": 404,
    "NoSuchKey": 404,
    "NoSuchLifecycleConfiguration": 404,
    "NoSuchObjectLockConfiguration": 404,
    "NoSuchPublicAccessBlockConfiguration": 404,
    "NoSuchTagSet": 404,
    "NoSuchUpload": 404,
    "NoSuchVersion": 404,
    "NoSuchWebsiteConfiguration": 404,
    "NotImplemented": 501,
    "NotModified": 304,
    "ObjectLockConfigurationNotFoundError": 404,
    "OperationAborted": 409,
    "OwnershipControlsNotFoundError": 404,
    "PreconditionFailed": 412,
    "QuotaExceeded": 403,
    "ReplicationConfigurationNotFoundError": 404,
    "RequestTimeTooSkewed": 403,
    "RequestTimeout": 400,
    "ServerSideEncryptionConfigurationNotFoundError": 404,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "XAmzContentChecksumMismatch": 400,
    "XAmzContentSHA256Mismatch": 400,
}

# Our kinds of failure, the finer ones first. What is not found is a key unless the caller knows better.
_CODES: tuple[tuple[type[TulleError], str], ...] = (
    (NothingThereError, "NoSuchKey"),
    (errors.PreconditionFailed, "PreconditionFailed"),
    (errors.Vetoed, "AccessDenied"),
    (errors.Invalid, "InvalidArgument"),
    (errors.NotFound, "NoSuchKey"),
    (errors.AlreadyExists, "PreconditionFailed"),  # only a conditional write says so
    (errors.Conflict, "OperationAborted"),
    (errors.Denied, "AccessDenied"),
    (errors.LimitExceeded, "QuotaExceeded"),
    (errors.Unavailable, "ServiceUnavailable"),
    (errors.Broken, "InternalError"),
)


@dataclass
class S3Error(Exception):
    """A refusal in S3's words. `details` are further elements of the answer, `headers` further headers of it."""

    code: str
    message: str
    details: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The HTTP status of the code."""
        return STATUS[self.code]


def refusal_of(error: TulleError) -> S3Error:
    """What a failure of ours is called in S3."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "InternalError")
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    details = {}
    if code == "PreconditionFailed":  # some clients tell the two apart: s3fs raises FileExistsError
        details = {"Condition": "If-None-Match" if isinstance(error, errors.AlreadyExists) else "If-Match"}
    return S3Error(code, message, details)


def not_implemented(what: str) -> S3Error:
    """The refusal of something S3 has and this door has not."""
    return S3Error("NotImplemented", f"{what} is not supported by this lake")
