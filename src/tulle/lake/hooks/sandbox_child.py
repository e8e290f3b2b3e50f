"""What stands between a sandbox and the program in it: a process that shuts itself in, then becomes the program.

Run as a file of its own by `sandbox`, with the standard library alone. Reads what to do from one descriptor and
tells on another what it could not do. With isolation: own user (or an unused one, when it is root), mount, process,
network and IPC namespaces; the file system holds the system's programs and the work folder, read-only, and a bounded
/tmp; nothing else of the machine. Always: no new privileges, resource limits.
"""

# ruff: noqa: PLW2901, PTH102, PTH103, PTH112, PTH113, PTH114, PTH115, PTH123, PTH211, S606, S108
import contextlib
import ctypes
import json
import os
import platform
import resource
import signal
import sys
from typing import Any

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x20000,
    0x4000000,
    0x8000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
RDONLY, NOSUID, NODEV, NOEXEC, BIND, REC, PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
DETACH = 2
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
MOUNT_SETATTR = 442
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "alternatives", "mime.types")
DEVICES = ("null", "zero", "full", "random", "urandom")
UID = 60_123

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    texts = [text.encode() if text else None for text in (source, target, kind, data)]
    checked(libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]), f"mount {target}")


def readable(source: str, target: str) -> None:
    """What is at `source`, and below it, at `target`, read-only."""
    mount(source, target, None, BIND | REC)
    attributes = (ctypes.c_uint64 * 4)(RDONLY | NOSUID | NODEV, 0, 0, 0)
    path = target.encode()
    checked(
        libc.syscall(MOUNT_SETATTR, -100, path, 0x8000, ctypes.byref(attributes), ctypes.c_size_t(32)),
        f"read-only {target}",
    )


def shut_in() -> bool:
    """Leave the machine's namespaces. The process's children are in the new ones."""
    uid, gid = os.geteuid(), os.getegid()
    apart = NEWNS | NEWUTS | NEWIPC | NEWPID | NEWNET
    own_user = uid != 0
    if not own_user and libc.unshare(apart) != 0:
        own_user = True
    if own_user:
        checked(libc.unshare(NEWUSER | apart), "unshare")
        with contextlib.suppress(OSError), open("/proc/self/setgroups", "w") as file:
            file.write("deny")
        for name, outer in (("uid_map", uid), ("gid_map", gid)):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(f"{UID} {outer} 1")
    mount(None, "/", None, REC | PRIVATE)
    return own_user


def build(spec: dict[str, Any]) -> None:
    """Make the file system that the program is to see, and make it the only one."""
    root = spec["root"]
    mount("tmpfs", root, "tmpfs", NOSUID | NODEV, "size=1m,mode=755")
    # First, because what is to be readable may lie in them.
    os.mkdir(f"{root}/tmp")
    mount("tmpfs", f"{root}/tmp", "tmpfs", NOSUID | NODEV, f"size={spec['scratch_bytes']},mode=1777")
    os.makedirs(f"{root}/dev/shm")
    mount("tmpfs", f"{root}/dev/shm", "tmpfs", NOSUID | NODEV | NOEXEC, "size=64m,mode=1777")
    for path in (*SYSTEM, *spec["readable"]):
        target = root + path
        if os.path.lexists(target) or any(
            path.startswith(top + "/") for top in SYSTEM if not os.path.islink(top)
        ):
            continue
        if os.path.islink(path) and path in SYSTEM:
            os.symlink(os.readlink(path), target)
        elif os.path.isdir(path):
            os.makedirs(target)
            readable(path, target)
    for folder in ("etc", "dev", "proc", "tmp", "hook"):
        os.makedirs(f"{root}/{folder}", exist_ok=True)
    for name in ETC:
        source, target = f"/etc/{name}", f"{root}/etc/{name}"
        if os.path.isdir(source):
            os.mkdir(target)
            readable(source, target)
        elif os.path.isfile(source):
            open(target, "w").close()
            readable(os.path.realpath(source), target)
    with open(f"{root}/etc/passwd", "w") as file:
        file.write(f"hook:x:{UID}:{UID}:hook:/tmp:/bin/sh\n")
    for name in DEVICES:
        open(f"{root}/dev/{name}", "w").close()
        mount(f"/dev/{name}", f"{root}/dev/{name}", None, BIND)
    os.symlink("/proc/self/fd", f"{root}/dev/fd")
    readable(spec["folder"], f"{root}/hook")
    with contextlib.suppress(OSError):  # within some containers a new one may not be mounted
        mount("proc", f"{root}/proc", "proc", NOSUID | NODEV | NOEXEC)
    os.chdir(root)
    checked(libc.syscall(PIVOT_ROOT[platform.machine()], b".", b"."), "pivot_root")
    checked(libc.umount2(b".", DETACH), "umount")
    os.chdir("/")
    mount(None, "/", None, 32 | BIND | RDONLY | NOSUID | NODEV)
    os.chdir("/hook")


def become(spec: dict[str, Any], own_user: bool, isolated: bool) -> None:
    """Give up everything, then become the program."""
    if isolated and not own_user:
        os.setgroups([])
        os.setresgid(UID, UID, UID)
        os.setresuid(UID, UID, UID)
    for name, most in spec["limits"].items():
        kind = getattr(resource, f"RLIMIT_{name}")
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
    checked(libc.prctl(38, 1, 0, 0, 0), "no_new_privs")
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o022)
    os.execvpe(spec["command"][0], spec["command"], spec["env"])


def die_with_parent() -> None:
    libc.prctl(1, signal.SIGKILL, 0, 0, 0)


def status_of(pid: int) -> int:
    """Wait for a child, and for whatever else ends meanwhile."""
    while True:
        found, status = os.wait()
        if found == pid:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code


def main() -> int:
    wanted, told = int(sys.argv[1]), int(sys.argv[2])
    die_with_parent()
    with open(wanted, encoding="utf-8") as file:
        spec = json.load(file)
    os.set_inheritable(told, False)  # it is closed by becoming the program

    def tell(**what: str) -> None:
        os.write(told, json.dumps(what).encode() + b"\n")

    own_user, isolated = False, spec["isolated"]
    if isolated:
        try:
            own_user = shut_in()
        except (OSError, KeyError) as exc:
            tell(isolation=str(exc))
            return 125
    first = os.fork()
    if first:
        return status_of(first)
    die_with_parent()
    if isolated:
        try:
            build(spec)
        except (OSError, KeyError) as exc:
            tell(isolation=str(exc))
            return 125
    else:
        os.chdir(spec["folder"])
    program = os.fork()
    if program:
        return status_of(program)
    try:
        become(spec, own_user, isolated)
    except OSError as exc:
        tell(program=f"{spec['command'][0]}: {exc.strerror or exc}")
    return 126


if __name__ == "__main__":
    os._exit(main())
