"""The lakeFS-compatible REST door of the lake."""

from tulle.lake.rest.application import rest_application

__all__ = ["rest_application"]
