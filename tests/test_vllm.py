"""The vLLM engine, real: log-probabilities against the trainer's, pushes, the cache, whole runs."""

import importlib.util
import json

import pytest
import torch
from helpers import SMALL, chain, close, metrics_of, prompts, script
from transformers import AutoModelForCausalLM

import distributed
from distributed import derive_seed
from hero import token_logprobs
from rollout import (
    SamplingParams,
    chat_prompt,
    make_engine,
    nucleus,
    resolve_engine,
    right_padded,
    seeds_of,
)

vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is None,
                          reason="vLLM is not installed: .ci/run has the lines for a CPU")


def gap(model, rollouts, temperature=1.0):
    """Largest difference between the engine's log-probabilities and the trainer's own."""
    ids, real = right_padded([r.prompt_ids + r.response_ids for r in rollouts])
    starts = torch.tensor([len(r.prompt_ids) for r in rollouts])[:, None]
    mask = real * (torch.arange(ids.shape[1]) >= starts)
    with torch.no_grad():
        logp = token_logprobs(model, ids, mask, temperature)
    engine_logp = torch.tensor([value for r in rollouts for value in r.logprobs])
    return (logp[mask.bool()] - engine_logp).abs().max().item()


def long_prompts(tokenizer):
    """Three prompts whose first 161 tokens are the same: more than a block of the cache, 128."""
    ids = [chat_prompt(tokenizer, "2+3*4-5;" * 20 + end) for end in ("1+2", "3*4", "5-6")]
    assert all(len(p) > 161 and p[:161] == ids[0][:161] for p in ids)
    return ids


def train(model, ids):
    """An optimizer step that changes every weight, and by more than a rounding error."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    model(input_ids=torch.tensor(ids[:1]), labels=torch.tensor(ids[:1])).loss.backward()
    optimizer.step()


@pytest.fixture(scope="module", params=["tied", "untied"])
def started(request, world, tokenizer, tmp_path_factory):
    """(engine, the trainer's model, the global random states before and after the start)"""
    model = AutoModelForCausalLM.from_pretrained(world / "policy", dtype=torch.float32)
    if request.param == "untied":
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(1.1 * model.lm_head.weight.detach())
    folder = tmp_path_factory.mktemp(request.param)
    for part in (model, tokenizer):
        part.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    before = distributed.random_state()
    engine = make_engine("vllm", model, tokenizer)
    yield engine, model, before, distributed.random_state()
    engine.close()


@pytest.fixture
def engine(started):
    """The engine, with the weights that are in the model's files."""
    engine, model = started[:2]
    engine.update_weights(model.state_dict().items())
    return engine


@pytest.fixture
def model(started):
    """The trainer's model; what a test does to it is undone."""
    model = started[1]
    saved = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    yield model
    model.load_state_dict(saved)


@pytest.mark.slow
@vllm
def test_starting_leaves_the_global_random_state_alone(started):
    before, after = started[2:]
    assert before["python"] == after["python"] and torch.equal(before["torch"], after["torch"])
    assert before["numpy"] == after["numpy"]


@pytest.mark.slow
@vllm
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_the_trainers_before_and_after_pushes(engine, model, tokenizer, temperature):
    """Also where prompts share cached blocks, and with a tied head's weight given once or twice."""
    ids, sampling = prompts(tokenizer) + long_prompts(tokenizer), SamplingParams(20, temperature)
    for named in (None, model.state_dict, model.named_parameters, model.state_dict):
        if named:
            old = engine.generate(ids, 4, sampling, 0)
            train(model, ids)
            assert gap(model, old, temperature) > 0.1          # so the push has to show
            pairs = named()
            engine.update_weights(pairs.items() if isinstance(pairs, dict) else pairs)
        rollouts = engine.generate(ids, 4, sampling, 1)
        assert gap(model, rollouts[:16], temperature) < 1e-4
        assert gap(model, rollouts[16:], temperature) < 1e-4
        again = engine.generate(ids, 4, sampling, 1)           # now from the cache of prompts
        assert gap(model, again[16:], temperature) < 1e-4


@pytest.mark.slow
@vllm
def test_without_the_reset_old_weights_would_answer(engine, model, tokenizer, monkeypatch):
    """That the cache is at work in these tests, and that the reset is what keeps them right."""
    ids = long_prompts(tokenizer)
    engine.generate(ids, 2, SamplingParams(8), 0)
    train(model, ids)
    with monkeypatch.context() as without:
        without.setattr(engine.llm, "reset_prefix_cache", lambda: True)
        engine.update_weights(model.state_dict().items())
    assert gap(model, engine.generate(ids, 2, SamplingParams(8), 0)) > 1e-2
    engine.update_weights(model.state_dict().items())
    assert gap(model, engine.generate(ids, 2, SamplingParams(8), 0)) < 1e-4


@pytest.mark.slow
@vllm
def test_a_refused_reset_is_an_error(engine, model, tokenizer):
    inner = engine.llm.llm_engine
    inner.add_request("unfinished", {"prompt_token_ids": long_prompts(tokenizer)[0]},
                      engine.vllm_params(max_tokens=50, ignore_eos=True, detokenize=False))
    inner.step()
    with pytest.raises(RuntimeError, match="refused to reset its prefix cache"):
        engine.update_weights(model.state_dict().items())
    inner.abort_request(["unfinished"])
    while inner.has_unfinished_requests():
        inner.step()
    engine.update_weights(model.state_dict().items())


@pytest.mark.slow
@vllm
def test_a_response_depends_on_its_seed_alone(engine, tokenizer):
    """Response j of a prompt has seed + j, whatever else is in the batch."""
    ids, seeds, sampling = prompts(tokenizer), [100, 200, 300, 2**61], SamplingParams(20)
    whole = engine.generate(ids, 3, sampling, seeds)
    assert [r.prompt_ids for r in whole] == [p for p in ids for _ in range(3)]
    assert [r.response_ids for r in engine.generate(ids[2:], 3, sampling, seeds[2:])] == \
        [r.response_ids for r in whole[6:]]
    assert [r.response_ids for r in engine.generate(ids, 1, sampling, [s + 2 for s in seeds])] == \
        [r.response_ids for r in whole[2::3]]
    assert engine.generate([], 3, sampling, []) == []
    # one int: the same prompt seeds as the other engine's
    assert [r.response_ids for r in engine.generate(ids, 2, sampling, 5)] == \
        [r.response_ids for r in engine.generate(ids, 2, sampling, seeds_of(5, len(ids)))]


@pytest.mark.slow
@vllm
@pytest.mark.parametrize("started", ["untied"], indirect=True)
def test_finished_responses_end_with_eos_and_cut_ones_do_not(engine, tokenizer):
    """Of 64 responses a share of (15/16)^16 = 0.36 is cut: none or all are not, once in 10^12. And
    two seeds of the fair coin take the same 16 throws once in 65,000."""
    coin = chain(tokenizer, {"": {"<eos>": 1 / 16, "0": 15 / 32, "1": 15 / 32}})
    engine.update_weights(coin.state_dict().items())
    rollouts = engine.generate(prompts(tokenizer), 16, SamplingParams(16), 0)
    assert {r.finished for r in rollouts} == {True, False}
    assert len({tuple(r.response_ids) for r in rollouts if not r.finished}) > 1
    for r in rollouts:
        assert len(r.response_ids) == len(r.logprobs) <= 16
        assert tokenizer.eos_token_id not in r.response_ids[:-1]
        assert (r.response_ids[-1] == tokenizer.eos_token_id) == r.finished
        assert r.finished or len(r.response_ids) == 16


@pytest.mark.slow
@vllm
@pytest.mark.parametrize("started", ["untied"], indirect=True)
def test_a_response_ends_with_any_stop_token(engine, tokenizer, monkeypatch):
    policy = chain(tokenizer, {"": {"<eos>": 0.05, ";": 0.05, "1": 0.9}})
    engine.update_weights(policy.state_dict().items())
    semicolon = tokenizer.convert_tokens_to_ids(";")
    monkeypatch.setattr(engine, "stop_ids", [tokenizer.eos_token_id, semicolon])
    rollouts = engine.generate(prompts(tokenizer), 16, SamplingParams(16), 0)
    assert {r.response_ids[-1] for r in rollouts if r.finished} == {1, semicolon}
    for r in rollouts:
        assert not set(r.response_ids[:-1]) & set(engine.stop_ids)
        assert (r.response_ids[-1] in engine.stop_ids) == r.finished


@pytest.mark.slow
@vllm
def test_top_p_logprobs_are_those_of_the_distribution_sampled_from(engine, model, tokenizer):
    rollouts = engine.generate(prompts(tokenizer), 8, SamplingParams(12, 0.6, top_p=0.8), 0)
    for r in rollouts:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([r.prompt_ids + r.response_ids])).logits[0]
        logp = nucleus(torch.log_softmax(logits[len(r.prompt_ids) - 1:-1] / 0.6, -1), 0.8)
        expected = logp.gather(1, torch.tensor(r.response_ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(r.logprobs), expected, atol=1e-4, rtol=0)


@pytest.mark.slow
@vllm
def test_the_order_of_sleeping_pushing_and_waking(engine, model, tokenizer, monkeypatch):
    """As a GPU would see it, where only the weights may be awake while they are gathered; a CPU has
    no sleep, so these two calls are recorded instead of made."""
    calls = []
    monkeypatch.setattr(engine, "can_sleep", True)
    monkeypatch.setattr(engine.llm, "sleep", lambda level: calls.append(f"sleep {level}"))
    monkeypatch.setattr(engine.llm, "wake_up", lambda tags: calls.append(f"wake {sorted(tags)}"))
    pairs = model.state_dict().items()
    engine.sleep()
    engine.sleep()
    engine.update_weights((calls.append("push") if i == 0 else None) or pair
                          for i, pair in enumerate(pairs))
    assert gap(model, engine.generate(prompts(tokenizer), 1, SamplingParams(8), 0)) < 1e-4
    assert calls == ["sleep 1", "wake ['weights']", "push", "wake ['kv_cache']"]
    engine.sleep()
    engine.generate(prompts(tokenizer), 1, SamplingParams(8), 0)
    assert calls[4:] == ["sleep 1", "wake ['kv_cache', 'weights']"]


@pytest.mark.slow
@vllm
def test_what_does_not_fit_is_refused_and_not_cut(engine, tokenizer):
    with pytest.raises(ValueError, match="a prompt of 200 tokens and a response of 100 do not fit"):
        engine.generate([[5] * 200], 1, SamplingParams(100), 0)


@pytest.mark.slow
@vllm
def test_whole_runs_on_one_and_two_ranks_a_resume_and_eval(folder):
    """The same run on one and on two ranks; resumed with the checkpoint's weights; quiet."""
    def run(*arguments, ranks=0):
        result = script(folder, *arguments, ranks=ranks)
        assert result.returncode == 0, result.stderr
        noise = [line for line in result.stderr.splitlines()
                 if line.strip() and not line.lstrip().startswith(("training:", "evaluation:"))]
        assert not noise, noise

    for name, ranks in (("one", 0), ("two", 2)):
        run("hero.py", "--name", name, *SMALL, "--steps", 2, "--engine", "vllm", ranks=ranks)
    run("hero.py", "--name", "two", "--resume", "--steps", 3)
    one, two = metrics_of(folder, "one"), metrics_of(folder, "two")
    assert (len(one), len(two)) == (3, 4)
    assert all(row["rollout/logprob_gap"] < 1e-5 for row in one[1:] + two[1:])
    assert not [(row["step"], key) for row, other in zip(one, two, strict=False)
                for key in row if not close(row[key], other[key])]

    files = [folder / f"runs/world-0/eval/{name}.jsonl" for name in ("easy", "hard")]
    final = folder / "runs" / "two" / "final"
    run("eval.py", "--engine", "vllm", "--model", final, "--seeds", 1, "--max_tokens", 24,
        "--seed", derive_seed(0, "eval"), "--benchmarks", *files)
    results = json.loads((final / "eval.json").read_text())["results"]
    assert results.keys() == {"easy", "hard"}
    assert all(close(value, two[-1][f"eval/{name}/{key}"])
               for name, result in results.items() for key, value in result.items())


def test_auto_is_vllm_where_a_gpu_is(monkeypatch):
    for gpu, installed, kind in ((False, True, "transformers"), (True, True, "vllm")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        monkeypatch.setattr(importlib.util, "find_spec", lambda _, here=installed: here or None)
        assert resolve_engine("auto") == kind


def test_auto_without_vllm_on_a_gpu_stops(monkeypatch):
    """The transformers engine, far slower there, is taken only where it is asked for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="pip install -r requirements-gpu.txt"):
        resolve_engine("auto")
    assert resolve_engine("transformers") == "transformers"


def test_vllm_where_it_is_not_installed_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="pip install -r requirements-gpu.txt"):
        resolve_engine("vllm")
    with pytest.raises(ValueError, match="choose auto, vllm or transformers"):
        resolve_engine("sglang")
