"""results/gpu.py: its shapes, plans and tables, and all of it at toy size on a CPU."""

import json
import re
import subprocess

import pytest
import torch
from helpers import ROOT, script

import hero
from results import gpu

# ---------------------------------------------------------------------------- shapes and plans


@pytest.mark.parametrize("name", list(gpu.SHAPES))
def test_the_shapes_are_those_of_the_names(name):
    """6B in a name means about that many parameters, the embedding included."""
    with torch.device("meta"):
        model = gpu.AutoModelForCausalLM.from_config(gpu.shape_of(name, toy=False))
    billions = float(re.search(r"([\d.]+)B", name)[1])
    assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(billions, rel=0.1)


def test_every_preset_has_its_models():
    for name, settings in hero.PRESETS.items():
        if name != "tiny":
            assert settings["policy"] in gpu.SHAPES
            assert settings["reward_model"] in [*gpu.SHAPES, "reward_model"]


def test_what_is_planned_for_an_update(tmp_path):
    """The items that are in memory without reward model and engine, and all of them."""
    for lora_rank in (0, 32):
        cfg = hero.Config(**hero.PRESETS["qwen3-0.6b"] | {"lora_rank": lora_rank})
        gpu.shape_of(cfg.policy, toy=False).save_pretrained(tmp_path)
        cfg.policy = cfg.reward_model = str(tmp_path)
        plan = hero.plan_memory(cfg, 1, 10_000)
        named = dict((name, float(gib)) for gib, name in re.findall(r"([\d.]+) GiB  (.+)", plan))
        expected = sum(gib for name, gib in named.items()
                       if not name.startswith(("reward model", "vLLM", "CUDA", "at the peak")))
        assert gpu.planned_gib(cfg, gpu.OF_AN_UPDATE) == pytest.approx(expected)


def results_with(mfu, peak, ours, share):
    """Results as measure_all gives them, with these numbers."""
    update = {"model": "qwen3-4b", "trained": "all weights", "tokens per row": 4096, "MFU": mfu,
              "peak, GiB": peak, "planned, GiB": 66.0}
    forms = [{"form": "naive", "milliseconds": 100.0, "peak above the model, GiB": 14.0},
             {"form": "token_logprobs", "milliseconds": 101.0, "peak above the model, GiB": ours}]
    return {"update-4b": {"seconds": 1.0, "rows": [update]},
            "logprobs": {"seconds": 1.0, "rows": forms},
            "step-0.6b": {"seconds": 1.0, "rows": [
                {"phase": "generate", "share": share}, {"phase": "update", "share": 1 - share}]},
            "rollouts-vllm": {"seconds": 1.0, "error": "ValueError: no"}}


def test_goals_are_judged():
    goals = gpu.judge_goals(results_with(0.5, 65.0, 0.8, 0.4))
    assert [goal["met"] for goal in goals] == ["yes"] * 5
    goals = gpu.judge_goals(results_with(0.3, 80.0, 2.0, 0.6))
    assert [goal["met"] for goal in goals] == ["no", "no", "yes", "no", "no"]
    goals = gpu.judge_goals({"update-4b": {"seconds": 1.0, "error": "OutOfMemoryError: no"}})
    assert [goal["met"] for goal in goals] == ["not measured"] * 5


def test_the_page_has_tables_and_what_failed():
    text = gpu.page(results_with(0.5, 65.0, 0.8, 0.4), "Measured nowhere.")
    assert "| qwen3-4b | all weights | 4096 | 0.5 | 65 | 66 |" in text
    assert "- `rollouts-vllm`: ValueError: no" in text


# ---------------------------------------------------------------------------- processes


def test_a_measurement_that_takes_too_long_is_ended(tmp_path):
    result = gpu.measure("logprobs", tmp_path, 0.2)
    assert result["error"] == "stopped after 0 seconds"


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
    result = script(tmp_path, "results/gpu.py", "--out", tmp_path, "--names", *names)
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
    assert set(re.findall(r"^## (.+)$", text, re.M)) == titles | {"Goals"}
    for row in results.get("rollouts-transformers", {}).get("rows", []):
        assert row["gap, nats"] < 0.01 and row["gap after the push"] < 0.01
        assert row["gap of stale weights"] > 0.01


@pytest.mark.release
def test_the_plans_on_the_page_are_those_of_the_presets(tmp_path):
    gpu.write_plans(tmp_path)
    assert (tmp_path / "plans.md").read_text() == (ROOT / "results" / "plans.md").read_text()


@pytest.mark.release
def test_the_page_shows_these_plans():
    page = (ROOT / "docs" / "gpu.md").read_text()
    plans = re.findall(r"```\n(.*?)```", (ROOT / "results" / "plans.md").read_text(), re.S)
    assert len(plans) == 3 and all(plan in page for plan in plans)


@pytest.mark.release
def test_the_slurm_file_is_bash():
    page = (ROOT / "docs" / "gpu.md").read_text()
    code = re.search(r"```bash\n(#!/bin/bash.*?)```", page, re.S)[1]
    subprocess.run(["bash", "-n"], input=code, text=True, check=True)
