"""Ray Serve: one proxy, one replica with a FastAPI ingress that checks the record."""

import os
import signal
import sys
import threading

import ray
from fastapi import FastAPI
from ray import serve
from record import Record

app = FastAPI()


@serve.deployment(num_replicas=1, max_ongoing_requests=100, logging_config={"enable_access_log": False})
@serve.ingress(app)
class Predictor:
    """The model."""

    def __init__(self):
        from scoring import load

        self.answer = load()

    @app.post("/predict")
    async def predict(self, record: Record):
        """One prediction."""
        return self.answer(record.values())


if __name__ == "__main__":
    # Replicas are started elsewhere and have to find the modules and what they read of the environment.
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120  no word of pathlib in four peers
    told = {name: os.environ[name] for name in ("FEATURES", "MODEL", "OMP_NUM_THREADS")}
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {**told, "PYTHONPATH": here}},
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
    serve.run(Predictor.bind())
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    serve.shutdown()
    ray.shutdown()
    sys.exit(0)
