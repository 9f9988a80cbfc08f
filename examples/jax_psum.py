"""Linear regression in JAX on several processes, which add their gradients up with a psum. On this machine:

    psbarrier local --replicas worker=2 --emit jax -- python examples/jax_psum.py

psbarrier puts into each environment where process 0 listens, how many processes there are and which one this is. Thanks to
`import psbarrier.emit.jax`, jax.distributed.initialize() finds it there.

JAX cannot replace one process of a running program: when one is lost, all have to start again. Each task, in a Pod or
wherever it runs, is

    psbarrier run --job sgd --role worker --replicas worker=2 --max-restarts 3 --emit jax --on-epoch restart \\
        -- python examples/jax_psum.py checkpoint.npy

and whoever started it starts it again after a crash. Then psbarrier also starts the commands of all the others again, with
variables that name the newcomer. The others may fail by themselves before that, since their psum does, or because the
coordinator is gone: that is why crashes are allowed for. They go on where the checkpoint is, in a file that process 0 writes.
"""

import os
import sys

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import psbarrier.emit.jax  # noqa: F401  # it is enough to import it

STEPS = int(os.environ.get("STEPS", "50"))
CHECKPOINT = sys.argv[1] if len(sys.argv) > 1 else None
TRUTH = np.linspace(-1, 1, 8, dtype=np.float32)  # what is to be learnt
PART, EACH = PartitionSpec("data"), PartitionSpec()


def main():
    jax.distributed.initialize()
    print(f"process {jax.process_index()} of {jax.process_count()}, pid {os.getpid()}", flush=True)
    mesh = Mesh(np.array(jax.devices()), ("data",))
    step = jax.jit(jax.shard_map(update, mesh=mesh, in_specs=(EACH, PART, PART), out_specs=(EACH, EACH)))
    inputs, outputs = (
        jax.make_array_from_process_local_data(NamedSharding(mesh, PART), mine) for mine in my_examples()
    )
    done, weights = multihost_utils.broadcast_one_to_all(load())  # the same for all, whatever the file says by now
    for number in range(int(done), STEPS):
        weights, loss = step(weights, inputs, outputs)
        if jax.process_index() == 0:
            print(f"step {number + 1}: loss {loss:.6f}", flush=True)
            save(number + 1, np.asarray(weights))


def my_examples():
    """This process's part of the data, and of nobody else's."""
    inputs = np.random.default_rng(jax.process_index()).normal(size=(64, len(TRUTH))).astype(np.float32)
    return inputs, inputs @ TRUTH


def update(weights, inputs, outputs):
    """A step of gradient descent on the data of all processes. It runs in each, on its own part."""
    error = inputs @ weights - outputs
    count, loss, gradient = jax.lax.psum((float(len(error)), error @ error, error @ inputs), "data")
    return weights - 0.1 * gradient / count, loss / count


def load():
    if CHECKPOINT is None or jax.process_index() or not os.path.exists(CHECKPOINT):
        return np.int32(0), np.zeros_like(TRUTH)
    done, *weights = np.load(CHECKPOINT)
    print(f"going on after step {int(done)}", flush=True)
    return np.int32(done), np.array(weights, np.float32)


def save(done, weights):
    if CHECKPOINT is not None:
        with open(f"{CHECKPOINT}.new", "wb") as file:
            np.save(file, np.array([done, *weights]))
        os.replace(f"{CHECKPOINT}.new", CHECKPOINT)


if __name__ == "__main__":
    main()
