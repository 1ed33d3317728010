"""HERO: reinforcement learning led by a rule verifier and made dense by a reward model.

    python hero.py                              the laptop world: no GPU, no download, minutes
    python hero.py --reward verifier            a baseline; --help lists every setting
    torchrun --nproc_per_node 8 hero.py         the paper's run on eight GPUs, configs/qwen3-4b.toml

The loop is train(), the last function of this file. It is GRPO, with these differences from the
textbook form:

  1. The reward is HERO's, Eq. 3: the verifier's 0 or 1 chooses a narrow band, and the reward
     model's score the position inside it. So a group that is all rejected still teaches something.
  2. Prompts whose responses the reward model scores far apart count more, Eq. 4. The weight
     multiplies the advantage. On the reward, as in Eq. 5, it would cancel wherever advantages are
     divided by the standard deviation (here they are not, see 3).
  3. Advantages are not divided by the group's standard deviation (Dr. GRPO), so that the width of
     the band bounds the reward model's influence.
  4. The loss is a mean over the tokens of all responses of an optimizer step (DAPO), not a mean
     over responses of means; the ratio is clipped higher above (1.28) than below (0.8).
  5. There is no KL term unless --kl_coef asks for one, and each token's gradient is corrected for
     the difference between the generation engine's numerics and the trainer's.

Paper: "Hybrid Reinforcement", arXiv 2510.07242.
"""

import math
import os
import random
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch.utils.checkpoint import checkpoint

import distributed
import run
import tiny
from distributed import derive_seed, split_minibatch, work_of
from eval import evaluate, judge, judge_input
from prepare import DATA, EVAL_DATA, unsplit_problems
from problems import load_benchmarks, load_problems
from rewards import REWARDS, Batch, compute_advantages, group_stats
from rollout import (
    Rollout,
    SamplingParams,
    chat_prompt,
    load_tokenizer,
    resolve_engine,
    response_text,
    right_padded,
)
from run import TRACKERS
from settings import check_settings, parse_flags, setting
from verify import Verdict, grade, note_unreadable, verify_all

# ---------------------------------------------------------------------------- settings


@dataclass
class Config:
    """Every setting of a run. Each is a flag of the same name; settings.py makes the flags."""
    name: str = setting("", "folder under runs/; empty: made of the reward, the regime, the seed, "
                            "and what differs from the defaults", heading="run")
    seed: int = setting(0, "decides the order of the data and every sample")
    steps: int = setting(60, "rollout batches to train on", range="above 0")
    resume: bool = setting(False, "resume the run given by --name from its last checkpoint")
    config: str = setting("", "settings to start from: a name in configs/, a TOML file, or the "
                              "config.json of another run; empty: the laptop world, and qwen3-4b "
                              "under torchrun on GPUs")

    policy: str = setting("", "policy to train: a directory or hub name; empty, here and in the "
                              "next three: the tiny world's", heading="models and data")
    reward_model: str = setting("", "one-label sequence classifier: a directory or hub name")
    data: str = setting("", "folder with easy.jsonl, hard.jsonl and mixed.jsonl, or one JSONL file")
    eval_data: str = setting("", "JSONL files to evaluate on, separated by commas")
    world_seed: int = setting(0, "seed of the tiny world, which is built where it is missing")
    regime: str = setting("hard", "which training problems: easy, hard or mixed (to verify)",
                          choices=("easy", "hard", "mixed"))
    instruction: str = setting("", "text added to every problem in the policy's prompt")
    chat_template: str = setting("", "file with a Jinja chat template for the policy; empty: its "
                                     "own, or a plain one if it has none")
    rm_system: str = setting("", "system message that the reward model was trained with")

    engine: str = setting("auto", "what generates: vllm, transformers, or auto: vllm where there is"
                                  " a GPU", heading="rollouts")
    gpu_memory_utilization: float = setting(0.4, "share of a GPU for vLLM's weights and KV cache",
                                            range="above 0 and at most 1")
    prompts_per_step: int = setting(16, "P, prompts per rollout batch", range="above 0")
    rollouts_per_prompt: int = setting(8, "G, responses per prompt: the group", range="above 0")
    max_prompt_tokens: int = setting(1024, "problems with a longer prompt are left out",
                                     range="above 0")
    max_response_tokens: int = setting(48, "responses are cut at this length, and then count as "
                                           "unfinished", range="above 0")
    temperature: float = setting(1.0, "sampling temperature of the rollouts", range="above 0")

    reward: str = setting("hero", "what the policy is trained on: " + ", ".join(REWARDS),
                          heading="reward and advantage")
    alpha: float = setting(0.05, "half width of the band of rejected responses, Eq. 3",
                           range="between 0 and 1")
    beta: float = setting(0.05, "half width of the band of accepted responses, Eq. 3",
                          range="between 0 and 1")
    verifier_share: float = setting(0.5, "weight of the verdict in the sum of --reward naive",
                                    range="between 0 and 1")
    weight_on: str = setting("advantage", "what the prompt weight w (Eq. 4) multiplies: the "
                                          "advantage, the reward (Eq. 5 to the letter), or none",
                             choices=("advantage", "reward", "none"))
    w_min: float = setting(0.4, "smallest prompt weight, Eq. 4", range="0 or above")
    w_max: float = setting(3.0, "largest prompt weight, Eq. 4", range="0 or above")
    weight_k: float = setting(6.0, "steepness of the prompt weight, Eq. 4", range="0 or above")
    advantage_norm: str = setting("none", "none subtracts the group's mean; std also divides by "
                                          "the group's standard deviation", choices=("none", "std"))
    judge_model: str = setting("", "generative verifier, whose yes or no replaces the rule "
                                   "verifier's")
    judge_url: str = setting("", "OpenAI-compatible server of --judge_model; empty: OpenAI's, with "
                                 "OPENAI_API_KEY")

    learning_rate: float = setting(1e-4, "learning rate of AdamW, constant, without warm-up",
                                   range="above 0", heading="policy update")
    num_minibatches: int = setting(4, "optimizer steps per rollout batch", range="above 0")
    clip_ratio_low: float = setting(0.2, "the probability ratio is clipped below at 1 minus this",
                                    range="between 0 and 1")
    clip_ratio_high: float = setting(0.28, "the probability ratio is clipped above at 1 plus this",
                                     range="0 or above")
    importance_cap: float = setting(2.0, "upper bound on the per-token importance weight p_trainer "
                                         "/ p_engine; 0 disables the correction",
                                    range="0 or above")
    kl_coef: float = setting(0.0, "weight of the KL term to the frozen initial policy",
                             range="0 or above")
    max_grad_norm: float = setting(1.0, "gradients are clipped to this global norm",
                                   range="above 0")
    shard: str = setting("auto", "FSDP2, with bf16 compute on GPUs: on, off, or auto: on with GPUs "
                                 "unless there is LoRA", choices=("auto", "on", "off"))
    lora_rank: int = setting(0, "train LoRA adapters of this rank on a frozen bf16 policy, a whole "
                                "one per GPU; 0 trains all weights", range="0 or above")
    lora_alpha: float = setting(32.0, "the adapters' output is multiplied by this / lora_rank",
                                range="above 0")
    gradient_checkpointing: bool = setting(False, "keep only each layer's input for the backward "
                                                  "pass, and compute the rest again")
    max_tokens_per_microbatch: int = setting(2048, "tokens, padding included, per forward pass",
                                             range="above 0")

    eval_every: int = setting(30, "evaluate every N steps, before the first and after the last",
                              range="above 0", heading="evaluation, log and checkpoints")
    eval_samples: int = setting(4, "responses per evaluation problem (T 0.6, top-p 0.95)",
                                range="above 0")
    groups_logged: int = setting(2, "groups of each step that rollouts.jsonl holds, whole",
                                 range="0 or above")
    save_every: int = setting(20, "write a checkpoint every N steps and after the last",
                              range="above 0")
    track: str = setting("none", "experiment tracker that also gets the metrics: "
                                 + ", ".join(TRACKERS), choices=TRACKERS)


def parse_args(arguments=None):
    """The command line as a Config. ValueError names the flag at fault."""
    given = parse_flags(Config, arguments, "hero.py", __doc__.partition("\nThe loop")[0])
    if given.get("resume"):
        return run.config_of_run(Config, given)
    if "config" not in given and distributed.under_torchrun() and torch.cuda.is_available():
        given["config"] = "qwen3-4b"
    start = {}
    if given.get("config"):
        start = run.settings_to_start_from(Config, given["config"])
    return Config(**start | given)


def validate(cfg, world_size, rewards=REWARDS):
    """Raises ValueError for settings that cannot work, and says the way out."""
    check_settings(cfg)
    if cfg.reward not in rewards:
        raise ValueError(f"--reward {cfg.reward}: choose one of {', '.join(rewards)}; other "
                         "methods are in neighbors/: python neighbors/neighbors.py METHOD and the "
                         "same flags, --resume too")
    if cfg.alpha + cfg.beta >= 1:
        raise ValueError(f"--alpha {cfg.alpha} and --beta {cfg.beta}: their sum has to be below 1, "
                         "or a rejected response could get a higher reward than an accepted one")
    if cfg.name in (".", "..") or "/" in cfg.name:
        raise ValueError(f"--name {cfg.name}: has to be the name of a folder under runs/, not a "
                         "path")
    run.check_tracker(cfg.track)
    resolve_engine(cfg.engine)
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


def complete_config(cfg, world_size, rewards=REWARDS):
    """The Config checked, and that of a new run with its data and its name filled in."""
    validate(cfg, world_size, rewards)
    if cfg.resume:
        return cfg
    if cfg.name and (Path("runs") / cfg.name).exists():
        raise ValueError(f"runs/{cfg.name} already exists: choose another --name, or resume it "
                         "with --resume")
    cfg = replace(cfg, name=cfg.name or run.new_name(cfg))

    # Where the paper's problems have not been split by the verifier, the first ones have to do.
    if cfg.data == DATA and not (Path(DATA) / f"{cfg.regime}.jsonl").exists():
        data, held_out = unsplit_problems()
        cfg = replace(cfg, data=data)
        if cfg.eval_data == EVAL_DATA:
            cfg = replace(cfg, eval_data=held_out)
    return cfg


def use_tiny_world(cfg, ranks):
    """The Config with the tiny world's paths where none are given; builds the world if missing."""
    paths = run.world_paths(cfg.world_seed)
    missing = {name: path for name, path in paths.items() if not getattr(cfg, name)}
    if missing:
        if ranks.rank == 0:
            tiny.ensure(f"runs/world-{cfg.world_seed}", cfg.world_seed)
        distributed.barrier()
    return replace(cfg, **missing)


def load_training_problems(cfg, tokenizer):
    """The problems of --data whose prompts are short enough. -> list of rows"""
    path = run.training_file(cfg)
    rows = load_problems(path)
    if cfg.reward == "oracle" and not all("accepted" in row for row in rows):
        raise ValueError("--reward oracle needs problems that list every right phrasing as "
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
    logp_chunks = []
    entropy_chunks = []
    for h, t in zip(hidden.split(chunk), targets.split(chunk), strict=True):
        logp, entropies = checkpoint(head, h, t, use_reentrant=False)
        logp_chunks.append(logp)
        entropy_chunks.append(entropies)

    def at_their_tokens(chunks):
        """N numbers, each at its token's place in a (B, T) tensor of zeros."""
        zeros = torch.zeros(ids.shape, device=ids.device)
        return zeros.index_put((row, column + 1), torch.cat(chunks))

    if entropy:
        return at_their_tokens(logp_chunks), at_their_tokens(entropy_chunks)
    return at_their_tokens(logp_chunks)


# ---------------------------------------------------------------------------- the loss


def policy_loss(logp, old_logp, advantages, mask, num_tokens, clip_ratio_low=0.2,
                clip_ratio_high=0.28, importance=None, ref_logp=None, kl_coef=0.0):
    """Clipped policy gradient: the sum over masked tokens, divided by num_tokens.

    logp, old_logp, mask (B, T): log-probabilities of the policy now, and of the policy that
    sampled. advantages (B,). num_tokens: the active tokens of the whole optimizer step, so that the
    mean is over tokens however the rows are spread over micro-batches and ranks.
    importance (B, T): weight of each token's policy gradient, for samples of another distribution.
    ref_logp (B, T): with it, kl_coef * KL(policy || reference) is added, by the k3 estimate.
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
    old_logp: torch.Tensor | None = None          # (B, T) of the policy that sampled; None in the
                                                  # first minibatch, where it is the policy itself
    ref_logp: torch.Tensor | None = None          # (B, T) of the frozen initial policy


def to_micro_batch(rollouts, advantages, device):
    """Rollouts as the padded tensors of a MicroBatch."""
    rows = []
    prompt_lengths = []
    logprobs = []
    for rollout in rollouts:
        rows.append(rollout.prompt_ids + rollout.response_ids)
        prompt_lengths.append(len(rollout.prompt_ids))
        logprobs += rollout.logprobs

    # A response's tokens are those behind its prompt, up to the last real one.
    ids, real = right_padded(rows)                                                        # (B, T)
    position = torch.arange(ids.shape[1])                                                 # (T,)
    mask = real * (position >= torch.tensor(prompt_lengths)[:, None])                     # (B, T)
    engine_logp = torch.zeros(ids.shape)                                                  # (B, T)
    engine_logp[mask.bool()] = torch.tensor(logprobs)

    return MicroBatch(
        ids=ids.to(device),
        mask=mask.to(device),
        advantages=advantages.to(device),
        engine_logp=engine_logp.to(device))


def make_minibatches(cfg, ranks, rollouts, advantages):
    """This rank's micro-batches of each optimizer step, and the work of all ranks, as of work_of.

    rollouts, advantages (B,): those of all ranks. Minibatch m holds the same prompts whatever the
    number of ranks, which share its rows.
    """
    size = len(rollouts) // cfg.num_minibatches
    minibatches = []
    work = torch.zeros(3, dtype=torch.float64)
    for start in range(0, len(rollouts), size):
        members = rollouts[start:start + size]
        advantages_here = advantages[start:start + size]

        # Who computes what: lists of the members' indices, by rank and micro-batch.
        lengths = [len(r.prompt_ids) + len(r.response_ids) for r in members]
        plan = split_minibatch(lengths, ranks.world_size, cfg.max_tokens_per_microbatch)
        work += torch.tensor(work_of(lengths, plan))

        minibatch = []
        for rows in plan[ranks.rank]:
            chosen = [members[i] for i in rows]
            minibatch.append(to_micro_batch(chosen, advantages_here[rows], ranks.device))
        minibatches.append(minibatch)
    return minibatches, work


def take_step(cfg, ranks, models, optimizer, minibatch, sums, loss_of=policy_loss):
    """One optimizer step. Adds what it measures to `sums`. -> (tokens per rank, gradient norm)

    minibatch: this rank's MicroBatches. loss_of: takes policy_loss's arguments, returns the same.
    """
    # Gradients are averaged over ranks. So every rank divides by the mean number of tokens per
    # rank, and the result is the mean over all tokens of the optimizer step.
    own_tokens = sum(b.mask.sum().item() for b in minibatch)
    tokens_per_rank = distributed.all_sum(own_tokens).item() / ranks.world_size

    optimizer.zero_grad()
    for b in minibatch:
        logp, entropy = models.logprobs(b.ids, b.mask, cfg.temperature, entropy=True)
        old_logp = b.old_logp
        if old_logp is None:                                   # the first minibatch, see update
            old_logp = logp.detach()

        # Truncated importance sampling: the engine samples with slightly other numerics.
        gap = old_logp - b.engine_logp                         # of trainer to engine, (B, T)
        importance = None
        if cfg.importance_cap:
            importance = gap.exp().clamp(max=cfg.importance_cap)

        loss, stats = loss_of(
            logp, old_logp, b.advantages, b.mask, tokens_per_rank,
            clip_ratio_low=cfg.clip_ratio_low,
            clip_ratio_high=cfg.clip_ratio_high,
            importance=importance,
            ref_logp=b.ref_logp,
            kl_coef=cfg.kl_coef)
        loss.backward()
        sums["entropy"] += entropy.sum().item()
        sums["logprob_gap"] += gap.abs().sum().item()
        for name, value in stats.items():
            sums[name] += value

    norm = distributed.clip_gradients(models.policy, cfg.max_grad_norm)
    if not math.isfinite(norm):
        raise ValueError(f"the gradient norm is {norm}, and the step would destroy the policy: "
                         "lower --learning_rate, or look at the last group in rollouts.jsonl")
    optimizer.step()
    return tokens_per_rank, norm


def update(cfg, ranks, models, optimizer, rollouts, advantages, take_step=take_step):
    """Takes the optimizer steps of one rollout batch. -> {log key: mean over all ranks' tokens}

    models: a run.Models. rollouts (P * G,), advantages (P, G): those of all ranks, in the order of
    the prompts.
    """
    # transformers checkpoints activations in train mode only.
    models.policy.train(cfg.gradient_checkpointing)
    minibatches, work = make_minibatches(cfg, ranks, rollouts, advantages.flatten())

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
    sums = Counter()
    tokens = 0.0
    norms = []
    for minibatch in minibatches:
        tokens_per_rank, norm = take_step(cfg, ranks, models, optimizer, minibatch, sums)
        tokens += tokens_per_rank
        norms.append(norm)
    optimizer.zero_grad()                      # the rollouts need the memory of the gradients
    models.policy.eval()

    # 3. Means over all tokens of all ranks, for the log.
    all_tokens, *all_sums = distributed.all_sum([tokens, *sums.values()]).tolist()
    means = {name: total / all_tokens for name, total in zip(sums, all_sums, strict=True)}
    real, padded, elapsed = work.tolist()
    logged = {
        "rollout/logprob_gap": means.pop("logprob_gap"),
        "policy/gradient_norm": sum(norms) / len(norms),
        "perf/padding": 1 - real / padded,
        "perf/useful": real / elapsed,
    }
    return logged | {f"policy/{name}": value for name, value in means.items()}


# ---------------------------------------------------------------------------- parts of a step


@dataclass
class Response:
    """What is known of a response once it is verified and scored, and shared with all ranks."""
    rollout: Rollout
    text: str
    verdict: Verdict
    rm_score: float


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
    questions = [row["problem"] for row in rows]
    references = [row["answer"] for row in rows]
    verdicts = verify_all(texts, references)
    if not cfg.judge_model:
        return verdicts

    answers = judge_input(verdicts, texts)
    cache = Path("runs") / cfg.name / "judge.jsonl"
    opinions = judge(questions, references, answers, cfg.judge_url or None, cfg.judge_model, cache)

    reasons = {True: "correct", False: "wrong", None: "undecided"}
    judged = []
    for verdict, opinion in zip(verdicts, opinions, strict=True):
        judged.append(verdict._replace(correct=opinion is True, reason=reasons[opinion]))
    return judged


def to_batch(prompts, groups):
    """The responses of all ranks as a rewards.Batch. groups: P lists of G Responses."""
    def table(value_of):                                                                  # (P, G)
        return torch.tensor([[value_of(response) for response in group] for group in groups])

    return Batch(
        rm_scores=table(lambda response: response.rm_score),
        verified=table(lambda response: float(response.verdict.correct)),
        lengths=table(lambda response: len(response.rollout.response_ids)),
        finished=table(lambda response: response.rollout.finished),
        texts=[[response.text for response in group] for group in groups],
        problems=prompts)


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


# ---------------------------------------------------------------------------- the loop


def hero_advantages(cfg, models, batch, sigma_bar):
    """Eq. 3, 4 and 5 with a run's settings, by the reward called --reward. -> Advantages"""
    return compute_advantages(
        batch, sigma_bar, cfg.reward,
        alpha=cfg.alpha,
        beta=cfg.beta,
        verifier_share=cfg.verifier_share,
        weight_on=cfg.weight_on,
        w_min=cfg.w_min,
        w_max=cfg.w_max,
        weight_k=cfg.weight_k,
        advantage_norm=cfg.advantage_norm)


@dataclass
class Method:
    """What methods differ in. The defaults are HERO's and its baselines'; neighbors/ has others."""
    rewards: Collection = field(default_factory=lambda: REWARDS)          # what --reward may be
    advantages: Callable = hero_advantages        # (cfg, models, batch, sigma_bar) -> Advantages
    update: Callable = update
    with_reference: bool = False                  # whether its loss needs the initial policy
    state: dict = field(default_factory=dict)     # what it carries between steps; in checkpoints


def train(cfg, method=None):
    """Trains as cfg says and writes runs/NAME/. -> the last row of metrics.jsonl

    method: what another method than HERO does differently.
    """
    # Before the first step: settings, data, models, and what an earlier run has left.
    method = method or Method()
    ranks = distributed.init()
    cfg = distributed.run_on_rank_0(lambda: complete_config(cfg, ranks.world_size, method.rewards))
    cfg = use_tiny_world(cfg, ranks)
    folder = Path("runs") / cfg.name
    P, G = cfg.prompts_per_step, cfg.rollouts_per_prompt
    sampling = SamplingParams(cfg.max_response_tokens, cfg.temperature)

    with distributed.one_rank_at_a_time():
        tokenizer = load_tokenizer(cfg.policy, cfg.chat_template)
    problems = load_training_problems(cfg, tokenizer)
    benchmarks = load_benchmarks(cfg.eval_data.split(","))
    if ranks.rank == 0:
        for name, rows in {"the training problems": problems, **benchmarks}.items():
            note_unreadable(name, [row["answer"] for row in rows])
    models = run.load_models(cfg, ranks, tokenizer, token_logprobs, method.with_reference)
    optimizer = run.make_optimizer(cfg, models.policy)
    progress = run.start_or_resume(cfg, ranks, folder, models, optimizer, method.state)

    log = run.Log(cfg, ranks, folder)
    if not progress.history:
        progress.history.append({"step": 0} | evaluate_policy(cfg, models, benchmarks))
        log.metrics(progress.history[0])

    for step in log.steps(progress.step + 1, cfg.steps):
        clock = run.Clock()

        # 1. Sample G responses per prompt. Prompt p belongs to rank p % world_size.
        prompts = next_prompts(cfg, problems, step)
        mine = range(ranks.rank, P, ranks.world_size)
        prompt_ids = [chat_prompt(tokenizer, prompts[p]["problem"], cfg.instruction) for p in mine]
        seeds = [derive_seed(cfg.seed, "rollout", step, p) for p in mine]
        rollouts = models.engine.generate(prompt_ids, G, sampling, seeds)
        models.engine.sleep()
        texts = [response_text(tokenizer, rollout) for rollout in rollouts]
        clock.lap("generate")

        # 2. Verify: 0 or 1 for each response, Eq. 2.
        rows = [prompts[p] for p in mine for _ in range(G)]
        verdicts = verify_rollouts(cfg, rows, texts)
        clock.lap("verify")

        # 3. Score: the reward model's opinion of each response.
        scores = models.reward_model.score([row["problem"] for row in rows], texts).tolist()
        too_long = models.reward_model.share_too_long
        clock.lap("reward_model")

        # 4. Share: every rank gets all responses, and computes the same advantages from them.
        responses = list(map(Response, rollouts, texts, verdicts, scores))
        groups = distributed.gather_interleaved(
            [responses[i:i + G] for i in range(0, len(responses), G)])
        batch = to_batch(prompts, groups)

        # 5. Rewards and advantages: Eq. 3, 4 and 5. sigma_bar, in Eq. 4, is the mean over every
        #    group of the run so far, those of this step included.
        progress.sigma_sum += batch.rm_scores.std(1, correction=0).sum().item()
        sigma_bar = progress.sigma_sum / (step * P)
        result = method.advantages(cfg, models, batch, sigma_bar)

        # 6. Update the policy, and push its weights into the engine.
        all_rollouts = [response.rollout for group in groups for response in group]     # (P * G,)
        update_stats = method.update(cfg, ranks, models, optimizer, all_rollouts,
                                     result.advantages)
        run.push_weights(models)
        clock.lap("update")

        # 7. Evaluate now and then.
        metrics = {"step": step, "hero/sigma_bar": sigma_bar}
        metrics |= group_stats(batch, result) | response_stats(groups) | update_stats
        metrics["rm/too_long"] = distributed.all_sum([too_long]).item() / ranks.world_size
        metrics |= run.performance(cfg, ranks, models, all_rollouts, clock.seconds)
        if step % cfg.eval_every == 0 or step == cfg.steps:
            metrics |= evaluate_policy(cfg, models, benchmarks)
            clock.lap("evaluate")

        # 8. Log and save.
        progress.step = step
        progress.history.append(metrics | clock.seconds)
        log.rollouts(logged_groups(cfg, step, prompts, groups, result))
        log.metrics(progress.history[-1])
        stop = distributed.sigterm_received()
        if step % cfg.save_every == 0 or step == cfg.steps or stop:
            run.save(folder, models, optimizer, progress, method.state)
        log.show(metrics, models.policy.config.vocab_size)
        if stop:
            break

    log.close()
    if progress.step >= cfg.steps:
        distributed.save_model(folder / "final", models.policy, tokenizer)
    if ranks.rank == 0:
        run.finish(cfg, folder, progress)
    models.engine.close()
    return progress.history[-1]


def main():
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    distributed.init()
    train(distributed.run_on_rank_0(parse_args))


if __name__ == "__main__":
    distributed.run(main)
