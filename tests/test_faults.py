"""What goes wrong in long runs: kills, torn checkpoints, full disks, broken reward models."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from helpers import ROOT, SMALL, chain, environment, hero_here, metrics_of, script, start
from transformers import AutoModelForSequenceClassification

pytestmark = pytest.mark.slow

LONG = [*map(str, SMALL), "--steps", "40", "--eval_every", "50"]


def wait_for_step(folder, name, step, process):
    metrics = folder / "runs" / name / "metrics.jsonl"
    while not metrics.exists() or metrics.read_text().count("\n") <= step:
        assert process.poll() is None, (folder / "log").read_text()
        time.sleep(0.01)


def workers_of(process):
    """Process ids of torchrun's ranks, the lowest rank first."""
    children = f"/proc/{process.pid}/task/{process.pid}/children"
    return sorted(map(int, open(children).read().split()))


def test_a_killed_rank_ends_the_other_and_is_named(folder):
    """SIGKILL of one rank, five times in a run that is resumed after each."""
    arguments, done = ["--name", "k", *LONG], 0
    for victim in (0, 1, 1, 0, 1):
        (folder / "log").unlink(missing_ok=True)
        process = start(folder, *arguments, ranks=2)
        wait_for_step(folder, "k", done + 1, process)
        os.kill(workers_of(process)[victim], signal.SIGKILL)
        assert process.wait(60) != 0
        log = (folder / "log").read_text()
        assert f"local_rank: {victim}" in log and "Signal 9 (SIGKILL)" in log
        arguments, done = ["--resume", "--name", "k"], len(metrics_of(folder, "k"))
    result = script(folder, "hero.py", "--resume", "--name", "k", "--steps", done + 1, ranks=2)
    assert result.returncode == 0, result.stderr
    assert [row["step"] for row in metrics_of(folder, "k")] == list(range(done + 2))


@pytest.mark.parametrize("ranks", [0, 2])
def test_sigterm_saves_and_ends_well(folder, ranks):
    process = start(folder, "--name", "t", *LONG, "--save_every", 100, ranks=ranks)
    wait_for_step(folder, "t", 2, process)
    process.send_signal(signal.SIGTERM)
    code = process.wait(60)
    assert ranks or code == 0
    log = (folder / "log").read_text()
    assert "stopped by SIGTERM after step" in log and "--resume --name t" in log
    last = metrics_of(folder, "t")[-1]["step"]
    assert (folder / f"runs/t/checkpoints/step_{last:06d}").is_dir()
    result = script(folder, "hero.py", "--resume", "--name", "t", "--steps", last + 1, ranks=ranks)
    assert result.returncode == 0, result.stderr
    assert metrics_of(folder, "t")[-1]["step"] == last + 1


SLOW_TO_SAVE = """
import sys, time
sys.path.insert(0, {root!r})
import distributed
def main():
    distributed.init()
    open("started", "w")
    while not distributed.SIGTERM_CAME.wait(0.1):
        pass
    time.sleep(6)                                  # the rest of a step
    open("saved", "w")
distributed.run(main)
"""


@pytest.mark.parametrize("timeout, saved", [("2", False), ("60", True)])
def test_torchrun_waits_as_long_as_its_shutdown_timeout(tmp_path, timeout, saved):
    """Its own is 30 seconds, less than a step on GPUs: hence the flag in the commands of docs/."""
    (tmp_path / "slow.py").write_text(SLOW_TO_SAVE.format(root=str(ROOT)))
    process = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1",
         "--shutdown_timeout", timeout, "slow.py"], cwd=tmp_path, env=environment(),
        stderr=subprocess.DEVNULL)
    while not (tmp_path / "started").exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) != 0                   # torchrun's own exit code, saved or not
    assert (tmp_path / "saved").exists() == saved


def test_a_torn_checkpoint_is_skipped(folder):
    hero_here(folder, "--name", "x", *SMALL)
    whole = metrics_of(folder, "x")
    newest = folder / "runs/x/checkpoints/step_000004"
    torn = newest / "training.pt"
    torn.write_bytes(torn.read_bytes()[:1000])
    result = script(folder, "hero.py", "--resume", "--name", "x")
    assert result.returncode == 0, result.stderr
    assert "step_000004 cannot be read" in result.stdout and "falling back" in result.stdout
    assert metrics_of(folder, "x") == whole
    for path in (folder / "runs/x/checkpoints").glob("*/state.pt"):
        path.write_bytes(b"")
    result = script(folder, "hero.py", "--resume", "--name", "x")
    assert result.returncode != 0 and "none of the 2 checkpoints" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of limited size needs root")
def test_a_full_disk_is_announced_and_nothing_is_lost(folder):
    run = folder / "runs" / "d"
    checkpoints = run / "checkpoints"
    hero_here(folder, "--name", "d", *SMALL, "--steps", 2)
    kept = folder / "kept"
    shutil.move(checkpoints, kept)
    checkpoints.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", checkpoints]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mount is not allowed here")
    try:
        shutil.copytree(kept, checkpoints, dirs_exist_ok=True)
        result = script(folder, "hero.py", "--resume", "--name", "d", "--steps", 4)
        assert result.returncode != 0
        lines = [line for line in result.stderr.splitlines() if line.startswith("error")]
        assert len(lines) == 1 and "could not be written" in lines[0] and "make room" in lines[0]
        assert "step_000002" in {path.name for path in checkpoints.iterdir()}
        subprocess.run(["mount", "-o", "remount,size=64m", checkpoints], check=True)
        hero_here(folder, "--resume", "--name", "d", "--steps", 4)
    finally:
        subprocess.run(["umount", checkpoints], check=True)
    assert [row["step"] for row in metrics_of(folder, "d")] == [0, 1, 2, 3, 4]


def broken_reward_model(folder, change):
    """A copy of the world's reward model whose score head is changed in place."""
    path = folder / "broken"
    shutil.copytree(folder / "runs/world-0/reward_model", path)
    model = AutoModelForSequenceClassification.from_pretrained(path)
    with torch.no_grad():
        change(model.score.weight)
    model.save_pretrained(path)
    return path


def test_nan_from_the_reward_model_ends_the_run_with_its_rows(folder):
    path = broken_reward_model(folder, lambda weight: weight.fill_(float("nan")))
    result = script(folder, "hero.py", "--name", "n", *SMALL, "--reward_model", path, ranks=2)
    assert result.returncode != 0
    assert "gave nan or inf for" in result.stderr and "rows [0, 1" in result.stderr


def test_a_constant_reward_model_leaves_the_verifier_to_lead(folder):
    path = broken_reward_model(folder, lambda weight: weight.zero_())
    hero_here(folder, "--name", "z", *SMALL, "--reward_model", path, "--regime", "easy")
    for row in metrics_of(folder, "z")[1:]:
        assert row["hero/sigma"] == 0 and row["rm/auroc"] in (None, 0.5)
        assert row["reward/abs_adv_uniform"] in (None, 0)


def test_a_batch_of_truncated_responses_trains_and_says_so(folder, tokenizer):
    """A policy that never says EOS, and no number."""
    for part in (chain(tokenizer, {"": {"x": 0.5, ";": 0.5}}), tokenizer):
        part.save_pretrained(folder / "endless")
    hero_here(folder, "--name", "c", *SMALL, "--policy", "endless")
    rows = metrics_of(folder, "c")[1:]
    assert all(row["rollout/truncated"] == 1 and row["verify/no_answer"] == 1 for row in rows)


def test_a_batch_of_empty_responses_trains(folder, tokenizer):
    """A policy that only ever says EOS: one token a response, empty texts."""
    for part in (chain(tokenizer, {"": {"<eos>": 1}}), tokenizer):
        part.save_pretrained(folder / "mute")
    hero_here(folder, "--name", "e", *SMALL, "--policy", "mute")
    rows = metrics_of(folder, "e")[1:]
    assert rows[0]["rollout/length"] == 1 and rows[0]["verify/no_answer"] == 1


def test_killed_at_random_moments_it_is_still_the_same_run(folder):
    """SIGKILL of the whole job, HERO_KILLS times (5), then the log of a run that nobody touched.

    Each kill comes within the time of one step after a line that is new: on a machine of any speed
    before the run is over.
    """
    kills, wanted = 0, int(os.environ.get("HERO_KILLS", "5"))
    options = [*SMALL, "--steps", 2 + 3 * wanted, "--eval_every", 6]
    started = time.time()
    hero_here(folder, "--name", "a", *options)
    seconds_of_a_step = (time.time() - started) / (2 + 3 * wanted)
    metrics, rng = folder / "runs/b/metrics.jsonl", random.Random(time.time())
    process = start(folder, "--name", "b", *options)
    while True:
        known = metrics.read_text().count("\n") if metrics.exists() else 0
        while kills < wanted and process.poll() is None and (
                not metrics.exists() or metrics.read_text().count("\n") <= known):
            time.sleep(0.005)                        # until it has written one line more
        if kills < wanted:
            time.sleep(rng.uniform(0, seconds_of_a_step))
            process.kill()
        if process.wait() == 0:
            break
        kills += 1
        process = start(folder, "--name", "b", "--resume")
    assert kills >= 0.6 * wanted, "the run was over before it could be killed"
    assert metrics_of(folder, "b") == metrics_of(folder, "a")
    samples = [(folder / "runs" / name / "rollouts.jsonl").read_text() for name in "ab"]
    assert samples[0] == samples[1]
