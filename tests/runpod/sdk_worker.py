"""RunPod's official worker. Its handler gives back what the first line on standard input says, by the names of jobs."""
import asyncio
import json
import os
import sys

import runpod

answers = json.loads(sys.stdin.readline())


async def give(job):
    answer = answers[job["id"]]
    if "progress" in answer:
        runpod.serverless.progress_update(job, answer["progress"])
    if answer.get("holds"):
        # Until the test says go on.
        await asyncio.to_thread(sys.stdin.readline)
    if "raises" in answer:
        raise RuntimeError(answer["raises"])
    return answer["output"]


async def stream(job):
    for segment in answers[job["id"]]["segments"]:
        yield segment


runpod.serverless.start({
    "handler": stream if os.environ.get("STREAM") else give,
    "return_aggregate_stream": True,
    "concurrency_modifier": lambda current: int(os.environ["CONCURRENCY"]),
})
