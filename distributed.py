"""What is about ranks and not about the method: set-up, reductions, gradients, checkpoints, errors.

Every function also works in a single process that nobody started with torchrun.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MethodType

import numpy
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import transformers
from torch.distributed.checkpoint import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from problems import first_line

SIGTERM_CAME = threading.Event()                   # set by run()'s handler, read by sigterm_received()


@dataclass(frozen=True)
class Ranks:
    rank: int
    world_size: int
    device: torch.device


def init():
    """Joins the process group that torchrun describes in the environment, or makes one of one.

    gloo on the CPU, nccl with a GPU a rank. On the CPU a process computes in one thread unless
    OMP_NUM_THREADS says otherwise: models that fit there gain little from more, lose much on a busy
    machine, and then give the same numbers whatever the number of cores. -> Ranks
    """
    rank, world_size, local_rank = (int(os.environ.get(name, default)) for name, default in
                                    (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))
    # None is torchrun's own store; RANK alone says nothing, since a vLLM engine wants it set
    store = None if {"RANK", "MASTER_ADDR"} <= os.environ.keys() else dist.HashStore()
    device = torch.device("cpu")
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
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


def run_on_rank_0(function):
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


def sigterm_received():
    """Whether any rank has got a SIGTERM (preemption) since the start, the same on all ranks."""
    return all_sum([SIGTERM_CAME.is_set()]).item() > 0


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


def shard(model, function):
    """Shards a transformers language model over all ranks with FSDP2. -> function, bound to it

    One unit a decoder layer and one for the rest; float32 masters, and on a GPU bfloat16 compute
    with float32 reductions. The bound function takes the place of forward: it finds the weights
    gathered. Gradients come out averaged over ranks. To be called before the optimizer is made.
    """
    precision = MixedPrecisionPolicy()
    if torch.cuda.is_available():
        precision = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for layer in model.base_model.layers:
        fully_shard(layer, mp_policy=precision)
    fully_shard(model, mp_policy=precision)
    model.sharded_function = MethodType(function, model)
    register_fsdp_forward_method(model, "sharded_function")
    return model.sharded_function


def gathered_tensors(model):
    """(name, whole tensor) of every weight, gathered one at a time; all ranks iterate in step."""
    if isinstance(model, FSDPModule):
        model.reshard()
    for name, tensor in model.state_dict().items():
        yield name, tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def clip_gradients(model, limit):
    """Averages gradients over ranks, unless FSDP has, and clips them. -> the true global norm"""
    if not isinstance(model, FSDPModule):
        average_gradients(model)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
    return (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()


def run(function):
    """Runs a script's main function and turns what goes wrong into one line and a non-zero exit.

    A ValueError or OSError raised by a line of this project is a message to the user; anything else
    is a bug and keeps its traceback. Either way the rank is named, and the process ends at once, so
    that torchrun ends the others instead of leaving them in a collective.
    """
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    signal.signal(signal.SIGTERM, lambda *_: SIGTERM_CAME.set())
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


def save_checkpoint(path, model, optimizer, state, keep=2):
    """Saves model, optimizer, each rank's random state and `state` as the folder `path`; all ranks
    call it.

    The files are written beside, flushed to the disk, and renamed: `path` is whole or not there.
    Only the `keep` newest folders stay. An OSError (a full disk) leaves the older ones as they are.
    """
    path, rank = Path(path), dist.get_rank()
    beside = path.with_name(f".{path.name}.partial")
    if rank == 0:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
    dist.barrier()
    try:
        weights, moments = get_state_dict(model, optimizer)
        dcp.save({"model": weights, "optimizer": moments}, checkpoint_id=beside)
        files = {f"random_{rank}.pt": random_state()} | ({"state.pt": state} if rank == 0 else {})
        for name, content in files.items():
            with open(beside / name, "wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
    except (OSError, RuntimeError, CheckpointException) as error:
        raise OSError(f"the checkpoint {path} could not be written ({first_line(error)}): make "
                      "room and go on with --resume from the one before") from error
    dist.barrier()
    if rank == 0:
        shutil.rmtree(path, ignore_errors=True)
        beside.rename(path)
        for old in checkpoints(path.parent)[:-keep]:
            shutil.rmtree(old)
    dist.barrier()


def checkpoints(folder):
    """The whole checkpoints in a folder, oldest first."""
    return sorted(path for path in Path(folder).glob("step_*") if path.is_dir())


def load_checkpoint(folder, model, optimizer):
    """Loads the newest readable checkpoint in `folder`, made on any number of ranks. -> its state

    None if there is none. One that cannot be read is announced and passed over for the one before.
    This rank's random state is restored; a rank that the saved run did not have keeps its own.
    """
    found = checkpoints(folder)
    for path in reversed(found):
        state, error = None, None
        try:
            state = torch.load(path / "state.pt", map_location="cpu", weights_only=False)
            own = path / f"random_{dist.get_rank()}.pt"
            random_before = torch.load(own, weights_only=False) if own.exists() else None
        except Exception as raised:
            error = raised
        if not all_sum([error is not None]).item():
            try:
                weights, moments = get_state_dict(model, optimizer)
                dcp.load({"model": weights, "optimizer": moments}, checkpoint_id=path)
                set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments)
            except (Exception, CheckpointException) as raised:
                error = raised
        if not all_sum([error is not None]).item():
            if random_before:
                set_random_state(random_before)
            return state
        if dist.get_rank() == 0:
            print(f"the checkpoint {path} cannot be read ({first_line(error)}): falling back to "
                  "the one before", flush=True)
    if found:
        raise OSError(f"none of the {len(found)} checkpoints in {folder} can be read: start anew")
    return None


def random_state():
    """The state of every global random number generator of this process."""
    return {"python": random.getstate(), "numpy": numpy.random.get_state(),
            "torch": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}


def set_random_state(state):
    random.setstate(state["python"])
    numpy.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    torch.cuda.set_rng_state_all(state["cuda"])


def truncate_log(path, step):
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


# ---------------------------------------------------------------------------- loading models


def derive_seed(*parts):
    """A 62-bit seed from numbers and strings, the same on every machine and in every process."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()) >> 2


def from_pretrained(auto_class, name_or_path, **options):
    """auto_class.from_pretrained with one clear ValueError where there is no such model."""
    try:
        return auto_class.from_pretrained(name_or_path, **options)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot load {str(name_or_path)!r}: it is neither a directory that holds "
                         "a model and its tokenizer, nor a hub name that can be reached from here "
                         f"({str(error).strip().splitlines()[0][:200]})") from error


# ---------------------------------------------------------------------------- what a GPU will hold


def parameters(auto_class, name_or_path, **options):
    """Parameters of a model that is not loaded: (all, of a decoder layer), and its config."""
    config = from_pretrained(AutoConfig, name_or_path, **options)
    with torch.device("meta"):
        model = auto_class.from_config(config)
    def count(module):
        return sum(p.numel() for p in module.parameters())
    return count(model), count(model.base_model.layers[0]), config


def memory_plan(policy, reward_model, gpus, gpu_gib, tokens, checkpointing=True, reference=False,
                vllm_share=0.4, logits=2**26):
    """What sharded training will hold on each GPU, in GiB. -> a text, a line an item

    tokens: of a micro-batch; logits: at once, as in hero.token_logprobs; vllm_share: of the GPU.
    Weights are counted exactly, from the configs; activations are estimated: bfloat16, 2 * hidden a
    token and layer kept with checkpointing, and 16 * hidden + 6 * feed-forward in the layer at work
    (in every layer without). Raises ValueError with advice if it cannot fit.
    """
    n, layer, config = parameters(AutoModelForCausalLM, policy)
    rm, _, _ = parameters(AutoModelForSequenceClassification, reward_model, num_labels=1)
    depth, hidden = config.num_hidden_layers, config.hidden_size
    at_work = tokens * (16 * hidden + 6 * config.intermediate_size) * 2
    kept = tokens * hidden * 2 * depth + at_work if checkpointing else at_work * depth
    root = n - depth * layer                        # embedding, norm, head: gathered as a whole
    gathered = 2 * (root + 2 * layer)
    items = {"master weights, float32, sharded": 4 * n / gpus, "Adam's moments": 8 * n / gpus,
             "reward model, bfloat16": 2 * rm,
             "reference, float32, sharded": 4 * n / gpus if reference else 0}
    update = {"gradients, float32, sharded": 4 * n / gpus,
              "gathered layers and head, bfloat16": gathered + 4 * root,
              "activations (estimate)": kept, "logits, float32, and their gradient": 12 * logits}
    vllm = {"vLLM: weights and KV cache": vllm_share * gpu_gib * 2**30}
    always, training, rollouts = (sum(part.values()) / 2**30 for part in (items, update, vllm))
    lines = [f"memory on each of {gpus} GPUs of {gpu_gib:.0f} GiB; update and rollouts take turns:"]
    lines += [f"  {size / 2**30:7.2f} GiB  {name}" for part in (items, update, vllm)
              for name, size in part.items() if size]
    peak = always + max(training, rollouts)
    lines.append(f"  {peak:7.2f} GiB  at the peak, during the "
                 f"{'update' if training > rollouts else 'rollouts'}")
    plan = "\n".join(lines)
    if 2 * n > vllm_share * gpu_gib * 2**30:
        raise ValueError(f"vLLM's share of {vllm_share * gpu_gib:.1f} GiB does not hold the "
                         f"policy's {2 * n / 2**30:.1f}: raise --gpu_memory_utilization\n{plan}")
    if peak > 0.95 * gpu_gib:
        advice = ("lower --gpu_memory_utilization" if rollouts > training else
                  "lower --max_tokens_per_microbatch")
        raise ValueError(f"this run needs {peak:.1f} GiB on GPUs of {gpu_gib:.1f}: take more GPUs, "
                         f"a smaller model, or {advice}\n{plan}")
    return plan
