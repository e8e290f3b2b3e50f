"""PyTorch modules, exported to ONNX when they are saved: numbers, probabilities, and what cannot be exported.

`scripts/test-models` makes an environment with PyTorch, which is too large for every developer's.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tulle.errors import Invalid
from tulle.pipeline.model_file import ModelFile, save_model
from tulle.pipeline.model_signature import load_scorer

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="scripts/test-models runs it"),
    pytest.mark.filterwarnings("default"),  # theirs are not ours to mend
]
X = np.random.default_rng(5).normal(size=(80, 2)).round(3)
TABLE = pa.table({"a": X[:, 0], "b": X[:, 1]})


def save(folder: Path, module: Any, **more: Any) -> ModelFile:
    return save_model(folder, "m", module, features=["a", "b"], sample=TABLE, metrics={}, **more)


@pytest.mark.parametrize(("width", "activation"), [(3, "softmax"), (1, "sigmoid")])
def test_a_network_gives_probabilities_by_its_activation(width: int, activation: Any, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(8, width)
    )
    classes = ["a", "b", "c"][: max(2, width)]
    saved = save(tmp_path, network, classes=classes, activation=activation)
    assert saved.signature.conversion.form == "onnx", saved.signature.conversion.reason
    found = load_scorer(tmp_path, saved.signature).probabilities(X)
    with torch.no_grad():
        numbers = network.eval()(torch.tensor(X, dtype=torch.float32))
        expected = torch.softmax(numbers, 1) if width == 3 else torch.sigmoid(numbers)
    assert np.allclose(found if width == 3 else found[:, 1:], expected.numpy(), atol=1e-5)


def test_a_network_gives_a_number(tmp_path: Path) -> None:
    import torch

    network = torch.nn.Linear(2, 1)
    saved = save(tmp_path, network)
    assert (saved.signature.task, saved.signature.conversion.form) == ("regression", "onnx")
    with torch.no_grad():
        expected = network(torch.tensor(X, dtype=torch.float32)).numpy().reshape(-1)
    assert np.allclose(load_scorer(tmp_path, saved.signature).labels(X), expected, atol=1e-5)


def test_a_network_that_takes_something_else_is_refused(tmp_path: Path) -> None:
    import torch

    with pytest.raises(Invalid, match="cannot be exported to ONNX"):
        save(tmp_path, torch.nn.Linear(5, 1))
