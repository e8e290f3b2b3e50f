import hashlib

import pytest

STAGED = "/repositories/sales/branches/main/objects"


def form(*parts, boundary=b"bound"):
    """A multipart body of (name, content, extra header) parts."""
    lines = []
    for name, content, header in parts:
        lines.append(b"--" + boundary)
        lines.append(b'Content-Disposition: form-data; name="' + name + b'"; filename="f"')
        if header:
            lines.append(header)
        lines += [b"", content]
    return b"\r\n".join([*lines, b"--" + boundary + b"--", b""])


FORM = {"Content-Type": "multipart/form-data; boundary=bound"}


def test_a_raw_body_is_stored(client, sales):
    data = b"raw" * 200_000
    answer = client.post(
        STAGED,
        path="x",
        body=[data[:100], data[100:300_000], data[300_000:]],
        headers={
            "Content-Type": "text/x",
            "x-lakefs-meta-Key": "välue".encode().decode("latin-1"),
            "X-Other": "y",
        },
    )
    assert answer.status == 201
    assert answer.json["checksum"] == hashlib.md5(data).hexdigest()
    assert answer.json["metadata"] == {"key": "välue"}
    assert answer.json["content_type"] == "text/x"
    assert sales.get("main", "x") == data


def test_an_empty_object(client, sales):
    assert client.post(STAGED, path="x").json["size_bytes"] == 0
    assert client.get("/repositories/sales/refs/main/objects", path="x").body == b""


@pytest.mark.parametrize("cut", [1, 7, 10_000])
@pytest.mark.parametrize("content", [b"", b"plain", b"\r\n--boun\r\n--", b"\x00\xff" * 3000, b"\r\n" * 50])
def test_the_field_of_a_form_is_stored(client, sales, content, cut):
    body = form((b"other", b"no", b""), (b"content", content, b"Content-Type: text/x"), (b"more", b"x", b""))
    chunks = [body[at : at + cut] for at in range(0, len(body), cut)]
    answer = client.post(STAGED, path="x", body=chunks, headers=FORM)
    assert answer.status == 201
    assert answer.json["content_type"] == "text/x"
    assert sales.get("main", "x") == content


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (form((b"other", b"x", b"")), FORM["Content-Type"]),
        (form((b"content", b"x", b""))[:-12], FORM["Content-Type"]),
        (form((b"content", b"x", b""))[:20], FORM["Content-Type"]),
        (b"", FORM["Content-Type"]),
        (b"--bound--", FORM["Content-Type"]),
        (form((b"content", b"x", b"")), "multipart/form-data"),
        (form((b"content", b"x", b"")), 'multipart/form-data; boundary=""'),
        (b"--bound\r\nA: " + b"b" * 40_000, FORM["Content-Type"]),
    ],
)
def test_a_broken_form_stores_nothing(client, sales, body, content_type):
    answer = client.post(STAGED, path="x", body=body, headers={"Content-Type": content_type})
    assert answer.status == 400
    assert not sales.exists("main", "x")


def test_a_body_that_ends_early_stores_nothing(client, sales, lake):
    body = form((b"content", b"y" * 600_000, b""))[:500_000]
    assert client.post(STAGED, path="x", body=[body[:400_000], body[400_000:]], headers=FORM).status == 400
    assert not sales.exists("main", "x")


def test_conditions(client, sales):
    none = {"If-None-Match": "*"}
    assert client.post(STAGED, path="x", body=b"1", headers=none).status == 201
    assert client.post(STAGED, path="x", body=b"2", headers=none).status == 412
    etag = sales.stat("main", "x").etag
    assert client.post(STAGED, path="x", body=b"3", headers={"If-Match": f'"{etag}"'}).status == 201
    assert client.post(STAGED, path="x", body=b"4", headers={"If-Match": etag}).status == 412
    assert client.post(STAGED, path="x", body=b"5", headers={"If-None-Match": etag}).status == 400
    assert client.post(STAGED, path="x", body=b"5", headers={"If-Match": "*"}).status == 501
    assert sales.get("main", "x") == b"3"


@pytest.mark.parametrize(
    ("branch", "path", "status"),
    [("nowhere", "x", 404), ("main", "", 400), ("main", "x" * 1025, 400), ("main", "é" * 513, 400)],
)
def test_uploads_are_checked(client, sales, branch, path, status):
    answer = client.post(f"/repositories/sales/branches/{branch}/objects", path=path, body=b"x")
    assert answer.status == status


def test_metadata_is_bounded(client, sales):
    answer = client.post(STAGED, path="x", body=b"x", headers={"x-lakefs-meta-k": "v" * 20_000})
    assert answer.status == 400


def test_the_preflight(client, sales):
    assert client.get(f"{STAGED}/stage_allowed", path="x").status == 204
    assert client.get("/repositories/sales/branches/no/objects/stage_allowed", path="x").status == 404
    client.credentials = None
    assert client.get(f"{STAGED}/stage_allowed", path="x").status == 401


def staged(client, address, **body):
    full = {"physical_address": address, "checksum": "c", "size_bytes": 3, **body}
    return client.put(STAGED, path="linked", json=full)


def test_data_in_place_is_staged(client, lake, sales, tmp_path):
    place = tmp_path / "elsewhere"
    place.mkdir()
    (place / "x").write_bytes(b"one")
    lake.stores.linkable = (f"local://{place}/",)
    answer = staged(client, f"local://{place}/x", metadata={"a": "b"}, content_type="text/x", checksum='"c"')
    assert answer.status == 201
    assert (answer.json["checksum"], answer.json["metadata"]) == ("c", {"a": "b"})
    assert sales.get("main", "linked") == b"one"
    for size in (-1, 4, 2**63):
        assert staged(client, f"local://{place}/x", size_bytes=size).status == 400
    (place / "out").symlink_to("/etc/passwd")
    for name in ("out", "../elsewhere/x", "../../etc/passwd", "none"):
        assert staged(client, f"local://{place}/{name}").status in {400, 403, 404}
    # Whoever may write a path may not thereby read all there is in the repository.
    assert staged(client, sales.physical_address(sales.stat("main", "a/1.txt"))).status == 400


@pytest.mark.parametrize(
    "address", ["data/20261121-x/000000", "lake:other-0/data/x", "", "local:///etc/passwd", "s3://b/x"]
)
def test_data_elsewhere_is_not_staged(client, sales, address):
    assert staged(client, address).status in {400, 403}
    assert not sales.exists("main", "linked")
