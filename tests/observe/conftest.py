"""The small mesh of the pipeline's tests."""

from __future__ import annotations

from tests.pipeline.conftest import mesh

__all__ = ["mesh"]
