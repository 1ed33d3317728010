"""A real group: eight responses to a MATH problem, with the scores of a 72B reward model.

The problem's answer is 4. Two of the eight responses say 4, and the reward model prefers a wrong
one. results/real_group.py shows the same group under every reward. Worked by hand, in 1/1024 where
that is exact:

    answer   11   11    4    15     4     2    3    13
    score  -432  374 -502 -1576  -780 -1104 -480 -2096      (/ 1024)

Accepted: -780 is the lower end, 0.95, and -502 the upper, 1.05. Rejected: from -2096 to 374, a
range of 2470, so -432 stands at 1664/2470 = 0.67368 and gets -0.05 + 0.1 * 0.67368 = 0.017368, and
so on. Their sum is -0.005992, so the mean of all eight is 1.994008 / 8 = 0.249251.
"""

import pytest
import torch

from results.real_group import ANSWERS, METHODS, RM_SCORES, SIGMA_BAR
from rewards import Batch, compute_advantages
from verify import verify_all

SCORES = [-432, 374, -502, -1576, -780, -1104, -480, -2096]                        # / 1024
VERIFIED = [0, 0, 1, 0, 1, 0, 0, 0]
HERO = [0.017368, 0.05, 1.05, -0.028947, 0.95, -0.009838, 0.015425, -0.05]

GROUP = Batch(rm_scores=torch.tensor([SCORES]).double() / 1024,
              verified=torch.tensor([VERIFIED]).double())


def result(**settings):
    return compute_advantages(GROUP, **{"sigma_bar": 0.0, "weight_on": "none"} | settings)


def close(values, wanted):
    """values (1, 8): a tensor; wanted: eight numbers with six decimals."""
    torch.testing.assert_close(values[0], torch.tensor(wanted).double(), atol=2e-6, rtol=0)


def test_the_results_page_shows_this_group():
    close(RM_SCORES.double(), [score / 1024 for score in SCORES])
    verdicts = verify_all([f"\\boxed{{{answer}}}" for answer in ANSWERS], ["4"] * 8)
    assert [int(verdict.correct) for verdict in verdicts] == VERIFIED


@pytest.mark.parametrize("name, rewards", [
    ("hero", HERO),
    ("verifier", VERIFIED),
    ("rm", [score / 1024 for score in SCORES]),
    ("naive", [(v + s / 1024) / 2 for v, s in zip(VERIFIED, SCORES, strict=True)]),
    # alpha 0 closes the band of the rejected, beta 0 that of the accepted
    ("hero, alpha 0", [0, 0, 1.05, 0, 0.95, 0, 0, 0]),
    ("hero, beta 0", [1 if v else h for v, h in zip(VERIFIED, HERO, strict=True)])])
def test_the_reward_of_every_method(name, rewards):
    close(result(**METHODS[name]).r_hat, rewards)


def test_mean_only_advantages():
    close(result(reward="hero").advantages, [reward - 0.249251 for reward in HERO])
    close(result(reward="verifier").advantages, [0.75 if v else -0.25 for v in VERIFIED])
    # the scores sum to -6596/1024, so their mean is -824.5/1024
    rm = result(reward="rm").advantages
    close(rm, [(score + 824.5) / 1024 for score in SCORES])
    assert rm.argmax() == 1 and not VERIFIED[1]               # alone, it would teach a wrong answer


def test_the_group_is_one_of_wide_spread():
    """The weight of Eq. 4 that the results page shows: 0.4 + 2.6 sigmoid(6 (0.69695 - 0.28258))."""
    # 6 * 0.41437 = 2.48622, and 1 / (1 + e^-2.48622) = 1 / 1.083224 = 0.923170
    weighted = result(weight_on="advantage", sigma_bar=SIGMA_BAR)
    assert weighted.weight.item() == pytest.approx(0.4 + 2.6 * 0.923170, abs=1e-4)
