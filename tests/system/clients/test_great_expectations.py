"""Great Expectations, as it is, decides on commits: the page's own suite, in the page's own action file."""

from __future__ import annotations

import io
import re
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.system.lake_server import LakeServer

PAGE = (Path(__file__).parents[3] / "docs/reference/hooks.md").read_text()
pytestmark = pytest.mark.system


def example(language: str, word: str) -> str:
    (found,) = (text for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if word in text)
    return str(found)


def orders(amounts: list[int]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"id": list(range(len(amounts))), "amount": amounts}), file)
    return file.getvalue()


def test_a_suite_of_the_page_lets_good_data_pass_and_no_bad(server: LakeServer) -> None:
    name = server.make_repository("expected")
    branch = f"/repositories/{name}/branches/main"
    with server.client() as client:

        def put(path: str, content: str | bytes) -> None:
            answer = client.post(f"{branch}/objects", params={"path": path}, content=content)
            assert answer.status_code == 201, answer.text

        def commit() -> httpx.Response:
            return client.post(f"{branch}/commits", json={"message": "Orders"}, timeout=120)

        put("quality/orders.py", example("python", "great_expectations"))
        put("_lakefs_actions/orders.yaml", example("yaml", "environment: expectations"))
        put("tables/orders/part-0.parquet", orders([3, 5]))
        put("tables/orders/part-1.parquet", orders([4, -7]))
        answer = commit()
        assert answer.status_code == 412, answer.text
        said = answer.json()["message"]
        assert "refused by hook 'expectations'" in said
        assert "passed expect_column_values_to_not_be_null id" in said
        assert "FAILED expect_column_values_to_be_between amount [-7]" in said
        put("tables/orders/part-1.parquet", orders([4, 7]))
        answer = commit()
        assert answer.status_code == 201, answer.text
        run = client.get(f"/repositories/{name}/actions/runs").json()["results"][0]["run_id"]
        output = client.get(f"/repositories/{name}/actions/runs/{run}/hooks/0000_0000/output").text
        assert output.splitlines() == [
            "passed expect_column_values_to_not_be_null id ",
            "passed expect_column_values_to_be_between amount ",
        ]
