"""The `airflow` hook: a run of a DAG is begun, and waited for where that is wanted.

The run's id is made of the hook's, so that a hook that is done again finds the run it began before.
"""

from __future__ import annotations

import base64
import json
import time
from typing import Any
from urllib.parse import quote

from tulle.errors import Denied, Invalid, Unavailable
from tulle.lake.hooks.kind import HookCall, HookKind, Outcome
from tulle.lake.hooks.outbound import Answer, Outbound
from tulle.lake.hooks.properties import AIRFLOW

TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 5.0


def airflow(outbound: Outbound, *, poll_seconds: float = POLL_SECONDS) -> HookKind:
    """The type, sending where `outbound` allows."""

    def run(call: HookCall) -> Outcome:
        properties = call.properties
        login = f"{properties['username']}:{properties['password']}"
        secrets = (str(properties["password"]), login)
        try:
            passed, output, final = _Dag(call, outbound, login, poll_seconds).run()
        except (Denied, Invalid) as exc:
            passed, output, final = False, exc.message, True
        return Outcome(passed, output, final, secrets)

    return HookKind(run, AIRFLOW)


class _Dag:
    """One run of a DAG, seen through Airflow's stable REST API."""

    def __init__(self, call: HookCall, outbound: Outbound, login: str, poll_seconds: float) -> None:
        self._call = call
        self._outbound = outbound
        self._poll_seconds = poll_seconds
        self._deadline = call.limit(TIMEOUT_SECONDS)
        self._headers = {
            "Authorization": "Basic " + base64.b64encode(login.encode()).decode(),
            "Content-Type": "application/json",
            "Accept": "application/json",
        }
        dag = quote(str(call.properties["dag_id"]), safe="")
        self._runs = f"{str(call.properties['url']).rstrip('/')}/api/v1/dags/{dag}/dagRuns"
        self._id = f"lakeFS_hook_{call.run_id}_{call.hook_run_id}"

    def run(self) -> tuple[bool, str, bool]:
        """Whether it went well, what is to be told, whether doing it again is of no use."""
        conf = {**(self._call.properties.get("dag_conf") or {}), "lakeFS_event": self._call.payload()}
        answer = self._send("POST", self._runs, {"dag_run_id": self._id, "conf": conf})
        told = f"POST {self._runs}\nstatus {answer.status}\n\n{answer.text}"
        if answer.status == 409:
            told += "\nthe run was begun before"
        elif not 200 <= answer.status < 300:
            return False, told, False
        if not self._call.properties.get("wait_for_dag"):
            return True, told, False
        state = self._awaited()
        return state == "success", f"{told}\nDAG run {self._id}: {state}", state == "failed"

    def _awaited(self) -> str:
        state = "unknown"
        while True:
            try:
                answer = self._send("GET", f"{self._runs}/{quote(self._id, safe='')}", None)
            except Unavailable:
                if time.monotonic() < self._deadline:
                    raise
                raise self._late(state) from None
            if answer.status == 200:
                state = _state(answer)
                if state in {"success", "failed"}:
                    return state
            elif answer.status < 500 and answer.status != 429:
                return f"status {answer.status}: {answer.text[:1000]}"
            left = self._deadline - time.monotonic()
            if left <= self._poll_seconds:
                time.sleep(max(0.0, left))
                raise self._late(state)
            time.sleep(self._poll_seconds)

    def _late(self, state: str) -> Unavailable:
        return Unavailable(f"DAG run {self._id} did not end in time, it is {state}")

    def _send(self, method: str, url: str, body: Any) -> Answer:
        data = b"" if body is None else json.dumps(body).encode()
        return self._outbound.send(method, url, headers=self._headers, body=data, deadline=self._deadline)


def _state(answer: Answer) -> str:
    try:
        return str(json.loads(answer.body)["state"])
    except (ValueError, KeyError, TypeError):
        raise Unavailable(f"Airflow gave no state: {answer.text[:200]}") from None
