"""Tables and curves."""

import json
import re
from collections import Counter

import numpy as np

# a method has the same colour in every figure: the palette of Okabe and Ito, safe for the
# colour-blind
COLORS = {"verifier": "#0072B2", "rm": "#D55E00", "hero": "#009E73", "hero std": "#56B4E9",
           "naive": "#CC79A7", "gate": "#000000", "cold start": "#999999"}


# ---------------------------------------------------------------------------- tables


def results_table(rows, columns, markdown=False):
    """Aligned plain text, or markdown. rows: list of (name, {column: number, text or None})"""
    def cell(value):
        return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)

    def pad(text, width, left=False):                  # what only colours a text has no width
        space = " " * (width - len(GREY.sub("", text)))
        return text + space if left else space + text
    lines = [["", *columns]] + [[name, *(cell(row.get(c)) for c in columns)] for name, row in rows]
    if markdown:
        return "\n".join(f"| {' | '.join(line)} |" for line in
                         [lines[0], ["---"] * len(lines[0]), *lines[1:]])
    widths = [max(len(GREY.sub("", line[i])) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(pad(text, width, i == 0) for i, (text, width) in
                               enumerate(zip(line, widths, strict=True))) for line in lines)

GREY = re.compile(r"\x1b\[\d*m")


def summary_table(summaries):
    """summaries: {name: compute_metrics(...)} -> str, one row a name, without what nobody has.

    maj and best: majority and best_of_n; AUROC: rm_auroc; cut: truncated. k is their common one.
    """
    names = {"pass@1": "pass@1", "95 % interval": "95 % interval", "pass@k": "pass@k",
             "majority": "maj@k", "best_of_n": "best@k", "verifier": "verifier",
             "precision": "precision", "recall": "recall", "undecided": "undecided", "rm": "rm",
             "rm_auroc": "AUROC", "length": "length", "truncated": "cut"}
    sizes = {s["k"] for s in summaries.values()}
    size = f"@{sizes.pop()}" if len(sizes) == 1 else "@k"
    names = {key: name.replace("@k", size) for key, name in names.items()
             if key in ("95 % interval", "precision", "recall")
             or any(s.get(key) is not None for s in summaries.values())}
    rows = [(name, {names[key]: value for key, value in (
        s | {"95 % interval": f"{s['low']:.3f}-{s['high']:.3f}"}).items() if key in names})
            for name, s in summaries.items()]
    return results_table(rows, list(dict.fromkeys(names.values())))


# ---------------------------------------------------------------------------- curves


def pyplot():
    """matplotlib.pyplot, drawing to files only."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    return plt


def plot_curves(metrics, path, title):
    """curves.png of one run from its metrics rows: accuracy, reward model, groups, policy."""
    plt = pyplot()
    steps = [row for row in metrics if row["step"] > 0]
    names = sorted({key.split("/")[1] for row in metrics for key in row
                    if key.startswith("eval/") and key.endswith("/pass@1")})
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), constrained_layout=True)
    figure.suptitle(title)
    accuracy, scores, groups, policy = axes.flat
    for name, colour in zip(names, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=False):
        rows = [row for row in metrics if f"eval/{name}/pass@1" in row]
        x = [row["step"] for row in rows]
        accuracy.plot(x, [row[f"eval/{name}/pass@1"] for row in rows], color=colour, marker="o",
                      ms=3, label=f"{name}, truth")
        accuracy.fill_between(x, *([row[f"eval/{name}/{end}"] for row in rows]
                                   for end in ("low", "high")), color=colour, alpha=0.15, lw=0)
        accuracy.plot(x, [row[f"eval/{name}/verifier"] for row in rows], color=colour, ls="--",
                      label=f"{name}, verifier")
    accuracy.set(ylabel="held-out pass@1 (share)", ylim=(0, 1))
    for axis, keys, label in (
            (scores, {"rm/mean": "mean", "rm/auroc": "AUROC in mixed groups"},
             "reward model (score; AUROC)"),
            (groups, {"verify/all_wrong": "all wrong", "verify/mixed": "mixed",
                      "verify/all_correct": "all correct"}, "groups of a step (share)"),
            (policy, {"policy/entropy": "entropy (nats a token)",
                      "policy/gradient_norm": "gradient norm"}, "policy")):
        for (key, name), colour in zip(keys.items(), ("#0072B2", "#E69F00", "#009E73"),
                                       strict=False):
            axis.plot([r["step"] for r in steps], [r[key] for r in steps], color=colour, label=name)
        axis.set(ylabel=label)
    for axis in axes.flat:
        axis.set(xlabel="optimisation step (rollout batches)")
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def method_of(config):
    """What COLORS calls a run's method."""
    return config["reward"] + (" std" if config["reward"] == "hero" and config["advantage_norm"] == "std"
                               else "")


def plot_runs(runs, path):
    """Learning curves side by side. runs: list of (config, metrics rows), as a run writes them.

    Runs that differ only in the seed are one line, their mean, in a band from the lowest to the
    highest. A method has its colour in COLORS; runs of one method that differ otherwise have
    different dashes, and the settings that tell them apart in the legend.
    """
    plt, groups = pyplot(), {}
    for config, metrics in runs:
        settings = {k: v for k, v in config.items() if k not in ("seed", "name", "resume")}
        groups.setdefault(json.dumps(settings, sort_keys=True), (settings, []))[1].append(metrics)
    every = [settings for settings, _ in groups.values()]
    differ = [key for key in every[0] if key not in ("reward", "advantage_norm")
              and len({str(settings.get(key)) for settings in every}) > 1]
    logged = {key for _, metrics in runs for row in metrics for key in row}
    panels = {key: f"held-out {key.split('/')[1]} pass@1 (share)" for key in sorted(logged)
              if key.startswith("eval/") and key.endswith("/pass@1")}
    panels |= {"verify/accuracy": "training: verifier accepts (share)",
               "rm/mean": "training: reward model's mean score"}
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.6),
                                constrained_layout=True, squeeze=False)
    for axis, (key, label) in zip(axes[0], panels.items(), strict=True):
        dashes = Counter()
        for settings, seeds in groups.values():
            method = method_of(settings)
            curves = [{row["step"]: row[key] for row in metrics if row.get(key) is not None}
                      for metrics in seeds]
            steps = sorted(set.intersection(*map(set, curves)))
            values = np.array([[curve[step] for step in steps] for curve in curves])
            line, = axis.plot(steps, values.mean(0), color=COLORS.get(method, "#E69F00"),
                              ls=("-", "--", ":", "-.")[dashes[method] % 4],
                              label=", ".join([method, *(f"{k} {settings.get(k)}" for k in differ)])
                              + f" ({len(seeds)} seed{'s' * (len(seeds) > 1)})")
            axis.fill_between(steps, values.min(0), values.max(0), color=line.get_color(),
                              alpha=0.15, lw=0)
            dashes[method] += 1
        axis.set(xlabel="step (rollout batches)", ylabel=label)
    axes[0][0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)
