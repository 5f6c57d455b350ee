"""The schemas that workers print, compared with what their handlers accept and return, by an independent validator."""

import json
import subprocess

import pytest
from jsonschema import Draft202012Validator, ValidationError

from conftest import built

REQUEST = {"prompt": "a fox", "size": {"width": 64, "height": 32}, "layers": [{"opacity": 1, "below": [{"opacity": 0.5}]}]}
TEXT = "to be or not"
INPUTS = {
    "plain": REQUEST,
    "fallible": {**REQUEST, "style": {"drawing": {"lines": 3}}, "tags": ["red", "green"]},
    "anything": [1, None],
    "nothing": "ignored",
    "aliased": "-7",
    "borrowed": None,
    "streamed": TEXT,
    "tried": TEXT,
    "boxed": None,
    "iterated": TEXT,
    "listed": TEXT,
    "batched": REQUEST,
    "whole": "one",
}


def run(*args):
    done = subprocess.run([built("podwork-schema-worker"), *args], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def schema_of(handler):
    code, printed, complaint = run(handler, "--rp_schema")
    assert (code, complaint) == (0, "")
    schema = json.loads(printed)
    for part in "input", "output":
        Draft202012Validator.check_schema(schema[part])
    return schema


def job(handler, value):
    """Runs a job, and returns whether it completed, its chunks and its outputs."""
    code, shown, _ = run(handler, "--test_input", json.dumps({"input": value}))
    lines = [line.split("| ", 1) for line in shown.splitlines() if "| " in line]
    found = {what: [json.loads(text) for name, text in lines if name.strip() == what] for what in ("chunk", "output")}
    return code == 0, found["chunk"], found["output"]


@pytest.mark.parametrize("handler", INPUTS)
def test_inputs_and_outputs_match_the_schema(handler):
    schema = schema_of(handler)
    Draft202012Validator(schema["input"]).validate(INPUTS[handler])
    completed, chunks, outputs = job(handler, INPUTS[handler])
    assert completed
    given = chunks if schema["streams"] else outputs
    assert given
    for value in given:
        Draft202012Validator(schema["output"]).validate(value)


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": ""},
        {"prompt": "ö" * 41},
        {"prompt": None},
        {"size": {"width": 7, "height": 32}},
        {"size": {"width": 64}},
        {"stepCount": 0},
        {"stepCount": 51},
        {"tags": ["x"]},
        {"tags": ["red", "green", "blue"]},
        {"style": "oil"},
        {"layers": [{"opacity": 1, "below": [{"opacity": 1.5}]}]},
        {"other": 1},
    ],
    ids=str,
)
def test_worker_refuses_what_the_schema_refuses(changes):
    request = {**REQUEST, **changes}
    with pytest.raises(ValidationError):
        Draft202012Validator(schema_of("plain")["input"]).validate(request)
    assert not job("plain", request)[0]


@pytest.mark.parametrize("changes", [{"prompt": "ö" * 40}, {"stepCount": 50}, {"tags": []}, {"style": "photo"}], ids=str)
def test_worker_accepts_the_limits_of_the_schema(changes):
    request = {**REQUEST, **changes}
    Draft202012Validator(schema_of("plain")["input"]).validate(request)
    assert job("plain", request)[0]
