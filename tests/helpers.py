"""What several test files need: a model made by hand, scripts run as a user runs them, their logs,
and comparisons."""

import json
import math
import os
import re
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest
import torch

import hero
import tiny
from neighbors import neighbors
from problems import write_jsonl
from rollout import chat_prompt

ROOT = Path(__file__).parent.parent

# A run of four steps that takes seconds.
SMALL = ["--steps", 4, "--prompts_per_step", 4, "--rollouts_per_prompt", 4, "--num_minibatches", 2,
         "--max_response_tokens", 24, "--eval_every", 2, "--eval_samples", 1, "--save_every", 1]

PROBLEMS = ["compute 2+3*4-5", "perimeter of 2 by 9 less 4 in words", "solve (x-4)/3=5",
            "3 bags of 4 apples and 10 more less 9 in words"]


def prompts(tokenizer):
    """PROBLEMS as the policy is asked them: lists of token ids."""
    return [chat_prompt(tokenizer, problem) for problem in PROBLEMS]


# ---------------------------------------------------------------------------- a model made by hand


def chain(tokenizer, table):
    """A policy whose every word is known: a Markov chain, of the shape of the tiny world's policy.

    table: {token: {next token: its chance}}; its first row, "", is that of all tokens without one.
    A next token that is not in a row has a chance of e^-30. What a trained miniature says differs
    between processors; this says the same on all of them.
    """
    model = tiny.make_policy(tokenizer, seed=0)
    model.config.tie_word_embeddings = False
    embedding = torch.zeros(len(tokenizer), 64)
    head = torch.zeros(len(tokenizer), 64)
    embedding[:, 0] = 1
    for state, (token, chances) in enumerate(table.items()):
        if token:
            embedding[tokenizer.convert_tokens_to_ids(token)] = torch.eye(64)[state]
        head[:, state] = -30
        for following, chance in chances.items():
            head[tokenizer.convert_tokens_to_ids(following), state] = math.log(chance)
    model.model.embed_tokens.weight.data = embedding
    # The last norm makes an 8 of the 1 that says in which state the chain is.
    model.lm_head.weight = torch.nn.Parameter(head / 8)

    # The layers are nearly silent: they change a chance by some percent, and are trained like all.
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data.mul_(0.01)
        layer.mlp.down_proj.weight.data.mul_(0.01)
    return model.eval()


def write_toss(folder, tokenizer):
    """A policy "toss" that writes a digit and answers 7 or 8, each in half of its responses, and 40
    problems to which 7 is right, sevens.jsonl."""
    table = {"": dict.fromkeys("0123", 0.25), "\\boxed{": {"7": 0.5, "8": 0.5}, "}": {"<eos>": 1}}
    table |= dict.fromkeys("0123", {"\\boxed{": 1}) | dict.fromkeys("78", {"}": 1})
    policy = chain(tokenizer, table)
    for part in (policy, tokenizer):
        part.save_pretrained(folder / "toss")
    write_jsonl(folder / "sevens.jsonl", [
        {"problem": f"compute 7+{n}-{n}", "answer": "7", "accepted": ["7"]} for n in range(40)])


# ---------------------------------------------------------------------------- speed


@cache
def a_second():
    """The CPU seconds in which this machine does what took one where the limits of tests were set.

    So a limit is one of the code, and not of the processor's speed.
    """
    start = time.process_time()
    sum(i * i for i in range(10**6))
    return 20 * (time.process_time() - start)


# ---------------------------------------------------------------------------- scripts


def command(*arguments, ranks=0):
    """The command line of `python SCRIPT ...`, under torchrun if `ranks` is above 0."""
    name, *rest = map(str, arguments)
    python = [sys.executable]
    if ranks:
        python += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    return [*python, str(ROOT / name), *rest]


def environment():
    """This process's environment, with one thread per process, no hub and no GPU."""
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}


def script(folder, *arguments, ranks=0, **options):
    """Runs a script to its end with `folder` as its working directory. -> CompletedProcess"""
    return subprocess.run(command(*arguments, ranks=ranks), cwd=folder, env=environment(),
                          text=True, capture_output=True, timeout=300, **options)


def start(folder, *arguments, ranks=0):
    """Starts hero.py in the background; its output is appended to the file `log`. -> Popen"""
    with open(folder / "log", "a") as log:
        return subprocess.Popen(command("hero.py", *arguments, ranks=ranks), cwd=folder,
                                env=environment(), stdout=log, stderr=log)


def hero_here(folder, *arguments, program="hero.py"):
    """A program that trains, in this process, with `folder` as its working directory.

    program: hero.py or neighbors/neighbors.py. Errors are raised.
    """
    main = {"hero.py": hero.main, "neighbors/neighbors.py": neighbors.main}[program]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", [program, *map(str, arguments)])
        main()


# ---------------------------------------------------------------------------- logs


def metrics_of(folder, name):
    """The rows of a run's metrics.jsonl without times and what else is of the machine."""
    lines = (folder / "runs" / name / "metrics.jsonl").read_text().splitlines()
    rows = []
    for line in lines:
        row = json.loads(line)
        rows.append({key: value for key, value in row.items()
                     if not key.startswith(("time/", "perf/"))})
    return rows


def close(a, b):
    """Equal, or two floats that differ by no more than float32 rounding.

    Adam moves a weight by a whole step even where its gradient is nothing but rounding. That is no
    matter here: such a weight is one on which nothing that is logged depends.
    """
    if a is None or b is None or not isinstance(a, float):
        return a == b
    return abs(a - b) <= 1e-5 + 1e-4 * abs(b)


# ---------------------------------------------------------------------------- refusals


class Payload:
    """An object whose unpickling creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def refuse(folder, *arguments, says, name="hero.py", ranks=0):
    """The script ends with one line that says what was wrong, and changes nothing. -> the line"""
    existing = sorted(folder.rglob("*"))
    result = script(folder, name, *arguments, ranks=ranks)
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert len(lines) == 1 and says in lines[0], result.stderr
    assert ranks or len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert sorted(folder.rglob("*")) == existing
    return lines[0]


def refused(folder, *arguments, says, program="hero.py"):
    """As refuse, in this process: the error is a message of ours, of one line."""
    existing = sorted(folder.rglob("*"))
    with pytest.raises((ValueError, OSError), match=re.escape(says)) as caught:
        hero_here(folder, *arguments, program=program)
    assert Path(caught.traceback[-1].path).is_relative_to(ROOT)
    assert "\n" not in str(caught.value)
    assert sorted(folder.rglob("*")) == existing
