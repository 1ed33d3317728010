"""Tables and figures of the study, from its CSV files alone: called by study.py.

A mean over seeds stands with its 95 % interval (Student's t over the runs, n of them); a difference
is paired: the same seed and world with the other method.
"""

from pathlib import Path

import matplotlib
import numpy as np
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from eval import COLORS  # noqa: E402
from rewards import auroc  # noqa: E402

T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
STYLE = {"verifier": ("verifier", "-"), "RM only": ("rm", "-"), "HERO": ("hero", "-"),
         "HERO std": ("hero std", "-"), "naive 0.1": ("naive", ":"), "naive 0.5": ("naive", "-"),
         "naive 0.9": ("naive", "--"), "HERO gate": ("gate", "-"), "HERO std gate": ("gate", "--"),
         "RM only, 1e-4": ("rm", "--")}
ONE_RATE = ("1e-05", "3e-05", "6e-05", "0.0001")
TABLE_2 = ("verifier", "RM only", "HERO", "HERO std", "naive 0.1", "naive 0.5", "naive 0.9")
ABLATIONS = {                                          # row: cell, by the figure of the paper
    "Fig. 2a, dense range": {"none (verifier only)": "verifier", "correct only": "dense correct",
                             "wrong only": "dense wrong", "both (HERO)": "HERO"},
    "Fig. 2b, alpha and beta": {"0.05, 0.05": "HERO", "0.1, 0.1": "alpha 0.1 beta 0.1",
                                "0.2, 0.2": "alpha 0.2 beta 0.2",
                                "0.05, 0.2": "alpha 0.05 beta 0.2",
                                "0.2, 0.05": "alpha 0.2 beta 0.05"},
    "Table 4, weight, mean-only": {"none": "no weight", "on the reward": "weight on reward",
                                   "on the advantage": "HERO"},
    "Table 4, weight, std": {"none": "std, no weight", "on the reward": "std, weight on reward",
                             "on the advantage": "HERO std"}}


def mean_interval(values):
    """Mean and half width of its 95 % interval; nan for fewer than two values."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return values.mean() if len(values) else np.nan, np.nan
    return values.mean(), T95[len(values)] * values.std(ddof=1) / len(values) ** 0.5


def shown(values, sign=False):
    mean, half = mean_interval(values)
    return "-" if np.isnan(mean) else f"{mean:{'+' if sign else ''}.3f}" + (
        "" if np.isnan(half) else f" ± {half:.3f}")


class Runs:
    """study_runs.csv by cell and seed."""

    def __init__(self, rows):
        self.cells = {}
        for row in rows:
            self.cells.setdefault(row["cell"], {})[row["seed"]] = row

    def values(self, cell, column):
        return [row[column] for row in self.cells.get(cell, {}).values()]

    def minus(self, cell, other, column):
        """Paired differences over the seeds that both have."""
        one, two = self.cells.get(cell, {}), self.cells.get(other, {})
        return [one[seed][column] - two[seed][column] for seed in one if seed in two]

    def row(self, name, cell, other):
        """A line of a table: both accuracies, and the paired difference to the cell `other`."""
        count = len(self.cells.get(cell, {}))
        rates = sorted(set(self.values(cell, "learning_rate")))
        rate = f"{rates[0]:g}" if rates else "-"
        difference = "" if cell == other else shown(self.minus(cell, other, "hard pass@1"), True)
        return (f"| {name} | {shown(self.values(cell, 'hard pass@1'))} | "
                f"{shown(self.values(cell, 'easy pass@1'))} | {difference} | "
                f"{shown(self.values(cell, 'hard rm'))} | {rate} | {count} |")


HEAD = ["| {} | hard pass@1 | easy pass@1 | hard, minus {} | RM score, hard | rate | runs |",
        "|---|---|---|---|---|---|---|"]


def head(first, other):
    return [HEAD[0].format(first, other), HEAD[1]]


def curve(rows, cell, column, window=1):
    """{step: a value a seed} of study_curves.csv; each the mean of the `window` steps up to it."""
    seeds = {}
    for row in rows:
        if row["cell"] == cell and row[column] is not None:
            key = row["seed"], -(-int(row["step"]) // window) * window
            seeds.setdefault(key, []).append(row[column])
    steps = {}
    for (_, step), values in seeds.items():
        steps.setdefault(step, []).append(np.mean(values))
    return steps


def steps_to(rows, cell, target):
    """First step at which the mean curve of a cell reaches target, linear in between, or None."""
    points = sorted((step, np.mean(v)) for step, v in curve(rows, cell, "hard").items())
    for (a, low), (b, high) in zip(points, points[1:], strict=False):
        if high >= target > low:
            return a + (b - a) * (target - low) / (high - low)
    return None


def table_2(runs, curves):
    lines = head("trained on / method", "verifier")
    lines[0] += " steps to verifier's end |"
    lines[1] += "---|"
    for regime in ("easy", "hard", "mixed"):
        ends = curve(curves, f"{regime} / verifier", "hard")
        target = np.mean(ends[max(ends)]) if ends else np.inf
        for method in TABLE_2:
            step = steps_to(curves, f"{regime} / {method}", target)
            lines.append(runs.row(f"{regime} / {method}", f"{regime} / {method}",
                                  f"{regime} / verifier")
                         + f" {'-' if step is None else f'{step:.0f}'} |")
    return lines


def one_rate(runs):
    """The same learning rate for every method, one rate after another."""
    lines = head("hard data, rate / method", "verifier")
    for rate in ONE_RATE:
        lines += [runs.row(f"{rate} / {name}", f"rate {rate} / {name}", f"rate {rate} / verifier")
                  for name in ("verifier", "RM only", "HERO")]
    return lines


def ablations(runs):
    lines = head("on hard data", "HERO")
    for title, cells in ABLATIONS.items():
        lines += [runs.row(f"{title}: {name}", f"hard / {cell}", "hard / HERO")
                  for name, cell in cells.items()]
    return lines


def gate(runs):
    lines = head("reward model / method", "verifier")
    for regime, methods in (("hard", ("verifier", "RM only", "naive 0.5", "HERO", "HERO gate",
                                      "HERO std", "HERO std gate")),
                            ("misleading", ("RM only", "naive 0.5", "HERO", "HERO gate",
                                            "HERO std", "HERO std gate", "no weight",
                                            "dense correct"))):
        good = "good" if regime == "hard" else regime
        lines += [runs.row(f"{good} / {name}", f"{regime} / {name}", "hard / verifier")
                  for name in methods]
    lines += ["", "| the gate's claim, hard pass@1, paired | difference |", "|---|---|"]
    for name, one, two in (
            ("good RM: HERO gate minus HERO", "hard / HERO gate", "hard / HERO"),
            ("good RM: HERO std gate minus HERO std", "hard / HERO std gate", "hard / HERO std"),
            ("misleading RM: HERO gate minus verifier", "misleading / HERO gate",
             "hard / verifier"),
            ("misleading RM: HERO std gate minus verifier", "misleading / HERO std gate",
             "hard / verifier"),
            ("misleading RM: HERO gate minus HERO", "misleading / HERO gate", "misleading / HERO"),
            ("misleading RM: HERO std gate minus HERO std", "misleading / HERO std gate",
             "misleading / HERO std")):
        lines.append(f"| {name} | {shown(runs.minus(one, two, 'hard pass@1'), True)} |")
    return lines


def share(runs):
    lines = ["| hard share of the training problems | " + " | ".join(
        f"{method}: hard / easy" for method in ("verifier", "RM only", "HERO")) + " |",
        "|---|---|---|---|"]
    for percent, prefix in ((0, "easy"), (25, "share 25"), (50, "mixed"), (75, "share 75"),
                            (100, "hard")):
        cells = [" / ".join(shown(runs.values(f"{prefix} / {method}", f"{part} pass@1"))
                            for part in ("hard", "easy"))
                 for method in ("verifier", "RM only", "HERO")]
        lines.append(f"| {percent} % | " + " | ".join(cells) + " |")
    return lines


def sweep(rows, rates, kinds):
    lines = ["| validation accuracy, hard | " + " | ".join(f"{rate:g}" for rate in rates) + " |",
             "|---|" + "---|" * len(rates)]
    for kind in kinds:
        values = [[row["validation hard"] for row in rows if row["cell"] ==
                   f"sweep {rate:g} / {kind}"] for rate in rates]
        lines.append(f"| {kind} | " + " | ".join(
            f"{np.mean(v):.3f} ({min(v):.3f}-{max(v):.3f})" if v else "-" for v in values) + " |")
    return lines


def table_1(cold):
    """Verifier and RM thresholds against the truth, on cold-start responses to hard problems."""
    right = np.array([row["right"] for row in cold]) > 0
    rm = np.array([row["rm"] for row in cold])
    lines = ["| on cold-start responses to hard problems | recall | precision | false positives | "
             "accuracy |", "|---|---|---|---|---|"]
    named = {"verifier": np.array([row["correct"] for row in cold]) > 0}
    named |= {f"reward model above {t:.2f} (its {q} % point)": rm > t
              for q, t in ((q, np.percentile(rm, q)) for q in (50, 70, 80, 90))}
    for name, yes in named.items():
        numbers = (yes[right].mean(), right[yes].mean(), yes[~right].mean(), (yes == right).mean())
        lines.append(f"| {name} | " + " | ".join(f"{100 * x:.1f} %" for x in numbers) + " |")
    return lines


def table_6(cold):
    """AUROC of the reward model in each group of eight: against the verdicts and the truth."""
    lines = ["| AUROC a group, cold start, hard | groups | mean | median | at least 0.9 | "
             "0.4 to 0.6 |", "|---|---|---|---|---|---|"]
    groups = {}
    for row in cold:
        groups.setdefault((row["reward model"], row["world"], row["group"]), []).append(row)
    for model in ("good", "misleading"):
        for label in ("correct", "right"):
            values = np.array([v for key, rows in groups.items() if key[0] == model for v in [auroc(
                torch.tensor([r["rm"] for r in rows]), torch.tensor([r[label] for r in rows]))]
                if v == v])
            name = "the verifier's verdicts" if label == "correct" else "the truth"
            lines.append(f"| {model} RM against {name} | {len(values)} | {values.mean():.2f} | "
                         f"{np.median(values):.2f} | {100 * (values >= 0.9).mean():.0f} % | "
                         f"{100 * ((values >= 0.4) & (values <= 0.6)).mean():.0f} % |")
    return lines


def hacked(samples):
    """The three best-liked wrong responses at the end of RM-only training at 1e-4."""
    rows = sorted((row for row in samples if row["cell"] == "rate 0.0001 / RM only"),
                  key=lambda row: -row["rm"])
    lines = ["| problem | reference | response | RM score |", "|---|---|---|---|"]
    seen = set()
    for row in rows:
        if row["problem"] not in seen and len(seen) < 3:
            seen.add(row["problem"])
            lines.append(f"| {row['problem']} | {row['reference']} | `{row['response']}` | "
                         f"{row['rm']:.2f} |")
    return lines


# ---------------------------------------------------------------------------- figures


def band(axis, rows, cell, column, label, window=1):
    """Mean over seeds as a line, lowest to highest as a band."""
    steps = curve(rows, cell, column, window)
    if not steps:
        return
    colour, line = STYLE[label]
    x = sorted(steps)
    axis.plot(x, [np.mean(steps[s]) for s in x], color=COLORS[colour], ls=line, label=label)
    axis.fill_between(x, [min(steps[s]) for s in x], [max(steps[s]) for s in x],
                      color=COLORS[colour], alpha=0.12, lw=0)


def finish(figure, axes, path, xlabel="step (batches of 16 prompts x 8 rollouts)"):
    for axis in np.ravel(axes):
        axis.set_xlabel(xlabel)
        axis.spines[["top", "right"]].set_visible(False)
    np.ravel(axes)[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw(curves, out):
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.6), sharey=True, constrained_layout=True)
    for axis, rate in zip(axes, ONE_RATE, strict=True):
        for method in ("verifier", "RM only", "HERO"):
            band(axis, curves, f"rate {rate} / {method}", "hard", method)
        axis.set(title=f"learning rate {rate}", ylim=(0, 1))
    axes[0].set_ylabel("hard validation pass@1 (share)")
    finish(figure, axes, out / "study_rates.png")

    figure, axes = plt.subplots(2, 3, figsize=(12, 7), sharey=True, constrained_layout=True)
    for column, regime in enumerate(("easy", "mixed", "hard")):
        for row, part in enumerate(("hard", "easy")):
            for method in ("verifier", "RM only", "HERO", "HERO std", "naive 0.5"):
                band(axes[row, column], curves, f"{regime} / {method}", part, method)
            axes[row, column].set(title=f"trained on {regime} problems",
                                  ylabel=f"{part} validation pass@1 (share)", ylim=(0, 1))
    finish(figure, axes, out / "study_curves.png")

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    for cell, method in (("hard / RM only", "RM only"), ("rate 0.0001 / RM only", "RM only, 1e-4"),
                         ("hard / HERO", "HERO"), ("hard / verifier", "verifier")):
        band(axes[0], curves, cell, "hard rm", method)
        band(axes[1], curves, cell, "hard", method)
    axes[0].set_ylabel("reward model's mean score (logit)")
    axes[1].set(ylabel="hard validation pass@1 (share)", ylim=(0, 1))
    finish(figure, axes, out / "study_hacking.png")

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), constrained_layout=True)
    for axis, regime, title in zip(axes, ("hard", "misleading"), (
            "reward model that transfers", "reward model that misleads"), strict=False):
        for method in ("HERO", "HERO gate", "HERO std", "HERO std gate", "RM only"):
            band(axis, curves, f"{regime} / {method}", "hard", method)
        band(axis, curves, "hard / verifier", "hard", "verifier")
        axis.set(title=title, ylabel="hard validation pass@1 (share)", ylim=(0, 1))
    band(axes[2], curves, "hard / HERO gate", "reliability", "HERO gate")
    band(axes[2], curves, "misleading / HERO gate", "reliability", "RM only")
    for line, name in zip(axes[2].get_lines(), ("transfers", "misleads"), strict=False):
        line.set_label(f"reward model {name}")
    axes[2].legend(frameon=False, fontsize=8)
    axes[2].set(title="the gate, HERO", ylabel="reliability (2 AUROC - 1)", ylim=(0, 1))
    finish(figure, axes, out / "study_gate.png")

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    for method in ("verifier", "RM only", "HERO", "HERO std"):
        band(axes[0], curves, f"hard / {method}", "auroc", method, 10)
        band(axes[1], curves, f"hard / {method}", "all wrong", method, 10)
    axes[0].set_ylabel("RM AUROC against verdicts, mixed groups")
    axes[1].set_ylabel("groups the verifier calls all wrong (share)")
    finish(figure, axes, out / "study_groups.png", "step, means over ten (batches of 16 x 8)")


def tables(read, out, rates, kinds):
    """study.md, from the CSV files in `out`."""
    runs, curves, samples, cold = (read(Path(out) / f"study_{name}.csv")
                                   for name in ("runs", "curves", "samples", "cold_start"))
    table = Runs(runs)
    parts = {
        "Table 2 in miniature": table_2(table, curves),
        "The same rate for all": one_rate(table),
        "Fig. 2a, 2b and Table 4 in miniature": ablations(table),
        "A misleading reward model, and the gate": gate(table),
        "The share of hard problems": share(table),
        "Table 1 in miniature": table_1([row for row in cold if row["reward model"] == "good"]),
        "Fig. 6 in miniature": table_6(cold),
        "Three hacked samples": hacked(samples),
        "Learning rates": sweep(runs, rates, kinds)}
    text = "\n\n".join(f"## {title}\n\n" + "\n".join(lines) for title, lines in parts.items())
    return f"# The study's tables\n\n{text}\n"


def report(read, out, rates, kinds):
    """Writes study.md and the figures into `out` from the CSV files there."""
    (out / "study.md").write_text(tables(read, out, rates, kinds), encoding="utf-8")
    draw(read(out / "study_curves.csv"), out)
