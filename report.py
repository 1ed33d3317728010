"""What a run or an evaluation shows: tables of numbers, and figures of learning curves."""

import json
from collections import Counter
from typing import NamedTuple

import numpy as np

# A method has the same color in every figure. The palette is that of Okabe and Ito, which
# color-blind readers can tell apart.
COLORS = {"verifier": "#0072B2", "rm": "#D55E00", "hero": "#009E73", "hero std": "#56B4E9",
          "naive": "#CC79A7", "oracle": "#000000",
          "cold start": "#999999"}
OTHER_COLOR = "#E69F00"


# ---------------------------------------------------------------------------- tables


def results_table(rows, columns, markdown=False):
    """A table of numbers as aligned plain text, or in markdown. -> str

    rows: list of (name, {column: number, text or None}); the names are the first column, and
    columns are the others, in this order. A float has three decimals; what is missing is a dash.
    """
    lines = [["", *columns]]
    for name, values in rows:
        lines.append([name, *(cell(values.get(column)) for column in columns)])

    if markdown:
        lines.insert(1, ["---"] * len(lines[0]))
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    widths = [max(map(len, texts)) for texts in zip(*lines, strict=True)]
    return "\n".join(aligned(line, widths) for line in lines)


def cell(value):
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value)


def aligned(texts, widths):
    """One line of a plain table: the first text is aligned to the left, the others to the right."""
    padded = [texts[0].ljust(widths[0])]
    for text, width in zip(texts[1:], widths[1:], strict=True):
        padded.append(text.rjust(width))
    return "  ".join(padded)


class Metric(NamedTuple):
    """One number of eval.compute_metrics, as the table and its legend show it."""
    key: str
    title: str                      # {k}: the number of samples per problem
    number_format: str
    meaning: str


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


def summary_table(summaries):
    """The numbers of several evaluations beside each other, as aligned text. -> str

    summaries: {name: compute_metrics(...)}. One row per metric and one column per name; metrics
    that no summary contains are omitted. summary_legend explains the rows.
    """
    rows = []
    for metric in shown_metrics(summaries):
        values = {name: metric_text(metric, summary) for name, summary in summaries.items()}
        rows.append((metric.title, values))
    return results_table(rows, list(summaries))


def summary_legend(summaries):
    """What the rows of summary_table(summaries) mean, one line per metric. -> str"""
    metrics = shown_metrics(summaries)
    width = max(len(metric.title) for metric in metrics)
    return "\n".join(f"{metric.title:{width}}  {metric.meaning}" for metric in metrics)


def shown_metrics(summaries):
    """The METRICS that at least one summary contains, with k in their texts filled in."""
    ks = {summary["k"] for summary in summaries.values()}
    k = ks.pop() if len(ks) == 1 else "k"

    shown = []
    for metric in METRICS:
        if metric.key in ("pass@k", "majority", "best_of_n") and k == 1:
            continue                                        # of one sample, all are pass@1
        key = "low" if metric.key == "interval" else metric.key
        if any(key in summary for summary in summaries.values()):
            shown.append(metric._replace(title=metric.title.format(k=k),
                                         meaning=metric.meaning.format(k=k)))
    return shown


def metric_text(metric, summary):
    """The number of a summary as text; None if it has none."""
    if metric.key == "interval":
        return f"{summary['low']:.3f}-{summary['high']:.3f}"
    value = summary.get(metric.key)
    return None if value is None else format(value, metric.number_format)


# ---------------------------------------------------------------------------- one run as text


def format_metrics(metrics):
    """The metrics of a step that a person watches, on one line. -> str

    About 100 columns, and 12 or so more per held-out set in a step with an evaluation.
    """
    parts = [f"step {metrics['step']:3d}"]
    for title, key, number_format in (
            ("verifier", "verify/accuracy", ".3f"), ("all wrong", "verify/all_wrong", ".2f"),
            ("rm", "rm/mean", ".2f"), ("auroc", "rm/auroc", ".2f"),
            ("entropy", "policy/entropy", ".3f"), ("grad", "policy/gradient_norm", ".2f"),
            ("length", "rollout/length", ".0f")):
        if metrics.get(key) is not None:
            parts.append(f"{title} {metrics[key]:{number_format}}")
    for name in evaluation_names([metrics]):
        parts.append(f"{name} {metrics[f'eval/{name}/pass@1']:.3f}")
    return "  ".join(parts)


def run_summary(cfg, metrics, folder):
    """What a finished run has reached, where to look, and what to try next. -> str

    cfg: its hero.Config. metrics: the rows of its metrics.jsonl, evaluations first and last.
    """
    summaries = {}
    for name in evaluation_names(metrics):
        for when, row in (("before", metrics[0]), ("after", metrics[-1])):
            prefix = f"eval/{name}/"
            summaries[f"{name}, {when}"] = {key.removeprefix(prefix): value
                                            for key, value in row.items() if key.startswith(prefix)}
    lines = ["", f"held-out problems, responses per problem: {cfg.eval_samples} (T 0.6, top-p "
             "0.95)", "",
             summary_table(summaries), "", summary_legend(summaries), "",
             f"curves:   {folder}/curves.png", f"samples:  {folder}/rollouts.jsonl", "",
             "try next:"]
    for reward in ("hero", "verifier", "rm"):
        if reward != cfg.reward:
            lines.append(f"  python hero.py --reward {reward} --regime {cfg.regime} "
                         f"--seed {cfg.seed}")
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

    metrics: the rows of the run's metrics.jsonl.
    """
    plt = pyplot()
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), constrained_layout=True)
    figure.suptitle(title)
    accuracy, scores, groups, policy = axes.flat

    draw_accuracy(accuracy, metrics)
    steps = [row for row in metrics if row["step"] > 0]     # step 0 is only an evaluation
    draw_metrics(scores, steps, "reward model (score; AUROC)", {
        "rm/mean": "mean",
        "rm/auroc": "AUROC in mixed groups"})
    draw_metrics(groups, steps, "groups of a step (share)", {
        "verify/all_wrong": "all wrong",
        "verify/mixed": "mixed",
        "verify/all_correct": "all correct"})
    draw_metrics(policy, steps, "policy", {
        "policy/entropy": "entropy (nats per token)",
        "policy/gradient_norm": "gradient norm"})

    for axis in axes.flat:
        axis.set(xlabel="optimization step (rollout batches)")
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_accuracy(axis, metrics):
    """Each held-out set's pass@1 with its interval, and what the verifier accepts (dashed)."""
    for name, color in zip(evaluation_names(metrics), ("#0072B2", "#D55E00", "#009E73", "#CC79A7"),
                           strict=False):
        key = f"eval/{name}"
        rows = [row for row in metrics if f"{key}/pass@1" in row]
        steps = column(rows, "step")
        axis.plot(steps, column(rows, f"{key}/pass@1"), color=color, marker="o", ms=3,
                  label=f"{name}, truth")
        axis.fill_between(steps, column(rows, f"{key}/low"), column(rows, f"{key}/high"),
                          color=color, alpha=0.15, lw=0)
        axis.plot(steps, column(rows, f"{key}/verifier"), color=color, ls="--",
                  label=f"{name}, verifier")
    axis.set(ylabel="held-out pass@1 (share)", ylim=(0, 1))


def draw_metrics(axis, rows, ylabel, labels):
    """Several keys of a metrics log over the steps. labels: {key: label in the legend}"""
    for key, color in zip(labels, ("#0072B2", "#E69F00", "#009E73"), strict=False):
        axis.plot(column(rows, "step"), column(rows, key), color=color, label=labels[key])
    axis.set(ylabel=ylabel)


def column(rows, key):
    return [row[key] for row in rows]


def evaluation_names(metrics):
    """The names of the held-out sets in a metrics log: "hard" for eval/hard/pass@1. -> sorted"""
    names = set()
    for row in metrics:
        for key in row:
            if key.startswith("eval/") and key.endswith("/pass@1"):
                names.add(key.split("/")[1])
    return sorted(names)


# ---------------------------------------------------------------------------- curves of many runs


class Group(NamedTuple):
    """The runs that differ only in the seed."""
    settings: dict
    seeds: list                     # of one run's metrics rows each


def method_of(config):
    """The name in COLORS of a run's method."""
    if config["reward"] == "hero" and config["advantage_norm"] == "std":
        return "hero std"
    return config["reward"]


def plot_runs(runs, path):
    """Draws the learning curves of several runs beside each other.

    runs: list of (config, metrics rows), as a run writes them. Runs that differ only in the seed
    are one line, their mean, in a band from the lowest to the highest. A method has its color in
    COLORS. Runs of one method that differ otherwise have different dashes, and the settings that
    tell them apart in the legend.
    """
    groups = group_by_settings(runs)
    differing = differing_settings([group.settings for group in groups])

    rows = [row for _, metrics in runs for row in metrics]
    panels = {f"eval/{name}/pass@1": f"held-out {name} pass@1 (share)"
              for name in evaluation_names(rows)}
    panels["verify/accuracy"] = "training: verifier accepts (share)"
    panels["rm/mean"] = "training: reward model's mean score"

    plt = pyplot()
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.6),
                                constrained_layout=True, squeeze=False)
    for axis, (key, ylabel) in zip(axes[0], panels.items(), strict=True):
        draw_panel(axis, key, groups, differing)
        axis.set(xlabel="step (rollout batches)", ylabel=ylabel)
    axes[0][0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def group_by_settings(runs):
    """runs: list of (config, metrics rows). -> list of Group, in the order of the first of each"""
    groups = {}
    for config, metrics in runs:
        settings = dict(config)
        for name in ("seed", "name", "resume"):
            settings.pop(name, None)
        key = json.dumps(settings, sort_keys=True)
        groups.setdefault(key, Group(settings, [])).seeds.append(metrics)
    return list(groups.values())


def differing_settings(all_settings):
    """The names of the settings that are not the same everywhere, but for those of the method."""
    differing = []
    for name in all_settings[0]:
        values = {str(settings.get(name)) for settings in all_settings}
        if len(values) > 1 and name not in ("reward", "advantage_norm"):
            differing.append(name)
    return differing


def draw_panel(axis, key, groups, differing):
    """One key of the metrics logs: a line and a band per group."""
    drawn = Counter()                                       # lines per method, for their dashes
    for group in groups:
        method = method_of(group.settings)
        steps, values = common_curves(group.seeds, key)
        line, = axis.plot(steps, values.mean(0), color=COLORS.get(method, OTHER_COLOR),
                          ls=("-", "--", ":", "-.")[drawn[method] % 4],
                          label=label(group, differing))
        axis.fill_between(steps, values.min(0), values.max(0), color=line.get_color(), alpha=0.15,
                          lw=0)
        drawn[method] += 1


def common_curves(seeds, key):
    """The steps at which all runs of a group have a value. -> (steps, values (seeds, steps))"""
    curves = []
    for metrics in seeds:
        curves.append({row["step"]: row[key] for row in metrics if row.get(key) is not None})
    steps = sorted(set.intersection(*map(set, curves)))
    return steps, np.array([[curve[step] for step in steps] for curve in curves])


def label(group, differing):
    """A group in the legend: "hero, alpha 0.1 (2 seeds)"."""
    parts = [method_of(group.settings)]
    parts += [f"{name} {group.settings.get(name)}" for name in differing]
    count = len(group.seeds)
    return ", ".join(parts) + (" (1 seed)" if count == 1 else f" ({count} seeds)")
