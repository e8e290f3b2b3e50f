"""A server that gives tokens of OAuth2, as clients with credentials of their own ask for them."""

from __future__ import annotations

import contextlib
import http.server
import json
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any


class Issuer:
    """Gives tokens, one after another; says what `says` makes of their number, or with `status` why not."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                issuer.asked.append((self.path, dict(self.headers.items()), body))
                time.sleep(issuer.slow)
                self.send_response(issuer.status)
                for name, value in issuer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # who asked may be gone
                    self.wfile.write(issuer.says(len(issuer.asked)).encode())
                issuer.answered += 1

            def log_message(self, *_: Any) -> None:
                pass

        self.reset()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def reset(self) -> None:
        self.asked: list[tuple[str, dict[str, str], str]] = []
        self.status, self.slow, self.answered = 200, 0.0, 0
        self.headers: dict[str, str] = {}
        self.says: Callable[[int], str] = lambda number: json.dumps(
            {"access_token": f"tok/en-{number}", "token_type": "Bearer", "expires_in": 3600}
        )

    def __enter__(self) -> Issuer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
