"""Stock clients, unmodified, against a real mesh's doors: each does its whole round in a program of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.system.clients.conftest import HERE, Run
from tests.system.lake_server import LakeServer

pytestmark = pytest.mark.system

LARGE = bytes(range(256)) * 40_000  # 10 MB
NAMES = [
    "plain.txt",
    "with space.txt",
    "per%cent.txt",
    "plus+.txt",
    "ünï/日本.txt",
    "a=b&c;d.txt",
    "deep/er/x.txt",
]


@pytest.mark.parametrize(
    "client", ["boto3", "s3fs", "pyarrow", "duckdb", "airflow", "lakefs_sdk", "lakefs_spec"]
)
def test_client(client: str, server: LakeServer, run: Run) -> None:
    name = server.make_repository(f"by-{client.replace('_', '-')}")
    assert run("python", str(HERE / f"drive_{client}.py"), REPOSITORY=name).endswith("done\n")


def test_lakefs(run: Run) -> None:
    assert run("python", str(HERE / "drive_lakefs.py"), REPOSITORY="by-lakefs").endswith("done\n")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with files of awkward names, and a large one."""
    folder = tmp_path / "files"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"the content of {name}")
    (folder / "large.bin").write_bytes(LARGE)
    return folder


def same(left: Path, right: Path) -> bool:
    contents = [
        {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}
        for root in (left, right)
    ]
    return contents[0] == contents[1]


def test_aws_command_line(server: LakeServer, run: Run, files: Path, tmp_path: Path) -> None:
    name = server.make_repository("by-awscli")
    root = f"s3://{name}/main"

    def aws(*arguments: str, status: int = 0) -> str:
        return run("aws", *arguments, status=status)

    assert name in aws("s3", "ls")
    assert aws("s3", "ls", f"s3://{name}/").split() == ["PRE", "main/"]
    aws("s3", "cp", "--recursive", "--quiet", str(files), f"{root}/all")
    aws("s3", "cp", "--recursive", "--quiet", f"{root}/all", str(tmp_path / "back"))
    assert same(files, tmp_path / "back")
    assert aws("s3", "sync", "--size-only", str(files), f"{root}/all") == ""  # nothing to do
    (files / "plain.txt").unlink()
    aws("s3", "sync", "--delete", str(files), f"{root}/all")
    assert "plain.txt" not in aws("s3", "ls", "--recursive", f"{root}/all/")
    aws("s3", "mv", "--quiet", f"{root}/all/plus+.txt", f"{root}/moved/a b+%.txt")
    assert aws("s3", "cp", f"{root}/moved/a b+%.txt", "-") == "the content of plus+.txt"
    listed = json.loads(
        aws("s3api", "list-objects-v2", "--bucket", name, "--prefix", "main/", "--page-size", "3")
    )
    assert len(listed["Contents"]) == len(NAMES)
    put = (
        "s3api",
        "put-object",
        "--bucket",
        name,
        "--key",
        "main/once",
        "--body",
        str(files / "with space.txt"),
    )
    aws(*put, "--if-none-match", "*")
    aws(*put, "--if-none-match", "*", status=255)
    url = aws("s3", "presign", f"{root}/once").strip()
    assert url.startswith(server.s3)
    aws("s3", "rm", "--recursive", "--quiet", f"{root}/all")
    aws("s3", "ls", f"{root}/all/", status=1)
    aws("s3", "ls", "s3://no-such-bucket/main/", status=255)


def test_rclone(server: LakeServer, run: Run, files: Path, tmp_path: Path) -> None:
    name = server.make_repository("by-rclone")
    settings = {
        "RCLONE_CONFIG_LAKE_TYPE": "s3",
        "RCLONE_CONFIG_LAKE_PROVIDER": "Other",
        "RCLONE_CONFIG_LAKE_ENV_AUTH": "true",
        "RCLONE_CONFIG_LAKE_ENDPOINT": server.s3,
        "RCLONE_CONFIG": str(tmp_path / "no-file"),
    }

    def rclone(*arguments: str, status: int = 0) -> str:
        return run(
            "rclone",
            "--s3-chunk-size",
            "5M",
            "--s3-upload-cutoff",
            "5M",
            *arguments,
            status=status,
            **settings,
        )

    root = f"lake:{name}/main"
    assert name in rclone("lsd", "lake:")
    rclone("copy", str(files), f"{root}/all")
    rclone("check", str(files), f"{root}/all")  # sizes and MD5 of both sides
    rclone("copy", f"{root}/all", str(tmp_path / "back"))
    assert same(files, tmp_path / "back")
    rclone("copyto", f"{root}/all/plus+.txt", f"{root}/moved/a b+%.txt")
    assert rclone("cat", f"{root}/moved/a b+%.txt") == "the content of plus+.txt"
    (files / "plain.txt").unlink()
    (files / "new.txt").write_text("new")
    rclone("sync", str(files), f"{root}/all")
    assert sorted(rclone("lsf", "-R", "--files-only", f"{root}/all").splitlines()) == sorted(
        ["new.txt", "large.bin", *(n for n in NAMES if n != "plain.txt")]
    )
    rclone("purge", f"{root}/all")
    assert sorted(rclone("lsf", "-R", root).splitlines()) == ["moved/", "moved/a b+%.txt"]
    rclone("lsf", "lake:no-such-bucket/main", status=3)
