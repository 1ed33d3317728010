"""The lab: HERO's neighbors side by side, in the study's worlds and with the study's numbers.

    python results/neighbors.py             makes the runs that neighbors.csv lacks, then the page
    python results/neighbors.py --page      the page and the figures alone
    python results/neighbors.py --quick     a small world, two steps, into runs/quick-neighbors

DESIGN.md says what is run, at which rate, in which order, and what will count as a result. The runs
are made by study.py, and this file says which. HERO, the verifier alone and what else the study has
are read from study.csv: a run of 30 steps is the first half of one of 60.
"""

import argparse
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))                    # before this folder, which has a neighbors.py too
import neighbors  # noqa: E402
import tiny  # noqa: E402
from problems import write_file  # noqa: E402
from report import COLORS, pyplot  # noqa: E402
from results import study  # noqa: E402
from results.study import Block, Job, Method  # noqa: E402
from results.study_tables import (  # noqa: E402
    HERO,
    VERIFIER,
    Claim,
    Study,
    markdown_table,
    mean_interval,
    page,
    read_csv,
    save_figure,
    show,
    show_difference,
    show_mean,
    verdict_alone,
)
from rewards import Batch, compute_advantages  # noqa: E402

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

# Methods of our own that had runs, showed no gain and left neighbors.py: CHANGELOG.md.
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

# Every reward is a method here, under its own name. Ensembles need their members: prepare_member.
LAB_METHODS = {name: Method(name, {"reward": name} | ({"reward_model": "good"}
                                                     if name in ENSEMBLES else {}))
               for name in ("rm", "hero", "verifier", "oracle", *neighbors.METHODS)}
FULL = replace(study.FULL, steps=30, blocks=BLOCKS, conditions=CONDITIONS,
               methods=LAB_METHODS)
QUICK = replace(study.QUICK, prefix="quick-lab-", blocks=QUICK_BLOCKS, conditions=CONDITIONS,
                methods=LAB_METHODS)


def make_jobs(size):
    """Every run, in the order of DESIGN.md. "half" is hard data at half the rate."""
    jobs = []
    for block in size.blocks.values():
        for condition, method in block.cells:
            for world in block.worlds:
                if condition == "half":
                    jobs.append(Job("hard", method, world, HALF_RATE, is_sweep=True))
                else:
                    jobs.append(Job(condition, method, world, RATE))
    return jobs


# ---------------------------------------------------------------------------- the runs


def prepare_member(world, member, size):
    """Makes one reward model of an ensemble: trained on other pairs, from another head.

    Member 0 is the world's own. make_config of study.py knows the first of them as "good".
    """
    name = f"good-{member}" if member else "good"
    folder = size.extras(world) / name
    if folder.exists():
        return
    partial = folder.with_name(f"partial-{name}")
    shutil.rmtree(partial, ignore_errors=True)
    if member:
        with study.silence():
            tiny.build_reward_model(partial, size.world(world) / "policy",
                                    f"{world} member {member}", "good", size.rm_steps)
    else:
        shutil.copytree(size.world(world) / "reward_model", partial)
    partial.rename(folder)


def run_job(job, size, deadline):
    """Makes one run. -> its rows of neighbors.csv, none after the deadline

    They are those of study.csv, with two columns more: on diverse data the share of easy problems
    that 16 samples solve, and the updates of all steps so far.
    """
    started = time.time()
    if started > deadline:
        return []
    metrics = study.train_job(job, size)
    rows = study.evaluations(job, metrics, time.time() - started)
    by_step = {entry["step"]: entry for entry in metrics}
    for row in rows:
        entry = by_step[row["step"]]
        row["easy pass@16"] = entry["eval/easy/pass@k"] if job.condition == "diverse" else None
        row["updates"] = sum(step <= row["step"] and earlier.get("policy/entropy") is not None
                             for step, earlier in by_step.items())
    return rows


def make_runs(path, size, deadline):
    """Makes the runs that the CSV file lacks, two at once, and saves after each."""
    jobs = study.missing_jobs(make_jobs(size), path)
    with study.worker_pool() as pool:
        study.prepare(pool, jobs, size)

        # Ensembles need the worlds.
        worlds = sorted({job.world for job in jobs if job.method in ENSEMBLES})
        futures = [pool.submit(prepare_member, world, member, size)
                   for world in worlds for member in range(MEMBERS + 1)]
        for future in futures:
            future.result()

        study.make_runs(pool, jobs, path, size, deadline, run_job)


# ---------------------------------------------------------------------------- claims


def hard(method):
    """The cell of a method on hard data."""
    return (f"hard / {method}",)


def diverse(method):
    """The cell of a method on easy data, with 16 samples per problem."""
    return (f"diverse / {method}",)


def ahead(method, other, text, condition, outcome="course"):
    """The claim that a method is ahead of another one, under one condition."""
    return Claim(text, (f"{condition} / {method}",), (f"{condition} / {other}",), outcome)


# What each paper claims, in our words, as a difference that should be above 0.
CLAIMS = {
    "rlpr": [
        Claim("the reference's probability replaces a verifier", hard("rlpr"), VERIFIER),
        Claim("and a reward model", hard("rlpr"), hard("rm"))],
    "nsr": [
        ahead("nsr", "verifier", "suppressing wrong samples alone raises pass@16", "diverse",
              "easy pass@16"),
        Claim("and learns as well, where the verifier misses little", diverse("nsr"),
              ("start",), "course easy"),
        Claim("it does harm where right samples are suppressed (later)", VERIFIER, hard("nsr"))],
    "psr": [ahead("verifier", "psr", "reinforcing right samples alone lowers pass@16", "diverse",
                  "easy pass@16")],
    "w_reinforce": [ahead("w_reinforce", "psr", "a little weight on right samples is best for "
                          "pass@16", "diverse", "easy pass@16")],
    "maxrl": [ahead("maxrl", "grpo", "better pass@16 than GRPO", "diverse", "easy pass@16")],
    "passk": [ahead("passk", "grpo", "better pass@16 than GRPO", "diverse", "easy pass@16")],
    "pacs": [ahead("pacs", "grpo", "better pass@16 than GRPO", "diverse", "easy pass@16")],
    "forward": [
        Claim("the corrected gradient beats the uncorrected verifier", hard("forward"), VERIFIER),
        ahead("forward", "verifier", "also where right answers come by luck", "lucky")],
    "backward": [ahead("backward", "verifier", "the corrected reward beats the uncorrected "
                       "verifier", "mixed")],
    "heron": [Claim("the order of the signals is enough", hard("heron"), HERO)],
    "papo": [Claim("a score among the accepted helps", hard("papo"), hard("grpo"))],
    "gdpo": [Claim("normalizing each signal before the sum beats the plain sum", hard("gdpo"),
                   hard("naive_narrow"))],
    "gated": [Claim("behind the gate the score helps", hard("gated"), VERIFIER)],
    "concise": [ahead("concise", "verifier", "brevity behind the gate costs nothing", "diverse")],
    "par": [
        Claim("a bounded, centered score beats the raw one", hard("par"), hard("rm")),
        ahead("par", "rm", "also a misleading one", "weak")],
    "clip": [Claim("verdict and bounded score beat the verdict", hard("clip"), VERIFIER)],
    "dapo": [
        Claim("replacing uniform groups pays, at equal rollouts", hard("dapo"), hard("grpo")),
        Claim("at four times the rollouts", ("dapo x 4 / dapo",), hard("grpo"), "end")],
    "rm_overlong": [Claim("a punishment of length helps the score alone", hard("rm_overlong"),
                          hard("rm"))],
    "rm_chi2": [
        Claim("the chi-squared leash beats none", hard("rm_chi2"), hard("rm")),
        Claim("and the KL's", hard("rm_chi2"), hard("RM leash"))],
    "ensemble_mean": [Claim("the mean of several scores beats one", hard("ensemble_mean"),
                            hard("rm"))],
    "ensemble_worst": [Claim("the lowest of several scores beats one", hard("ensemble_worst"),
                             hard("rm"))],
    "ensemble_uncertain": [Claim("so does the mean less the variance", hard("ensemble_uncertain"),
                                 hard("rm"))],
    "ensemble_robust": [Claim("so does a mixture of mean and lowest", hard("ensemble_robust"),
                              hard("rm"))],
    "filter_best_random": [Claim("dropping the scores in the middle helps",
                                 hard("filter_best_random"), hard("rm"))],
    "filter_best_worst": [Claim("dropping the scores in the middle helps",
                                hard("filter_best_worst"), hard("rm"))],
    "gspo": [Claim("one ratio per response is better", hard("gspo"), VERIFIER)],
    "cispo": [Claim("no token loses its gradient: faster", hard("cispo"), VERIFIER)],
    "reinforce_pp": [Claim("the batch's baseline beats the group's", hard("reinforce_pp"),
                           VERIFIER)],
    "band (removed)": [
        Claim("a band as wide as the reward model is reliable beats HERO's", hard("band"), HERO),
        ahead("band", "HERO", "also with a misleading reward model", "weak")],
    "band_corrected (removed)": [
        Claim("the band, corrected for what the verifier misses, beats HERO's",
              hard("band_corrected"), HERO),
        ahead("band_corrected", "HERO", "also with a misleading reward model", "weak")],
    "imputed (removed)": [
        Claim("imputed labels beat HERO", hard("imputed"), HERO),
        ahead("imputed", "HERO", "also with a misleading reward model", "weak")],
    "gate (removed)": [Claim("the gate beats HERO", hard("gate"), HERO)],
}

# ---------------------------------------------------------------------------- the page


def read_runs(folder):
    """The lab's runs, and the study's in the same worlds, up to the lab's last step. -> rows"""
    rows = read_csv(folder / "neighbors.csv")
    worlds = {row["world"] for row in rows}
    for row in read_csv(HERE / "study.csv"):
        if row["world"] in worlds and row["step"] <= FULL.steps:
            rows.append(row)
    return rows


def cell_of(method):
    """The name of a method's cell on hard data, whoever has made it."""
    return f"hard / {IN_STUDY.get(method, method)}"


def method_row(runs, method):
    """A line of the large table."""
    cell = cell_of(method)
    known = neighbors.METHODS.get(method)
    paper = known.paper if known else ""
    half = f"sweep {HALF_RATE:g} / {method}"
    half_hero = f"sweep {HALF_RATE:g} / hero"

    # Differences to HERO and to the verifier alone at the common rate, to HERO elsewhere.
    pairs = [((cell,), HERO), ((cell,), VERIFIER), ((half,), (half_hero,))]
    for condition in ("weak", "lucky"):
        pairs.append(((f"{condition} / {IN_STUDY.get(method, method)}",), (f"{condition} / HERO",)))
    differences = []
    for ours, others in pairs:
        differences.append([] if ours == others else runs.difference(ours, others, "course"))

    means = [show_mean(runs.values(cell, outcome))
             for outcome in ("course hard", "course easy", "end", "score", "entropy")]
    name = f"{method} (removed)" if method in LEFT else method
    return [name, f"[{paper}](https://arxiv.org/abs/{paper})" if paper else "",
            str(len(runs.values(cell, "course"))), *means,
            *(show_difference(values) if values else "-" for values in differences)]


def method_table(runs):
    """Every method on hard data at the common rate, the furthest ahead of HERO first."""
    methods = [method for method in (*IN_STUDY, *METHODS, *LEFT)
               if runs.values(cell_of(method), "course")]
    leads = {method: mean_interval(runs.difference((cell_of(method),), HERO, "course"))[0]
             for method in methods}
    rows = [method_row(runs, method) for method in sorted(methods, key=leads.get, reverse=True)]
    return markdown_table(
        ["method", "paper", "worlds", "course, hard", "course, easy", "end", "RM score", "entropy",
         "course minus HERO", "course minus verifier", "half the rate, minus HERO",
         "weak RM, minus HERO", "lucky answers, minus HERO"], rows)


def claim_table(runs):
    """What each paper claims, and what the runs say."""
    rows = []
    for method, claims in CLAIMS.items():
        for claim in claims:
            differences = runs.difference(claim.plus, claim.minus, claim.outcome)
            rows.append([method, verdict_alone(differences), claim.text,
                         f"{' + '.join(claim.plus)} minus {' + '.join(claim.minus)}",
                         claim.outcome, show_difference(differences), str(len(differences))])
    return markdown_table(["method", "verdict", "claim", "difference", "outcome", "value",
                           "worlds"], rows)


def diverse_table(runs):
    """pass@1 and pass@16 on easy problems, after training on easy problems."""
    rows = []
    for method in FOR_DIVERSITY:
        cell = f"diverse / {method}"
        if runs.values(cell, "end"):
            rows.append([method, *(show(runs.values(cell, outcome)) for outcome in
                                   ("end easy", "easy pass@16", "entropy")),
                         str(len(runs.values(cell, "end")))])
    return markdown_table(["easy data", "pass@1", "pass@16", "entropy", "worlds"], rows)


def dapo_table(runs):
    """What DAPO's replacing of groups costs: rollouts and updates."""
    rows = []
    for cell in ("hard / grpo", "hard / dapo", "dapo x 4 / dapo"):
        last = [run[-1] for run in runs.runs.get(cell, {}).values()]
        if not last:
            continue

        # A step samples 16 x 8 rollouts, whether it updates or not.
        steps = last[0]["step"]
        updates = sum(row["updates"] for row in last) / len(last)
        rows.append([cell, f"{steps:.0f}", f"{128 * steps:.0f}", f"{updates:.0f}",
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
            cell = f"{condition} / {IN_STUDY.get(method, method)}"
            scores = runs.values(cell, "score")
            if not scores:
                continue

            # The mean over worlds.
            score = sum(scores) / len(scores)
            truth = sum(runs.values(cell, "end hard")) / len(scores)
            axis.plot(score, truth, "o", ms=4, color=COLORS.get(method, "gray"))
            axis.annotate(method, (score, truth), fontsize=7, xytext=(3, 2),
                          textcoords="offset points")
        axis.set(xlabel="reward model's mean score, hard problems",
                 ylabel="truth: pass@1, hard problems", title=title)
    save_figure(figure, path)


def write_page(folder):
    """Writes neighbors.md and its two figures, from the CSV files."""
    runs = Study(read_runs(folder))
    draw_weights(folder / "neighbors_weights.png")
    draw_hacking(runs, folder / "neighbors_hacking.png")
    seconds = sum(row["seconds"] for row in read_csv(folder / "neighbors.csv")
                  if row["step"] == 0)
    sections = {
        "How to read this page": [
            "`python results/neighbors.py` makes the runs and writes this page;",
            "[DESIGN.md](DESIGN.md) was written before them. `python neighbors.py` says in a",
            "sentence what each method does, and its docstring what was simplified. Runs of",
            f"{FULL.steps} steps at a rate of {RATE:g}, where nothing else is said. The course is",
            f"the mean of pass@1 after {FULL.steps // 2} and {FULL.steps} steps, over hard and",
            "easy problems; on diverse data it is the end. Differences are paired by world, ±",
            "half of the 95 % interval; half the rate is of one world. RM score, at the end and on",
            "hard problems, is of the reward model that the run was trained with. Removed: no",
            "longer in neighbors.py, with two worlds in the last two columns.",
            "", f"{seconds / 3600:.1f} hours of one worker, two at once."],
        "All methods, on hard data": method_table(runs),
        "Claims of the papers": claim_table(runs),
        "Diversity": diverse_table(runs),
        "DAPO": dapo_table(runs),
        "Figures": ["![Weight of a prompt by its accepted rollouts](neighbors_weights.png)", "",
                    "![Truth against the reward model's score](neighbors_hacking.png)"]}
    write_file(folder / "neighbors.md", page("HERO's neighbors", sections))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=120,
                        help="begin no run after this many minutes (default: %(default)s)")
    parser.add_argument("--page", action="store_true", help="no runs, only the page and figures")
    parser.add_argument("--quick", action="store_true",
                        help="a small world and two steps, from nothing, into runs/quick-neighbors")
    args = parser.parse_args()
    os.chdir(ROOT)

    size, folder = FULL, HERE
    if args.quick:
        # From nothing: what an earlier version of the code has left is no test of this one.
        size, folder = QUICK, ROOT / "runs" / "quick-neighbors"
        for path in (folder, size.world(0), size.extras(0)):
            shutil.rmtree(path, ignore_errors=True)
        folder.mkdir(parents=True)

    if not args.page:
        make_runs(folder / "neighbors.csv", size, time.time() + 60 * args.minutes)
    write_page(folder)
    print(f"written to {folder / 'neighbors.md'}")


if __name__ == "__main__":
    main()
