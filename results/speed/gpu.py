"""What one GPU makes of this code: speed, memory, both engines, and the memory plans of configs/.

    python results/speed/gpu.py         at most ten minutes on one H100 or H200; no download
    python results/speed/gpu.py plans   which of configs/ fits on which card; a minute, no GPU

The first writes gpu.md and gpu.json beside this file. Without a GPU it runs the same code at toy
size, which says nothing about speed, and writes into runs/. The second writes plans.md. Models have
the shapes of the configs' and random weights, so their responses are as long as they may be. The
tokenizer is the tiny world's; the other ids of the vocabulary are words that it does not know.

Each measurement is a function, and runs in a process of its own. One that fails or takes too long
is named in gpu.md with its error, and the others go on.
"""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import Pipe, get_context
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.utils.logging import disable_progress_bar

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT))
import distributed  # noqa: E402
import hero  # noqa: E402
import run  # noqa: E402
import tiny  # noqa: E402
from distributed import gathered_tensors, gpu_memory_gib  # noqa: E402
from problems import write_file  # noqa: E402
from results.speed.speed import (  # noqa: E402
    GIB,
    installed,
    naive_logprobs,
    software,
    table,
)
from rewards import RewardModel  # noqa: E402
from rollout import Rollout, SamplingParams, load_tokenizer, make_engine  # noqa: E402
from settings import Parser  # noqa: E402

SECONDS = 590                                      # for everything
ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
BEST_ENGINE = "vllm" if ON_GPU and installed("vllm") else "transformers"

# ---------------------------------------------------------------------------- models

QWEN3 = {"head_dim": 128, "num_key_value_heads": 8, "vocab_size": 151_936,
         "max_position_embeddings": 32_768, "tie_word_embeddings": True}

# The shapes of the models of configs/, as the hub has them.
SHAPES = {
    "Qwen/Qwen3-0.6B-Base": (Qwen3Config, QWEN3 | {
        "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16}),
    "Qwen/Qwen3-1.7B-Base": (Qwen3Config, QWEN3 | {
        "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28,
        "num_attention_heads": 16}),
    "Qwen/Qwen3-4B-Base": (Qwen3Config, QWEN3 | {
        "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
        "num_attention_heads": 32}),
    "OctoThinker/OctoThinker-8B-Hybrid-Base": (LlamaConfig, {
        "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256,
        "max_position_embeddings": 8192}),
    "nvidia/AceMath-7B-RM": (Qwen2Config, {
        "hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152_064,
        "max_position_embeddings": 4096}),
}
OWN_REWARD_MODEL = "Qwen/Qwen3-0.6B-Base"         # what `reward_model` is made from, docs/gpu.md
TOY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
       "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 512,
       "max_position_embeddings": 512}


def shape_of(name, toy=not ON_GPU, **changes):
    """The config of a model of that name; without a GPU that of a tiny one of the same kind."""
    config_class, settings = SHAPES[name]
    if toy:
        settings = settings | TOY
    tokenizer = tiny.make_tokenizer()
    tokens = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id,
              "pad_token_id": tokenizer.pad_token_id}
    return config_class(**settings | tokens | changes)


def random_model(work, name, auto_class=AutoModelForCausalLM):
    """A directory in `work` with a model of random weights, in bfloat16, made once. -> its path"""
    folder = work / auto_class.__name__ / name
    if not folder.exists():
        labels = {"num_labels": 1} if auto_class is AutoModelForSequenceClassification else {}
        torch.manual_seed(0)
        with DEVICE:
            model = auto_class.from_config(shape_of(name, **labels), dtype=torch.bfloat16)
        unfinished = folder.with_name(f".{folder.name}.partial")
        model.save_pretrained(unfinished)
        tiny.make_tokenizer().save_pretrained(unfinished)
        unfinished.rename(folder)
        del model
        torch.cuda.empty_cache()                   # vLLM asks the driver what is free
    return str(folder)


def config_of(name, model_of, **settings):
    """The Config of configs/NAME.toml whose models are the directories that model_of makes.

    model_of: a function of a hub name and a transformers class of models.
    """
    cfg = hero.Config(**run.settings_to_start_from(hero.Config, name) | settings)
    reward_model = cfg.reward_model
    if reward_model == "reward_model":
        reward_model = OWN_REWARD_MODEL
    return replace(cfg, policy=model_of(cfg.policy, AutoModelForCausalLM),
                   reward_model=model_of(reward_model, AutoModelForSequenceClassification))


def short_prompts(tokenizer, count):
    """Prompts of about ten tokens, all of them different. -> lists of token ids"""
    return [tokenizer(f"compute {i}+2*3", add_special_tokens=False)["input_ids"]
            for i in range(100, 100 + count)]


def random_rollouts(count, tokens, vocabulary):
    """`count` Rollouts of `tokens` tokens each, a few of them the prompt's."""
    generator = torch.Generator().manual_seed(0)
    rollouts = []
    for _ in range(count):
        ids = torch.randint(5, vocabulary, (tokens,), generator=generator).tolist()
        logprobs = [-8.0] * (tokens - 8)
        rollouts.append(Rollout(ids[:8], ids[8:], logprobs, True))
    return rollouts


# ---------------------------------------------------------------------------- time, memory, work


def timed(function, *arguments):
    """Calls the function. -> (what it returns, the seconds until the GPU has done its work, too)"""
    if ON_GPU:
        torch.cuda.synchronize()
    started = time.perf_counter()
    result = function(*arguments)
    if ON_GPU:
        torch.cuda.synchronize()
    return result, time.perf_counter() - started


def peak_gib():
    """The most that torch has had allocated since reset_peak; None without a GPU."""
    return torch.cuda.max_memory_allocated() / GIB if ON_GPU else None


def reset_peak():
    """Forgets the peak so far. -> what is allocated now, in GiB; None without a GPU"""
    if not ON_GPU:
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated() / GIB


def used_gib():
    """What the driver says that this process and its CUDA context hold; None without a GPU."""
    if not ON_GPU:
        return None
    free, total = torch.cuda.mem_get_info()
    return (total - free) / GIB


def product_rate():
    """Floating-point operations per second of a large product of matrices, in bfloat16 on a GPU:
    what it reaches at best."""
    size = 8192 if ON_GPU else 256
    dtype = torch.bfloat16 if ON_GPU else torch.float32
    a = torch.randn(size, size, device=DEVICE, dtype=dtype)
    seconds = [timed(torch.matmul, a, a)[1] for _ in range(20)]
    return 2 * size**3 / statistics.median(seconds[5:])


def memory_plan(cfg, gpus, gpu_gib):
    """The plan that a run prints, as text. ValueError if the run is refused."""
    return run.plan_memory(cfg, gpus, gpu_gib, with_reference=cfg.kl_coef > 0)


def planned_gib(cfg, parts):
    """The sum of the items of a memory plan, on one GPU, whose names begin with one of `parts`."""
    plan = memory_plan(cfg, gpus=1, gpu_gib=10_000)
    items = re.findall(r"^ +([\d.]+) GiB  (.+)$", plan, re.M)
    return sum(float(gib) for gib, name in items if name.startswith(parts))


def planned_peak(cfg, gpus, gpu_gib):
    """The peak of a memory plan, in GiB; None where the run is refused."""
    try:
        plan = memory_plan(cfg, gpus, gpu_gib)
    except ValueError:
        return None
    return float(re.search(r"([\d.]+) GiB  at the peak", plan)[1])


# What is in memory during an update without reward model and engine, as the plan calls it.
OF_AN_UPDATE = ("master", "Adam", "base", "LoRA", "gradients", "gathered", "activations", "logits")


# ---------------------------------------------------------------------------- the measurements
#
# Each returns a list of rows, {column: value}. `work` is a folder that they share.


def tiny_runs(work):
    """hero.py from the command line, in a laptop world that has hardly been trained."""
    folder = work / "tiny"
    tiny.build(folder / "runs" / "world-0", seed=0, sft_steps=30, rm_steps=5, problems=40,
               held_out_problems=10)
    small = ["--steps", "3", "--prompts_per_step", "4", "--rollouts_per_prompt", "4",
             "--num_minibatches", "2", "--eval_every", "3", "--eval_samples", "1", "--engine",
             BEST_ENGINE]
    runs = {
        "all weights": ["--name", "full", *small],
        "resumed": ["--resume", "--name", "full", "--steps", "4"],
        "LoRA, transformers' engine": ["--name", "lora", *small, "--lora_rank", "4", "--engine",
                                       "transformers"],
    }
    rows = []
    for name, arguments in runs.items():
        # A run as a user starts it, to its end.
        result, seconds = timed(partial(
            subprocess.run, [sys.executable, str(ROOT / "hero.py"), *arguments], cwd=folder,
            capture_output=True, text=True))
        if result.returncode:
            raise RuntimeError(f"{name}: {result.stderr[-200:]}")

        # What it has left: its log, and a model that can be loaded.
        left = folder / "runs" / arguments[arguments.index("--name") + 1]
        last = json.loads((left / "metrics.jsonl").read_text().splitlines()[-1])
        AutoModelForCausalLM.from_pretrained(left / "final")
        rows.append({"run": name, "seconds, with the start": seconds, "steps": last["step"],
                     "logprob_gap": last["rollout/logprob_gap"],
                     "gradient_norm": last["policy/gradient_norm"]})
    return rows


def update_speed(work, name, lora_rank):
    """hero.update on rows of 4,096 and 8,192 tokens: one optimizer step of 32,768.

    MFU is the share of what the card's data sheet promises, and where that is not known, of what a
    large product of matrices reaches.
    """
    cfg = config_of(name, partial(random_model, work), lora_rank=lora_rank, num_minibatches=1)
    lengths = [4096, 8192]
    if not ON_GPU:
        lengths = [64, 128]
        cfg = replace(cfg, max_tokens_per_microbatch=256)

    # The policy and its optimizer, without reward model and engine.
    ranks = distributed.init()
    policy, logprobs = run.load_policy(cfg, ranks, hero.token_logprobs)
    models = run.Models(load_tokenizer(cfg.policy), policy, logprobs, None, None, None)
    optimizer = run.make_optimizer(cfg, policy)
    product = product_rate()
    peak = ON_GPU and distributed.peak_flops(torch.cuda.get_device_name())

    rows = []
    for length in lengths:
        rollouts = random_rollouts(4 * lengths[1] // length, length, policy.config.vocab_size)
        step = partial(hero.update, cfg, ranks, models, optimizer, rollouts,
                       torch.linspace(-1, 1, len(rollouts)))
        step()                                     # warms up, and makes Adam's moments
        reset_peak()
        seconds = min(timed(step)[1] for _ in range(2))

        # What run.performance counts: forward, and back to the inputs, and to all weights.
        passes = 2 if lora_rank else 3
        done = passes * distributed.forward_flops(policy, [length] * len(rollouts)) / seconds
        rows.append({
            "model": name, "trained": f"LoRA {lora_rank}" if lora_rank else "all weights",
            "tokens per row": length, "tokens/s": len(rollouts) * length / seconds,
            "TFLOP/s": done / 1e12, "MFU": done / (peak or product),
            "TFLOP/s of a product": product / 1e12, "peak, GiB": peak_gib(),
            "planned, GiB": planned_gib(cfg, OF_AN_UPDATE)})
    return rows


def liger_logprobs(model, ids, mask):
    """Liger's fused linear cross-entropy: its loss is minus the sum of the log-probabilities."""
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss
    hidden = model.base_model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    loss = LigerFusedLinearCrossEntropyLoss(reduction="sum")
    return -loss(model.lm_head.weight, hidden.flatten(0, 1), ids[:, 1:].flatten())


def trl_logprobs(model, ids, mask):
    """The fused head that TRL's trainers give their models."""
    from trl.trainer import add_fused_lm_head
    if not hasattr(model, "has_fused_head"):
        add_fused_lm_head(model)
        model.has_fused_head = True
    return model(input_ids=ids, labels=ids, fused_lm_head=True).log_probs


LOGPROBS = {"naive": naive_logprobs, "token_logprobs": hero.token_logprobs, "TRL": trl_logprobs,
            "Liger": liger_logprobs}


def logprob_speed(work, form):
    """Forward and backward of the output head of Qwen3-4B over a body of almost nothing."""
    config = shape_of("Qwen/Qwen3-4B-Base", num_hidden_layers=1, intermediate_size=128)
    torch.manual_seed(0)
    with DEVICE:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)

    def forward_and_backward(ids):
        """-> the mean log-probability"""
        model.zero_grad(set_to_none=False)
        total = LOGPROBS[form](model, ids, torch.ones_like(ids)).sum()
        total.backward()
        return total.item() / (ids.shape[1] - 1)

    rows = []
    for length in (2048, 8192) if ON_GPU else (32, 64):
        ids = torch.randint(config.vocab_size, (1, length + 1), device=DEVICE)            # (1, T)
        mean = forward_and_backward(ids)           # allocates the gradients
        before = reset_peak()
        seconds = min(timed(forward_and_backward, ids)[1] for _ in range(3))
        rows.append({"form": form, "tokens": length, "vocabulary": config.vocab_size,
                     "milliseconds": 1000 * seconds,
                     "peak above the model, GiB": peak_gib() - before if ON_GPU else None,
                     "mean log-probability": mean})
    return rows


def reward_model_speed(work):
    """RewardModel.score on responses of 512 and 2,048 tokens; a digit is a token."""
    name = "nvidia/AceMath-7B-RM"
    reward_model = RewardModel(random_model(work, name, AutoModelForSequenceClassification), DEVICE,
                               torch.bfloat16 if ON_GPU else torch.float32, max_tokens=16_384)
    reset_peak()
    rows = []
    for length in (512, 2048) if ON_GPU else (32, 64):
        count = 64 if ON_GPU else 4
        responses = ["7" * length] * count
        prompts = ["1+2"] * count
        reward_model.score(prompts[:8], responses[:8])
        _, seconds = timed(reward_model.score, prompts, responses)
        rows.append({"model": name, "tokens per response": length,
                     "responses/s": count / seconds, "tokens/s": count * length / seconds,
                     "peak, GiB": peak_gib()})
    return rows


def rollout_speed(work, kind):
    """generate of one engine, 64 prompts x 8 responses of 256 tokens; a push, and what it does.

    The gap is the mean distance of the engine's log-probabilities from the trainer's, before and
    after a push of weights that are a little different.
    """
    path = random_model(work, "Qwen/Qwen3-0.6B-Base")
    tokenizer = load_tokenizer(path)
    engine = make_engine(kind, path, tokenizer, gpu_memory_utilization=0.5)
    count, tokens = (64, 256) if ON_GPU else (4, 16)
    prompts = short_prompts(tokenizer, count)
    params = SamplingParams(tokens)

    # Speed; a short generation first warms up.
    engine.generate(prompts[:4], 8, SamplingParams(8), seed=0)
    rollouts, seconds = timed(engine.generate, prompts, 8, params, 1)
    made = sum(len(rollout.response_ids) for rollout in rollouts)
    _, sleep = timed(engine.sleep)
    _, wake = timed(engine.wake)

    # The gap to a policy of the same weights, then of others, and after these were pushed.
    dtype = torch.bfloat16 if ON_GPU else torch.float32
    policy = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).to(DEVICE).eval()
    before = logprob_gap(policy, rollouts[:32])
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.05)
    stale = logprob_gap(policy, rollouts[:32])
    engine.sleep()
    _, push = timed(engine.update_weights, gathered_tensors(policy))
    after = logprob_gap(policy, engine.generate(prompts[:4], 8, params, seed=2))
    engine.close()
    return [{"engine": kind, "rollouts/s": len(rollouts) / seconds, "tokens/s": made / seconds,
             "sleep, s": sleep, "wake, s": wake, "push, s": push, "gap, nats": before,
             "gap of stale weights": stale, "gap after the push": after}]


@torch.no_grad()
def logprob_gap(policy, rollouts):
    """Mean |log-probability of the engine minus that of the policy| over the responses, in nats."""
    batch = hero.to_micro_batch(rollouts, torch.zeros(len(rollouts)), DEVICE)
    difference = hero.token_logprobs(policy, batch.ids, batch.mask) - batch.engine_logp
    return (difference.abs().sum() / batch.mask.sum()).item()


def one_step(cfg, models, optimizer, prompts):
    """A step of hero.train without verifier and log. -> (a row per phase, numbers of the update)"""
    rows = []

    def lap(phase, function, *arguments):
        result, seconds = timed(function, *arguments)
        rows.append({"phase": phase, "seconds": seconds, "used, GiB": used_gib()})
        return result

    engine = models.engine
    rollouts = lap("generate", engine.generate, prompts, cfg.rollouts_per_prompt,
                   SamplingParams(cfg.max_response_tokens), 0)
    lap("sleep", engine.sleep)

    # The responses are no text that the tokenizer knows, so the scored ones are as many digits.
    digits = ["7" * len(rollout.response_ids) for rollout in rollouts]
    lap("reward model", models.reward_model.score, ["1+2"] * len(digits), digits)
    stats = lap("update", hero.update, cfg, distributed.init(), models, optimizer, rollouts,
                torch.linspace(-1, 1, len(rollouts)))
    lap("push", run.push_weights, models)
    lap("wake", engine.wake)
    return rows, stats


def whole_step(work, name, prompts_per_step):
    """The phases of a step of hero.train with a config's models and responses of 512 tokens."""
    cfg = config_of(name, partial(random_model, work), prompts_per_step=prompts_per_step,
                    max_response_tokens=512, engine=BEST_ENGINE)
    if not ON_GPU:
        cfg = replace(cfg, prompts_per_step=4, max_response_tokens=16,
                      max_tokens_per_microbatch=256)
    tokenizer = load_tokenizer(cfg.policy)
    models = run.load_models(cfg, distributed.init(), tokenizer, hero.token_logprobs)
    optimizer = run.make_optimizer(cfg, models.policy)
    prompts = short_prompts(tokenizer, cfg.prompts_per_step)

    one_step(replace(cfg, max_response_tokens=16), models, optimizer, prompts)       # warms up
    phases, stats = one_step(cfg, models, optimizer, prompts)
    models.engine.close()

    total = sum(row["seconds"] for row in phases)
    rows = [{"config": name, **row, "share": row["seconds"] / total} for row in phases]
    rollouts = len(prompts) * cfg.rollouts_per_prompt
    rows.append({"config": name, "phase": f"all, {rollouts / total:.3g} rollouts/s",
                 "seconds": total, "gap, nats": stats["rollout/logprob_gap"]})
    if ON_GPU:
        rows[-1]["used, GiB"] = max(row["used, GiB"] for row in phases)
        rows[-1]["planned, GiB"] = planned_peak(cfg, 1, gpu_memory_gib(DEVICE))
    return rows


@dataclass(frozen=True)
class Measurement:
    """One line of the program; those of the same title share a table."""
    title: str
    function: Callable                             # (work, *arguments) -> rows
    arguments: tuple = ()
    needs: str = ""                                # a package, without which it is left out


# The most important first: the last are left out when the time is over.
MEASUREMENTS = {
    "update-0.6b": Measurement("The update", update_speed, ("qwen3-0.6b", 0)),
    "update-0.6b-lora": Measurement("The update", update_speed, ("qwen3-0.6b", 32)),
    "update-4b": Measurement("The update", update_speed, ("qwen3-4b", 0)),
    "update-4b-lora": Measurement("The update", update_speed, ("qwen3-4b", 32)),
    "logprobs-naive": Measurement("Log-probabilities", logprob_speed, ("naive",)),
    "logprobs": Measurement("Log-probabilities", logprob_speed, ("token_logprobs",)),
    "logprobs-trl": Measurement("Log-probabilities", logprob_speed, ("TRL",), needs="trl"),
    "logprobs-liger": Measurement("Log-probabilities", logprob_speed, ("Liger",),
                                  needs="liger-kernel"),
    "tiny": Measurement("The laptop world from the command line", tiny_runs),
    "step-0.6b": Measurement("A whole step", whole_step, ("qwen3-0.6b", 64)),
    "rollouts-vllm": Measurement("Rollouts", rollout_speed, ("vllm",), needs="vllm"),
    "rollouts-transformers": Measurement("Rollouts", rollout_speed, ("transformers",)),
    "reward-model": Measurement("The reward model", reward_model_speed),
    "step-4b-lora": Measurement("A whole step", whole_step, ("qwen3-4b-lora", 32)),
}


# ---------------------------------------------------------------------------- running them


def measure_here(name, work, answer):
    """One measurement, in a process of its own, which sends {"rows"} or {"error"} to `answer`."""
    os.setsid()                                    # to be ended with all that it starts
    disable_progress_bar()
    measurement = MEASUREMENTS[name]
    try:
        answer.send({"rows": measurement.function(work, *measurement.arguments)})
    except Exception as error:
        message = " ".join(str(error).split())
        answer.send({"error": f"{type(error).__name__}: {message[:300]}"})


def measure(name, work, seconds):
    """Runs one measurement, for so many seconds at most. -> {"seconds"} with "rows" or "error" """
    started = time.perf_counter()
    receiver, sender = Pipe(duplex=False)
    process = get_context("spawn").Process(target=measure_here, args=(name, work, sender))
    process.start()
    sender.close()                                 # the other end alone keeps the pipe open

    try:
        result = {"error": f"stopped after {seconds:.0f} seconds"}
        if receiver.poll(seconds):
            result = receiver.recv()
            process.join(10)                       # an engine that cannot end has measured, too
    except EOFError:
        process.join()
        result = {"error": f"its process died, with exit code {process.exitcode}"}
    finally:
        process.kill()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
    return result | {"seconds": time.perf_counter() - started}


def measure_all(names):
    """-> {name: the result of measure}, in at most SECONDS"""
    started = time.perf_counter()
    results = {}
    with tempfile.TemporaryDirectory() as work:
        for name in names:
            needs = MEASUREMENTS[name].needs
            left = SECONDS - (time.perf_counter() - started)
            if needs and not installed(needs):
                results[name] = {"seconds": 0.0, "error": f"not run: {needs} is not installed"}
            elif left < 20:
                results[name] = {"seconds": 0.0, "error": "not run: the time is over"}
            else:
                results[name] = measure(name, Path(work), left)
            print(f"{name}: {results[name].get('error', 'done')} "
                  f"({results[name]['seconds']:.0f} s)", flush=True)
    return results


# ---------------------------------------------------------------------------- what is written


def page(results, where):
    """gpu.md as one text. where: the machine and the versions, in words."""
    lines = ["# One GPU", "", where, "", "    python results/speed/gpu.py"]
    for title in dict.fromkeys(m.title for m in MEASUREMENTS.values()):
        names = [name for name in results if MEASUREMENTS[name].title == title]
        if not names:
            continue
        docstring = MEASUREMENTS[names[0]].function.__doc__
        lines += ["", f"## {title}", "", " ".join(docstring.split()), ""]

        rows = [row for name in names for row in results[name].get("rows", [])]
        failed = [name for name in names if "error" in results[name]]
        if rows:
            lines += [*table(rows), ""]
        lines += [f"- `{name}`: {results[name]['error']}" for name in failed]
    return "\n".join(lines).rstrip() + "\n"


def describe_machine():
    """The device and the versions, as one sentence."""
    device = "a CPU at toy size: these numbers say that the code runs, and nothing about its speed"
    if ON_GPU:
        device = f"{torch.cuda.get_device_name()}, {gpu_memory_gib(DEVICE):.1f} GiB"
    packages = software("torch", "transformers", "vllm", "trl", "liger-kernel")
    return f"Measured on {device}; {packages}."


# ---------------------------------------------------------------------------- the configs' plans

CARDS = {"24 GB": 23.5, "48 GB": 47.4, "80 GB": 79.1, "141 GB": 139.8}          # GiB that CUDA sees


def write_plans(out):
    """plans.md: which of configs/ fits on which cards, and the plans of those for one card."""
    with tempfile.TemporaryDirectory() as work:
        def shape_alone(name, _):
            """A directory with a model's config, without weights."""
            shape_of(name, toy=False).save_pretrained(Path(work) / name)
            return str(Path(work) / name)

        names = sorted(path.stem for path in (ROOT / "configs").glob("*.toml"))
        configs = {name: config_of(name, shape_alone) for name in names}
        rows = []
        for name, cfg in configs.items():
            row = {"peak in GiB, of each card": f"`{name}`"}
            for gpus in (1, 8):
                for card, gib in CARDS.items():
                    peak = planned_peak(cfg, gpus, gib)
                    row[f"{gpus} x {card}"] = "no" if peak is None else f"{peak:.0f}"
            rows.append(row)

        lines = table(rows)
        lines += ["", "no: the run refuses to start.", "", "    python results/speed/gpu.py plans"]
        for name, card in (("qwen3-0.6b", "24 GB"), ("qwen3-1.7b-lora", "24 GB"),
                           ("qwen3-4b-lora", "80 GB")):
            plan = memory_plan(configs[name], 1, CARDS[card])
            lines += ["", f"`{name}`:", "", "```", *plan.splitlines(), "```"]
    write_file(out / "plans.md", "\n".join(lines) + "\n")


# ---------------------------------------------------------------------------- the command line


def main():
    parser = Parser(prog="results/speed/gpu.py", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["measure", "plans"], default="measure")
    parser.add_argument("--out", type=Path, help="folder of the files that are written")
    parser.add_argument("--names", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS),
                        metavar="NAME", help="only these: " + ", ".join(MEASUREMENTS))
    args = parser.parse_args()
    if args.what == "plans":
        write_plans(args.out or HERE)
        return

    out = args.out or (HERE if ON_GPU else Path("runs"))
    out.mkdir(parents=True, exist_ok=True)
    results = measure_all(args.names)
    where = describe_machine()
    write_file(out / "gpu.json", json.dumps({"where": where, "results": results}, indent=1) + "\n")
    text = page(results, where)
    write_file(out / "gpu.md", text)
    print(text)


if __name__ == "__main__":
    distributed.run(main)
