import hashlib

B = "/repositories/sales/branches/main"
BACKING = f"{B}/staging/backing"
PMPU = f"{B}/staging/pmpu"


def issued(client, path="x"):
    answer = client.get(BACKING, path=path, presign=True)
    assert answer.status == 200
    return answer.json


def linked(client, place, path="x", headers=None, **body):
    full = {"staging": place, "checksum": hashlib.md5(b"data").hexdigest(), "size_bytes": 4, **body}
    return client.put(BACKING, path=path, json=full, headers=headers)


def test_data_is_put_at_an_issued_address_and_linked(client, sales):
    place = issued(client)
    assert place["physical_address"].startswith(sales.storage_namespace + "/data/")
    put = client.url(place["presigned_url"], "PUT", b"data")
    assert put.status == 200
    assert put.headers["etag"].strip('"') == hashlib.md5(b"data").hexdigest()
    answer = linked(client, place, user_metadata={"a": "b"}, content_type="text/x")
    assert answer.status == 200
    assert answer.json["checksum"] == hashlib.md5(b"data").hexdigest()
    assert (answer.json["metadata"], answer.json["content_type"]) == ({"a": "b"}, "text/x")
    assert sales.get("main", "x") == b"data"
    assert linked(client, place).status == 400  # used up


def test_links_are_checked(client, sales):
    place = issued(client)
    assert linked(client, place).status == 400  # nothing was put
    client.url(place["presigned_url"], "PUT", b"data")
    assert client.url(place["presigned_url"], "PUT", b"other").status == 409  # never overwritten
    assert linked(client, place, size_bytes=5).status == 400
    assert linked(client, {"physical_address": "local:///etc/passwd"}).status in {400, 403}
    assert linked(client, {}).status == 400
    assert client.url(place["presigned_url"], "GET").status == 403
    assert linked(client, place, headers={"If-Match": "other"}).status == 412
    assert linked(client, place, path="other").status == 400  # issued for x
    assert client.get("/repositories/sales/branches/nowhere/staging/backing", path="x").status == 404
    assert sales.status("main") == []
    assert linked(client, place, headers={"If-None-Match": "*"}).status == 200
    again = issued(client)
    client.url(again["presigned_url"], "PUT", b"data")
    assert linked(client, again, headers={"If-None-Match": "*"}).status == 412


def test_an_address_is_not_good_for_another_repository(client, sales, lake):
    place = issued(client)
    client.url(place["presigned_url"], "PUT", b"data")
    lake.create_repository("other")
    body = {"staging": place, "checksum": "c", "size_bytes": 4}
    answer = client.put("/repositories/other/branches/main/staging/backing", path="x", json=body)
    assert answer.status in {400, 403}


def begun(client, **query):
    answer = client.post(PMPU, path="big", **query)
    assert answer.status == 201
    return answer.json


def completed(client, upload, tags, **body):
    parts = [{"part_number": number, "etag": tag} for number, tag in tags]
    full = {"physical_address": upload["physical_address"], "parts": parts, **body}
    return client.put(f"{PMPU}/{upload['upload_id']}", path="big", json=full)


def test_an_upload_in_parts(client, sales):
    upload = begun(client, parts=2)
    parts = [b"1" * 6_000_000, b"2" * 10]
    tags = [
        client.url(url, "PUT", part).headers["etag"]
        for url, part in zip(upload["presigned_urls"], parts, strict=True)
    ]
    third = client.put(
        f"{PMPU}/{upload['upload_id']}/parts/3",
        path="big",
        json={"physical_address": upload["physical_address"]},
    )
    tags.append(client.url(third.json["presigned_url"], "PUT", b"3").headers["etag"])
    copied = client.put(
        f"{PMPU}/{upload['upload_id']}/parts/4/copy",
        path="big",
        json={
            "physical_address": upload["physical_address"],
            "copy_source": {"repository": "sales", "ref": "main", "path": "a/1.txt", "range": "bytes=1-2"},
        },
    )
    assert copied.status == 204
    tags.append(copied.headers["etag"])
    answer = completed(client, upload, enumerate(tags, 1), user_metadata={"a": "b"}, content_type="text/x")
    assert answer.status == 200
    assert answer.json["checksum"].endswith("-4")
    assert (answer.json["metadata"], answer.json["content_type"]) == ({"a": "b"}, "text/x")
    assert sales.get("main", "big") == b"".join(parts) + b"3" + b"ne"
    assert completed(client, upload, enumerate(tags, 1)).status == 404


def test_uploads_are_checked(client, sales):
    upload = begun(client, parts=1)
    tag = client.url(upload["presigned_urls"][0], "PUT", b"1").headers["etag"]
    assert completed(client, upload, [(1, "other")]).status == 400
    assert completed(client, upload, [(2, tag)]).status == 400
    assert completed(client, upload, [(1, tag), (1, tag)]).status == 400
    assert completed(client, upload, []).status == 400
    assert client.post(PMPU, path="big", parts=10_001).status == 400
    url = f"{PMPU}/{upload['upload_id']}/parts"
    for number in ("0", "10001", "x", "-1"):
        assert client.put(f"{url}/{number}", path="big", json={"physical_address": ""}).status == 400
    assert client.put(f"{url}/1", path="other", json={"physical_address": ""}).status == 404


def test_an_upload_is_given_up(client, sales):
    upload = begun(client, parts=1)
    url = f"{PMPU}/{upload['upload_id']}"
    assert client.delete(url, path="big", json={"physical_address": ""}).status == 204
    assert client.delete(url, path="big", json={"physical_address": ""}).status == 404
    assert client.url(upload["presigned_urls"][0], "PUT", b"1").status == 404
