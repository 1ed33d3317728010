"""HERO: reinforcement learning led by a rule verifier and made dense by a reward model.

    python hero.py                              the laptop world: no GPU, no download, minutes
    python hero.py --reward verifier            a baseline; --help lists every field
    torchrun --nproc_per_node 2 hero.py         the same run on several processes

One step: sample G responses to each of P prompts; the verifier gives each 0 or 1 and the reward
model a score; Eq. 3 turns the two into a reward and Eq. 4 into the prompt's weight; the
group-relative advantage drives a clipped policy gradient, several optimizer steps a batch.
Read from the bottom up: train() is the whole loop on one screen.
Paper: "Hybrid Reinforcement", arXiv 2510.07242.
"""

import argparse
import json
import os
import random
import time
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path

import torch
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm
from transformers import AutoModelForCausalLM

import distributed
import tiny
from distributed import derive_seed, from_pretrained, memory_plan
from eval import evaluate, judge, judge_input
from prepare import DATA, EVAL_DATA
from problems import STEP_BY_STEP, load_benchmarks, load_problems
from report import plot_curves, summary_table
from rewards import REWARDS, RewardModel, compute_advantages, group_stats, reliability
from rollout import (
    SamplingParams,
    chat_prompt,
    load_tokenizer,
    make_engine,
    resolve_engine,
    response_text,
    right_padded,
)
from verify import verify_all


def opt(default, sentence):
    return field(default=default, metadata={"help": sentence})


@dataclass
class Config:
    # the run
    name: str = opt("", "folder under runs/; empty: REWARD-REGIME-seedSEED, numbered if taken")
    seed: int = opt(0, "decides the order of the data and every sample")
    steps: int = opt(60, "rollout batches to train on")
    resume: bool = opt(False, "go on with the run called --name from its last checkpoint")
    preset: str = opt("", "settings to start from; without one: tiny on a CPU, qwen3-4b on GPUs")
    # models and data; empty means the tiny world's, which is built when it is missing
    policy: str = opt("", "policy to train: directory or hub name, with a chat template")
    reward_model: str = opt("", "one-label sequence classifier: directory or hub name")
    rm_system: str = opt("", "system message that the reward model was trained with")
    data: str = opt("", "folder with easy.jsonl, hard.jsonl, mixed.jsonl, or one JSONL file")
    eval_data: str = opt("", "JSONL files to evaluate on, separated by commas")
    regime: str = opt("hard", "which training problems: easy, hard or mixed (to verify)")
    instruction: str = opt("", "text added to every problem in the policy's prompt")
    world_seed: int = opt(0, "which tiny world")
    # rollouts
    engine: str = opt("auto", "what generates: vllm, transformers or auto, vllm where a GPU has it")
    gpu_memory_utilization: float = opt(0.4, "share of a GPU for vLLM's weights and KV cache")
    prompts_per_step: int = opt(16, "P, prompts in a rollout batch")
    rollouts_per_prompt: int = opt(8, "G, responses to each prompt: the group")
    max_prompt_tokens: int = opt(1024, "longer prompts are left out")
    max_response_tokens: int = opt(48, "longer responses are cut, and count as not finished")
    temperature: float = opt(1.0, "sampling temperature of the rollouts")
    # reward and advantage
    reward: str = opt("hero", "one of " + ", ".join(REWARDS))
    alpha: float = opt(0.05, "half width of the wrong band, Eq. 3")
    beta: float = opt(0.05, "half width of the correct band, Eq. 3")
    mix: float = opt(0.5, "share of the verdict in --reward naive")
    scale: str = opt("none", "advantage: none subtracts the group's mean, std also divides by std")
    weight: str = opt("advantage", "Eq. 5's w of a hero reward multiplies: advantage, reward, none")
    w_min: float = opt(0.4, "smallest weight, Eq. 4")
    w_max: float = opt(3.0, "largest weight, Eq. 4")
    k: float = opt(6.0, "steepness of the weight, Eq. 4")
    judge_model: str = opt("", "generative verifier: its yes or no in place of the rule verifier's")
    judge_url: str = opt("", "its OpenAI-compatible server; empty: OpenAI's, with OPENAI_API_KEY")
    gate: bool = opt(False, "scale uniform groups' advantages by the reward model's reliability")
    # policy update
    learning_rate: float = opt(3e-5, "of AdamW; constant, no warm-up")
    minibatches: int = opt(4, "optimizer steps for one rollout batch")
    clip_low: float = opt(0.2, "ratio is clipped below at 1 - this")
    clip_high: float = opt(0.28, "ratio is clipped above at 1 + this")
    importance_cap: float = opt(2.0, "cap of a token's importance weight, trainer / engine; 0: no weight")
    kl_coef: float = opt(0.0, "weight of the KL term to the frozen initial policy")
    max_grad_norm: float = opt(1.0, "largest global gradient norm")
    shard: str = opt("auto", "FSDP2, bf16 compute on GPUs: on, off, or auto, which is on with GPUs")
    gradient_checkpointing: bool = opt(False, "keep only each layer's input for the backward pass")
    max_tokens_per_microbatch: int = opt(2048, "tokens, padding included, in one forward pass")
    # evaluation, logging, checkpoints
    eval_every: int = opt(10, "evaluate every N steps; also before the first and after the last")
    eval_samples: int = opt(4, "responses to each evaluation problem (T 0.6, top-p 0.95)")
    groups_logged: int = opt(2, "groups of each step written to rollouts.jsonl, whole")
    save_every: int = opt(20, "write a checkpoint every N steps; also after the last")


# The paper's runs (its appendix A.1). 20 epochs of 2,000 problems in batches of 512 are 78 steps.
# alpha and beta are 0.05 for easy data, as here, and 0.1 for mixed and hard data. What deviates:
# the advantage is not divided by std, for then the weight would cancel; w acts on the advantage.
PAPER = {"policy": "Qwen/Qwen3-4B-Base", "reward_model": "nvidia/AceMath-7B-RM",
         "rm_system": "Please reason step by step, and check your final answer within \\boxed{}.",
         "instruction": STEP_BY_STEP, "data": DATA, "eval_data": EVAL_DATA,
         "regime": "easy", "steps": 78, "prompts_per_step": 512, "num_minibatches": 4,
         "rollouts_per_prompt": 8, "max_prompt_tokens": 1024, "max_response_tokens": 8192,
         "learning_rate": 1e-6, "max_tokens_per_microbatch": 16384, "gradient_checkpointing": True,
         "eval_samples": 1}
PRESETS = {
    "tiny": {},
    "qwen3-4b": PAPER,
    "octothinker-8b": PAPER | {"policy": "OctoThinker/OctoThinker-8B-Hybrid-Base",
                               "rollouts_per_prompt": 16, "max_response_tokens": 4096,
                               "kl_coef": 0.001},
    # one small GPU: shorter responses and batches, a reward model of the user's own (prepare.py)
    "qwen3-0.6b": PAPER | {"policy": "Qwen/Qwen3-0.6B-Base", "reward_model": "reward_model",
                           "rm_system": "", "prompts_per_step": 64, "max_response_tokens": 2048}}


# ---------------------------------------------------------------------------- log-probabilities


def token_logprobs(model, ids, mask, temperature=1.0, entropy=False, max_logits=2**26):
    """Log-probabilities of ids[:, t] given ids[:, :t], at the sampling temperature. -> (B, T)

    ids (B, T) right-padded; mask (B, T): 1 on the tokens wanted (the responses); the others get 0.
    Only wanted positions reach the vocabulary, max_logits float32 logits at a time, and these are
    computed again in the backward pass: (B, T, V) never exists. No attention mask is needed, since
    no token looks to its right. With entropy=True: (log-probabilities, entropies in nats).
    """
    wanted = mask[:, 1:].bool()
    hidden = model.base_model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state

    def head(hidden, target):
        logits = model.lm_head(hidden).float().div_(temperature)                          # (n, V)
        logp = torch.log_softmax(logits, -1)
        with torch.no_grad():
            spread = -(logp.exp() * logp).sum(-1) if entropy else logp.new_zeros(len(logp))
        return logp.gather(1, target[:, None])[:, 0], spread

    size = max(1, max_logits // model.config.vocab_size)
    parts = [checkpoint(head, h, t, use_reentrant=False)
             for h, t in zip(hidden[wanted].split(size), ids[:, 1:][wanted].split(size),
                             strict=True)]
    logp, spread = (torch.zeros(ids.shape, device=ids.device).index_put(
        (mask[:, 1:].nonzero() + torch.tensor([0, 1], device=ids.device)).unbind(1),
        torch.cat(part)) for part in zip(*parts, strict=True))
    return (logp, spread) if entropy else logp


def policy_loss(logp, old_logp, adv, mask, denom, clip_low=0.2, clip_high=0.28, importance=None,
                ref_logp=None, kl_coef=0.0):
    """Clipped policy gradient, the sum over masked tokens over denom. -> (loss, stats of sums)

    logp, old_logp, mask (B, T); adv (B,); denom: the active tokens of the whole optimizer step, so
    that the mean is over tokens however the rows are spread over micro-batches and ranks.
    importance (B, T): weight of each token's policy gradient, for samples of another distribution.
    With ref_logp, kl_coef times the k3 estimate of KL(policy || reference) is added to each token.
    """
    adv = adv[:, None]                                                                    # (B, 1)
    ratio = torch.exp((logp - old_logp) * mask)                                           # (B, T)
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    token_loss = -torch.minimum(ratio * adv, clipped * adv)
    if importance is not None:
        token_loss = token_loss * importance
    with torch.no_grad():
        stats = {"clip_low": ((ratio < 1 - clip_low) & (adv < 0)) * mask,
                 "clip_high": ((ratio > 1 + clip_high) & (adv > 0)) * mask,
                 "kl_old": (ratio - 1 - ratio.log()) * mask}
    if ref_logp is not None:
        gap = (ref_logp - logp) * mask
        kl = gap.exp() - 1 - gap
        token_loss = token_loss + kl_coef * kl
        stats["kl_ref"] = kl.detach() * mask
    return (token_loss * mask).sum() / denom, {key: v.sum().item() for key, v in stats.items()}


def microbatches(lengths, budget, count=1):
    """Row indices in groups with rows * longest <= budget; a row over the budget goes alone.

    At least `count` groups, if there are so many rows: under FSDP all ranks need the same number.
    """
    batches = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if not batches or (len(batches[-1]) + 1) * lengths[i] > budget:
            batches.append([])
        batches[-1].append(i)
    while len(batches) < min(count, len(lengths)):
        most = batches.pop(max(range(len(batches)), key=lambda i: len(batches[i])))
        batches += [most[::2], most[1::2]]
    return batches


def update(cfg, ranks, policy, logprobs, ref_logprobs, optimizer, rollouts, adv):
    """The optimizer steps of one rollout batch. -> stats, means over tokens of all ranks

    logprobs, ref_logprobs: token_logprobs bound to the policy, and to the reference or None.
    rollouts: this rank's, the prompts in order; adv: their advantages, (B,). Minibatch m holds the
    same prompts whatever the number of ranks.
    """
    policy.train(cfg.gradient_checkpointing)         # the mode in which transformers checkpoints
    rows = [rollout.prompt_ids + rollout.response_ids for rollout in rollouts]
    packed = []                                      # minibatches of micro-batches of tensors
    sums = {"tokens": 0.0, "entropy": 0.0, "gap": 0.0, "clip_low": 0.0, "clip_high": 0.0,
            "kl_old": 0.0, "kl_ref": 0.0}
    share = len(rows) // cfg.num_minibatches
    for start in range(0, len(rows), share):
        packed.append([])
        lengths = [len(row) for row in rows[start:start + share]]
        budget = cfg.max_tokens_per_microbatch
        count = max(distributed.gather_interleaved([len(microbatches(lengths, budget))]))
        for batch in microbatches(lengths, budget, count):
            batch = [start + i for i in batch]
            ids, real = right_padded([rows[i] for i in batch])                            # (B, T)
            prompt = torch.tensor([len(rollouts[i].prompt_ids) for i in batch])[:, None]
            mask = real * (torch.arange(ids.shape[1]) >= prompt)                          # (B, T)
            ids, mask = ids.to(ranks.device), mask.to(ranks.device)
            engine = torch.zeros(ids.shape, device=ranks.device)                          # (B, T)
            engine[mask.bool()] = torch.cat([torch.tensor(rollouts[i].logprobs)
                                             for i in batch]).to(ranks.device)
            with torch.no_grad():                    # the first minibatch meets the policy as it is
                old = logprobs(ids, mask, cfg.temperature) if start > 0 else None
                ref = ref_logprobs(ids, mask, cfg.temperature) if ref_logprobs else None
            packed[-1].append((ids, mask, old, engine, adv[batch].to(ranks.device), ref))
    norms = []
    for minibatch in packed:
        tokens = distributed.all_sum(sum(mask.sum().item() for _, mask, *_ in minibatch)).item()
        sums["tokens"] += tokens / ranks.world_size
        optimizer.zero_grad()
        for ids, mask, old, engine, advantages, ref in minibatch:
            logp, entropy = logprobs(ids, mask, cfg.temperature, entropy=True)
            old = logp.detach() if old is None else old
            gap = old - engine                       # log of trainer / engine, 0 off the responses
            # truncated importance sampling: the engine's numerics are not quite the trainer's
            importance = gap.exp().clamp(max=cfg.importance_cap) if cfg.importance_cap else None
            sums["gap"] += gap.abs().sum().item()
            sums["entropy"] += entropy.sum().item()
            # gradients are averaged over ranks, hence the denominator a rank
            loss, stats = policy_loss(logp, old, advantages, mask, tokens / ranks.world_size,
                                      cfg.clip_ratio_low, cfg.clip_ratio_high, importance, ref, cfg.kl_coef)
            loss.backward()
            for key, value in stats.items():
                sums[key] += value
        norm = distributed.clip_gradients(policy, cfg.max_grad_norm)
        if norm != norm or norm == float("inf"):
            raise ValueError(f"the gradient's norm is {norm}: the step would destroy the policy; "
                             "lower --learning_rate, or look at the last group in rollouts.jsonl")
        norms.append(norm)
        optimizer.step()
    policy.eval()
    total = dict(zip(sums, distributed.all_sum(list(sums.values())).tolist(), strict=True))
    stats = {f"policy/{key}": total[key] / total["tokens"]
             for key in ("entropy", "clip_low", "clip_high", "kl_old", "kl_ref")
             if key != "kl_ref" or ref_logprobs}
    return stats | {"policy/gradient_norm": sum(norms) / len(norms),
                    "rollout/logprob_gap": total["gap"] / total["tokens"]}


# ---------------------------------------------------------------------------- one step's parts


def load(cfg, ranks):
    """Problems, models and engine, checked. -> (problems, evals, policy, its token_logprobs, those
    of the frozen reference or None, tokenizer, reward model, engine)"""
    world = Path(f"runs/world-{cfg.world_seed}")
    paths = {"policy": world / "policy", "reward_model": world / "reward_model",
             "data": world / "train",
             "eval_data": f"{world}/eval/easy.jsonl,{world}/eval/hard.jsonl"}
    if not all(getattr(cfg, name) for name in paths):
        if ranks.rank == 0:
            tiny.ensure(world, cfg.world_seed)
        torch.distributed.barrier()
    paths = {name: getattr(cfg, name) or default for name, default in paths.items()}
    data = Path(paths["data"])
    problems = load_problems(data / f"{cfg.regime}.jsonl" if data.is_dir() else data)
    evals = load_benchmarks(str(paths["eval_data"]).split(","))
    tokenizer = load_tokenizer(paths["policy"])
    fitting = [row for row in problems
               if len(chat_prompt(tokenizer, row["problem"], cfg.instruction))
               <= cfg.max_prompt_tokens]
    if not fitting:
        raise ValueError(f"every prompt of {data} is longer than "
                         f"max_prompt_tokens={cfg.max_prompt_tokens}: raise it")
    if ranks.device.type == "cuda":
        plan = memory_plan(paths["policy"], paths["reward_model"], ranks.world_size,
                           torch.cuda.get_device_properties(ranks.device).total_memory / 2**30,
                           cfg.max_tokens_per_microbatch, cfg.gradient_checkpointing,
                           bool(cfg.kl_coef), cfg.gpu_memory_utilization)
        if ranks.rank == 0:
            print(plan, flush=True)
    policy = from_pretrained(AutoModelForCausalLM, paths["policy"], dtype=torch.float32)
    sharded = cfg.shard == "on" or cfg.shard == "auto" and ranks.device.type == "cuda"
    place = "cpu" if sharded else ranks.device       # sharding moves layer by layer
    policy = policy.to(place).eval()                 # no dropout: ratios are of the same function
    if cfg.gradient_checkpointing:
        policy.gradient_checkpointing_enable({"use_reentrant": False})
    reference = None
    if cfg.kl_coef:
        reference = from_pretrained(AutoModelForCausalLM, paths["policy"], dtype=torch.float32)
        reference = reference.to(place).eval().requires_grad_(False)
    scorer = RewardModel(paths["reward_model"], ranks.device, system=cfg.rm_system or None,
                         dtype=torch.bfloat16 if ranks.device.type == "cuda" else torch.float32,
                         max_tokens=cfg.max_tokens_per_microbatch)
    if ranks.device.type == "cpu":                   # faster at the sizes that suit a CPU
        for model in (policy, reference, scorer.model):
            model and model.set_attn_implementation("eager")
    logprobs, ref_logprobs = (
        model and (distributed.shard(model, token_logprobs) if sharded
                   else partial(token_logprobs, model)) for model in (policy, reference))
    engine = make_engine(cfg.engine, policy.name_or_path if sharded else policy, tokenizer,
                         gpu_memory_utilization=cfg.gpu_memory_utilization)
    return fitting, evals, policy, logprobs, ref_logprobs, tokenizer, scorer, engine


def prompts_of(cfg, problems, step):
    """The P problems of a step: every pass over the data is a new order, and none is left out."""
    chosen = []
    for position in range((step - 1) * cfg.prompts_per_step, step * cfg.prompts_per_step):
        epoch, place = divmod(position, len(problems))
        if not chosen or place == 0:
            order = random.Random(derive_seed(cfg.seed, "order", epoch)).sample(
                range(len(problems)), len(problems))
        chosen.append(problems[order[place]])
    return chosen


class Clock:
    """Seconds of each phase: clock("generate") books the time since the call before."""

    def __init__(self):
        self.last, self.seconds = time.perf_counter(), {}

    def __call__(self, phase):
        now = time.perf_counter()
        self.seconds[f"time/{phase}"] = self.seconds.get(f"time/{phase}", 0) + now - self.last
        self.last = now


def append(path, rows):
    """Adds rows to a JSONL file of the run; only rank 0 writes."""
    if torch.distributed.get_rank() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def verdicts_of(cfg, rows, texts):
    """Verdicts of this rank's responses; rows: the problem of each.

    With a generative verifier (the paper's Table 8) its Yes alone is correct, and a reply without a
    decision is not. Its replies are kept in the run's folder, so that a resumed run meets the same.
    """
    verdicts = verify_all(texts, [row["answer"] for row in rows])
    if not cfg.judge_model:
        return verdicts
    opinions = judge([row["problem"] for row in rows], [row["answer"] for row in rows],
                     judge_input(verdicts, texts), cfg.judge_url or None, cfg.judge_model,
                     Path("runs") / cfg.name / "judge.jsonl")
    reasons = {True: "correct", False: "wrong", None: "undecided"}
    return [verdict._replace(correct=opinion is True, reason=reasons[opinion])
            for verdict, opinion in zip(verdicts, opinions, strict=True)]


def row_stats(groups):
    """Shares of verdicts without an answer, lengths, truncation over the rows of all groups."""
    rows = [row for group in groups for row in group]
    return {f"verify/{reason}": sum(row["reason"] == reason for row in rows) / len(rows)
            for reason in ("no_answer", "unparsed", "timeout", "too_large", "undecided")} | {
        "rollout/length": sum(row["length"] for row in rows) / len(rows),
        "rollout/truncated": sum(not row["finished"] for row in rows) / len(rows)}


def logged_groups(cfg, ranks, step, prompts, texts, verdicts, rm, parts):
    """The first groups of the step with everything that was computed about them, as rows."""
    G, count = cfg.rollouts_per_prompt, -(-cfg.groups_logged // ranks.world_size)
    mine = [{"text": texts[i * G:(i + 1) * G], "verdicts": verdicts[i * G:(i + 1) * G]}
            for i in range(min(count, len(texts) // G))]
    gathered = distributed.gather_interleaved(mine)[:cfg.groups_logged]
    return [{"step": step, "prompt": prompts[p]["problem"], "reference": prompts[p]["answer"],
             "response": group["text"][g], "answer": group["verdicts"][g].answer,
             "correct": group["verdicts"][g].correct, "reason": group["verdicts"][g].reason,
             "rm": rm[p, g].item(), "r_hat": parts["r_hat"][p, g].item(),
             "weight": parts["weight"][p].item(), "reward": parts["reward"][p, g].item(),
             "advantage": parts["adv"][p, g].item()}
            for p, group in enumerate(gathered) for g in range(G)]


def line_of(metrics):
    """The metrics that a person watches, on one line."""
    shown = {"verifier": "verify/accuracy", "all wrong": "verify/all_wrong", "rm": "rm/mean",
             "auroc": "rm/auroc", "|A|": "reward/abs_adv_mixed", "entropy": "policy/entropy",
             "grad": "policy/gradient_norm", "length": "rollout/length"}
    values = [f"{name} {metrics[key]:.3f}" for name, key in shown.items()
              if metrics.get(key) is not None]
    values += [f"{key.split('/')[1]} pass@1 {value:.3f}" for key, value in metrics.items()
               if key.startswith("eval/") and key.endswith("pass@1")]
    return f"step {metrics['step']:3d}  " + "  ".join(values)


# ---------------------------------------------------------------------------- the loop


def train(cfg):
    """Trains as cfg says and writes runs/NAME/. -> the last step's metrics, evaluation included"""
    ranks = distributed.init()
    cfg = distributed.run_on_rank_0(lambda: checked(cfg, ranks.world_size))
    folder, P, G = Path("runs") / cfg.name, cfg.prompts_per_step, cfg.rollouts_per_prompt
    problems, evals, policy, logprobs, ref_logprobs, tokenizer, reward_model, engine = load(
        cfg, ranks)
    optimizer = torch.optim.AdamW(policy.parameters(), cfg.learning_rate, betas=(0.9, 0.95),
                                  weight_decay=0.0)
    done, running, history = start(cfg, folder, policy, optimizer)
    if done:
        engine.update_weights(distributed.gathered_tensors(policy))

    def evaluation():
        return {f"eval/{name}/{key}": value for name, rows in evals.items()
                for key, value in evaluate(
                    engine, tokenizer, rows, cfg.eval_samples,
                    SamplingParams(cfg.max_response_tokens, temperature=0.6, top_p=0.95),
                    derive_seed(cfg.seed, "eval"), cfg.instruction, reward_model).items()}

    if not history:
        history.append({"step": 0} | evaluation())
        append(folder / "metrics.jsonl", history)
    bar = tqdm(range(done + 1, cfg.steps + 1), desc="training", initial=done, total=cfg.steps,
               disable=ranks.rank > 0)
    for step in bar:
        clock = Clock()
        prompts = prompts_of(cfg, problems, step)
        mine = range(ranks.rank, P, ranks.world_size)          # prompt p is rank p % world_size's
        asked = [prompts[p]["problem"] for p in mine for _ in range(G)]
        rollouts = engine.generate(
            [chat_prompt(tokenizer, prompts[p]["problem"], cfg.instruction) for p in mine], G,
            SamplingParams(cfg.max_response_tokens, cfg.temperature),
            [derive_seed(cfg.seed, "rollout", step, p) for p in mine])
        engine.sleep()
        texts = [response_text(tokenizer, rollout) for rollout in rollouts]
        clock("generate")
        verdicts = verdicts_of(cfg, [prompts[p] for p in mine for _ in range(G)], texts)
        clock("verify")
        scores = reward_model.score(asked, texts).tolist()
        clock("reward_model")

        # every rank has all verdicts and scores, and computes the same advantages from them
        rows = [{"rm": score, "correct": verdict.correct, "reason": verdict.reason,
                 "length": len(rollout.response_ids), "finished": rollout.finished}
                for score, verdict, rollout in zip(scores, verdicts, rollouts, strict=True)]
        groups = distributed.gather_interleaved([rows[i:i + G] for i in range(0, len(rows), G)])
        rm = torch.tensor([[row["rm"] for row in group] for group in groups])             # (P, G)
        correct = torch.tensor([[float(row["correct"]) for row in group] for group in groups])
        running["sigma_sum"] += rm.std(1, correction=0).sum().item()
        sigma_bar = running["sigma_sum"] / (step * P)          # mean over every group of the run
        running["auroc"], trust = reliability(running["auroc"], rm, correct)
        parts = compute_advantages(rm, correct, sigma_bar, gate=trust if cfg.gate else 1.0, **{
            name: getattr(cfg, name) for name in ("reward", "alpha", "beta", "mix", "scale",
                                                  "weight", "w_min", "w_max", "k")})
        adv = parts["adv"][ranks.rank::ranks.world_size].flatten()                        # (B,)
        stats = update(cfg, ranks, policy, logprobs, ref_logprobs, optimizer, rollouts, adv)
        engine.update_weights(distributed.gathered_tensors(policy))
        clock("update")

        metrics = {"step": step} | group_stats(rm, correct, parts) | {
            "hero/sigma_bar": sigma_bar, "rm/reliability": trust} | row_stats(groups) | stats
        if step % cfg.eval_every == 0 or step == cfg.steps:
            metrics |= evaluation()
            clock("evaluate")
        history.append(metrics | clock.seconds)
        append(folder / "rollouts.jsonl",
               logged_groups(cfg, ranks, step, prompts, texts, verdicts, rm, parts))
        append(folder / "metrics.jsonl", history[-1:])
        stop = distributed.sigterm_received() and step < cfg.steps
        if step % cfg.save_every == 0 or step == cfg.steps or stop:
            distributed.save_checkpoint(
                folder / "checkpoints" / f"step_{step:06d}", policy, optimizer,
                {"step": step, "running": running, "config": asdict(cfg)})
        if ranks.rank == 0:
            bar.write(line_of(metrics))
        if stop:
            break
    finish(cfg, ranks, folder, history, policy, tokenizer)
    engine.close()
    return history[-1]


def finish(cfg, ranks, folder, history, policy, tokenizer):
    """Writes final/ and curves.png, and prints what the run has done and what to try next."""
    if history[-1]["step"] < cfg.steps:
        if ranks.rank == 0:
            print(f"stopped by SIGTERM after step {history[-1]['step']}; go on with: "
                  f"python hero.py --resume --name {cfg.name}", flush=True)
        return
    weights = {name: tensor.cpu() for name, tensor in distributed.gathered_tensors(policy)
               if ranks.rank == 0}
    if ranks.rank > 0:
        return
    policy.save_pretrained(folder / "final", state_dict=weights)
    tokenizer.save_pretrained(folder / "final")
    plot_curves(history, folder / "curves.png", cfg.name)
    first, last = history[0], history[-1]
    names = dict.fromkeys(key.split("/")[1] for key in first if key.startswith("eval/"))
    print(f"\nheld-out problems, {cfg.eval_samples} samples each at T 0.6, top-p 0.95. pass@1 and "
          "pass@k: the truth (the oracle);\nmaj and best: the commonest answer and the reward "
          "model's choice among the samples; verifier: the share that\nthe rule verifier accepts, "
          "with its precision and recall; rm: the reward model, AUROC: against the truth;\n"
          "cut: truncated\n")
    print(summary_table({
        f"{name}, {when}": {key.removeprefix(f"eval/{name}/"): value for key, value in row.items()
                            if key.startswith(f"eval/{name}/")}
        for name in names for when, row in (("before", first), ("after", last))}))
    others = [reward for reward in ("hero", "verifier", "rm") if reward != cfg.reward]
    print(f"\ncurves: {folder}/curves.png    samples: {folder}/rollouts.jsonl\ntry next:\n"
          + "\n".join(f"  python hero.py --reward {reward} --regime {cfg.regime} --seed {cfg.seed}"
                      for reward in others), flush=True)


# ---------------------------------------------------------------------------- start and resume


def checked(cfg, world_size):
    """cfg with a name. Raises ValueError for settings that cannot work, and says the way out."""
    choices = {"reward": list(REWARDS), "scale": ["none", "std"],
               "regime": ["easy", "hard", "mixed"], "weight": ["advantage", "reward", "none"],
               "shard": ["auto", "on", "off"]}
    for name, allowed in choices.items():
        if getattr(cfg, name) not in allowed:
            raise ValueError(f"--{name} {getattr(cfg, name)}: choose one of {', '.join(allowed)}")
    resolve_engine(cfg.engine)
    for name in ("steps", "prompts_per_step", "rollouts_per_prompt", "max_response_tokens",
                 "temperature", "learning_rate", "num_minibatches", "eval_every", "eval_samples",
                 "save_every", "max_tokens_per_microbatch", "max_grad_norm"):
        if not getattr(cfg, name) > 0:
            raise ValueError(f"--{name} {getattr(cfg, name)}: has to be above 0")
    for name in ("alpha", "beta", "mix"):
        if not 0 <= getattr(cfg, name) <= 1:
            raise ValueError(f"--{name} {getattr(cfg, name)}: has to be between 0 and 1")
    whole = cfg.num_minibatches * world_size
    if cfg.prompts_per_step % whole:
        raise ValueError(
            f"P*G={cfg.prompts_per_step}*{cfg.rollouts_per_prompt} rollouts cannot be shared: "
            f"prompts_per_step={cfg.prompts_per_step} is not divisible by minibatches * ranks = "
            f"{cfg.num_minibatches} * {world_size}; choose --prompts_per_step a multiple of {whole}")
    if cfg.judge_url and not cfg.judge_model:
        raise ValueError("--judge_url needs --judge_model, the name of a model on that server")
    if cfg.judge_model and not cfg.judge_url and not os.environ.get("OPENAI_API_KEY"):
        raise ValueError(f"--judge_model {cfg.judge_model} is on no server: give --judge_url, any "
                         "OpenAI-compatible one, or set OPENAI_API_KEY for OpenAI's")
    if cfg.resume:
        return cfg
    if cfg.name and (Path("runs") / cfg.name).exists():
        raise ValueError(f"runs/{cfg.name} holds another run: choose another --name, or go on with "
                         "it by --resume")
    if PRESETS.get(cfg.preset):                      # all but the tiny world want data of their own
        cfg = replace(cfg, **unprepared(cfg.data, cfg.eval_data, cfg.regime))
    base, number = f"{cfg.reward}-{cfg.regime}-seed{cfg.seed}", 1
    while not cfg.name or (Path("runs") / cfg.name).exists():
        cfg = replace(cfg, name=base + (f"-{number}" if number > 1 else ""))
        number += 1
    return cfg


def start(cfg, folder, policy, optimizer):
    """A new run's folder, or the state of the last checkpoint. -> (steps done, running, history)

    running: what the method carries from step to step: the sum of sigma, the fading AUROC.
    A run that was killed before its first checkpoint starts again from nothing.
    """
    running = {"sigma_sum": 0.0, "auroc": (0.0, 0.0)}
    if not cfg.resume:
        append(folder / "config.json", [asdict(cfg)])
        return 0, running, []
    state = distributed.load_checkpoint(folder / "checkpoints", policy, optimizer)
    state = state or {"step": -1, "running": running}
    distributed.truncate_log(folder / "rollouts.jsonl", state["step"])
    history = distributed.truncate_log(folder / "metrics.jsonl", state["step"])
    return max(0, state["step"]), state["running"], history


def parse(arguments=None):
    """The command line -> Config. ValueError names the flag at fault."""
    presets = "\n".join(f"  {name}: " + ", ".join(f"{key}={value!r}" for key, value in p.items())
                        for name, p in PRESETS.items())
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=f"presets:\n{presets}", allow_abbrev=False,
        argument_default=argparse.SUPPRESS, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(message):
        raise ValueError(f"{message}; python hero.py --help lists every flag")
    parser.error = error
    for f in fields(Config):
        default = f" (default: {f.default})" if f.default != "" else ""
        kind = {"action": "store_true"} if f.type is bool else {"type": f.type, "metavar": "VALUE"}
        parser.add_argument(f"--{f.name}", help=f.metadata["help"] + default, **kind)
    given = vars(parser.parse_args(arguments))
    if given.get("resume"):
        return resumed(given)
    if not given.get("preset"):
        given["preset"] = "qwen3-4b" if torch.cuda.is_available() else "tiny"
        print(f"preset: {given['preset']}", flush=True)
    if given["preset"] not in PRESETS:
        raise ValueError(f"--preset {given['preset']}: choose one of {', '.join(PRESETS)}")
    return Config(**PRESETS[given["preset"]] | given)


def resumed(given):
    """The Config that the run was started with. Only how long it runs may be changed, and where
    its generative verifier is."""
    path = Path("runs") / given.get("name", "") / "config.json"
    if not given.get("name") or not path.is_file():
        raise ValueError(f"--resume needs --name, the name of a run; {path} does not exist")
    saved = json.loads(path.read_text())
    for name, value in given.items():
        if name not in ("name", "resume", "steps", "judge_url") and value != saved[name]:
            raise ValueError(f"--{name} {value} differs from the run's own {saved[name]}: leave it "
                             "out, or start a new run")
    return Config(**saved | given)


def main():
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    distributed.init()
    train(distributed.run_on_rank_0(parse))


if __name__ == "__main__":
    distributed.run(main)
