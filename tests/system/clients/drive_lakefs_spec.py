"""lakefs-spec: an fsspec file system with transactions, and pandas, polars and DuckDB on top of it."""

import os
import tempfile
from pathlib import Path

import duckdb
import lakefs
import pandas as pd
import polars as pl
from awkward import KEYS, LARGE, content, refused
from lakefs_spec import LakeFSFileSystem

repo = os.environ["REPOSITORY"]
root = f"lakefs://{repo}/main"
fs = LakeFSFileSystem()

for key in KEYS:
    with fs.open(f"{root}/{key}", "wb") as file:
        file.write(content(key))
    assert fs.cat_file(f"{root}/{key}") == content(key)
    assert fs.info(f"{root}/{key}")["size"] == len(content(key))
    assert fs.exists(f"{root}/{key}")
assert not fs.exists(f"{root}/nothing")
assert sorted(fs.find(f"{root}/")) == sorted(f"{repo}/main/{key}" for key in KEYS)
with refused(FileNotFoundError):
    fs.cat_file(f"{root}/nothing")

with tempfile.TemporaryDirectory() as folder:
    here = Path(folder)
    (here / "large.bin").write_bytes(LARGE)
    fs.put_file(str(here / "large.bin"), f"{root}/large.bin")
    fs.put_file(str(here / "large.bin"), f"{root}/large.bin")  # the same: skipped by its checksum
    fs.get_file(f"{root}/large.bin", str(here / "back.bin"))
    assert (here / "back.bin").read_bytes() == LARGE
fs.cp_file(f"{root}/large.bin", f"{root}/copy.bin")
assert fs.checksum(f"{root}/copy.bin") == fs.checksum(f"{root}/large.bin")
assert fs.tail(f"{root}/large.bin", 3) == b"end"
fs.touch(f"{root}/empty")
assert fs.info(f"{root}/empty")["size"] == 0
fs.rm(f"{root}/copy.bin")
assert not fs.exists(f"{root}/copy.bin")
with fs.open(f"lakefs://{repo}/made-by-writing/x", "wb") as file:  # makes the branch
    file.write(b"x")
assert fs.cat_file(f"lakefs://{repo}/made-by-writing/x") == b"x"

lakefs.repository(repo).branch("main").commit("Files")  # a merge wants nothing staged
with fs.transaction(repo, "main") as tx:
    frame = pd.DataFrame({"city": ["Zürich", "São Paulo", "a b"], "n": [1, 2, 3]})
    frame.to_parquet(f"lakefs://{repo}/{tx.branch.id}/frames/pandas.parquet")
    frame.to_csv(f"lakefs://{repo}/{tx.branch.id}/frames/pandas.csv", index=False)
    with fs.open(f"lakefs://{repo}/{tx.branch.id}/frames/polars.parquet", "wb") as file:
        pl.from_pandas(frame).write_parquet(file)
    tx.commit("Frames", {"by": "a test"})
    assert tx.tag("main", "before-frames").id == "before-frames"
assert pd.read_parquet(f"{root}/frames/pandas.parquet").equals(frame)
assert pd.read_csv(f"{root}/frames/pandas.csv").equals(frame)
with fs.open(f"{root}/frames/polars.parquet") as file:
    assert pl.read_parquet(file).to_dicts() == frame.to_dict("records")
db = duckdb.connect()
db.register_filesystem(fs)
told = db.execute(f"SELECT sum(n), count(*) FROM read_parquet('{root}/frames/pandas.parquet')").fetchone()
assert told == (6, 3)
db.execute(f"COPY (SELECT 42 AS answer) TO '{root}/frames/duckdb.parquet' (FORMAT parquet)")
assert db.execute(f"SELECT * FROM read_parquet('{root}/frames/duckdb.parquet')").fetchone() == (42,)
assert not fs.exists(f"lakefs://{repo}/before-frames/frames/pandas.parquet")
try:
    with fs.transaction(repo, "main", delete="always") as tx:
        fs.pipe_file(f"lakefs://{repo}/{tx.branch.id}/half", b"x")
        raise KeyError("something went wrong")
except KeyError:
    pass
assert not fs.exists(f"{root}/half")
print("done")
