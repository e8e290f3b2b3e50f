"""pyarrow's own S3 file system: streams, listings, and a partitioned data set."""

import os

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from awkward import KEYS, LARGE, content, refused
from pyarrow import fs

root = f"{os.environ['REPOSITORY']}/main"
s3 = fs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"], region="us-east-1")

for key in KEYS:
    with s3.open_output_stream(f"{root}/{key}", metadata={"Content-Type": "text/x-test"}) as sink:
        sink.write(content(key))
    with s3.open_input_file(f"{root}/{key}") as source:
        assert source.read() == content(key), key
    assert s3.get_file_info(f"{root}/{key}").size == len(content(key))
found = s3.get_file_info(fs.FileSelector(root, recursive=True))
assert sorted(info.path for info in found if info.type == fs.FileType.File) == sorted(
    f"{root}/{key}" for key in KEYS
)
assert s3.get_file_info(f"{root}/nothing").type == fs.FileType.NotFound
assert s3.get_file_info(f"{root}/deep").type == fs.FileType.Directory
with refused(FileNotFoundError):
    s3.open_input_file(f"{root}/nothing")

with s3.open_output_stream(f"{root}/large.bin") as sink:  # in parts
    for start in range(0, len(LARGE), 1 << 20):
        sink.write(LARGE[start : start + (1 << 20)])
with s3.open_input_file(f"{root}/large.bin") as source:
    assert source.size() == len(LARGE)
    source.seek(9_000_000)
    assert source.read(100) == LARGE[9_000_000:9_000_100]
s3.copy_file(f"{root}/large.bin", f"{root}/copy.bin")
s3.move(f"{root}/copy.bin", f"{root}/moved +.bin")
assert s3.get_file_info(f"{root}/moved +.bin").size == len(LARGE)
s3.delete_file(f"{root}/moved +.bin")
assert s3.get_file_info(f"{root}/moved +.bin").type == fs.FileType.NotFound

table = pa.table({"city": ["Zürich", "São Paulo", "a b"], "n": [1, 2, 3]})
pq.write_table(table, f"{root}/one.parquet", filesystem=s3)
assert pq.read_table(f"{root}/one.parquet", filesystem=s3, filters=[("n", ">", 1)]).num_rows == 2
ds.write_dataset(
    table,
    f"{root}/cities",
    filesystem=s3,
    format="parquet",
    partitioning=["city"],
    partitioning_flavor="hive",
)
again = ds.dataset(f"{root}/cities", filesystem=s3, format="parquet", partitioning="hive").to_table()
assert sorted(again.column("city").to_pylist()) == sorted(table.column("city").to_pylist())
s3.delete_dir_contents(f"{root}/cities", missing_dir_ok=True)
assert not [
    i
    for i in s3.get_file_info(fs.FileSelector(f"{root}/cities", recursive=True, allow_not_found=True))
    if i.is_file
]
print("done")
