"""The loss, the log-probabilities, the batches, the command line, and whole small runs."""

import json
import random
import re
import shutil

import pytest
import torch
from helpers import SMALL, hero_here, metrics_of, refuse, refused, script
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

import distributed
import hero
import run
from distributed import microbatches, split_minibatch, work_of
from hero import Config, k3, next_prompts, policy_loss, token_logprobs
from problems import load_problems
from rewards import Batch, compute_advantages
from rollout import (
    Rollout,
    load_generation_config,
    load_tokenizer,
    right_padded,
)

# ---------------------------------------------------------------------------- policy_loss


def loss_and_gradient(logp, old_logp, advantages, mask=None, **options):
    """policy_loss in float64. -> (loss, its gradient to logp, statistics)"""
    logp = torch.tensor(logp, dtype=torch.float64, requires_grad=True)
    old_logp = torch.tensor(old_logp, dtype=torch.float64)
    advantages = torch.tensor(advantages, dtype=torch.float64)
    mask = torch.ones_like(logp) if mask is None else torch.tensor(mask, dtype=torch.float64)
    loss, stats = policy_loss(logp, old_logp, advantages, mask, **options)
    loss.backward()
    return loss.item(), logp.grad.tolist(), stats


def test_policy_loss_on_two_tokens_by_hand():
    """Ratios 1.25 and 1.5 against a ceiling of 1.28, advantage 2, two tokens.

    loss = -(1.25 * 2 + 1.28 * 2) / 2 = -2.53. d ratio / d logp = ratio, so the first token's
    gradient is -2 * 1.25 / 2 = -1.25; the second is clipped: 0.
    """
    r1, r2 = torch.tensor(1.25).log().item(), torch.tensor(1.5).log().item()
    loss, gradient, stats = loss_and_gradient([[r1, r2]], [[0.0, 0.0]], [2.0], num_tokens=2)
    assert loss == pytest.approx(-2.53)
    assert gradient[0] == pytest.approx([-1.25, 0.0], abs=1e-6)
    assert (stats["clip_frac_high"], stats["clip_frac_low"]) == (1, 0)


def test_policy_loss_clips_below_for_negative_advantages():
    """Ratios 0.9 and 0.5 against a floor of 0.8, advantage -1.

    -min(r A, clip(r) A): 0.9 and, since -0.8 < -0.5, 0.8: loss (0.9 + 0.8) / 2 = 0.85; the first
    gradient is 0.9 / 2, the second 0.
    """
    r1, r2 = torch.tensor(0.9).log().item(), torch.tensor(0.5).log().item()
    loss, gradient, stats = loss_and_gradient([[r1, r2]], [[0.0, 0.0]], [-1.0], num_tokens=2)
    assert loss == pytest.approx(0.85)
    assert gradient[0] == pytest.approx([0.45, 0.0], abs=1e-6)
    assert (stats["clip_frac_high"], stats["clip_frac_low"]) == (0, 1)


def test_policy_loss_never_clips_the_way_back():
    """A high ratio with a negative advantage, a low one with a positive: the gradient stays."""
    high, low = torch.tensor(2.0).log().item(), torch.tensor(0.5).log().item()
    _, gradient, stats = loss_and_gradient([[high], [low]], [[0.0], [0.0]], [-1.0, 1.0],
                                           num_tokens=1)
    assert gradient[0] == pytest.approx([2.0]) and gradient[1] == pytest.approx([-0.5])
    assert (stats["clip_frac_high"], stats["clip_frac_low"]) == (0, 0)


def test_masked_tokens_count_nowhere():
    loss, gradient, _ = loss_and_gradient([[0.0, 9.0]], [[0.0, -9.0]], [1.0], [[1, 0]],
                                          num_tokens=1)
    assert loss == pytest.approx(-1.0) and gradient == [[pytest.approx(-1.0), 0.0]]


def test_importance_weights_scale_each_tokens_gradient():
    """Two tokens of ratio 1, advantage 3, weights 0.5 and 2: gradients -1.5 and -6 over 2."""
    loss, gradient, _ = loss_and_gradient([[0.0, 0.0]], [[0.0, 0.0]], [3.0], num_tokens=2,
                                          importance=torch.tensor([[0.5, 2.0]]).double())
    assert gradient[0] == pytest.approx([-0.75, -3.0]) and loss == pytest.approx(-3.75)


def test_kl_to_the_reference_by_hand():
    """Gap ln 2: k3 = 2 - 1 - ln 2; its gradient to logp is 1 - e^gap = -1; no advantage."""
    gap = torch.tensor(2.0).log()
    loss, gradient, stats = loss_and_gradient([[0.0]], [[0.0]], [0.0], num_tokens=1, kl_coef=0.5,
                                              ref_logp=gap.double().reshape(1, 1))
    assert loss == pytest.approx(0.5 * (1 - gap.item()))
    assert gradient[0][0] == pytest.approx(-0.5)
    assert stats["kl_ref"] == pytest.approx(1 - gap.item())


def test_small_divergences_keep_their_digits():
    """Of a gap x of 1e-4 the estimate is x^2 / 2 = 5e-9, which float32 loses in e^x - 1 - x."""
    estimate = k3(torch.tensor([1e-4, -1e-4])).tolist()
    assert estimate == pytest.approx([5e-9, 5e-9], rel=2e-2)


# ---------------------------------------------------------------------------- token_logprobs


def rows_and_mask(tokenizer, seed=0, rows=6):
    rng = random.Random(seed)
    prompts = [[rng.randrange(5, 40) for _ in range(rng.randrange(1, 9))] for _ in range(rows)]
    responses = [[rng.randrange(5, 40) for _ in range(rng.randrange(1, 12))]
                 + [tokenizer.eos_token_id] for _ in range(rows)]
    ids, real = right_padded([p + r for p, r in zip(prompts, responses, strict=True)])
    starts = torch.tensor([len(p) for p in prompts])[:, None]
    return ids, real, real * (torch.arange(ids.shape[1]) >= starts)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("max_logits", [2**26, 500])
def test_token_logprobs_equal_the_naive_form(exact, tokenizer, temperature, max_logits):
    ids, real, mask = rows_and_mask(tokenizer)
    logp, entropy = token_logprobs(exact, ids, mask, temperature, True, max_logits)
    logits = exact(input_ids=ids, attention_mask=real).logits[:, :-1] / temperature
    naive = logits.float().log_softmax(-1)
    chosen = naive.gather(-1, ids[:, 1:, None])[..., 0] * mask[:, 1:]
    torch.testing.assert_close(logp[:, 1:], chosen, atol=1e-5, rtol=0)
    spread = -(naive.exp() * naive).sum(-1) * mask[:, 1:]
    torch.testing.assert_close(entropy[:, 1:], spread, atol=1e-5, rtol=0)
    assert logp[:, 0].eq(0).all() and logp[mask == 0].eq(0).all()

    weights = torch.randn_like(logp)
    (logp * weights).sum().backward()
    gradient = gradient_of(exact)
    exact.zero_grad()
    (chosen * weights[:, 1:]).sum().backward()
    assert_same_gradient(gradient, gradient_of(exact))


def gradient_of(model):
    """The gradients of all parameters. -> (number of parameters,)"""
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def assert_same_gradient(one, other):
    """Of a model in float64, whose logits are rounded to float32, by 2^-24 of each: 6e-8."""
    assert (one - other).norm() <= 1e-5 * one.norm()


def test_padding_and_pad_equal_to_eos_change_nothing(exact, tokenizer):
    """Masks come from lengths: the sampled EOS is trained on even where EOS is what pads."""
    ids, real, mask = rows_and_mask(tokenizer)
    eos = tokenizer.eos_token_id
    last = real.sum(1) - 1
    assert (ids[torch.arange(len(ids)), last] == eos).all()
    assert mask[torch.arange(len(ids)), last].eq(1).all()
    with torch.no_grad():
        padded_with_eos = token_logprobs(exact, ids.masked_fill(real == 0, eos), mask)
        torch.testing.assert_close(padded_with_eos, token_logprobs(exact, ids, mask))
        for i, length in enumerate(real.sum(1).tolist()):
            alone = token_logprobs(exact, ids[i:i + 1, :length], mask[i:i + 1, :length])
            torch.testing.assert_close(padded_with_eos[i:i + 1, :length], alone, atol=1e-5, rtol=0)


def test_the_gradient_does_not_depend_on_the_microbatches(exact, tokenizer):
    ids, real, mask = rows_and_mask(tokenizer, rows=8)
    adv, lengths = torch.linspace(-1, 1, 8), real.sum(1).tolist()
    with torch.no_grad():
        old = token_logprobs(exact, ids, mask) + 0.1 * torch.randn(ids.shape) * mask
    gradients = []
    for budget in (10**6, 60, 1):
        exact.zero_grad()
        batches = microbatches(lengths, budget)
        for batch in batches:
            width = max(lengths[i] for i in batch)
            logp = token_logprobs(exact, ids[batch, :width], mask[batch, :width])
            policy_loss(logp, old[batch, :width], adv[batch], mask[batch, :width],
                        num_tokens=mask.sum())[0].backward()
        gradients.append(gradient_of(exact))
    assert_same_gradient(gradients[0], gradients[1])
    assert_same_gradient(gradients[0], gradients[2])


def test_microbatches_keep_the_budget_and_every_row():
    lengths = [5, 40, 7, 100, 8, 8, 30]
    batches = microbatches(lengths, 80)
    assert sorted(i for batch in batches for i in batch) == list(range(7))
    assert all(len(b) * max(lengths[i] for i in b) <= 80 or len(b) == 1 for b in batches)
    assert len(microbatches(lengths, 10**6)) == 1


@given(st.lists(st.integers(1, 100), min_size=1, max_size=12), st.sampled_from([1, 2, 4, 8]),
       st.integers(50, 1000))
def test_a_minibatch_is_shared_out_whole_and_in_equal_steps(lengths, world_size, budget):
    lengths = lengths * world_size                             # as many rows for each rank
    plan = split_minibatch(lengths, world_size, budget)
    assert len(plan) == world_size and len({len(groups) for groups in plan}) == 1
    groups = [group for rank in plan for group in rank]
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert all(len(g) == 1 or len(g) * max(lengths[i] for i in g) <= budget for g in groups)
    if world_size == 1:
        assert plan[0] == microbatches(lengths, budget)


def test_ranks_work_in_step():
    """Ten long rows and thirty short ones: whatever rank generated them, none waits for long."""
    lengths = [100] * 10 + [10] * 30
    for world_size in (1, 2, 4, 8):
        tokens, padded, elapsed = work_of(lengths, split_minibatch(lengths, world_size, 200))
        assert tokens == padded == 1300
        assert elapsed <= 1.25 * tokens


def test_work_is_counted_by_hand():
    """Two ranks, two micro-batches each. The first: rows of 3 and 5, padded to 10, beside one of 6:
    both ranks could have computed 10 + 10. The second: 4 beside 4."""
    assert work_of([3, 5, 6, 4, 4], [[[0, 1], [3]], [[2], [4]]]) == (22, 24, 28)


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_the_gradient_does_not_depend_on_how_rows_are_dealt(exact, tokenizer, world_size):
    """Each rank's micro-batches, divided by the mean tokens per rank, averaged over ranks."""
    ids, real, mask = rows_and_mask(tokenizer, rows=8)
    lengths = real.sum(1).tolist()
    advantages = torch.linspace(-1, 1, 8, dtype=torch.float64)

    def gradient(plan):
        exact.zero_grad()
        for groups in plan:
            for rows in groups:
                width = max(lengths[i] for i in rows)
                logp = token_logprobs(exact, ids[rows, :width], mask[rows, :width])
                loss, _ = policy_loss(logp, logp.detach(), advantages[rows], mask[rows, :width],
                                      num_tokens=mask.sum() / len(plan))
                (loss / len(plan)).backward()
        return gradient_of(exact)

    assert_same_gradient(gradient(split_minibatch(lengths, 1, 60)),
                         gradient(split_minibatch(lengths, world_size, 60)))


# ---------------------------------------------------------------------------- the data


def test_every_pass_over_the_data_is_whole_and_in_another_order():
    cfg = Config(prompts_per_step=4)
    problems = [{"problem": str(i)} for i in range(10)]
    drawn = [row["problem"] for step in range(1, 11) for row in next_prompts(cfg, problems, step)]
    epochs = [drawn[i:i + 10] for i in range(0, 40, 10)]
    assert all(sorted(epoch, key=int) == [str(i) for i in range(10)] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert [r["problem"] for r in next_prompts(cfg, problems, 3)] == drawn[8:12]


# ---------------------------------------------------------------------------- whole runs


def test_a_run_leaves_what_the_readme_promises(unbroken):
    folder, result = unbroken
    made = folder / "runs" / "a"
    rows = metrics_of(folder, "a")
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert {"eval/hard/pass@1", "eval/easy/low"} <= set(rows[0])
    assert "eval/hard/pass@1" in rows[4] and "eval/hard/pass@1" not in rows[3]
    assert rows[1]["rollout/logprob_gap"] < run.LARGEST_GAP
    samples = [json.loads(line) for line in (made / "rollouts.jsonl").read_text().splitlines()]
    assert len(samples) == 4 * 2 * 4                           # steps, groups, rollouts of each
    assert set(samples[0]) >= {"step", "problem", "reference", "response", "answer", "verified",
                               "reason", "rm_score", "r_hat", "weight", "reward", "advantage"}
    for i in range(0, len(samples), 4):
        assert abs(sum(row["advantage"] for row in samples[i:i + 4])) < 1e-4
    assert json.loads((made / "config.json").read_text())["steps"] == 4
    assert (made / "final" / "README.md").exists()
    assert (made / "curves.png").stat().st_size > 10_000
    kept = sorted(path.name for path in (made / "checkpoints").iterdir())
    assert kept == ["step_000003", "step_000004"]
    assert "pass@1" in result.stdout and "--reward verifier" in result.stdout


def test_training_changes_every_parameter_and_final_loads(unbroken):
    folder, _ = unbroken
    before = AutoModelForCausalLM.from_pretrained(folder / "runs/world-0/policy")
    after = AutoModelForCausalLM.from_pretrained(folder / "runs/a/final")
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        assert not torch.equal(old, new), f"{name} has not been trained"


@pytest.mark.slow
def test_eval_command_agrees_with_the_runs_own_evaluation(unbroken):
    folder, _ = unbroken
    result = script(folder, "eval.py", "--model", "runs/a/final", "--seeds", 2,
                    "--max_tokens", 24)
    assert result.returncode == 0, result.stderr
    report = json.loads((folder / "runs/a/final/eval.json").read_text())
    assert set(report["results"]) == {"easy", "hard"}
    assert report["results"]["hard"]["low"] <= report["results"]["hard"]["pass@1"]


def test_a_gpu_step_has_its_mfu_and_peak(policy, monkeypatch):
    """Two rows of 5 tokens, 2 of the response; 3 passes for the gradient and 3/4 for the old
    log-probabilities, in 2 seconds on 2 GPUs of 100 FLOP/s."""
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * 2**30)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Toy 100")
    monkeypatch.setitem(distributed.PEAK_FLOPS, "Toy", 100.0)
    monkeypatch.setattr(distributed, "forward_flops", lambda model, lengths: 8.0 * sum(lengths))
    ranks = distributed.Ranks(0, 2, torch.device("cuda"))
    models = run.Models(None, policy, None, None, None, None)
    rollouts = [Rollout([1, 2, 3], [4, 5], [0.0, 0.0], True)] * 2
    logged = run.performance(Config(), ranks, models, rollouts,
                              {"time/generate": 4.0, "time/update": 2.0})
    assert logged == {"perf/generate_tokens_per_second": 1.0, "perf/update_tokens_per_second": 5.0,
                      "perf/peak_memory_gib": 3.0, "perf/mfu": 3.75 * 80 / 2 / (100 * 2)}

    with_lora = run.performance(Config(lora_rank=4), ranks, models, rollouts,
                                 {"time/generate": 4.0, "time/update": 2.0})
    assert with_lora["perf/mfu"] == 2.75 * 80 / 2 / (100 * 2)


def test_gradients_are_freed_before_the_push_and_a_gap_is_a_warning(folder, monkeypatch, capsys):
    """The engine needs their memory. No gap is below the limit that is set here."""
    pushes = []

    def push_weights(models):
        pushes.append(all(p.grad is None for p in models.policy.parameters()))

    monkeypatch.setattr(run, "push_weights", push_weights)
    monkeypatch.setattr(run, "LARGEST_GAP", -1.0)
    hero_here(folder, "--name", "g", *SMALL, "--steps", 1)
    assert pushes == [True]
    out = capsys.readouterr().out
    assert out.count("warning: rollout/logprob_gap is 0.00 nats per token") == 1

    row = json.loads((folder / "runs/g/metrics.jsonl").read_text().splitlines()[1])
    assert row["rm/too_long"] == 0
    assert 0 < row["perf/useful"] <= 1 - row["perf/padding"]
    assert row["perf/generate_tokens_per_second"] > 0 and row["perf/update_tokens_per_second"] > 0


def step_with(gap=0.01, kl=0.001, entropy=0.3):
    return {"rollout/logprob_gap": gap, "policy/kl_old": kl, "policy/entropy": entropy,
            "policy/gradient_norm": 1.0}


@pytest.mark.parametrize("metrics, key, words", [
    (step_with(gap=0.2), "rollout/logprob_gap", "is 0.20 nats per token: the engine samples"),
    (step_with(kl=9.9e6), "policy/kl_old", "is 9.9e+06 nats per token: the steps are so large"),
    # Guessing among 79 tokens: ln 79 = 4.37.
    (step_with(entropy=4.3), "policy/entropy", "is 4.30 nats per token, and choosing tokens at "
                                               "random has 4.37: the policy writes noise"),
    (step_with(entropy=0.001), "policy/entropy", "is 0.001 nats per token: all responses")])
def test_training_that_has_left_sense_is_seen(metrics, key, words):
    (found, sentence), = run.signs_of_trouble(metrics, 79).items()
    assert found == key and sentence.startswith(words)


def test_sane_training_has_no_signs_of_trouble():
    assert run.signs_of_trouble(step_with(), 79) == {}
    assert run.signs_of_trouble(step_with(entropy=2.5), 150_000) == {}
    assert run.signs_of_trouble({"policy/gradient_norm": None}, 79) == {}      # no update


def test_training_to_noise_warns_once_of_each(tmp_path, capsys):
    log = run.Log(Config(), distributed.Ranks(0, 1, torch.device("cpu")), tmp_path)
    for metrics in (step_with(kl=9.0), step_with(kl=8.0, entropy=4.3), step_with(entropy=4.3)):
        log.show({"step": 1} | metrics, 79)
    lines = capsys.readouterr().out.splitlines()
    warnings = [line for line in lines if line.startswith("warning:")]
    assert [line.split()[:2] for line in warnings] == [["warning:", "policy/kl_old"],
                                                       ["warning:", "policy/entropy"]]
    assert all("lower --learning_rate" in line for line in warnings)


def test_without_an_accepted_response_alpha_is_a_factor_that_adam_does_not_see():
    """Then the band bounds nothing: gradients four times as large, and the same policy after.

    The policy is one weight per response. Adam's eps of 1e-8 is a millionth of the gradients.
    """
    group = Batch(torch.tensor([[4.0, 1.0, 2.0, -1.0]]).double(), torch.zeros(1, 4).double())
    gradients, policies = [], []
    for alpha in (0.05, 0.2):
        policy = torch.nn.Linear(1, 4, bias=False).double()
        torch.nn.init.zeros_(policy.weight)
        logp = policy(torch.ones(1).double())[:, None]                                     # (4, 1)
        advantages = compute_advantages(group, 1.0, alpha=alpha).advantages[0]
        loss, _ = policy_loss(logp, logp.detach(), advantages, torch.ones(4, 1), num_tokens=4)
        loss.backward()
        run.make_optimizer(Config(), policy).step()
        gradients.append(policy.weight.grad)
        policies.append(policy.weight.detach())
    torch.testing.assert_close(gradients[1], 4 * gradients[0])
    torch.testing.assert_close(policies[1], policies[0], rtol=1e-4, atol=0)
    assert policies[0].abs().min() > 0


def test_a_base_model_runs_and_final_has_template_and_stop_tokens(folder, tokenizer):
    """A policy without a chat template and with two stop tokens, trained with a user's template."""
    template = tokenizer.chat_template
    (folder / "mine.jinja").write_text(template)
    base = shutil.copytree(folder / "runs/world-0/policy", folder / "base")
    (base / "chat_template.jinja").unlink()
    semicolon = tokenizer.convert_tokens_to_ids(";")
    generation = json.loads((base / "generation_config.json").read_text())
    generation["eos_token_id"] = [1, semicolon]
    (base / "generation_config.json").write_text(json.dumps(generation))

    hero_here(folder, "--name", "b", *SMALL, "--steps", 1, "--policy", "base", "--chat_template",
              "mine.jinja")
    final = folder / "runs/b/final"
    assert load_tokenizer(final, fallback=None).chat_template == template
    assert load_generation_config(final).eos_token_id == [1, semicolon]


@pytest.mark.parametrize("options", [
    ["--reward", "naive", "--advantage_norm", "std", "--kl_coef", 0.1, "--regime", "mixed"],
    ["--weight_on", "reward", "--beta", 0, "--max_tokens_per_microbatch", 64,
     "--regime", "easy"],
    ["--reward", "oracle"]])
def test_other_settings_run(folder, options):
    hero_here(folder, "--name", "c", *SMALL, "--steps", 2, *options)
    rows = metrics_of(folder, "c")
    assert ("policy/kl_ref" in rows[-1]) == ("--kl_coef" in options)


@pytest.mark.parametrize("told, chosen", [("", [1]), ("2", [])])
def test_a_process_computes_in_one_thread_unless_told_otherwise(monkeypatch, told, chosen):
    """Sums in two threads round otherwise, and make another world. torch itself obeys the variable,
    unless it is empty."""
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    distributed.init()
    assert threads == chosen


# ---------------------------------------------------------------------------- what users get wrong


def test_an_unknown_flag_is_named(folder):
    refused(folder, "--lerning_rate", 1, says="--lerning_rate")


def test_what_runs_without_a_flag(monkeypatch):
    """The laptop world on every machine; under torchrun on GPUs the paper's run."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert hero.parse_args([]) == Config()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("MASTER_ADDR", "here")
    assert hero.parse_args([]).policy == "Qwen/Qwen3-4B-Base"
    assert hero.parse_args(["--config", ""]) == Config()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert hero.parse_args([]) == Config()


def test_a_gpu_that_torch_cannot_use_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(distributed, "GPU_FILE", tmp_path / "nvidia0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    distributed.check_driver()                                 # there is no GPU
    (tmp_path / "nvidia0").touch()
    with pytest.raises(OSError, match="the NVIDIA driver") as caught:
        distributed.check_driver()
    assert "\n" not in str(caught.value)
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        distributed.check_driver()


def test_a_bad_type_names_the_field(folder):
    refused(folder, "--steps", "many", says="--steps: invalid int value: 'many'")


def test_a_bad_choice_lists_the_good_ones(folder):
    refused(folder, "--reward", "dense", says="choose one of hero, verifier, rm, naive")


def test_batches_that_do_not_divide_say_the_way_out(folder):
    refused(folder, "--prompts_per_step", 6, says="choose --prompts_per_step a multiple of 4")


def test_batches_that_do_not_divide_over_ranks():
    with pytest.raises(ValueError, match=re.escape("num_minibatches * ranks = 4 * 2; choose "
                                                   "--prompts_per_step a multiple of 8")):
        hero.validate(Config(prompts_per_step=4, num_minibatches=4), world_size=2)


def test_a_missing_model_directory_is_named(folder):
    refused(folder, "--policy", "no/such/model", says="cannot load 'no/such/model'")


def test_a_reward_model_without_a_score_head(folder):
    refused(folder, "--reward_model", "runs/world-0/policy", says="no trained one-label score head")


def test_data_without_an_answer_names_the_line(folder):
    (folder / "data.jsonl").write_text('{"problem": "1+1", "answer": "2"}\n{"problem": "1+2"}\n')
    refuse(folder, "--data", "data.jsonl", says="data.jsonl line 2 has no 'answer'")


def test_data_that_is_empty_missing_or_torn(folder):
    (folder / "data.jsonl").write_text("\n")
    refused(folder, "--data", "data.jsonl", says="holds no problems")
    refused(folder, "--data", "none.jsonl", says="none.jsonl does not exist")
    (folder / "data.jsonl").write_text('{"problem": "1+1", "answer": "2"}\n{"problem": "1+')
    refused(folder, "--data", "data.jsonl", says="line 2 is not JSON")


def test_a_name_that_is_taken_is_not_overwritten(folder):
    (folder / "runs" / "mine").mkdir()
    refused(folder, "--name", "mine", says="runs/mine already exists")


def test_resume_needs_a_run_and_its_own_settings(folder):
    refused(folder, "--resume", says="--resume needs --name")
    refused(folder, "--resume", "--name", "never", says="runs/never/config.json does not exist")
    (folder / "runs" / "mine").mkdir()
    (folder / "runs/mine/config.json").write_text(json.dumps(vars(Config(name="mine"))))
    refused(folder, "--resume", "--name", "mine", "--alpha", 0.2,
            says="--alpha 0.2 differs from the run's own 0.05")
    refused(folder, "--resume", "--name", "../runs/mine", says="--name ../runs/mine: has to be the "
            "name of a folder under runs/, not a path")


def test_a_run_of_old_setting_names_is_refused(folder):
    (folder / "runs" / "old").mkdir()
    (folder / "runs/old/config.json").write_text(json.dumps({"name": "old", "is_cap": 2.0}))
    refused(folder, "--resume", "--name", "old",
            says="runs/old/config.json is of another version, or not of a run: it holds is_cap, "
            "which is no setting here")


@pytest.mark.parametrize("name", ["../outside", "a/b", "/tmp/outside", "..", "."])
def test_a_name_that_is_a_path_is_refused(folder, name):
    refused(folder, "--name", name, says=f"--name {name}: has to be the name of a folder under "
            "runs/, not a path")


def test_bands_that_overlap_are_refused(folder):
    refused(folder, "--alpha", 0.6, "--beta", 0.6, says="their sum has to be below 1")


def test_the_oracle_needs_accepted_phrasings(folder):
    (folder / "data.jsonl").write_text('{"problem": "1+1", "answer": "2"}\n')
    refused(folder, "--data", "data.jsonl", "--reward", "oracle", says="--reward oracle needs "
            "problems that list every right phrasing")


def test_prompts_that_are_all_too_long(folder):
    refused(folder, "--max_prompt_tokens", 3, says="longer than max_prompt_tokens=3")


def test_load_problems_reads_what_tiny_writes(world):
    rows = load_problems(world / "train" / "mixed.jsonl")
    assert {"problem", "answer", "accepted"} <= set(rows[0])
