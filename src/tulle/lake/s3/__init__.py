"""The S3 door of the lake: stock S3 clients read and write repositories; bucket = repository, key = ref/path."""

from __future__ import annotations

from tulle.lake.s3.door import s3_application

__all__ = ["s3_application"]
