"""The transformers engine: log-probabilities, seeds, stopping, top-p."""

import copy

import pytest
import torch
from helpers import chain, prompts
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import GenerationConfig

from distributed import derive_seed
from hero import token_logprobs
from rollout import (
    PLAIN_TEMPLATE,
    SamplingParams,
    end_of_turn,
    find_stop_ids,
    load_tokenizer,
    make_engine,
    nucleus,
    response_text,
    right_padded,
)


def test_text_survives_ids(tokenizer):
    text = "3*4=12;12+5=17;\\boxed{seven past ten}"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"]


def test_logprobs_are_the_trainers_at_the_sampling_temperature(exact, tokenizer):
    engine = make_engine("auto", exact, tokenizer)
    for temperature in (1.0, 0.7):
        rollouts = engine.generate(prompts(tokenizer), 8, SamplingParams(20, temperature), 0)
        ids, real = right_padded([r.prompt_ids + r.response_ids for r in rollouts])
        starts = torch.tensor([len(r.prompt_ids) for r in rollouts])[:, None]
        mask = real * (torch.arange(ids.shape[1]) >= starts)
        with torch.no_grad():
            logp = token_logprobs(exact, ids, mask, temperature)
        engine_logp = torch.tensor([value for r in rollouts for value in r.logprobs])
        torch.testing.assert_close(logp[mask.bool()], engine_logp, atol=1e-5, rtol=0)


def test_a_response_depends_on_its_seed_alone(exact, tokenizer):
    """Not on the batch, on the order of the prompts, or on how many rows are decoded together."""
    ids, seeds, sampling = prompts(tokenizer), [100, 200, 300, 400], SamplingParams(20)
    whole = make_engine("auto", exact, tokenizer).generate(ids, 3, sampling, seeds)
    pieces = make_engine("auto", exact, tokenizer, max_rows=2).generate(ids, 3, sampling, seeds)
    alone = make_engine("auto", exact, tokenizer).generate(ids[2:3], 3, sampling, seeds[2:3])
    assert [r.response_ids for r in whole] == [r.response_ids for r in pieces]
    assert [r.response_ids for r in whole[6:9]] == [r.response_ids for r in alone]
    assert [r.prompt_ids for r in whole] == [p for p in ids for _ in range(3)]


def test_other_seeds_give_other_responses(tokenizer):
    """A fair coin: of the 2^20 courses of twenty throws, two seeds take the same once in 80,000."""
    coin = make_engine("auto", chain(tokenizer, {"": {"0": 0.5, "1": 0.5}}), tokenizer)
    rollouts = coin.generate(prompts(tokenizer), 3, SamplingParams(20), [100, 200, 300, 400])
    assert len({tuple(r.response_ids) for r in rollouts}) == 12


def test_finished_responses_end_with_eos_and_cut_ones_do_not(tokenizer):
    """Of 64 responses a share of (15/16)^16 = 0.36 is cut: none or all are not, once in 10^12."""
    policy = chain(tokenizer, {"": {"<eos>": 1 / 16, "1": 15 / 16}})
    rollouts = make_engine("auto", policy, tokenizer).generate(prompts(tokenizer), 16,
                                                               SamplingParams(16), 0)
    assert {r.finished for r in rollouts} == {True, False}
    for r in rollouts:
        assert len(r.response_ids) == len(r.logprobs) <= 16
        assert tokenizer.eos_token_id not in r.response_ids[:-1]
        assert (r.response_ids[-1] == tokenizer.eos_token_id) == r.finished
        assert r.finished or len(r.response_ids) == 16
        assert "<eos>" not in response_text(tokenizer, r)


# ---------------------------------------------------------------------------- stop tokens


CHATML = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
          "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


@pytest.fixture
def base_tokenizer(tokenizer):
    """As of a Qwen base model: its end-of-sequence token is not what its template ends a turn with.

    The marks of a turn are special tokens, but not among the tokenizer's named ones.
    """
    base = copy.deepcopy(tokenizer)
    base.add_tokens([AddedToken("<|im_start|>", special=True), AddedToken("<|im_end|>",
                                                                          special=True)])
    base.chat_template = CHATML
    return base


def test_every_stop_token_is_found_once(base_tokenizer, tokenizer):
    eos = base_tokenizer.eos_token_id
    turn = base_tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert turn not in base_tokenizer.all_special_ids
    assert end_of_turn(base_tokenizer) == turn
    for declared, others in ((None, []), (7, [7]), ([eos, 9], [9])):
        config = GenerationConfig(eos_token_id=declared)
        assert find_stop_ids(base_tokenizer, config) == sorted([eos, turn, *others])

    # The tiny world's template ends a turn with the end-of-sequence token, the plain one too.
    assert find_stop_ids(tokenizer, GenerationConfig()) == [eos]
    base_tokenizer.chat_template = PLAIN_TEMPLATE
    assert end_of_turn(base_tokenizer) == eos
    base_tokenizer.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    assert end_of_turn(base_tokenizer) is None
    base_tokenizer.chat_template = "<|im_start|>{{ messages[0].content }}"
    assert end_of_turn(base_tokenizer) is None


def test_a_response_ends_with_any_stop_token(tokenizer):
    """With ';' declared as another: responses end there or with <eos>, and only there."""
    policy = chain(tokenizer, {"": {"<eos>": 0.05, ";": 0.05, "1": 0.9}})
    semicolon = tokenizer.convert_tokens_to_ids(";")
    policy.generation_config.eos_token_id = [tokenizer.eos_token_id, semicolon]
    engine = make_engine("transformers", policy, tokenizer)
    rollouts = engine.generate(prompts(tokenizer), 16, SamplingParams(16), 0)
    assert {r.response_ids[-1] for r in rollouts if r.finished} == {1, semicolon}
    for r in rollouts:
        assert not set(r.response_ids[:-1]) & set(engine.stop_ids)
        assert (r.response_ids[-1] in engine.stop_ids) == r.finished
        assert r.finished or len(r.response_ids) == 16


def test_a_base_model_gets_a_plain_template_or_the_users(world, tokenizer, tmp_path):
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    bare.save_pretrained(tmp_path / "bare")
    messages = [{"role": "user", "content": "2+3"}]
    plain = load_tokenizer(tmp_path / "bare")
    text = plain.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "User:\n2+3\n\nAssistant:\n"

    # What is used is saved with the model. A template of the user's goes before the model's own.
    plain.save_pretrained(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").chat_template == PLAIN_TEMPLATE
    (tmp_path / "mine.jinja").write_text(CHATML)
    for name in (tmp_path / "bare", world / "policy"):
        assert load_tokenizer(name, tmp_path / "mine.jinja").chat_template == CHATML
    with pytest.raises(ValueError, match="has no chat_template"):
        load_tokenizer(tmp_path / "bare", fallback=None)


def test_samples_follow_the_models_distribution(tokenizer):
    ids = prompts(tokenizer)[:1]
    policy = chain(tokenizer, {"": {"0": 0.5, "1": 0.3, "2": 0.15, "<eos>": 0.05}})
    rollouts = make_engine("auto", policy, tokenizer, max_rows=4000).generate(ids, 4000,
                                                                               SamplingParams(1), 7)
    with torch.no_grad():
        expected = policy(input_ids=torch.tensor(ids)).logits[0, -1].softmax(-1)
    first_tokens = torch.tensor([r.response_ids[0] for r in rollouts])
    counts = torch.bincount(first_tokens, minlength=len(expected))
    # the standard error of a share is at most sqrt(1/4 / 4000) = 0.008
    torch.testing.assert_close(counts / 4000, expected, atol=0.04, rtol=0)


def test_update_weights_takes_other_weights(world, policy, tokenizer):
    from transformers import AutoModelForCausalLM
    other = AutoModelForCausalLM.from_pretrained(world / "policy", dtype=torch.float32).eval()
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(1.1)
    engine = make_engine("transformers", policy, tokenizer)
    before = engine.generate(prompts(tokenizer), 2, SamplingParams(12), 0)
    engine.update_weights(other.state_dict().items())
    after = engine.generate(prompts(tokenizer), 2, SamplingParams(12), 0)
    theirs = make_engine("transformers", other, tokenizer).generate(prompts(tokenizer), 2,
                                                                    SamplingParams(12), 0)
    assert [r.logprobs for r in after] == [r.logprobs for r in theirs]
    assert [r.logprobs for r in after] != [r.logprobs for r in before]


def test_nucleus_golden():
    # 0.5 + 0.3 reaches 0.7: the third token goes, the others become 5/8 and 3/8
    kept = nucleus(torch.tensor([[0.3, 0.5, 0.2]]).log(), 0.7).exp()
    torch.testing.assert_close(kept, torch.tensor([[3 / 8, 5 / 8, 0.0]]))


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=9), st.floats(0.01, 1))
def test_nucleus_is_a_distribution_that_reaches_top_p(logits, top_p):
    logp = torch.tensor([logits], dtype=torch.float64).log_softmax(-1)
    kept = nucleus(logp, top_p)
    assert abs(kept.exp().sum().item() - 1) < 1e-9
    assert logp.exp()[kept.isfinite()].sum() >= top_p - 1e-9


def test_seeds_are_the_same_in_every_process_and_differ():
    assert derive_seed(0, "rollout", 1, 2) == 2911219518903743010
    seeds = {derive_seed(s, "rollout", t, p) for s in range(5) for t in range(5) for p in range(5)}
    assert len(seeds) == 125


def test_a_small_top_p_always_takes_the_likeliest_token(exact, tokenizer):
    rollouts = make_engine("transformers", exact, tokenizer).generate(
        prompts(tokenizer), 4, SamplingParams(8, top_p=0.01), 0)
    for r in rollouts:
        with torch.no_grad():
            logits = exact(input_ids=torch.tensor([r.prompt_ids + r.response_ids])).logits[0]
        assert logits[len(r.prompt_ids) - 1:-1].argmax(-1).tolist() == r.response_ids
        assert set(r.logprobs) == {0}                        # of the only token left
