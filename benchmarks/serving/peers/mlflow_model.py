"""An MLflow model in a folder, with a signature that its scoring server checks records against.

python mlflow_model.py FOLDER
"""

import json
import os
import sys

import mlflow
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from scoring import MODEL, NAMES

WHOLE = {"channel", "region"}


def main(folder):
    """Save it."""
    signature = ModelSignature(Schema([ColSpec("long" if n in WHOLE else "double", n) for n in NAMES]))
    example = json.loads(os.environ["EXAMPLE"])
    if MODEL.endswith(".onnx"):
        import onnx

        model = onnx.load(MODEL)
        # Of several outputs it makes the columns of a table, which then must be equally long.
        for output in [one for one in model.graph.output if one.name != "probabilities"]:
            model.graph.output.remove(output)
        mlflow.onnx.save_model(model, folder, signature=signature)
    else:
        import joblib

        mlflow.sklearn.save_model(
            joblib.load(MODEL),
            folder,
            signature=signature,
            pyfunc_predict_fn="predict_proba",
            serialization_format="cloudpickle",
        )
    import pandas as pd

    print(mlflow.pyfunc.load_model(folder).predict(pd.DataFrame([example])))


main(sys.argv[1])
