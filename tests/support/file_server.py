"""A file server for tests, on this machine, that can be told to fail."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextmanager
def serve(folder: Path) -> Iterator[tuple[str, dict[str, list[int]]]]:
    """Serves a folder; gives its address and a table of statuses to answer first, by path, one a request."""
    faults: dict[str, list[int]] = {}

    class Handler(SimpleHTTPRequestHandler):
        def send_head(self):
            if faults.get(self.path):
                self.send_error(faults[self.path].pop(0))
                return None
            if "Range" in self.headers:
                return self.send_range(*map(int, self.headers["Range"].removeprefix("bytes=").split("-")))
            return super().send_head()

        def send_range(self, first, last):
            data = Path(self.translate_path(self.path)).read_bytes()
            part = data[first : last + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            return io.BytesIO(part)

        def log_message(self, *args):
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", faults
        server.shutdown()
