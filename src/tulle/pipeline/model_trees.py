"""Boosted trees of XGBoost, LightGBM and scikit-learn as one ONNX operator, read from what the libraries write down.

Their own runtimes take a hundred microseconds and more for one row; as an ONNX tree ensemble it is a few.
scikit-learn's histogram gradient boosting is read here, too, as its usual converter rounds thresholds that it compares
unrounded. Nothing is guessed: what the operator cannot say (categorical splits, zeros that mean "missing") raises
Unconvertible, and whether the rest gives equal answers is for the parity test of `model_onnx` to find. Knows nothing
of files or pipelines.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tulle.pipeline.model_score import optional

ML = "ai.onnx.ml"
# Adds a node: operator, inputs, outputs, and then its attributes.
AddNode = Callable[..., Any]


_NODE: tuple[str, ...] = (
    "treeids",
    "nodeids",
    "featureids",
    "values",
    "modes",
    "truenodeids",
    "falsenodeids",
    "missing_value_tracks_true",
)
_LEAF: tuple[str, ...] = ("treeids", "nodeids", "ids", "weights")


class Unconvertible(Exception):
    """What a model does that the operator cannot; the message says it."""


@dataclass(slots=True)
class Trees:
    """The trees of a model, node by node, and what is made of the sums of their leaves."""

    targets: int  # 1, or one a class
    link: str  # what the sums go through: NONE, LOGISTIC, SOFTMAX, EXP
    base: list[float]  # added to the sum of each target
    double: bool  # thresholds are compared in double precision, else in single
    mode: str  # BRANCH_LT or BRANCH_LEQ: of the rows that go to the first child
    width: int  # how many features
    nodes: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _NODE})
    leaves: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _LEAF})

    def split(self, tree: int, node: int, feature: int, value: float, children: tuple[int, int]) -> None:
        """Add a node that asks; what is missing goes the second way until `missing_first` says otherwise."""
        row = (tree, node, feature, value, self.mode, *children, 0)
        for name, each in zip(_NODE, row, strict=True):
            self.nodes[name].append(each)

    def missing_first(self) -> None:
        """At the node added last, what is missing goes the first way."""
        self.nodes["missing_value_tracks_true"][-1] = 1

    def leaf(self, tree: int, node: int, target: int, weight: float) -> None:
        """Add a leaf: what it adds to a target."""
        for name, each in zip(_NODE, (tree, node, 0, 0.0, "LEAF", 0, 0, 0), strict=True):
            self.nodes[name].append(each)
        for name, each in zip(_LEAF, (tree, node, target, weight), strict=True):
            self.leaves[name].append(each)


def is_boosted(estimator: Any) -> bool:
    """Whether `trees_of` may know it."""
    if hasattr(estimator, "own_booster") or _is_histogram(estimator):
        return True
    root = type(estimator).__module__.partition(".")[0]
    return root in {"xgboost", "lightgbm"} and hasattr(estimator, "get_params")


def trees_of(estimator: Any) -> Trees:
    """The trees of a fitted estimator of one of these, or of a booster that was adapted; or Unconvertible."""
    if _is_histogram(estimator):
        return _of_histogram(estimator)
    booster = getattr(estimator, "own_booster", None)  # of ours
    if booster is None:
        booster = getattr(estimator, "booster_", None)  # of LightGBM's
    if booster is None:
        booster = estimator.get_booster()
    if type(booster).__module__.partition(".")[0] == "xgboost":
        return _of_xgboost(booster)
    return _of_lightgbm(booster)


# ── XGBoost ──────────────────────────────────────────────────────────────────────────────────────────────

_XGBOOST_LINKS = {
    "binary:logistic": "LOGISTIC",
    "reg:logistic": "LOGISTIC",
    "multi:softprob": "SOFTMAX",
    "multi:softmax": "SOFTMAX",
    "count:poisson": "EXP",
    "reg:gamma": "EXP",
    "reg:tweedie": "EXP",
    "reg:squarederror": "NONE",
    "reg:absoluteerror": "NONE",
    "reg:pseudohubererror": "NONE",
    "reg:quantileerror": "NONE",
    "reg:squaredlogerror": "NONE",
}


def _of_xgboost(booster: Any) -> Trees:
    best = booster.attr("best_iteration")
    if best is not None:  # what its estimators predict with
        booster = booster[: int(best) + 1]
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    objective = learner["objective"]["name"]
    if objective not in _XGBOOST_LINKS:
        raise Unconvertible(f"the objective {objective}")
    link = _XGBOOST_LINKS[objective]
    gradient = learner["gradient_booster"]
    if gradient["name"] != "gbtree":
        raise Unconvertible(f"the booster {gradient['name']}")
    said = learner["learner_model_param"]
    targets = max(1, int(said["num_class"]))
    if int(said.get("num_target", "1")) > 1:
        raise Unconvertible("several targets")
    base = [float(part) for part in said["base_score"].strip("[]").split(",")]
    if link == "LOGISTIC":
        base = [math.log(one / (1 - one)) for one in base]
    elif link == "EXP":
        base = [math.log(one) for one in base]
    base = base * targets if len(base) == 1 else base
    made = Trees(targets, link, base, double=False, mode="BRANCH_LT", width=int(said["num_feature"]))
    model = gradient["model"]
    for number, (tree, target) in enumerate(zip(model["trees"], model["tree_info"], strict=True)):
        if any(tree["split_type"]) or int(tree["tree_param"]["size_leaf_vector"] or 1) > 1:
            raise Unconvertible("categorical splits, or leaves of several numbers")
        rows = zip(
            tree["left_children"],
            tree["right_children"],
            tree["split_indices"],
            tree["split_conditions"],
            tree["default_left"],
            strict=True,
        )
        for node, (left, right, feature, value, default_left) in enumerate(rows):
            if left == -1:
                made.leaf(number, node, target, value)
                continue
            made.split(number, node, feature, value, (left, right))
            if default_left:
                made.missing_first()
    return made


# ── LightGBM ─────────────────────────────────────────────────────────────────────────────────────────────

_LIGHTGBM_LINKS = {
    "binary": "LOGISTIC",
    "cross_entropy": "LOGISTIC",
    "multiclass": "SOFTMAX",
    "poisson": "EXP",
    "gamma": "EXP",
    "tweedie": "EXP",
    **dict.fromkeys(("regression", "regression_l1", "huber", "fair", "quantile", "mape"), "NONE"),
}


def _of_lightgbm(booster: Any) -> Trees:
    said = booster.dump_model(num_iteration=booster.best_iteration if booster.best_iteration > 0 else None)
    objective, *options = str(said.get("objective", "")).split(" ")
    if objective not in _LIGHTGBM_LINKS or "sqrt" in options:
        raise Unconvertible(f"the objective {' '.join([objective, *options]).strip() or 'of its own'}")
    link = _LIGHTGBM_LINKS[objective]
    steep = next((float(one.partition(":")[2]) for one in options if one.startswith("sigmoid:")), 1.0)
    targets = int(said["num_tree_per_iteration"])
    infos = said["tree_info"]
    share = 1.0 / max(1, len(infos) // targets) if said["average_output"] else 1.0
    width = int(said["max_feature_idx"]) + 1
    made = Trees(targets, link, [0.0] * targets, double=True, mode="BRANCH_LEQ", width=width)
    for number, info in enumerate(infos):
        # Not by calls within calls: trees may be thousands of levels deep.
        count, left = 1, [(0, info["tree_structure"])]
        while left:
            node, tree = left.pop()
            if "split_feature" not in tree:
                made.leaf(number, node, number % targets, tree["leaf_value"] * steep * share)
                continue
            if tree["decision_type"] != "<=":
                raise Unconvertible("categorical splits")
            if tree["missing_type"] == "Zero":
                raise Unconvertible("zeros that mean a value is missing")
            children = (count, count + 1)
            count += 2
            made.split(number, node, tree["split_feature"], tree["threshold"], children)
            is_zero = tree["missing_type"] == "None"  # it reads what is missing as zero
            if tree["threshold"] >= 0 if is_zero else tree["default_left"]:
                made.missing_first()
            left += [(children[0], tree["left_child"]), (children[1], tree["right_child"])]
    return made


# ── scikit-learn ─────────────────────────────────────────────────────────────────────────────────────────

_HISTOGRAM_LINKS = {
    "IdentityLink": "NONE",
    "LogLink": "EXP",
    "LogitLink": "LOGISTIC",
    "MultinomialLogit": "SOFTMAX",
}


def _is_histogram(estimator: Any) -> bool:
    return type(estimator).__module__.startswith("sklearn.") and hasattr(estimator, "_predictors")


def _of_histogram(estimator: Any) -> Trees:
    link = type(estimator._loss.link).__name__  # noqa: SLF001  nothing public tells it, nor the trees
    if link not in _HISTOGRAM_LINKS:
        raise Unconvertible(f"the link {link}")
    targets = int(estimator.n_trees_per_iteration_)
    base = [float(one) for one in np.ravel(estimator._baseline_prediction)]  # noqa: SLF001
    width = int(estimator.n_features_in_)
    made = Trees(targets, _HISTOGRAM_LINKS[link], base, double=True, mode="BRANCH_LEQ", width=width)
    trees = [tree for iteration in estimator._predictors for tree in iteration]  # noqa: SLF001
    for number, tree in enumerate(trees):
        for node, row in enumerate(tree.nodes):
            if row["is_leaf"]:
                made.leaf(number, node, number % targets, float(row["value"]))
                continue
            if row["is_categorical"]:
                raise Unconvertible("categorical splits")
            children = (int(row["left"]), int(row["right"]))
            made.split(number, node, int(row["feature_idx"]), float(row["num_threshold"]), children)
            if row["missing_go_to_left"]:
                made.missing_first()
    return made


# ── the operator ─────────────────────────────────────────────────────────────────────────────────────────


def add_trees(trees: Trees, add: AddNode, given: str, label: str, probabilities: str | None) -> None:
    """Add the nodes that turn the matrix `given` into `label` and, for a classifier, `probabilities`.

    The label of a classifier is the number of its class.
    """
    kind = "DOUBLE" if trees.double else "FLOAT"
    matrix = f"{label}_matrix"
    tensor_proto = optional("onnx").TensorProto
    add("Cast", [given], [matrix], to=int(getattr(tensor_proto, kind)))
    if probabilities is None:
        out = label if trees.link == "NONE" else f"{label}_sum"
        attributes = _attributes(trees, "target") | {"n_targets": 1, "aggregate_function": "SUM"}
        add(
            "TreeEnsembleRegressor",
            [matrix],
            [out],
            op_domain=ML,
            op_version=3,
            post_transform="NONE",
            **attributes,
        )
        if trees.link != "NONE":
            add({"EXP": "Exp", "LOGISTIC": "Sigmoid"}[trees.link], [out], [label])
        return
    classes = max(2, trees.targets)
    attributes = _attributes(trees, "class") | {"classlabels_int64s": list(range(classes))}
    add(
        "TreeEnsembleClassifier",
        [matrix],
        [label, probabilities],
        op_domain=ML,
        op_version=3,
        post_transform=trees.link,
        **attributes,
    )


def _attributes(trees: Trees, word: str) -> dict[str, Any]:
    """The trees as attributes of an ensemble whose outputs are called by `word`."""
    helper = optional("onnx.numpy_helper")
    found: dict[str, Any] = {}
    for prefix, columns in (("nodes", trees.nodes), (word, trees.leaves)):
        for name, values in columns.items():
            if name in {"values", "weights"}:
                found |= _numbers(helper, f"{prefix}_{name}", values, double=trees.double)
            else:
                found[f"{prefix}_{name}"] = values
    if any(trees.base):
        found |= _numbers(helper, "base_values", trees.base, double=trees.double)
    return found


def _numbers(helper: Any, name: str, values: list[float], *, double: bool) -> Mapping[str, Any]:
    if not double:
        return {name: [float(np.float32(value)) for value in values]}
    return {f"{name}_as_tensor": helper.from_array(np.asarray(values, dtype=np.float64), name)}


def as_onnx(trees: Trees, *, classifier: bool) -> bytes:
    """A whole ONNX model that is these trees: one matrix of numbers in, labels (and probabilities) out."""
    onnx = optional("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    nodes: list[Any] = []

    def add(operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        attributes.pop("op_version", None)
        domain = attributes.pop("op_domain", "")
        nodes.append(helper.make_node(operator, inputs, outputs, domain=domain, **attributes))

    add_trees(trees, add, "features", "label", "probabilities" if classifier else None)
    number = kinds.DOUBLE if trees.double else kinds.FLOAT
    outputs = [helper.make_tensor_value_info("label", kinds.INT64 if classifier else kinds.FLOAT, None)]
    if classifier:
        outputs.append(helper.make_tensor_value_info("probabilities", kinds.FLOAT, None))
    graph = helper.make_graph(
        nodes, "model", [helper.make_tensor_value_info("features", number, [None, trees.width])], outputs
    )
    versions = [helper.make_opsetid("", 18), helper.make_opsetid(ML, 3)]
    model = helper.make_model(graph, opset_imports=versions, producer_name="tulle", ir_version=9)
    return bytes(model.SerializeToString())
