"""What one GPU makes of this code: speed, memory, both engines, and the plans of the presets.

    python results/gpu.py             at most ten minutes on one H100 or H200; no download
    python results/gpu.py plans       which card each preset fits on; a minute, no GPU

The first writes gpu.md and gpu.json beside this file. Without a GPU it runs the same code at toy
size, which says nothing about speed, and writes into runs/. The second writes plans.md. Models have
the shapes of the presets' and random weights, so their responses are as long as they may be. The
tokenizer is the tiny world's; the other ids of the vocabulary are words that it does not know.

Each measurement is a function, and runs in a process of its own. One that fails or takes too long
is named in gpu.md with its error, and the others go on.
"""

import argparse
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
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import distributed  # noqa: E402
import hero  # noqa: E402
import tiny  # noqa: E402
from distributed import gathered_tensors, gpu_memory_gib  # noqa: E402
from problems import write_file  # noqa: E402
from results.logprob_memory import naive_logprobs  # noqa: E402
from rewards import RewardModel  # noqa: E402
from rollout import Rollout, SamplingParams, load_tokenizer, make_engine  # noqa: E402


def installed(package):
    """The version of a package, or of its build for CPUs; an empty text if there is none."""
    for name in (package, f"{package}-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""


GIB = 2**30
SECONDS = 590                                      # for everything
ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
BEST_ENGINE = "vllm" if ON_GPU and installed("vllm") else "transformers"

# ---------------------------------------------------------------------------- models

QWEN3 = {"head_dim": 128, "num_key_value_heads": 8, "vocab_size": 151_936,
         "max_position_embeddings": 32_768, "tie_word_embeddings": True}

# The shapes of the presets' models: those of their configs on the hub.
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


def random_model(name, work, auto_class=AutoModelForCausalLM):
    """A directory in `work` with a model of random weights, in bfloat16, made once. -> its path"""
    folder = work / auto_class.__name__ / name
    if not folder.exists():
        labels = {"num_labels": 1} if auto_class is AutoModelForSequenceClassification else {}
        torch.manual_seed(0)
        with DEVICE:
            model = auto_class.from_config(shape_of(name, **labels), dtype=torch.bfloat16)
        partial = folder.with_name(f".{folder.name}.partial")
        model.save_pretrained(partial)
        tiny.make_tokenizer().save_pretrained(partial)
        partial.rename(folder)
        del model
        torch.cuda.empty_cache()                   # vLLM asks the driver what is free
    return str(folder)


def preset(name, work, **settings):
    """The Config of a preset whose models are those of random_model."""
    cfg = hero.Config(**hero.PRESETS[name] | settings)
    reward_model = cfg.reward_model
    if reward_model == "reward_model":
        reward_model = OWN_REWARD_MODEL
    return replace(
        cfg, policy=random_model(cfg.policy, work),
        reward_model=random_model(reward_model, work, AutoModelForSequenceClassification))


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


def seconds_of(function):
    """Seconds that function() takes, the GPU's work included."""
    if ON_GPU:
        torch.cuda.synchronize()
    started = time.perf_counter()
    function()
    if ON_GPU:
        torch.cuda.synchronize()
    return time.perf_counter() - started


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
    times = [seconds_of(lambda: a @ a) for _ in range(20)]
    return 2 * size**3 / statistics.median(times[5:])


def planned_gib(cfg, parts):
    """The sum of the items of a memory plan, on one GPU, whose names begin with one of `parts`."""
    plan = hero.plan_memory(cfg, gpus=1, gpu_gib=10_000)
    items = re.findall(r"^ +([\d.]+) GiB  (.+)$", plan, re.M)
    return sum(float(gib) for gib, name in items if name.startswith(parts))


def planned_peak(cfg, gpus, gpu_gib):
    """The peak of a memory plan, in GiB; None where the run is refused."""
    try:
        plan = hero.plan_memory(cfg, gpus, gpu_gib)
    except ValueError:
        return None
    return float(re.search(r"([\d.]+) GiB  at the peak", plan)[1])


# What is in memory during an update without reward model and engine, as memory_plan calls it.
OF_AN_UPDATE = ("master", "Adam", "base", "LoRA", "gradients", "gathered", "activations", "logits")


# ---------------------------------------------------------------------------- the measurements
#
# Each returns a list of rows, {column: value}. `work` is a folder that they share.


def tiny_runs(work):
    """hero.py --preset tiny from the command line, on a world that has hardly been trained."""
    folder = work / "tiny"
    tiny.build(folder / "runs" / "world-0", seed=0, sft_steps=30, rm_steps=5, problems=40,
               held_out_problems=10)
    small = ["--preset", "tiny", "--steps", "3", "--prompts_per_step", "4",
             "--rollouts_per_prompt", "4", "--num_minibatches", "2", "--eval_every", "3",
             "--eval_samples", "1", "--engine", BEST_ENGINE]
    runs = {
        "all weights": ["--name", "full", *small],
        "resumed": ["--resume", "--name", "full", "--steps", "4"],
        "LoRA, transformers' engine": ["--name", "lora", *small, "--lora_rank", "4", "--engine",
                                       "transformers"],
    }
    rows = []
    for name, arguments in runs.items():
        # A run as a user starts it, to its end.
        started = time.perf_counter()
        result = subprocess.run([sys.executable, str(HERE.parent / "hero.py"), *arguments],
                                cwd=folder, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"{name}: {last_line(result.stderr)}")

        # What it has left: its log, and a model that can be loaded.
        run = folder / "runs" / arguments[arguments.index("--name") + 1]
        last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
        AutoModelForCausalLM.from_pretrained(run / "final")
        rows.append({"run": name, "seconds, with the start": time.perf_counter() - started,
                     "steps": last["step"], "logprob_gap": last["rollout/logprob_gap"],
                     "gradient_norm": last["policy/gradient_norm"]})
    return rows


def update_speed(work, preset_name, lora_rank):
    """hero.update on rows of 4,096 and 8,192 tokens: one optimizer step of 32,768.

    MFU is the share of what the card's data sheet promises, and where that is not known, of what a
    large product of matrices reaches.
    """
    cfg = preset(preset_name, work, lora_rank=lora_rank, num_minibatches=1)
    lengths = [4096, 8192]
    if not ON_GPU:
        lengths = [64, 128]
        cfg = replace(cfg, max_tokens_per_microbatch=256)

    # The policy and its optimizer, without reward model and engine.
    ranks = distributed.init()
    policy, logprobs = hero.load_policy(cfg, ranks)
    models = hero.Models(load_tokenizer(cfg.policy), policy, logprobs, None, None, None)
    optimizer = hero.make_optimizer(cfg, policy)
    product = product_rate()
    peak = ON_GPU and distributed.peak_flops(torch.cuda.get_device_name())

    rows = []
    for length in lengths:
        rollouts = random_rollouts(4 * lengths[1] // length, length, policy.config.vocab_size)
        advantages = torch.linspace(-1, 1, len(rollouts))

        def step(rollouts=rollouts, advantages=advantages):
            hero.update(cfg, ranks, models, optimizer, rollouts, advantages)

        step()                                     # warms up, and makes Adam's moments
        reset_peak()
        seconds = min(seconds_of(step) for _ in range(2))

        # What hero.performance counts: forward, and back to the inputs, and to all weights.
        passes = 2 if lora_rank else 3
        done = passes * distributed.forward_flops(policy, [length] * len(rollouts)) / seconds
        rows.append({
            "model": preset_name, "trained": f"LoRA {lora_rank}" if lora_rank else "all weights",
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
        seconds = min(seconds_of(lambda ids=ids: forward_and_backward(ids)) for _ in range(3))
        rows.append({"form": form, "tokens": length, "vocabulary": config.vocab_size,
                     "milliseconds": 1000 * seconds,
                     "peak above the model, GiB": peak_gib() - before if ON_GPU else None,
                     "mean log-probability": mean})
    return rows


def reward_model_speed(work):
    """RewardModel.score on responses of 512 and 2,048 tokens; a digit is a token."""
    name = "nvidia/AceMath-7B-RM"
    reward_model = RewardModel(random_model(name, work, AutoModelForSequenceClassification), DEVICE,
                               torch.bfloat16 if ON_GPU else torch.float32, max_tokens=16_384)
    reset_peak()
    rows = []
    for length in (512, 2048) if ON_GPU else (32, 64):
        count = 64 if ON_GPU else 4
        responses = ["7" * length] * count
        prompts = ["1+2"] * count
        reward_model.score(prompts[:8], responses[:8])
        seconds = seconds_of(lambda p=prompts, r=responses: reward_model.score(p, r))
        rows.append({"model": name, "tokens per response": length,
                     "responses/s": count / seconds, "tokens/s": count * length / seconds,
                     "peak, GiB": peak_gib()})
    return rows


def rollout_speed(work, kind):
    """generate of one engine, 64 prompts x 8 responses of 256 tokens; a push, and what it does.

    The gap is the mean distance of the engine's log-probabilities from the trainer's, before and
    after a push of weights that are a little different.
    """
    path = random_model("Qwen/Qwen3-0.6B-Base", work)
    tokenizer = load_tokenizer(path)
    engine = make_engine(kind, path, tokenizer, gpu_memory_utilization=0.5)
    count, tokens = (64, 256) if ON_GPU else (4, 16)
    prompts = short_prompts(tokenizer, count)
    params = SamplingParams(tokens)

    # Speed; a short generation first warms up.
    engine.generate(prompts[:4], 8, SamplingParams(8), seed=0)
    rollouts = []
    seconds = seconds_of(lambda: rollouts.extend(engine.generate(prompts, 8, params, seed=1)))
    made = sum(len(rollout.response_ids) for rollout in rollouts)
    sleep = seconds_of(engine.sleep)
    wake = seconds_of(engine.wake)

    # The gap to a policy of the same weights, then of others, and after these were pushed.
    dtype = torch.bfloat16 if ON_GPU else torch.float32
    policy = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).to(DEVICE).eval()
    before = logprob_gap(policy, rollouts[:32])
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.05)
    stale = logprob_gap(policy, rollouts[:32])
    engine.sleep()
    push = seconds_of(lambda: engine.update_weights(gathered_tensors(policy)))
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


class Laps:
    """Seconds of each phase, and what the process holds on the GPU after it."""

    def __init__(self):
        self.seconds = {}
        self.used = {}

    def lap(self, phase, function):
        """Runs function() as the phase of that name. -> what it returns"""
        results = []
        self.seconds[phase] = seconds_of(lambda: results.append(function()))
        self.used[phase] = used_gib()
        return results[0]


def one_step(cfg, models, optimizer, prompts):
    """A step of hero.train without verifier and log. -> its Laps, the numbers of the update"""
    laps = Laps()
    engine = models.engine
    rollouts = laps.lap("generate", lambda: engine.generate(
        prompts, cfg.rollouts_per_prompt, SamplingParams(cfg.max_response_tokens), seed=0))
    laps.lap("sleep", engine.sleep)

    # The responses are no text that the tokenizer knows, so the scored ones are as many digits.
    digits = ["7" * len(rollout.response_ids) for rollout in rollouts]
    laps.lap("reward model", lambda: models.reward_model.score(["1+2"] * len(digits), digits))
    advantages = torch.linspace(-1, 1, len(rollouts))
    stats = laps.lap("update", lambda: hero.update(
        cfg, distributed.init(), models, optimizer, rollouts, advantages))
    laps.lap("push", lambda: hero.push_weights(models))
    laps.lap("wake", engine.wake)
    return laps, stats


def whole_step(work, preset_name, prompts_per_step):
    """The phases of a step of hero.train with a preset's models and responses of 512 tokens."""
    cfg = preset(preset_name, work, prompts_per_step=prompts_per_step, max_response_tokens=512,
                 engine=BEST_ENGINE)
    if not ON_GPU:
        cfg = replace(cfg, prompts_per_step=4, max_response_tokens=16,
                      max_tokens_per_microbatch=256)
    tokenizer = load_tokenizer(cfg.policy)
    models = hero.load_models(cfg, distributed.init(), tokenizer)
    optimizer = hero.make_optimizer(cfg, models.policy)
    prompts = short_prompts(tokenizer, cfg.prompts_per_step)

    one_step(replace(cfg, max_response_tokens=16), models, optimizer, prompts)       # warms up
    laps, stats = one_step(cfg, models, optimizer, prompts)
    models.engine.close()

    total = sum(laps.seconds.values())
    rows = []
    for phase, seconds in laps.seconds.items():
        rows.append({"preset": preset_name, "phase": phase, "seconds": seconds,
                     "share": seconds / total, "used, GiB": laps.used[phase]})
    rollouts = len(prompts) * cfg.rollouts_per_prompt
    rows.append({"preset": preset_name, "phase": f"all, {rollouts / total:.3g} rollouts/s",
                 "seconds": total, "used, GiB": largest(laps.used.values()),
                 "planned, GiB": planned_peak(cfg, 1, gpu_memory_gib(DEVICE)) if ON_GPU else None,
                 "gap, nats": stats["rollout/logprob_gap"]})
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
    "tiny": Measurement("The tiny preset from the command line", tiny_runs),
    "step-0.6b": Measurement("A whole step", whole_step, ("qwen3-0.6b", 64)),
    "rollouts-vllm": Measurement("Rollouts", rollout_speed, ("vllm",), needs="vllm"),
    "rollouts-transformers": Measurement("Rollouts", rollout_speed, ("transformers",)),
    "reward-model": Measurement("The reward model", reward_model_speed),
    "step-4b-lora": Measurement("A whole step", whole_step, ("qwen3-4b-lora", 32)),
}


# ---------------------------------------------------------------------------- running them


def last_line(text):
    """The last line of an error output that says something."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"


def measure(name, work, seconds):
    """Runs one measurement in a process of its own. -> {"seconds"} with "rows" or "error" """
    started = time.perf_counter()
    with open(work / f"{name}.err", "w+") as errors:
        process = subprocess.Popen(
            [sys.executable, __file__, "--only", name, "--work", str(work)], stdout=errors,
            stderr=errors, start_new_session=True)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = "time-out"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        errors.seek(0)
        output = errors.read()

    result = {"seconds": time.perf_counter() - started}
    if code == "time-out":
        return result | {"error": f"stopped after {seconds:.0f} seconds"}
    if code:
        return result | {"error": last_line(output)}
    return result | {"rows": json.loads((work / f"{name}.json").read_text())}


def measure_here(name, work):
    """One measurement in this process; its rows go to a file in `work`."""
    measurement = MEASUREMENTS[name]
    try:
        rows = measurement.function(work, *measurement.arguments)
    except Exception as error:
        message = " ".join(str(error).split())
        print(f"{type(error).__name__}: {message[:300]}", file=sys.stderr, flush=True)
        os._exit(1)
    (work / f"{name}.json").write_text(json.dumps(rows))
    os._exit(0)                                    # an engine that cannot end has measured, too


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


def rows_of(results, title):
    """The rows of all measurements of one title."""
    rows = []
    for name, result in results.items():
        if MEASUREMENTS[name].title == title:
            rows += result.get("rows", [])
    return rows


def largest(values):
    """The largest of some numbers, without those that are None; None if nothing is left."""
    numbers = [value for value in values if value is not None]
    return max(numbers, default=None)


def judge_goals(results):
    """What was hoped for, and what came out. -> rows"""
    updates = rows_of(results, "The update")
    shorter = min((row["tokens per row"] for row in updates), default=None)
    efficiency = largest(row["MFU"] for row in updates
                         if row["tokens per row"] == shorter and row["trained"] == "all weights")
    errors = [abs(row["planned, GiB"] / row["peak, GiB"] - 1) for row in updates
              if row["peak, GiB"] is not None]

    # The longest rows of the two forms.
    form = {row["form"]: row for row in rows_of(results, "Log-probabilities")}
    time_ratio, peak_ratio = None, None
    if {"naive", "token_logprobs"} <= form.keys():
        ours, naive = form["token_logprobs"], form["naive"]
        time_ratio = ours["milliseconds"] / naive["milliseconds"]
        if ours["peak above the model, GiB"] is not None:
            peak_ratio = ours["peak above the model, GiB"] / naive["peak above the model, GiB"]
    share = largest(row["share"] for row in rows_of(results, "A whole step")
                    if row["phase"] == "generate")

    goals = []
    for what, limit, value, at_least in (
            ("MFU of the update at 4,096 tokens", 0.45, efficiency, True),
            ("memory plan of an update: relative error", 0.10, largest(errors), False),
            ("token_logprobs at 8,192 tokens: time of naive's", 1.05, time_ratio, False),
            ("token_logprobs at 8,192 tokens: peak of naive's", 0.10, peak_ratio, False),
            ("generation: share of a step", 0.50, share, False)):
        met = "not measured"
        if value is not None:
            met = "yes" if (value >= limit if at_least else value <= limit) else "no"
        goals.append({"goal": what, "wanted": f"{'at least' if at_least else 'at most'} {limit}",
                      "measured": value, "met": met})
    return goals


def cell(value):
    """A value of a table, with three significant digits."""
    if value is None or value == "":
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(rows):
    """Rows as a Markdown table; its columns are those of all rows. -> lines"""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [f"| {' | '.join(cell(row.get(column)) for column in columns)} |" for row in rows]
    return lines


def page(results, where):
    """gpu.md as one text. where: the machine and the versions, in words."""
    lines = ["# One GPU", "", where, "", "    python results/gpu.py", "", "## Goals", ""]
    lines += table(judge_goals(results))
    for title in dict.fromkeys(m.title for m in MEASUREMENTS.values()):
        names = [name for name in results if MEASUREMENTS[name].title == title]
        if not names:
            continue
        docstring = MEASUREMENTS[names[0]].function.__doc__
        lines += ["", f"## {title}", "", " ".join(docstring.split()), ""]
        rows = rows_of(results, title)
        if rows:
            lines += table(rows)
        failed = [name for name in names if "error" in results[name]]
        if failed:
            lines += ["", *(f"- `{name}`: {results[name]['error']}" for name in failed)]
    return "\n".join(lines) + "\n"


def describe_machine():
    """The device and the versions, as one sentence."""
    device = "a CPU at toy size: these numbers say that the code runs, and nothing about its speed"
    if ON_GPU:
        device = f"{torch.cuda.get_device_name()}, {gpu_memory_gib(DEVICE):.1f} GiB"
    versions = [f"{package} {installed(package)}" for package in
                ("torch", "transformers", "vllm", "trl", "liger-kernel") if installed(package)]
    return f"Measured on {device}; {', '.join(versions)}."


# ---------------------------------------------------------------------------- the presets' plans

CARDS = {"24 GB": 23.5, "48 GB": 47.4, "80 GB": 79.1, "141 GB": 139.8}          # GiB that CUDA sees


def with_shapes(name, folder):
    """The Config of a preset whose models are configs alone, without weights."""
    cfg = hero.Config(**hero.PRESETS[name])
    for setting in ("policy", "reward_model"):
        model = getattr(cfg, setting)
        if model == "reward_model":
            model = OWN_REWARD_MODEL
        shape_of(model, toy=False).save_pretrained(folder / model)
        cfg = replace(cfg, **{setting: str(folder / model)})
    return cfg


def write_plans(out):
    """plans.md: which preset fits on which cards, and the plans of those for one card."""
    with tempfile.TemporaryDirectory() as work:
        presets = {}
        for name in hero.PRESETS:
            if name != "tiny":
                presets[name] = with_shapes(name, Path(work))

        rows = []
        for name, cfg in presets.items():
            row = {"peak in GiB, of each card": f"`{name}`"}
            for gpus in (1, 8):
                for card, gib in CARDS.items():
                    peak = planned_peak(cfg, gpus, gib)
                    row[f"{gpus} x {card}"] = "no" if peak is None else f"{peak:.0f}"
            rows.append(row)

        lines = table(rows)
        lines += ["", "no: the run refuses to start.", "", "    python results/gpu.py plans"]
        for name, card in (("qwen3-0.6b", "24 GB"), ("qwen3-1.7b-lora", "24 GB"),
                           ("qwen3-4b-lora", "80 GB")):
            plan = hero.plan_memory(presets[name], 1, CARDS[card])
            lines += ["", f"`{name}`:", "", "```", *plan.splitlines(), "```"]
    write_file(out / "plans.md", "\n".join(lines) + "\n")


# ---------------------------------------------------------------------------- the command line


def parse_args(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["measure", "plans"], default="measure")
    parser.add_argument("--out", type=Path, help="folder of the files that are written")
    parser.add_argument("--names", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS),
                        metavar="NAME", help="only these: " + ", ".join(MEASUREMENTS))
    parser.add_argument("--only", choices=MEASUREMENTS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main():
    args = parse_args()
    if args.only:
        measure_here(args.only, args.work)
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
