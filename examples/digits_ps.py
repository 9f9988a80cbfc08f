"""Handwritten digits, learnt by asynchronous SGD on parameter servers: how a training program uses psbarrier.

Every process runs this file, and learns from its environment who it is: `psbarrier local --ps 2 --worker 4 -- python
examples/digits_ps.py` starts all six here. One by one, in any order and on any machines, each gets the variables
PSBARRIER_ENDPOINTS=etcd-0:2379 PSBARRIER_JOB=digits PSBARRIER_REPLICAS=ps=2,worker=4, _ROLE=worker and _INDEX=0.

Each ps holds a slice of the parameters. Each worker holds a part of the images, pulls parameters and pushes gradients at
its own pace, and meets the other workers at a barrier after each epoch. A ps that dies takes its slice with it; the one
that replaces it is given a copy by the first worker that comes by; if all have ended, the model begins anew.
"""

import contextlib
import importlib.util
import os
import socket
import socketserver
import struct
import threading
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # many processes share this machine

import numpy as np

import psbarrier

EPOCHS = int(os.environ.get("DIGITS_EPOCHS", "20"))
INPUTS, CLASSES, BATCH, RATE = 8 * 8 + 1, 10, 32, 0.03
PATIENCE = 120.0  # seconds that a worker tries to reach a ps; one that is given up it hears of earlier
LOST = 5.0  # seconds after which a ps that nobody offers a copy begins anew: all that had one have ended

HEADER = struct.Struct("!cI")  # of every message, either way: what it is, and how many bytes of float64 follow
PULL, PUSH, OFFER = b"?", b"-", b"="  # each is answered with the slice as it then stands: empty in a new ps
NOTHING = np.empty(0)


def send(stream, kind, values):
    stream.write(HEADER.pack(kind, values.nbytes) + values.tobytes())
    stream.flush()


def receive(stream):
    kind, size = HEADER.unpack(read(stream, HEADER.size))
    return kind, np.frombuffer(read(stream, size))


def read(stream, size):
    data = stream.read(size)
    if len(data) < size:
        raise ConnectionError("the other side closed the connection")
    return data


def endpoint(address):
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class Server(socketserver.ThreadingTCPServer):
    """A ps: its slice, and a thread for each worker that is connected."""

    allow_reuse_address = daemon_threads = True
    slice, lock = NOTHING, threading.Lock()


class Connection(socketserver.StreamRequestHandler):
    def handle(self):
        ps = self.server
        with contextlib.suppress(ConnectionError):  # the worker is done, or dead
            while True:
                kind, values = receive(self.rfile)
                with ps.lock:
                    if kind == PUSH and ps.slice.size:
                        ps.slice = ps.slice - RATE * values
                    if kind == OFFER and not ps.slice.size:  # of several workers that offer a copy, the first one wins
                        ps.slice = values
                    answer = ps.slice
                send(self.wfile, kind, answer)


def serve(me):
    server = Server(endpoint(me.address), Connection)  # listens before the gate opens, so nobody comes too early
    threading.Thread(target=server.serve_forever, daemon=True).start()
    show(me.cluster())
    print(f"{me.task}: the job has {me.wait_job()}", flush=True)


class Parameters:
    """All slices, as a worker sees them: a connection to each ps, and a copy of what each held last."""

    def __init__(self, me, cluster, copies):
        self.me, self.cluster, self.copies, self.streams = me, cluster, copies, {}

    def pull(self):
        return np.concatenate([self.call(ps, PULL, NOTHING) for ps in range(len(self.copies))])

    def push(self, gradient):
        for ps, part in enumerate(np.array_split(gradient, len(self.copies))):
            self.call(ps, PUSH, part)

    def call(self, ps, kind, values):
        began = time.monotonic()
        while True:
            try:
                found = self.ask(ps, kind, values)
                if not found.size:
                    found = self.ask(ps, OFFER, self.copies[ps])
                if not found.size and time.monotonic() > began + LOST:  # a program that matters has a checkpoint
                    found = self.ask(ps, OFFER, untrained(len(self.copies))[ps])
                if not found.size:
                    raise ConnectionError(f"ps/{ps} is new, and no worker has offered it a copy of its slice")
                self.copies[ps] = found
                return found
            except OSError:  # a push may so be applied twice; SGD does not mind
                if time.monotonic() > began + PATIENCE:
                    raise
                self.find_again(ps)

    def ask(self, ps, kind, values):
        if ps not in self.streams:
            with socket.create_connection(endpoint(self.cluster.addresses("ps")[ps]), timeout=10) as connection:
                self.streams[ps] = connection.makefile("rwb")  # which keeps it open
        send(self.streams[ps], kind, values)
        return receive(self.streams[ps])[1]

    def find_again(self, ps):
        with contextlib.suppress(OSError, KeyError):
            self.streams.pop(ps).close()
        time.sleep(0.2)
        before, self.cluster = self.cluster, self.me.cluster()  # raises JobFailedError when the ps has been given up
        if self.cluster.epoch > before.epoch:  # a new ps is there, with a new address
            show(self.cluster)


def train(me):
    images, labels, test_images, test_labels = load()
    show(cluster := me.cluster())
    images, labels = (part[me.task.index :: len(cluster.addresses("worker"))] for part in (images, labels))
    epoch_end = me.barrier("epoch", roles=("worker",))
    slices = len(cluster.addresses("ps"))
    # A worker that is restarted later has no copy to offer.
    copies = untrained(slices) if epoch_end.generation == 0 else [NOTHING] * slices
    parameters = Parameters(me, cluster, copies)
    while (epoch := epoch_end.generation) < EPOCHS:  # a restarted worker goes on where the others are
        order = np.random.default_rng([me.task.index, epoch]).permutation(len(images))
        for batch in np.array_split(order, -(-len(order) // BATCH)):
            error = predict(parameters.pull(), images[batch]) - np.eye(CLASSES)[labels[batch]]
            parameters.push((images[batch].T @ error / len(batch)).ravel())
        epoch_end.wait()
        if me.task.index == 0:
            print(f"epoch {epoch + 1} of {EPOCHS}: mean error {np.abs(error).mean():.4f}", flush=True)
    if me.task.index == 0:
        right = predict(parameters.pull(), test_images).argmax(axis=1) == test_labels
        print(f"test accuracy: {right.mean():.3f}", flush=True)


def untrained(slices):
    return np.array_split(np.zeros(INPUTS * CLASSES), slices)


def predict(parameters, images):
    scores = images @ parameters.reshape(INPUTS, CLASSES)
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def load():
    # What sklearn.datasets.load_digits() reads; to import that takes longer than to train.
    data = Path(importlib.util.find_spec("sklearn").origin).parent / "datasets" / "data" / "digits.csv.gz"
    images, labels = np.split(np.loadtxt(data, delimiter=","), [-1], axis=1)
    labels = labels.ravel().astype(int)
    images = np.c_[(images - images.mean(axis=0)) / (images.std(axis=0) + 1e-9), np.ones(len(images))]
    order = np.random.default_rng(0).permutation(len(images))
    return images[order[360:]], labels[order[360:]], images[order[:360]], labels[order[:360]]


def show(cluster):
    roles = (f"{role}={','.join(cluster.addresses(role))}" for role in cluster.roles)
    print(f"cluster: epoch {cluster.epoch} {' '.join(roles)}", flush=True)


if __name__ == "__main__":
    try:
        with psbarrier.join() as me:
            print(f"{me.task} pid {os.getpid()}", flush=True)
            serve(me) if me.task.role == "ps" else train(me)
    except psbarrier.JobFailedError as error:  # because of another task: which one and why is all there is to say
        raise SystemExit(str(error)) from None
