"""The lab: HERO's neighbors side by side, on the same worlds, data and rollouts.

    python results/neighbors.py             makes the runs that neighbors.csv lacks, then the page
    python results/neighbors.py --page      the page and the figures alone
    python results/neighbors.py --quick     two methods, two steps, into runs/quick-neighbors

A run is one row of neighbors.csv; a lab that was stopped resumes where it was. The order of the
runs makes a stopped lab useful: first every method in world 0 at one learning rate, on the default
data, with lucky answers, on easy data and with a weak reward model; then the other worlds; then
other rates. A run takes about a minute, and two run at once: all of world 0 takes an hour and a
half, and the whole lab a working day.

Every number is of fresh problems that nothing was chosen on, by the oracle, but for `course`, which
is of validation problems. What is the same method as another, and so is no run: rloo, and backward
where all problems are of one kind (tests/test_neighbors.py).
"""

import argparse
import contextlib
import csv
import io
import os
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))                    # before this folder, which has a neighbors.py too
import distributed  # noqa: E402
import hero  # noqa: E402
import neighbors  # noqa: E402
import tiny  # noqa: E402
from eval import evaluate  # noqa: E402
from problems import load_problems, read_jsonl, write_file, write_jsonl  # noqa: E402
from report import pyplot  # noqa: E402
from rewards import Batch, RewardModel, compute_advantages  # noqa: E402
from rollout import SamplingParams, load_tokenizer, make_engine  # noqa: E402

# ---------------------------------------------------------------------------- what is run

BASELINES = ("hero", "verifier", "rm", "naive", "oracle")
SAME_METHOD = ("rloo", "backward")
METHODS = (*BASELINES, *(name for name in neighbors.METHODS if name not in SAME_METHOD))

# Those that the most is said about.
CORE = ("hero", "verifier", "rm", "oracle", "naive_narrow", "hero_kl", "rm_kl", "rlpr", "band",
        "imputed", "heron", "gdpo", "dapo")

# They read no score, so another reward model gives the same run.
NO_SCORE = ("verifier", "oracle", "grpo", "reinforce_pp", "psr", "nsr", "w_reinforce", "maxrl",
            "passk", "pacs", "dapo", "gspo", "cispo", "concise", "rlpr")
ENSEMBLES = tuple(name for name in neighbors.METHODS if name.startswith("ensemble"))

# {setting: (what a run is trained with, the methods that run)}
SETTINGS = {
    "default": ({"regime": "hard"}, METHODS),
    "lucky": ({"data": "lucky.jsonl"}, METHODS),
    "easy": ({"regime": "easy"}, METHODS),
    "weak": ({"regime": "hard", "reward_model": "weak"},
             [name for name in METHODS if name not in (*NO_SCORE, *ENSEMBLES)]),
    "mixed": ({"regime": "mixed"}, ("hero", "verifier", "forward", "backward")),
}
RATE = 1e-4
OTHER_RATES = (3e-5, 6e-5, 2e-4)
WORLDS = range(5)

# The columns of the CSV file that tell a run from others, all of them text.
KEY = ("setting", "method", "world", "learning_rate", "steps")


@dataclass(frozen=True)
class Job:
    """One run: a cell of the table in one world, which is also its seed."""
    setting: str
    method: str
    world: int
    learning_rate: float = RATE
    steps: int = 60

    @property
    def key(self):
        """The values of KEY in its row."""
        return (self.setting, self.method, str(self.world), f"{self.learning_rate:g}",
                str(self.steps))


def make_jobs():
    """Every run, each once, the most telling first."""
    # 1. World 0: every method in every setting at one rate. With four times the steps DAPO has more
    #    updates, and four times the rollouts.
    jobs = []
    first, *others = WORLDS
    for setting, (_, methods) in SETTINGS.items():
        jobs += [Job(setting, method, first) for method in methods]
    jobs.append(Job("default", "dapo", first, steps=240))

    # 2. The other worlds: first the methods that the most is said about, then all, then the other
    #    settings.
    for world in others:
        jobs += [Job("default", method, world) for method in CORE]
    for world in others:
        jobs += [Job("default", method, world) for method in METHODS if method not in CORE]
    for world in others:
        for setting, (_, methods) in SETTINGS.items():
            if setting != "default":
                jobs += [Job(setting, method, world) for method in methods]

    # 3. Other learning rates.
    for rate in OTHER_RATES:
        jobs += [Job("default", method, first, rate) for method in METHODS]
    return jobs


@dataclass(frozen=True)
class Size:
    """How large a lab is."""
    folder: str                         # FOLDER-N holds what world N needs beside runs/world-N
    jobs: list
    problems: int = 300                 # fresh problems of each kind
    samples: int = 4
    rm_steps: int = tiny.RM_STEPS       # of the further reward models
    members: int = 4                    # of an ensemble, beside the world's own reward model


FULL = Size("runs/neighbors-world", make_jobs())
QUICK = Size("runs/quick-neighbors-world",
             [Job("default", name, 0, steps=2) for name in ("hero", "ensemble_worst")],
             problems=10, samples=1, rm_steps=2, members=1)

# ---------------------------------------------------------------------------- worlds


def prepare_world(world, size, pool):
    """Makes what the runs of a world need: fresh and validation problems, and reward models.

    easy.jsonl, hard.jsonl, validation.jsonl; good, the world's own reward model, with good-1,
    good-2 and so on of an ensemble, trained on other pairs from another start; weak, which has seen
    easy answers alone.
    """
    home = Path(f"runs/world-{world}")
    tiny.ensure(home, world)
    folder = Path(f"{size.folder}-{world}")
    if folder.exists():
        return
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)

    # 1. Problems. Those in digits and in words are kept apart from the world's own by their text.
    held_out = {kind: load_problems(home / "eval" / f"{kind}.jsonl") for kind in ("easy", "hard")}
    known = set()
    for rows in held_out.values():
        known.update(row["problem"].removesuffix(" in words") for row in rows)
    for kind in held_out:
        rows = tiny.make_problems(2 * size.problems, kind == "hard", f"neighbors {world}",
                                  evaluation=True)
        fresh = [row for row in tiny.public_rows(rows)
                 if row["problem"].removesuffix(" in words") not in known]
        write_jsonl(partial / f"{kind}.jsonl", fresh[:size.problems])
    write_jsonl(partial / "validation.jsonl", held_out["hard"][:100])
    shutil.copy(home / "train" / "lucky.jsonl", partial)

    # 2. Reward models, two at once.
    shutil.copytree(home / "reward_model", partial / "good")
    builds = [pool.submit(build_reward_model, partial / "weak", world, "weak", size.rm_steps)]
    for member in range(1, size.members + 1):
        builds.append(pool.submit(build_reward_model, partial / f"good-{member}", world, "good",
                                  size.rm_steps, member))
    for build in builds:
        build.result()
    partial.rename(folder)


def build_reward_model(folder, world, kind, steps, member=0):
    """A reward model of a world, in a worker process. member: decides its pairs and its start."""
    distributed.init()
    torch.manual_seed(member)
    seed = f"{world} member {member}" if member else world
    with silence():
        tiny.build_reward_model(folder, Path(f"runs/world-{world}/policy"), seed, kind, steps)


@contextlib.contextmanager
def silence():
    """What is printed within it, by a run among hundreds, is thrown away."""
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), \
            contextlib.redirect_stderr(null):
        yield


# ---------------------------------------------------------------------------- one run


def run_job(job, size):
    """Trains and evaluates one run, in a worker process. -> its row"""
    distributed.init()
    started = time.time()

    # 1. The settings. File names are of the world's folder.
    folder = Path(f"{size.folder}-{job.world}")
    settings = {"reward_model": "good"} | SETTINGS[job.setting][0]
    for name in ("reward_model", "data"):
        if name in settings:
            settings[name] = str(folder / settings[name])
    cfg = hero.Config(
        **settings, name="-".join((folder.name, *job.key)), reward=job.method, seed=job.world,
        world_seed=job.world, steps=job.steps, learning_rate=job.learning_rate,
        eval_data=str(folder / "validation.jsonl"), eval_every=10, eval_samples=1,
        save_every=10**6, engine="transformers")
    run = Path("runs") / cfg.name
    shutil.rmtree(run, ignore_errors=True)

    # 2. Train and evaluate.
    with silence():
        hero.train(cfg)
        results = evaluate_run(cfg, run, folder, size)

    # 3. What is kept of it.
    row = dict(zip(KEY, job.key, strict=True))
    metrics = [entry for _, entry in read_jsonl(run / "metrics.jsonl")]
    row |= results | summarize(cfg, metrics)
    row["seconds"] = time.time() - started
    shutil.rmtree(run)
    return row


def evaluate_run(cfg, run, folder, size):
    """Truth and score on the fresh problems; after easy training pass@16 too. -> columns"""
    tokenizer = load_tokenizer(run / "final")
    engine = make_engine("transformers", run / "final", tokenizer)
    reward_model = RewardModel(cfg.reward_model)
    sampling = SamplingParams(cfg.max_response_tokens, temperature=0.6, top_p=0.95)

    hard = evaluate(engine, tokenizer, load_problems(folder / "hard.jsonl"), size.samples, sampling,
                    reward_model=reward_model)
    problems = load_problems(folder / "easy.jsonl")
    easy = evaluate(engine, tokenizer, problems, size.samples, sampling)


    columns = {
        "hard": hard["pass@1"],
        "easy": easy["pass@1"],
        "rm": hard["rm"],
        "length": hard["length"],
        "truncated": hard["truncated"],
        "pass@16": None,
    }
    if cfg.regime == "easy":
        sixteen = evaluate(engine, tokenizer, problems[:100], 16, sampling)
        columns["pass@16"] = sixteen["pass@k"]
    return columns


def summarize(cfg, metrics):
    """Columns of a run's log. course: mean pass@1 over the validations after the first."""
    validations = [row["eval/validation/pass@1"] for row in metrics[1:]
                   if "eval/validation/pass@1" in row]
    updates = [row for row in metrics[1:] if row["policy/entropy"] is not None]
    zero = [row["reward/zero_advantages"] for row in metrics[1:]]
    return {
        "course": sum(validations) / len(validations),
        "entropy": updates[-1]["policy/entropy"] if updates else None,
        "zero_advantages": sum(zero) / len(zero),
        "rollouts": len(zero) * cfg.prompts_per_step * cfg.rollouts_per_prompt,
        "updates": len(updates),
    }


# ---------------------------------------------------------------------------- all runs


def read_rows(path):
    """The rows of the CSV file, numbers as numbers and empty cells as None."""
    rows = []
    if not path.exists():
        return rows
    with open(path, newline="") as file:
        for text in csv.DictReader(file):
            row = {}
            for column, cell in text.items():
                if column in KEY:
                    row[column] = cell
                else:
                    row[column] = float(cell) if cell else None
            rows.append(row)
    return rows


def write_rows(path, rows):
    """Writes the CSV file whole or not at all."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]))
    table.writeheader()
    for row in rows:
        table.writerow({column: f"{value:.6g}" if isinstance(value, float) else value
                        for column, value in row.items()})
    write_file(path, text.getvalue())


def key_of(row):
    """The values of KEY in a row of the CSV file."""
    return tuple(row[column] for column in KEY)


def make_runs(size, path):
    """Makes the runs that the CSV file lacks, two at once, and saves after each."""
    rows = read_rows(path)
    done = {key_of(row) for row in rows}
    missing = [job for job in size.jobs if job.key not in done]
    finished = 0
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        # Jobs of the same world follow each other, and it is prepared before them.
        for world, jobs in groupby(missing, key=lambda job: job.world):
            prepare_world(world, size, pool)
            for future in as_completed([pool.submit(run_job, job, size) for job in jobs]):
                row = future.result()
                rows.append(row)
                write_rows(path, rows)
                finished += 1
                print(f"{finished} of {len(missing)}: {' '.join(key_of(row))}: hard "
                      f"{row['hard']:.3f}, easy {row['easy']:.3f}, {row['seconds']:.0f} s",
                      flush=True)


# ---------------------------------------------------------------------------- the page

# What each paper claims, in our words, and what the lab says of it: confirmed, refuted or not
# testable here, with the reason. Filled in by hand when the runs are there.
CLAIMS = {
    "rlpr": ("The probability of the reference answer replaces verifiers and reward models.", ""),
    "nsr": ("Suppressing wrong samples alone is nearly as good at pass@1 and better at pass@16.",
            ""),
    "psr": ("Reinforcing right samples alone raises pass@1 and lowers pass@16.", ""),
    "w_reinforce": ("A little weight on right samples is best over all k.", ""),
    "forward": ("The corrected gradient beats the uncorrected verifier under noise.", ""),
    "backward": ("The corrected reward beats the uncorrected verifier under noise.", ""),
    "heron": ("The order of the signals is enough; no weights need to be tuned.", ""),
    "papo": ("Learning goes on where all answers are right, without hacking.", ""),
    "gdpo": ("Normalizing each reward before the sum beats normalizing the sum.", ""),
    "gated": ("Behind the gate the dense reward cannot be hacked.", ""),
    "concise": ("Brevity behind the gate shortens responses without loss.", ""),
    "par": ("A bounded, centered reward is not hacked where the raw score is.", ""),
    "clip": ("Bounded above, a learned reward helps where the raw one does not.", ""),
    "maxrl": ("Better pass@16 at equal pass@1.", ""),
    "passk": ("Better pass@16 without loss at pass@1.", ""),
    "pacs": ("Better pass@16 than GRPO.", ""),
    "dapo": ("Replacing uniform groups speeds learning.", ""),
    "rm_chi2": ("At equal score chi-squared leaves more truth than KL.", ""),
    "ensemble_worst": ("The lowest of several scores is not hacked.", ""),
    "ensemble_uncertain": ("Nor is the mean less the variance.", ""),
    "ensemble_robust": ("Nor is a mixture of the two.", ""),
    "filter_best_random": ("Scores in the middle are unreliable: dropping them helps.", ""),
    "filter_best_worst": ("The same, with the worst response as the contrast.", ""),
    "gspo": ("A ratio per response makes training stable.", ""),
    "cispo": ("No token loses its gradient, so learning is faster.", ""),
    "reinforce_pp": ("The batch's baseline is as good as the group's, and more stable.", ""),
}

# Columns of the table: its heading, the setting, and the number.
COLUMNS = (("hard", "default", "hard"), ("easy", "default", "easy"),
           ("course", "default", "course"), ("score", "default", "rm"),
           ("entropy", "default", "entropy"), ("no advantage", "default", "zero_advantages"),
           ("lucky: hard", "lucky", "hard"), ("easy: easy", "easy", "easy"),
           ("easy: pass@16", "easy", "pass@16"), ("weak: hard", "weak", "hard"),
           ("weak: score", "weak", "rm"), ("mixed: hard", "mixed", "hard"))
DIFFERENCES = (("hard", "default", "hard"), ("lucky: hard", "lucky", "hard"),
               ("easy: easy", "easy", "easy"), ("weak: hard", "weak", "hard"))


# Half the width of a 95 % interval in standard errors, by the number of values.
T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}


def select(rows, setting, method, steps, rate=RATE):
    """{world: row} of a method's runs in a setting."""
    wanted = (setting, method, f"{rate:g}", str(steps))
    return {row["world"]: row for row in rows
            if (row["setting"], row["method"], row["learning_rate"], row["steps"]) == wanted}


def mean_cell(runs, column):
    """The mean over worlds of a column, as text; empty where there is none."""
    values = [row[column] for row in runs.values() if row[column] is not None]
    return f"{np.mean(values):.3f}" if values else ""


def difference_cell(runs, others, column):
    """The mean difference in the worlds that both have, with half of its 95 % interval (Student's
    t) where there is more than one, as text."""
    values = [runs[world][column] - others[world][column] for world in runs if world in others]
    if not values:
        return ""
    text = f"{np.mean(values):+.3f}"
    if len(values) > 1:
        text += f" ± {T95[len(values)] * np.std(values, ddof=1) / len(values) ** 0.5:.3f}"
    return text


def table(heading, lines):
    """A markdown table. heading, and each of lines: a list of cells."""
    rows = [heading, ["---"] * len(heading), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def method_table(rows, steps):
    """Every method: its means after `steps` steps, and its differences to HERO in the same worlds.
    """
    heading = ["method", "paper", "worlds", "rollouts", "updates",
               *(title for title, *_ in COLUMNS),
               *(f"{title}, minus HERO" for title, *_ in DIFFERENCES)]

    # backward runs on mixed data alone, and DAPO also with more steps.
    variants = [(method, steps) for method in METHODS]
    variants += [("backward", steps), ("dapo", 4 * steps)]
    lines = []
    for method, count in variants:
        runs = select(rows, "default", method, count) or select(rows, "mixed", method, count)
        if not runs:
            continue

        # What the method is and what it costs.
        paper = neighbors.find_method(method).paper
        cells = [method, paper and f"[{paper}](https://arxiv.org/abs/{paper})", str(len(runs))]
        for column in ("rollouts", "updates"):
            cells.append(f"{np.mean([row[column] for row in runs.values()]):.0f}")

        # Its numbers, and those of HERO beside it.
        for _, setting, column in COLUMNS:
            cells.append(mean_cell(select(rows, setting, method, count), column))
        for _, setting, column in DIFFERENCES:
            cells.append(difference_cell(select(rows, setting, method, count),
                                         select(rows, setting, "hero", steps), column))
        lines.append(cells)
    return table(heading, lines)


def rate_table(rows, steps):
    """Truth on hard problems at each learning rate, in world 0."""
    # Methods that ran at one rate only are left out.
    rates = sorted((*OTHER_RATES, RATE))
    lines = []
    for method in METHODS:
        cells = [method]
        for rate in rates:
            runs = select(rows, "default", method, steps, rate)
            cells.append(mean_cell({"0": runs["0"]} if "0" in runs else {}, "hard"))
        if sum(cell != "" for cell in cells[1:]) > 1:
            lines.append(cells)
    return table(["method", *(f"{rate:g}" for rate in rates)], lines)


def claim_table():
    lines = [[method, claim, verdict or "open"] for method, (claim, verdict) in CLAIMS.items()]
    return table(["method", "claim of its paper", "here"], lines)


def draw_weights(path):
    """The weight f(n) of a prompt with n of 8 accepted rollouts, for methods of the verdict."""
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(6, 4), constrained_layout=True)
    accepted = range(1, 8)
    batch = Batch(torch.zeros(7, 8), torch.tensor([[1.0] * n + [0.0] * (8 - n) for n in accepted]))
    curves = {
        "verifier (Dr. GRPO)": compute_advantages(batch, 0.0, "verifier").advantages,
        "GRPO": neighbors.grpo(batch),
        "MaxRL": neighbors.maxrl(batch),
        "PACS": neighbors.pacs(batch),
        "pass@k training, k = 2": neighbors.passk(batch, k=2),
        "pass@k training, k = 4": neighbors.passk(batch, k=4),
    }

    for label, advantages in curves.items():
        # The first rollout is accepted: its advantage is f(n) / n.
        weights = [n * advantages[n - 1, 0].item() for n in accepted]
        axis.plot(accepted, weights, marker="o", ms=4, label=label)
    axis.set(xlabel="accepted rollouts of 8", ylabel="weight of the prompt", ylim=(0, None))
    axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_hacking(rows, path, steps):
    """Truth against the reward model's score on hard problems, one point per method."""
    plt = pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(12, 5), constrained_layout=True)
    titles = {"default": "the world's own reward model", "weak": "the weak reward model"}
    for axis, (setting, title) in zip(axes, titles.items(), strict=True):
        for method in METHODS:
            runs = select(rows, setting, method, steps).values()
            if not runs:
                continue

            # HERO in another color.
            score = np.mean([row["rm"] for row in runs])
            truth = np.mean([row["hard"] for row in runs])
            axis.plot(score, truth, "o", ms=4, color="#D55E00" if method == "hero" else "#0072B2")
            axis.annotate(method, (score, truth), fontsize=7, xytext=(3, 2),
                          textcoords="offset points")
        axis.set(xlabel="reward model's score (mean)", ylabel="truth on hard problems (pass@1)",
                 title=title)
    figure.savefig(path, dpi=120)
    plt.close(figure)


PAGE = """# HERO's neighbors

Methods around HERO in the tiny world: {steps} steps of 16 x 8 rollouts at a learning rate of
{rate:g}, unless said otherwise. `python neighbors.py` says in a sentence what each does, and its
docstring in `neighbors.py` what was simplified.

Means over worlds, of pass@1 by the oracle on 300 fresh problems, 4 samples each. hard, easy: after
training on hard problems; course: the mean of six validations during the run; score: the reward
model's mean on hard problems; no advantage: the share of rollouts without a gradient. lucky: some
wrong solutions find the right value; weak: the reward model has seen easy answers alone. A
difference is paired by world, ± half of its 95 % interval where there is more than one world.
DAPO's steps without an update count their rollouts: it has as many as the others, and in its second
row four times as many.

{methods}

![Weight of a prompt by its accepted rollouts](neighbors_weights.png)

![Truth against the reward model's score](neighbors_hacking.png)

## Claims

{claims}

## Learning rates

Truth on hard problems, world 0.

{rates}

    python results/neighbors.py
"""


def write_page(rows, folder, steps):
    """Writes neighbors.md and its two figures, of the runs of `steps` steps."""
    draw_weights(folder / "neighbors_weights.png")
    draw_hacking(rows, folder / "neighbors_hacking.png", steps)
    text = PAGE.format(rate=RATE, steps=steps, methods=method_table(rows, steps),
                       claims=claim_table(), rates=rate_table(rows, steps))
    write_file(folder / "neighbors.md", text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true",
                        help="two methods and two steps, into runs/quick-neighbors")
    parser.add_argument("--page", action="store_true", help="no runs, only the page and figures")
    args = parser.parse_args()

    size = QUICK if args.quick else FULL
    folder = ROOT / "runs" / "quick-neighbors" if args.quick else HERE
    folder.mkdir(parents=True, exist_ok=True)

    # Paths are as in hero.py, relative to the repository.
    os.chdir(ROOT)
    os.environ["OMP_NUM_THREADS"] = "1"           # for the worker processes
    distributed.init()

    path = folder / "neighbors.csv"
    if not args.page:
        make_runs(size, path)
    write_page(read_rows(path), folder, size.jobs[0].steps)
    print(f"written to {folder / 'neighbors.md'}")


if __name__ == "__main__":
    main()
