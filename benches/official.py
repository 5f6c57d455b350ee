"""The official Python worker, with the workload that the environment selects."""

import asyncio
import hashlib
import os

import runpod

TOKEN = "token "


async def noop(job):
    return "done"


async def echo(job):
    return job["input"]


async def stream(job):
    for _ in range(job["input"]["count"]):
        yield TOKEN


async def progress(job):
    for update in range(job["input"]["count"]):
        runpod.serverless.progress_update(job, update)
        # Awaits between updates, as a real handler does.
        await asyncio.sleep(0)
    return "done"


async def sleep(job):
    await asyncio.sleep(job["input"]["count"] / 1000)
    return "done"


def cpu(job):
    return hashlib.sha256(bytes(job["input"]["count"])).digest()[0]


HANDLERS = {f.__name__: f for f in (noop, echo, stream, progress, sleep, cpu)}

if __name__ == "__main__":
    at_once = int(os.environ["BENCH_CONCURRENCY"])
    handler = HANDLERS[os.environ["BENCH_WORK"]]
    runpod.serverless.start({"handler": handler, "concurrency_modifier": lambda current: at_once})
