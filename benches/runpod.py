"""A worker of RunPod's through kills, SIGTERMs, an output that is down, and a hundred jobs: what was heard of each job.

    python3 benches/runpod.py BINARY RECORDING kill|term|down|rate [COUNT]

BINARY is whisperq, RECORDING a short one. The queue here hands out jobs and keeps what is posted; nothing else is real but
the worker. Every line printed is a result; it ends with 1 where a job was lost, or told in two ways."""

import base64
import collections
import http.server
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

PATIENCE = 240
HOLD = 2

# How long a worker was idle between two chunks although a third was ready when the first was done.
GAPS = """
with done as (
    select *, lag(finished_at_ms) over (partition by process_id, worker_id order by started_at_ms) as idle_from
    from chunks where kind = 'transcribe' and outcome = 'done'),
ready as (
    select p.finished_at_ms as ready_at_ms, c.started_at_ms
    from chunks c join chunks p on p.job_id = c.job_id and p.kind = 'prepare' and p.outcome = 'done'
    where c.kind = 'transcribe' and c.outcome = 'done')
select worker_id, started_at_ms - idle_from as gap_ms from done
where idle_from is not null and exists (
    select 1 from ready where ready_at_ms <= idle_from and ready.started_at_ms > idle_from)
order by gap_ms
"""


class Queue:
    """What the queue knows, and the events that a run waits for."""

    def __init__(self):
        self.moved = threading.Condition()
        self.takes, self.heard, self.events = collections.deque(), collections.defaultdict(list), []
        self.status, self.on_post, self.on_take = 200, None, None

    def wait(self, what, seconds=PATIENCE):
        with self.moved:
            if not self.moved.wait_for(what, seconds):
                raise SystemExit(f"it did not come: {self.events[-5:]}")

    def note(self, *event):
        with self.moved:
            self.events.append((time.monotonic(), *event))
            self.moved.notify_all()

    def saw(self, kind, job):
        return any(event[1:3] == (kind, job) for event in self.events)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    queue = None

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", between=None):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        half = len(body) // 2 if between else 0
        self.wfile.write(body[:half])
        self.wfile.flush()
        if between:
            between()
        self.wfile.write(body[half:])
        self.wfile.flush()

    def is_open(self):
        if not select.select([self.connection], [], [], 0)[0]:
            return True
        try:
            return bool(self.connection.recv(1, socket.MSG_PEEK))
        except ConnectionError:
            return False

    def do_GET(self):
        queue = self.queue
        if "/job-take" not in self.path:
            if "/ping/" in self.path:
                queue.note("ping", "job_id" in self.path)
            else:
                time.sleep(HOLD)
            return self.answer(204 if "/job-stop/" in self.path else 200)
        with queue.moved:
            queue.moved.wait_for(lambda: queue.takes, HOLD)
            # The connection of a worker that has ended gets no job.
            job = queue.takes.popleft() if queue.takes and self.is_open() else None
        if job is None:
            return self.answer(204)
        between, queue.on_take = queue.on_take, None
        queue.note("take", job["id"])
        self.answer(200, json.dumps(job).encode(), between)
        queue.note("taken", job["id"])

    def do_POST(self):
        queue = self.queue
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        job = self.path.split("?")[0].rsplit("/", 1)[1]
        if body.get("status") == "IN_PROGRESS":
            return self.answer(200)
        status = queue.status
        with queue.moved:
            if status == 200:
                queue.heard[job].append(json.dumps(body, sort_keys=True))
        queue.note("post", job)
        act, queue.on_post = queue.on_post, None
        if act and act() == "silent":
            return None
        self.answer(status)
        return None


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_):
        pass


class Worker:
    def __init__(self, binary, url, folder, **settings):
        at = lambda path: f"{url}/v2/e/{path}?gpu=x"
        output = settings.pop("output", None)
        self.binary, self.folder, self.child = binary, folder, None
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "DATA_DIR": folder, "MODEL_NAME": "tiny.en",
            "RUNPOD_WEBHOOK_GET_JOB": at("job-take/$ID"), "RUNPOD_WEBHOOK_PING": at("ping/$RUNPOD_POD_ID"),
            "RUNPOD_WEBHOOK_POST_OUTPUT": (output or url) + "/v2/e/job-done/$RUNPOD_POD_ID/$ID?gpu=x",
            "RUNPOD_PING_INTERVAL": "500", "RUNPOD_POD_ID": "pod1", "RUNPOD_AI_API_KEY": "key",
            "RUST_LOG": "whisperq=error", "WORKER_COUNT": "1", "SHUTDOWN_SECONDS": "120", **settings,
        }

    def start(self):
        self.child = subprocess.Popen([self.binary, "runpod"], env=self.environment, stdout=subprocess.DEVNULL)

    def signal(self, what):
        self.child.send_signal(what)

    def end(self):
        self.child.wait(PATIENCE)

    def sql(self, text):
        told = subprocess.run([self.binary, "sql", text, "--format", "json"], env=self.environment, check=True,
                              capture_output=True)
        return json.loads(told.stdout)


def verdict(queue, jobs):
    """Prints how the jobs ended; whether each was told once, or again with the same words."""
    lost = [job for job in jobs if not queue.heard[job]]
    twice = [job for job in jobs if len(queue.heard[job]) > 1]
    torn = [job for job in jobs if len(set(queue.heard[job])) > 1]
    errors = [job for job in jobs if any('"error"' in body[:10] for body in queue.heard[job])]
    print(f"{len(jobs)} jobs: {len(lost)} lost, {len(torn)} told in two ways, {len(twice)} told again in the same words "
          f"{twice}, {len(errors)} errors")
    return not lost and not torn


def idle(queue, since):
    """Whether a heartbeat has said that nothing is held, a second after `since`."""
    return any(event[0] > since + 1 and event[1:] == ("ping", False) for event in queue.events)


def kills(queue, worker, job, count):
    """kill -9, at every third time with the result just heard (before its answer, or right after)."""
    jobs, late, again, whole = [], [], [], 2.0
    for n in range(count):
        name = f"kill-{n}"
        jobs.append(name)
        killed = threading.Event()

        def kill(silent):
            worker.signal(signal.SIGKILL)
            killed.set()
            return "silent" if silent else None

        if n % 3 == 0:
            late.append(name)
            queue.on_post = (lambda: kill(True)) if n % 2 == 0 else None
        worker.start()
        begun = time.monotonic()
        with queue.moved:
            queue.takes.append({"id": name, "input": job})
            queue.moved.notify_all()
        queue.wait(lambda: queue.saw("taken", name))
        taken = time.monotonic()
        if n % 3 == 0 and n % 2 == 0:
            killed.wait(PATIENCE)
        elif n % 3 == 0:
            queue.wait(lambda: queue.heard[name])
            time.sleep(random.random() * 0.01)
            kill(False)
        else:
            time.sleep(whole * random.random() * 1.1)
            kill(False)
        worker.end()
        heard_before = len(queue.heard[name])
        worker.start()
        if not heard_before:
            since = time.monotonic()
            queue.wait(lambda: queue.heard[name] or idle(queue, since))
            if not queue.heard[name]:
                # Killed before it was stored: RunPod sees that nobody names it, and hands it out again.
                again.append(name)
                with queue.moved:
                    queue.takes.append({"id": name, "input": job})
                    queue.moved.notify_all()
            queue.wait(lambda: queue.heard[name])
            whole = max(0.3, min(whole, time.monotonic() - taken))
        # Until nothing is held any more: an idle heartbeat after this start.
        since = time.monotonic()
        queue.wait(lambda: idle(queue, since))
        worker.signal(signal.SIGTERM)
        worker.end()
    print(f"killed with the result just heard: {len(late)}; before the job was stored, and handed out again: {again}")
    rows = worker.sql("select job_id, count(*) as n from chunks where kind = 'transcribe' and outcome = 'done' "
                      "group by 1 having count(*) <> 1")
    print("chunks finished more than once:", rows)
    return verdict(queue, jobs) and not rows


def terms(queue, worker, job, count):
    """SIGTERM with the take's answer half sent, right after it, and while the job is worked on."""
    jobs, codes = [], collections.Counter()
    for n in range(count):
        name = f"term-{n}"
        jobs.append(name)
        term = lambda: (worker.signal(signal.SIGTERM), time.sleep(0.3))
        queue.on_take = term if n % 3 == 0 else None
        worker.start()
        queue.wait(lambda: queue.events and queue.events[-1][1] == "ping")
        with queue.moved:
            queue.takes.append({"id": name, "input": job})
            queue.moved.notify_all()
        queue.wait(lambda: queue.saw("taken", name))
        if n % 3 == 2:
            time.sleep(random.random() * 1.5)
        if n % 3:
            worker.signal(signal.SIGTERM)
        worker.end()
        codes[worker.child.returncode] += 1
        moment = ["in the take's answer", "just after it", "at work"][n % 3]
        if not queue.heard[name]:
            print(f"{name} ({moment}) was not heard of before the worker ended")
    print("exit codes:", dict(codes))
    return verdict(queue, jobs)


def down(queue, worker, job, seconds):
    """The output answers 500 for so long, then as it should."""
    queue.status = 500
    worker.start()
    with queue.moved:
        queue.takes.append({"id": "down", "input": job})
    queue.wait(lambda: queue.saw("post", "down"))
    first = time.monotonic()
    time.sleep(seconds)
    queue.status = 200
    queue.wait(lambda: queue.heard["down"])
    posts = [round(event[0] - first, 1) for event in queue.events if event[1:3] == ("post", "down")]
    print(f"posts at {posts} s after the first; heard {posts[-1] - seconds:.1f} s after the end of the trouble")
    worker.signal(signal.SIGTERM)
    worker.end()
    return verdict(queue, ["down"])


def rate(queue, worker, job, count):
    """So many jobs at once for four workers; how long each stood idle with work at hand."""
    jobs = [f"job-{n}" for n in range(count)]
    with queue.moved:
        queue.takes.extend({"id": name, "input": job} for name in jobs)
    begun = time.monotonic()
    worker.start()
    queue.wait(lambda: all(queue.heard[name] for name in jobs), 3600)
    took = time.monotonic() - begun
    gaps = [row["gap_ms"] for row in worker.sql(GAPS)]
    if not gaps:
        print(f"{count} jobs in {took:.1f} s; no worker stood idle with a chunk ready")
        gaps = [0]
    at = lambda share: gaps[min(len(gaps) - 1, int(len(gaps) * share))]
    print(f"{count} jobs in {took:.1f} s; {len(gaps)} gaps with a chunk ready: median {at(0.5)} ms, p95 {at(0.95)} ms, "
          f"worst {gaps[-1]} ms; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    worker.signal(signal.SIGTERM)
    worker.end()
    return verdict(queue, jobs)


def main():
    binary, recording, what = sys.argv[1:4]
    count = int(sys.argv[4]) if len(sys.argv) > 4 else {"down": 60, "rate": 100}.get(what, 30)
    with open(recording, "rb") as file:
        job = {"audio_base64": base64.b64encode(file.read()).decode()}
    queue = Handler.queue = Queue()
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = tempfile.mkdtemp()
    settings = {"WORKER_COUNT": "4", "MODEL_INSTANCES": "1"} if what == "rate" else {}
    worker = Worker(binary, f"http://127.0.0.1:{server.server_port}", folder, **settings)
    try:
        well = {"kill": kills, "term": terms, "down": down, "rate": rate}[what](queue, worker, job, count)
    finally:
        if worker.child and worker.child.poll() is None:
            worker.child.kill()
            worker.child.wait()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(0 if well else 1)


main()
