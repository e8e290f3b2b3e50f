"""boto3: objects, conditions, ranges, listings, multipart, copies, deletes and refusals at the S3 door."""

import concurrent.futures
import hashlib
import io
import os
import urllib.request

import boto3
from awkward import KEYS, LARGE, content
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

bucket = os.environ["REPOSITORY"]
s3 = boto3.client("s3")


def refused(code: str, status: int, call, **arguments) -> None:
    try:
        call(**arguments)
    except ClientError as exc:
        told = (exc.response["Error"]["Code"], exc.response["ResponseMetadata"]["HTTPStatusCode"])
        assert told == (code, status), told
        return
    raise AssertionError(f"{code} was expected")


def keys(**arguments) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, **arguments)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


# ── buckets ──────────────────────────────────────────────────────────────────────────────────────────────
assert bucket in [b["Name"] for b in s3.list_buckets()["Buckets"]]
s3.head_bucket(Bucket=bucket)
refused("404", 404, s3.head_bucket, Bucket="no-such-bucket")
refused("NoSuchBucket", 404, s3.list_objects_v2, Bucket="no-such-bucket", Prefix="main/")
s3.get_bucket_location(Bucket=bucket)
branches = s3.list_objects_v2(Bucket=bucket, Delimiter="/").get("CommonPrefixes", [])
assert [p["Prefix"] for p in branches] == ["main/"]

# ── objects ──────────────────────────────────────────────────────────────────────────────────────────────
for key in KEYS:
    path = f"main/{key}"
    put = s3.put_object(
        Bucket=bucket, Key=path, Body=content(key), ContentType="text/x-test", Metadata={"origin": "a test"}
    )
    assert put["ETag"] == f'"{hashlib.md5(content(key)).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key=path)
    assert got["Body"].read() == content(key)
    assert (got["ContentType"], got["Metadata"], got["ETag"]) == (
        "text/x-test",
        {"origin": "a test"},
        put["ETag"],
    )
    assert s3.head_object(Bucket=bucket, Key=path)["ContentLength"] == len(content(key))
assert keys(Prefix="main/") == sorted((f"main/{key}" for key in KEYS), key=str.encode)
assert keys(Prefix="main/", EncodingType="url")  # boto3 does not decode what it was asked to leave
refused("NoSuchKey", 404, s3.get_object, Bucket=bucket, Key="main/nothing")
refused("404", 404, s3.head_object, Bucket=bucket, Key="main/nothing")
ranged = s3.get_object(Bucket=bucket, Key="main/plain.txt", Range="bytes=4-10")
assert ranged["Body"].read() == content("plain.txt")[4:11]
assert ranged["ResponseMetadata"]["HTTPStatusCode"] == 206
assert (
    s3.get_object(Bucket=bucket, Key="main/plain.txt", Range="bytes=-5")["Body"].read()
    == content("plain.txt")[-5:]
)
refused("InvalidRange", 416, s3.get_object, Bucket=bucket, Key="main/plain.txt", Range="bytes=9999-")

# ── conditions ───────────────────────────────────────────────────────────────────────────────────────────
etag = s3.head_object(Bucket=bucket, Key="main/plain.txt")["ETag"]
refused("304", 304, s3.get_object, Bucket=bucket, Key="main/plain.txt", IfNoneMatch=etag)
refused("PreconditionFailed", 412, s3.get_object, Bucket=bucket, Key="main/plain.txt", IfMatch='"other"')
refused(
    "PreconditionFailed", 412, s3.put_object, Bucket=bucket, Key="main/plain.txt", Body=b"x", IfNoneMatch="*"
)
refused(
    "PreconditionFailed",
    412,
    s3.put_object,
    Bucket=bucket,
    Key="main/plain.txt",
    Body=b"x",
    IfMatch='"other"',
)
assert s3.get_object(Bucket=bucket, Key="main/plain.txt")["Body"].read() == content("plain.txt")
s3.put_object(Bucket=bucket, Key="main/plain.txt", Body=b"next", IfMatch=etag)
s3.put_object(Bucket=bucket, Key="main/once", Body=b"1", IfNoneMatch="*")


def win(number: int) -> bool:
    try:
        s3.put_object(Bucket=bucket, Key="main/lock", Body=str(number).encode(), IfNoneMatch="*")
    except ClientError as exc:
        assert exc.response["Error"]["Code"] in {"PreconditionFailed", "ConditionalRequestConflict"}
        return False
    return True


with concurrent.futures.ThreadPoolExecutor(8) as pool:
    assert sum(pool.map(win, range(8))) == 1

# ── checksums ────────────────────────────────────────────────────────────────────────────────────────────
for algorithm in ("CRC32", "SHA1", "SHA256"):
    s3.put_object(Bucket=bucket, Key=f"main/sums/{algorithm}", Body=b"summed", ChecksumAlgorithm=algorithm)
    s3.put_object(
        Bucket=bucket,
        Key=f"main/sums/{algorithm}-streamed",
        Body=io.BytesIO(b"summed"),
        ChecksumAlgorithm=algorithm,
    )
once = boto3.client("s3", config=Config(retries={"total_max_attempts": 1}))  # it would try this again
refused(
    "BadDigest",
    400,
    once.put_object,
    Bucket=bucket,
    Key="main/sums/bad",
    Body=b"x",
    ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==",
)
assert "main/sums/bad" not in keys(Prefix="main/sums/")

# ── large: multipart ─────────────────────────────────────────────────────────────────────────────────────
parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=4)
s3.upload_fileobj(
    io.BytesIO(LARGE), bucket, "main/large +%.bin", Config=parts, ExtraArgs={"Metadata": {"kind": "large"}}
)
back = io.BytesIO()
s3.download_fileobj(bucket, "main/large +%.bin", back, Config=parts)
assert back.getvalue() == LARGE
about = s3.head_object(Bucket=bucket, Key="main/large +%.bin")
assert about["ContentLength"] == len(LARGE)
assert about["Metadata"] == {"kind": "large"}
assert about["ETag"].endswith('-3"'), about["ETag"]
listed = s3.list_objects_v2(Bucket=bucket, Prefix="main/large")["Contents"][0]
assert (listed["ETag"], listed["Size"]) == (about["ETag"], len(LARGE))

upload = s3.create_multipart_upload(Bucket=bucket, Key="main/by hand")["UploadId"]
one = s3.upload_part(Bucket=bucket, Key="main/by hand", UploadId=upload, PartNumber=1, Body=LARGE[: 5 << 20])
two = s3.upload_part_copy(
    Bucket=bucket,
    Key="main/by hand",
    UploadId=upload,
    PartNumber=2,
    CopySource={"Bucket": bucket, "Key": "main/large +%.bin"},
    CopySourceRange="bytes=0-99",
)
found = s3.list_parts(Bucket=bucket, Key="main/by hand", UploadId=upload)["Parts"]
assert [(p["PartNumber"], p["Size"]) for p in found] == [(1, 5 << 20), (2, 100)]
assert upload in [u["UploadId"] for u in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]
chosen = {
    "Parts": [
        {"PartNumber": 1, "ETag": one["ETag"]},
        {"PartNumber": 2, "ETag": two["CopyPartResult"]["ETag"]},
    ]
}
s3.complete_multipart_upload(Bucket=bucket, Key="main/by hand", UploadId=upload, MultipartUpload=chosen)
assert s3.get_object(Bucket=bucket, Key="main/by hand")["Body"].read() == LARGE[: 5 << 20] + LARGE[:100]
given_up = s3.create_multipart_upload(Bucket=bucket, Key="main/given up")["UploadId"]
s3.upload_part(Bucket=bucket, Key="main/given up", UploadId=given_up, PartNumber=1, Body=b"x")
s3.abort_multipart_upload(Bucket=bucket, Key="main/given up", UploadId=given_up)
refused("NoSuchUpload", 404, s3.list_parts, Bucket=bucket, Key="main/given up", UploadId=given_up)
refused("404", 404, s3.head_object, Bucket=bucket, Key="main/given up")

# ── listings ─────────────────────────────────────────────────────────────────────────────────────────────
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    list(
        pool.map(
            lambda n: s3.put_object(Bucket=bucket, Key=f"main/many/{n % 3}/{n:03}", Body=b"x"), range(60)
        )
    )
expected = sorted(f"main/many/{n % 3}/{n:03}" for n in range(60))
assert keys(Prefix="main/many/", PaginationConfig={"PageSize": 7}) == expected
assert keys(Prefix="main/many/", StartAfter=expected[40]) == expected[41:]
page = s3.list_objects_v2(Bucket=bucket, Prefix="main/many/", Delimiter="/", MaxKeys=2)
assert (page["KeyCount"], page["IsTruncated"]) == (2, True)
assert [p["Prefix"] for p in page["CommonPrefixes"]] == ["main/many/0/", "main/many/1/"]
old = s3.get_paginator("list_objects").paginate(
    Bucket=bucket, Prefix="main/many/", PaginationConfig={"PageSize": 11}
)
assert [item["Key"] for p in old for item in p["Contents"]] == expected

# ── copies and deletes ───────────────────────────────────────────────────────────────────────────────────
for key in KEYS:
    if key != "plain.txt":
        s3.copy_object(
            Bucket=bucket, Key=f"main/copies/{key}", CopySource={"Bucket": bucket, "Key": f"main/{key}"}
        )
        assert s3.get_object(Bucket=bucket, Key=f"main/copies/{key}")["Body"].read() == content(key)
s3.copy({"Bucket": bucket, "Key": "main/large +%.bin"}, bucket, "main/copies/large", Config=parts)
assert s3.head_object(Bucket=bucket, Key="main/copies/large")["ContentLength"] == len(LARGE)
s3.delete_object(Bucket=bucket, Key="main/once")
s3.delete_object(Bucket=bucket, Key="main/once")  # nothing there: the same answer
gone = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": f"main/copies/{key}"} for key in KEYS]})
assert "Errors" not in gone
assert keys(Prefix="main/copies/") == ["main/copies/large"]

# ── other ways to sign ───────────────────────────────────────────────────────────────────────────────────
url = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "main/plus+plus.txt"}, ExpiresIn=60)
assert urllib.request.urlopen(url).read() == content("plus+plus.txt")
v4 = boto3.client("s3", config=Config(signature_version="s3v4"))
url = v4.generate_presigned_url(
    "get_object", {"Bucket": bucket, "Key": "main/a=b&c;d@e,f$g!.txt"}, ExpiresIn=60
)
assert urllib.request.urlopen(url).read() == content("a=b&c;d@e,f$g!.txt")
url = v4.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "main/by url"}, ExpiresIn=60)
urllib.request.urlopen(urllib.request.Request(url, data=b"signed", method="PUT"))
assert s3.get_object(Bucket=bucket, Key="main/by url")["Body"].read() == b"signed"
older = boto3.client("s3", config=Config(signature_version="s3", s3={"addressing_style": "path"}))
older.put_object(Bucket=bucket, Key="main/v2 é", Body=b"two")
assert older.get_object(Bucket=bucket, Key="main/v2 é")["Body"].read() == b"two"
unsigned = boto3.client("s3", config=Config(s3={"payload_signing_enabled": False}))
unsigned.put_object(Bucket=bucket, Key="main/unsigned", Body=b"u")

# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────
stranger = boto3.client("s3", aws_access_key_id="AKIAJNOBODY00000000Q", aws_secret_access_key="x")
refused("InvalidAccessKeyId", 403, stranger.list_buckets)
liar = boto3.client(
    "s3", aws_secret_access_key="wrong" * 8, aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"]
)
refused("SignatureDoesNotMatch", 403, liar.list_buckets)
refused("NoSuchKey", 404, s3.get_object, Bucket=bucket, Key="no-such-branch/x")
try:
    s3.put_object(Bucket=bucket, Key="no-such-branch/x", Body=b"x")
except ClientError as exc:
    assert exc.response["ResponseMetadata"]["HTTPStatusCode"] == 404, exc
else:
    raise AssertionError("a write to a branch that does not exist was accepted")

# Resources are the other half of boto3.
names = [item.key for item in boto3.resource("s3").Bucket(bucket).objects.filter(Prefix="main/sums/")]
assert len(names) == 6
print("done")
