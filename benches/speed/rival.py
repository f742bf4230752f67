#!/usr/bin/env python3
"""Serves one rival engine over HTTP on a free port, which it prints: rival.py ENGINE WEIGHTS WORKERS THREADS.

A POST's body is the path of a recording, its answer the text. This spares the rivals what whisperq does besides: uploads,
a queue on disk, results that survive. ENGINE is one of ENGINES; WORKERS calls run at once, each on THREADS cores.
"""
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def faster_whisper(weights, workers, threads):
    from faster_whisper import WhisperModel

    model = WhisperModel(weights, device="cpu", compute_type="int8", num_workers=workers, cpu_threads=threads)

    def transcribe(path):
        # Greedy like whisperq's default; without the text before, with which it goes round in circles more often.
        segments, _ = model.transcribe(path, language="en", beam_size=1, condition_on_previous_text=False)
        return "".join(segment.text for segment in segments)

    return transcribe


def faster_whisper_batched(weights, workers, threads):
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    model = WhisperModel(weights, device="cpu", compute_type="int8", num_workers=workers, cpu_threads=threads)
    pipeline = BatchedInferencePipeline(model=model)

    def transcribe(path):
        segments, _ = pipeline.transcribe(path, language="en", beam_size=1, batch_size=8)
        return "".join(segment.text for segment in segments)

    return transcribe


def pywhispercpp(weights, workers, threads):
    from faster_whisper import decode_audio
    from pywhispercpp.model import Model

    # Its calls hold one lock per model: as many models as are to work at once.
    idle = [Model(weights, n_threads=threads, print_progress=False, print_realtime=False) for _ in range(workers)]
    free, lock = threading.Semaphore(workers), threading.Lock()

    def transcribe(path):
        samples = decode_audio(path)
        with free:
            with lock:
                model = idle.pop()
            try:
                segments = model.transcribe(samples, language="en", no_context=True, single_segment=False)
            finally:
                with lock:
                    idle.append(model)
        return " ".join(segment.text for segment in segments)

    return transcribe


ENGINES = {
    "faster-whisper": faster_whisper,
    "faster-whisper-batched": faster_whisper_batched,
    "pywhispercpp": pywhispercpp,
}


def serve(transcribe):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            path = self.rfile.read(int(self.headers["Content-Length"])).decode()
            text = transcribe(path).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"port {server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    engine, weights, workers, threads = sys.argv[1:]
    serve(ENGINES[engine](weights, int(workers), int(threads)))
