"""Rewards: the paper's Eq. 1, 3, 4 and 5, its baselines, the advantage, and the reward model.

Most functions are pure and take (P, G) tensors: P prompts, G rollouts of each.

    rm_scores   (P, G)  the reward model's score of each rollout, any real number
    verified    (P, G)  the rule verifier's verdict, 0 or 1 (Eq. 2, verify.py)
    rewards     (P, G)  what a method makes of the two
    advantages  (P, G)  how much better than its group a rollout is: the factor of its gradient

To add a reward, write a function of a Batch and give it an entry in REWARDS; `--reward NAME` then
trains with it. Standard deviations over a group are population ones (ddof 0) everywhere.
Paper: "Hybrid Reinforcement", arXiv 2510.07242.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import AutoModelForSequenceClassification

from distributed import from_pretrained
from rollout import load_tokenizer, right_padded
from verify import grade

# ---------------------------------------------------------------------------- Eq. 3 and Eq. 4


def stratify(rm_scores, verified, alpha=0.05, beta=0.05, eps=1e-6):
    """Eq. 3: the verifier chooses the band, the reward model the position inside it. -> (P, G)

        rejected  [-alpha, alpha]         accepted  [1 - beta, 1 + beta]

    With alpha = 0.05 and beta = 0.1, scores of 4, 1, 2, -1 and verdicts of 1, 1, 0, 0 give rewards
    of 1.1, 0.9, 0.05, -0.05. A rollout alone in its stratum, or a stratum of equal scores, gets the
    band's lower end.
    alpha or beta of 0 closes that band (the paper's Fig. 2a). The dtype of rm_scores is kept.
    """
    accepted = verified.bool()
    rejected_band = -alpha + 2 * alpha * min_max(rm_scores, ~accepted, eps)
    accepted_band = 1 - beta + 2 * beta * min_max(rm_scores, accepted, eps)

    # Each rollout takes the value of its own band. What min_max says of the others is dropped here.
    return torch.where(accepted, accepted_band, rejected_band)


def min_max(scores, members, eps):
    """Scores scaled to [0, 1) by the lowest and highest score among each row's members. -> (P, G)

    members (P, G): the rollouts of one stratum. The values of all others, and of a row without
    members, are meaningless; stratify takes none of them.
    """
    low = scores.masked_fill(~members, float("inf")).amin(1, keepdim=True)                # (P, 1)
    high = scores.masked_fill(~members, -float("inf")).amax(1, keepdim=True)              # (P, 1)
    return (scores - low) / (high - low + eps)


def difficulty_weight(sigma, sigma_bar, w_min=0.4, w_max=3.0, k=6.0):
    """Eq. 4: prompts whose responses the reward model scores far apart count more. -> (P,)

    sigma (P,): standard deviation of the scores over each prompt's rollouts; sigma_bar: its running
    mean. Both are in units of the reward model. The weight is halfway from w_min to w_max at
    sigma_bar, and k says how steeply it rises there.
    """
    return w_min + (w_max - w_min) * torch.sigmoid(k * (sigma - sigma_bar))


# ---------------------------------------------------------------------------- rewards, by name


@dataclass
class Batch:
    """The rollouts of one step, as a reward sees them: P prompts, G rollouts of each."""
    rm_scores: torch.Tensor                       # (P, G) raw scores of the reward model
    verified: torch.Tensor                        # (P, G) verdicts of the verifier, 0.0 or 1.0
    lengths: torch.Tensor | None = None           # (P, G) tokens of each response
    finished: torch.Tensor | None = None          # (P, G) False where a response was cut off
    texts: list[list[str]] | None = None          # P lists of G responses
    problems: list[dict] | None = None            # P problems, each with its reference "answer"


def hero_reward(batch, alpha, beta):
    """HERO's dense reward, Eq. 3. -> (P, G)"""
    return stratify(batch.rm_scores, batch.verified, alpha, beta)


def verifier_reward(batch):
    """The verifier's 0 or 1 alone, Eq. 2. -> (P, G)"""
    return batch.verified.to(batch.rm_scores.dtype)


def rm_reward(batch):
    """The reward model's raw score alone. -> (P, G)"""
    return batch.rm_scores


def naive_reward(batch, verifier_share):
    """A weighted sum of verdict and raw score, as in the paper's Table 9. -> (P, G)"""
    verified = batch.verified.to(batch.rm_scores.dtype)
    return verifier_share * verified + (1 - verifier_share) * batch.rm_scores


def oracle_reward(batch):
    """The truth, 0 or 1: what no method can know, and so the upper bound of all. -> (P, G)"""
    rows = []
    responses = []
    for problem, texts in zip(batch.problems, batch.texts, strict=True):
        rows += [problem] * len(texts)
        responses += texts
    _, truth = grade(responses, rows)
    return torch.tensor(truth).view(batch.rm_scores.shape).to(batch.rm_scores.dtype)


@dataclass(frozen=True)
class Reward:
    """What `--reward NAME` means."""
    function: Callable                            # (batch, the settings it needs) -> (P, G)
    needs: tuple[str, ...] = ()                   # settings that the function takes, by name
    weighted: bool = False                        # whether the prompt weight of Eq. 4 applies


REWARDS = {
    "hero": Reward(hero_reward, needs=("alpha", "beta"), weighted=True),
    "verifier": Reward(verifier_reward),
    "rm": Reward(rm_reward),
    "naive": Reward(naive_reward, needs=("verifier_share",)),
    "oracle": Reward(oracle_reward),
}


# ---------------------------------------------------------------------------- the advantage


def group_advantages(rewards, norm="none", weight=None, eps=1e-6):
    """Group-relative advantage: the reward minus its group's mean, times the weight. -> (P, G)

    norm: "none" only subtracts the mean, as in Dr. GRPO. Then alpha bounds the reward model's
          influence.
          "std" also divides by the group's standard deviation, as in GRPO. Then an
          all-rejected group is blown up to unit variance whatever alpha is, and any factor on the
          reward cancels.
    weight (P,): the w of Eq. 5. It multiplies after the normalization, so it acts under both.
    The advantage is 0 for a group of one, and for a group whose rewards are all equal.
    """
    advantages = rewards - rewards.mean(1, keepdim=True)
    if norm == "std":
        advantages = advantages / (rewards.std(1, keepdim=True, correction=0) + eps)
    elif norm != "none":
        raise ValueError(f"norm={norm!r} is not a normalization of the advantage: choose none or "
                         "std")
    return advantages if weight is None else advantages * weight[:, None]


@dataclass
class Advantages:
    """The advantages of a rollout batch, and what they were computed from."""
    r_hat: torch.Tensor                           # (P, G) the reward before any weight, Eq. 3
    sigma: torch.Tensor                           # (P,) spread of the scores over each group
    weight: torch.Tensor                          # (P,) Eq. 4, or 1 where it does not apply
    rewards: torch.Tensor                         # (P, G) the reward that the advantage is taken of
    advantages: torch.Tensor                      # (P, G)


def compute_advantages(batch, sigma_bar, reward="hero", *, alpha=0.05, beta=0.05,
                       verifier_share=0.5, weight_on="advantage", w_min=0.4, w_max=3.0,
                       weight_k=6.0, advantage_norm="none"):
    """Eq. 3, 4, 5 and the advantage of a Batch, by the reward of that name. -> Advantages

    sigma_bar: the running mean of sigma. weight_on: what the weight of Eq. 4 multiplies: the
    "advantage", the "reward" (Eq. 5 to the letter), or "none". Rewards that are not weighted
    ignore it.
    """
    entry = REWARDS[reward]
    settings = {"alpha": alpha, "beta": beta, "verifier_share": verifier_share}
    r_hat = entry.function(batch, **{name: settings[name] for name in entry.needs})     # Eq. 3

    sigma = batch.rm_scores.std(1, correction=0)                                        # (P,)
    weight = torch.ones_like(sigma)
    if entry.weighted and weight_on != "none":
        weight = difficulty_weight(sigma, sigma_bar, w_min, w_max, weight_k)            # Eq. 4

    # Eq. 5 puts the weight on the reward. Where the advantage is divided by the group's standard
    # deviation, a factor on the reward cancels: hence the default, the weight on the advantage.
    # With weight_on="none" the weight is 1 everywhere.
    if weight_on == "reward":
        rewards = weight[:, None] * r_hat                                               # Eq. 5
        advantages = group_advantages(rewards, advantage_norm)
    else:
        rewards = r_hat
        advantages = group_advantages(rewards, advantage_norm, weight)
    return Advantages(r_hat, sigma, weight, rewards, advantages)


# ---------------------------------------------------------------------------- numbers for the log


def auroc(scores, labels):
    """Chance that a positive outscores a negative, ties counting half; nan if a class is missing.

    scores, labels: (N,). The Mann-Whitney statistic, as in the paper's Fig. 6.
    """
    positive = scores[labels.bool()]
    negative = scores[~labels.bool()]
    if len(positive) == 0 or len(negative) == 0:
        return float("nan")
    difference = positive[:, None] - negative[None, :]
    wins = (difference > 0).double()
    ties = (difference == 0).double()
    return (wins + 0.5 * ties).mean().item()


def mixed_aurocs(rm_scores, verified):
    """AUROC of the scores against the verdicts in each group that holds both. -> list of numbers"""
    accepted = verified.mean(1)                                                         # (P,)
    mixed = (accepted > 0) & (accepted < 1)
    return [auroc(scores, labels)
            for scores, labels in zip(rm_scores[mixed], verified[mixed], strict=True)]


def group_stats(batch, result):
    """What the log says about a rollout batch. batch: a Batch; result: its Advantages.

    -> {log key: number, or None where there is no group or class to take it from}
    """
    accepted = batch.verified.mean(1)                             # (P,) share of the group's G
    mixed = (accepted > 0) & (accepted < 1)
    size = result.advantages.abs()                                                      # (P, G)
    aurocs = mixed_aurocs(batch.rm_scores, batch.verified)

    def mean(values):
        return values.double().mean().item() if values.numel() else None

    return {
        "reward/mean": mean(result.rewards),
        "reward/zero_advantages": mean(size == 0),
        "reward/abs_adv_mixed": mean(size[mixed]),
        "reward/abs_adv_uniform": mean(size[~mixed]),
        "verify/accepted": mean(batch.verified),
        "verify/all_rejected": mean(accepted == 0),
        "verify/mixed": mean(mixed),
        "verify/all_accepted": mean(accepted == 1),
        "rm/mean": mean(batch.rm_scores),
        "rm/std": batch.rm_scores.std(correction=0).item(),
        "rm/auroc": sum(aurocs) / len(aurocs) if aurocs else None,
        "hero/sigma": mean(result.sigma),
        "hero/weight_mean": mean(result.weight),
        "hero/weight_max": result.weight.max().item(),
    }


# ---------------------------------------------------------------------------- the reward model


def bradley_terry_loss(chosen, rejected):
    """Eq. 1: -log sigmoid(r(chosen) - r(rejected)), mean over pairs. chosen, rejected: (N,)"""
    return -F.logsigmoid(chosen - rejected).mean()


class RewardModel:
    """Scores responses with any AutoModelForSequenceClassification that has one label.

    name_or_path: a Hugging Face name or directory. system: the system message that the model was
    trained with, if any. max_tokens: how many tokens, padding included, are scored at once.
    Raises ValueError for a model without a trained one-label head. Scores are logits, no sigmoid.
    """

    def __init__(self, name_or_path, device="cpu", dtype=torch.float32, system=None,
                 max_tokens=4096):
        self.name = str(name_or_path)
        self.system = system
        self.max_tokens = max_tokens
        self.tokenizer = load_tokenizer(name_or_path, fallback=None)      # only as it was trained
        model, info = from_pretrained(
            AutoModelForSequenceClassification, name_or_path, dtype=dtype, num_labels=1,
            ignore_mismatched_sizes=True, output_loading_info=True)

        # transformers fills in what is missing with random weights, and only warns.
        untrained = [*sorted(info["missing_keys"]), *sorted(map(str, info["mismatched_keys"]))]
        if untrained:
            raise ValueError(f"{name_or_path} has no trained one-label score head (not in the "
                             f"checkpoint: {', '.join(untrained)}): give a reward model")
        self.model = model.to(device).eval().requires_grad_(False)

        # Beyond its positions a model was not trained, and transformers says nothing.
        config = model.config.get_text_config()
        self.positions = getattr(config, "max_position_embeddings", None) or math.inf
        self.share_too_long = 0.0                # of the responses scored last
        self.has_warned = False

    def token_ids(self, prompt, response):
        """The conversation as the reward model reads it. -> list of token ids"""
        messages = [{"role": "user", "content": prompt},
                    {"role": "assistant", "content": response}]
        if self.system:
            messages.insert(0, {"role": "system", "content": self.system})
        text = self.tokenizer.apply_chat_template(messages, tokenize=False)
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    @torch.no_grad()
    def score(self, prompts, responses):
        """Raw scores of N responses, float32 on the CPU, in order. -> (N,)

        Sets share_too_long, the share of rows beyond the model's positions, and warns of the first.
        Raises ValueError that names the rows whose score is not finite.
        """
        rows = [self.token_ids(p, r) for p, r in zip(prompts, responses, strict=True)]
        too_long = [len(row) for row in rows if len(row) > self.positions]
        self.share_too_long = len(too_long) / max(1, len(rows))
        if too_long and not self.has_warned:
            print(f"warning: the reward model {self.name} has {self.positions} positions and reads "
                  f"{max(too_long)} tokens: scores of longer rows mean little (rm/too_long in the "
                  "log is their share)", flush=True)
            self.has_warned = True
        scores = torch.empty(len(rows))

        # The longest rows first, so that rows of similar length share a batch.
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]), reverse=True)
        start = 0
        while start < len(order):
            longest = len(rows[order[start]])
            count = max(1, self.max_tokens // longest)
            batch = order[start:start + count]
            scores[batch] = self.forward([rows[i] for i in batch]).float().cpu()
            start += count

        bad = (~scores.isfinite()).nonzero().flatten().tolist()
        if bad:
            raise ValueError(f"the reward model {self.name} gave nan or inf for {len(bad)} of "
                             f"{len(rows)} responses, rows {bad[:8]}: {responses[bad[0]][:80]!r}")
        return scores

    def forward(self, rows):
        """B lists of token ids -> (B,) scores, pooled at each row's last real token.

        transformers pools at the last token that is not pad_token_id. Rows may end in any token, in
        the model's own pad token too. So we pad with an id that no row of this batch ends in.
        """
        ids, mask = right_padded(rows)                                                  # (B, T)
        last_tokens = {row[-1] for row in rows}
        pad = 0
        while pad in last_tokens:
            pad += 1
        self.model.config.get_text_config().pad_token_id = pad

        # No mask: causal attention never sees the padding on the right, and is faster without.
        ids = ids.masked_fill(mask == 0, pad).to(self.model.device)
        return self.model(input_ids=ids, use_cache=False).logits[:, 0]                  # (B,)
