"""Eq. 1, 3, 4, 5, the baselines, the advantage, and the reward model's scores."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import Qwen3Config, Qwen3ForSequenceClassification

from rewards import (
    REWARDS,
    RewardModel,
    auroc,
    bradley_terry_loss,
    compute_advantages,
    difficulty_weight,
    group_advantages,
    reliability,
    stratify,
)

# One prompt, four rollouts, the group of every golden number below.
RM = torch.tensor([[4.0, 1.0, 2.0, -1.0]], dtype=torch.float64)
CORRECT = torch.tensor([[1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)

groups = st.integers(2, 8).flatmap(lambda size: st.tuples(
    st.lists(st.floats(-50, 50), min_size=size, max_size=size),
    st.lists(st.booleans(), min_size=size, max_size=size)))


def tensors(group):
    rm, correct = group
    return torch.tensor([rm], dtype=torch.float64), torch.tensor([correct]).double()


# ---------------------------------------------------------------------------- Eq. 3


def test_stratify_golden():
    # correct: scores 4 and 1 -> places 1 and 0 -> 1 + 0.1 and 1 - 0.1
    # wrong:   scores 2 and -1 -> places 1 and 0 -> 0.05 and -0.05
    expected = torch.tensor([[1.1, 0.9, 0.05, -0.05]], dtype=torch.float64)
    torch.testing.assert_close(stratify(RM, CORRECT, 0.05, 0.1, eps=0), expected)
    # three wrong ones: place of the middle one (0 - -1) / (3 - -1) = 1/4 -> -0.2 + 0.4 / 4 = -0.1
    rm = torch.tensor([[-1.0, 0.0, 3.0]], dtype=torch.float64)
    expected = torch.tensor([[-0.2, -0.1, 0.2]], dtype=torch.float64)
    torch.testing.assert_close(stratify(rm, torch.zeros(1, 3), 0.2, 0.1, eps=0), expected)


def test_stratify_eps_is_in_the_denominator():
    # place of the best: 3 / (3 + 1) = 0.75 -> -0.05 + 0.1 * 0.75 = 0.025
    assert stratify(RM, CORRECT, 0.05, 0.05, eps=1.0)[0, 2].item() == pytest.approx(0.025)


def test_stratify_lonely_and_equal_scores_get_the_lower_end():
    lone = stratify(RM, torch.tensor([[1, 0, 0, 0]]), 0.05, 0.1)
    assert lone[0, 0].item() == pytest.approx(0.9)
    equal = stratify(torch.full((1, 4), 7.0), CORRECT, 0.05, 0.1)
    torch.testing.assert_close(equal, torch.tensor([[0.9, 0.9, -0.05, -0.05]]))
    assert stratify(torch.tensor([[3.0]]), torch.tensor([[0]]), 0.05, 0.1).item() == \
        pytest.approx(-0.05)


def test_stratify_groups_do_not_see_each_other():
    alone = stratify(RM, CORRECT)
    both = stratify(torch.cat([RM, 100 * RM]), torch.cat([CORRECT, CORRECT]))
    torch.testing.assert_close(both[:1], alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stratify_keeps_the_dtype(dtype):
    assert stratify(RM.to(dtype), CORRECT).dtype == dtype


@given(groups)
def test_stratify_bands_and_order(group):
    rm, correct = tensors(group)
    r_hat = stratify(rm, correct, 0.05, 0.1)
    assert (r_hat[correct == 0].abs() <= 0.05 + 1e-12).all()
    assert ((r_hat[correct == 1] - 1).abs() <= 0.1 + 1e-12).all()
    for verdict in (0, 1):
        order = rm[correct == verdict].argsort()
        assert (r_hat[correct == verdict][order].diff() >= -1e-12).all()


@given(groups, st.floats(0.1, 10), st.floats(-20, 20))
def test_stratify_ignores_the_unit_of_the_scores(group, unit, offset):
    rm, correct = tensors(group)
    rm = rm.round(decimals=3)
    moved = stratify(unit * rm + offset, correct, eps=1e-12)
    torch.testing.assert_close(moved, stratify(rm, correct, eps=1e-12), atol=1e-6, rtol=0)


# ---------------------------------------------------------------------------- Eq. 4 and Eq. 5


def test_difficulty_weight_golden():
    # at sigma_bar the logistic is 1/2: (0.4 + 3) / 2 = 1.7
    # one unit of ln(3)/6 above, it is 3/4: 0.4 + 2.6 * 3/4 = 2.35
    sigma = torch.tensor([2.0, 2.0 + math.log(3) / 6], dtype=torch.float64)
    torch.testing.assert_close(difficulty_weight(sigma, 2.0),
                               torch.tensor([1.7, 2.35], dtype=torch.float64))


@given(st.lists(st.floats(0, 30), min_size=2, max_size=9), st.floats(0, 30))
def test_difficulty_weight_rises_between_its_ends(sigma, sigma_bar):
    weight = difficulty_weight(torch.tensor(sorted(sigma), dtype=torch.float64), sigma_bar)
    assert (weight.diff() >= 0).all() and weight.min() >= 0.4 and weight.max() <= 3.0


def test_advantage_golden():
    reward = stratify(RM, CORRECT, 0.05, 0.1, eps=0)          # 1.1, 0.9, 0.05, -0.05; mean 0.5
    adv = group_advantages(reward, weight=torch.tensor([2.0]).double())
    expected = torch.tensor([[1.2, 0.8, -0.9, -1.1]], dtype=torch.float64)
    torch.testing.assert_close(adv, expected)
    # std: squares 0.36, 0.16, 0.2025, 0.3025; population variance 1.025 / 4 = 0.25625
    scaled = group_advantages(reward, "std", weight=torch.tensor([2.0]).double(), eps=0)
    torch.testing.assert_close(scaled, expected / math.sqrt(0.25625))


def test_std_scaling_cancels_a_weight_on_the_reward():
    reward, weight = stratify(RM, CORRECT), 2.5
    torch.testing.assert_close(group_advantages(weight * reward, "std", eps=0),
                               group_advantages(reward, "std", eps=0))
    assert not torch.allclose(group_advantages(weight * reward), group_advantages(reward))


@given(groups)
def test_std_scaling_cancels_alpha_in_uniform_groups(group):
    rm, _ = tensors(group)
    rm = rm.round(decimals=3)
    assume(rm.min() < rm.max())
    wrong = torch.zeros_like(rm)
    narrow, wide = (group_advantages(stratify(rm, wrong, alpha), "std", eps=0)
                    for alpha in (0.05, 0.5))
    torch.testing.assert_close(narrow, wide, atol=1e-6, rtol=0)


def test_by_default_neither_weight_nor_alpha_cancels():
    wrong = torch.zeros_like(RM)
    narrow, wide = (group_advantages(stratify(RM, wrong, alpha)) for alpha in (0.05, 0.5))
    torch.testing.assert_close(wide, 10 * narrow)
    weighted = group_advantages(stratify(RM, wrong), weight=torch.tensor([3.0]).double())
    torch.testing.assert_close(weighted, 3 * narrow)


@pytest.mark.parametrize("scale", ["none", "std"])
def test_groups_without_a_difference_have_no_advantage(scale):
    assert group_advantages(torch.full((2, 4), 0.7), scale).abs().max() < 1e-6
    assert group_advantages(torch.tensor([[0.3], [1.2]]), scale).eq(0).all()           # G = 1


def test_unknown_scale_names_the_choices():
    with pytest.raises(ValueError, match="batch.*choose none or std"):
        group_advantages(RM, "batch")


@given(groups, st.sampled_from(sorted(REWARDS)))
def test_advantages_sum_to_zero(group, name):
    rm, correct = tensors(group)
    adv = group_advantages(REWARDS[name](rm, correct))
    assert adv.shape == rm.shape and abs(adv.sum().item()) < 1e-9


# ---------------------------------------------------------------------------- the baselines


def test_baselines_golden():
    def reward(name, **options):
        return REWARDS[name](RM, CORRECT, **options)[0].tolist()
    assert reward("verifier") == [1, 1, 0, 0]
    assert reward("rm") == [4, 1, 2, -1]
    assert reward("naive", mix=0.75) == [0.75 + 1, 0.75 + 0.25, 0.5, -0.25]
    assert reward("hero_correct") == pytest.approx([1.05, 0.95, 0, 0], abs=1e-6)
    assert reward("hero_wrong") == pytest.approx([1, 1, 0.05, -0.05], abs=1e-6)


def test_hero_with_closed_bands_is_the_verifier():
    torch.testing.assert_close(REWARDS["hero"](RM, CORRECT, alpha=0.0, beta=0.0),
                               REWARDS["verifier"](RM, CORRECT))


# ---------------------------------------------------------------------------- AUROC, Eq. 1


def test_auroc_golden():
    # positives 4, 1 against negatives 2, -1: 4>2, 4>-1, 1<2, 1>-1 -> 3 of 4; a tie counts half
    assert auroc(RM[0], CORRECT[0]) == 0.75
    assert auroc(torch.tensor([1.0, 1.0]), torch.tensor([1, 0])) == 0.5
    assert math.isnan(auroc(RM[0], torch.ones(4)))


def test_reliability_golden():
    # RM, CORRECT: of the pairs (4, 2), (4, -1), (1, 2), (1, -1) three are in order: AUROC 0.75
    running, gate = reliability((0.0, 0.0), RM, CORRECT)
    assert running == (0.75, 1.0) and gate == pytest.approx(2 * 0.75 - 1)
    # a step later a group in perfect order: (0.9 * 0.75 + 1) / (0.9 + 1) = 0.88158
    running, gate = reliability(running, torch.tensor([[5.0, 1.0]]), torch.tensor([[1.0, 0.0]]))
    assert gate == pytest.approx(2 * (0.9 * 0.75 + 1) / 1.9 - 1)
    # below chance is nothing, and so is a start without any mixed group
    assert reliability((0.0, 0.0), -RM, CORRECT)[1] == 0.0
    assert reliability((0.0, 0.0), RM, torch.zeros(1, 4)) == ((0.0, 0.0), 0.0)


@pytest.mark.parametrize("scale", ["none", "std"])
def test_the_gate_scales_uniform_groups_and_no_other(scale):
    rm = RM.repeat(3, 1)
    correct = torch.stack([CORRECT[0], torch.zeros(4), torch.ones(4)]).double()
    open_, half = (compute_advantages(rm, correct, 1.0, scale=scale, gate=gate)["adv"]
                   for gate in (1.0, 0.5))
    assert open_[1:].abs().min() > 0
    torch.testing.assert_close(half[0], open_[0])
    torch.testing.assert_close(half[1:], open_[1:] / 2)
    for reward in ("verifier", "rm", "naive"):
        torch.testing.assert_close(
            compute_advantages(rm, correct, 1.0, reward=reward, gate=0.0)["adv"],
            compute_advantages(rm, correct, 1.0, reward=reward)["adv"])


def test_bradley_terry_golden():
    # -ln sigmoid(ln 3) = -ln(3/4), -ln sigmoid(0) = ln 2; the mean of the two
    loss = bradley_terry_loss(torch.tensor([math.log(3), 5.0]), torch.tensor([0.0, 5.0]))
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)


# ---------------------------------------------------------------------------- the reward model


@pytest.fixture(scope="module")
def reward_model(world):
    return RewardModel(world / "reward_model")


PROMPTS = ["compute 2+3*4-5", "perimeter of 2 by 9 less 4 in words", "solve (x-4)/3=5", "x"]
RESPONSES = ["3*4=12;\\boxed{9}", "2+9=11;2*11=22;\\boxed{twice nine}", "", "\\boxed{19}"]


def test_score_of_a_batch_is_that_of_each_row(reward_model):
    together = reward_model.score(PROMPTS, RESPONSES)
    alone = torch.cat([reward_model.score([p], [r])
                       for p, r in zip(PROMPTS, RESPONSES, strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_score_splits_by_the_token_budget(reward_model, world):
    small = RewardModel(world / "reward_model", max_tokens=30)
    torch.testing.assert_close(small.score(PROMPTS, RESPONSES),
                               reward_model.score(PROMPTS, RESPONSES), atol=1e-5, rtol=0)


def test_score_is_the_raw_head_at_the_last_real_token(reward_model):
    ids = torch.tensor([reward_model.token_ids(PROMPTS[0], RESPONSES[0])])
    hidden = reward_model.model.base_model(input_ids=ids).last_hidden_state
    expected = reward_model.model.score(hidden[0, -1])
    torch.testing.assert_close(reward_model.score(PROMPTS[:1], RESPONSES[:1]), expected)


def test_rows_that_end_in_the_pad_token_are_scored_there(reward_model):
    """pad == eos is common: pooling must not stop at the token before."""
    rows = [reward_model.token_ids(p, r) for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    rows[1] = rows[1] + [0, 0]                                # ends in the id that pads
    together = reward_model.forward(rows)
    for row, score in zip(rows, together, strict=True):
        hidden = reward_model.model.base_model(input_ids=torch.tensor([row])).last_hidden_state
        torch.testing.assert_close(score[None], reward_model.model.score(hidden[0, -1]),
                                   atol=1e-5, rtol=0)


def test_a_system_message_changes_the_score(world, reward_model):
    told = RewardModel(world / "reward_model", system="perimeter")
    assert told.token_ids("x", "y") != reward_model.token_ids("x", "y")


def test_a_model_without_a_score_head_is_refused(world):
    with pytest.raises(ValueError, match=r"no trained one-label score head.*score\.weight"):
        RewardModel(world / "policy")


def test_a_head_of_two_labels_is_refused(world, tokenizer, tmp_path):
    config = Qwen3Config(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1,
                         num_attention_heads=1, num_key_value_heads=1, head_dim=32,
                         intermediate_size=32, num_labels=2)
    for part in (Qwen3ForSequenceClassification(config), tokenizer):
        part.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="one-label"):
        RewardModel(tmp_path)


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"cannot load '.*nowhere'.*neither a directory"):
        RewardModel(tmp_path / "nowhere")


def test_nan_scores_name_the_rows(world):
    broken = RewardModel(world / "reward_model")
    token = broken.tokenizer("perimeter", add_special_tokens=False)["input_ids"][0]
    broken.model.base_model.embed_tokens.weight.data[token] = float("nan")
    with pytest.raises(ValueError, match=r"nan or inf for 1 of 4 responses, rows \[1\]"):
        broken.score(PROMPTS, RESPONSES)
