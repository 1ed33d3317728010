"""The lab: HERO's neighbors side by side, in the study's worlds and with the study's numbers.

    python neighbors/lab.py             makes the runs that lab.csv lacks, then the tables
    python neighbors/lab.py --page      the tables and figures alone
    python neighbors/lab.py --quick     a small world, two steps, into runs/quick-lab

results/study/DESIGN.md says what is run, at which rate, in which order, and what will count as a
result. The runs are made by results/study/study.py, and this file says which. HERO, the verifier
alone and what else the study has are read from its study.csv: a run of 30 steps is the first half
of one of 60. The tables are the last part of README.md; what stands above MARK there is by hand.
"""

import argparse
import os
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd
import torch

if __name__ == "__main__":                        # the scripts are in the folder above
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from neighbors import neighbors
from problems import write_file
from report import COLORS, pyplot
from results.study import study
from results.study.study import ROOT, Block, Job
from results.study.tables import (
    HERO,
    VERIFIER,
    Claim,
    Study,
    markdown_table,
    page,
    save_figure,
    show,
    show_difference,
    show_mean,
    verdict_alone,
)
from rewards import Batch, compute_advantages

HERE = Path(__file__).resolve().parent

# ---------------------------------------------------------------------------- what is run
# DESIGN.md, "The design of the lab".

# Methods of which the study has the run, at the same rate: {name here: name in study.csv}.
IN_STUDY = {"hero": "HERO", "verifier": "verifier", "oracle": "oracle", "hero_kl": "HERO leash",
            "rm_kl": "RM leash"}
# Methods whose run is that of the verifier alone; tests/test_neighbors.py shows it.
SAME_AS_VERIFIER = ("rloo", "backward")

METHODS = ["rm", *(name for name in neighbors.METHODS
                   if name not in IN_STUDY and name not in SAME_AS_VERIFIER)]
ENSEMBLES = [name for name in METHODS if name.startswith("ensemble")]
MEMBERS = 4                                       # of an ensemble, beside the world's reward model

# Methods of our own that had runs, showed no gain and left neighbors.py: commit 6adec74 has them.
LEFT = ("band", "band_corrected", "imputed", "gate")

READ_SCORES = ("rm", "heron", "papo", "gdpo", "gated", "clip", "rm_chi2", "par",
               "filter_best_random", "filter_best_worst")
UNDER_NOISE = ("grpo", "psr", "nsr", "w_reinforce", "forward", "heron", "gdpo", "gated")
FOR_DIVERSITY = ("verifier", "hero", "grpo", "psr", "nsr", "w_reinforce", "maxrl", "passk", "pacs",
                 "concise")

RATE = 2e-4
HALF_RATE = 1e-4
CONDITIONS = study.CONDITIONS | {
    "dapo x 4": {"steps": 120, "eval_every": 60},
    "diverse": {"regime": "easy", "eval_every": 30, "eval_samples": 16},
}


def cells_of(condition, methods):
    """(condition, method) of each method."""
    return [(condition, method) for method in methods]


BLOCKS = {
    "table": Block(range(3), cells_of("hard", METHODS)),
    "weak": Block(range(2), cells_of("weak", READ_SCORES)),
    "lucky": Block(range(2), cells_of("lucky", UNDER_NOISE)),
    "mixed": Block(range(2), cells_of("mixed", ("forward", "backward"))),
    "dapo": Block(range(3), cells_of("dapo x 4", ["dapo"])),
    "half rate": Block(range(1), cells_of("half", ["hero", "verifier", "oracle", *METHODS])),
    "diverse": Block(range(2), cells_of("diverse", FOR_DIVERSITY)),
    "third world": Block(range(2, 3), [*cells_of("weak", READ_SCORES),
                                       *cells_of("lucky", UNDER_NOISE)]),
    "worlds": Block(range(3, 5), cells_of("hard", METHODS)),
}
QUICK_BLOCKS = {"quick": Block(range(1), [("hard", "ensemble_worst"), ("hard", "rlpr"),
                                          ("half", "hero")])}

# Every reward is a method here, under its own name, as the study has them.
LAB_METHODS = {name: (name, {"reward": name})
               for name in ("rm", "hero", "verifier", "oracle", *neighbors.METHODS)}
OF_THE_LAB = {"conditions": CONDITIONS, "methods": LAB_METHODS}
FULL = replace(study.FULL, steps=30, blocks=BLOCKS, **OF_THE_LAB)
QUICK = replace(study.QUICK, prefix="quick-lab-", blocks=QUICK_BLOCKS, **OF_THE_LAB)


def make_jobs(size):
    """Every run, in the order of DESIGN.md. "half" is hard data at half the rate."""
    jobs = []
    for block in size.blocks.values():
        for (condition, method), world in product(block.cells, block.worlds):
            if condition == "half":
                jobs.append(Job("hard", method, world, HALF_RATE, is_sweep=True))
            else:
                jobs.append(Job(condition, method, world, RATE))
    return jobs


def prepare(pool, jobs, size):
    """Everything on disk that jobs need: that of the study, and the members of ensembles.

    Each member was trained on other pairs, from another head.
    """
    study.prepare(pool, jobs, size)
    futures = []
    for world in sorted({job.world for job in jobs if job.method in ENSEMBLES}):
        home = size.world(world)
        for member in range(1, MEMBERS + 1):
            futures.append(pool.submit(
                study.build_reward_model, home / f"reward_model-{member}", home / "policy",
                f"{world} member {member}", size.rm_steps))
    for future in futures:
        future.result()


def rows_of(job, metrics, seconds):
    """The rows of a run in lab.csv: those that study.csv would have, with two columns more.

    On diverse data the share of easy problems that 16 samples solve, and the updates of all steps
    so far.
    """
    rows = study.evaluations(job, metrics, seconds)
    by_step = {entry["step"]: entry for entry in metrics}
    for row in rows:
        entry = by_step[row["step"]]
        row["easy pass@16"] = entry["eval/easy/pass@k"] if job.condition == "diverse" else None
        row["updates"] = sum(step <= row["step"] and earlier.get("policy/entropy") is not None
                             for step, earlier in by_step.items())
    return rows


# ---------------------------------------------------------------------------- claims


def ahead(method, other, text, condition="hard", outcome="course"):
    """The claim that a method is ahead of another one, on one kind of data."""
    return Claim(text, f"{condition} / {method}", f"{condition} / {other}", outcome)


# What each paper claims, in our words, as a difference that should be above 0. HERO and RM leash
# are runs of the study.
CLAIMS = {
    "rlpr": [
        ahead("rlpr", "verifier", "the reference's probability replaces a verifier"),
        ahead("rlpr", "rm", "and a reward model")],
    "nsr": [
        ahead("nsr", "verifier", "suppressing rejected samples alone raises pass@16", "diverse",
              "easy pass@16"),
        Claim("and learns as well, where the verifier misses little", "diverse / nsr", "start",
              "course easy"),
        ahead("verifier", "nsr", "it does harm where right samples are suppressed (later)")],
    "psr": [ahead("verifier", "psr", "reinforcing accepted samples alone lowers pass@16", "diverse",
                  "easy pass@16")],
    "w_reinforce": [ahead("w_reinforce", "psr", "a little weight on accepted samples is best for "
                          "pass@16", "diverse", "easy pass@16")],
    **{name: [ahead(name, "grpo", "better pass@16 than GRPO", "diverse", "easy pass@16")]
       for name in ("maxrl", "passk", "pacs")},
    "forward": [
        ahead("forward", "verifier", "the corrected gradient beats the uncorrected verifier"),
        ahead("forward", "verifier", "also where right answers come by luck", "lucky")],
    "backward": [ahead("backward", "verifier", "the corrected reward beats the uncorrected "
                       "verifier", "mixed")],
    "heron": [ahead("heron", "HERO", "the order of the signals is enough")],
    "papo": [ahead("papo", "grpo", "a score among the accepted helps")],
    "gdpo": [ahead("gdpo", "naive_narrow",
                   "normalizing each signal before the sum beats the plain sum")],
    "gated": [ahead("gated", "verifier", "behind the gate the score helps")],
    "concise": [ahead("concise", "verifier", "brevity behind the gate costs nothing", "diverse")],
    "par": [
        ahead("par", "rm", "a bounded, centered score beats the raw one"),
        ahead("par", "rm", "also a misleading one", "weak")],
    "clip": [ahead("clip", "verifier", "verdict and bounded score beat the verdict")],
    "dapo": [
        ahead("dapo", "grpo", "replacing uniform groups pays, at equal rollouts"),
        Claim("at four times the rollouts", "dapo x 4 / dapo", "hard / grpo", "end")],
    "rm_overlong": [ahead("rm_overlong", "rm", "a punishment of length helps the score alone")],
    "rm_chi2": [
        ahead("rm_chi2", "rm", "the chi-squared leash beats none"),
        ahead("rm_chi2", "RM leash", "and the KL's")],
    "ensemble_mean": [ahead("ensemble_mean", "rm", "the mean of several scores beats one")],
    "ensemble_worst": [ahead("ensemble_worst", "rm", "the lowest of several scores beats one")],
    "ensemble_uncertain": [ahead("ensemble_uncertain", "rm", "so does the mean less the variance")],
    "ensemble_robust": [ahead("ensemble_robust", "rm", "so does a mixture of mean and lowest")],
    **{name: [ahead(name, "rm", "dropping the scores in the middle helps")]
       for name in ("filter_best_random", "filter_best_worst")},
    "gspo": [ahead("gspo", "verifier", "one ratio per response is better")],
    "cispo": [ahead("cispo", "verifier", "no token loses its gradient: faster")],
    "reinforce_pp": [ahead("reinforce_pp", "verifier", "the batch's baseline beats the group's")],
    "band": [
        ahead("band", "HERO", "a band as wide as the reward model is reliable beats HERO's"),
        ahead("band", "HERO", "also with a misleading reward model", "weak")],
    "band_corrected": [
        ahead("band_corrected", "HERO",
              "the band, corrected for what the verifier misses, beats HERO's"),
        ahead("band_corrected", "HERO", "also with a misleading reward model", "weak")],
    "imputed": [
        ahead("imputed", "HERO", "imputed labels beat HERO"),
        ahead("imputed", "HERO", "also with a misleading reward model", "weak")],
    "gate": [ahead("gate", "HERO", "the gate beats HERO")],
}

# ---------------------------------------------------------------------------- the page


MARK = "<!-- python neighbors/lab.py writes what follows -->\n"


def read_runs(folder):
    """The lab's runs, and the study's in the same worlds, up to the lab's last step. -> rows"""
    ours = pd.read_csv(folder / "lab.csv")
    theirs = pd.read_csv(study.HERE / "study.csv")
    theirs = theirs[theirs["world"].isin(ours["world"]) & (theirs["step"] <= FULL.steps)]
    return pd.concat([ours, theirs])


def cell_of(method, condition="hard"):
    """The name of a method's cell, whoever has made it."""
    return f"{condition} / {IN_STUDY.get(method, method)}"


def label(method):
    return f"{method} (removed)" if method in LEFT else method


def paper_table():
    """What the methods are."""
    rows = []
    for name, method in neighbors.METHODS.items():
        paper = f"[{method.paper}](https://arxiv.org/abs/{method.paper})" if method.paper else ""
        rows.append([f"`{name}`", paper, method.summary])
    return markdown_table(["method", "paper", "what it does"], rows)


def method_table(runs):
    """Every method on hard data at the common rate, the furthest ahead of HERO first."""
    leads = {}
    for method in (*IN_STUDY, *METHODS, *LEFT):
        lead = runs.difference(cell_of(method), HERO)
        if len(lead):
            leads[method] = lead.mean()

    rows = []
    for method in sorted(leads, key=leads.get, reverse=True):
        cell = cell_of(method)
        row = [label(method), str(len(runs.values(cell)))]
        for outcome in ("course hard", "course easy", "end", "score", "entropy"):
            row.append(show_mean(runs.values(cell, outcome)))

        # Differences to HERO and to the verifier alone at the common rate, to HERO elsewhere.
        pairs = [
            (cell, HERO),
            (cell, VERIFIER),
            (f"sweep {HALF_RATE:g} / {method}", f"sweep {HALF_RATE:g} / hero"),
            (cell_of(method, "weak"), "weak / HERO"),
            (cell_of(method, "lucky"), "lucky / HERO"),
        ]
        for ours, theirs in pairs:
            lead = runs.difference(ours, theirs)
            row.append(show_difference(lead) if len(lead) and ours != theirs else "-")
        rows.append(row)
    return markdown_table(
        ["method", "worlds", "course, hard", "course, easy", "end", "RM score", "entropy",
         "course minus HERO", "course minus verifier", "half the rate, minus HERO",
         "weak RM, minus HERO", "lucky answers, minus HERO"], rows)


def claim_table(runs):
    """What each paper claims, and what the runs say."""
    rows = []
    for method, claims in CLAIMS.items():
        for claim in claims:
            lead = runs.lead(claim)
            rows.append([label(method), verdict_alone(lead), claim.text,
                         f"{claim.plus} minus {claim.minus}", claim.outcome,
                         show_difference(lead), str(len(lead))])
    return markdown_table(["method", "verdict", "claim", "difference", "outcome", "value",
                           "worlds"], rows)


def diverse_table(runs):
    """pass@1 and pass@16 on easy problems, after training on easy problems."""
    rows = []
    for method in FOR_DIVERSITY:
        values = [runs.values(f"diverse / {method}", outcome)
                  for outcome in ("end easy", "easy pass@16", "entropy")]
        if len(values[0]):
            rows.append([method, *map(show, values), str(len(values[0]))])
    return markdown_table(["easy data", "pass@1", "pass@16", "entropy", "worlds"], rows)


def dapo_table(runs):
    """What DAPO's replacing of groups costs: rollouts and updates."""
    rows = []
    for cell in ("hard / grpo", "hard / dapo", "dapo x 4 / dapo"):
        updates = runs.mean_by_step(cell, "updates")
        if updates.empty:
            continue

        # A step samples 16 x 8 rollouts, whether it updates or not.
        steps = updates.index[-1]
        rows.append([cell, str(steps), str(128 * steps), f"{updates.iloc[-1]:.0f}",
                     show_mean(runs.values(cell, "end hard")),
                     show_mean(runs.values(cell, "end easy"))])
    return markdown_table(["cell", "steps", "rollouts", "updates", "end, hard", "end, easy"], rows)


def draw_weights(path):
    """The weight f(n) of a prompt with n of 8 accepted rollouts, for methods of the verdict."""
    figure, axis = pyplot().subplots(figsize=(6, 4), constrained_layout=True)
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
    save_figure(figure, path)


def draw_hacking(runs, path):
    """Truth against the reward model's score after the last step, one point per method."""
    figure, axes = pyplot().subplots(1, 2, figsize=(13, 5.5), constrained_layout=True)
    titles = {"hard": "the world's own reward model", "weak": "the weak reward model"}
    for axis, (condition, title) in zip(axes, titles.items(), strict=True):
        for method in (*IN_STUDY, *METHODS, *LEFT):
            scores = runs.values(cell_of(method, condition), "score")
            truth = runs.values(cell_of(method, condition), "end hard")
            if scores.empty:
                continue

            point = (scores.mean(), truth.mean())
            axis.plot(*point, "o", ms=4, color=COLORS.get(method, "gray"))
            axis.annotate(method, point, fontsize=7, xytext=(3, 2), textcoords="offset points")
        axis.set(xlabel="reward model's mean score, hard problems",
                 ylabel="truth: pass@1, hard problems", title=title)
    save_figure(figure, path)


def write_page(folder):
    """Writes the tables into README.md, below what stands there by hand, and the two figures."""
    runs = Study(read_runs(folder))
    draw_weights(folder / "weights.png")
    draw_hacking(runs, folder / "hacking.png")
    by_run = pd.read_csv(folder / "lab.csv").groupby(["cell", "world"])
    hours = by_run["seconds"].first().sum() / 3600
    sections = {
        "The methods": paper_table(),
        "How to read the tables": [
            f"Runs of {FULL.steps} steps at a rate of {RATE:g}, where nothing else is said, by",
            "the [design](../results/study/DESIGN.md#the-design-of-the-lab). The course is",
            f"the mean of pass@1 after {FULL.steps // 2} and {FULL.steps} steps, over hard and",
            "easy problems; on diverse data it is the end. Differences are paired by world, ±",
            "half of the 95 % interval; half the rate is of one world. RM score, at the end and on",
            "hard problems, is of the reward model that the run was trained with. Removed: no",
            "longer in neighbors.py, with two worlds in the last two columns.",
            "", f"{hours:.1f} hours of one worker, two at once."],
        "All methods, on hard data": method_table(runs),
        "Claims of the papers": claim_table(runs),
        "Diversity": diverse_table(runs),
        "DAPO": dapo_table(runs),
        "Figures": ["![Weight of a prompt by its accepted rollouts](weights.png)", "",
                    "![Truth against the reward model's score](hacking.png)"]}

    path = folder / "README.md"
    by_hand = path.read_text().partition(MARK)[0] if path.exists() else ""
    write_file(path, by_hand + MARK + page(sections))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=120,
                        help="begin no run after this many minutes (default: %(default)s)")
    parser.add_argument("--page", action="store_true", help="no runs, only the tables and figures")
    parser.add_argument("--quick", action="store_true",
                        help="a small world and two steps, from nothing, into runs/quick-lab")
    args = parser.parse_args()
    os.chdir(ROOT)
    size, folder = FULL, HERE
    if args.quick:
        size, folder = QUICK, ROOT / "runs" / "quick-lab"
        study.start_from_nothing(size, folder)

    if not args.page:
        with study.worker_pool() as pool:
            study.make_runs(pool, make_jobs(size), folder / "lab.csv", size,
                            time.time() + 60 * args.minutes, prepare, rows_of)
    write_page(folder)
    print(f"written to {folder / 'README.md'}")


if __name__ == "__main__":
    main()
