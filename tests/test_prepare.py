"""The stages before reinforcement learning: SFT loss, preference pairs, Bradley-Terry training."""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen3Config

from prepare import (
    fit_reward_model,
    memory_plan,
    parameters,
    preference_pairs,
    sft_loss,
    sft_rows,
    shuffled,
)
from rewards import RewardModel


def test_sft_loss_counts_response_tokens_only(policy, tokenizer):
    rows = sft_rows(tokenizer, [("compute 2+3*4-5", "3*4=12;\\boxed{9}"), ("x", "\\boxed{7}")])
    assert all(response[-1] == tokenizer.eos_token_id for _, response in rows)
    total, count = 0.0, 0
    for prompt, response in rows:
        logits = policy(input_ids=torch.tensor([prompt + response])).logits[0]
        logp = logits.log_softmax(-1)[len(prompt) - 1:-1]
        total -= logp[range(len(response)), response].sum().item()
        count += len(response)
    assert sft_loss(policy, rows).item() == pytest.approx(total / count, abs=1e-5)


def test_shuffled_leaves_no_row_out_of_a_pass():
    batches = shuffled(list(range(10)), 4, random.Random(0))
    drawn = [row for _ in range(5) for row in next(batches)]
    assert sorted(drawn[:10]) == sorted(drawn[10:20]) == list(range(10))


def test_preference_pairs_golden():
    pairs = preference_pairs(["p", "q", "r"], [["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"]],
                             [[1, 0, 0], [1, 1, 1], [0, 0, 1]], limit=2, rng=random.Random(0))
    assert len(pairs) == 2                                     # q has no wrong one
    assert pairs[0][:2] == ("p", "a") and pairs[0][2] in "bc"
    assert pairs[1][:2] == ("r", "i") and pairs[1][2] in "gh"


def test_preference_pairs_use_a_response_once():
    pairs = preference_pairs(["p"], [list("abcdef")], [[1, 1, 1, 0, 0, 0]], 3, random.Random(0))
    assert len({p[1] for p in pairs}) == len({p[2] for p in pairs}) == len(pairs) == 3


def test_bradley_terry_training_learns_to_rank(world):
    reward_model = RewardModel(world / "reward_model")
    problems = [f"compute {a}+{b}*4-5" for a in range(2, 8) for b in range(2, 8)]
    pairs = [(p, "\\boxed{one more than six}", "\\boxed{one short of six}") for p in problems]
    losses = fit_reward_model(reward_model, pairs, 60, 16, 3e-3, random.Random(0))
    assert losses[-1] < 0.3 < losses[0]
    chosen = reward_model.score(["compute 9+9*4-5"], [pairs[0][1]])
    rejected = reward_model.score(["compute 9+9*4-5"], [pairs[0][2]])
    assert chosen > rejected
    assert not any(p.requires_grad for p in reward_model.model.parameters())


@pytest.fixture
def paper_models(tmp_path):
    """Configs of the shapes of Qwen3-4B-Base and AceMath-7B-RM, without weights."""
    Qwen3Config(vocab_size=151936, hidden_size=2560, intermediate_size=9728, num_hidden_layers=36,
                num_attention_heads=32, num_key_value_heads=8, head_dim=128,
                tie_word_embeddings=True).save_pretrained(tmp_path / "policy")
    Qwen2Config(vocab_size=152064, hidden_size=3584, intermediate_size=18944,
                num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4,
                tie_word_embeddings=False).save_pretrained(tmp_path / "rm")
    return tmp_path / "policy", tmp_path / "rm"


def test_memory_plan_of_the_papers_models_by_hand(paper_models):
    """A layer of the 4B model: attention 2560 * 128 * (32 + 8 + 8 + 32) = 26,214,400; feed-forward
    3 * 2560 * 9728 = 74,711,040; norms 2 * 2560 + 2 * 128 = 5,376: 100,930,816. 36 of them, the
    embedding 151936 * 2560 and the last norm: 4,022,468,096 weights; on 8 GPUs the masters take
    4 * that / 8 = 1.87 GiB and Adam's moments 3.75."""
    assert parameters(AutoModelForCausalLM, paper_models[0])[:2] == (4_022_468_096, 100_930_816)
    plan = memory_plan(*paper_models, gpus=8, gpu_gib=80, tokens=16384)
    assert "   1.87 GiB  master weights" in plan and "   3.75 GiB  Adam's moments" in plan
    assert "  32.00 GiB  vLLM: weights and KV cache" in plan


def test_memory_plan_refuses_with_advice(paper_models):
    with pytest.raises(ValueError, match="needs .* GiB on GPUs of 24.0: take more GPUs"):
        memory_plan(*paper_models, gpus=1, gpu_gib=24, tokens=16384)
    with pytest.raises(ValueError, match="raise --gpu_memory_utilization"):
        memory_plan(*paper_models, gpus=8, gpu_gib=80, tokens=16384, vllm_share=0.05)
