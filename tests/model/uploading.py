"""The rules of multipart uploads."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import rule
from tests.model.machine import (
    Machine,
    branches,
    conditions,
    contents,
    notes,
    numbers,
    one_of,
    paths,
    types,
    written,
)
from tests.model.model import Uploading

from tulle.errors import Conflict, Invalid, NotFound, TulleError
from tulle.lake import uploads


class Uploads(Machine):
    """What users do with large objects."""

    @rule(
        branch=branches,
        path=paths,
        content_type=types,
        metadata=notes,
        given=st.dictionaries(st.integers(1, 3), contents),
    )
    def start_upload(
        self, branch: str, path: str, content_type: str, metadata: dict[str, str], given: dict[int, bytes]
    ) -> None:
        upload = uploads.start(self.repository, branch, path, content_type=content_type, metadata=metadata)
        assert (upload.branch, upload.path) == (branch, path)
        parts = {n: (uploads.put_part(self.repository, upload, n, given[n]), given[n]) for n in given}
        self.model.uploads[upload.id] = Uploading(upload, parts)

    @rule(number=numbers, part=st.integers(1, 3), data=contents, in_pieces=st.booleans())
    def put_part(self, number: int, part: int, data: bytes, in_pieces: bool) -> None:
        uploading = one_of(list(self.model.uploads.values()), number)
        if uploading is not None:
            given = iter([data]) if in_pieces else data
            told = uploads.put_part(self.repository, uploading.upload, part, given)
            assert (told.number, told.size, told.etag) == (part, len(data), written(data).etag)
            uploading.parts[part] = told, data

    @rule(
        number=numbers,
        how=conditions,
        chosen=st.sets(st.integers(1, 3)),
        is_stale=st.sampled_from([False, False, True]),
    )
    def complete_upload(self, number: int, how: str, chosen: set[int], is_stale: bool) -> None:
        model = self.model
        uploading = one_of(list(model.uploads.values()), number)
        if uploading is None:
            return
        upload = uploading.upload
        parts = [uploading.parts[each] for each in sorted(uploading.parts) if each in chosen or not chosen]
        is_there = upload.branch in model.heads
        keywords, refusal = self.condition(
            how, model.seen(upload.branch).get(upload.path) if is_there else None
        )
        if is_stale and parts:  # one is replaced by the same bytes
            last, data = parts[-1]
            uploading.parts[last.number] = uploads.put_part(self.repository, upload, last.number, data), data
        expected: type[TulleError] | None = refusal
        if not parts:
            expected = Invalid
        elif not is_there:
            expected = NotFound
        elif is_stale and refusal is None:
            expected = Conflict
        entry = self.tried(
            lambda: uploads.complete(self.repository, upload, [part for part, _ in parts], **keywords),
            expected,
        )
        if entry is None:
            self._check_uploads()
        else:
            self.note("upload completed")
            data = b"".join(data for _, data in parts)
            thing = written(data, upload.content_type, dict(upload.metadata))
            etag = uploads.etag_of([part.etag for part, _ in parts])
            self.stage(upload.branch, entry, replace(thing, etag=etag))
            self._ended(uploading)

    @rule(number=numbers)
    def abort_upload(self, number: int) -> None:
        uploading = one_of(list(self.model.uploads.values()), number)
        if uploading is not None:
            for _ in range(2):  # also when it is gone already
                uploads.drop(self.repository, uploading.upload)
            self._ended(uploading)

    def _ended(self, uploading: Uploading) -> None:
        del self.model.uploads[uploading.upload.id]
        self.tried(lambda: uploads.find(self.repository, uploading.upload.id), NotFound)
        self.tried(lambda: uploads.put_part(self.repository, uploading.upload, 1, b"x"), NotFound)
        there = {blob.path for blob in self.blobs.list()}
        assert not {part.blob for part, _ in uploading.parts.values()} & there
        self._check_uploads()

    def _check_uploads(self) -> None:
        under_way = self.model.uploads
        expected = sorted(under_way, key=lambda id_: (under_way[id_].upload.key.encode(), id_))
        found: list[uploads.Upload] = []
        after = (b"", "")
        while page := uploads.uploads(self.repository, after=after, limit=2):
            found += page
            after = page[-1].key.encode(), page[-1].id
        assert [upload.id for upload in found] == expected
        for upload in found:
            assert upload == uploads.find(self.repository, upload.id)
            told = uploads.parts(self.repository, upload)
            parts = under_way[upload.id].parts
            assert told == [parts[number][0] for number in sorted(parts)]
