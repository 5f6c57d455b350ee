"""The OpenAPI description of the local platform, checked with a validator and with requests generated from it."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from conftest import Platform, built

# No worker runs the jobs, so waiting is pointless.
RULES = "wait=5ms,wait_range=1ms..50ms,stream_hold=5ms,run_rate=0,runsync_rate=0"
OPERATIONS = {"run", "runsync", "status", "status-sync", "stream", "cancel", "retry", "purge-queue", "health"}


def test_description_is_valid_and_complete(platform):
    with urllib.request.urlopen(f"{platform.url}/openapi.json") as answer:
        description = json.load(answer)
    validate(description)
    assert {path.split("/")[3] for path in description["paths"]} == OPERATIONS


def judge(platform, *args):
    schemathesis = Path(sys.executable).with_name("schemathesis")
    command = [schemathesis, "run", f"{platform.url}/openapi.json", "--max-examples", "40", "--seed", "1", "--no-color", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_answers_match_the_description(start):
    judge(start(Platform("--rules", RULES)))


@pytest.mark.parametrize("handler", ["plain", "streamed", "nothing"])
def test_description_with_a_schema_matches_the_answers(start, tmp_path, handler):
    worker = [built("podwork-schema-worker"), handler, "--rp_schema"]
    file = tmp_path / "schema.json"
    file.write_bytes(subprocess.run(worker, capture_output=True, check=True).stdout)
    platform = start(Platform("--rules", RULES, "--schema", str(file)))
    with urllib.request.urlopen(f"{platform.url}/openapi.json") as answer:
        description = json.load(answer)
    validate(description)
    assert handler in description["info"]["description"]
    # The worker, not the platform, validates inputs against the schema.
    judge(platform, "--exclude-checks", "negative_data_rejection")
