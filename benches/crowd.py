"""Uploads by many clients at once, and how long answers take meanwhile: crowd.py PORT RECORDING [CLIENTS]."""

import http.client
import sys
import threading
import time

BOUNDARY = "between-the-parts"


def timed(port, method, path, body=None, headers=None):
    """Status of one request on a connection of its own, and its time in ms."""
    begun = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, (time.perf_counter() - begun) * 1000


def percentiles(times):
    times = sorted(times)
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))]
    return f"{len(times)} answers, p50 {at(0.5):.0f} ms, p99 {at(0.99):.0f} ms, worst {times[-1]:.0f} ms"


def main():
    port, recording = int(sys.argv[1]), sys.argv[2]
    clients = int(sys.argv[3]) if len(sys.argv) > 3 else 200
    with open(recording, "rb") as file:
        audio = file.read()
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    body = head.encode() + audio + f"\r\n--{BOUNDARY}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    together, done = threading.Barrier(clients + 1), threading.Event()
    uploads, looks = [], []

    def upload():
        together.wait()
        uploads.append(timed(port, "POST", "/jobs", body, kind))

    def look():
        together.wait()
        while not done.is_set():
            looks.append(timed(port, "GET", "/system"))

    threads = [threading.Thread(target=upload) for _ in range(clients)]
    looker = threading.Thread(target=look)
    for thread in [*threads, looker]:
        thread.start()
    for thread in threads:
        thread.join()
    # The jobs run on: /system is asked for a while longer, under their load.
    done.wait(5)
    done.set()
    looker.join()
    refused = [status for status, _ in uploads if status != 202] + [status for status, _ in looks if status != 200]
    print(f"refused or failed: {len(refused)} {sorted(set(refused))}")
    print("POST /jobs: ", percentiles([ms for _, ms in uploads]))
    print("GET /system:", percentiles([ms for _, ms in looks]))


main()
