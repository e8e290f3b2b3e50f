"""The API's description: valid OpenAPI 3.1, typed as model and data are, with the saved queries as examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
from openapi_spec_validator import OpenAPIV31SpecValidator
from tests.serving.conftest import PREDICTOR, Mesh

from tulle.serving.feedback import read_feedback
from tulle.serving.loaded import Loaded, load


def described(folder: Path) -> dict[str, Any]:
    document = json.loads((folder / "openapi.json").read_text())
    assert isinstance(document, dict)
    return document


def resolver(document: dict[str, Any], schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})


def test_the_documents_are_valid(predictor_folder: Path, lookups_folder: Path) -> None:
    for folder in (predictor_folder, lookups_folder):
        document = described(folder)
        assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
        assert document["info"]["version"] == "v1"


def test_requests_have_the_models_features_and_keys(predictor_folder: Path) -> None:
    document = described(predictor_folder)
    assert document["servers"] == [{"url": "/public/api/v1/high-value-predictor"}]
    content = document["paths"]["/high-value/predict"]["post"]["requestBody"]["content"]["application/json"]
    features = content["schema"]["properties"]["features"]
    assert features["properties"]["recency"] == {
        "type": "integer",
        "format": "int64",
        "description": "seen in training: 0 to 297",
    }
    assert features["properties"]["customer_id"]["type"] == "string"
    assert features["additionalProperties"] is False
    assert content["examples"]["a known customer"]["value"] == {"features": {"customer_id": "00003"}}
    valid = resolver(document, content["schema"])
    assert valid.is_valid({"features": {"customer_id": "00003"}})
    assert valid.is_valid({"features": {"recency": 1, "frequency": 2, "spend": 3.5}})
    assert not valid.is_valid({"features": {"recency": 1}})
    assert not valid.is_valid({"features": {"customer_id": 3}})
    assert not valid.is_valid({"features": {"customer_id": "1", "other": 3}})


def test_answers_are_as_described(
    predictor_folder: Path, predictor: Loaded, lookups_folder: Path, lookups: Loaded
) -> None:
    cases = [
        (predictor_folder, predictor, "high-value", "predict", {"features": {"customer_id": "00003"}}),
        (predictor_folder, predictor, "high-value", "predict-multi", {"items": [{"features": {}}]}),
        (lookups_folder, lookups, "profile", "lookup", {"data": {"customer_id": "00003"}}),
        (
            lookups_folder,
            lookups,
            "by-day",
            "lookup-multi",
            {"items": [{"data": {"first_on": "1997-01-04", "number": 3}}, {"data": {}}]},
        ),
    ]
    for folder, service, endpoint, action, body in cases:
        document = described(folder)
        operation = document["paths"][f"/{endpoint}/{action}"]["post"]
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        answer = json.loads(service.endpoints[endpoint].actions[action](json.dumps(body).encode(), "r"))
        resolver(document, schema).validate(answer)
        request = operation["requestBody"]["content"]["application/json"]["schema"]
        complete = all(item[name] for item in body.get("items", ()) for name in item)
        assert resolver(document, request).is_valid(body) == complete


def test_every_way_in_is_described(predictor_folder: Path) -> None:
    document = described(predictor_folder)
    assert document["security"] == [{"clientId": [], "clientSecret": []}, {"apiKey": []}, {"basic": []}]
    schemes = document["components"]["securitySchemes"]
    assert (schemes["clientId"]["name"], schemes["clientSecret"]["name"]) == ("client_id", "client_secret")
    responses = document["paths"]["/high-value/predict"]["post"]["responses"]
    assert set(responses) == {"200", "400", "401", "403", "404", "413", "422", "429", "500", "503"}


def test_feedback_is_described_as_it_is_taken(predictor_folder: Path) -> None:
    document = described(predictor_folder)
    content = document["paths"]["/feedback"]["post"]["requestBody"]["content"]["application/json"]
    example = content["examples"]["one"]["value"]
    resolver(document, content["schema"]).validate(example)
    assert read_feedback(example) == [("4f6c1b6e-3d1a-4a58-a1a6", 0, b"1")]
    assert not resolver(document, content["schema"]).is_valid({"items": [{"requestId": "a"}]})


def test_an_answer_that_may_be_missing_is_described(shared_mesh: Mesh) -> None:
    text = PREDICTOR.replace("key: customer_id}", "key: customer_id, no_match: ignore, event_time: seen_at}")
    folder = shared_mesh.unpacked(shared_mesh.build(text.replace("high-value-predictor", "may-lack")))
    document, service = described(folder), load(folder)
    schema = document["paths"]["/high-value/predict"]["post"]["responses"]["200"]
    valid = resolver(document, schema["content"]["application/json"]["schema"])
    for body, member in (({"customer_id": "nobody"}, "ignoreReason"), ({"customer_id": "00003"}, "lookups")):
        action = service.endpoints["high-value"].actions["predict"]
        answer = json.loads(action(json.dumps({"features": body}).encode(), "r"))  # type: ignore[operator, arg-type]
        assert member in answer["result"]
        valid.validate(answer)
    assert "UNAVAILABLE" in json.dumps(schema)
