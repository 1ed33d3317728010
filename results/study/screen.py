"""The screen: which method's first step points to the truth, in seconds and before any run.

    python results/study/screen.py                       world 0, as in screen.md
    python results/study/screen.py --problems FILE.jsonl --recalls

It samples groups of responses from a policy, and compares the advantages that each method gives
them with those of a verifier that knows the truth. It can tell whether a world is sparse enough for
methods to differ, and who will be faster at first. It cannot tell what comes later: a reward model
that is hacked, a verifier that catches up, or where either ends.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import distributed  # noqa: E402
from eval import compute_metrics, sample_and_grade  # noqa: E402
from problems import read_jsonl  # noqa: E402
from report import results_table  # noqa: E402
from rewards import Batch, RewardModel, compute_advantages  # noqa: E402
from rollout import SamplingParams, load_tokenizer, make_engine  # noqa: E402
from settings import setting, settings_of  # noqa: E402

# What is screened: the settings of rewards.compute_advantages.
SCREENED = {
    "verifier": {"reward": "verifier"},
    "RM only": {"reward": "rm"},
    "naive 0.5": {"reward": "naive", "verifier_share": 0.5},
    "naive 0.9": {"reward": "naive", "verifier_share": 0.9},
    "HERO": {"reward": "hero"},
    "HERO, no weight": {"reward": "hero", "weight_on": "none"},
    "HERO, rejected side only": {"reward": "hero", "beta": 0.0},
    "HERO, accepted side only": {"reward": "hero", "alpha": 0.0},
    "HERO, bands of 0.2": {"reward": "hero", "alpha": 0.2, "beta": 0.2},
    "HERO, std": {"reward": "hero", "advantage_norm": "std"},
}


def screen(rm_scores, verified, truth):
    """How far each method's first policy gradient points where the truth's would. -> {name: cosine}

    rm_scores, verified, truth: (P, G), of the policy before training. The cosine is between the
    advantages of a method and those of a verifier that knows the truth, over all P * G rollouts: 1
    if the method weights the rollouts as the truth would, 0 if it only adds noise. Advantages are
    the factors of the rollouts' gradients, so this compares first steps without taking any. Cosines
    ignore the length of a step.
    """
    sigma_bar = rm_scores.std(1, correction=0).mean().item()
    target = compute_advantages(Batch(rm_scores, truth), sigma_bar, "verifier")
    wanted = target.advantages.flatten()                                              # (P * G,)
    cosines = {}
    for name, settings in SCREENED.items():
        result = compute_advantages(Batch(rm_scores, verified), sigma_bar, **settings)
        advantages = result.advantages.flatten()                                      # (P * G,)
        cosines[name] = torch.cosine_similarity(advantages, wanted, dim=0).item()
    return cosines


def thin(truth, recall, seed=0):
    """Verdicts of a verifier that accepts each right response with probability `recall`. (P, G)"""
    generator = torch.Generator().manual_seed(seed)
    return truth * (torch.rand(truth.shape, generator=generator) < recall)


@dataclass(kw_only=True)
class Settings:
    model: str = setting("runs/world-0/policy", "policy to sample from")
    reward_model: str = setting("runs/world-0/reward_model", "reward model that scores")
    problems: str = setting("runs/world-0/train/hard.jsonl",
                            "JSONL file of problems that list every right phrasing")
    groups: int = setting(250, "number of problems", range="above 0")
    rollouts: int = setting(8, "responses per problem", range="above 0")
    max_tokens: int = setting(48, "length at which a response is cut", range="above 0")
    recalls: list = setting(
        ["0.21", "0.1", "0.05", "0.02"], "further columns: a verifier that accepts each right "
        "response with this probability, and no wrong one")


def table_of(records, key):
    """One number per response of sample_and_grade's records. (P, G)"""
    return torch.tensor([record[key] for record in records], dtype=torch.float64)


def main():
    cfg = settings_of(Settings, sys.argv[1:], "results/study/screen.py", __doc__)
    recalls = [float(recall) for recall in cfg.recalls]

    # Sample, verify and score.
    distributed.init()
    required = ("problem", "answer", "accepted")
    problems = [row for _, row in read_jsonl(cfg.problems, required)]
    tokenizer = load_tokenizer(cfg.model)
    engine = make_engine("transformers", cfg.model, tokenizer)
    records = sample_and_grade(engine, tokenizer, problems[:cfg.groups], cfg.rollouts,
                               SamplingParams(cfg.max_tokens), 0,
                               reward_model=RewardModel(cfg.reward_model))
    rm_scores = table_of(records, "rm_scores")
    verified = table_of(records, "verified")
    truth = table_of(records, "truth")
    if truth.min() == truth.max():
        raise ValueError("all responses are alike, right or wrong: there is nothing to screen")

    # One column per verifier: the real one, and thinned ones.
    verdicts = {"verify.py": verified}
    for recall in recalls:
        verdicts[f"recall {recall:g}"] = thin(truth, recall)
    rejected = {}
    cosines = {}
    for column, accepted in verdicts.items():
        rejected[column] = (accepted.amax(1) == 0).double().mean().item()
        cosines[column] = screen(rm_scores, accepted, truth)
    rows = [("groups without an accepted response", rejected)]
    for name in SCREENED:
        rows.append((name, {column: cosines[column][name] for column in verdicts}))

    metrics = compute_metrics(records)
    precision = "none" if metrics["precision"] is None else f"{metrics['precision']:.2f}"
    print(f"{len(records)} groups of {cfg.rollouts} responses: {truth.mean():.3f} right, "
          f"{verified.mean():.3f} accepted, of these {precision} right; AUROC of the scores "
          f"against the truth {metrics['rm_auroc']:.3f}\n")
    print(results_table(rows, list(verdicts)))
    print("\ncosine of a method's advantages with the truth's, before the first step")


if __name__ == "__main__":
    distributed.run(main)
