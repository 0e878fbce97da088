"""Serve pages to look at, on loopback: PORT is the argument."""

import base64
import http.server
import sys

EXPECTED = "Basic " + base64.b64encode(b"reader:page password").decode()
# The row comes late, as on pages that fetch what they show.
PAGE = b"""<!doctype html><title>A page</title><link rel="icon" href="data:,"><h1>Workers</h1>
<button id="more" onclick="document.querySelector('#hidden').hidden = false">More</button>
<p id="hidden" hidden>Behind the button</p>
<table id="rows"><thead><tr><th>Name</th><th>State</th></tr></thead><tbody></tbody></table>
<script>setTimeout(() => {
  document.querySelector('tbody').innerHTML = '<tr><td>w1</td><td>Online</td></tr>';
  if (location.pathname === '/broken') { console.error('not drawn'); throw new Error('a fault of the page'); }
}, 700)</script>"""


class Handler(http.server.BaseHTTPRequestHandler):
    """Gives the page to whoever has the password."""

    def do_GET(self) -> None:
        """Answer with the page, or ask for the password."""
        allowed = self.headers["Authorization"] == EXPECTED
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        if not allowed:
            self.send_header("WWW-Authenticate", 'Basic realm="pages"')
        self.end_headers()
        self.wfile.write(PAGE if allowed else b"no")


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
