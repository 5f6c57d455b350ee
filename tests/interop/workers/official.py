"""Workers on the official Python SDK. Usage: official.py KIND"""

import asyncio
import sys
import time

import runpod


def plain(job):
    return {"echo": job["input"]}


async def coroutine(job):
    await asyncio.sleep(0)
    return {"echo": job["input"]}


def generator(job):
    yield from range(job["input"]["upto"])


async def async_generator(job):
    for n in range(job["input"]["upto"]):
        yield n


def progress(job):
    for update in job["input"]["updates"]:
        runpod.serverless.progress_update(job, update)
        # The SDK sends each update in its own thread: without a pause, they can overtake each other.
        time.sleep(0.3)
    return "done"


def fails(job):
    print("before the failure")
    raise ValueError(job["input"]["message"])


def error_key(job):
    return {"error": job["input"]["message"], "partial": 1}


def prestart():
    print("loading")
    raise ValueError("no weights")


async def waits(job):
    try:
        await asyncio.sleep(job["input"].get("seconds", 3600))
    except asyncio.CancelledError:
        print(f"CANCELLED {job['id']}", flush=True)
        raise
    return "slept"


KINDS = {
    "plain": {"handler": plain},
    "coroutine": {"handler": coroutine},
    "generator": {"handler": generator},
    "async_generator": {"handler": async_generator},
    "aggregate": {"handler": generator, "return_aggregate_stream": True},
    "progress": {"handler": progress},
    "fails": {"handler": fails},
    "error_key": {"handler": error_key},
    "refresh": {"handler": plain, "refresh_worker": True},
    "waits": {"handler": waits},
    "waits_two": {"handler": waits, "concurrency_modifier": lambda current: 2},
}

if __name__ == "__main__":
    kind = sys.argv.pop(1)
    if kind == "prestart_fails":
        # Only in `runpod` 2.
        runpod.serverless.register_prestart_hook(prestart)
        kind = "plain"
    config = KINDS[kind]
    runpod.serverless.start(dict(config))
