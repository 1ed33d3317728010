"""The README's first table: verifier-only, RM-only and HERO on hard problems, three seeds each.

    python results/first_table.py             about 15 minutes on two cores; done runs are skipped

Writes first_table.csv (one row a run and evaluation), first_table.md and first_table.png beside
this file, from the metrics.jsonl of the runs it makes in runs/first-*.
"""

import csv
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
METHODS = {"verifier only": (["--reward", "verifier"], "#0072B2"),
           "RM only": (["--reward", "rm"], "#D55E00"),
           "RM only, 3 x the learning rate": (["--reward", "rm", "--learning_rate", "1e-4"],
                                              "#E69F00"),
           "HERO": (["--reward", "hero"], "#009E73")}


def run(method, seed):
    """One training run in a process of its own, unless it is there. -> rows of its metrics.jsonl"""
    name = f"first-{method.replace(' ', '_').replace(',', '')}-{seed}"
    folder = HERE.parent / "runs" / name
    if not (folder / "final").exists():
        resume = ["--resume"] if folder.exists() else [*METHODS[method][0], "--seed", str(seed)]
        subprocess.run([sys.executable, "hero.py", "--name", name, *resume], cwd=HERE.parent,
                       check=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def main():
    subprocess.run([sys.executable, "tiny.py"], cwd=HERE.parent, check=True)
    jobs = [(method, seed) for seed in SEEDS for method in METHODS]
    with ThreadPoolExecutor(2) as pool:
        runs = dict(zip(jobs, pool.map(lambda job: run(*job), jobs), strict=True))

    keys = [f"eval/{name}/{key}" for name in ("hard", "easy")
            for key in ("pass@1", "verifier", "precision", "recall", "rm", "rm_auroc")]
    with open(HERE / "first_table.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["method", "seed", "step", *keys, "rm/auroc"])
        for (method, seed), rows in runs.items():
            table.writerows([method, seed, row["step"], *(row[key] for key in keys),
                             row.get("rm/auroc")] for row in rows if keys[0] in row)

    def ends(method, key, which):
        return np.array([runs[method, seed][which][key] for seed in SEEDS])

    def cell(values):
        return f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})"
    lines = ["| trained on hard problems, 60 steps | hard pass@1 | easy pass@1 | "
             "RM score, hard | RM AUROC against the truth, hard |", "|---|---|---|---|---|"]
    columns = ("eval/hard/pass@1", "eval/easy/pass@1", "eval/hard/rm", "eval/hard/rm_auroc")
    for name, method, which in [("cold start", "HERO", 0)] + [(m, m, -1) for m in METHODS]:
        lines.append(f"| {name} | " + " | ".join(cell(ends(method, key, which))
                                                 for key in columns) + " |")
    before = runs["HERO", 0][0]
    mixed = [row["rm/auroc"] for seed in SEEDS for row in runs["HERO", seed][1:11]
             if row["rm/auroc"] is not None]
    lines += ["", "Mean of three seeds (lowest to highest). The verifier on the hard problems, "
              f"cold start, seed 0: precision {before['eval/hard/precision']:.3f}, recall "
              f"{before['eval/hard/recall']:.3f}. RM AUROC against the verifier's verdicts in the "
              f"mixed training groups of HERO's first ten steps: {np.mean(mixed):.3f}."]
    (HERE / "first_table.md").write_text("\n".join(lines) + "\n")

    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), constrained_layout=True)
    for axis, key, label in ((axes[0], "eval/hard/pass@1", "held-out hard pass@1 (share)"),
                             (axes[1], "eval/hard/rm", "reward model's mean score")):
        for method, (_, colour) in METHODS.items():
            curves = [[(row["step"], row[key]) for row in runs[method, seed] if key in row]
                      for seed in SEEDS]
            steps, values = [step for step, _ in curves[0]], np.array(curves)[:, :, 1]
            axis.plot(steps, values.mean(0), color=colour, label=method)
            axis.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)
        axis.set(xlabel="step (rollout batches of 16 prompts x 8)", ylabel=label)
    axes[0].set_ylim(0, 1)
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(HERE / "first_table.png", dpi=120)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
