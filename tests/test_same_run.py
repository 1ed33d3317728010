"""The same run: on any number of processes, sharded or not, and however it was interrupted."""

import json
import shutil

import pytest
from helpers import SMALL, close, hero_here, metrics_of, script, write_toss

pytestmark = pytest.mark.slow

LORA = ["--lora_rank", 4, "--learning_rate", 1e-3, "--kl_coef", 0.1]

# The toss's groups of four: seven of eight hold both verdicts, so there is something to learn. Not
# for HERO's own comparison: it says the same twice in a group, and what Eq. 3 makes of two scores
# that differ in their last digit alone is rounding.
TOSS = ["--policy", "toss", "--data", "sevens.jsonl"]

# What is run, as the words of the command line. One method of each kind that neighbors/ has: a
# signal, another of several numbers, a state, a loss, a leash, a refill.
WHAT = {
    "hero": ["hero.py"],
    "LoRA with a KL term": ["hero.py", *LORA],
    "rlpr": ["neighbors/neighbors.py", "rlpr"],             # which would find all of a toss alike
    "ensemble_worst": ["neighbors/neighbors.py", "ensemble_worst", *TOSS],
    "clip": ["neighbors/neighbors.py", "clip", *TOSS],
    "gspo": ["neighbors/neighbors.py", "gspo", *TOSS],
    "rm_chi2": ["neighbors/neighbors.py", "rm_chi2", *TOSS],
    "dapo": ["neighbors/neighbors.py", "dapo", *TOSS],
}


def samples_of(folder, name):
    return (folder / "runs" / name / "rollouts.jsonl").read_text()


@pytest.mark.parametrize("what", WHAT)
def test_neither_an_interruption_nor_two_ranks_change_a_run(folder, tokenizer, what):
    """Resumed, it is the same bit for bit; on two ranks, with other micro-batches, to rounding."""
    world = folder / "runs" / "world-0"
    shutil.copytree(world / "reward_model", world / "reward_model-1")
    write_toss(folder, tokenizer)
    name, *words = WHAT[what]
    options = [*words, *SMALL]
    hero_here(folder, *options, "--name", "whole", program=name)
    whole = metrics_of(folder, "whole")
    assert what == "rlpr" or any(row.get("policy/gradient_norm") for row in whole)

    hero_here(folder, *options, "--name", "parts", "--steps", 2, program=name)
    method = words[:1] if name != "hero.py" else []
    hero_here(folder, *method, "--resume", "--name", "parts", "--steps", 4, program=name)
    assert json.loads((folder / "runs/parts/config.json").read_text())["steps"] == 4
    assert metrics_of(folder, "parts") == whole
    assert samples_of(folder, "parts") == samples_of(folder, "whole")

    result = script(folder, name, *options, "--name", "two", "--max_tokens_per_microbatch", 100,
                    ranks=2)
    assert result.returncode == 0, result.stderr
    for row, theirs in zip(whole, metrics_of(folder, "two"), strict=True):
        different = [(key, row[key], theirs[key]) for key in row
                     if not close(row[key], theirs[key])]
        assert not different, (row["step"], different)


# Ranks and options of the same three steps.
LAYOUTS = {
    "1 x 8": (0, []), "8 x 1": (8, []),
    "1 sharded": (0, ["--shard", "on", "--gradient_checkpointing"]),
    "2 sharded": (2, ["--shard", "on", "--max_tokens_per_microbatch", 100])}
EIGHT = ["--steps", 3, "--prompts_per_step", 8, "--rollouts_per_prompt", 4,
         "--num_minibatches", 1, "--max_response_tokens", 24, "--eval_every", 3,
         "--eval_samples", 1]


def test_ranks_sharding_and_a_change_of_ranks_give_the_same_run(folder):
    """Rule 3: gradients (their norms) and metrics of three steps, within float32 rounding. The last
    run gets other nodes twice: 8 processes, then 2 that shard, then one."""
    for name, (ranks, more) in LAYOUTS.items():
        result = script(folder, "hero.py", "--name", name, *EIGHT, *more, ranks=ranks)
        assert result.returncode == 0, (name, result.stderr)
    for steps, ranks in ((1, 8), (2, 2), (3, 0)):
        arguments = [*EIGHT, "--shard", "on"] if steps == 1 else ["--resume"]
        result = script(folder, "hero.py", "--name", "parts", *arguments, "--steps", steps,
                        ranks=ranks)
        assert result.returncode == 0, result.stderr

    one = metrics_of(folder, "1 x 8")
    assert len(one) == 4
    for name in (*LAYOUTS, "parts"):
        for row, other in zip(one, metrics_of(folder, name), strict=True):
            # The parts were evaluated at the end of each.
            different = [(key, row[key], other[key]) for key in row
                         if not close(row[key], other[key])]
            assert not different, (name, row["step"], different)
