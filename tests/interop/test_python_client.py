"""Our workers on the local platform, called by the official Python client and its asyncio variant."""

import asyncio
import json

import aiohttp
import pytest
from runpod.endpoint.asyncio.asyncio_runner import Endpoint as AsyncioEndpoint

from conftest import eventually


def test_run_status_output(endpoint, ours):
    ours("hello")
    job = endpoint.run({"input": {"name": "Ada"}})
    assert job.output(timeout=30) == {"text": "Hello, Ada!"}
    assert job.status() == "COMPLETED"


def test_run_sync(endpoint, ours):
    ours("hello")
    assert endpoint.run_sync({"name": "Grace"}, timeout=30) == {"text": "Hello, Grace!"}


def test_invalid_input_fails_with_its_path(endpoint, ours, platform):
    ours("captioner")
    job = endpoint.run({"input": {"pixels": [[1, 2, 3], [1, 2, "x"]]}})
    eventually(lambda: job.status() == "FAILED", "the job fails")
    report = json.loads(endpoint.rp_client.get(f"local/status/{job.job_id}")["error"])
    assert report["error_type"] == "invalid_input"
    assert "`pixels[1][2]`" in report["error_message"]
    assert endpoint.run_sync({"pixels": [[255, 0, 0]]}, timeout=30) == {"text": "a red picture"}


@pytest.mark.parametrize("delay_ms", [0, 400, 1500])
def test_stream(endpoint, ours, delay_ms):
    ours("tokens")
    job = endpoint.run({"input": {"prompt": "to be or not", "delay_ms": delay_ms}})
    assert list(job.stream()) == ["to", "be", "or", "not"]


def test_stream_of_an_iterator(endpoint, ours):
    ours("counter")
    job = endpoint.run({"input": {"upto": 1000}})
    assert list(job.stream()) == list(range(1, 1001))


def test_progress_is_the_output_of_a_running_job(endpoint, ours):
    ours("tokens")
    job = endpoint.run({"input": {"prompt": "a b c d", "delay_ms": 500}})
    running = lambda: endpoint.rp_client.get(f"local/status/{job.job_id}").get("output")
    assert eventually(running, "some progress")["of"] == 4
    assert job.output(timeout=30) == []


def test_cancel(endpoint, ours):
    worker = ours("tokens")
    job = endpoint.run({"input": {"prompt": "never", "delay_ms": 3_600_000}})
    eventually(lambda: job.status() == "IN_PROGRESS", "the job runs")
    assert job.cancel()["status"] == "CANCELLED"
    worker.line("Cancelled.")
    assert job.status() == "CANCELLED"
    assert endpoint.run_sync({"prompt": ""}, timeout=30) == []


def test_health_and_purge_queue(endpoint, ours):
    for n in range(3):
        endpoint.run({"input": {"name": str(n)}})
    assert endpoint.health()["jobs"]["inQueue"] == 3
    assert endpoint.purge_queue() == {"removed": 3, "status": "completed"}
    ours("hello")
    workers = eventually(lambda: endpoint.health()["workers"]["idle"] and endpoint.health()["workers"], "a worker")
    assert workers["ready"] == 1


def test_concurrency(endpoint, ours):
    ours("captioner")
    jobs = [endpoint.run({"input": {"pixels": [[0, 0, 255]]}}) for _ in range(20)]
    for job in jobs:
        assert job.output(timeout=30) == {"text": "a blue picture"}


def test_replacement(endpoint, ours):
    worker = ours("podwork-test-worker")
    job = endpoint.run({"input": {"do": "refresh"}})
    assert worker.code() == 0
    assert job.status() == "COMPLETED"


def test_asyncio(platform, ours):
    ours("tokens")

    async def session():
        async with aiohttp.ClientSession() as session:
            endpoint = AsyncioEndpoint("local", session)
            job = await endpoint.run({"prompt": "a b", "delay_ms": 10})
            assert [chunk async for chunk in job.stream()] == ["a", "b"]
            assert await job.status() == "COMPLETED"
            again = await endpoint.run({"prompt": "c"})
            assert await again.output(timeout=30) == []
            long = await endpoint.run({"prompt": "never", "delay_ms": 3_600_000})
            assert (await long.cancel())["status"] == "CANCELLED"
            assert (await endpoint.health())["jobs"]["completed"] == 2
            assert (await endpoint.purge_queue())["status"] == "completed"

    asyncio.run(session())
