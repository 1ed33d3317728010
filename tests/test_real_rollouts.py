"""Real groups: 50 MATH problems, 8 responses each, the scores of a 72B reward model.

The golden group has eight answers to a question whose answer is 4; two of them say 4, and the
reward model prefers a wrong one. Worked by hand, in 1/1024 where that is exact:

    answer   11   11    4    15     4     2    3    13
    score  -432  374 -502 -1576  -780 -1104 -480 -2096      (/ 1024)

Correct: -780 is the lower end, 0.95, and -502 the upper, 1.05. Wrong: from -2096 to 374, a range
of 2470, so -432 stands at 1664/2470 = 0.67368 and gets -0.05 + 0.1 * 0.67368 = 0.017368, and so
on. Their sum is -0.005992, so the mean of all eight is 1.994008 / 8 = 0.249251. The squares sum
to 2.011474, so the variance is 2.011474 / 8 - 0.249251^2 = 0.189308 and the deviation 0.435096.
"""

import importlib.util

import pytest
import torch
from helpers import ROOT

from rewards import REWARDS, auroc, compute_advantages

FILE = ROOT.parent / "shared" / "data" / "real_rollouts_50.jsonl"
pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="the real rollouts are not beside the "
                                "checkout")
HERO = [0.017368, 0.05, 1.05, -0.028947, 0.95, -0.009838, 0.015425, -0.05]
SCORES = [-432, 374, -502, -1576, -780, -1104, -480, -2096]                        # / 1024
RIGHT = [0, 0, 1, 0, 1, 0, 0, 0]


@pytest.fixture(scope="module")
def groups():
    """-> rows, rm (50, 8), correct (50, 8), in float64, as the results script reads them"""
    spec = importlib.util.spec_from_file_location("real_group", ROOT / "results/real_group.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rows, _, rm, correct = module.load(FILE)
    return rows, rm.double(), correct.double()


@pytest.fixture(scope="module")
def golden(groups):
    rows, rm, correct = groups
    p = next(p for p, row in enumerate(rows) if row["answer"] == "4" and 0 < correct[p].sum() < 8)
    return rm[p:p + 1], correct[p:p + 1]


def close(value, wanted):
    torch.testing.assert_close(value[0], torch.tensor(wanted).double(), atol=2e-6, rtol=0)


def test_verdicts_and_scores_are_those_worked_with(golden):
    rm, correct = golden
    close(correct, RIGHT)
    close(rm, [score / 1024 for score in SCORES])
    # 12 pairs: -502 beats 15, 2, 13; -780 beats 15, 2, 13: 6 of 12
    assert auroc(rm[0], correct[0]) == 0.5


def test_rewards_of_every_method(golden):
    rewards = {name: reward(*golden) for name, reward in REWARDS.items()}
    close(rewards["hero"], HERO)
    close(rewards["verifier"], RIGHT)
    close(rewards["rm"], [score / 1024 for score in SCORES])
    close(rewards["naive"], [(r + score / 1024) / 2 for r, score in zip(RIGHT, SCORES,
                                                                        strict=True)])
    close(rewards["hero_correct"], [0, 0, 1.05, 0, 0.95, 0, 0, 0])
    close(rewards["hero_wrong"], [1 if r else h for r, h in zip(RIGHT, HERO, strict=True)])


def test_advantages_of_both_scalings(golden):
    def adv(reward, scale, weight="none", sigma_bar=0.0):
        return compute_advantages(*golden, sigma_bar, reward=reward, scale=scale,
                               weight=weight)["adv"]
    close(adv("hero", "none"), [value - 0.249251 for value in HERO])
    close(adv("hero", "std")[:, 1:5], [-0.457946, 1.840394, -0.639395, 1.610558])
    close(adv("verifier", "none"), [0.75 if r else -0.25 for r in RIGHT])
    # the deviation of two ones among eight is sqrt(3)/4, plus the eps of 1e-6
    close(adv("verifier", "std"), [1.732047 if r else -0.577349 for r in RIGHT])
    # the scores sum to -6596/1024, so their mean is -824.5/1024
    close(adv("rm", "none"), [(score + 824.5) / 1024 for score in SCORES])
    assert adv("rm", "none").argmax() == 1 and not RIGHT[1]       # the reward model's own choice
    # at its own running mean a group has the weight between 0.4 and 3, 1.7
    sigma = golden[0].std(1, correction=0).item()
    for scale in ("none", "std"):
        plain = adv("hero", scale)
        torch.testing.assert_close(adv("hero", scale, "advantage", sigma), 1.7 * plain)
    torch.testing.assert_close(adv("hero", "std", "reward", sigma), adv("hero", "std"),
                               atol=1e-5, rtol=0)                 # it cancels


def test_all_fifty_groups(groups):
    """HERO never puts a wrong response above a right one, and always keeps the scores' order."""
    _, rm, correct = groups
    assert (correct.shape, rm.shape) == ((50, 8), (50, 8))
    for name in REWARDS:
        for scale in ("none", "std"):
            adv = compute_advantages(rm, correct, rm.std(1, correction=0).mean(), reward=name,
                                  scale=scale)["adv"]
            assert adv.sum(1).abs().max() < 1e-4
    r_hat = REWARDS["hero"](rm, correct)
    for scores, labels, rewards in zip(rm, correct.bool(), r_hat, strict=True):
        if labels.any() and not labels.all():
            assert rewards[labels].min() > rewards[~labels].max()
        for stratum in (labels, ~labels):
            order = scores[stratum].argsort(stable=True)
            assert (rewards[stratum][order].diff() >= 0).all()
