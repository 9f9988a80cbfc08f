"""Handwritten digits, learnt with TensorFlow's ParameterServerStrategy. All five processes on this machine:

    psbarrier local --replicas chief=1,ps=2,worker=2 --emit tensorflow -- python examples/tensorflow_ps.py

psbarrier gives each process the TF_CONFIG that TensorFlow reads. The job succeeds when the chief has finished, and then
psbarrier ends the ps and the workers, which would serve for ever.

Without the command line, the program can ask for its TF_CONFIG itself: see by_hand() below. Start it five times, anywhere, with
PSBARRIER_ENDPOINTS=etcd-0:2379 PSBARRIER_JOB=digits PSBARRIER_REPLICAS=chief=1,ps=2,worker=2, _ROLE=worker and _INDEX=0.

When a process is lost. A chief of TensorFlow never learns of a new address, so let each task keep its own (in Kubernetes, a
name), and whoever started it start it again after a crash:

    psbarrier run --job digits --role worker --index 0 --address worker-0:2222 --replicas chief=1,ps=2,worker=2 \\
        --max-restarts 3 --emit tensorflow-sparse -- python examples/tensorflow_ps.py /shared/checkpoints

- A worker: the others go on, and the chief uses it again once it is back.
- A ps: its part of the model is gone, so the chief fails. Started again, it goes on from the last checkpoint; it waits at
  psbarrier's gate until the ps is back. The workers and the other ps just stay.
- With --on-epoch restart (and --emit tensorflow) psbarrier starts the commands of all the others again as well, each time a
  process comes back. That costs more, and any of them may come back under another address.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")

import numpy as np
import tensorflow as tf

import psbarrier

STEPS = int(os.environ.get("STEPS", "400"))
CHECKPOINTS = sys.argv[1] if len(sys.argv) > 1 else None  # a folder that the chief and every ps can reach
INPUTS, CLASSES, BATCH, ROUND, RATE = 8 * 8 + 1, 10, 32, 20, 0.3


def main():
    if "TF_CONFIG" in os.environ:  # psbarrier run, or local, has told everything
        play(serve_until_ended)
    else:
        by_hand()


def by_hand():
    with psbarrier.join() as me:  # its settings come from the environment; they may be arguments as well
        os.environ.update(me.cluster().env("tensorflow", me.task))  # waits until all are there
        play(lambda _: me.wait_job())  # and leaving the block finishes the task


def play(serve):
    me = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    print(f"{me.task_type}/{me.task_id} pid {os.getpid()}", flush=True)
    if me.task_type == "chief":
        return train(me)
    server = tf.distribute.Server(me.cluster_spec(), job_name=me.task_type, task_index=me.task_id, protocol="grpc")
    print(f"{me.task_type}/{me.task_id} serves", flush=True)
    return serve(server)


def serve_until_ended(server):
    server.join()  # it never returns


def train(me):
    # The weights are cut into two parts, one on each ps.
    halves = tf.distribute.experimental.partitioners.FixedShardsPartitioner(2)
    strategy = tf.distribute.ParameterServerStrategy(me, variable_partitioner=halves)
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    inputs, labels, test_inputs, test_labels = load()
    with strategy.scope():
        weights = tf.Variable(tf.zeros([INPUTS, CLASSES]))
        done = tf.Variable(0, dtype=tf.int64)

    @tf.function
    def dataset():
        batches = tf.data.Dataset.from_tensor_slices((inputs, labels)).shuffle(len(inputs)).repeat().batch(BATCH)
        return batches.enumerate().map(tell)  # this runs on the worker

    @tf.function
    def step(batches):
        some_inputs, some_labels = next(batches)
        with tf.GradientTape() as tape:
            scores = some_inputs @ tf.concat(weights.variables, axis=0)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(some_labels, scores)
            loss = tf.reduce_mean(losses)
        for part, gradient in zip(weights.variables, tape.gradient(loss, weights.variables), strict=True):
            part.assign_sub(RATE * gradient)
        done.assign_add(1)
        return loss

    checkpoints = restored(tf.train.Checkpoint(weights=weights, done=done), done)
    batches = iter(coordinator.create_per_worker_dataset(dataset))
    while done.numpy() < STEPS:
        losses = [coordinator.schedule(step, args=(batches,)) for _ in range(ROUND)]
        coordinator.join()
        if checkpoints:
            checkpoints.save()
        print(f"step {done.numpy()}: loss {np.mean(coordinator.fetch(losses)):.4f}", flush=True)
    right = np.argmax(test_inputs @ np.concatenate([part.numpy() for part in weights.variables]), axis=1) == test_labels
    print(f"test accuracy: {right.mean():.3f}", flush=True)


def tell(number, batch):
    if number % ROUND == 0:
        tf.print("this worker has had", number, "batches")
    return batch


def restored(checkpoint, done):
    if CHECKPOINTS is None:
        return None
    checkpoints = tf.train.CheckpointManager(checkpoint, CHECKPOINTS, max_to_keep=2)
    if checkpoints.restore_or_initialize():
        print(f"going on after step {done.numpy()}", flush=True)
    return checkpoints


def load():
    from sklearn.datasets import load_digits  # slow to import, and only the chief needs it

    images, labels = load_digits(return_X_y=True)
    images = np.c_[images / 16, np.ones(len(images))].astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    return images[order[360:]], labels[order[360:]], images[order[:360]], labels[order[:360]]


if __name__ == "__main__":
    main()
