"""results/speed/: shapes, plans and tables of gpu.py, all of it at toy size; parts of speed.py."""

import json
import re
import subprocess

import pytest
import torch
from helpers import ROOT, script

import run
from results.speed import gpu, speed

# ---------------------------------------------------------------------------- shapes and plans


@pytest.mark.parametrize("name", list(gpu.SHAPES))
def test_the_shapes_are_those_of_the_names(name):
    """6B in a name means about that many parameters, the embedding included."""
    with torch.device("meta"):
        model = gpu.AutoModelForCausalLM.from_config(gpu.shape_of(name, toy=False))
    billions = float(re.search(r"([\d.]+)B", name)[1])
    assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(billions, rel=0.1)


def test_every_config_has_its_models():
    for path in (ROOT / "configs").glob("*.toml"):
        cfg = gpu.config_of(path.stem, lambda name, _: name)
        assert {cfg.policy, cfg.reward_model} <= set(gpu.SHAPES)


@pytest.mark.parametrize("lora_rank", [0, 32])
def test_what_is_planned_for_an_update(tmp_path, lora_rank):
    """The items that are in memory without reward model and engine, and all of them."""
    gpu.shape_of("Qwen/Qwen3-0.6B-Base", toy=False).save_pretrained(tmp_path)
    cfg = gpu.config_of("qwen3-0.6b", lambda *_: str(tmp_path), lora_rank=lora_rank)
    plan = run.plan_memory(cfg, 1, 10_000, with_reference=False)
    named = {name: float(gib) for gib, name in re.findall(r"([\d.]+) GiB  (.+)", plan)}
    expected = sum(gib for name, gib in named.items()
                   if not name.startswith(("reward model", "vLLM", "CUDA", "at the peak")))
    assert gpu.planned_gib(cfg, gpu.OF_AN_UPDATE) == pytest.approx(expected)


# ---------------------------------------------------------------------------- tables and pages


def test_the_page_has_tables_and_what_failed():
    row = {"model": "qwen3-4b", "trained": "all weights", "tokens per row": 4096, "MFU": 0.5,
           "tokens/s": 12345.6, "peak, GiB": None, "planned, GiB": 66.0}
    text = gpu.page({"update-4b": {"seconds": 1.0, "rows": [row]},
                     "rollouts-vllm": {"seconds": 1.0, "error": "ValueError: no"}}, "On no GPU.")
    assert "| qwen3-4b | all weights | 4096 | 0.5 | 12,346 | - | 66 |" in text
    assert "- `rollouts-vllm`: ValueError: no" in text


def test_the_phases_of_a_run(tmp_path, monkeypatch):
    """Two steps, of which one evaluates; the row before training has no seconds."""
    folder = tmp_path / "runs" / "a"
    steps = [{"step": 0}] + [{"step": step} | {f"time/{phase}": step for phase in speed.PHASES}
                             for step in (1, 2)]
    del steps[1]["time/evaluate"]
    contents = {"a/metrics.jsonl": "\n".join(map(json.dumps, steps)),
                "a/config.json": json.dumps({
                    "world_seed": 7, "prompts_per_step": 4, "rollouts_per_prompt": 2,
                    "made_with": {"command": "hero.py --steps 2"}}),
                "world-7/world.json": json.dumps({"seconds": {"cold_start": 68.75}})}
    for name, text in contents.items():
        (tmp_path / "runs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs" / name).write_text(text)

    monkeypatch.setattr(speed, "HERE", tmp_path)
    speed.phases(folder)
    page = (tmp_path / "phases.md").read_text()
    for row in ("| cold start, once for the world | 68.8 | - |", "| reward model | 3.0 | 1500 |",
                "| evaluate (1 times) | 2.0 | 2000 |", "`python hero.py --steps 2`: 2 steps of 4 "):
        assert row in page


def test_our_steps_beside_those_of_trl(folder, monkeypatch):
    """One step on each reward: every response has its length."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(speed, "P", 2)
    for whole in (False, True):
        lengths = speed.our_trainer(whole, num_minibatches=2)(1)
        assert len(lengths) == 2 * speed.G and 0 < min(lengths) <= max(lengths) <= speed.MAX_TOKENS


# ---------------------------------------------------------------------------- processes


def test_a_measurement_that_takes_too_long_is_ended(tmp_path):
    assert gpu.measure("logprobs", tmp_path, 0.2)["error"] == "stopped after 0 seconds"


@pytest.mark.slow
def test_a_measurement_that_fails_says_why_in_one_line(tmp_path):
    (tmp_path / "AutoModelForCausalLM/Qwen/Qwen3-0.6B-Base").mkdir(parents=True)
    (tmp_path / "AutoModelForSequenceClassification/Qwen/Qwen3-0.6B-Base").mkdir(parents=True)
    result = gpu.measure("update-0.6b", tmp_path, 100)
    assert result["error"].startswith("ValueError: cannot load") and "\n" not in result["error"]


@pytest.mark.slow
@pytest.mark.parametrize("names", [
    ["update-0.6b", "logprobs-naive", "logprobs", "logprobs-trl", "logprobs-liger", "reward-model"],
    ["step-4b-lora", "rollouts-vllm", "rollouts-transformers"], ["tiny"]])
def test_all_of_it_at_toy_size(tmp_path, names):
    """Each kind of measurement once; what needs a package that is missing says so."""
    result = script(tmp_path, "results/speed/gpu.py", "--out", tmp_path, "--names", *names)
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "gpu.json").read_text())["results"]
    assert list(results) == names
    for name in names:
        needs = gpu.MEASUREMENTS[name].needs
        if needs and not gpu.installed(needs):
            assert results[name]["error"] == f"not run: {needs} is not installed"
        else:
            assert results[name].get("rows"), (name, results[name])

    text = (tmp_path / "gpu.md").read_text()
    titles = {gpu.MEASUREMENTS[name].title for name in names}
    assert "a CPU at toy size" in text
    assert set(re.findall(r"^## (.+)$", text, re.M)) == titles
    if "logprobs" in names:
        ours, naive = [[row["mean log-probability"] for row in results[name]["rows"]]
                       for name in ("logprobs", "logprobs-naive")]
        assert ours == pytest.approx(naive, rel=0.01)
    for row in results.get("rollouts-transformers", {}).get("rows", []):
        assert row["gap, nats"] < 0.01 and row["gap after the push"] < 0.01
        assert row["gap of stale weights"] > 0.01


@pytest.mark.release
def test_the_plans_on_the_page_are_those_of_the_configs(tmp_path):
    gpu.write_plans(tmp_path)
    assert (tmp_path / "plans.md").read_text() == (ROOT / "results/speed/plans.md").read_text()


@pytest.mark.release
def test_the_slurm_file_is_bash():
    page = (ROOT / "docs" / "gpu.md").read_text()
    code = re.search(r"```bash\n(#!/bin/bash.*?)```", page, re.S)[1]
    subprocess.run(["bash", "-n"], input=code, text=True, check=True)
