"""A web server on this machine, for tests of what is fetched."""

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer


def serving(server: ThreadingHTTPServer) -> Iterator[ThreadingHTTPServer]:
    """Yield the server while it answers in a thread of its own; what a fixture yields from."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
