"""DuckDB with httpfs: reads, globs, hive partitions and writes through the S3 door."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import duckdb
import duckdb_extension_httpfs
from awkward import refused

root = f"s3://{os.environ['REPOSITORY']}/main"
extension = next(Path(duckdb_extension_httpfs.__file__).parent.rglob("httpfs.duckdb_extension"))
db = duckdb.connect(config={"autoinstall_known_extensions": False})
db.execute(f"LOAD '{extension}'")
db.execute(
    f"""CREATE SECRET lake (TYPE s3, KEY_ID '{os.environ["AWS_ACCESS_KEY_ID"]}',
        SECRET '{os.environ["AWS_SECRET_ACCESS_KEY"]}', REGION 'us-east-1',
        ENDPOINT '{urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc}', URL_STYLE 'path', USE_SSL false)"""
)
db.execute("CREATE TABLE rows AS SELECT i AS n, 'name ' || i AS name, i % 3 AS kind FROM range(1000) t(i)")
for name in ("plain.parquet", "with space.parquet", "per%cent.parquet", "plus+.parquet", "ünï/日本.parquet"):
    db.execute(f"COPY rows TO '{root}/some/{name}' (FORMAT parquet)")
    found = db.execute(f"SELECT count(*), sum(n) FROM read_parquet('{root}/some/{name}')").fetchone()
    assert found == (1000, 499500), (name, found)
globbed = db.execute(f"SELECT file FROM glob('{root}/some/**') ORDER BY file").fetchall()
assert len(globbed) == 5, globbed
assert db.execute(f"SELECT count(*) FROM read_parquet('{root}/some/*.parquet')").fetchone() == (4000,)
db.execute(f"COPY rows TO '{root}/by kind' (FORMAT parquet, PARTITION_BY (kind))")
told = db.execute(
    f"SELECT kind, count(*) FROM read_parquet('{root}/by kind/**/*.parquet', hive_partitioning = true) GROUP BY 1 ORDER BY 1"
).fetchall()
assert told == [(0, 334), (1, 333), (2, 333)], told
db.execute(f"COPY (SELECT * FROM range(2_000_000) t(i)) TO '{root}/large.csv'")  # 15 MB, in parts
assert db.execute(f"SELECT count(*), max(i) FROM read_csv('{root}/large.csv')").fetchone() == (
    2_000_000,
    1_999_999,
)
with refused(duckdb.HTTPException, duckdb.IOException):
    db.execute(f"SELECT * FROM read_parquet('{root}/nothing.parquet')")
db.execute(
    "CREATE OR REPLACE SECRET lake (TYPE s3, KEY_ID 'nobody', SECRET 'x', REGION 'us-east-1', "
    f"ENDPOINT '{urlsplit(os.environ['AWS_ENDPOINT_URL']).netloc}', URL_STYLE 'path', USE_SSL false)"
)
with refused(duckdb.HTTPException, duckdb.IOException):
    db.execute(f"SELECT * FROM read_parquet('{root}/some/plain.parquet')")
print("done")
