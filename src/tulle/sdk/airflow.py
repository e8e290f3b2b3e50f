"""Airflow: an operator that runs a product, waits, and fails with the checks that failed.

    from tulle.sdk.airflow import TulleRunOperator

    TulleRunOperator(task_id="purchases", product="purchases", conn_id="tulle_default")

The connection (type http) has the control plane's host and port, and the mesh's token as its password. For Airflow 3
and 2; imports Airflow, so only Airflow's own processes import this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

try:
    from airflow.sdk import BaseHook, BaseOperator
    from airflow.sdk.exceptions import AirflowException, AirflowFailException
except ImportError:  # Airflow 2
    from airflow.exceptions import AirflowException, AirflowFailException
    from airflow.hooks.base import BaseHook
    from airflow.models.baseoperator import BaseOperator

from tulle.errors import TulleError
from tulle.sdk.client import Client
from tulle.sdk.following import failing_checks, is_good, wait_for_run, why

__all__ = ["TulleRunOperator", "client_of"]


def client_of(conn_id: str) -> Client:
    """A client of the mesh that an Airflow connection leads to."""
    connection = BaseHook.get_connection(conn_id)
    scheme = "https" if connection.conn_type == "https" or connection.schema == "https" else "http"
    port = f":{connection.port}" if connection.port else ""
    return Client.connect(f"{scheme}://{connection.host}{port}", token=connection.password or "")


class TulleRunOperator(BaseOperator):  # type: ignore[misc]  # Airflow's types are not installed here
    """Runs one product to its end; the task's result is what the run published.

    Failed checks fail the task for good (the same data would fail again); what may pass leaves it to the task's
    retries. A task that is killed stops its run.
    """

    template_fields: Sequence[str] = ("product", "environment", "window")
    ui_color = "#d9e7e4"

    def __init__(
        self,
        *,
        product: str,
        conn_id: str = "tulle_default",
        environment: str | None = None,
        full: bool = False,
        window: tuple[str, str] | None = None,
        timeout: float = 3600.0,
        pause: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.product = product
        self.conn_id = conn_id
        self.environment = environment
        self.full = full
        self.window = window
        self.timeout = timeout
        self.pause = pause
        self.run_id: str | None = None

    def execute(self, context: Any) -> dict[str, Any]:  # noqa: ARG002  Airflow's signature
        """Start the run and wait for its end."""
        client = client_of(self.conn_id)
        try:
            self.run_id = client.start_run(
                self.product, full=self.full, environment=self.environment, window=self.window
            )
            self.log.info("run %s of %s", self.run_id, self.product)
            run = wait_for_run(client, self.run_id, timeout=self.timeout, pause=self.pause)
        except TulleError as exc:
            told = exc.message + (f" ({exc.hint})" if exc.hint else "")
            lasting = exc.kind in {"invalid", "not_found", "denied"}
            raise (AirflowFailException if lasting else AirflowException)(told) from exc
        finally:
            client.close()
        if not is_good(run):
            lasting = bool(failing_checks(run)) or (run["error"] or {}).get("kind") == "invalid"
            raise (AirflowFailException if lasting else AirflowException)(why(run))
        return {key: run[key] for key in ("id", "product", "status", "commit_id")}

    def on_kill(self) -> None:
        """Stop the run; nothing of it is published."""
        if self.run_id is not None:
            client = client_of(self.conn_id)
            client.stop_run(self.run_id)
            client.close()
