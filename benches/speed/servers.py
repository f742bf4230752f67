"""The engines under test as processes that answer requests over HTTP, and what they use of the machine meanwhile."""
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from pathlib import Path

import psutil

START_SECONDS = 120
REQUEST_SECONDS = 1800
MEMORY_LOOK_SECONDS = 0.2


class Usage:
    """CPU seconds and peak of resident memory of a process and all below it."""

    def __init__(self, pid):
        self.root = psutil.Process(pid)
        self.peak = 0
        self.seen = {}
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _look(self):
        total = 0
        for process in [self.root, *self.root.children(recursive=True)]:
            try:
                total += process.memory_info().rss
                # Children that have ended count in their parent's time.
                self.seen[process.pid] = sum(process.cpu_times()[:4])
            except psutil.Error:
                pass
        self.peak = max(self.peak, total)

    def _watch(self):
        while not self.stop.wait(MEMORY_LOOK_SECONDS):
            self._look()

    def cpu_seconds(self):
        self._look()
        alive = {process.pid for process in [self.root, *self.root.children(recursive=True)]}
        return sum(seconds for pid, seconds in self.seen.items() if pid in alive)

    def end(self):
        self.stop.set()
        self.thread.join()


class Server:
    """One engine that runs; `transcribe` may be called from several threads."""

    def __init__(self, name, command, env=None, cwd=None):
        self.name = name
        self.process = subprocess.Popen(command, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.usage = Usage(self.process.pid)

    def wait_for_port(self):
        line = self.process.stdout.readline()
        if not line.startswith("port "):
            raise SystemExit(f"{self.name} did not start")
        return int(line.split()[1])

    def close(self):
        self.usage.end()
        self.process.terminate()
        self.process.wait(30)


class Rival(Server):
    def __init__(self, name, engine, weights, workers, threads):
        rival = Path(__file__).with_name("rival.py")
        super().__init__(name, [sys.executable, rival, engine, weights, str(workers), str(threads)])
        self.url = f"http://127.0.0.1:{self.wait_for_port()}/"

    def transcribe(self, path):
        request = urllib.request.Request(self.url, data=str(path).encode())
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
            return answer.read().decode()


class Whisperq(Server):
    """The whole service: upload, queue on disk, decoding in a child, engine, transcript."""

    def __init__(self, name, program, model, port, workers):
        self.folder = tempfile.TemporaryDirectory()
        env = {**os.environ, "DATA_DIR": self.folder.name, "MODEL_NAME": model, "PORT": str(port)}
        env |= {"WORKER_COUNT": str(workers)} if workers else {}
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(name, [program, "serve"], env)
        self.wait_for_health()

    def wait_for_health(self):
        ends = time.monotonic() + START_SECONDS
        while time.monotonic() < ends:
            try:
                return urllib.request.urlopen(f"{self.url}/health", timeout=5).read()
            except OSError:
                time.sleep(0.1)
        raise SystemExit("whisperq did not start")

    def transcribe(self, path):
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{Path(path).name}"\r\n\r\n'
        body = head.encode() + Path(path).read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        request = urllib.request.Request(f"{self.url}/jobs?wait={REQUEST_SECONDS}", body, headers)
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
            job = json.load(answer)
        if job["status"] != "completed":
            raise RuntimeError(f"{path}: {job}")
        with urllib.request.urlopen(f"{self.url}/jobs/{job['id']}/transcript?format=txt", timeout=60) as answer:
            return answer.read().decode()

    def close(self):
        super().close()
        self.folder.cleanup()
