"""What is about ranks and not about the method: set-up, reductions, gradients, checkpoints, errors.

Every function also works in a single process that nobody started with torchrun.
"""

import json
import os
import random
import sys
import traceback
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy
import torch
import torch.distributed as dist
import transformers


@dataclass(frozen=True)
class Ranks:
    rank: int
    world_size: int
    device: torch.device


def init():
    """Joins the process group that torchrun describes in the environment, or makes one of one.

    gloo on the CPU, nccl with a GPU a rank. -> Ranks
    """
    rank, world_size, local_rank = (int(os.environ.get(name, default)) for name, default in
                                    (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))
    # None is torchrun's own store; RANK alone says nothing, since a vLLM engine wants it set
    store = None if {"RANK", "MASTER_ADDR"} <= os.environ.keys() else dist.HashStore()
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("gloo" if device.type == "cpu" else "nccl", store=store, rank=rank,
                                world_size=world_size, timeout=timedelta(minutes=30))
    return Ranks(rank, world_size, device)


def all_sum(values):
    """Sum over ranks of a tensor or list of numbers, the same on all of them. -> float64 tensor"""
    total = torch.as_tensor(values, dtype=torch.float64)
    if dist.get_backend() == "nccl":
        total = total.cuda()
    dist.all_reduce(total)
    return total.cpu()


def from_rank_0(function):
    """What function() returns on rank 0, given to all ranks; if it raises, all ranks end."""
    result, error = None, None
    if dist.get_rank() == 0:
        try:
            result = function()
        except BaseException as raised:
            error = raised
    shared = [result, error is not None]
    dist.broadcast_object_list(shared)
    if error is not None:
        raise error
    if shared[1]:
        raise SystemExit(1)                        # rank 0 says why
    return shared[0]


def gather_interleaved(items):
    """Joins the ranks' lists on all of them: item i of rank r is item i * world_size + r."""
    lists = [None] * dist.get_world_size()
    dist.all_gather_object(lists, items)
    return [part[i] for i in range(len(lists[0])) for part in lists if i < len(part)]


def average_gradients(model):
    """Replaces every gradient by its mean over ranks, in one flat message."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if dist.get_world_size() == 1 or not gradients:
        return
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def run(function):
    """Runs a script's main function and turns what goes wrong into one line and a non-zero exit.

    A ValueError or OSError raised by a line of this project is a message to the user; anything else
    is a bug and keeps its traceback. Either way the rank is named, and the process ends at once, so
    that torchrun ends the others instead of leaving them in a collective.
    """
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        function()
    except Exception as error:
        raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename).parent
        if not isinstance(error, ValueError | OSError) or raised_in != Path(__file__).parent:
            traceback.print_exc()
        rank = os.environ.get("RANK", "0")
        where = f" (rank {rank})" if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""
        print(f"error{where}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def save_checkpoint(path, state, keep=2):
    """Writes `state`, and this rank's random state, as the folder `path`; all ranks call it.

    The files are written beside, flushed to the disk, and renamed, so that `path` is whole or not
    there. Only the `keep` newest folders of its kind stay.
    """
    path, rank = Path(path), dist.get_rank()
    beside = path.with_name(f".{path.name}.partial")
    beside.mkdir(parents=True, exist_ok=True)
    files = {f"random_{rank}.pt": random_state()}
    if rank == 0:
        files["state.pt"] = state
    for name, content in files.items():
        with open(beside / name, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
    dist.barrier()
    if rank == 0:
        beside.rename(path)
        for old in checkpoints(path.parent)[:-keep]:
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
    dist.barrier()


def checkpoints(folder):
    """The whole checkpoints in a folder, oldest first."""
    return sorted(path for path in Path(folder).glob("step_*") if path.is_dir())


def load_checkpoint(path):
    """What save_checkpoint was given. -> state

    This rank's random state is restored; a rank that the saved run did not have keeps its own.
    """
    own = Path(path) / f"random_{dist.get_rank()}.pt"
    if own.exists():
        set_random_state(torch.load(own, weights_only=False))
    return torch.load(Path(path) / "state.pt", map_location="cpu", weights_only=False)


def random_state():
    """The state of every global random number generator of this process."""
    return {"python": random.getstate(), "numpy": numpy.random.get_state(),
            "torch": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}


def set_random_state(state):
    random.setstate(state["python"])
    numpy.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    torch.cuda.set_rng_state_all(state["cuda"])


def rewind(path, step):
    """Cuts a JSONL log of a run back to what stood in it at `step`, a torn last line included.

    -> the rows that stay; only rank 0 writes the file.
    """
    path = Path(path)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:             # the line that was being written
            break
    rows = [row for row in rows if row["step"] <= step]
    if dist.get_rank() == 0:
        beside = path.with_suffix(".partial")
        beside.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        beside.rename(path)
    return rows
