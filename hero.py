"""HERO: reinforcement learning led by a rule verifier and made dense by a reward model.

    python hero.py                              the laptop world: no GPU, no download, minutes
    python hero.py --reward verifier            a baseline; --help lists every setting
    torchrun --nproc_per_node 2 hero.py         the same run on several processes

The loop is train(), the last function of this file. It is GRPO, with these differences from the
textbook form:

  1. The reward is HERO's, Eq. 3: the verifier's 0 or 1 chooses a narrow band, and the reward
     model's score the position inside it. So a group that is all wrong still teaches something.
  2. Prompts on which the reward model disagrees with itself count more, Eq. 4. The weight acts on
     the advantage: on the reward, as Eq. 5 has it, a division by the standard deviation cancels it.
  3. Advantages are not divided by the group's standard deviation (Dr. GRPO), so that the width of
     the band bounds the reward model's influence.
  4. The loss is a mean over the tokens of all responses of an optimizer step (DAPO), not a mean
     over responses of means; the ratio is clipped higher above (1.28) than below (0.8).
  5. There is no KL term unless --kl_coef asks for one, and each token's gradient is corrected for
     the difference between the generation engine's numerics and the trainer's.

Paper: "Hybrid Reinforcement", arXiv 2510.07242.
"""

import argparse
import json
import math
import os
import random
import sys
import time
from collections import ChainMap
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path

import torch
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm
from transformers import AutoModelForCausalLM

import distributed
import lora
import neighbors
import tiny
from distributed import derive_seed, from_pretrained, gpu_memory_gib, memory_plan
from eval import evaluate, judge, judge_input
from prepare import DATA, EVAL_DATA, unsplit_problems
from problems import (
    STEP_BY_STEP,
    append_jsonl,
    first_line,
    load_benchmarks,
    load_problems,
    split_entry,
    write_file,
)
from record import (
    TRACKERS,
    Tracker,
    changed_names,
    check_hub_name,
    check_tracker,
    describe_origin,
    push_to_hub,
    write_model_card,
)
from report import format_metrics, plot_curves, run_summary, write_page
from rewards import REWARDS, Batch, RewardModel, compute_advantages, group_stats
from rollout import (
    Rollout,
    SamplingParams,
    TransformersEngine,
    chat_prompt,
    describe_stop_tokens,
    load_tokenizer,
    make_engine,
    resolve_engine,
    response_text,
    right_padded,
)
from verify import Verdict, grade, note_unreadable, verify_all

# ---------------------------------------------------------------------------- settings


def setting(default, sentence):
    return field(default=default, metadata={"help": sentence})


@dataclass
class Config:
    """Every setting of a run. Each is a flag of the same name; GROUPS gives --help its headings."""
    # the run
    name: str = setting("", "folder under runs/; empty: REWARD-REGIME-seedSEED, numbered if taken")
    seed: int = setting(0, "decides the order of the data and every sample")
    steps: int = setting(60, "rollout batches to train on")
    resume: bool = setting(False, "resume the run given by --name from its last checkpoint")
    preset: str = setting("", "settings to start from; empty: tiny on a CPU, qwen3-4b on GPUs")
    config: str = setting("", "start instead from the settings of another run: its config.json")
    # models and data; empty means the tiny world's, which is built when it is missing
    policy: str = setting("", "policy to train: a directory or hub name")
    reward_model: str = setting("", "one-label sequence classifier: a directory or hub name")
    chat_template: str = setting("", "file with a Jinja chat template for the policy; empty: its "
                                     "own, or a plain one if it has none")
    rm_system: str = setting("", "system message that the reward model was trained with")
    data: str = setting("", "folder with easy.jsonl, hard.jsonl and mixed.jsonl, or one JSONL file")
    eval_data: str = setting("", "JSONL files to evaluate on, separated by commas")
    regime: str = setting("hard", "which training problems: easy, hard or mixed (to verify)")
    instruction: str = setting("", "text added to every problem in the policy's prompt")
    world_seed: int = setting(0, "seed of the tiny world")
    # rollouts
    engine: str = setting("auto", "what generates: vllm, transformers, or auto: vllm where there is"
                                  " a GPU and vLLM is installed")
    gpu_memory_utilization: float = setting(0.4, "share of a GPU for vLLM's weights and KV cache")
    prompts_per_step: int = setting(16, "P, prompts per rollout batch")
    rollouts_per_prompt: int = setting(8, "G, responses per prompt: the group")
    max_prompt_tokens: int = setting(1024, "problems with a longer prompt are left out")
    max_response_tokens: int = setting(48, "responses are cut at this length, and then count as "
                                           "unfinished")
    temperature: float = setting(1.0, "sampling temperature of the rollouts")
    # reward and advantage
    reward: str = setting("hero", "what the policy is trained on: one of " + ", ".join(REWARDS)
                                  + ", or a method that `python neighbors.py` lists")
    alpha: float = setting(0.05, "half width of the band of wrong responses, Eq. 3")
    beta: float = setting(0.05, "half width of the band of correct responses, Eq. 3")
    verifier_share: float = setting(0.5, "weight of the verdict in the sum of --reward naive")
    weight_on: str = setting("advantage", "what the prompt weight w (Eq. 4) multiplies: the "
                                          "advantage, the reward (Eq. 5 to the letter), or none")
    w_min: float = setting(0.4, "smallest prompt weight, Eq. 4")
    w_max: float = setting(3.0, "largest prompt weight, Eq. 4")
    weight_k: float = setting(6.0, "steepness of the prompt weight, Eq. 4")
    advantage_norm: str = setting("none", "none subtracts the group's mean; std also divides by "
                                          "the group's standard deviation")
    judge_model: str = setting("", "generative verifier, whose yes or no replaces the rule "
                                   "verifier's")
    judge_url: str = setting("", "OpenAI-compatible server of --judge_model; empty: OpenAI's, with "
                                 "OPENAI_API_KEY")
    # policy update
    learning_rate: float = setting(1e-4, "learning rate of AdamW, constant, without warm-up")
    num_minibatches: int = setting(4, "optimizer steps per rollout batch")
    clip_ratio_low: float = setting(0.2, "the probability ratio is clipped below at 1 minus this")
    clip_ratio_high: float = setting(0.28, "the probability ratio is clipped above at 1 plus this")
    importance_cap: float = setting(2.0, "upper bound on the per-token importance weight p_trainer "
                                         "/ p_engine; 0 disables the correction")
    kl_coef: float = setting(0.0, "weight of the KL term to the frozen initial policy")
    max_grad_norm: float = setting(1.0, "gradients are clipped to this global norm")
    shard: str = setting("auto", "FSDP2, with bf16 compute on GPUs: on, off, or auto: on with GPUs "
                                 "unless there is LoRA")
    lora_rank: int = setting(0, "train LoRA adapters of this rank on a frozen bf16 policy, a whole "
                                "one per GPU; 0 trains all weights")
    lora_alpha: float = setting(32.0, "the adapters' output is multiplied by this / lora_rank")
    gradient_checkpointing: bool = setting(False, "keep only each layer's input for the backward "
                                                  "pass, and compute the rest again")
    max_tokens_per_microbatch: int = setting(2048, "tokens, padding included, per forward pass")
    # evaluation, log and checkpoints
    eval_every: int = setting(30, "evaluate every N steps, before the first and after the last")
    eval_samples: int = setting(4, "responses per evaluation problem (T 0.6, top-p 0.95)")
    groups_logged: int = setting(2, "groups of each step that rollouts.jsonl holds, whole")
    save_every: int = setting(20, "write a checkpoint every N steps and after the last")
    track: str = setting("none", "experiment tracker that also gets the metrics: "
                                 + ", ".join(TRACKERS))
    push_to_hub: str = setting("", "name of a model on the Hugging Face hub, USER/MODEL, to which "
                                   "final/ is pushed; public, if it does not exist yet")


# The first setting of each group, and the group's heading in --help.
GROUPS = {"name": "run", "policy": "models and data", "engine": "rollouts",
          "reward": "reward and advantage", "learning_rate": "policy update",
          "eval_every": "evaluation, log and checkpoints"}

# The paper's runs (its appendix A.1). 20 epochs of 2,000 problems in batches of 512 are 78 steps.
# alpha and beta are 0.05 for easy data, as here, and 0.1 for mixed and hard data.
PAPER = {
    "policy": "Qwen/Qwen3-4B-Base",
    "reward_model": "nvidia/AceMath-7B-RM",
    "rm_system": "Please reason step by step, and check your final answer within \\boxed{}.",
    "instruction": STEP_BY_STEP,
    "data": DATA,
    "eval_data": EVAL_DATA,
    "regime": "easy",
    "steps": 78,
    "prompts_per_step": 512,
    "num_minibatches": 4,
    "rollouts_per_prompt": 8,
    "max_prompt_tokens": 1024,
    "max_response_tokens": 8192,
    "learning_rate": 1e-6,
    "max_tokens_per_microbatch": 16384,
    "gradient_checkpointing": True,
    "eval_every": 10,
    "eval_samples": 1,
}
ONE_GPU = PAPER | {
    "reward_model": "reward_model",
    "rm_system": "",
    "prompts_per_step": 64,
    "max_response_tokens": 2048,
}
# Ten times the learning rate of full training, as "LoRA Without Regret" (Schulman et al., 2025)
# found best.
LORA = {
    "lora_rank": 32,
    "learning_rate": 1e-5,
}
PRESETS = {
    "tiny": {},
    "qwen3-4b": PAPER,
    "octothinker-8b": PAPER | {
        "policy": "OctoThinker/OctoThinker-8B-Hybrid-Base",
        "rollouts_per_prompt": 16,
        "max_response_tokens": 4096,
        "kl_coef": 0.001,
    },
    # One GPU of 24 GB: shorter responses and batches, and a reward model of the user's own, made by
    # prepare.py from Qwen3-0.6B.
    "qwen3-0.6b": ONE_GPU | {
        "policy": "Qwen/Qwen3-0.6B-Base",
    },
    "qwen3-1.7b-lora": ONE_GPU | LORA | {
        "policy": "Qwen/Qwen3-1.7B-Base",
        "gpu_memory_utilization": 0.5,
    },
    # One GPU of 80 GB, with the paper's reward model.
    "qwen3-4b-lora": PAPER | LORA | {
        "prompts_per_step": 64,
        "max_response_tokens": 4096,
        "gpu_memory_utilization": 0.6,
    },
}


# ---------------------------------------------------------------------------- log-probabilities


def token_logprobs(model, ids, mask, temperature=1.0, entropy=False, max_logits=2**26):
    """Log-probability of every wanted token, given the tokens before it. -> (B, T)

    ids (B, T): token ids, right-padded.  mask (B, T): 1 on the tokens wanted, the responses.
    Unwanted tokens get 0. With entropy=True: (log-probabilities, entropies in nats), both (B, T).

    With a vocabulary of 150,000 a (B, T, V) tensor of logits does not fit. So only the wanted
    positions go through the output head, at most max_logits logits at a time, and the backward
    pass computes each chunk again instead of keeping it.
    """
    # Position t - 1 predicts token t. Causal attention never sees the padding on the right.
    hidden = model.base_model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    row, column = mask[:, 1:].nonzero(as_tuple=True)       # the N positions that predict a token
    hidden = hidden[row, column]                                                          # (N, D)
    targets = ids[row, column + 1]                                                        # (N,)

    def head(hidden, targets):
        logits = model.lm_head(hidden).float().div_(temperature)                          # (n, V)
        all_logp = torch.log_softmax(logits, dim=-1)                                      # (n, V)
        logp = all_logp.gather(1, targets[:, None])[:, 0]                                 # (n,)
        entropies = torch.zeros_like(logp)
        if entropy:
            with torch.no_grad():
                entropies = -(all_logp.exp() * all_logp).sum(-1)
        return logp, entropies

    chunk = max(1, max_logits // model.config.vocab_size)
    logp_chunks, entropy_chunks = [], []
    for h, t in zip(hidden.split(chunk), targets.split(chunk), strict=True):
        logp, entropies = checkpoint(head, h, t, use_reentrant=False)
        logp_chunks.append(logp)
        entropy_chunks.append(entropies)

    def at_their_tokens(chunks):
        """(N,) numbers, each at its token's place in a (B, T) tensor of zeros."""
        zeros = torch.zeros(ids.shape, device=ids.device)
        return zeros.index_put((row, column + 1), torch.cat(chunks))

    if entropy:
        return at_their_tokens(logp_chunks), at_their_tokens(entropy_chunks)
    return at_their_tokens(logp_chunks)


# ---------------------------------------------------------------------------- the loss


def policy_loss(logp, old_logp, advantages, mask, num_tokens, clip_ratio_low=0.2,
                clip_ratio_high=0.28, importance=None, ref_logp=None, kl_coef=0.0, surrogate=None):
    """Clipped policy gradient: the sum over masked tokens, divided by num_tokens.

    logp, old_logp, mask (B, T): log-probabilities of the policy now, and of the policy that
    sampled. advantages (B,). num_tokens: the active tokens of the whole optimizer step, so that the
    mean is over tokens however the rows are spread over micro-batches and ranks.
    importance (B, T): weight of each token's policy gradient, for samples of another distribution.
    ref_logp (B, T): with it, kl_coef * KL(policy || reference) is added, by the k3 estimate.
    surrogate: another method's, of neighbors.LOSSES, in place of the clipped one.
    -> (loss, {statistic: its sum over the tokens})
    """
    advantages = advantages[:, None]                                                      # (B, 1)

    # How much more likely each token is now than when it was sampled.
    log_ratio = (logp - old_logp) * mask                                                  # (B, T)
    ratio = torch.exp(log_ratio)

    # The smaller of the two surrogates: no reward for moving further than the clip allows, but
    # always a way back.
    clipped = ratio.clamp(1 - clip_ratio_low, 1 + clip_ratio_high)
    token_loss = -torch.minimum(ratio * advantages, clipped * advantages)
    if surrogate is not None:
        token_loss = surrogate(log_ratio, advantages, mask)
    if importance is not None:
        token_loss = token_loss * importance

    with torch.no_grad():
        stats = {
            "clip_frac_low": ((ratio < 1 - clip_ratio_low) & (advantages < 0)) * mask,
            "clip_frac_high": ((ratio > 1 + clip_ratio_high) & (advantages > 0)) * mask,
            "kl_old": k3(log_ratio),
        }

    if ref_logp is not None:
        kl = k3((ref_logp - logp) * mask)
        token_loss = token_loss + kl_coef * kl
        stats["kl_ref"] = kl.detach()

    loss = (token_loss * mask).sum() / num_tokens
    return loss, {name: values.sum().item() for name, values in stats.items()}


def k3(log_ratio):
    """The k3 estimate of a divergence, e^x - 1 - x for each log-ratio x: never negative, and its
    mean is the KL. expm1 keeps the digits that e^x - 1 loses where x is small."""
    return torch.expm1(log_ratio) - log_ratio


# ---------------------------------------------------------------------------- the update


@dataclass
class MicroBatch:
    """A few rollouts, padded, on the training device: one forward and backward pass."""
    ids: torch.Tensor                             # (B, T)
    mask: torch.Tensor                            # (B, T) 1 on the responses' tokens
    advantages: torch.Tensor                      # (B,)
    engine_logp: torch.Tensor                     # (B, T) as the generation engine reported them
    old_logp: torch.Tensor | None = None          # (B, T) of the policy that sampled
    ref_logp: torch.Tensor | None = None          # (B, T) of the frozen initial policy


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


def to_micro_batch(rollouts, advantages, device):
    """Rollouts as the padded tensors of a MicroBatch."""
    ids, real = right_padded([r.prompt_ids + r.response_ids for r in rollouts])           # (B, T)
    prompt_lengths = torch.tensor([len(r.prompt_ids) for r in rollouts])[:, None]         # (B, 1)
    mask = real * (torch.arange(ids.shape[1]) >= prompt_lengths)                          # (B, T)
    engine_logp = torch.zeros(ids.shape)
    engine_logp[mask.bool()] = torch.tensor([logp for r in rollouts for logp in r.logprobs])
    return MicroBatch(ids.to(device), mask.to(device), advantages.to(device),
                      engine_logp.to(device))


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


def update(cfg, ranks, models, optimizer, rollouts, advantages):
    """Takes the optimizer steps of one rollout batch. -> {log key: mean over all ranks' tokens}

    models: the run's Models. rollouts, advantages (B,): those of all ranks, in the order of the
    prompts. Minibatch m holds the same prompts whatever the number of ranks, which share its rows.
    """
    method = neighbors.find_method(cfg.reward)
    policy = models.policy
    policy.train(cfg.gradient_checkpointing)   # only in train mode does transformers checkpoint
    size = len(rollouts) // cfg.num_minibatches
    minibatches = []
    work = torch.zeros(3, dtype=torch.float64)
    for start in range(0, len(rollouts), size):
        lengths = [len(r.prompt_ids) + len(r.response_ids) for r in rollouts[start:start + size]]
        plan = split_minibatch(lengths, ranks.world_size, cfg.max_tokens_per_microbatch)
        work += torch.tensor(work_of(lengths, plan))
        minibatch = []
        for group in plan[ranks.rank]:
            rows = [start + i for i in group]
            minibatch.append(to_micro_batch([rollouts[i] for i in rows], advantages[rows],
                                            ranks.device))
        minibatches.append(minibatch)

    # 1. What the loss compares with, before the first optimizer step changes the policy.
    #    The first minibatch is on-policy: its old log-probabilities are those of its own forward
    #    pass, so it needs no extra one.
    with torch.no_grad():
        for number, minibatch in enumerate(minibatches):
            for b in minibatch:
                if number > 0:
                    b.old_logp = models.logprobs(b.ids, b.mask, cfg.temperature)
                if models.ref_logprobs:
                    b.ref_logp = models.ref_logprobs(b.ids, b.mask, cfg.temperature)

    # 2. One optimizer step per minibatch.
    sums = {"entropy": 0.0, "logprob_gap": 0.0, "clip_frac_low": 0.0, "clip_frac_high": 0.0,
            "kl_old": 0.0, "kl_ref": 0.0}
    total_tokens = 0.0
    norms = []
    for minibatch in minibatches:
        # Gradients are averaged over ranks. So every rank divides by the mean number of tokens per
        # rank, and the result is the mean over all tokens of the optimizer step.
        own_tokens = sum(b.mask.sum().item() for b in minibatch)
        tokens_per_rank = distributed.all_sum(own_tokens).item() / ranks.world_size
        total_tokens += tokens_per_rank
        if method.leash:
            slope = neighbors.leash_slope(method.leash, cfg, models, minibatch, size)

        optimizer.zero_grad()
        for b in minibatch:
            logp, entropy = models.logprobs(b.ids, b.mask, cfg.temperature, entropy=True)
            on_policy = b.old_logp is None                     # the first minibatch, see 1.
            old_logp = logp.detach() if on_policy else b.old_logp

            # Truncated importance sampling: the engine samples with slightly other numerics.
            log_ratio = old_logp - b.engine_logp              # of trainer to engine, (B, T)
            importance = None
            if cfg.importance_cap:
                importance = log_ratio.exp().clamp(max=cfg.importance_cap)

            loss, stats = policy_loss(
                logp, old_logp, b.advantages, b.mask, tokens_per_rank, cfg.clip_ratio_low,
                cfg.clip_ratio_high, importance, b.ref_logp, cfg.kl_coef,
                neighbors.LOSSES[method.loss])
            if method.leash:
                pull = neighbors.leash_loss(method.leash, slope, logp, b.ref_logp, b.mask)
                loss = loss + pull * ranks.world_size / size          # gradients are averaged
            loss.backward()
            sums["entropy"] += entropy.sum().item()
            sums["logprob_gap"] += log_ratio.abs().sum().item()
            for name, value in stats.items():
                sums[name] += value

        norm = distributed.clip_gradients(policy, cfg.max_grad_norm)
        if not math.isfinite(norm):
            raise ValueError(f"the gradient norm is {norm}, and the step would destroy the policy: "
                             "lower --learning_rate, or look at the last group in rollouts.jsonl")
        norms.append(norm)
        optimizer.step()
    optimizer.zero_grad()                      # the rollouts need the memory of the gradients
    policy.eval()

    # 3. Means over all tokens of all ranks, for the log.
    all_tokens, *all_sums = distributed.all_sum([total_tokens, *sums.values()]).tolist()
    means = {name: total / all_tokens for name, total in zip(sums, all_sums, strict=True)}
    if not models.ref_logprobs:
        del means["kl_ref"]
    tokens, padded, elapsed = work.tolist()
    logged = {"rollout/logprob_gap": means.pop("logprob_gap"),
              "policy/gradient_norm": sum(norms) / len(norms),
              "perf/padding": 1 - tokens / padded,
              "perf/useful": tokens / elapsed}
    return logged | {f"policy/{name}": value for name, value in means.items()}


# ---------------------------------------------------------------------------- the command line


def parse_args(arguments=None):
    """The command line as a Config. ValueError names the flag at fault."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], usage="hero.py [--SETTING VALUE ...]",
        epilog=describe_presets(), allow_abbrev=False, argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(message):
        raise ValueError(f"{message}; python hero.py --help lists every flag")

    parser.error = error
    for f in fields(Config):
        if f.name in GROUPS:
            group = parser.add_argument_group(GROUPS[f.name])
        help_text = f.metadata["help"]
        if f.type is bool:
            group.add_argument(f"--{f.name}", action="store_true", help=help_text)
        else:
            if f.default != "":
                help_text += f" (default: {f.default})"
            group.add_argument(f"--{f.name}", type=f.type, metavar="VALUE", help=help_text)
    given = vars(parser.parse_args(arguments))

    if given.get("resume"):
        return config_of_run(given)
    if given.get("config"):
        return config_of_another(given)
    if not given.get("preset"):
        given["preset"] = "qwen3-4b" if torch.cuda.is_available() else "tiny"
        print(f"preset: {given['preset']}", flush=True)
    if given["preset"] not in PRESETS:
        raise ValueError(f"--preset {given['preset']}: choose one of {', '.join(PRESETS)}")
    if given["preset"] == "tiny" and torch.cuda.is_available():
        print("the tiny world on a GPU is a first check of its path: sharding, vLLM, sleep, weight "
              "push and wake; its speed says nothing", flush=True)
    return Config(**PRESETS[given["preset"]] | given)


def describe_presets():
    """What each preset sets, for the end of --help."""
    lines = ["presets:"]
    for name, settings in PRESETS.items():
        lines.append(f"  {name}")
        lines += [f"    {key} {value!r}" for key, value in settings.items()]
    return "\n".join(lines)


def config_of_run(given):
    """The Config that the run to resume was started with. ValueError for other settings.

    Only how long it runs may change, and where its generative verifier is.
    """
    path = Path("runs") / given.get("name", "") / "config.json"
    if not given.get("name") or not path.is_file():
        raise ValueError(f"--resume needs --name, the name of a run; {path} does not exist")
    saved = read_settings(path)
    own = asdict(Config(**saved))
    for name, value in given.items():
        may_change = name in ("name", "resume", "steps", "judge_url", "track", "push_to_hub")
        if not may_change and value != own[name]:
            raise ValueError(f"--{name} {value} differs from the run's own {own[name]}: leave it "
                             "out, or start a new run")
    return Config(**saved | given)


def config_of_another(given):
    """The Config of a new run that starts from another's, --config. The flags given come first."""
    if given.get("preset"):
        raise ValueError("--config and --preset both say what to start from: leave one out")
    settings = read_settings(given["config"])
    # The new run has a name of its own, and it is not to overwrite what the other has pushed.
    for name in ("name", "resume", "push_to_hub"):
        settings.pop(name, None)
    return Config(**settings | given)


def read_settings(path):
    """The settings in the config.json of a run. -> {name: value}

    Raises ValueError, in one line, for a file that cannot be read or holds anything else.
    """
    try:
        settings = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as the config.json of a run "
                         f"({first_line(error)})") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} is not the config.json of a run: it holds no settings by name")
    settings.pop("made_with", None)

    types = {f.name: f.type for f in fields(Config)}
    unknown = sorted(set(settings) - set(types))
    if unknown:
        raise ValueError(f"{path} is of another version of hero.py, or not of a run: it holds "
                         f"{', '.join(unknown[:5])}, which is no setting here")
    for name, value in settings.items():
        is_whole = types[name] is float and type(value) is int          # 1 for 1.0
        if type(value) is not types[name] and not is_whole:
            raise ValueError(f"{path}: {name} is {json.dumps(value)[:60]}, and has to be of type "
                             f"{types[name].__name__}")
    return settings


# A view, so that a reward that is added to REWARDS later is one, too. It lists REWARDS first.
KNOWN_REWARDS = ChainMap(neighbors.METHODS, REWARDS)

CHOICES = {"reward": KNOWN_REWARDS, "regime": ("easy", "hard", "mixed"),
           "advantage_norm": ("none", "std"), "weight_on": ("advantage", "reward", "none"),
           "shard": ("auto", "on", "off"), "track": TRACKERS}
ABOVE_ZERO = ("steps", "prompts_per_step", "rollouts_per_prompt", "max_response_tokens",
              "temperature", "learning_rate", "num_minibatches", "eval_every", "eval_samples",
              "save_every", "max_tokens_per_microbatch", "max_grad_norm")


def validate(cfg, world_size):
    """Raises ValueError for settings that cannot work, and says the way out."""
    values = asdict(cfg)
    for name, allowed in CHOICES.items():
        if values[name] not in allowed:
            raise ValueError(f"--{name} {values[name]}: choose one of {', '.join(allowed)}")
    for name in ABOVE_ZERO:
        if not values[name] > 0:
            raise ValueError(f"--{name} {values[name]}: has to be above 0")
    for name in ("alpha", "beta", "verifier_share"):
        if not 0 <= values[name] <= 1:
            raise ValueError(f"--{name} {values[name]}: has to be between 0 and 1")
    if cfg.alpha + cfg.beta >= 1:
        raise ValueError(f"--alpha {cfg.alpha} and --beta {cfg.beta}: their sum has to be below 1, "
                         "or a wrong response could get a higher reward than a correct one")
    if cfg.name in (".", "..") or "/" in cfg.name:
        raise ValueError(f"--name {cfg.name}: has to be the name of a folder under runs/, not a "
                         "path")
    check_tracker(cfg.track)
    if cfg.push_to_hub:
        check_hub_name(cfg.push_to_hub)
    resolve_engine(cfg.engine)
    if cfg.lora_rank < 0 or cfg.lora_alpha <= 0:
        raise ValueError(f"--lora_rank {cfg.lora_rank} and --lora_alpha {cfg.lora_alpha}: the rank "
                         "has to be at least 0, and alpha above 0")
    if cfg.lora_rank and cfg.shard == "on":
        raise ValueError("--shard on and --lora_rank: LoRA keeps a whole frozen policy on every "
                         "GPU; leave one of them out")

    multiple = cfg.num_minibatches * world_size
    if cfg.prompts_per_step % multiple:
        raise ValueError(
            f"P*G={cfg.prompts_per_step}*{cfg.rollouts_per_prompt} rollouts cannot be shared: "
            f"prompts_per_step={cfg.prompts_per_step} is not divisible by num_minibatches * ranks "
            f"= {cfg.num_minibatches} * {world_size}; choose --prompts_per_step a multiple of "
            f"{multiple}")
    if cfg.judge_url and not cfg.judge_model:
        raise ValueError("--judge_url needs --judge_model, the name of a model on that server")
    if cfg.judge_model and not cfg.judge_url and not os.environ.get("OPENAI_API_KEY"):
        raise ValueError(f"--judge_model {cfg.judge_model} is on no server: give --judge_url, any "
                         "OpenAI-compatible one, or set OPENAI_API_KEY for OpenAI's")


def complete_config(cfg, world_size):
    """The Config checked, and that of a new run with its data and its name filled in."""
    validate(cfg, world_size)
    if cfg.resume:
        return cfg
    if cfg.name and (Path("runs") / cfg.name).exists():
        raise ValueError(f"runs/{cfg.name} already exists: choose another --name, or resume it "
                         "with --resume")

    if cfg.data == DATA and not (Path(DATA) / f"{cfg.regime}.jsonl").exists():
        data, held_out = unsplit_problems()
        cfg = replace(cfg, data=data)
        if cfg.eval_data == EVAL_DATA:
            cfg = replace(cfg, eval_data=held_out)

    name = base = cfg.name or f"{cfg.reward}-{cfg.regime}-seed{cfg.seed}"
    number = 1
    while (Path("runs") / name).exists():
        number += 1
        name = f"{base}-{number}"
    return replace(cfg, name=name)


# ---------------------------------------------------------------------------- start and resume


@dataclass
class Models:
    """What a run works with, loaded and checked."""
    tokenizer: object
    policy: torch.nn.Module
    logprobs: Callable                            # token_logprobs of the policy
    ref_logprobs: Callable | None                 # of the frozen initial policy; None without KL
    reward_model: RewardModel
    engine: object                                # a rollout.Engine


@dataclass
class Progress:
    """What a run carries from step to step."""
    step: int = 0                                 # steps done
    sigma_sum: float = 0.0                        # sum of sigma over every group so far
    method_state: dict = field(default_factory=dict)      # what a method of neighbors.py carries
    history: list = field(default_factory=list)   # the rows of metrics.jsonl


def use_tiny_world(cfg, ranks):
    """The Config with the tiny world's paths where none are given; builds the world if missing."""
    world = f"runs/world-{cfg.world_seed}"
    defaults = {"policy": f"{world}/policy", "reward_model": f"{world}/reward_model",
                "data": f"{world}/train",
                "eval_data": f"{world}/eval/easy.jsonl,{world}/eval/hard.jsonl"}
    missing = {name: path for name, path in defaults.items() if not asdict(cfg)[name]}
    if missing:
        if ranks.rank == 0:
            tiny.ensure(world, cfg.world_seed)
        distributed.barrier()
    return replace(cfg, **missing)


def training_file(cfg):
    """The JSONL file of the training problems."""
    path = Path(cfg.data)
    return path / f"{cfg.regime}.jsonl" if path.is_dir() else path


def load_training_problems(cfg, tokenizer):
    """The problems of --data whose prompts are short enough. -> list of rows"""
    path = training_file(cfg)
    rows = load_problems(path)
    if neighbors.find_method(cfg.reward).needs_truth and not all("accepted" in row for row in rows):
        raise ValueError(f"--reward {cfg.reward} needs problems that list every right phrasing as "
                         f"'accepted', and {path} has others: choose another reward")
    short = []
    for row in rows:
        prompt = chat_prompt(tokenizer, row["problem"], cfg.instruction)
        if len(prompt) <= cfg.max_prompt_tokens:
            short.append(row)
    if not short:
        raise ValueError(f"every prompt of {path} is longer than "
                         f"max_prompt_tokens={cfg.max_prompt_tokens}: raise it")
    return short


def needs_reference(cfg):
    """Whether the loss compares the policy with the frozen initial one."""
    return bool(cfg.kl_coef or neighbors.find_method(cfg.reward).leash)


def plan_memory(cfg, gpus, gpu_gib):
    """What this run will hold on each of `gpus` GPUs of gpu_gib GiB, as text. Raises ValueError
    with advice if it cannot fit."""
    has_reference = needs_reference(cfg) and not cfg.lora_rank    # LoRA's is the base itself
    return memory_plan(cfg.policy, cfg.reward_model, gpus, gpu_gib, cfg.max_tokens_per_microbatch,
                       cfg.gradient_checkpointing, has_reference, cfg.gpu_memory_utilization,
                       lora_rank=cfg.lora_rank)


def is_sharded(cfg, ranks):
    """Whether the policy is sharded with FSDP2; --shard auto: on GPUs, unless there is LoRA."""
    if cfg.shard == "auto":
        return ranks.device.type == "cuda" and not cfg.lora_rank
    return cfg.shard == "on"


def load_policy(cfg, ranks, trainable=True):
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
        lora.add_lora(model, cfg.lora_rank, cfg.lora_alpha, derive_seed(cfg.seed, "lora"))
    if trainable and cfg.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if not on_gpu:
        model.set_attn_implementation("eager")               # faster at the sizes that suit a CPU
    if is_sharded(cfg, ranks):
        return model, distributed.shard(model, token_logprobs)
    return model, partial(token_logprobs, model)


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


def load_models(cfg, ranks, tokenizer):
    """Policy, frozen reference, reward model and engine, if they will fit. -> Models"""
    if ranks.device.type == "cuda":
        plan = plan_memory(cfg, ranks.world_size, gpu_memory_gib(ranks.device))
        if ranks.rank == 0:
            print(plan, flush=True)

    with distributed.one_rank_at_a_time():
        policy, logprobs = load_policy(cfg, ranks)
    ref_logprobs = None
    if needs_reference(cfg) and cfg.lora_rank:
        # The frozen base of the policy is the initial policy.
        def ref_logprobs(ids, mask, temperature):
            with lora.lora_disabled(policy):
                return logprobs(ids, mask, temperature)
    elif needs_reference(cfg):
        with distributed.one_rank_at_a_time():
            _, ref_logprobs = load_policy(cfg, ranks, trainable=False)

    with distributed.one_rank_at_a_time():
        reward_model = RewardModel(
            cfg.reward_model, ranks.device, system=cfg.rm_system or None,
            dtype=torch.bfloat16 if ranks.device.type == "cuda" else torch.float32,
            max_tokens=cfg.max_tokens_per_microbatch)
    if ranks.device.type == "cpu":
        reward_model.model.set_attn_implementation("eager")

    engine = make_engine(cfg.engine, cfg.policy if is_sharded(cfg, ranks) else policy, tokenizer,
                         gpu_memory_utilization=cfg.gpu_memory_utilization)
    # Whoever generates with final/ has to stop where the policy was trained to stop.
    policy.generation_config.eos_token_id = engine.stop_ids
    if ranks.rank == 0:
        print(describe_stop_tokens(tokenizer, engine.stop_ids), flush=True)
    return Models(tokenizer, policy, logprobs, ref_logprobs, reward_model, engine)


def write_config(cfg, ranks, folder):
    """Writes the config.json of a new run; of a run to resume, says what is no longer the same."""
    path = folder / "config.json"
    data_files = [training_file(cfg)]
    for entry in cfg.eval_data.split(","):
        _, source = split_entry(entry)
        data_files.append(source)
    origin = describe_origin(data_files, ranks)

    saved = json.loads(path.read_text()) if cfg.resume else {}
    if "made_with" not in saved:
        write_file(path, json.dumps(asdict(cfg) | {"made_with": origin}, indent=1) + "\n")
        return
    changed = changed_names(saved["made_with"], origin)
    if changed:
        print(f"note: since {folder} was started, this has changed: {', '.join(changed)}; the "
              "rest of the run may differ from what it would have been", flush=True)


def start_or_resume(cfg, ranks, folder, models, optimizer):
    """Writes a new run's settings, or loads the last checkpoint of a run to resume. -> Progress"""
    if ranks.rank == 0:
        write_config(cfg, ranks, folder)
    if not cfg.resume:
        return Progress()

    state = distributed.load_checkpoint(folder / "checkpoints", models.policy, optimizer)
    if state is None:
        # Killed before its first checkpoint: the run starts again, without its log.
        state = {"step": -1, "sigma_sum": 0.0, "method_state": {}}
    distributed.truncate_log(folder / "rollouts.jsonl", state["step"])
    history = distributed.truncate_log(folder / "metrics.jsonl", state["step"])
    if state["step"] > 0:
        push_weights(models)
    return Progress(max(0, state["step"]), state["sigma_sum"], state["method_state"], history)


# ---------------------------------------------------------------------------- parts of a step


@dataclass
class Response:
    """What is known of a response once it is verified and scored, and shared with all ranks."""
    rollout: Rollout
    text: str
    verdict: Verdict
    rm_score: float
    truth: bool | None                            # by the oracle; None where nothing needs it
    signals: dict                                 # what the method asked for, see neighbors.SIGNALS


def next_prompts(cfg, problems, step):
    """The P problems of a step. Each pass over the data is a new order, and leaves none out."""
    chosen = []
    order_of = {}                                 # epoch: a permutation of the problems
    first = (step - 1) * cfg.prompts_per_step
    for position in range(first, first + cfg.prompts_per_step):
        epoch, index = divmod(position, len(problems))
        if epoch not in order_of:
            rng = random.Random(derive_seed(cfg.seed, "order", epoch))
            order_of[epoch] = rng.sample(range(len(problems)), len(problems))
        chosen.append(problems[order_of[epoch][index]])
    return chosen


def verify_rollouts(cfg, rows, texts):
    """Verdicts on this rank's responses. rows: the problem of each text. -> list of Verdict

    With a generative verifier (the paper's Table 8) its yes alone is correct, and a reply without a
    decision is not. Its replies are kept in the run's folder, so that a resumed run gets the same.
    """
    references = [row["answer"] for row in rows]
    verdicts = verify_all(texts, references)
    if not cfg.judge_model:
        return verdicts

    opinions = judge([row["problem"] for row in rows], references, judge_input(verdicts, texts),
                     cfg.judge_url or None, cfg.judge_model,
                     Path("runs") / cfg.name / "judge.jsonl")
    reasons = {True: "correct", False: "wrong", None: "undecided"}
    return [verdict._replace(correct=opinion is True, reason=reasons[opinion])
            for verdict, opinion in zip(verdicts, opinions, strict=True)]


def to_batch(cfg, prompts, groups, method_state):
    """The responses of all ranks as a rewards.Batch. groups: P lists of G Responses."""
    def table(value_of):                                                                  # (P, G)
        return torch.tensor([[value_of(response) for response in group] for group in groups])

    truth = None
    if groups[0][0].truth is not None:
        truth = table(lambda response: response.truth)
    signals = {}
    for name in groups[0][0].signals:
        signals[name] = table(lambda response, name=name: response.signals[name])
    return Batch(
        rm_scores=table(lambda response: response.rm_score),
        verified=table(lambda response: float(response.verdict.correct)),
        lengths=table(lambda response: len(response.rollout.response_ids)),
        finished=table(lambda response: response.rollout.finished),
        texts=[[response.text for response in group] for group in groups],
        references=[row["answer"] for row in prompts],
        truth=truth,
        max_length=cfg.max_response_tokens,
        signals=signals,
        state=method_state)


def response_stats(groups):
    """Shares of verdicts without a comparison, lengths and truncation. -> {log key: number}"""
    responses = [response for group in groups for response in group]

    def mean(values):
        return sum(values) / len(responses)

    stats = {}
    for reason in ("no_answer", "unparsed", "timeout", "too_large", "undecided"):
        stats[f"verify/{reason}"] = mean(r.verdict.reason == reason for r in responses)
    stats["rollout/length"] = mean(len(r.rollout.response_ids) for r in responses)
    stats["rollout/truncated"] = mean(not r.rollout.finished for r in responses)
    return stats


def logged_groups(cfg, step, prompts, groups, result):
    """The first groups of a step as rows of rollouts.jsonl, with everything computed about them."""
    rows = []
    for p, group in enumerate(groups[:cfg.groups_logged]):
        # The oracle knows where the problem lists every phrasing that is right. Training does not
        # use what it says; the page of the run shows where verifier or reward model erred.
        truth = [None] * len(group)
        if prompts[p].get("accepted"):
            _, truth = grade([response.text for response in group], [prompts[p]] * len(group))

        for g, response in enumerate(group):
            rows.append({
                "step": step,
                "problem": prompts[p]["problem"],
                "reference": prompts[p]["answer"],
                "response": response.text,
                "answer": response.verdict.answer,
                "verified": response.verdict.correct,
                "reason": response.verdict.reason,
                "truth": truth[g],
                "rm_score": response.rm_score,
                "r_hat": result.r_hat[p, g].item(),
                "weight": result.weight[p].item(),
                "reward": result.rewards[p, g].item(),
                "advantage": result.advantages[p, g].item(),
            })
    return rows


def evaluate_policy(cfg, models, benchmarks):
    """pass@1 and the rest on every benchmark, T 0.6 and top-p 0.95 as in the paper. -> log keys"""
    params = SamplingParams(cfg.max_response_tokens, temperature=0.6, top_p=0.95)
    logged = {}
    for name, problems in benchmarks.items():
        numbers = evaluate(models.engine, models.tokenizer, problems, cfg.eval_samples, params,
                           derive_seed(cfg.seed, "eval"), cfg.instruction, models.reward_model)
        logged |= {f"eval/{name}/{key}": value for key, value in numbers.items()}
    return logged


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


# What a step of sane training stays within, in nats per token. A bfloat16 engine and trainer differ
# by about 0.01, and the policy moves by less than that within a step. Its entropy is far below that
# of guessing, ln V, but not 0.
LARGEST_GAP = 0.1
LARGEST_KL = 0.5
LOWEST_ENTROPY = 0.01
LARGEST_ENTROPY = 0.5                             # as a share of ln V


def signs_of_trouble(metrics, vocabulary_size):
    """What in a step's metrics says that training has left sense. -> {log key: sentence}"""
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


def warn_once(signs, warned):
    """Prints the signs of trouble whose keys are not in the set `warned`, and adds them to it."""
    for key, sentence in signs.items():
        if key not in warned:
            write_line(f"warning: {key} {sentence}")
            warned.add(key)


def write_line(line):
    """Prints a whole line at once, above the bar if there is one."""
    tqdm.write(line)
    sys.stdout.flush()


def log_rows(path, rows):
    """Appends rows to a log of the run; only rank 0 writes."""
    if torch.distributed.get_rank() == 0:
        append_jsonl(path, rows)


# ---------------------------------------------------------------------------- the loop


def train(cfg):
    """Trains as cfg says and writes runs/NAME/. -> the last step's metrics, evaluation included"""
    # Before the first step: settings, data, models, and what an earlier run has left.
    ranks = distributed.init()
    cfg = distributed.run_on_rank_0(lambda: complete_config(cfg, ranks.world_size))
    cfg = use_tiny_world(cfg, ranks)
    folder = Path("runs") / cfg.name
    P, G = cfg.prompts_per_step, cfg.rollouts_per_prompt

    with distributed.one_rank_at_a_time():
        tokenizer = load_tokenizer(cfg.policy, cfg.chat_template)
    problems = load_training_problems(cfg, tokenizer)
    benchmarks = load_benchmarks(cfg.eval_data.split(","))
    if ranks.rank == 0:
        for name, rows in {"the training problems": problems, **benchmarks}.items():
            note_unreadable(name, [row["answer"] for row in rows])
    models = load_models(cfg, ranks, tokenizer)
    method = neighbors.find_method(cfg.reward)
    signals_of = neighbors.make_signals(method, cfg, models)
    optimizer = make_optimizer(cfg, models.policy)
    progress = start_or_resume(cfg, ranks, folder, models, optimizer)
    tracker = Tracker(cfg.track if ranks.rank == 0 else "none", folder)
    if not progress.history:
        progress.history.append({"step": 0} | evaluate_policy(cfg, models, benchmarks))
        log_rows(folder / "metrics.jsonl", progress.history)
    tracker.send(progress.history)
    warned = set()

    # The bar is for terminals; elsewhere, and for all but rank 0, the lines below are enough.
    has_bar = ranks.rank == 0 and sys.stdout.isatty() and sys.stderr.isatty()
    bar = tqdm(range(progress.step + 1, cfg.steps + 1), desc="training", initial=progress.step,
               total=cfg.steps, disable=not has_bar)
    for step in bar:
        clock = Clock()

        # 1. Sample G responses per prompt. Prompt p belongs to rank p % world_size.
        prompts = next_prompts(cfg, problems, step)
        mine = range(ranks.rank, P, ranks.world_size)
        rollouts = models.engine.generate(
            [chat_prompt(tokenizer, prompts[p]["problem"], cfg.instruction) for p in mine], G,
            SamplingParams(cfg.max_response_tokens, cfg.temperature),
            [derive_seed(cfg.seed, "rollout", step, p) for p in mine])
        models.engine.sleep()
        texts = [response_text(tokenizer, rollout) for rollout in rollouts]
        clock.lap("generate")

        # 2. Verify: 0 or 1 for each response, Eq. 2. Only --reward oracle asks for the truth.
        rows = [prompts[p] for p in mine for _ in range(G)]
        verdicts = verify_rollouts(cfg, rows, texts)
        truth = [None] * len(texts)
        if method.needs_truth:
            _, truth = grade(texts, rows)
        clock.lap("verify")

        # 3. Score: the reward model's opinion of each response, and what else the method asks for.
        signals = signals_of(rows, rollouts, texts)
        scores = models.reward_model.score([row["problem"] for row in rows], texts).tolist()
        clock.lap("reward_model")

        # 4. Share: every rank gets all responses, and computes the same advantages from them.
        responses = [Response(*known) for known in
                     zip(rollouts, texts, verdicts, scores, truth, signals, strict=True)]
        groups = distributed.gather_interleaved(
            [responses[i:i + G] for i in range(0, len(responses), G)])
        batch = to_batch(cfg, prompts, groups, progress.method_state)

        # 5. Rewards and advantages: Eq. 3, 4 and 5. sigma_bar, in Eq. 4, is the mean over every
        #    group of the run so far, those of this step included.
        progress.sigma_sum += batch.rm_scores.std(1, correction=0).sum().item()
        sigma_bar = progress.sigma_sum / (step * P)
        if method.function:
            result = neighbors.apply_method(method, batch)
        else:
            result = compute_advantages(
                batch, sigma_bar, method.reward, alpha=cfg.alpha, beta=cfg.beta,
                verifier_share=cfg.verifier_share, weight_on=cfg.weight_on, w_min=cfg.w_min,
                w_max=cfg.w_max, weight_k=cfg.weight_k, advantage_norm=cfg.advantage_norm)

        # 6. Update the policy, and push its weights into the engine.
        all_rollouts = [response.rollout for group in groups for response in group]       # (P*G,)
        chosen, advantages = all_rollouts, result.advantages.flatten()
        update_stats = neighbors.NO_UPDATE
        if method.refill:
            chosen, advantages = neighbors.refill(batch.state, all_rollouts, result.advantages)
        if chosen:
            update_stats = update(cfg, ranks, models, optimizer, chosen, advantages)
            push_weights(models)
        clock.lap("update")

        # 7. Evaluate now and then.
        metrics = {"step": step, "hero/sigma_bar": sigma_bar}
        metrics |= group_stats(batch, result) | response_stats(groups) | update_stats
        metrics |= neighbors.state_stats(batch.state)
        too_long = distributed.all_sum([models.reward_model.share_too_long]).item()
        metrics["rm/too_long"] = too_long / ranks.world_size
        metrics |= performance(cfg, ranks, models, all_rollouts, clock.seconds)
        if step % cfg.eval_every == 0 or step == cfg.steps:
            metrics |= evaluate_policy(cfg, models, benchmarks)
            clock.lap("evaluate")

        # 8. Log and save.
        progress.step = step
        progress.history.append(metrics | clock.seconds)
        log_rows(folder / "rollouts.jsonl", logged_groups(cfg, step, prompts, groups, result))
        log_rows(folder / "metrics.jsonl", progress.history[-1:])
        tracker.send(progress.history[-1:])
        stop = distributed.sigterm_received() and step < cfg.steps
        if step % cfg.save_every == 0 or step == cfg.steps or stop:
            distributed.save_checkpoint(
                folder / "checkpoints" / f"step_{step:06d}", models.policy, optimizer,
                {"step": step, "sigma_sum": progress.sigma_sum,
                 "method_state": progress.method_state})
        if ranks.rank == 0:
            write_line(format_metrics(metrics))
            if chosen:                             # otherwise there was no update to judge
                warn_once(signs_of_trouble(metrics, models.policy.config.vocab_size), warned)
        if stop:
            break

    tracker.close()
    if progress.step >= cfg.steps:
        distributed.save_model(folder / "final", models.policy, tokenizer)
    if ranks.rank == 0 and progress.step >= cfg.steps:
        write_model_card(folder, asdict(cfg), asdict(Config()), progress.history)
        plot_curves(progress.history, folder / "curves.png", cfg.name)
        write_page(folder)
        print(run_summary(cfg, progress.history, folder), flush=True)
    elif ranks.rank == 0:
        print(f"stopped by SIGTERM after step {progress.step}; resume with: python hero.py "
              f"--resume --name {cfg.name}", flush=True)
    models.engine.close()
    if ranks.rank == 0 and cfg.push_to_hub and progress.step >= cfg.steps:
        print(f"pushed to {push_to_hub(folder / 'final', cfg.push_to_hub)}", flush=True)
    return progress.history[-1]


def main():
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    distributed.init()
    train(distributed.run_on_rank_0(parse_args))


if __name__ == "__main__":
    distributed.run(main)
