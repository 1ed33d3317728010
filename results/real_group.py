"""One real group through every reward: eight responses to a MATH problem, scored by a 72B model.

    python results/real_group.py              writes real_group.md beside this file

The problem's answer is 4. The group is one of 50: a language model answered 50 MATH problems eight
times each, and a 72B reward model scored the responses. Four of the groups are mixed, and this is
the one in which the reward model agrees least with the verifier: it likes a wrong answer best.

What the rewards are computed from stands below: final answers, verdicts of verify.py and scores.
The responses themselves are not part of the repository, because their license is not known.
"""

import sys
from pathlib import Path

import torch

if __name__ == "__main__":                        # the scripts are in the folder above
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from problems import write_file
from rewards import Batch, auroc, compute_advantages

HERE = Path(__file__).resolve().parent

ANSWERS = ["11", "11", "4", "15", "4", "2", "3", "13"]
VERIFIED = torch.tensor([[0.0, 0, 1, 0, 1, 0, 0, 0]])                                   # (1, G)
RM_SCORES = torch.tensor([[-432.0, 374, -502, -1576, -780, -1104, -480, -2096]]) / 1024  # (1, G)

# Mean of sigma, the standard deviation of the scores in a group, over the 50 groups.
SIGMA_BAR = 0.28258

# The settings of compute_advantages that make each column.
METHODS = {
    "hero": {"reward": "hero"},
    "verifier": {"reward": "verifier"},
    "rm": {"reward": "rm"},
    "naive": {"reward": "naive"},
    "hero, alpha 0": {"reward": "hero", "alpha": 0.0},
    "hero, beta 0": {"reward": "hero", "beta": 0.0},
}


def markdown_table(columns, rows):
    return "\n".join(f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *rows])


def main():
    batch = Batch(RM_SCORES, VERIFIED)
    mean_only = {}
    std = {}
    for name, settings in METHODS.items():
        mean_only[name] = compute_advantages(batch, SIGMA_BAR, **settings)
        std[name] = compute_advantages(batch, SIGMA_BAR, advantage_norm="std", **settings)

    rewards = []
    advantages = []
    for g, answer in enumerate(ANSWERS):
        verdict = f"{VERIFIED[0, g]:.0f}"
        reward_row = [f"`{answer}`", verdict, f"{RM_SCORES[0, g]:.2f}"]
        advantage_row = [f"`{answer}`", verdict]
        for name in METHODS:
            reward_row.append(f"{mean_only[name].r_hat[0, g]:.3f}")
            advantage_row.append(f"{mean_only[name].advantages[0, g]:+.2f} / "
                                 f"{std[name].advantages[0, g]:+.2f}")
        rewards.append(reward_row)
        advantages.append(advantage_row)

    hero = mean_only["hero"]
    text = "\n\n".join([
        f"Reference `4`; α = β = 0.05, verifier's share 0.5. σ = {hero.sigma.item():.2f}, σ̄ = "
        f"{SIGMA_BAR:.2f} over 50 groups, so w = {hero.weight.item():.2f}; it multiplies the three "
        f"HERO advantages. AUROC of the scores in this group: "
        f"{auroc(RM_SCORES[0], VERIFIED[0]):.2f}; 4 of the 50 groups are mixed.",
        markdown_table(["final answer", "verdict", "RM score",
                        *(f"{name}: reward" for name in METHODS)], rewards),
        "Advantages, without division by the group's standard deviation / with it:",
        markdown_table(["final answer", "verdict", *METHODS], advantages),
        "`python results/real_group.py`: eight real responses to one MATH problem, with the scores "
        "of a 72B reward model. The reward of HERO is r_hat, Eq. 3. With alpha 0 the band of the "
        "rejected responses is closed, with beta 0 that of the accepted ones.",
    ]) + "\n"
    write_file(HERE / "real_group.md", text)
    print(text)


if __name__ == "__main__":
    main()
