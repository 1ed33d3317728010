"""What a run or an evaluation shows: tables of numbers, and figures of curves.

    python report.py RUN... --out FILE.png      learning curves of runs, seeds as a band

The page of a run, which a browser shows, is page.py's.
"""

import argparse
import json
import shlex
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pandas as pd

import distributed
from problems import first_line, read_jsonl

# A method has the same color in every figure. The palette is that of Okabe and Ito, which
# color-blind readers can tell apart.
COLORS = {
    "verifier": "#0072B2",
    "rm": "#D55E00",
    "hero": "#009E73",
    "hero std": "#56B4E9",
    "naive": "#CC79A7",
    "oracle": "#000000",
    "cold start": "#999999",
}
OTHER_COLOR = "#E69F00"


# ---------------------------------------------------------------------------- a run's files


def load_run(folder):
    """A run's settings and the rows of its metrics. -> (config, metrics)

    Raises ValueError if the folder is not that of a run that has begun, or of an older version.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} is not the folder of a run: its config.json cannot be read "
                         f"({first_line(error)})") from error

    path = folder / "metrics.jsonl"
    metrics = [row for _, row in read_jsonl(path, required=("step",), skip_torn=True)]
    if not metrics:
        raise ValueError(f"{folder} holds no metrics: give the folder of a run that has begun")
    if any("verify/accuracy" in row for row in metrics):
        raise ValueError(
            f"{path} has the keys of an older version: in it, rename verify/accuracy to "
            "verify/accepted, verify/all_wrong to verify/all_rejected, and verify/all_correct to "
            "verify/all_accepted")
    return config, metrics


def method_of(config):
    """The name in COLORS of a run's method."""
    if config["reward"] == "hero" and config["advantage_norm"] == "std":
        return "hero std"
    return config["reward"]


def flatten(config):
    """{"a": {"b": {"c": 1}}} as {"a/b/c": 1}: what a run was made with, beside its settings."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= {f"{name}/{inner}": each for inner, each in flatten(value).items()}
        else:
            flat[name] = value
    return flat


def evaluation_names(metrics):
    """The names of the held-out sets in a metrics log: "hard" for eval/hard/pass@1. -> sorted"""
    keys = set().union(*metrics)
    return sorted(key.split("/")[1] for key in keys
                  if key.startswith("eval/") and key.endswith("/pass@1"))


def evaluations(metrics, name):
    """A held-out set in a metrics log: a row per evaluation, {"step": 30, "pass@1": 0.5, ...}."""
    prefix = f"eval/{name}/"
    rows = []
    for row in metrics:
        if f"{prefix}pass@1" in row:
            numbers = {key.removeprefix(prefix): value for key, value in row.items()
                       if key.startswith(prefix)}
            rows.append({"step": row["step"]} | numbers)
    return rows


# ---------------------------------------------------------------------------- tables


def results_table(rows, columns, markdown=False):
    """A table of numbers as aligned plain text, or in markdown. -> str

    rows: list of (name, {column: number, text or None}); the names are the first column, and
    columns are the others, in this order. A float has three decimals; what is missing is a dash.
    """
    lines = [["", *columns]]
    for name, values in rows:
        line = [name]
        for column in columns:
            value = values.get(column)
            text = f"{value:.3f}" if isinstance(value, float) else str(value)
            line.append("-" if value is None else text)
        lines.append(line)

    if markdown:
        lines.insert(1, ["---"] * len(lines[0]))
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    # The names are aligned to the left, the numbers to the right.
    widths = [max(map(len, texts)) for texts in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines)


class Metric(NamedTuple):
    """A number of a log or an evaluation, as a table or a line and its legend show it."""
    key: str
    title: str                      # {k}: the number of samples per problem
    number_format: str
    meaning: str


# What eval.compute_metrics computes.
METRICS = [
    Metric("pass@1", "pass@1", ".3f", "share of responses that are right (the oracle)"),
    Metric("interval", "95% interval", "", "of pass@1, by a bootstrap over problems"),
    Metric("pass@k", "pass@{k}", ".3f",
           "share of problems with at least one right response among {k}"),
    Metric("majority", "maj@{k}", ".3f", "share of problems whose most frequent answer is right"),
    Metric("best_of_n", "best@{k}", ".3f",
           "share of problems whose response with the best RM score is right"),
    Metric("verifier", "verifier", ".3f", "share of responses that the verifier accepts"),
    Metric("precision", "precision", ".3f", "share of the accepted responses that are right"),
    Metric("recall", "recall", ".3f", "share of the right responses that are accepted"),
    Metric("undecided", "undecided", ".3f", "share of responses that the judge left undecided"),
    Metric("rm", "RM score", ".2f", "mean score of the reward model (RM)"),
    Metric("rm_auroc", "RM AUROC", ".3f",
           "chance that the RM scores a right response above a wrong one"),
    Metric("length", "length", ".1f", "mean tokens per response"),
    Metric("truncated", "truncated", ".3f", "share of responses cut at the longest length"),
]

# What the line of a step shows of the step's metrics.
STEP_METRICS = [
    Metric("verify/accepted", "verifier", ".3f", "share of responses that the verifier accepts"),
    Metric("verify/all_rejected", "all rejected", ".2f",
           "share of groups in which it accepts none"),
    Metric("rm/mean", "rm", ".2f", "mean score of the reward model (RM)"),
    Metric("rm/auroc", "auroc", ".2f",
           "chance that the RM puts an accepted response above a rejected one"),
    Metric("policy/entropy", "entropy", ".2f", "of the policy, in nats per token"),
    Metric("policy/gradient_norm", "grad", ".2f", "norm of the gradient, before it is clipped"),
    Metric("rollout/length", "length", ".0f", "mean tokens per response"),
]


def summary_table(summaries, markdown=False):
    """The numbers of several evaluations beside each other, as results_table shows them. -> str

    summaries: {name: compute_metrics(...)}. One row per metric and one column per name; metrics
    that no summary contains are omitted. summary_legend explains the rows.
    """
    rows = []
    for metric in shown_metrics(summaries):
        texts = {}
        for name, summary in summaries.items():
            value = with_interval(summary).get(metric.key)
            texts[name] = None if value is None else format(value, metric.number_format)
        rows.append((metric.title, texts))
    return results_table(rows, list(summaries), markdown)


def summary_legend(summaries):
    """What the rows of summary_table(summaries) mean, one line per metric. -> str"""
    return legend(shown_metrics(summaries))


def shown_metrics(summaries):
    """The METRICS that at least one summary contains, with k in their texts filled in."""
    ks = {summary["k"] for summary in summaries.values()}
    k = ks.pop() if len(ks) == 1 else "k"

    shown = []
    for metric in METRICS:
        if metric.key in ("pass@k", "majority", "best_of_n") and k == 1:
            continue                                        # of one sample, all are pass@1
        if any(metric.key in with_interval(summary) for summary in summaries.values()):
            shown.append(metric._replace(title=metric.title.format(k=k),
                                         meaning=metric.meaning.format(k=k)))
    return shown


def with_interval(summary):
    return summary | {"interval": f"{summary['low']:.3f}-{summary['high']:.3f}"}


def legend(metrics):
    """What each of a list of Metric means, a line each. -> str"""
    width = max(len(metric.title) for metric in metrics)
    return "\n".join(f"{metric.title:{width}}  {metric.meaning}" for metric in metrics)


# ---------------------------------------------------------------------------- one run as text


def format_metrics(metrics):
    """The metrics of a step that a person watches, on one line; step_legend explains it. -> str

    About 100 columns, and 12 or so more per held-out set in a step with an evaluation.
    """
    parts = []
    for metric in STEP_METRICS:
        value = metrics.get(metric.key)
        if value is not None:
            parts.append(f"{metric.title} {value:{metric.number_format}}")
    for name in evaluation_names([metrics]):
        parts.append(f"{name} {metrics[f'eval/{name}/pass@1']:.3f}")
    return f"step {metrics['step']:3d} {'  '.join(parts)}"


def step_legend():
    """What the names in the line of a step mean, for the start of a run. -> str"""
    held_out = Metric("", "other names", "", "pass@1 on the held-out problems of that name")
    return legend([*STEP_METRICS, held_out])


def before_and_after(metrics):
    """A run's first and last evaluation, for summary_table. -> {"NAME, before": numbers}"""
    summaries = {}
    for name in evaluation_names(metrics):
        rows = evaluations(metrics, name)
        summaries |= {f"{name}, before": rows[0], f"{name}, after": rows[-1]}
    return summaries


def run_summary(cfg, metrics, folder, changed):
    """What a finished run has reached, where to look, and what to try next. -> str

    cfg: its hero.Config. metrics: the rows of its metrics.jsonl, evaluations first and last.
    changed: {name: value}, its settings that differ from the defaults, but for those that are
    about one run only (name, resume, config).
    """
    summaries = before_and_after(metrics)
    lines = ["", f"held-out problems, responses per problem: {cfg.eval_samples} (T 0.6, top-p "
             "0.95)", "",
             summary_table(summaries), "", summary_legend(summaries), "",
             f"page:     {folder}/report.html (curves and samples; open it in a browser)",
             f"curves:   {folder}/curves.png", f"samples:  {folder}/rollouts.jsonl",
             f"share it: hf upload USER/MODEL {folder}/final", "",
             "try next:"]

    # The same run with another reward, so that nothing else tells the two apart.
    for reward in ("hero", "verifier", "rm"):
        if reward == cfg.reward:
            continue
        words = ["python", "hero.py", "--reward", reward]
        for name, value in changed.items():
            if name != "reward":
                words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        lines.append("  " + shlex.join(words))
    return "\n".join(lines)


# ---------------------------------------------------------------------------- curves of one run


def pyplot():
    """matplotlib.pyplot, set up to draw to files only."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    return plt


def plot_curves(metrics, path, title):
    """Draws curves.png of one run: accuracy, reward model, groups, and policy over the steps.

    metrics: the rows of the run's metrics.jsonl. Every axis shows one quantity.
    """
    plt = pyplot()
    figure, axes = plt.subplots(2, 3, figsize=(13, 7), constrained_layout=True)
    figure.suptitle(title)
    accuracy, score, auroc, groups, entropy, norm = axes.flat

    draw_accuracy(accuracy, metrics)
    steps = [row for row in metrics if row["step"] > 0]     # step 0 is only an evaluation
    draw_metrics(score, steps, "reward model's mean score", {"rm/mean": None})
    draw_metrics(auroc, steps, "AUROC in mixed groups", {"rm/auroc": None})
    draw_metrics(groups, steps, "groups of a step (share)", {
        "verify/all_rejected": "all rejected",
        "verify/mixed": "mixed",
        "verify/all_accepted": "all accepted"})
    draw_metrics(entropy, steps, "entropy (nats per token)", {"policy/entropy": None})
    draw_metrics(norm, steps, "gradient norm", {"policy/gradient_norm": None})

    # A legend stands above its axis, so that it covers no line.
    for axis in axes.flat:
        axis.set(xlabel="optimization step (rollout batches)")
        if axis.get_legend_handles_labels()[1]:
            axis.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=2, frameon=False,
                        fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_accuracy(axis, metrics):
    """Each held-out set's pass@1 with its interval, and what the verifier accepts (dashed)."""
    for name, color in zip(evaluation_names(metrics), ("#0072B2", "#D55E00", "#009E73", "#CC79A7"),
                           strict=False):
        rows = pd.DataFrame(evaluations(metrics, name))
        axis.plot(rows["step"], rows["pass@1"], color=color, marker="o", ms=3,
                  label=f"{name}, truth")
        axis.fill_between(rows["step"], rows["low"], rows["high"], color=color, alpha=0.15, lw=0)
        axis.plot(rows["step"], rows["verifier"], color=color, ls="--", label=f"{name}, verifier")
    axis.set(ylabel="held-out pass@1 (share)", ylim=(0, 1))


def draw_metrics(axis, rows, ylabel, labels):
    """Several keys of a metrics log over the steps: the values faint, their running mean solid.

    labels: {key: label in the legend, None for none}
    """
    frame = pd.DataFrame(rows, columns=["step", *labels], dtype=float)
    reach = len(frame) // 20                                # rows to both sides of each
    means = frame.rolling(2 * reach + 1, center=True, min_periods=1).mean()
    for key, color in zip(labels, ("#0072B2", "#E69F00", "#009E73"), strict=False):
        axis.plot(frame["step"], frame[key], color=color, alpha=0.3, lw=1)
        axis.plot(frame["step"], means[key], color=color, lw=1.8, label=labels[key])
    axis.set(ylabel=ylabel)


# ---------------------------------------------------------------------------- curves of many runs


class Group(NamedTuple):
    """The runs that differ only in the seed."""
    settings: dict
    seeds: list                     # of one run's metrics rows each


def plot_runs(runs, path):
    """Draws the learning curves of several runs beside each other.

    runs: list of (config, metrics rows), as a run writes them. Runs that differ only in the seed
    are one line, their mean, in a band from the lowest to the highest. A method has its color in
    COLORS. Runs of one method that differ otherwise have different dashes, and the settings that
    tell them apart in the legend.
    """
    groups = group_by_settings(runs)
    rows = [row for _, metrics in runs for row in metrics]
    panels = {f"eval/{name}/pass@1": f"held-out {name} pass@1 (share)"
              for name in evaluation_names(rows)}
    panels["verify/accepted"] = "training: verifier accepts (share)"
    panels["rm/mean"] = "training: reward model's mean score"

    plt = pyplot()
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.6),
                                constrained_layout=True, squeeze=False)
    for axis, (key, ylabel) in zip(axes[0], panels.items(), strict=True):
        draw_panel(axis, key, groups)
        axis.set(xlabel="step (rollout batches)", ylabel=ylabel)
    axes[0][0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def group_by_settings(runs):
    """runs: list of (config, metrics rows). -> list of Group, in the order of the first of each"""
    groups = {}
    for config, metrics in runs:
        settings = dict(config)
        for name in ("seed", "name", "resume", "config", "track", "made_with"):
            settings.pop(name, None)
        key = json.dumps(settings, sort_keys=True)
        groups.setdefault(key, Group(settings, [])).seeds.append(metrics)
    return list(groups.values())


def draw_panel(axis, key, groups):
    """One key of the metrics logs: a line and a band per group."""
    # The settings that tell groups apart, but for those that decide the method.
    settings = pd.DataFrame([group.settings for group in groups]).astype(str)
    differing = settings.columns[settings.nunique() > 1]
    differing = differing.difference(["reward", "advantage_norm"], sort=False)

    drawn = Counter()                                       # lines per method, for their dashes
    for group in groups:
        method = method_of(group.settings)
        label = [method]
        for name in differing:
            label.append(f"{name} {group.settings.get(name)}")
        count = len(group.seeds)
        seeds = "1 seed" if count == 1 else f"{count} seeds"

        # A column per seed, and a row per step at which all of them have a value.
        columns = []
        for metrics in group.seeds:
            columns.append({row["step"]: row.get(key) for row in metrics})
        curves = pd.DataFrame(columns, dtype=float).T.sort_index().dropna()

        line, = axis.plot(curves.index, curves.mean(axis=1), color=COLORS.get(method, OTHER_COLOR),
                          ls=("-", "--", ":", "-.")[drawn[method] % 4],
                          label=f"{', '.join(label)} ({seeds})")
        axis.fill_between(curves.index, curves.min(axis=1), curves.max(axis=1),
                          color=line.get_color(), alpha=0.15, lw=0)
        drawn[method] += 1


# ---------------------------------------------------------------------------- the command line


def main():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description="Draws the learning curves of runs. Runs that differ only in the seed are one "
                    "line, their mean, in a band from the lowest to the highest.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="The folder of a run: runs/NAME.")
    parser.add_argument("--out", default="curves.png",
                        help="The PNG file to write. The default is %(default)s.")
    args = parser.parse_args()

    runs = [load_run(folder) for folder in args.runs]
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    plot_runs(runs, args.out)
    print(f"written to {args.out}")


if __name__ == "__main__":
    distributed.run(main)
