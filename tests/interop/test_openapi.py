"""The platform's description of itself, judged by a validator and by requests made from it."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

from openapi_spec_validator import validate

from conftest import Platform

# Nobody runs the jobs, so nothing is worth waiting for.
RULES = "wait=5ms,wait_range=1ms..50ms,stream_hold=5ms,run_rate=0,runsync_rate=0"
OPERATIONS = {"run", "runsync", "status", "status-sync", "stream", "cancel", "retry", "purge-queue", "health"}


def test_the_description_is_valid_and_whole(platform):
    with urllib.request.urlopen(f"{platform.url}/openapi.json") as answer:
        description = json.load(answer)
    validate(description)
    assert {path.split("/")[3] for path in description["paths"]} == OPERATIONS


def test_the_platform_answers_as_it_describes(start):
    platform = start(Platform("--rules", RULES))
    schemathesis = Path(sys.executable).with_name("schemathesis")
    command = [schemathesis, "run", f"{platform.url}/openapi.json", "--max-examples", "40", "--seed", "1", "--no-color"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
