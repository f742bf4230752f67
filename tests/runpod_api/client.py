"""A user of RunPod's client for Python, in both its kinds: client.py URL RECORDING prints what it was told as JSON."""

import asyncio
import base64
import json
import os
import pathlib
import sys

url, recording = sys.argv[1:]
os.environ["RUNPOD_ENDPOINT_BASE_URL"] = f"{url}/v2"

import aiohttp  # noqa: E402
import runpod  # noqa: E402

runpod.api_key = "sesame"
audio = {"audio_base64": base64.b64encode(pathlib.Path(recording).read_bytes()).decode()}
# Nobody listens there, so the job waits for its next try.
waiting = {"audio": "http://127.0.0.1:9/a.mp3"}


def ended(job):
    for _ in job.stream():
        pass
    return job.status()


async def with_asyncio():
    async with aiohttp.ClientSession() as session:
        endpoint = runpod.AsyncioEndpoint("whisper", session)
        job = await endpoint.run(audio)
        output = await job.output(timeout=120)
        return output["transcription"]


endpoint = runpod.Endpoint("whisper")
told = {"health": endpoint.health()}
told["run_sync"] = endpoint.run_sync({"input": audio}, timeout=120)["transcription"]
job = endpoint.run({"input": audio})
told["streamed"] = " ".join(segment["text"] for segment in job.stream())
told["output"] = job.output()["transcription"]
told["failed"] = ended(endpoint.run({"input": {"audio_base64": "aGVsbG8gaGVsbG8="}}))
job = endpoint.run({"input": waiting})
job.cancel()
told["cancelled"] = job.status()
told["purged"] = endpoint.purge_queue()
told["asyncio"] = asyncio.run(with_asyncio())
print(json.dumps(told))
