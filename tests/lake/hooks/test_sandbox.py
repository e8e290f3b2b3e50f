import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tulle.errors import Denied, Invalid, Unavailable
from tulle.lake.hooks.sandbox import Bounds, Sandbox


@pytest.fixture(scope="module")
def sandbox():
    found = Sandbox(Bounds(memory_bytes=512 << 20, scratch_bytes=8 << 20, file_bytes=4 << 20, processes=20))
    folder = Path("/")
    try:
        found.run(["true"], folder / "usr", deadline=time.monotonic() + 10)
    except Denied as exc:
        pytest.skip(exc.message)
    return found


@pytest.fixture(autouse=True)
def _readable(tmp_path):
    tmp_path.chmod(0o755)  # the program is somebody else


def python(sandbox, folder, text, seconds=20.0, **options):
    return sandbox.run(["python", "-c", text], folder, deadline=time.monotonic() + seconds, **options)


def test_a_program_sees_its_folder_and_its_code_is_told(sandbox, tmp_path):
    (tmp_path / "data").write_text("content")
    ended = python(sandbox, tmp_path, "print(open('data').read()); raise SystemExit(3)")
    assert (ended.code, ended.output) == (3, "content\n")


def test_it_sees_no_other_file_and_cannot_write(sandbox, tmp_path):
    secret = Path(__file__).resolve()
    # Where the interpreter itself lies in /tmp, the way to it is there.
    way = {Path(place).parts[2] for place in (sys.prefix, sys.base_prefix) if place.startswith("/tmp/")}
    text = f"""
import os
print(os.path.exists({str(secret)!r}), os.path.exists('/var'), os.path.exists('/home'), os.listdir('/tmp'))
for path in ('x', '/x', '/etc/x', '/usr/x'):
    try: open(path, 'w')
    except OSError: print('no')
open('/tmp/x', 'w')
print(os.environ.get('SECRET'), sorted(os.listdir('/proc/self/fd')) if os.path.exists('/proc/self') else '')
"""
    os.environ["SECRET"] = "hush"
    try:
        ended = python(sandbox, tmp_path, text)
    finally:
        del os.environ["SECRET"]
    assert ended.output.splitlines()[:6] == [
        f"False False False {sorted(way)}",
        "no",
        "no",
        "no",
        "no",
        "None ['0', '1', '2', '3']",
    ]


def test_it_has_no_network_no_processes_of_ours_and_no_privileges(sandbox, tmp_path, server):
    text = f"""
import os, socket
try: socket.create_connection(('127.0.0.1', {server.port}), 2)
except OSError: print('no network')
try: os.kill({os.getpid()}, 0)
except ProcessLookupError: print('no process')
except PermissionError: print('seen')
print(os.getuid() != 0, [l.split()[1] for l in open('/proc/self/status') if l.startswith(('NoNewPrivs', 'CapEff'))])
try: os.setuid(0)
except OSError: print('no root')
"""
    ended = python(sandbox, tmp_path, text)
    assert ended.output.splitlines() == [
        "no network",
        "no process",
        "True ['0000000000000000', '1']",
        "no root",
    ]


def test_memory_is_bounded(sandbox, tmp_path):
    ended = python(sandbox, tmp_path, "x = bytearray(600 << 20)")
    assert "MemoryError" in ended.output
    assert python(sandbox, tmp_path, "x = bytearray(600 << 20)", memory_bytes=1 << 30).code == 0


def test_processes_are_bounded(sandbox, tmp_path):
    text = """
import os, time
n = 0
try:
    for _ in range(100):
        if os.fork() == 0:
            time.sleep(20); os._exit(0)
        n += 1
except BlockingIOError:
    print('bounded', n < 21)
"""
    began = time.monotonic()
    assert python(sandbox, tmp_path, text).output == "bounded True\n"
    assert time.monotonic() - began < 10  # nobody waits for those it left behind


def test_files_and_all_of_them_are_bounded(sandbox, tmp_path):
    one = python(sandbox, tmp_path, "open('/tmp/x', 'wb').write(bytes(5 << 20))")
    assert one.code != 0
    text = "for i in range(9): open(f'/tmp/{i}', 'wb').write(bytes(1 << 20))"
    assert "No space left" in python(sandbox, tmp_path, text).output


def test_time_is_bounded_and_nobody_survives(sandbox, tmp_path):
    mark = f"tulle-survivor-{os.getpid()}"
    text = f"import os, time, sys; os.fork(); os.setsid() if os.getpid() != 2 else 0; print('on', flush=True); time.sleep(60) #{mark}"
    began = time.monotonic()
    for seconds in (1.0, 5.0, 20.0):  # a busy machine may need more for it to begin
        ended = python(sandbox, tmp_path, text, seconds=seconds)
        if ended.output:
            break
    assert time.monotonic() - began < 50
    assert ended.code is None
    assert ended.output.startswith("on\n")
    time.sleep(0.3)
    alive = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                alive += [entry.name] if mark in (entry / "cmdline").read_text() else []
            except OSError:
                continue
    assert alive == []


def test_output_is_bounded(sandbox, tmp_path):
    ended = python(sandbox, tmp_path, "print('a' * 3_000_000); print('the end')")
    assert len(ended.output) < 2_000_000
    assert ended.output.endswith("the end\n")
    assert "left out" in ended.output


def test_a_signal_is_told(sandbox, tmp_path):
    ended = python(sandbox, tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    assert ended.code == 128 + signal.SIGTERM


def test_a_program_that_is_not_there(sandbox, tmp_path):
    with pytest.raises(Invalid, match="nonesuch"):
        sandbox.run(["nonesuch"], tmp_path, deadline=time.monotonic() + 10)


def test_where_it_cannot_be_shut_in_it_is_not_run_unless_meant(tmp_path, monkeypatch):
    real = Sandbox._run

    def refused(self, *args, isolated):
        if isolated:
            raise Unavailable("unshare: Operation not permitted")
        return real(self, *args, isolated=False)

    monkeypatch.setattr(Sandbox, "_run", refused)
    with pytest.raises(Denied, match="cannot be shut in"):
        Sandbox().run(["true"], tmp_path, deadline=time.monotonic() + 10)
    ended = Sandbox(isolation_required=False).run(
        [sys.executable, "-c", "print('ran')"], tmp_path, deadline=time.monotonic() + 10
    )
    assert ended.code == 0
    assert ended.output.startswith("not shut in (unshare")
    assert ended.output.endswith("ran\n")


@pytest.fixture
def other_python(tmp_path):
    """A Python environment that is not ours, with a module of its own."""
    place = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    (packages,) = place.glob("lib/python3*/site-packages")
    (packages / "only_here.py").write_text("WORD = 'other'")
    return place


def test_a_program_may_have_another_python_that_is_named(tmp_path, other_python):
    folder = tmp_path / "work"
    folder.mkdir()
    sandbox = Sandbox(environments={"other": str(other_python)})
    text = "import only_here, sys; print(only_here.WORD, sys.prefix)"
    ended = python(sandbox, folder, text, environment="other")
    assert ended.output == f"other {other_python}\n"
    assert "No module named 'only_here'" in python(sandbox, folder, text).output
    text = f"import os; print(os.path.exists({sys.prefix!r}), os.access({str(other_python)!r}, os.W_OK))"
    assert python(sandbox, folder, text, environment="other").output == "False False\n"


def test_a_python_that_is_a_copy_finds_its_library(tmp_path):
    place, folder = tmp_path / "copied", tmp_path / "work"
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--copies", place], check=True)
    sandbox = Sandbox(environments={"copied": str(place)})
    assert python(sandbox, folder, "import json; print(json.dumps(1))", environment="copied").output == "1\n"


def test_an_environment_the_mesh_does_not_have_is_refused(tmp_path, other_python):
    sandbox = Sandbox(environments={"other": str(other_python), "empty": str(tmp_path)})
    for name, said in (
        (str(other_python), "has no Python environment"),
        ("othr", "'othr'"),
        ("empty", "bin/python is missing"),
    ):
        with pytest.raises(Invalid, match=said):
            python(sandbox, tmp_path, "pass", environment=name)
