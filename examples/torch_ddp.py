"""A model trained by several processes with PyTorch's DistributedDataParallel, which goes on when one of them is lost.

Nothing here knows psbarrier. `--emit torch` sets the variables that init_process_group() reads, as torchrun does, so each
of these trains it, and so do both together, with two processes for each task:

    psbarrier local --replicas worker=4 --emit torch -- python examples/torch_ddp.py
    torchrun --nproc-per-node 4 examples/torch_ddp.py
    psbarrier local --replicas worker=2 --emit torch -- torchrun --nproc-per-node 2 examples/torch_ddp.py

A process group cannot take in a new member while it runs: when one dies, the calls of all others fail or hang. psbarrier
then starts every process again, with the addresses as they are now, and they go on where the last checkpoint was written.
A process that fails because of another's death has crashed like any other: `--max-restarts 2` lets each do so twice.
"""

import argparse
import os

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

BATCH = 32
INPUTS = 8


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--checkpoint", default="torch_ddp.pt", help="on several machines: on a file system that all see"
    )
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()

    dist.init_process_group("gloo")  # RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT say the rest
    rank, size = dist.get_rank(), dist.get_world_size()
    print(f"rank {rank} of {size}, pid {os.getpid()}", flush=True)

    model = DistributedDataParallel(torch.nn.Linear(INPUTS, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    first = resume(arguments.checkpoint, model, optimizer)
    weights = torch.arange(1.0, INPUTS + 1).unsqueeze(1)  # what is to be learnt
    for epoch in range(first, arguments.epochs):
        generator = torch.Generator().manual_seed(epoch * size + rank)  # each rank has its own part of the data
        for _ in range(10):
            inputs = torch.randn(BATCH, INPUTS, generator=generator)
            loss = torch.nn.functional.mse_loss(model(inputs), inputs @ weights)
            optimizer.zero_grad()
            loss.backward()  # here the ranks exchange their gradients
            optimizer.step()
        if rank == 0:
            save(arguments.checkpoint, model, optimizer, epoch + 1)
            print(f"epoch {epoch + 1} of {arguments.epochs}: loss {loss.item():.6f}", flush=True)
    dist.destroy_process_group()


def resume(path, model, optimizer):
    """Load the checkpoint, if there is one, and return the epoch to begin with: the same one on all ranks.

    Only rank 0 looks, for another rank might see a newer file, or none yet.
    """
    found = [torch.load(path) if dist.get_rank() == 0 and os.path.exists(path) else None]
    dist.broadcast_object_list(found)
    (checkpoint,) = found
    if checkpoint is None:
        return 0
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    if dist.get_rank() == 0:
        print(f"goes on after epoch {checkpoint['epoch']}", flush=True)
    return checkpoint["epoch"]


def save(path, model, optimizer, epoch):
    """A process may die while it writes, so the new file takes the old one's place only once it is whole."""
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
    torch.save(state, f"{path}.new")
    os.replace(f"{path}.new", path)


if __name__ == "__main__":
    main()
