"""The official Python worker on the local platform."""

import json

import pytest
from runpod.endpoint.runner import Job

from conftest import eventually


def ended(endpoint, job):
    """Waits until a job has ended, and returns its status response."""
    status = lambda: endpoint.rp_client.get(f"local/status/{job.job_id}")
    final = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")
    return eventually(lambda: (now := status())["status"] in final and now, "the job ends")


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_result(endpoint, official, kind):
    official(kind)
    status = ended(endpoint, endpoint.run({"input": {"a": [1, "ü"]}}))
    assert (status["status"], status["output"]) == ("COMPLETED", {"echo": {"a": [1, "ü"]}})
    assert status["workerId"] == "official"
    assert status["delayTime"] >= 0 and status["executionTime"] >= 0


def submitted(endpoint, request):
    """Submits a request as it is. `Endpoint.run` would wrap one with an empty input in another."""
    job_id = endpoint.rp_client.post("local/run", request)["id"]
    return Job("local", job_id, endpoint.rp_client)


# The rules of production, with a shorter time until a job counts as lost.
LOSES = ("--rules", "current,silence=3s")


@pytest.mark.parametrize("platform", [LOSES], indirect=True)
def test_empty_input_is_never_run(endpoint, official):
    """A known fault of the official worker: it refuses a job without `input`, which is what becomes of the input `{}`,
    and reports nothing. The client learns of it only after the retry."""
    official("plain")
    status = ended(endpoint, submitted(endpoint, {"input": {}}))
    assert (status["status"], status["error"]) == ("FAILED", "job timed out after 1 retries")
    assert status["retries"] == 1
    # The worker goes on with other jobs.
    assert ended(endpoint, endpoint.run({"input": {"a": 1}}))["output"] == {"echo": {"a": 1}}


@pytest.mark.parametrize("platform", [("--rules", "strip_empty_input=false")], indirect=True)
def test_empty_input_that_is_not_stripped(endpoint, official):
    official("plain")
    assert ended(endpoint, submitted(endpoint, {"input": {}}))["output"] == {"echo": {}}


def test_empty_input_and_our_worker(endpoint, ours):
    ours("podwork-test-worker")
    status = ended(endpoint, submitted(endpoint, {"input": {}}))
    # The worker runs the job, and its handler refuses the input.
    assert status["status"] == "FAILED"
    assert json.loads(status["error"])["error_type"] == "invalid_input"


@pytest.mark.parametrize("kind", ["generator", "async_generator"])
def test_stream(endpoint, official, kind):
    official(kind)
    job = endpoint.run({"input": {"upto": 20}})
    assert list(job.stream()) == list(range(20))
    assert ended(endpoint, job)["output"] == []


def test_aggregated_stream(endpoint, official):
    official("aggregate")
    job = endpoint.run({"input": {"upto": 3}})
    assert list(job.stream()) == [0, 1, 2]
    assert ended(endpoint, job)["output"] == [0, 1, 2]


def test_progress(endpoint, official):
    official("progress")
    job = endpoint.run({"input": {"updates": ["first", "second", "third"]}})
    running = lambda: endpoint.rp_client.get(f"local/status/{job.job_id}").get("output")
    assert eventually(running, "some progress") in ("first", "second", "third")
    eventually(lambda: job.status() == "COMPLETED", "the job ends")
    assert ended(endpoint, job)["output"] == "done"


def test_exception(endpoint, official):
    official("fails")
    status = ended(endpoint, endpoint.run({"input": {"message": "no weights"}}))
    assert status["status"] == "FAILED"
    assert json.loads(status["error"])["error_message"] == "no weights"


def test_error_key(endpoint, official):
    official("error_key")
    status = ended(endpoint, endpoint.run({"input": {"message": "no weights"}}))
    assert (status["status"], status["error"], status["output"]) == ("FAILED", "no weights", {"partial": 1})


def test_replacement(endpoint, official):
    worker = official("refresh")
    job = endpoint.run({"input": {"a": 1}})
    assert ended(endpoint, job)["status"] == "COMPLETED"
    # The worker ends once the platform answers its stop poll, at the end of the hold.
    assert worker.code() == 0
    assert endpoint.health()["workers"]["ready"] == 0


def test_stop_of_a_running_job_and_its_sibling(endpoint, official):
    worker = official("waits_two")
    long, short = endpoint.run({"input": {"seconds": 3600}}), endpoint.run({"input": {"seconds": 3}})
    eventually(lambda: long.status() == "IN_PROGRESS", "the job runs")
    assert long.cancel()["status"] == "CANCELLED"
    worker.line(f"CANCELLED {long.job_id}")
    assert ended(endpoint, short)["output"] == "slept"
    assert long.status() == "CANCELLED"


def test_two_jobs_at_once(endpoint, official):
    official("waits_two")
    jobs = [endpoint.run({"input": {"seconds": 2}}) for _ in range(2)]
    eventually(lambda: endpoint.health()["jobs"]["inProgress"] == 2, "both run")
    assert [ended(endpoint, job)["output"] for job in jobs] == ["slept", "slept"]


def test_one_queue_for_both_kinds_of_worker(endpoint, official, ours):
    official("plain")
    ours("podwork-test-worker")
    tasks = [{"do": "echo", "value": {"echo": n}} for n in range(2000)]
    jobs = [endpoint.run({"input": task}) for task in tasks]
    statuses = [ended(endpoint, job) for job in jobs]
    assert {status["status"] for status in statuses} == {"COMPLETED"}
    assert len({status["workerId"] for status in statuses}) == 2, "both workers ran jobs"
    counts = endpoint.health()["jobs"]
    assert (counts["completed"], counts["failed"], counts["retried"]) == (2000, 0, 0), "each job ran once"
