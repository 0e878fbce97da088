"""An index of packages for those who have a password: `index.py PORT USER:PASSWORD DIRECTORY`."""

import sys
from base64 import b64encode
from functools import partial
from http import HTTPStatus
from http.server import HTTPServer, SimpleHTTPRequestHandler

port, allowed, directory = sys.argv[1:]
WANTED = f"Basic {b64encode(allowed.encode()).decode()}"


class Index(SimpleHTTPRequestHandler):
    """A directory in which each package has one of its own."""

    def do_GET(self) -> None:
        """Refuse who has no password."""
        if self.headers.get("Authorization") == WANTED:
            super().do_GET()
        else:
            self.send_response(HTTPStatus.UNAUTHORIZED)
            self.send_header("WWW-Authenticate", "Basic realm=index")
            self.end_headers()


HTTPServer(("127.0.0.1", int(port)), partial(Index, directory=directory)).serve_forever()
