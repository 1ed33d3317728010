"""Rewards: the paper's Eq. 3-5, the baselines, the advantage, and the reward model.

Everything but RewardModel is a pure function on (P, G) tensors: P prompts, G rollouts of each.

    rm       (P, G)  the reward model's score of each rollout, any real number
    correct  (P, G)  the rule verifier's verdict, 0 or 1
    reward   (P, G)  what a method makes of the two
    adv      (P, G)  the group-relative advantage that multiplies the policy gradient

Standard deviations over a group are population ones (ddof 0) everywhere.
Paper: "Hybrid Reinforcement", arXiv 2510.07242.
"""

import torch
import torch.nn.functional as F
from transformers import AutoModelForSequenceClassification

from distributed import from_pretrained
from rollout import load_tokenizer, right_padded

# ---------------------------------------------------------------------------- Eq. 3 and Eq. 4


def stratify(rm, correct, alpha=0.05, beta=0.05, eps=1e-6):
    """Eq. 3: the verifier chooses the band, the reward model the place inside it. -> (P, G)

        wrong     [-alpha, alpha]         correct   [1 - beta, 1 + beta]

    Scores are scaled by the min and max over the rollouts of the same prompt with the same verdict.
    A rollout alone in its stratum, or a stratum of equal scores, gets the band's lower end.
    alpha or beta of 0 closes that band: the paper's Fig. 2a. The dtype of `rm` is kept.
    """
    correct = correct.bool()
    low, high = torch.full_like(rm, float("inf")), torch.full_like(rm, -float("inf"))
    for stratum in (correct, ~correct):
        smallest = rm.masked_fill(~stratum, float("inf")).amin(1, keepdim=True)        # (P, 1)
        largest = rm.masked_fill(~stratum, -float("inf")).amax(1, keepdim=True)        # (P, 1)
        low, high = torch.where(stratum, smallest, low), torch.where(stratum, largest, high)
    place = (rm - low) / (high - low + eps)                                            # in [0, 1)
    return torch.where(correct, 1 - beta + 2 * beta * place, -alpha + 2 * alpha * place)


def difficulty_weight(sigma, sigma_bar, w_min=0.4, w_max=3.0, k=6.0):
    """Eq. 4: prompts on which the reward model disagrees with itself count more. -> (P,)

    sigma (P,): standard deviation of rm over each prompt's rollouts; sigma_bar: its running mean,
    both in units of the reward model. Between w_min and w_max, and halfway at sigma_bar.
    """
    return w_min + (w_max - w_min) * torch.sigmoid(k * (sigma - sigma_bar))


# ---------------------------------------------------------------------------- rewards, by name


def hero_reward(rm, correct, *, alpha=0.05, beta=0.05, mix=0.5):
    """HERO, Eq. 3. The weight of Eq. 5 is applied by group_advantages. -> (P, G)"""
    return stratify(rm, correct, alpha, beta)


def hero_correct_reward(rm, correct, *, alpha=0.05, beta=0.05, mix=0.5):
    """Dense range on correct rollouts only (the paper's Fig. 2a). -> (P, G)"""
    return stratify(rm, correct, 0.0, beta)


def hero_wrong_reward(rm, correct, *, alpha=0.05, beta=0.05, mix=0.5):
    """Dense range on wrong rollouts only (the paper's Fig. 2a). -> (P, G)"""
    return stratify(rm, correct, alpha, 0.0)


def verifier_reward(rm, correct, *, alpha=0.05, beta=0.05, mix=0.5):
    """The verifier's 0 or 1 alone (Eq. 2). -> (P, G)"""
    return correct.to(rm.dtype)


def rm_reward(rm, correct, *, alpha=0.05, beta=0.05, mix=0.5):
    """The reward model's raw score alone. -> (P, G)"""
    return rm


def naive_reward(rm, correct, *, alpha=0.05, beta=0.05, mix=0.5):
    """mix * verdict + (1 - mix) * raw score: the combination of the paper's Table 9. -> (P, G)"""
    return mix * correct.to(rm.dtype) + (1 - mix) * rm


REWARDS = {"hero": hero_reward, "verifier": verifier_reward, "rm": rm_reward, "naive": naive_reward,
           "hero_correct": hero_correct_reward, "hero_wrong": hero_wrong_reward}


# ---------------------------------------------------------------------------- the advantage


def group_advantages(reward, scale="none", weight=None, eps=1e-6):
    """Group-relative advantage, (P, G): reward minus its group's mean, times the weight. -> (P, G)

    scale: "none" leaves it at that (Dr. GRPO): the band alpha bounds the reward model's say.
           "std" divides by the group's standard deviation (GRPO): an all-wrong group is blown up
           to unit variance whatever alpha is, and any factor on the reward cancels.
    weight (P,): Eq. 5's w; it multiplies after scaling, so it acts under both.
    A group of one, or of equal rewards, has no baseline to differ from: its advantage is 0.
    """
    adv = reward - reward.mean(1, keepdim=True)
    if scale == "std":
        adv = adv / (reward.std(1, keepdim=True, correction=0) + eps)
    elif scale != "none":
        raise ValueError(f"scale={scale!r} is not a scaling of the advantage: choose none or std")
    return adv if weight is None else adv * weight[:, None]


def auroc(score, label):
    """Chance that a positive outscores a negative, ties counting half; nan if a class is missing.

    score, label: (N,). The Mann-Whitney statistic, as in the paper's Fig. 6.
    """
    positive, negative = score[label.bool()], score[~label.bool()]
    if not len(positive) or not len(negative):
        return float("nan")
    difference = positive[:, None] - negative[None, :]
    return ((difference > 0).double() + 0.5 * (difference == 0).double()).mean().item()


def mixed_aurocs(rm, correct):
    """AUROC of the scores against the verdicts in each group that holds both. -> list of numbers"""
    solved = correct.mean(1)
    mixed = (solved > 0) & (solved < 1)
    return [auroc(s, c) for s, c in zip(rm[mixed], correct[mixed], strict=True)]


def reliability(running, rm, correct, decay=0.9):
    """How far the reward model deserves to be followed where the verifier is silent.

    Not in the paper. running: (sum, count) of the AUROCs of mixed groups, older steps fading by
    decay a step; (0, 0) at first. -> running with this batch, and 2 * its mean AUROC - 1, at least
    0: nothing at chance (and before any mixed group), 1 where the scores order all verdicts right.
    """
    aurocs = mixed_aurocs(rm, correct)
    total, count = decay * running[0] + sum(aurocs), decay * running[1] + len(aurocs)
    return (total, count), max(0.0, 2 * total / count - 1) if count else 0.0


def compute_advantages(rm, correct, sigma_bar, *, reward="hero", alpha=0.05, beta=0.05, mix=0.5,
                    scale="none", weight="advantage", w_min=0.4, w_max=3.0, k=6.0, gate=1.0):
    """Eq. 3, 4, 5 and the advantage of a rollout batch, with what stood in between.

    rm, correct: (P, G); sigma_bar: the running mean of sigma. reward: a key of REWARDS.
    weight: what Eq. 4's w multiplies: "advantage", "reward" (Eq. 5 to the letter), or "none".
    gate: factor on the advantages of uniform groups, where the reward model rules alone.
    The baselines are neither weighted nor gated.
    -> {"r_hat", "reward", "adv": (P, G), "sigma", "weight": (P,)}
    """
    r_hat = REWARDS[reward](rm, correct, alpha=alpha, beta=beta, mix=mix)
    sigma = rm.std(1, correction=0)
    w = torch.ones_like(sigma)
    if reward.startswith("hero") and weight != "none":
        w = difficulty_weight(sigma, sigma_bar, w_min, w_max, k)
    final = r_hat * w[:, None] if weight == "reward" else r_hat                           # Eq. 5
    adv = group_advantages(final, scale, w if weight == "advantage" else None)
    if reward.startswith("hero"):
        uniform = correct.amin(1) == correct.amax(1)                                   # (P,)
        adv = torch.where(uniform[:, None], gate * adv, adv)
    return {"r_hat": r_hat, "reward": final, "adv": adv, "sigma": sigma, "weight": w}


def group_stats(rm, correct, parts):
    """What a log wants to know of a rollout batch. rm, correct: (P, G); parts: compute_advantages'.

    -> {log key: number, or None where no group or class is there to take it from}
    """
    solved = correct.mean(1)
    mixed = (solved > 0) & (solved < 1)
    aurocs = mixed_aurocs(rm, correct)
    size = parts["adv"].abs()

    def mean(values):
        return values.double().mean().item() if values.numel() else None
    return {"reward/mean": mean(parts["reward"]), "reward/zero_advantages": mean(size == 0),
            "reward/abs_adv_mixed": mean(size[mixed]),
            "reward/abs_adv_uniform": mean(size[~mixed]),
            "verify/accuracy": mean(correct), "verify/all_wrong": mean(solved == 0),
            "verify/mixed": mean(mixed), "verify/all_correct": mean(solved == 1),
            "rm/mean": mean(rm), "rm/std": rm.std(correction=0).item(),
            "rm/auroc": sum(aurocs) / len(aurocs) if aurocs else None,
            "hero/sigma": mean(parts["sigma"]), "hero/weight_mean": mean(parts["weight"]),
            "hero/weight_max": parts["weight"].max().item()}


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
        self.name, self.system, self.max_tokens = str(name_or_path), system, max_tokens
        self.tokenizer = load_tokenizer(name_or_path)
        model, info = from_pretrained(AutoModelForSequenceClassification, name_or_path, dtype=dtype,
                                      num_labels=1, ignore_mismatched_sizes=True,
                                      output_loading_info=True)
        untrained = sorted(info["missing_keys"]) + sorted(str(k) for k in info["mismatched_keys"])
        if untrained:
            raise ValueError(f"{name_or_path} has no trained one-label score head (not in the "
                             f"checkpoint: {', '.join(untrained)}): give a reward model")
        self.model = model.to(device).eval().requires_grad_(False)

    def token_ids(self, prompt, response):
        """The conversation as the reward model reads it, as a list of token ids."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        messages += [{"role": "user", "content": prompt},
                     {"role": "assistant", "content": response}]
        text = self.tokenizer.apply_chat_template(messages, tokenize=False)
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    @torch.no_grad()
    def score(self, prompts, responses):
        """Raw scores of N responses, float32 on the CPU, in order. -> (N,)

        Raises ValueError that names the rows whose score is not finite.
        """
        rows = [self.token_ids(p, r) for p, r in zip(prompts, responses, strict=True)]
        scores = torch.empty(len(rows))
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]), reverse=True)
        while order:
            count = max(1, self.max_tokens // len(rows[order[0]]))
            batch, order = order[:count], order[count:]
            scores[batch] = self.forward([rows[i] for i in batch]).float().cpu()
        bad = (~scores.isfinite()).nonzero().flatten().tolist()
        if bad:
            raise ValueError(f"the reward model {self.name} gave nan or inf for {len(bad)} of "
                             f"{len(rows)} responses, rows {bad[:8]}: {responses[bad[0]][:80]!r}")
        return scores

    def forward(self, rows):
        """Lists of token ids -> (B,) scores, pooled at each row's last real token.

        transformers pools at the last token that is not pad_token_id. Rows may end in any token, in
        the pad token too, so padding is announced as an id that no row here ends in.
        """
        ids, mask = right_padded(rows)
        last = {row[-1] for row in rows}
        pad = next(i for i in range(len(last) + 1) if i not in last)
        self.model.config.get_text_config().pad_token_id = pad
        ids = ids.masked_fill(mask == 0, pad).to(self.model.device)
        return self.model(input_ids=ids, attention_mask=mask.to(ids.device)).logits[:, 0]   # (B,)
