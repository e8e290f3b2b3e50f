"""What every peer asks: the probability of the second class, from the estimator or from its ONNX form.

Runs in a peer's own environment, where nothing of Tulle is. `MODEL` in the environment is a .joblib or a .onnx file.
"""

import os

import numpy as np

NAMES = os.environ["FEATURES"].split(",")
MODEL = os.environ["MODEL"]


def load():
    """A function from the features of one record, in their order, to (prediction, [probability of each class])."""
    if MODEL.endswith(".onnx"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
        wanted = np.float64 if session.get_inputs()[0].type == "tensor(double)" else np.float32

        def probabilities(values):
            return session.run(["probabilities"], {"features": np.array([values], dtype=wanted)})[0][0]
    else:
        import joblib

        estimator = joblib.load(MODEL)

        def probabilities(values):
            return estimator.predict_proba(np.array([values], dtype=np.float64))[0]

    def answer(values):
        found = probabilities(values).tolist()
        return {"prediction": int(found[1] > found[0]), "probas": {"0": found[0], "1": found[1]}}

    return answer
