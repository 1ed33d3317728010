"""Fixtures: a miniature of the tiny world, built once per session, and an undisturbed run."""

import os

# The tests are the same on a machine with GPUs, and on one that reaches the hub.
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["HF_HUB_OFFLINE"] = "1"

import shutil  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from helpers import SMALL, script  # noqa: E402
from hypothesis import settings  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

import tiny  # noqa: E402
from rollout import load_tokenizer  # noqa: E402

transformers.utils.logging.disable_progress_bar()

# An example that takes long on a busy machine is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A world whose models have hardly been trained: real files, made in seconds.

    What they say is luck, and another seed, HERO_TEST_SEED, makes others: no test may rest on it.
    """
    folder = tmp_path_factory.mktemp("world") / "world-0"
    seed = int(os.environ.get("HERO_TEST_SEED", "0"))
    tiny.build(folder, seed, sft_steps=40, rm_steps=5, problems=40, held_out_problems=10)
    return folder


@pytest.fixture(scope="session")
def tokenizer(world):
    return load_tokenizer(world / "policy")


@pytest.fixture
def policy(world):
    return AutoModelForCausalLM.from_pretrained(world / "policy", dtype=torch.float32).eval()


@pytest.fixture
def exact(policy):
    """The policy in float64: two ways to compute the same differ by 1e-12, whatever it has learned.

    Logits are rounded to float32 all the same: below 64, by at most 2^-19 = 2e-6.
    """
    return policy.double()


@pytest.fixture
def folder(world, tmp_path):
    """A working directory that holds the world, as after a first `python hero.py`."""
    shutil.copytree(world, tmp_path / "runs" / "world-0")
    return tmp_path


@pytest.fixture(scope="session")
def unbroken(world, tmp_path_factory):
    """(folder, its CompletedProcess) of a run "a" that was not disturbed, to look at and compare.

    Tests that share it must not change it.
    """
    folder = tmp_path_factory.mktemp("unbroken")
    shutil.copytree(world, folder / "runs" / "world-0")
    result = script(folder, "hero.py", "--name", "a", *SMALL)
    assert result.returncode == 0, result.stderr
    return folder, result
