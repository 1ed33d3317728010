"""A miniature of the tiny world, built once for the test session, and a way to run scripts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

import hero
import tiny
from rollout import load_tokenizer

ROOT = Path(__file__).parent.parent
transformers.utils.logging.disable_progress_bar()


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A world whose models have hardly been trained: real files, made in seconds."""
    folder = tmp_path_factory.mktemp("world") / "world-0"
    tiny.build(folder, seed=0, sft_steps=120, rm_steps=10, problems=40, held_out_problems=10)
    return folder


@pytest.fixture(scope="session")
def tokenizer(world):
    return load_tokenizer(world / "policy")


@pytest.fixture
def policy(world):
    return AutoModelForCausalLM.from_pretrained(world / "policy", dtype=torch.float32).eval()


@pytest.fixture
def folder(world, tmp_path):
    """A working directory that holds the world, as after a first `python hero.py`."""
    shutil.copytree(world, tmp_path / "runs" / "world-0")
    return tmp_path


def script(folder, *arguments, ranks=0, **options):
    """Runs `python SCRIPT ...`, or under torchrun with `ranks` processes. -> CompletedProcess"""
    name, *rest = map(str, arguments)
    start = [sys.executable]
    if ranks:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run([*start, ROOT / name, *rest], cwd=folder, env=environment, text=True,
                          capture_output=True, timeout=300, **options)


def hero_here(folder, *arguments):
    """hero.py in this process, with `folder` as its working directory; errors are raised."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["hero.py", *map(str, arguments)])
        hero.main()


SMALL = ["--steps", 4, "--prompts_per_step", 4, "--rollouts_per_prompt", 4, "--minibatches", 2,
         "--max_response_tokens", 24, "--eval_every", 2, "--eval_samples", 1, "--save_every", 1]
