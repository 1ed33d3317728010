"""What a run or an evaluation shows: tables of numbers, figures of curves, and a run's own page.

    python report.py runs/NAME              writes runs/NAME/report.html, to be opened in a browser
    python report.py runs/NAME runs/OTHER   writes runs/NAME/diff-OTHER.html, which compares the two
"""

import argparse
import base64
import hashlib
import json
import math
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

import distributed
from problems import first_line, read_jsonl, write_file

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


def summary_table(summaries, markdown=False):
    """The numbers of several evaluations beside each other, as results_table shows them. -> str

    summaries: {name: compute_metrics(...)}. One row per metric and one column per name; metrics
    that no summary contains are omitted. summary_legend explains the rows.
    """
    rows = []
    for metric in shown_metrics(summaries):
        values = {name: metric_text(metric, summary) for name, summary in summaries.items()}
        rows.append((metric.title, values))
    return results_table(rows, list(summaries), markdown)


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


def before_and_after(metrics):
    """A run's first and last evaluation, for summary_table. -> {"NAME, before": numbers}"""
    summaries = {}
    for name in evaluation_names(metrics):
        for when, row in (("before", metrics[0]), ("after", metrics[-1])):
            prefix = f"eval/{name}/"
            summaries[f"{name}, {when}"] = {key.removeprefix(prefix): value
                                            for key, value in row.items() if key.startswith(prefix)}
    return summaries


def run_summary(cfg, metrics, folder):
    """What a finished run has reached, where to look, and what to try next. -> str

    cfg: its hero.Config. metrics: the rows of its metrics.jsonl, evaluations first and last.
    """
    summaries = before_and_after(metrics)
    lines = ["", f"held-out problems, responses per problem: {cfg.eval_samples} (T 0.6, top-p "
             "0.95)", "",
             summary_table(summaries), "", summary_legend(summaries), "",
             f"page:     {folder}/report.html (curves and samples; open it in a browser)",
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
        "verify/all_wrong": "all wrong",
        "verify/mixed": "mixed",
        "verify/all_correct": "all correct"})
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
    """Several keys of a metrics log over the steps: the values faint, their running mean solid.

    labels: {key: label in the legend, None for none}
    """
    steps = column(rows, "step")
    for key, color in zip(labels, ("#0072B2", "#E69F00", "#009E73"), strict=False):
        values = column(rows, key)
        means = running_mean(values, len(values) // 20)
        axis.plot(steps, np.array(values, dtype=float), color=color, alpha=0.3, lw=1)
        axis.plot(steps, means, color=color, lw=1.8, label=labels[key])
    axis.set(ylabel=ylabel)


def running_mean(values, half_width):
    """The mean of each value and of half_width to both sides of it; None is skipped. -> array

    NaN where there is nothing to take the mean of.
    """
    means = []
    for i in range(len(values)):
        window = values[max(0, i - half_width):i + half_width + 1]
        known = [value for value in window if value is not None]
        means.append(sum(known) / len(known) if known else math.nan)
    return np.array(means)


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
        for name in ("seed", "name", "resume", "config", "track", "push_to_hub", "made_with"):
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


# ---------------------------------------------------------------------------- the page of a run

# The page is this template with the data of a run, or of two to compare, filled in.
TEMPLATE = Path(__file__).with_suffix(".html")
LARGEST_PAGE = 5_000_000                                    # bytes

# A page that is too large is made smaller step by step: responses are cut to this many characters,
# and of the steps with samples only every Nth is kept.
SMALLER_PAGES = ((None, 1), (8000, 1), (4000, 1), (2000, 1), (1000, 1), (1000, 2), (1000, 4),
                 (1000, 8), (1000, 16), (500, 32), (500, 64), (0, 1024))
MOST_METRICS = 2000                                         # steps that a curve shows

# What the page holds of each response: columns of rollouts.jsonl.
RESPONSE_COLUMNS = ("response", "answer", "verified", "reason", "truth", "rm_score", "reward",
                    "advantage")


def write_page(folder, other=None, largest=LARGEST_PAGE):
    """Writes report.html into a run's folder: one file that shows the run in a browser. -> its path

    other: the folder of a second run. Then the page compares the two, and is called diff-NAME.html
    after the second.
    largest: bytes that the page may have. What is too much is left out, and the page says so.
    Raises ValueError if a folder is not that of a run that has begun.
    """
    folder = Path(folder)
    folders = [folder]
    path = folder / "report.html"
    if other is not None:
        folders.append(Path(other))
        path = folder / f"diff-{Path(other).resolve().name}.html"

    runs = []
    for each in folders:
        config, metrics = load_run(each)
        runs.append((config, metrics, load_rollouts(each)))

    for most_characters, every in SMALLER_PAGES:
        page = fill_template(runs, most_characters, every)
        if len(page) <= largest:
            break
    write_file(path, page.decode())
    return path


def load_run(folder):
    """The settings of a run and the rows of its metrics. ValueError if it cannot be shown."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} is not the folder of a run: its config.json cannot be read "
                         f"({first_line(error)})") from error
    if "advantage_norm" not in config:
        raise ValueError(f"{folder} was made by an older version, whose settings have other names: "
                         "use that version, or run it again")

    rows = read_jsonl(folder / "metrics.jsonl", required=("step",), skip_torn=True)
    metrics = [row for _, row in rows]
    if not metrics:
        raise ValueError(f"{folder} holds no metrics: give the folder of a run that has begun")
    return config, metrics


def load_rollouts(folder):
    """The rows of a run's rollouts.jsonl; none before its first step has ended."""
    path = folder / "rollouts.jsonl"
    if not path.exists():
        return []
    rows = read_jsonl(path, required=("step", "problem", "reference", "response", "weight", "r_hat",
                                      "reward", "advantage"), skip_torn=True)
    return [row for _, row in rows]


def fill_template(runs, most_characters, every):
    """The page of one or two runs. -> bytes of HTML

    runs: list of (config, metrics rows, rollouts rows).
    most_characters, every: what is left out, as in SMALLER_PAGES.

    What a model wrote is data. The JSON in the page holds no "<", so no text in it ends its element
    or begins another, and the script of the template shows texts through text nodes only.
    """
    data = {"runs": [run_data(*run, most_characters, every) for run in runs],
            "charts": chart_list(runs)}
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c")

    # The page's content security policy allows the one script with this hash.
    before_data, after_data = TEMPLATE.read_text(encoding="utf-8").split("@DATA@")
    script = after_data.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = before_data.replace("@SCRIPT_HASH@", f"sha256-{digest}") + text + after_data

    # Half of a surrogate pair is no character in UTF-8; as an escape, JSON may hold it.
    return page.encode("utf-8", "backslashreplace")


def run_data(config, metrics, rollouts, most_characters, every):
    """What the page shows of one run. -> dict, ready for JSON"""
    findings = [outcome(config, metrics), *why_no_loss(metrics), *broken_numbers(metrics),
                *missed_by_verifier(rollouts)]

    # The samples.
    high_score = score_of_right(rollouts)
    groups = []
    for group in split_groups(rollouts, config["rollouts_per_prompt"]):
        if group[0]["step"] % every == 0:
            groups.append(group_data(config, group, high_score, most_characters))
    scores = [row["rm_score"] for row in rollouts] or [0.0]

    rows = thin_out(metrics)
    return {
        "name": config["name"],
        "method": method_of(config),
        "color": COLORS.get(method_of(config), OTHER_COLOR),
        "steps_planned": config["steps"],
        "seed": config["seed"],
        "settings": {name: setting_text(value) for name, value in flatten(config).items()},
        "steps": column(rows, "step"),
        "metrics": {key: [rounded(row.get(key)) for row in rows] for key in metric_keys(rows)},
        "findings": [finding._asdict() for finding in findings],
        "groups": groups,
        "scores": {"lowest": rounded(min(scores)), "highest": rounded(max(scores))},
        "knows_truth": any(row.get("truth") is not None for row in rollouts),
        "has_bands": config["reward"] == "hero",
        "note": what_is_missing(config, rollouts, most_characters, every),
    }


def flatten(config):
    """{"a": {"b": {"c": 1}}} as {"a/b/c": 1}: what a run was made with, beside its settings."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= {f"{name}/{inner}": each for inner, each in flatten(value).items()}
        else:
            flat[name] = value
    return flat


def setting_text(value):
    """A setting as text: a string as it is, anything else as in config.json."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def split_groups(rollouts, size):
    """The rows of rollouts.jsonl as groups: lists of at most `size` rows of a step and problem."""
    groups = []
    for row in rollouts:
        is_new = True
        if groups:
            first = groups[-1][0]
            is_same = (first["step"], first["problem"]) == (row["step"], row["problem"])
            is_new = not is_same or len(groups[-1]) == size
        if is_new:
            groups.append([])
        groups[-1].append(row)
    return groups


def group_data(config, group, high_score, most_characters):
    """What the page shows of a group: values of the group, and a list per column of its rows."""
    data = {
        "step": group[0]["step"],
        "problem": shorten(group[0]["problem"], most_characters),
        "reference": shorten(group[0]["reference"], most_characters),
        "weight": rounded(group[0]["weight"]),
        "silent": all(row["advantage"] == 0 for row in group),
        "hacked": [not is_right(row) and row["rm_score"] >= high_score for row in group],
    }
    for name in RESPONSE_COLUMNS:
        data[name] = [shorten(rounded(row.get(name)), most_characters) for row in group]
    if config["reward"] == "hero":
        data["place"] = [place_in_band(row, config) for row in group]
    return data


def is_right(row):
    """Whether a response is right: the truth where it is known, otherwise the verdict."""
    truth = row.get("truth")
    return row["verified"] if truth is None else truth


def score_of_right(rollouts):
    """The median score of the right responses: what a wrong one has to reach to be called hacked.

    Infinite if no response is right.
    """
    scores = [row["rm_score"] for row in rollouts if is_right(row)]
    return float(np.median(scores)) if scores else math.inf


def place_in_band(row, config):
    """Where in the band of its verdict a response is, 0 to 1; 0 in a closed band. Eq. 3"""
    if row["verified"]:
        half_width = config["beta"]
        low = 1 - half_width
    else:
        half_width = config["alpha"]
        low = -half_width
    if half_width == 0:
        return 0.0
    place = (row["r_hat"] - low) / (2 * half_width)
    return round(min(1.0, max(0.0, place)), 3)            # float32 is not exact at the ends


# ---------------------------------------------------------------------------- a page that fits


def rounded(value):
    """A float with four significant digits, or None if it is not finite; anything else as it is."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.4g}") if math.isfinite(value) else None


def shorten(value, most_characters):
    """A text without its middle if it is too long; anything else as it is."""
    if not isinstance(value, str) or most_characters is None or len(value) <= most_characters:
        return value
    half = most_characters // 2
    left_out = len(value) - 2 * half
    return f"{value[:half]} [... {left_out:,} characters ...] {value[len(value) - half:]}"


def thin_out(metrics):
    """At most about MOST_METRICS rows, evenly spaced, and those with an evaluation besides."""
    every = math.ceil(len(metrics) / MOST_METRICS)
    evaluated = {f"eval/{name}/pass@1" for name in evaluation_names(metrics)}
    return [row for row in metrics if row["step"] % every == 0 or not evaluated.isdisjoint(row)]


def what_is_missing(config, rollouts, most_characters, every):
    """What the page does not show of the run's rollouts, in words."""
    if not rollouts:
        return "There are no samples: rollouts.jsonl is empty."
    sentences = [f"{config['groups_logged']} of the {config['prompts_per_step']} groups of each "
                 "step are logged, in rollouts.jsonl."]
    if every > 1:
        sentences.append(f"To keep the page small, only every {every}th step is here.")
    longest = max(len(row["response"]) for row in rollouts)
    if most_characters is not None and longest > most_characters:
        sentences.append(f"Texts are cut to {most_characters:,} characters.")
    return " ".join(sentences)


def metric_keys(metrics):
    """The keys of a metrics log but for the step, sorted."""
    keys = set()
    for row in metrics:
        keys |= row.keys()
    return sorted(keys - {"step"})


# ---------------------------------------------------------------------------- what a run says


class Chart(NamedTuple):
    """One quantity over the steps. low and high: the keys of its interval, if it has one."""
    key: str
    title: str
    low: str | None = None
    high: str | None = None


TRAINING_CHARTS = [
    Chart("rm/mean", "training: reward model's mean score"),
    Chart("rm/auroc", "training: AUROC of the scores, mixed groups"),
    Chart("verify/accuracy", "training: share the verifier accepts"),
    Chart("verify/mixed", "groups with both verdicts (share)"),
    Chart("reward/zero_advantages", "responses that teach nothing (share)"),
    Chart("policy/entropy", "entropy (nats per token)"),
    Chart("policy/gradient_norm", "gradient norm"),
    Chart("rollout/length", "response length (tokens)"),
]


def chart_list(runs):
    """The charts of a page: truth and score of each held-out set, then the training. -> dicts

    runs: list of (config, metrics rows, rollouts rows).
    """
    names = held_out_names(runs[0][0], [row for _, metrics, _ in runs for row in metrics])
    charts = []
    for name in names:
        key = f"eval/{name}"
        charts.append(Chart(f"{key}/pass@1", f"held-out {name}: pass@1, the truth",
                            f"{key}/low", f"{key}/high"))
        charts.append(Chart(f"{key}/rm", f"held-out {name}: reward model's score"))
    return [chart._asdict() for chart in charts + TRAINING_CHARTS]


def held_out_names(config, metrics):
    """As evaluation_names, but the set that is called as the run's regime comes first."""
    names = evaluation_names(metrics)
    return sorted(names, key=lambda name: name != config["regime"])


class Finding(NamedTuple):
    """An answer to a question that everybody asks of a run."""
    kind: str                       # "bad", "good" or "note"
    question: str
    answer: str


def outcome(config, metrics):
    """Whether the run has learned, has become worse, or hacks its reward model. -> Finding

    By the held-out problems. A change counts if the 95% intervals of both evaluations do not touch.
    Hacking: at some step after its best pass@1 has fallen, while the reward model's score rose.
    """
    hacked = []
    worse = []
    learned = []
    sentences = []
    for name in held_out_names(config, metrics):
        key = f"eval/{name}"
        rows = [row for row in metrics if f"{key}/pass@1" in row]
        first, last = rows[0], rows[-1]
        best = max(rows, key=lambda row: row[f"{key}/pass@1"])
        lowest = min(rows[rows.index(best):], key=lambda row: row[f"{key}/pass@1"])

        told = [first, best, last]
        if is_hacking(key, best, lowest):
            hacked.append(name)
            told.append(lowest)
        elif last[f"{key}/high"] < best[f"{key}/low"]:
            worse.append(name)
        elif last[f"{key}/low"] > first[f"{key}/high"]:
            learned.append(name)
        steps = {row["step"] for row in told}
        sentences.append(course_in_words(name, [row for row in rows if row["step"] in steps]))

    text = "\n".join(sentences)
    if hacked:
        return Finding("bad", "This run hacks its reward model: the score rises, the truth falls.",
                       text)
    if worse:
        return Finding("bad", f"This run has become worse on {' and '.join(worse)} problems.", text)
    if learned:
        return Finding("good", f"This run has learned: pass@1 rose on {' and '.join(learned)} "
                       "problems.", text)
    return Finding("note", "Nothing has changed for certain: the intervals of the evaluations "
                   "overlap.", text)


def is_hacking(key, best, later):
    """Whether pass@1 has clearly fallen from one evaluation to a later one, and the score risen."""
    has_fallen = later[f"{key}/high"] < best[f"{key}/low"]
    scores = (best.get(f"{key}/rm"), later.get(f"{key}/rm"))
    return has_fallen and None not in scores and scores[1] > scores[0]


def course_in_words(name, rows):
    """The numbers behind an outcome: pass@1 and score of one held-out set in some evaluations."""
    key = f"eval/{name}"
    accuracies = " \u2192 ".join(f"{row[f'{key}/pass@1']:.3f}" for row in rows)
    text = f"Held-out {name} problems: pass@1 {accuracies}"
    if all(row.get(f"{key}/rm") is not None for row in rows):
        scores = " \u2192 ".join(f"{row[f'{key}/rm']:.2f}" for row in rows)
        text += f", reward model's score {scores}"
    return f"{text} (steps {', '.join(str(row['step']) for row in rows)})."


def why_no_loss(metrics):
    """Answers "why is my loss 0?" with what the last ten steps say about learning. -> Findings"""
    rows = [row for row in metrics if row["step"] > 0][-10:]
    if not rows:
        return []

    def mean(key):
        values = [row[key] for row in rows if row.get(key) is not None]
        return sum(values) / len(values) if values else None

    def in_words(key, number_format):
        value = mean(key)
        return "none" if value is None else format(value, number_format)

    silent = mean("reward/zero_advantages")
    answer = (
        "It always is about 0: the advantages of a group sum to 0, and the loss right after "
        "sampling is minus their mean. So it says nothing and is not logged; its gradient counts. "
        f"In the last {len(rows)} steps the gradient norm was "
        f"{in_words('policy/gradient_norm', '.3g')} before clipping, "
        f"{in_words('reward/zero_advantages', '.0%')} of the responses had advantage 0, and "
        f"{in_words('verify/mixed', '.0%')} of the groups had both verdicts, with advantages of "
        f"{in_words('reward/abs_adv_mixed', '.3g')} in size. In groups of one verdict, where the "
        f"reward model alone decides, it was {in_words('reward/abs_adv_uniform', '.3g')}.")
    if silent is not None and silent > 0.9:
        return [Finding("bad", "Why is my loss 0? Here hardly anything is learned.", answer)]
    return [Finding("note", "Why is my loss 0?", answer)]


def broken_numbers(metrics):
    """What in the log is a sign that the run is broken. -> Findings"""
    rows = [row for row in metrics if row["step"] > 0]
    if not rows:
        return []

    signs = []
    for row in rows:
        bad = [key for key, value in row.items()
               if isinstance(value, float) and not math.isfinite(value)]
        if bad:
            signs.append(f"From step {row['step']} on {', '.join(bad)} is not finite.")
            break
    last = rows[-1]
    if last.get("policy/entropy") is not None and last["policy/entropy"] < 0.01:
        signs.append(f"The entropy is {last['policy/entropy']:.2g} nats per token: all responses "
                     "to a problem are nearly the same, so nothing can be compared.")
    if last.get("rollout/truncated", 0) > 0.5:
        signs.append(f"{last['rollout/truncated']:.0%} of the responses are cut at the longest "
                     "length: raise --max_response_tokens.")
    return [Finding("bad", "Something looks broken.", " ".join(signs))] if signs else []


def missed_by_verifier(rollouts):
    """How many right responses the verifier refuses, where the truth is known. -> Findings"""
    right = [row for row in rollouts if row.get("truth")]
    if not right:
        return []
    missed = sum(not row["verified"] for row in right)
    return [Finding("note", "Does the verifier see what is right?",
                    f"Of the {len(right):,} logged responses that are right it refused {missed:,} "
                    f"({missed / len(right):.0%}): the false negatives below Samples.")]


# ---------------------------------------------------------------------------- the command line


def main():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description="Writes the page of a run, RUN/report.html, or with two runs a page that "
                    "compares them, RUN/diff-OTHER.html. Open it in any browser.")
    parser.add_argument("run", metavar="RUN", help="The folder of a run: runs/NAME.")
    parser.add_argument("other", metavar="OTHER", nargs="?", help="A second run to compare with.")
    args = parser.parse_args()

    path = write_page(args.run, args.other)
    print(f"written to {path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    distributed.run(main)
