"""The platform's description of itself, judged by a validator and by requests made from it."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from conftest import Platform, built

# Nobody runs the jobs, so nothing is worth waiting for.
RULES = "wait=5ms,wait_range=1ms..50ms,stream_hold=5ms,run_rate=0,runsync_rate=0"
OPERATIONS = {"run", "runsync", "status", "status-sync", "stream", "cancel", "retry", "purge-queue", "health"}


def test_the_description_is_valid_and_whole(platform):
    with urllib.request.urlopen(f"{platform.url}/openapi.json") as answer:
        description = json.load(answer)
    validate(description)
    assert {path.split("/")[3] for path in description["paths"]} == OPERATIONS


def judge(platform, *args):
    schemathesis = Path(sys.executable).with_name("schemathesis")
    command = [schemathesis, "run", f"{platform.url}/openapi.json", "--max-examples", "40", "--seed", "1", "--no-color", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_platform_answers_as_it_describes(start):
    judge(start(Platform("--rules", RULES)))


@pytest.mark.parametrize("handler", ["plain", "streamed", "nothing"])
def test_with_a_schema_it_is_valid_too_and_still_what_the_platform_answers(start, tmp_path, handler):
    worker = [built("podwork-schema-worker"), handler, "--rp_schema"]
    file = tmp_path / "schema.json"
    file.write_bytes(subprocess.run(worker, capture_output=True, check=True).stdout)
    platform = start(Platform("--rules", RULES, "--schema", str(file)))
    with urllib.request.urlopen(f"{platform.url}/openapi.json") as answer:
        description = json.load(answer)
    validate(description)
    assert handler in description["info"]["description"]
    # That an input does not fit its schema is for the worker to say.
    judge(platform, "--exclude-checks", "negative_data_rejection")
