"""Runs a SeaweedFS for as long as standard input stays open, and clears it away.

weed.py WEED ACCESS_KEY SECRET_KEY prints the port of its S3 once it takes and gives files, or what it logged instead.
The end of standard input is the one sign of the caller's end that nothing can keep from coming.
"""

import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

SECONDS_TO_READY = 120
SERVERS = ["master", "volume", "filer", "s3"]
# Below what the kernel gives to those who take any port, so that no connection of a test can take one meanwhile.
FIRST_PORT, LAST_PORT = 12_000, 32_000


def free_ports(count):
    ports, port = [], FIRST_PORT + os.getpid() * 16 % (LAST_PORT - FIRST_PORT)
    while len(ports) < count:
        with socket.socket() as listener:
            # As the servers do, which start on ports of connections that were closed a moment ago.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
                ports.append(port)
            except OSError:
                pass
        port = port + 1 if port < LAST_PORT else FIRST_PORT
    return ports


def start(weed, access_key, secret_key, folder, ports):
    (folder / "data").mkdir()
    credentials = [{"accessKey": access_key, "secretKey": secret_key}]
    identity = {"name": "tests", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    command = [weed, "server", "-dir=data", "-ip=127.0.0.1", "-volume.max=500", "-master.volumeSizeLimitMB=64"]
    command += ["-s3", "-s3.config=s3.json", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    # As with S3 itself, nobody makes a bucket by writing to it.
    command += ["-s3.autoCreateBucket=false", "-master.telemetry=false"]
    command += [f"-{name}.port={port}" for name, port in zip(SERVERS, ports)]
    command += [f"-{name}.port.grpc={port}" for name, port in zip(SERVERS, ports[4:])]
    command += [f"-{name}.localSocket={folder}/{name}.sock" for name in ["filer", "s3"]]
    # Should this script be killed, which leaves it no time to do anything.
    if shutil.which("setpriv"):
        command = ["setpriv", "--pdeathsig", "KILL", *command]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder)}
    # A new bucket otherwise takes seven volumes.
    environment["WEED_MASTER_VOLUME_GROWTH_COPY_1"] = "1"
    with open(folder / "weed.log", "wb") as log:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )


def answer(url):
    # A proxy that the environment names is not for loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=10) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, b""
    except OSError:
        return 0, b""


def is_ready(ports):
    master, _, _, s3 = ports[:4]
    # S3 refuses the unsigned before there is a place for files, and master says when there is.
    if answer(f"http://127.0.0.1:{s3}/")[0] != 403:
        return False
    return b'"fid"' in answer(f"http://127.0.0.1:{master}/dir/assign")[1]


def wait_until_ready(weed, ports):
    deadline = time.monotonic() + SECONDS_TO_READY
    while weed.poll() is None and time.monotonic() < deadline:
        if is_ready(ports):
            return True
        # Nothing is ever said there: it is readable when the caller is gone.
        if select.select([sys.stdin], [], [], 0.1)[0]:
            break
    return False


def clear_away(folder, ports):
    shutil.rmtree(folder, ignore_errors=True)
    # These it puts there whatever it is told.
    for name, port in zip(SERVERS, ports[4:]):
        pathlib.Path(f"/tmp/seaweedfs-{name}-grpc-{port}.sock").unlink(missing_ok=True)


def main():
    # An exception each, so that nothing is left behind.
    for number in [signal.SIGTERM, signal.SIGHUP]:
        signal.signal(number, lambda *_: sys.exit(1))
    folder, ports = pathlib.Path(tempfile.mkdtemp(prefix="whisperq-s3-")), free_ports(2 * len(SERVERS))
    weed = None
    try:
        weed = start(*sys.argv[1:4], folder, ports)
        if wait_until_ready(weed, ports):
            print(ports[3], flush=True)
        else:
            print("\n".join((folder / "weed.log").read_text(errors="replace").splitlines()[-40:]), flush=True)
            return
        sys.stdin.buffer.read()
    finally:
        if weed:
            weed.kill()
            weed.wait()
        clear_away(folder, ports)


main()
