"""A web page in a real browser tries to drive a robot on this computer.

    python3 tests/browser/foreign_page.py target/debug/chiral [/usr/bin/chromium]

The page comes from another origin than the robot's. First it opens a WebSocket to the server that it
came from, which shows that this browser can; then one to the robot, and if that opened it would ask
for the robot's metadata, as a policy does. The robot is to refuse it, and to stay without a policy. Needs nothing but Python, the
program `chiral` and Chromium.
"""

import base64
import hashlib
import json
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PATIENCE = 60
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PAGE = """<!doctype html><title>a page</title><script>
function tell(what, outcome) { return fetch("/told?what=" + what + "&outcome=" + outcome); }
function open(what, uri) {
    return new Promise(done => {
        const socket = new WebSocket(uri);
        socket.binaryType = "arraybuffer";
        socket.onopen = () => {
            socket.send(new Uint8Array([15, 0, 0, 0, 0x81, 0xa4, ...new TextEncoder().encode("type"),
                0xa8, ...new TextEncoder().encode("metadata")]));
            tell(what, "opened").then(done);
        };
        socket.onerror = () => tell(what, "failed").then(done);
    });
}
open("own", "ws://" + location.host + "/socket").then(() => open("robot", "ROBOT"));
</script>"""


class Site(BaseHTTPRequestHandler):
    """The page, a WebSocket that always opens, and what the page tells."""

    protocol_version = "HTTP/1.1"
    robot = ""
    told: "queue.Queue[tuple[str, str]]" = queue.Queue()

    def do_GET(self) -> None:
        if self.path == "/socket":
            key = self.headers["Sec-WebSocket-Key"] + GUID
            accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", accept)
            self.end_headers()
            self.close_connection = True
            self.rfile.read()
            return
        if self.path.startswith("/told?"):
            told = parse_qs(urlsplit(self.path).query)
            self.told.put((told["what"][0], told["outcome"][0]))
        body = PAGE.replace("ROBOT", self.robot).encode() if self.path == "/" else b""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def serve_robot(chiral: str) -> "tuple[subprocess.Popen[str], str]":
    command = [chiral, "-v", "serve", "--bind", "127.0.0.1:0", "--json", "--size", "32x24"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    address = json.loads(process.stdout.readline())["listening"]
    return process, address.replace("127.0.0.1", "localhost")


def browse(chromium: str, page: str, profile: str) -> "subprocess.Popen[bytes]":
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    quiet += ["--disable-quic", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"]
    command = [chromium, "--headless", "--no-sandbox", *quiet, page]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> int:
    chiral = sys.argv[1]
    chromium = sys.argv[2] if len(sys.argv) > 2 else shutil.which("chromium")
    assert chromium is not None, "found no chromium"
    robot, Site.robot = serve_robot(chiral)
    site = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    site.daemon_threads = True
    threading.Thread(target=site.serve_forever, daemon=True).start()
    origin = f"http://127.0.0.1:{site.server_port}"
    profile = tempfile.mkdtemp(prefix="chiral-browser-")
    browser = browse(chromium, origin + "/", profile)
    try:
        told = dict(Site.told.get(timeout=PATIENCE) for _ in range(2))
    finally:
        browser.terminate()
        browser.wait()
        shutil.rmtree(profile, ignore_errors=True)
        robot.terminate()
    _, log = robot.communicate(timeout=PATIENCE)
    print(f"the page at {origin}: {told}")
    print(log)
    assert told["own"] == "opened", "this browser opens no WebSocket at all"
    assert told["robot"] == "failed", "the page has a connection to the robot"
    refusal = f"403: the web page at {origin} may not drive this robot"
    assert refusal in log, "the robot does not say that it has refused the page"
    assert "a policy has connected" not in log, "the robot has had a policy"
    return 0


if __name__ == "__main__":
    sys.exit(main())
