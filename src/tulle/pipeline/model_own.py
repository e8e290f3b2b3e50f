"""Classes of a product's own that predict, made to look like estimators, and the code they need kept with them.

Such a class is a `ClassificationPredictor` or `RegressionPredictor` of `tulle.sdk.predictor`, or anything with a
`predict` that gives what theirs give. It lives in a shared file of the product (`transform/_name.py`), whose text is
saved with the model, so that the process that serves it needs nothing of the product.
"""

from __future__ import annotations

import importlib.machinery
import io
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tulle.errors import Invalid
from tulle.pipeline.model_score import Matrix
from tulle.pipeline.model_signature import CODE, FILES, Class


@dataclass(frozen=True, slots=True)
class Said:
    """What a predictor says of rows: predictions, perhaps probabilities, perhaps keys of its own for each row."""

    labels: Matrix
    probabilities: Matrix | None
    keys: list[Mapping[str, Any]] | None


class OwnModel:
    """A predictor of a product's own, as an estimator without probabilities."""

    def __init__(self, predictor: Any, classes: Sequence[Class], made_by: type | None = None) -> None:
        """`made_by`: the class, where it is made anew in every process, with the folder of its files."""
        self.predictor = predictor
        self.made_by = made_by
        self.takes = getattr(predictor, "takes", "frame")
        if classes:
            self.classes_ = tuple(classes)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | ({"predictor": None} if self.made_by is not None else {})

    def open(self, folder: Path) -> None:
        """Make the predictor with the folder of its files, where it is one that is made so."""
        if self.made_by is not None:
            self.predictor = self.made_by(str(folder))

    def said(self, rows: Any) -> Said:
        """What it says of rows; Invalid when that is nothing anybody understands."""
        given = self.predictor.predict(rows)
        labels, *more = given if isinstance(given, tuple) else (given,)
        labels = np.asarray(labels).reshape(-1)
        if len(labels) != len(rows):
            raise Invalid(f"predict gave {len(labels)} predictions for {len(rows)} rows")
        classes = list(getattr(self, "classes_", ()))
        probabilities = more.pop(0) if classes and more else None
        keys = more.pop(0) if more else None
        return Said(
            labels,
            None if probabilities is None else self._shares(probabilities, classes, len(rows)),
            None if keys is None else self._keys(keys, len(rows)),
        )

    def predict(self, rows: Any) -> Matrix:
        """The predictions."""
        return self.said(rows).labels

    @staticmethod
    def _shares(given: Any, classes: list[Class], count: int) -> Matrix:
        """Probabilities in the order of the classes: a table of them is ordered by its columns."""
        columns = getattr(given, "columns", None)
        if columns is not None:
            named = {str(name).removeprefix("proba_"): name for name in columns}
            missing = [one for one in classes if one not in columns and str(one) not in named]
            if missing:
                raise Invalid(f"the probabilities have no column of class '{missing[0]}'")
            given = given[[one if one in columns else named[str(one)] for one in classes]]
        found = np.asarray(given, dtype=np.float64)
        if found.shape != (count, len(classes)):
            raise Invalid(
                f"the probabilities have the shape {found.shape}, expected {(count, len(classes))}: rows, classes"
            )
        return found

    @staticmethod
    def _keys(given: Any, count: int) -> list[Mapping[str, Any]]:
        keys: list[Mapping[str, Any]] = [dict(one) if one else {} for one in given]
        if len(keys) != count:
            raise Invalid(f"predict gave {len(keys)} custom keys for {count} rows")
        return keys


class OwnModelWithProbabilities(OwnModel):
    """One that gives probabilities beside its predictions."""

    def predict_proba(self, rows: Any) -> Matrix:
        """The probabilities, shape (rows, classes)."""
        found = self.said(rows).probabilities
        if found is None:
            raise Invalid("predict gave no probabilities, which it did when the model was saved")
        return found


def is_own(model: Any) -> bool:
    """Whether it is a predictor and no estimator: those know their classes or their parameters."""
    return hasattr(model, "predict") and not hasattr(model, "get_params") and not hasattr(model, "classes_")


def own_model(
    name: str,
    model: Any,
    classes: Sequence[Class] | None,
    files: Path | None,
    rows: Callable[[str], Any],
) -> OwnModel:
    """A predictor as an estimator; a class is made one with the folder `files`.

    `rows` gives its sample in the form it takes.
    """
    made_by = model if isinstance(model, type) else None
    predictor = model if made_by is None else made_by(None if files is None else str(files))
    known = tuple(classes or getattr(predictor, "classes", None) or ())
    found = OwnModel(predictor, known, made_by)
    if found.takes not in {"frame", "rows"}:
        raise Invalid(f"the predictor '{name}' takes '{found.takes}', expected 'frame' or 'rows'")
    if known and found.said(rows(found.takes)).probabilities is not None:
        return OwnModelWithProbabilities(predictor, known, made_by)
    return found


# ── the code it needs ────────────────────────────────────────────────────────────────────────────────────


class _Nowhere(io.RawIOBase):
    """Takes whatever is written and keeps none of it: a model may be as large as the memory."""

    def write(self, data: Any) -> int:
        return len(data)


class _Names(pickle.Pickler):
    """Notes the module of every class and function a pickle would refer to."""

    def __init__(self) -> None:
        super().__init__(_Nowhere())
        self.modules: dict[str, str] = {}

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type) or callable(obj):
            module, qualified = getattr(obj, "__module__", None), getattr(obj, "__qualname__", "")
            if module:
                self.modules.setdefault(str(module), str(qualified))
        return NotImplemented


def code_of(name: str, estimator: Any) -> dict[str, str]:
    """The shared code of the product that a model needs, by file name; empty for most.

    Invalid for a model that the serving process could not load: it has no access to the product's folder.
    """
    names = _Names()
    try:
        names.dump(estimator)
    except (pickle.PicklingError, TypeError, AttributeError) as exc:
        raise Invalid(
            f"model '{name}' cannot be saved: {exc}",
            hint="use classes and functions of installed packages or of transform/_<name>.py, no lambdas",
        ) from exc
    code: dict[str, str] = {}
    for module, qualified in sorted(names.modules.items()):
        texts = shared_texts(module)
        if texts:
            code |= {f"{one}.py": text for one, text in texts.items()}
            continue
        root = module.partition(".")[0]
        installed = root in sys.builtin_module_names or importlib.machinery.PathFinder.find_spec(root)
        if root == "__main__" or not installed:
            raise Invalid(
                f"model '{name}' uses '{qualified}' from the file that trains it, which services cannot load",
                hint="put it into transform/_<name>.py and import it from there: such files are saved with the model",
            )
    return code


def shared_texts(module: str) -> Mapping[str, str]:
    """The texts of all shared files, where `module` is one of them: they may import one another."""
    texts = getattr(getattr(sys.modules.get(module), "__loader__", None), "texts", None)
    return texts if isinstance(texts, dict) and module in texts else {}


def write_code(folder: Path, code: Mapping[str, str]) -> list[str]:
    """Write the code beside the model; the names of the files."""
    for file, text in sorted(code.items()):
        (folder / CODE).mkdir(exist_ok=True)
        (folder / CODE / file).write_text(text)
    return [f"{CODE}/{file}" for file in sorted(code)]


def write_files(name: str, folder: Path, given: Path) -> list[str]:
    """Copy the files a predictor reads beside the model; their names."""
    if not given.is_dir():
        raise Invalid(f"the files of model '{name}' are to come from '{given}', which is no folder")
    found = sorted(file for file in given.rglob("*") if file.is_file() and not file.is_symlink())
    names = [f"{FILES}/{file.relative_to(given).as_posix()}" for file in found]
    for file, target in zip(found, names, strict=True):
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).write_bytes(file.read_bytes())
    return names
