"""Everything about many processes, and nothing about the method.

Process group and reductions, FSDP2 sharding, model loading and the memory plan, checkpoints,
seeds that do not depend on the number of ranks, clean exits. All functions also work in a single
process without torchrun.
"""

import hashlib
import math
import os
import pickle
import random
import shutil
import signal
import sys
import threading
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MethodType

import numpy
import torch
import torch.distributed as dist
import transformers
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from problems import first_line, read_jsonl, write_jsonl

# ---------------------------------------------------------------------------- ranks


@dataclass(frozen=True)
class Ranks:
    """This process among all of them."""
    rank: int
    world_size: int
    device: torch.device


def init():
    """Joins the process group that torchrun describes in the environment, or makes one of one.

    gloo on the CPU, nccl with one GPU per rank. Objects and barriers have a gloo group of their
    own: while one rank downloads, draws problems or waits for a judge, the others may wait for it
    for a day, where nccl ends them after half an hour. A rank that died ends them at once, since
    torchrun does, or its closed connection. On the CPU a process computes in one thread unless
    OMP_NUM_THREADS says otherwise: models that fit there gain little from more, lose much on a busy
    machine, and then give the same numbers whatever the number of cores. -> Ranks
    """
    rank = int(os.environ.get("RANK", 0))
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))

    check_driver()
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
        backend = "nccl"
    else:
        device = torch.device("cpu")
        backend = "gloo"
    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(1)

    if not dist.is_initialized():
        # Without a store the ranks meet at torchrun's.
        store = None if under_torchrun() else dist.HashStore()
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size,
                                timeout=timedelta(minutes=30))
        global objects_group
        objects_group = dist.new_group(backend="gloo", timeout=timedelta(days=1))
    return Ranks(rank, world_size, device)


def under_torchrun():
    """Whether torchrun has started this process. A vLLM engine sets RANK, too, but no address."""
    return {"RANK", "MASTER_ADDR"} <= os.environ.keys()


GPU_FILE = Path("/dev/nvidia0")                    # there is one if the machine has a GPU


def check_driver():
    """Raises OSError where there are GPUs that torch cannot use: a run on the CPU would take weeks.

    Whoever hides them, by CUDA_VISIBLE_DEVICES= (empty) or -1, wants the CPU.
    """
    are_hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if GPU_FILE.exists() and not are_hidden and not torch.cuda.is_available():
        built_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU alone"
        raise OSError(f"there is a GPU that torch cannot use: this torch is built for {built_for}, "
                      "and the NVIDIA driver has to be as new; update the driver, or install the "
                      "torch that requirements-gpu.txt brings, or hide the GPU with "
                      "CUDA_VISIBLE_DEVICES=-1 to run on the CPU")


objects_group = None                               # the gloo group that init() makes


def barrier():
    """Waits for all ranks."""
    dist.barrier(objects_group)


def all_sum(values):
    """Sum over ranks of a tensor or list of numbers, the same on all of them. -> float64 tensor"""
    total = torch.as_tensor(values, dtype=torch.float64)
    if dist.get_backend() == "nccl":
        total = total.cuda()
    dist.all_reduce(total)
    return total.cpu()


def gather_interleaved(items):
    """Joins the ranks' lists on all of them: item i of rank r becomes item i * world_size + r.

    The inverse of dealing a list out as items[rank::world_size]: on two ranks, ["a", "c", "e"] and
    ["b", "d"] give ["a", "b", "c", "d", "e"].
    """
    lists = [None] * dist.get_world_size()
    dist.all_gather_object(lists, items, objects_group)
    joined = []
    for i in range(len(lists[0])):
        for part in lists:
            if i < len(part):
                joined.append(part[i])
    return joined


def run_on_rank_0(function):
    """What function() returns on rank 0, given to all ranks. If it raises, all ranks end."""
    result, error = None, None
    if dist.get_rank() == 0:
        try:
            result = function()
        except BaseException as raised:
            error = raised
    shared = [result, error is not None]
    dist.broadcast_object_list(shared, group=objects_group)
    result, failed = shared
    if error is not None:
        raise error
    if failed:
        raise SystemExit(1)                        # rank 0 prints why
    return result


def derive_seed(*parts):
    """A 62-bit seed from numbers and strings, the same on every machine and in every process."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 2


# ---------------------------------------------------------------------------- starting and ending

SIGTERM_CAME = threading.Event()                   # set by the handler that run() installs


def sigterm_received():
    """Whether any rank has got a SIGTERM (preemption) since the start, the same on all ranks."""
    return all_sum([SIGTERM_CAME.is_set()]).item() > 0


def run(function):
    """Runs a script's main function and turns what goes wrong into one line and a non-zero exit.

    A ValueError or OSError raised by a line of this project is a message to the user. Anything else
    is a bug and keeps its traceback. Either way the rank is named, and the process ends at once, so
    that torchrun ends the others instead of leaving them in a collective.
    """
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    signal.signal(signal.SIGTERM, lambda *_: SIGTERM_CAME.set())
    try:
        function()
    except Exception as error:
        root = Path(__file__).parent
        raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        # An environment may lie in the project's folder; what it holds is not ours.
        is_ours = raised_in.is_relative_to(root) and "site-packages" not in raised_in.parts
        if not (is_ours and isinstance(error, ValueError | OSError)):
            traceback.print_exc()
        where = ""
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            where = f" (rank {os.environ['RANK']})"
        print(f"error{where}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    if dist.is_initialized():
        barrier()
        dist.destroy_process_group()


# ---------------------------------------------------------------------------- models


def from_pretrained(auto_class, name_or_path, **options):
    """auto_class.from_pretrained with one clear ValueError where there is no such model."""
    try:
        # Weights that are not safetensors are read by torch.load with weights_only=True.
        return auto_class.from_pretrained(name_or_path, trust_remote_code=False, **options)
    except (OSError, ValueError, pickle.UnpicklingError) as error:
        raise ValueError(f"cannot load {str(name_or_path)!r}: it is neither a directory that holds "
                         "a model and its tokenizer, nor a hub name that can be reached from here "
                         f"({first_line(error)})") from error


@contextmanager
def one_rank_at_a_time():
    """The ranks of each node run the block one after the other, to load a model.

    So a node needs host memory for one copy of it, not for one per rank, and the first rank
    downloads what the others then find in the hub's cache.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    turns = max(gather_interleaved([local_rank])) + 1
    for _ in range(local_rank):
        barrier()
    yield
    for _ in range(turns - local_rank):
        barrier()


def shard(model, function):
    """Shards a transformers language model over all ranks with FSDP2. -> function, bound to it

    One unit per decoder layer and one for the rest; float32 master weights, and on a GPU bfloat16
    compute with float32 reductions. The bound function takes the place of forward: when it runs,
    the weights are gathered. Gradients come out averaged over ranks. Call this before the optimizer
    is made. Library: https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
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


def gathered_tensors(model, dtype=None):
    """(name, whole tensor) of every weight, gathered one at a time. All ranks iterate in step.

    LoRA adapters are merged into the weights that they change, under the names of the base model.
    dtype: what each rank rounds its part to before it is sent; None for the weight's own.
    """
    if isinstance(model, FSDPModule):
        model.reshard()
    adapted = {path: m for path, m in model.named_modules() if hasattr(m, "merged_weight")}
    for name, tensor in model.state_dict().items():
        layer_name, _, parameter = name.rpartition(".")
        if layer_name in adapted and parameter in ("lora_a", "lora_b"):
            continue
        if layer_name in adapted and parameter == "weight":
            tensor = adapted[layer_name].merged_weight()
        tensor = tensor.to(dtype or tensor.dtype)
        yield name, tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def save_model(folder, model, tokenizer):
    """Writes a Hugging Face directory. All ranks call it; rank 0 writes.

    config.json, without which the directory cannot be loaded, comes last: what a kill leaves behind
    is not mistaken for a model.
    """
    weights = {}
    for name, tensor in gathered_tensors(model):
        if dist.get_rank() == 0:
            weights[name] = tensor.cpu()
    if dist.get_rank() == 0:
        temporary = Path(folder) / ".partial"
        shutil.rmtree(temporary, ignore_errors=True)
        model.save_pretrained(temporary, state_dict=weights)
        tokenizer.save_pretrained(temporary)
        for path in sorted(temporary.iterdir(), key=lambda path: path.name == "config.json"):
            os.replace(path, Path(folder) / path.name)
        temporary.rmdir()
    barrier()


def average_gradients(model):
    """Replaces every gradient by its mean over ranks, in one flat message."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if dist.get_world_size() == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, mean in zip(gradients, flat.split(sizes), strict=True):
        gradient.copy_(mean.view_as(gradient))


def clip_gradients(model, max_norm):
    """Averages gradients over ranks, unless FSDP has, and clips them. -> the true global norm"""
    if not isinstance(model, FSDPModule):
        average_gradients(model)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()
    return norm.item()


# ---------------------------------------------------------------------------- dealing rows to ranks


def microbatches(lengths, budget, count=1):
    """Row indices in groups with rows * longest <= budget; a row over the budget goes alone.

    At least `count` groups, if there are so many rows.
    """
    groups = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if not groups or (len(groups[-1]) + 1) * lengths[i] > budget:
            groups.append([])
        groups[-1].append(i)
    while len(groups) < min(count, len(lengths)):
        largest = max(range(len(groups)), key=lambda i: len(groups[i]))
        rows = groups[largest]
        groups[largest:largest + 1] = [rows[::2], rows[1::2]]
    return groups


def split_minibatch(lengths, world_size, budget):
    """Shares the rows of an optimizer step out. lengths: their tokens -> [rank][micro-batch][row]

    Under FSDP the ranks run their micro-batches in step, so all need equally many, and wait for the
    slowest in each. So the micro-batches are made of all ranks' rows, from the shortest to the
    longest, and dealt in turns: those that run at the same time are of about the same size.
    """
    needed = len(microbatches(lengths, budget))
    count = math.ceil(needed / world_size) * world_size

    # If that is more than needed, then all the smaller: the smallest budget that is enough.
    if count > needed:
        too_small = 0
        while budget - too_small > 1:
            middle = (too_small + budget) // 2
            if len(microbatches(lengths, middle)) <= count:
                budget = middle
            else:
                too_small = middle
    groups = microbatches(lengths, budget, count)
    return [groups[rank::world_size] for rank in range(world_size)]


def work_of(lengths, plan):
    """What a plan of split_minibatch costs. -> (real tokens, tokens with the padding, tokens that
    all ranks could have computed in the time): a rank waits for the slowest in each micro-batch."""
    padded = 0
    elapsed = 0
    for groups in zip(*plan, strict=True):                    # one of each rank, at the same time
        sizes = [len(rows) * max(lengths[i] for i in rows) for rows in groups]
        padded += sum(sizes)
        elapsed += max(sizes) * len(sizes)
    return sum(lengths), padded, elapsed


# ---------------------------------------------------------------------------- speed and memory

# Dense bfloat16 FLOP/s by the vendor's data sheets, by a part of the device's name. First match.
PEAK_FLOPS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12,
              "GH200": 989e12, "B200": 2250e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12,
              "RTX 4090": 165e12, "RTX 3090": 71e12}


def peak_flops(device_name):
    """Dense bfloat16 FLOP/s of a GPU by its name; None where it is not known."""
    for part, flops in PEAK_FLOPS.items():
        if part in device_name:
            return flops
    return None


def forward_flops(model, lengths):
    """Floating-point operations of a forward pass over rows of these lengths, padding left out.

    Two per weight and token, in the matrices that are multiplied with, and in causal attention
    2 * width * length^2 per layer.
    """
    config = model.config
    weights = sum(p.numel() for p in model.parameters())
    if not config.tie_word_embeddings:
        weights -= model.get_input_embeddings().weight.numel()      # a look-up, not a product
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = config.num_attention_heads * head * config.num_hidden_layers
    return sum(2 * weights * length + 2 * width * length**2 for length in lengths)


# ---------------------------------------------------------------------------- the memory plan


@dataclass
class Size:
    """What a model that is not loaded will be."""
    parameters: int
    layer_parameters: int                          # of one decoder layer
    layers: int
    hidden: int
    feed_forward: int
    vocabulary: int
    linear_widths: int                             # inputs plus outputs of a layer's linear layers


def model_size(auto_class, name_or_path, **options):
    """The Size of a model, from its config alone: its weights are neither read nor allocated."""
    config = from_pretrained(AutoConfig, name_or_path, **options)
    with torch.device("meta"):
        model = auto_class.from_config(config)

    def count(module):
        return sum(p.numel() for p in module.parameters())

    layer = model.base_model.layers[0]
    widths = [sum(m.weight.shape) for m in layer.modules() if isinstance(m, torch.nn.Linear)]
    return Size(count(model), count(layer), config.num_hidden_layers, config.hidden_size,
                config.intermediate_size, config.vocab_size, sum(widths))


# Bytes that PyTorch does not count: CUDA's context, NCCL's buffers, and vLLM's graphs, which stay
# while it sleeps.
OVERHEAD = 2.5 * 2**30


def gpu_memory_gib(device):
    """The memory of a GPU, in GiB."""
    return torch.cuda.get_device_properties(device).total_memory / 2**30


def activation_bytes(size, tokens, checkpointing):
    """An estimate of what a forward pass keeps, in bfloat16. size: a Size

    With checkpointing, the input of every layer, and all of the layer at work; without, all of
    every layer.
    """
    at_work = 2 * tokens * (16 * size.hidden + 6 * size.feed_forward)
    if checkpointing:
        return 2 * tokens * size.hidden * size.layers + at_work
    return at_work * size.layers


def training_memory_plan(size, gpus, gpu_gib, tokens, logit_tokens, checkpointing):
    """What prepare.py's training holds on each GPU, in GiB. -> a text, one item per line

    size: a Size. gpus: the GPUs that share the weights. tokens: of a forward pass; logit_tokens:
    those of them whose logits are computed. ValueError with advice if it cannot fit.
    """
    n = size.parameters
    root = n - size.layers * size.layer_parameters
    items = {"weights, gradients and Adam's moments, float32": 16 * n / gpus,
             "gathered layers, bfloat16": 2 * (root + 2 * size.layer_parameters) + 4 * root,
             "activations (estimate)": activation_bytes(size, tokens, checkpointing),
             "logits, float32, and their gradient": 12 * size.vocabulary * logit_tokens,
             "CUDA, communication, what vLLM keeps (estimate)": OVERHEAD}
    total = sum(items.values()) / 2**30
    lines = [f"memory for training on each of {gpus} GPUs of {gpu_gib:.0f} GiB, for the longest "
             "responses:"]
    for name, value in items.items():
        lines.append(f"  {value / 2**30:7.2f} GiB  {name}")
    lines.append(f"  {total:7.2f} GiB  in all")
    plan = "\n".join(lines)
    if total > 0.95 * gpu_gib:
        raise ValueError(f"training needs {total:.1f} GiB on GPUs of {gpu_gib:.1f}: take more "
                         "GPUs, lower --max_tokens or --rows_at_once, or leave gradient "
                         f"checkpointing on\n{plan}")
    return plan


def memory_plan(policy, reward_model, gpus, gpu_gib, tokens, checkpointing=True, reference=False,
                vllm_share=0.4, logits=2**26, lora_rank=0):
    """What training will hold on each GPU, in GiB. -> a text, one item per line

    tokens: of a micro-batch; logits: at once, as in hero.token_logprobs; vllm_share: of the GPU.
    lora_rank: 0 for all weights, sharded; with LoRA each GPU holds the whole base.
    Weights are counted exactly, from the configs. Activations are estimated, in bfloat16: with
    checkpointing, 2 * hidden bytes per token and layer are kept, and the layer at work needs
    16 * hidden + 6 * feed-forward numbers per token; without, every layer needs those.
    Raises ValueError with advice if it cannot fit.
    """
    actor = model_size(AutoModelForCausalLM, policy)
    critic = model_size(AutoModelForSequenceClassification, reward_model, num_labels=1)
    n = actor.parameters
    activations = activation_bytes(actor, tokens, checkpointing)

    # FSDP2 gathers the root (embedding, norm, head) as a whole, and two layers at a time.
    root = n - actor.layers * actor.layer_parameters
    gathered = 2 * (root + 2 * actor.layer_parameters)

    if lora_rank:
        trained = lora_rank * actor.layers * actor.linear_widths
        loaded = 2 * n
        always = {"base weights, bfloat16": loaded,
                  "LoRA adapters and Adam's moments, float32": 12 * trained}
        update = {"gradients of the adapters, float32": 4 * trained}
    else:
        trained = n
        loaded = 4 * n
        always = {"master weights, float32, sharded": 4 * n / gpus,
                  "Adam's moments": 8 * n / gpus}
        update = {"gradients, float32, sharded": 4 * n / gpus,
                  "gathered layers and head, bfloat16": gathered + 4 * root}
    always["reward model, bfloat16"] = 2 * critic.parameters
    always["CUDA, communication, what vLLM keeps (estimate)"] = OVERHEAD
    if reference:
        always["reference, float32, sharded"] = 4 * n / gpus
    update |= {"activations (estimate)": activations,
               "logits, float32, and their gradient": 12 * logits}
    rollouts = {"vLLM: weights and KV cache": vllm_share * gpu_gib * 2**30}

    # The update and the rollouts take turns, so the larger of the two decides. Scoring takes a turn
    # of its own, with less than the update: what one layer of the reward model needs.
    update_gib = sum(update.values()) / 2**30
    rollouts_gib = sum(rollouts.values()) / 2**30
    peak = sum(always.values()) / 2**30 + max(update_gib, rollouts_gib)
    at_peak = "update" if update_gib > rollouts_gib else "rollouts"

    lines = [f"memory on each of {gpus} GPUs of {gpu_gib:.0f} GiB; update and rollouts take turns:"]
    for name, size in (always | update | rollouts).items():
        lines.append(f"  {size / 2**30:7.2f} GiB  {name}")
    lines.append(f"  {peak:7.2f} GiB  at the peak, during the {at_peak}")

    # A node's own memory holds one model while it is loaded, and vLLM's weights while it sleeps.
    largest = max(loaded, 2 * critic.parameters) / 2**30
    lines.append(f"of each node's memory: {largest:.1f} GiB while models are loaded, one at a "
                 f"time; {2 * n / 2**30:.1f} GiB per GPU while vLLM sleeps; on the first node "
                 f"{12 * trained / 2**30:.1f} GiB while a checkpoint is written")
    lines.append(f"of the disk: {36 * trained / 2**30:.1f} GiB for two checkpoints and one that is "
                 f"being written, {loaded / 2**30:.1f} GiB for final/")
    plan = "\n".join(lines)

    if 2 * n > vllm_share * gpu_gib * 2**30:
        raise ValueError(f"vLLM's share of {vllm_share * gpu_gib:.1f} GiB does not hold the "
                         f"policy's {2 * n / 2**30:.1f}: raise --gpu_memory_utilization\n{plan}")
    if peak > 0.95 * gpu_gib:
        advice = {"update": "lower --max_tokens_per_microbatch",
                  "rollouts": "lower --gpu_memory_utilization"}[at_peak]
        raise ValueError(f"this run needs {peak:.1f} GiB on GPUs of {gpu_gib:.1f}: take more GPUs, "
                         f"a smaller model, or {advice}\n{plan}")
    return plan


# ---------------------------------------------------------------------------- checkpoints


def save_checkpoint(path, model, optimizer, state, keep=2):
    """Saves weights, optimizer, each rank's random state and `state` as the folder `path`.

    All ranks call it. The files are written to a temporary folder, flushed to the disk, and
    renamed: `path` is whole or not there. Only the `keep` newest folders stay. An OSError (a full
    disk) leaves the older ones as they are. Rank 0's machine holds all of it in memory: 12 bytes
    per trained weight.
    """
    path = Path(path)
    rank = dist.get_rank()
    temporary = path.with_name(f".{path.name}.partial")
    if rank == 0:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    barrier()

    training = training_state(model, optimizer)
    try:
        save_to_disk(random_state(), temporary / f"random_{rank}.pt")
        if rank == 0:
            save_to_disk(training, temporary / "training.pt")
            save_to_disk(state, temporary / "state.pt")
    except (OSError, RuntimeError) as error:
        raise OSError(f"the checkpoint {path} could not be written ({first_line(error)}): make "
                      "room, then resume from the previous one with --resume") from error
    barrier()

    if rank == 0:
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
        for old in checkpoints(path.parent)[:-keep]:
            shutil.rmtree(old)
    barrier()


def training_state(model, optimizer):
    """The trained weights, by name, and the optimizer's state, whole, on the CPU of rank 0.

    -> {"weights": {name: tensor}, "optimizer": {index of a parameter: {key: tensor}}}

    What is frozen, under LoRA the base, is left out. An optimizer that has not taken a step has no
    state, and none is made up for it: saving never changes the run.
    """
    if isinstance(model, FSDPModule):
        model.reshard()

    def whole(tensor):
        tensor = tensor.detach()
        if isinstance(tensor, DTensor):
            tensor = tensor.full_tensor()                      # a collective: all ranks gather
        return tensor.cpu() if dist.get_rank() == 0 else None

    weights = {name: whole(p) for name, p in model.named_parameters() if p.requires_grad}
    moments = {}
    for index, entries in optimizer.state_dict()["state"].items():
        moments[index] = {key: whole(value) for key, value in entries.items()}
    return {"weights": weights, "optimizer": moments}


def restore_training_state(model, optimizer, saved):
    """Copies what training_state has gathered into a model and its optimizer.

    Every rank reads the whole and keeps its own shard, so the number of ranks may be another.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if saved["weights"].keys() != trained.keys():
        raise ValueError("it holds other weights than those that this run trains")

    def shard_of(tensor, parameter):
        tensor = tensor.to(parameter.device, copy=True)
        if tensor.ndim == 0 or not isinstance(parameter, DTensor):    # a count of steps is whole
            return tensor
        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements,
                                 src_data_rank=None)

    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(shard_of(saved["weights"][name], parameter))
    moments = {}
    for index, parameter in enumerate(trained.values()):
        if index in saved["optimizer"]:
            moments[index] = {key: shard_of(value, parameter)
                              for key, value in saved["optimizer"][index].items()}
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


def save_to_disk(content, path):
    """torch.save that returns when the bytes are on the disk."""
    with open(path, "wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())


def checkpoints(folder):
    """The whole checkpoints in a folder, oldest first."""
    return sorted(path for path in Path(folder).glob("step_*") if path.is_dir())


def load_checkpoint(folder, model, optimizer):
    """Loads the newest readable checkpoint in `folder`, made on any number of ranks. -> its state

    None if there is none. One that cannot be read is announced and skipped in favor of the previous
    one. This rank's random state is restored; a rank that the saved run did not have keeps its own.
    Nothing in the files is executed: weights_only admits tensors and plain data alone.
    """
    found = run_on_rank_0(lambda: checkpoints(folder))
    for path in reversed(found):
        error = None
        try:
            state = torch.load(path / "state.pt", weights_only=True)
            own = path / f"random_{dist.get_rank()}.pt"
            saved_random_state = torch.load(own, weights_only=True) if own.exists() else None
            # mmap: a rank never holds the whole file in memory.
            training = torch.load(path / "training.pt", mmap=True, map_location="cpu",
                                  weights_only=True)
            restore_training_state(model, optimizer, training)
        except Exception as raised:
            error = raised

        # If one rank cannot read it, no rank takes it.
        if not all_sum([error is not None]).item():
            if saved_random_state:
                set_random_state(saved_random_state)
            return state
        if dist.get_rank() == 0:
            reason = first_line(error) if error else "on another rank"
            print(f"the checkpoint {path} cannot be read ({reason}): falling back to the previous "
                  "one", flush=True)
    if found:
        raise OSError(f"none of the {len(found)} checkpoints in {folder} can be read: start a new "
                      "run; on several nodes, runs/ has to be on a disk that all of them share")
    return None


def random_state():
    """The state of this process's global random number generators, as tensors and plain data.

    Of the GPUs only the process's own: another node may have another number of them.
    """
    kind, keys, *rest = numpy.random.get_state()
    state = {"python": random.getstate(), "numpy": (kind, keys.tolist(), *rest),
             "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state):
    random.setstate(state["python"])
    numpy.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])


def truncate_log(path, step):
    """Cuts a run's JSONL log back to what it held after `step`; a torn last line goes too.

    -> the rows that stay, on all ranks. Rank 0 alone reads and writes the file.
    """
    def truncate():
        rows = []
        if Path(path).exists():
            rows = [row for _, row in read_jsonl(path, skip_torn=True) if row["step"] <= step]
        write_jsonl(path, rows)
        return rows

    return run_on_rank_0(truncate)
