"""Eq. 1, 3, 4, 5, the baselines, the advantage, and the reward model's scores."""

import json
import math
import shutil

import pytest
import torch
from helpers import Payload
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import Qwen3Config, Qwen3ForSequenceClassification

from rewards import (
    REWARDS,
    Batch,
    Reward,
    RewardModel,
    auroc,
    bradley_terry_loss,
    compute_advantages,
    difficulty_weight,
    group_advantages,
    group_stats,
    stratify,
)

# One prompt, four rollouts, the group of every golden number below.
RM_SCORES = torch.tensor([[4.0, 1.0, 2.0, -1.0]], dtype=torch.float64)
VERIFIED = torch.tensor([[1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)

# A reward that a reader adds to REWARDS may need more of a Batch than these tests give it.
BUILT_IN = ("hero", "verifier", "rm", "naive", "oracle")

groups = st.integers(2, 8).flatmap(lambda size: st.tuples(
    st.lists(st.floats(-50, 50), min_size=size, max_size=size),
    st.lists(st.booleans(), min_size=size, max_size=size)))


def tensors(group):
    """-> rm_scores (1, G), verified (1, G)"""
    scores, verdicts = group
    return torch.tensor([scores], dtype=torch.float64), torch.tensor([verdicts]).double()


# ---------------------------------------------------------------------------- Eq. 3


def test_stratify_golden():
    # correct: scores 4 and 1 -> positions 1 and 0 -> 1 + 0.1 and 1 - 0.1
    # wrong:   scores 2 and -1 -> positions 1 and 0 -> 0.05 and -0.05
    expected = torch.tensor([[1.1, 0.9, 0.05, -0.05]], dtype=torch.float64)
    torch.testing.assert_close(stratify(RM_SCORES, VERIFIED, 0.05, 0.1, eps=0), expected)
    # three wrong ones: the middle one is at (0 - -1) / (3 - -1) = 1/4 -> -0.2 + 0.4 / 4 = -0.1
    rm = torch.tensor([[-1.0, 0.0, 3.0]], dtype=torch.float64)
    expected = torch.tensor([[-0.2, -0.1, 0.2]], dtype=torch.float64)
    torch.testing.assert_close(stratify(rm, torch.zeros(1, 3), 0.2, 0.1, eps=0), expected)


def test_stratify_eps_is_in_the_denominator():
    # position of the best: 3 / (3 + 1) = 0.75 -> -0.05 + 0.1 * 0.75 = 0.025
    assert stratify(RM_SCORES, VERIFIED, 0.05, 0.05, eps=1.0)[0, 2].item() == pytest.approx(0.025)


def test_stratify_lonely_and_equal_scores_get_the_lower_end():
    lone = stratify(RM_SCORES, torch.tensor([[1, 0, 0, 0]]), 0.05, 0.1)
    assert lone[0, 0].item() == pytest.approx(0.9)
    equal = stratify(torch.full((1, 4), 7.0), VERIFIED, 0.05, 0.1)
    torch.testing.assert_close(equal, torch.tensor([[0.9, 0.9, -0.05, -0.05]]))
    assert stratify(torch.tensor([[3.0]]), torch.tensor([[0]]), 0.05, 0.1).item() == \
        pytest.approx(-0.05)


def test_stratify_groups_do_not_see_each_other():
    alone = stratify(RM_SCORES, VERIFIED)
    both = stratify(torch.cat([RM_SCORES, 100 * RM_SCORES]), torch.cat([VERIFIED, VERIFIED]))
    torch.testing.assert_close(both[:1], alone)


@given(groups)
def test_stratify_bands_and_order(group):
    rm_scores, verified = tensors(group)
    r_hat = stratify(rm_scores, verified, 0.05, 0.1)
    assert (r_hat[verified == 0].abs() <= 0.05 + 1e-12).all()
    assert ((r_hat[verified == 1] - 1).abs() <= 0.1 + 1e-12).all()
    for verdict in (0, 1):
        order = rm_scores[verified == verdict].argsort()
        assert (r_hat[verified == verdict][order].diff() >= -1e-12).all()


@given(groups, st.floats(0.1, 10), st.floats(-20, 20))
def test_stratify_ignores_the_unit_of_the_scores(group, unit, offset):
    rm_scores, verified = tensors(group)
    rm_scores = rm_scores.round(decimals=3)
    moved = stratify(unit * rm_scores + offset, verified, eps=1e-12)
    torch.testing.assert_close(moved, stratify(rm_scores, verified, eps=1e-12), atol=1e-6, rtol=0)


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
    # rewards 1.1, 0.9, 0.05, -0.05, their mean is 0.5; twice the differences
    reward = stratify(RM_SCORES, VERIFIED, 0.05, 0.1, eps=0)
    adv = group_advantages(reward, weight=torch.tensor([2.0]).double())
    expected = torch.tensor([[1.2, 0.8, -0.9, -1.1]], dtype=torch.float64)
    torch.testing.assert_close(adv, expected)
    # std: squares 0.36, 0.16, 0.2025, 0.3025; population variance 1.025 / 4 = 0.25625
    scaled = group_advantages(reward, "std", weight=torch.tensor([2.0]).double(), eps=0)
    torch.testing.assert_close(scaled, expected / math.sqrt(0.25625))


@given(groups)
def test_std_scaling_cancels_alpha_in_uniform_groups(group):
    rm_scores, _ = tensors(group)
    rm_scores = rm_scores.round(decimals=3)
    assume(rm_scores.min() < rm_scores.max())
    wrong = torch.zeros_like(rm_scores)
    narrow, wide = (group_advantages(stratify(rm_scores, wrong, alpha), "std", eps=0)
                    for alpha in (0.05, 0.5))
    torch.testing.assert_close(narrow, wide, atol=1e-6, rtol=0)


@pytest.mark.parametrize("norm", ["none", "std"])
def test_groups_without_a_difference_have_no_advantage(norm):
    assert group_advantages(torch.full((2, 4), 0.7), norm).abs().max() < 1e-6
    assert group_advantages(torch.tensor([[0.3], [1.2]]), norm).eq(0).all()           # G = 1


def test_unknown_normalization_names_the_choices():
    with pytest.raises(ValueError, match="batch.*choose none or std"):
        group_advantages(RM_SCORES, "batch")


@given(groups, st.sampled_from(BUILT_IN))
def test_advantages_sum_to_zero(group, name):
    rm_scores, verified = tensors(group)
    advantages = compute_advantages(with_texts(rm_scores, verified), 1.0, name).advantages
    assert advantages.shape == rm_scores.shape
    assert abs(advantages.sum().item()) < 1e-9


# ---------------------------------------------------------------------------- rewards, by name


def with_texts(rm_scores, verified):
    """A Batch whose problems and texts say the verdicts, for the oracle to grade."""
    texts = [["\\boxed{7}" if verdict else "\\boxed{8}" for verdict in group]
             for group in verified]
    return Batch(rm_scores, verified, texts=texts, problems=[{"answer": "7"}] * len(texts))


def rewards_of(name, **settings):
    return compute_advantages(Batch(RM_SCORES, VERIFIED), 0.0, name, weight_on="none",
                              **settings).r_hat[0].tolist()


def test_rewards_golden():
    assert rewards_of("verifier") == [1, 1, 0, 0]
    assert rewards_of("rm") == [4, 1, 2, -1]
    assert rewards_of("naive", verifier_share=0.75) == [0.75 + 1, 0.75 + 0.25, 0.5, -0.25]
    assert rewards_of("hero") == pytest.approx([1.05, 0.95, 0.05, -0.05], abs=1e-6)
    assert rewards_of("hero", alpha=0.0, beta=0.0) == rewards_of("verifier")


def test_the_oracle_sees_the_truth_and_nothing_else():
    problem = {"answer": "7", "accepted": ["7", "lucky seven"], "wrong_start": "guess"}
    texts = ["\\boxed{7}", "guess \\boxed{7}", "\\boxed{lucky seven}", "\\boxed{8}"]
    batch = Batch(RM_SCORES, VERIFIED, texts=[texts], problems=[problem])
    assert compute_advantages(batch, 0.0, "oracle").rewards.tolist() == [[1, 0, 1, 0]]


def test_eq_4_weights_hero_and_no_baseline():
    """At sigma_bar = sigma the weight is 1.7: it multiplies HERO's advantages only."""
    batch = with_texts(RM_SCORES, VERIFIED)
    sigma_bar = RM_SCORES.std(1, correction=0).item()
    for name in BUILT_IN:
        weighted = compute_advantages(batch, sigma_bar, name)
        plain = compute_advantages(batch, sigma_bar, name, weight_on="none")
        factor = 1.7 if name == "hero" else 1.0
        assert weighted.weight.item() == pytest.approx(factor)
        torch.testing.assert_close(weighted.advantages, factor * plain.advantages)


def test_eq_5_to_the_letter_puts_the_weight_on_the_reward():
    batch = Batch(RM_SCORES, VERIFIED)
    sigma_bar = RM_SCORES.std(1, correction=0).item()
    result = compute_advantages(batch, sigma_bar, weight_on="reward")
    torch.testing.assert_close(result.rewards, 1.7 * result.r_hat)
    # mean-only, it makes no difference where the weight is; with std it cancels on the reward
    usual = compute_advantages(batch, sigma_bar)
    torch.testing.assert_close(result.advantages, usual.advantages)
    std = compute_advantages(batch, sigma_bar, weight_on="reward", advantage_norm="std")
    unweighted = compute_advantages(batch, sigma_bar, weight_on="none", advantage_norm="std")
    torch.testing.assert_close(std.advantages, unweighted.advantages, atol=1e-5, rtol=0)


def test_a_reward_of_ones_own_sees_lengths_texts_and_problems(monkeypatch):
    def short_and_boxed(batch):
        boxed = torch.tensor([["boxed" in text for text in group] for group in batch.texts])
        assert batch.problems[0]["answer"] == "7"
        return batch.verified + boxed.double() - 0.1 * batch.lengths - (~batch.finished).double()

    monkeypatch.setitem(REWARDS, "short", Reward(short_and_boxed))
    batch = Batch(RM_SCORES, VERIFIED, lengths=torch.tensor([[5, 10, 5, 10]]),
                  finished=torch.tensor([[True, True, True, False]]),
                  texts=[["boxed", "", "boxed", ""]], problems=[{"answer": "7"}])
    result = compute_advantages(batch, 0.0, "short")
    torch.testing.assert_close(result.rewards, torch.tensor([[1.5, 0.0, 0.5, -2.0]]).double())


def test_group_stats_golden():
    """One mixed group and one all-rejected one, mean-only advantages, no weight."""
    batch = Batch(RM_SCORES.repeat(2, 1), torch.cat([VERIFIED, torch.zeros(1, 4).double()]))
    stats = group_stats(batch, compute_advantages(batch, 0.0, "verifier"))
    assert (stats["verify/all_rejected"], stats["verify/mixed"]) == (0.5, 0.5)
    assert stats["verify/all_accepted"] == 0 and stats["verify/accepted"] == 0.25
    assert stats["reward/abs_adv_mixed"] == 0.5 and stats["reward/abs_adv_uniform"] == 0
    assert stats["reward/zero_advantages"] == 0.5 and stats["rm/auroc"] == 0.75
    # scores 4, 1, 2, -1: mean 1.5, squares 6.25 + 0.25 + 0.25 + 6.25 = 13, deviation sqrt(13 / 4)
    assert stats["hero/sigma"] == pytest.approx(math.sqrt(13 / 4))
    assert group_stats(Batch(RM_SCORES, VERIFIED), compute_advantages(
        Batch(RM_SCORES, VERIFIED), 0.0))["reward/abs_adv_uniform"] is None


# ---------------------------------------------------------------------------- AUROC, Eq. 1


def test_auroc_golden():
    # positives 4, 1 against negatives 2, -1: 4>2, 4>-1, 1<2, 1>-1 -> 3 of 4; a tie counts half
    assert auroc(RM_SCORES[0], VERIFIED[0]) == 0.75
    assert auroc(torch.tensor([1.0, 1.0]), torch.tensor([1, 0])) == 0.5
    assert math.isnan(auroc(RM_SCORES[0], torch.ones(4)))


def test_bradley_terry_golden():
    # -ln sigmoid(ln 3) = -ln(3/4), -ln sigmoid(0) = ln 2; the mean of the two
    loss = bradley_terry_loss(torch.tensor([math.log(3), 5.0]), torch.tensor([0.0, 5.0]))
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)


# ---------------------------------------------------------------------------- the reward model


@pytest.fixture(scope="module")
def reward_model(world):
    """In float64: what differs in how a row is batched differs by 1e-12, and is then rounded."""
    return RewardModel(world / "reward_model", dtype=torch.float64)


PROMPTS = ["compute 2+3*4-5", "perimeter of 2 by 9 less 4 in words", "solve (x-4)/3=5", "x"]
RESPONSES = ["3*4=12;\\boxed{9}", "2+9=11;2*11=22;\\boxed{twice nine}", "", "\\boxed{19}"]


def test_score_of_a_batch_is_that_of_each_row(reward_model):
    together = reward_model.score(PROMPTS, RESPONSES)
    alone = torch.cat([reward_model.score([p], [r])
                       for p, r in zip(PROMPTS, RESPONSES, strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_score_splits_by_the_token_budget(reward_model, world):
    small = RewardModel(world / "reward_model", dtype=torch.float64, max_tokens=30)
    torch.testing.assert_close(small.score(PROMPTS, RESPONSES),
                               reward_model.score(PROMPTS, RESPONSES), atol=1e-5, rtol=0)


def test_score_is_the_raw_head_at_the_last_real_token(reward_model):
    ids = torch.tensor([reward_model.token_ids(PROMPTS[0], RESPONSES[0])])
    hidden = reward_model.model.base_model(input_ids=ids).last_hidden_state
    expected = reward_model.model.score(hidden[0, -1])
    torch.testing.assert_close(reward_model.score(PROMPTS[:1], RESPONSES[:1]), expected.float())


def test_rows_that_end_in_the_pad_token_are_scored_there(reward_model):
    """pad == eos is common: pooling must not stop at the token before."""
    rows = [reward_model.token_ids(p, r) for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    rows[1] = rows[1] + [0, 0]                                # ends in the id that pads
    together = reward_model.forward(rows)
    for row, score in zip(rows, together, strict=True):
        hidden = reward_model.model.base_model(input_ids=torch.tensor([row])).last_hidden_state
        torch.testing.assert_close(score[None], reward_model.model.score(hidden[0, -1]),
                                   atol=1e-5, rtol=0)


def test_a_model_beyond_its_positions_warns_once_and_counts(world, capsys):
    """As AceMath-7B-RM, whose positions end at 4,096: three of the four rows are longer than 12."""
    limited = RewardModel(world / "reward_model")
    limited.score(PROMPTS, RESPONSES)
    assert limited.share_too_long == 0 and capsys.readouterr().out == ""
    lengths = [len(limited.token_ids(p, r)) for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    limited.positions = sorted(lengths)[0]
    limited.score(PROMPTS, RESPONSES)
    limited.score(PROMPTS, RESPONSES)
    assert limited.share_too_long == 0.75
    out = capsys.readouterr().out
    assert out.count("warning:") == 1 and f"{max(lengths)} tokens" in out


def test_scoring_keeps_no_cache_and_builds_no_mask(reward_model, monkeypatch):
    calls = []
    forward = reward_model.model.forward
    monkeypatch.setattr(reward_model.model, "forward",
                        lambda **options: calls.append(options) or forward(**options))
    reward_model.score(PROMPTS, RESPONSES)
    assert calls
    assert all(call["use_cache"] is False and "attention_mask" not in call for call in calls)


def test_a_system_message_changes_the_score(world, reward_model):
    told = RewardModel(world / "reward_model", system="perimeter")
    assert told.token_ids("x", "y") != reward_model.token_ids("x", "y")


def test_a_model_without_a_score_head_is_refused(world):
    with pytest.raises(ValueError, match=r"no trained one-label score head.*score\.weight"):
        RewardModel(world / "policy")


def test_a_reward_model_without_a_chat_template_is_refused(world, tokenizer, tmp_path):
    """The plain template of base models is not what it was trained with."""
    shutil.copytree(world / "reward_model", tmp_path / "rm")
    for path in (tmp_path / "rm").glob("chat_template*"):
        path.unlink()
    with pytest.raises(ValueError, match="has no chat_template"):
        RewardModel(tmp_path / "rm")


def test_loading_a_reward_model_executes_nothing_from_it(world, tmp_path):
    """Neither a pickle among its weights nor code that its config names; safetensors go first."""
    folder = shutil.copytree(world / "reward_model", tmp_path / "rm")
    torch.save({"score.weight": Payload(tmp_path / "executed")}, folder / "pytorch_model.bin")
    RewardModel(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="cannot load"):
        RewardModel(folder)

    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "code.Model"}
    config["architectures"] = ["Model"]
    config["model_type"] = "unheard_of"
    config["auto_map"]["AutoConfig"] = "code.Config"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    with pytest.raises(ValueError, match="cannot load"):
        RewardModel(folder)
    assert not (tmp_path / "executed").exists()


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
