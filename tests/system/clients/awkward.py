"""What the clients of this folder send: awkward keys, a large object, and how a refusal is expected."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

KEYS = [
    "plain.txt",
    "with space.txt",
    "trailing space /x",
    "per%cent%20.txt",
    "plus+plus.txt",
    "a=b&c;d@e,f$g!.txt",
    "question?mark#hash.txt",
    "quote'(paren)[bracket]{brace}~*.txt",
    "ünï/cödé/日本語.txt",
    "emoji/\U0001f40b.txt",
    "deep/" + "x" * 200 + "/end.txt",
]
LARGE = b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(400_000)) + b"end"  # 12.8 MB


def content(key: str) -> bytes:
    """Some bytes for a key."""
    return f"the content of {key}".encode() * 3


@contextmanager
def refused(*kinds: type[BaseException]) -> Iterator[None]:
    """The block must end in one of these kinds of error."""
    try:
        yield
    except kinds:
        return
    raise AssertionError(f"expected one of {kinds}, nothing was raised")
