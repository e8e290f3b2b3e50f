"""A process that completes an upload and kills itself at every dangerous moment; run by test_uploads.

    python upload_crash_child.py FOLDER STRIDE [URL]

What the words mean is told in crash_child; here the repository has one upload under way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import crash_child

from tulle.lake import uploads


def script(lake: Any) -> Iterator[str]:
    """The work; yields when it was acknowledged."""
    repository = lake.repository("sales")
    [upload] = uploads.uploads(repository)
    uploads.complete(repository, upload, uploads.parts(repository, upload))
    yield "completed"


if __name__ == "__main__":
    crash_child.script = script
    crash_child.main()
