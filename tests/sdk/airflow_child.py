"""Runs in Airflow's own environment: the operator's `execute`, as a worker calls it, and what it is for Airflow."""

from __future__ import annotations

import json
import sys
from datetime import datetime

from airflow.sdk import DAG

from tulle.sdk.airflow import TulleRunOperator

with DAG("mesh", schedule=None, start_date=datetime(2026, 1, 1)) as dag:  # noqa: DTZ001  Airflow takes either
    task = TulleRunOperator(task_id="sales", product=sys.argv[1], pause=0.1, timeout=90)

assert dag.task_dict["sales"] is task
assert "product" in task.template_fields
try:
    print(json.dumps({"result": task.execute({})}))
except Exception as exc:  # noqa: BLE001  the test looks at which it is
    print(json.dumps({"error": type(exc).__name__, "message": str(exc)}))
