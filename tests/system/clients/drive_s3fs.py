"""s3fs: files, folders, multipart writes, copies and errors."""

import os

import pandas as pd
import s3fs
from awkward import KEYS, LARGE, content, refused

root = f"{os.environ['REPOSITORY']}/main"
fs = s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"])

for key in KEYS:
    with fs.open(f"{root}/{key}", "wb") as file:
        file.write(content(key))
    assert fs.cat_file(f"{root}/{key}") == content(key), key
    assert fs.info(f"{root}/{key}")["size"] == len(content(key))
    assert fs.exists(f"{root}/{key}")
fs.invalidate_cache()
assert sorted(fs.find(root)) == sorted(f"{root}/{key}" for key in KEYS)
assert f"{root}/deep" in fs.ls(root)
assert not fs.exists(f"{root}/nothing")
with refused(FileNotFoundError):
    fs.cat(f"{root}/nothing")
with refused(FileNotFoundError):
    fs.ls(f"{root}/no/such/folder")

with fs.open(f"{root}/large.bin", "wb", block_size=5 << 20) as file:
    file.write(LARGE)
with fs.open(f"{root}/large.bin", "rb") as file:
    file.seek(7_000_000)
    assert file.read(500) == LARGE[7_000_000:7_000_500]
assert fs.cat_file(f"{root}/large.bin", start=-7) == LARGE[-7:]
fs.copy(f"{root}/large.bin", f"{root}/copy of large.bin")
assert fs.size(f"{root}/copy of large.bin") == len(LARGE)
fs.mv(f"{root}/plain.txt", f"{root}/moved here/plain +.txt")
assert fs.cat(f"{root}/moved here/plain +.txt") == content("plain.txt")
assert not fs.exists(f"{root}/plain.txt")
with refused(FileExistsError):
    fs.pipe_file(f"{root}/with space.txt", b"x", mode="create")
fs.pipe({f"{root}/many/{n:03}": b"x" for n in range(30)})
assert len(fs.glob(f"{root}/many/*")) == 30
fs.rm(f"{root}/many", recursive=True)
fs.invalidate_cache()
assert not fs.exists(f"{root}/many")

options = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]}
frame = pd.DataFrame({"city": ["Zürich", "São Paulo"], "n": [1, 2]})
frame.to_parquet(f"s3://{root}/frames/part 0.parquet", storage_options=options)
assert pd.read_parquet(f"s3://{root}/frames/part 0.parquet", storage_options=options).equals(frame)
print("done")
