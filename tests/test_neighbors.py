"""HERO's neighbors: each on a group worked by hand, what is the same method, and runs of all."""

import json
import math
import shutil
from types import SimpleNamespace

import pytest
import torch
from helpers import SMALL, hero_here, metrics_of, refuse, refused, write_toss
from hypothesis import given
from hypothesis import strategies as st

from neighbors import neighbors
from neighbors.neighbors import METHODS, Batch
from rewards import compute_advantages, group_advantages
from rollout import Rollout, chat_prompt

# One prompt, four rollouts, the group of the numbers below: mean score 1.5.
SCORES = [4.0, 1.0, 2.0, -1.0]
CENTERED = [2.5, -0.5, 0.5, -2.5]
VERDICTS = [1.0, 1.0, 0.0, 0.0]
ONE_RIGHT = [1.0, 0.0, 0.0, 0.0]
ALL_WRONG = [0.0, 0.0, 0.0, 0.0]


def batch_of(*verdicts, scores=SCORES, **more):
    """A Batch whose groups have these verdicts, all with the same scores."""
    P = len(verdicts)
    known = {"problems": [{"answer": "one"}] * P, "max_length": 10,
             "lengths": torch.tensor([[5, 9, 10, 8]]).expand(P, 4)}
    return Batch(torch.tensor([scores] * P), torch.tensor(verdicts), **(known | more))


def assert_rows(advantages, *rows):
    torch.testing.assert_close(advantages, torch.tensor(rows), atol=1e-4, rtol=1e-4)


# ---------------------------------------------------------------------------- the verdict alone


def test_grpo_and_rloo_by_hand():
    assert_rows(neighbors.grpo(batch_of(VERDICTS)), [1.0, 1.0, -1.0, -1.0])
    assert_rows(neighbors.rloo(batch_of(ONE_RIGHT)), [1.0, -1 / 3, -1 / 3, -1 / 3])


def test_reinforce_pp_has_the_batchs_baseline():
    # mean 2 / 8, variance 1/4 * 3/4: (1 - 1/4) / sqrt(3/16) = sqrt(3), and -1/4 of the same unit
    high, low = math.sqrt(3), -1 / math.sqrt(3)
    assert_rows(neighbors.reinforce_pp(batch_of(VERDICTS, ALL_WRONG)),
                [high, high, low, low], [low, low, low, low])


def test_one_sided_reinforcement_by_hand():
    batch = batch_of(VERDICTS)
    assert_rows(neighbors.psr(batch), [1.0, 1.0, 0.0, 0.0])
    assert_rows(neighbors.nsr(batch), [0.0, 0.0, -1.0, -1.0])
    assert_rows(neighbors.w_reinforce(batch), [0.1, 0.1, -1.0, -1.0])


def test_maxrl_and_pacs_by_hand():
    # (1 - 1/4) / (1/4) = 3
    assert_rows(neighbors.maxrl(batch_of(ONE_RIGHT)), [3.0, -1.0, -1.0, -1.0])
    # weights 4/2 and 4/6; u = 1 and -1/3; the sum is 0, so 4/3 of u
    assert_rows(neighbors.pacs(batch_of(ONE_RIGHT, ALL_WRONG)), [4 / 3, -4 / 9, -4 / 9, -4 / 9],
                [0.0] * 4)


def test_passk_by_hand():
    # n = 1: all fail in C(3, 2) / C(4, 2) = 1/2 of the pairs, std 1/2: 1/2 / 1/2.
    #        With a rejected one in the pair, the other fails in C(2, 1) / C(3, 1) = 2/3.
    # n = 2: 1/6, std sqrt(5) / 6: 1 / sqrt(5); 1/3 with a rejected one.
    # n = 3: no pair fails.
    at_two = 1 / math.sqrt(5)
    batch = batch_of(ONE_RIGHT, VERDICTS, [1.0, 1.0, 1.0, 0.0], ALL_WRONG)
    assert_rows(neighbors.passk(batch, k=2), [1.0, -1 / 3, -1 / 3, -1 / 3],
                [at_two, at_two, -at_two, -at_two], [0.0] * 4, [0.0] * 4)


def test_soft_overlong_by_hand():
    # of 10 tokens the last 2 are the buffer
    assert_rows(neighbors.soft_overlong(batch_of(VERDICTS)), [0.0, -0.5, -1.0, 0.0])


def test_dapo_leaves_uniform_groups_out():
    # 1, 0.5, -1, 0: mean 1/8, and the second group would have a penalty alone
    rewards = torch.tensor([[1.0, 0.5, -1.0, 0.0]])
    expected = group_advantages(rewards, "std")[0].tolist()
    assert_rows(neighbors.dapo(batch_of(VERDICTS, ALL_WRONG)), expected, [0.0] * 4)


# The weight f(n) of n = 1 to 7 accepted rollouts of 8: advantage = f(n) (c / n - (1 - c) / (8 - n))
WEIGHTS = {
    "verifier": [n * (8 - n) / 8 for n in range(1, 8)],
    "rloo": [n * (8 - n) / 7 for n in range(1, 8)],
    "grpo": [math.sqrt(n * (8 - n)) for n in range(1, 8)],
    "maxrl": [float(8 - n) for n in range(1, 8)],
    "pacs": [64 / 28] * 7,
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_centered_verdicts_differ_in_the_weight_of_the_prompt(name):
    verdicts = torch.tensor([[1.0] * n + [0.0] * (8 - n) for n in range(1, 8)])
    batch = Batch(torch.zeros(7, 8), verdicts)
    if name == "verifier":
        advantages = compute_advantages(batch, 0.0, "verifier").advantages
    else:
        advantages = METHODS[name].function(batch)
    for n, (row, weight) in enumerate(zip(advantages, WEIGHTS[name], strict=True), 1):
        assert row[0].item() * n == pytest.approx(weight, rel=1e-4)
        assert row[-1].item() * (8 - n) == pytest.approx(-weight, rel=1e-4)


# ---------------------------------------------------------------------------- a noisy verifier


WORDS_AND_DIGITS = [{"answer": "one"}, {"answer": "12"}]


def test_miss_rates_by_hand():
    # words: the accepted have 4 and 1, mean 2.5, and 3 is above it: one appeal granted, which
    # counts 2. (0.9 + 2) / (0.9 + 2 + 0.9 + 2) = 1/2
    # digits: the mean is 4, and nothing is above: 0.9 / (0.9 + 0.9 + 1)
    scores = [4.0, 1.0, 3.0, -1.0]
    batch = batch_of(VERDICTS, ONE_RIGHT, problems=WORDS_AND_DIGITS, scores=scores)
    assert_rows(neighbors.miss_rates(batch), [0.5], [0.9 / 2.8])
    assert batch.state["bar_words"] == 2.5
    # nothing is accepted, but 4 and 3 are above the bar as it was: 0.9 * 2.9 = 2.61, and 4 more
    again = batch_of(ALL_WRONG, scores=scores, state=batch.state)
    assert_rows(neighbors.miss_rates(again), [6.61 / (6.61 + 2.61)])


def test_forward_and_backward_by_hand():
    # the rate is 1/2, as above
    scores = [4.0, 1.0, 3.0, -1.0]
    assert_rows(neighbors.forward(batch_of(VERDICTS, scores=scores)), [0.5, 0.5, -0.5, -0.5])
    assert_rows(neighbors.backward(batch_of(VERDICTS, scores=scores)), [1.0, 1.0, -1.0, -1.0])


def test_backward_weights_kinds_of_problems_by_what_is_missed():
    batch = batch_of(VERDICTS, VERDICTS, problems=WORDS_AND_DIGITS, scores=[4.0, 1.0, 0.0, -1.0])
    batch.rm_scores[0] = torch.tensor([1.0, 1.0, 4.0, 4.0])          # two appeals among the words
    words, digits = neighbors.backward(batch)
    assert words[0] > digits[0] > 0


def test_what_is_the_same_method_as_verifier():
    verdicts = (torch.rand(20, 8, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    batch = Batch(torch.randn(20, 8), verdicts, problems=[{"answer": "one"}] * 20)
    verifier = compute_advantages(batch, 0.0, "verifier").advantages
    torch.testing.assert_close(neighbors.rloo(batch), verifier * 8 / 7)
    # forward correction, once it is centered
    torch.testing.assert_close(group_advantages(neighbors.forward(batch)), verifier)
    # backward correction, where all problems are of one kind
    corrected = neighbors.backward(batch)
    factor = corrected.abs().max() / verifier.abs().max()
    torch.testing.assert_close(corrected, factor * verifier)
    # a process reward that is added, minus 1, as in PPR (arXiv 2509.25598)
    process = torch.rand(20, 8)
    torch.testing.assert_close(group_advantages(verdicts + process - 1),
                               group_advantages(verdicts + process), atol=1e-6, rtol=0)


# ---------------------------------------------------------------------------- verdict and score


def test_heron_by_hand():
    # won minus lost: 3, 2 - 1, 1 - 2, -3, each over 2 * 4
    assert_rows(neighbors.heron(batch_of(VERDICTS)), [0.375, 0.125, -0.125, -0.375])
    # a margin of 2 std, 3.6, ties all scores of a stratum: won minus lost 2 and -2
    assert_rows(neighbors.heron(batch_of(VERDICTS), margin=2.0), [0.25, 0.25, -0.25, -0.25])


def test_papo_by_hand():
    # the accepted have 4 and 1: mean 2.5, std 1.5
    assert_rows(neighbors.papo(batch_of(VERDICTS)), [2.0, 0.0, -1.0, -1.0])
    # one accepted rollout has nobody to differ from; all wrong stays silent
    one = math.sqrt(3)
    assert_rows(neighbors.papo(batch_of(ONE_RIGHT, ALL_WRONG)),
                [one, -one / 3, -one / 3, -one / 3], [0.0] * 4)


def test_gdpo_by_hand():
    # z-scores: 1, 1, -1, -1 and the centered scores over sqrt(13 / 4)
    std = math.sqrt(13 / 4)
    total = [1 + 2.5 / std, 1 - 0.5 / std, -1 + 0.5 / std, -1 - 2.5 / std]
    spread = math.sqrt(sum(value ** 2 for value in total) / 4)
    assert_rows(neighbors.gdpo(batch_of(VERDICTS)), [value / spread for value in total])


def test_bonuses_behind_the_gate_by_hand():
    # sigmoid(4) = 0.98201, sigmoid(1) = 0.73106
    rewards = torch.tensor([[1.098201, 1.073106, 0.0, 0.0]])
    assert_rows(neighbors.gated(batch_of(VERDICTS)), (rewards - rewards.mean())[0].tolist())
    # lengths of 5 and 9 out of 10: bonuses 0.05 and 0.01; mean (1.05 + 1.01) / 4 = 0.515
    assert_rows(neighbors.concise(batch_of(VERDICTS)), [0.535, 0.495, -0.515, -0.515])
    assert_rows(neighbors.gated(batch_of(ALL_WRONG)), [0.0] * 4)


def test_clip_and_narrow_naive_by_hand():
    # 1.2, 1.05, 0.1, -0.05: mean 0.575
    assert_rows(neighbors.naive_narrow(batch_of(VERDICTS)), [0.625, 0.475, -0.475, -0.625])
    # eta = 2.5 caps the first score: 1.125, mean 0.55625
    batch = batch_of(VERDICTS)
    assert_rows(neighbors.clip(batch), [0.56875, 0.49375, -0.45625, -0.60625])
    assert batch.state["eta"] == 2.5
    # before anything was accepted there is no cap
    assert_rows(neighbors.clip(batch_of(ALL_WRONG)), [0.05 * value for value in CENTERED])


# ---------------------------------------------------------------------------- the score alone


def test_par_by_hand():
    initial = torch.tensor([[[2.0, 2.0]] * 4])                                         # (P, G, M)
    preferences = torch.sigmoid(torch.tensor([[2.0, -1.0, 0.0, -3.0]]))
    assert_rows(neighbors.par(batch_of(VERDICTS, signals={"initial_scores": initial})),
                (preferences - preferences.mean())[0].tolist())


@given(st.floats(10, 1000))
def test_par_is_bounded(score):
    batch = batch_of(ALL_WRONG, scores=[score, 0.0, 0.0, 0.0],
                     signals={"initial_scores": torch.zeros(1, 4, 1)})
    assert neighbors.par(batch).abs().max() < 0.5


def test_rm_overlong_by_hand():
    # 4, 0.5, 1, -1: mean 1.125
    assert_rows(neighbors.rm_overlong(batch_of(VERDICTS)), [2.875, -0.625, -0.125, -2.125])


def test_ensembles_by_hand():
    # Standardized: -1 -1 1 1 and -1 1 -1 1. Means -1 0 0 1, lowest -1 -1 -1 1, variances 0 2 2 0.
    def two_members():
        return batch_of(VERDICTS, scores=[0.0, 0.0, 2.0, 2.0],
                        signals={"members": torch.tensor([[[0.0], [40.0], [0.0], [40.0]]])})

    assert_rows(neighbors.ensemble_mean(two_members()), [-1.0, 0.0, 0.0, 1.0])
    assert_rows(neighbors.ensemble_worst(two_members()), [-0.5, -0.5, -0.5, 1.5])
    assert_rows(neighbors.ensemble_uncertain(two_members()), [-0.9, -0.1, -0.1, 1.1])
    # 0.3 * mean + 0.7 * lowest = -1, -0.7, -0.7, 1: mean -0.35
    assert_rows(neighbors.ensemble_robust(two_members()), [-0.65, -0.35, -0.35, 1.35])


def test_members_keep_the_unit_of_the_first_batch():
    batch = batch_of(VERDICTS, scores=[0.0, 0.0, 2.0, 2.0],
                     signals={"members": torch.tensor([[[0.0], [40.0], [0.0], [40.0]]])})
    neighbors.ensemble_mean(batch)
    batch.rm_scores = batch.rm_scores + 2                   # one std higher than at first
    members = neighbors.standardized_members(batch)
    assert_rows(members[:, :, 0], [1.0, 1.0, 3.0, 3.0])


def test_policy_filtration_by_hand():
    batch = batch_of(VERDICTS)
    # best first: 4, 2, 1, -1; 4 * 1/2 = 2, and 4 * 1/6 = 2/3 for the others
    assert_rows(neighbors.filter_best_random(batch), [5.0, -1 / 3, 1 / 3, -5 / 3])
    assert_rows(neighbors.filter_best_worst(batch), [5.0, 0.0, 0.0, -5.0])
    assert_rows(neighbors.filter_best(batch), [10.0, 0.0, 0.0, 0.0])


# ---------------------------------------------------------------------------- the reference answer


def test_rlpr_by_hand():
    # q - q0, clipped: 0.5, 0.1, 0, 0. The second group's std is 0, below half of the mean.
    q = torch.tensor([[0.8, 0.4, 0.2, 0.2], [0.4, 0.4, 0.4, 0.4]])
    probabilities = torch.stack([q, torch.full_like(q, 0.3)], 2)                       # (P, G, 2)
    batch = batch_of(VERDICTS, VERDICTS, signals={"reference_probability": probabilities})
    expected = group_advantages(torch.tensor([[0.5, 0.1, 0.0, 0.0]]), "std")[0].tolist()
    assert_rows(neighbors.rlpr(batch), expected, [0.0] * 4)
    # std of 0.5, 0.1, 0, 0 around 0.15: sqrt((0.1225 + 0.0025 + 2 * 0.0225) / 4); half, as the mean
    assert batch.state["rlpr_std"] == pytest.approx(math.sqrt(0.17 / 4) / 2)


def test_the_reference_probability_is_that_of_the_policy(policy, tokenizer):
    """Against the plain softmax of one row at a time."""
    cfg = SimpleNamespace(instruction="")

    def logprobs(ids, mask):
        logp = torch.log_softmax(policy(input_ids=ids).logits, -1)[:, :-1]
        chosen = logp.gather(2, ids[:, 1:, None])[:, :, 0]
        return torch.cat([torch.zeros(len(ids), 1), chosen], 1) * mask

    models = SimpleNamespace(tokenizer=tokenizer, policy=policy, logprobs=logprobs)
    problem = {"problem": "compute 2+3*4-5 in words", "answer": "nine past zero"}
    prompt = chat_prompt(tokenizer, problem["problem"])
    texts = ["3*4=12;2+12=14;14-5=9;\\boxed{zero tens and nine}", "3*4=12 and no box"]
    signal = neighbors.make_reference_probability(cfg, models)
    [[(with_box, alone), (without_box, _)]] = signal([problem], [texts])

    for value, working in ((with_box, "3*4=12;2+12=14;14-5=9;\\boxed{"), (alone, "\\boxed{")):
        context = prompt + tokenizer(working, add_special_tokens=False)["input_ids"]
        probabilities = []
        for token in tokenizer(problem["answer"], add_special_tokens=False)["input_ids"]:
            logits = policy(input_ids=torch.tensor([context])).logits[0, -1]
            probabilities.append(torch.softmax(logits, -1)[token].item())
            context = context + [token]
        assert value == pytest.approx(sum(probabilities) / len(probabilities), rel=1e-4)
    assert without_box == 0


# ---------------------------------------------------------------------------- losses and leashes


def gradient(surrogate, log_ratio, advantages, mask):
    log_ratio = torch.tensor(log_ratio, requires_grad=True)
    mask = torch.tensor(mask)
    loss = surrogate(log_ratio * mask, torch.tensor(advantages), mask)
    (loss * mask).sum().backward()
    return log_ratio.grad


def test_gspo_clips_whole_responses():
    # mean log-ratio of the first response 0: every token has the slope -advantage
    slope = gradient(neighbors.gspo, [[0.3, -0.3, 9.0], [0.5, 0.5, 0.5]], [[2.0], [1.0]],
                     [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    assert_rows(slope, [-2.0, -2.0, 0.0], [0.0, 0.0, 0.0])  # the second is clipped as a whole


def test_cispo_never_loses_a_gradient():
    # ratios 1 and e^1, which weighs 1.2
    slope = gradient(neighbors.cispo, [[0.0, 1.0]], [[2.0]], [[1.0, 1.0]])
    assert_rows(slope, [-2.0, -2.4])


@given(st.floats(-50, 50))
def test_leashes_are_never_negative(d):
    d = torch.tensor([d], dtype=torch.float64)
    assert neighbors.kl_terms(d) > -1e-12
    assert neighbors.chi2_terms(d) > -1e-12


def test_leash_terms_by_hand():
    d = torch.tensor([0.0, math.log(2)])
    torch.testing.assert_close(neighbors.kl_terms(d), torch.tensor([0.0, math.log(2) - 0.5]))
    torch.testing.assert_close(neighbors.chi2_terms(d), torch.tensor([0.0, 0.5]))
    # beyond 10 a straight line with the slope of e^10
    far = neighbors.bounded_exp(torch.tensor([10.0, 11.0, 12.0]))
    torch.testing.assert_close(far.diff(), torch.full((2,), math.exp(10)))


def test_the_leash_is_the_root_of_chi2_over_any_micro_batches():
    """The gradient of LEASH_COEF * sqrt(mean of the terms), taken in two parts."""
    generator = torch.Generator().manual_seed(0)
    logp = torch.randn(4, 5, generator=generator).requires_grad_()
    reference = torch.randn(4, 5, generator=generator)
    mask = torch.ones(4, 5)

    terms = neighbors.chi2_terms(neighbors.response_log_ratio(logp, reference, mask))
    (neighbors.LEASH_COEF * terms.mean().sqrt()).backward()
    whole = logp.grad.clone()

    logp.grad = None
    parts = [SimpleNamespace(ids=rows, mask=mask[rows], ref_logp=reference[rows])
             for rows in (slice(0, 1), slice(1, 4))]
    models = SimpleNamespace(logprobs=lambda rows, mask, temperature: logp[rows])
    cfg = SimpleNamespace(temperature=1.0)
    slope = neighbors.leash_slope("chi2", cfg, models, parts, size=4)
    for part in parts:
        terms = neighbors.chi2_terms(
            neighbors.response_log_ratio(logp[part.ids], part.ref_logp, part.mask))
        (neighbors.LEASH_COEF * slope * terms.sum() / 4).backward()
    torch.testing.assert_close(logp.grad, whole)
    assert neighbors.leash_slope("kl", cfg, models, parts, size=4) == 1


# ---------------------------------------------------------------------------- refill


def test_refill_waits_for_a_full_batch_of_groups():
    def rollouts(first):
        return [Rollout([0], [first + i], [-0.5], True) for i in range(4)]

    state = {}
    one_of_two = torch.tensor([[1.0, -1.0], [0.0, 0.0]])
    assert neighbors.refill(state, rollouts(0), one_of_two) == ([], None)
    # both groups this time: three in all, the last is thrown away
    chosen, advantages = neighbors.refill(state, rollouts(10), torch.tensor([[2.0, -2.0],
                                                                             [3.0, -3.0]]))
    assert [rollout.response_ids for rollout in chosen] == [[0], [1], [10], [11]]
    assert advantages.tolist() == [1.0, -1.0, 2.0, -2.0]
    assert state["waiting"] == []


# ---------------------------------------------------------------------------- the table


def test_the_table_is_whole():
    table = neighbors.describe()
    for name, method in METHODS.items():
        assert f"\n{name} " in table and method.summary in table
        assert method.function or method.reward
        assert method.loss in neighbors.LOSSES
        assert method.leash in ("", *neighbors.LEASHES)
        assert set(method.signals) <= set(neighbors.SIGNALS)
    assert max(map(len, table.splitlines())) <= 120


def test_the_command_alone_shows_the_table(tmp_path, capsys):
    hero_here(tmp_path, program="neighbors/neighbors.py")
    assert capsys.readouterr().out.startswith(neighbors.describe())


def test_what_cannot_be_trained_is_refused_before_anything_runs(folder):
    program = "neighbors/neighbors.py"
    refuse(folder, "ensemble_mean", says="reward_model-1", name=program)
    refused(folder, "rlp", says="the first word has to be one of grpo", program=program)
    refused(folder, "rlpr", "--reward", "rm", says="leave it out", program=program)
    with pytest.raises(TypeError, match="then a function or a reward"):
        neighbors.Entry(neighbors.grpo, "2402.03300", "in the wrong order")
    refused(folder, "--reward", "rlpr", says="other methods are in neighbors/")


# ---------------------------------------------------------------------------- runs


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains(folder, tokenizer, name):
    world = folder / "runs" / "world-0"
    shutil.copytree(world / "reward_model", world / "reward_model-1")
    write_toss(folder, tokenizer)
    hero_here(folder, name, "--name", "a", *SMALL, "--policy", "toss", "--data", "sevens.jsonl",
              "--steps", 2, program="neighbors/neighbors.py")
    rows = metrics_of(folder, "a")
    assert len(rows) == 3
    assert json.loads((folder / "runs/a/config.json").read_text())["reward"] == name
    if METHODS[name].leash:
        assert rows[-1]["policy/kl_ref"] > 0
    for row in rows[1:]:
        norm = row["policy/gradient_norm"]
        waits = METHODS[name].refill and norm is None
        assert waits or math.isfinite(norm)
