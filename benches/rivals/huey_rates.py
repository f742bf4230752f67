"""Tiny tasks through huey's SqliteHuey; `run.py` calls it with FOLDER JOBS THREADS and reads jobs per second."""
import json
import sys
import threading
import time

from huey import SqliteHuey

folder, jobs, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
# Its default leaves synchronous to SQLite, which is built with FULL or with NORMAL.
huey = SqliteHuey(filename=f"{folder}/huey.db", fsync=True)


@huey.task()
def tiny(n):
    return "So"


def submit(n):
    tiny(n)


def do(_):
    huey.execute(huey.dequeue())


def rate(step):
    def hand(first):
        for n in range(first, jobs, threads):
            step(n)

    hands = [threading.Thread(target=hand, args=[first]) for first in range(threads)]
    began = time.monotonic()
    for one in hands:
        one.start()
    for one in hands:
        one.join()
    return jobs / (time.monotonic() - began)


submitted, done = rate(submit), rate(do)
assert len(huey) == 0 and huey.result_count() == jobs, "not everything was done"
print(json.dumps({"submit": submitted, "do": done}))
