"""Records the requests of the official Python worker into ../golden/*.json.

    record_golden.py           writes the files
    record_golden.py --check   records again, and fails if a file differs

Acts as the platform for the official worker on loopback, with one scenario for each file. Placeholders replace what
differs between machines (operating system, versions, tracebacks).

With `runpod` 1.12.0, the files are those that our worker is compared with. With another version, such as 2.0.0rc2, they
are in a folder with its name, for information: `python -m venv V && V/bin/pip install runpod==2.0.0rc2`, then run this
script with `V/bin/python`.
"""

import difflib
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

HERE = Path(__file__).parent
VERSION = version("runpod")
IS_2 = VERSION.startswith("2.")
GOLDEN = HERE.parent / "golden" / ("" if VERSION == "1.12.0" else f"runpod-{VERSION}")
DEADLINE = 60  # Seconds: the limit of one scenario

ONE = {"id": "golden-job", "input": {"upto": 1}}
TWO = [{"id": "golden-job-1", "input": {}}, {"id": "golden-job-2", "input": {}}]


def final(request):
    return (request["body"] or {}).get("status") is None


# name: (worker, answers to its takes, call, predicate for the request to record)
SCENARIOS = {
    "take": ("plain", [], "job-take", lambda r: True),
    "take_busy": ("waits_two", [[TWO[0]]], "job-take", lambda r: True),
    "take_batch": ("waits_two", [], "job-take-batch", lambda r: True),
    "stop": ("plain", [], "job-stop", lambda r: True),
    "ping_idle": ("plain", [], "ping", lambda r: True),
    "ping_busy": ("waits", [TWO[0]], "ping", lambda r: "job_id" in dict(r["query"])),
    "ping_two": ("waits_two", [TWO], "ping", lambda r: "," in dict(r["query"]).get("job_id", "")),
    "result": ("plain", [ONE], "job-done", final),
    "result_refresh": ("refresh", [ONE], "job-done", final),
    "error": ("fails", [{"id": "golden-job", "input": {"message": "no"}}], "job-done", final),
    "progress": (
        "progress",
        [{"id": "golden-job", "input": {"updates": [{"step": 1}]}}],
        "job-done",
        lambda r: not final(r),
    ),
    "chunk": ("generator", [ONE], "job-stream", lambda r: True),
    "stream_end": ("generator", [ONE], "job-done", final),
    "stream_end_aggregated": ("aggregate", [ONE], "job-done", final),
}
if IS_2:
    # What earlier versions do not send.
    SCENARIOS |= {
        "error_with_logs": ("fails", [{"id": "golden-job", "input": {"message": "no"}}], "job-done", final),
        "prestart_failed": ("prestart_fails", [ONE], "job-done", final),
    }
ENVIRONMENT = {"error_with_logs": {"RUNPOD_LOG_CAPTURE": "all"}}


class Recorder(ThreadingHTTPServer):
    """The platform: hands out the jobs, keeps the first request that matches `wanted`, and then sets `done`."""

    daemon_threads = True

    def __init__(self, jobs, wanted):
        super().__init__(("127.0.0.1", 0), Handler)
        self.jobs, self.wanted, self.found, self.lock = list(jobs), wanted, None, threading.Lock()
        self.done = threading.Event()

    def handle_error(self, request, client_address):
        # A worker that is killed breaks its connections.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def next_job(self):
        with self.lock:
            return self.jobs.pop(0) if self.jobs else None

    def saw(self, request):
        with self.lock:
            if self.found is None and self.wanted(request):
                self.found = request
                self.done.set()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        call = self.record("")
        job = self.server.next_job() if call.startswith("job-take") else None
        if job is not None:
            self.answer(200, json.dumps(job))
        elif call == "ping":
            self.answer(200, "{}")
        else:
            self.server.done.wait(DEADLINE)
            self.answer(204, "")

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        self.record(self.rfile.read(length).decode())
        self.answer(200, "{}")

    def record(self, body):
        url = urlsplit(self.path)
        call = url.path.split("/")[3]
        self.server.saw(
            {
                "call": call,
                "method": self.command,
                "path": url.path,
                "query": [list(pair) for pair in parse_qsl(url.query, keep_blank_values=True)],
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "body": json.loads(body) if body else None,
            }
        )
        return call

    def answer(self, status, body):
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status != 204:
            self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


def environment(port, name):
    base = f"http://127.0.0.1:{port}/v2/golden"
    own = {
        "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?gpu=test",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=test",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=test",
        "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID",
        "RUNPOD_PING_INTERVAL": "1000",
        "RUNPOD_POD_ID": "golden-worker",
        "RUNPOD_ENDPOINT_ID": "golden",
        "RUNPOD_AI_API_KEY": "golden-key",
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
    }
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RUNPOD_")}
    # Without a home directory: the SDK reads a key from there. It also detects its environment from variables.
    return {**kept, **own, **ENVIRONMENT.get(name, {}), "HOME": "/nonexistent"}


def record(name):
    kind, jobs, call, which = SCENARIOS[name]
    server = Recorder(jobs, lambda request: request["call"] == call and which(request))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    worker = subprocess.Popen(
        [sys.executable, HERE / "workers" / "official.py", kind],
        env=environment(server.server_address[1], name),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        if not server.done.wait(DEADLINE):
            worker.kill()
            sys.exit(f"{name}: timed out after {DEADLINE} s; worker output:\n{worker.stdout.read().decode()}")
    finally:
        worker.kill()
        worker.wait()
        server.shutdown()
    return normal(name, server.found)


def normal(name, request):
    """Returns the request without what differs between machines."""
    headers = request["headers"]
    for hop in ("host", "content-length", "connection"):
        headers.pop(hop, None)
    agent = headers["user-agent"]
    agent = re.sub(r"\([^)]*\) Language/Python \S+.*", "(<os>) Language/Python <version>", agent)
    headers["user-agent"] = re.sub(r"python-requests/\S+", "python-requests/<version>", agent)
    if "accept-encoding" in headers:
        headers["accept-encoding"] = "<encodings>"
    for pair in request["query"]:
        if pair[0] == "job_id":
            pair[1] = ",".join(sorted(pair[1].split(",")))
    body = request["body"]
    if body and "error" in body:
        report = json.loads(body["error"])
        report["error_traceback"] = "<traceback>"
        body["error"] = json.dumps(report, sort_keys=True)
    del request["call"]
    return {
        "name": name,
        "recorded_from": f"runpod {VERSION} (Python)",
        "request": {**request, "headers": dict(sorted(headers.items()))},
    }


def main():
    check = sys.argv[1:] == ["--check"]
    GOLDEN.mkdir(exist_ok=True)
    differing = []
    for name in SCENARIOS:
        text = json.dumps(record(name), indent=2) + "\n"
        path = GOLDEN / f"{name}.json"
        if not check:
            path.write_text(text)
        elif path.read_text() != text:
            differing.append(name)
            sys.stdout.writelines(
                difflib.unified_diff(
                    path.read_text().splitlines(True), text.splitlines(True), f"{name} (recorded)", f"{name} (now)"
                )
            )
        print(f"{name}: {'checked' if check else 'recorded'}", flush=True)
    if differing:
        sys.exit(f"the official worker's requests differ from the recorded ones: {', '.join(differing)}")


if __name__ == "__main__":
    main()
