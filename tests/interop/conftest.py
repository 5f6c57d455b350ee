"""The local platform and the workers for the interop tests: all on loopback, all stopped at the end of the test."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import runpod

HERE = Path(__file__).parent
DEADLINE = 60  # Seconds: the limit of every wait


def built(name):
    """Returns the path of a program that cargo has built."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parents[1] / "target"))
    return target / "debug" / name


def eventually(look, what):
    """Calls `look` until its result is true, and returns that result."""
    end = time.monotonic() + DEADLINE
    while not (found := look()):
        assert time.monotonic() < end, f"timed out after {DEADLINE} s: {what}"
        time.sleep(0.02)
    return found


class Program:
    """A running program and its output."""

    def __init__(self, command, env=None, cwd=None):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RUNPOD_")}
        self.lines = []
        self.process = subprocess.Popen(
            [str(part) for part in command],
            env={**clean, **(env or {})},
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def line(self, part):
        return eventually(
            lambda: next((line for line in list(self.lines) if part in line), None),
            f"a line with {part!r} among {self.lines}",
        )

    def code(self):
        """Waits until the program ends on its own, and returns its exit code."""
        return self.process.wait(DEADLINE)

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.code()

    def kill(self):
        self.process.kill()
        self.process.wait()


class Platform(Program):
    """`podwork-platform` on a free port, with the URLs and variables that it prints."""

    def __init__(self, *args):
        super().__init__([built("podwork-platform"), "--port", "0", *args])
        self.url = self.line("Console: ").split("Console: ")[1].rstrip("/")
        self.base_url = self.line("base URL").split("base URL ")[1].split(",")[0]
        exports = [line.removeprefix("export ") for line in self.lines if line.startswith("export ")]
        self.env = {name: value.strip("'\"") for name, value in (export.split("=", 1) for export in exports)}


@pytest.fixture
def start():
    """Starts programs, and kills them at the end of the test."""
    programs = []

    def begin(program):
        programs.append(program)
        return program

    yield begin
    for program in reversed(programs):
        program.kill()


@pytest.fixture
def platform(start, request):
    """Starts a platform. A test may set its arguments with `@pytest.mark.parametrize("platform", …, indirect=True)`."""
    platform = start(Platform(*getattr(request, "param", ())))
    runpod.endpoint_url_base = platform.base_url
    runpod.api_key = "any"
    return platform


@pytest.fixture
def endpoint(platform):
    return runpod.Endpoint("local")


@pytest.fixture
def ours(platform, start):
    """Starts a worker of ours that pulls from the platform."""

    def begin(name, *args, worker_id="ours", **env):
        env = {**platform.env, "RUNPOD_POD_ID": worker_id, **env}
        worker = start(Program([built(name), *args], env))
        worker.line("is ready")
        return worker

    return begin


@pytest.fixture
def official(platform, start):
    """Starts an official Python worker that pulls from the platform."""

    def begin(kind, worker_id="official"):
        env = {
            **platform.env,
            "RUNPOD_POD_ID": worker_id,
            "RUNPOD_PING_INTERVAL": "1000",
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
            "RUNPOD_SKIP_GPU_CHECK": "true",
        }
        return start(Program([sys.executable, HERE / "workers" / "official.py", kind], env))

    return begin
