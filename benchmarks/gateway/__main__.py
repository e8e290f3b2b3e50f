"""What the gateway costs a request, and how soon it does what it is told.

    python -m benchmarks.gateway [--quick] [--only hop|changes|asked|kills|size]

Needs `wrk` and nginx (Debian packages wrk and nginx-light); without nginx its rows are left out, and a worker of ours
answers in its place. On a machine that has other work to do: `chrt -r 5 python -m benchmarks.gateway`, as root.

*hop*: requests through this gateway, a bare Envoy, nginx and a gateway in Python, each to the same upstream, one after
another and 32 at a time. *changes*: how long after it is asked for a policy is live, in a small mesh and in large ones,
under load of which no request may fail; how soon whoever is revoked is refused; and how long a start takes. *asked*:
the same of what a control plane is asked for in a small mesh, with all that comes before the gateway is told.
*kills*: how long nobody is answered when Envoy is killed under load. *size*: pages and lists of a mesh with 10,000
applications and 1,000 APIs; needs neither `wrk` nor nginx.
"""

from __future__ import annotations

import argparse

from benchmarks.gateway import asked, changes, hop, kills, size
from benchmarks.serving.load import need_wrk


def main() -> None:
    """All of it, or a part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="short runs that only show that all works")
    parser.add_argument("--only", choices=("hop", "changes", "asked", "kills", "size"), help="one part")
    options = parser.parse_args()
    if options.only != "size":
        need_wrk()
    parts = {"hop": hop, "changes": changes, "asked": asked, "kills": kills, "size": size}
    for name, part in parts.items():
        if options.only in {None, name}:
            part.measure(quick=options.quick)


if __name__ == "__main__":
    main()
