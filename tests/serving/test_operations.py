"""What can be asked of a service, known by its endpoints alone, is what its worker has routes for."""

from __future__ import annotations

from tulle.serving.app import App
from tulle.serving.kinds import KINDS
from tulle.serving.loaded import Loaded
from tulle.serving.operations import operations


def routes(loaded: Loaded) -> set[tuple[str, str]]:
    """As the worker answers them, below the service's own address."""
    app = App(loaded, max_request_bytes=10_000)
    below = {
        path.removeprefix(app.home): route.method
        for path, route in app.routes.items()
        if path.startswith(app.home)
    }
    version = f"/versions/{loaded.trace.generation}"
    return {(method, path.replace(version, "/versions/{version}")) for path, method in below.items()}


def told(loaded: Loaded) -> set[tuple[str, str]]:
    return set(operations((one.name, one.kind) for one in loaded.endpoints.values()))


def test_it_is_what_a_worker_answers(predictor: Loaded, lookups: Loaded) -> None:
    assert told(predictor) - routes(predictor) == {  # by its model, or where queries are logged
        ("POST", "/high-value/predict-effect"),
        ("POST", "/high-value/predict-effect-multi"),
        ("POST", "/feedback"),
    }
    assert routes(predictor) <= told(predictor)
    assert told(lookups) - routes(lookups) == {("POST", "/feedback")}
    assert routes(lookups) <= told(lookups)


def test_every_kind_has_some_and_what_is_no_kind_has_none() -> None:
    usual = set(operations([]))
    for name, kind in KINDS.items():
        assert {("POST", f"/a/{action}") for action in kind.actions} <= set(operations([("a", name)])) - usual
    assert set(operations([("a", "nothing")])) == usual
