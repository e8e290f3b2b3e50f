"""A Feast repository with the rows of a Parquet file in its online store.

python feast_store.py FOLDER PARQUET sqlite | redis:PORT
"""

import datetime as dt
import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Bool, Float64, Int64, String

TYPES = {"f": Float64, "i": Int64, "s": String, "b": Bool}
AT_ONCE = 20_000


def main(folder, parquet, store):
    """Make it."""
    kind, _, port = store.partition(":")
    online = (
        {"type": "sqlite", "path": "online.db"}
        if kind == "sqlite"
        else {"type": "redis", "connection_string": f"127.0.0.1:{port}"}
    )
    config = {
        "project": "bench",
        "provider": "local",
        "registry": "registry.db",
        "online_store": online,
        "entity_key_serialization_version": 3,
    }
    (folder / "feature_store.yaml").write_text(json.dumps(config))  # JSON is YAML
    table = pq.ParquetFile(parquet)
    names = [name for name in table.schema_arrow.names if name != "key"]
    entity = Entity(name="row", join_keys=["key"], value_type=ValueType.INT64)
    view = FeatureView(
        name="wide",
        entities=[entity],
        ttl=dt.timedelta(0),
        schema=[Field(name="key", dtype=Int64), *(Field(name=n, dtype=TYPES[n[0]]) for n in names)],
        source=FileSource(path=str(parquet), timestamp_field="event_timestamp"),
        online=True,
    )
    feast = FeatureStore(repo_path=str(folder))
    feast.apply([entity, view, FeatureService(name="wide", features=[view])])
    now = dt.datetime.now(dt.UTC)
    for batch in table.iter_batches(AT_ONCE):
        frame = batch.to_pandas()
        frame["event_timestamp"] = now
        feast.write_to_online_store("wide", df=frame)


main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
