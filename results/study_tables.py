"""Tables and figures of the study, from its CSV files alone.

    python results/study_tables.py          both pages of tables, and the figures, of results/
    python results/study_tables.py DIR      the same from the CSV files of `study.py --out DIR`

A mean over seeds is shown with half of its 95 % interval (Student's t over the runs). A difference
is paired: the same seed, and so the same world, with both methods.

study.md holds the tables that the study was made for. study_differences.md holds the other paired
differences that README.md names, and among them those that were chosen when the results were known.
"""

import csv
import math
import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from problems import write_file  # noqa: E402
from report import COLORS, pyplot  # noqa: E402
from rewards import auroc  # noqa: E402

# The methods whose learning rate was swept, and the rates at which three of them are compared.
SWEPT = ("verifier", "RM only", "HERO", "HERO std", "naive 0.5")
SAME_RATES = ("1e-05", "3e-05", "6e-05", "0.0001")
TABLE_2 = ("verifier", "RM only", "HERO", "HERO std", "naive 0.1", "naive 0.5", "naive 0.9")
THREE = ("verifier", "RM only", "HERO")

# The rows of each ablation, by the paper's figure: {name of the row: cell of "hard / ..."}.
ABLATIONS = {
    "Fig. 2a, dense range": {
        "none (verifier only)": "verifier",
        "correct only": "dense correct",
        "wrong only": "dense wrong",
        "both (HERO)": "HERO"},
    "Fig. 2b, alpha and beta": {
        "0.05, 0.05": "HERO",
        "0.1, 0.1": "alpha 0.1 beta 0.1",
        "0.2, 0.2": "alpha 0.2 beta 0.2",
        "0.05, 0.2": "alpha 0.05 beta 0.2",
        "0.2, 0.05": "alpha 0.2 beta 0.05"},
    "Table 4, weight, mean-only": {
        "none": "no weight",
        "on the reward": "weight on reward",
        "on the advantage": "HERO"},
    "Table 4, weight, std": {
        "none": "std, no weight",
        "on the reward": "std, weight on reward",
        "on the advantage": "HERO std"}}

# The reliability gate was an idea of this project, and its code is gone: see README.md. The study
# has no gate cells any more, but the committed CSV files do. Rows without runs are left out.
GOOD = ("verifier", "RM only", "naive 0.5", "HERO", "HERO gate", "HERO std", "HERO std gate")
MISLEADING = ("RM only", "naive 0.5", "HERO", "HERO gate", "HERO std", "HERO std gate",
              "no weight", "dense correct")
GATE_CLAIM = [
    ("good RM: HERO gate minus HERO", "hard / HERO gate", "hard / HERO"),
    ("good RM: HERO std gate minus HERO std", "hard / HERO std gate", "hard / HERO std"),
    ("misleading RM: HERO gate minus verifier", "misleading / HERO gate", "hard / verifier"),
    ("misleading RM: HERO std gate minus verifier", "misleading / HERO std gate",
     "hard / verifier"),
    ("misleading RM: HERO gate minus HERO", "misleading / HERO gate", "misleading / HERO"),
    ("misleading RM: HERO std gate minus HERO std", "misleading / HERO std gate",
     "misleading / HERO std")]

# Paired differences of study_differences.md: (name, cell, the cell that it is compared with).
CLAIMS = [
    ("Table 2: HERO minus RM only, trained on hard data", "hard / HERO", "hard / RM only"),
    ("Table 2: HERO minus RM only, trained on mixed data", "mixed / HERO", "mixed / RM only"),
    ("Table 2: HERO minus RM only, trained on easy data", "easy / HERO", "easy / RM only"),
    ("both at 1e-5: HERO minus RM only", "rate 1e-05 / HERO", "rate 1e-05 / RM only"),
    ("Table 4: no weight minus HERO", "hard / no weight", "hard / HERO"),
    ("Table 4, std: no weight minus HERO std", "hard / std, no weight", "hard / HERO std"),
    ("Table 4, std: weight on the reward minus no weight", "hard / std, weight on reward",
     "hard / std, no weight"),
    ("Table 9: naive 0.1 minus HERO", "hard / naive 0.1", "hard / HERO"),
    ("Table 9: naive 0.5 minus HERO", "hard / naive 0.5", "hard / HERO"),
    ("Table 9: naive 0.9 minus HERO", "hard / naive 0.9", "hard / HERO"),
    ("misleading RM: no weight minus HERO", "misleading / no weight", "misleading / HERO"),
    ("misleading RM: dense correct minus HERO", "misleading / dense correct", "misleading / HERO")]
CHOSEN_LATER = [
    ("Fig. 2a: both sides dense (HERO) minus verifier", "hard / HERO", "hard / verifier"),
    ("Fig. 2a: wrong side only minus verifier", "hard / dense wrong", "hard / verifier"),
    ("Fig. 2a: correct side only minus verifier", "hard / dense correct", "hard / verifier"),
    ("Fig. 2a: wrong side only minus HERO", "hard / dense wrong", "hard / HERO"),
    ("Fig. 2a: correct side only minus HERO", "hard / dense correct", "hard / HERO"),
    ("Fig. 2b: alpha 0.1, beta 0.1 minus HERO", "hard / alpha 0.1 beta 0.1", "hard / HERO"),
    ("Fig. 2b: alpha 0.2, beta 0.2 minus HERO", "hard / alpha 0.2 beta 0.2", "hard / HERO"),
    ("Fig. 2b: alpha 0.2, beta 0.05 minus HERO", "hard / alpha 0.2 beta 0.05", "hard / HERO"),
    ("Fig. 2b: alpha 0.05, beta 0.2 minus HERO", "hard / alpha 0.05 beta 0.2", "hard / HERO"),
    ("Table 9, both at 3e-5: naive 0.1 minus HERO", "hard / naive 0.1", "rate 3e-05 / HERO"),
    ("Table 9, both at 3e-5: naive 0.5 minus HERO", "hard / naive 0.5", "rate 3e-05 / HERO"),
    ("Table 9, both at 3e-5: naive 0.9 minus HERO", "hard / naive 0.9", "rate 3e-05 / HERO"),
    ("Table 9, both at 3e-5: naive 0.9 minus verifier", "hard / naive 0.9",
     "rate 3e-05 / verifier"),
    ("both at 3e-5: HERO std minus HERO", "hard / HERO std", "rate 3e-05 / HERO"),
    ("both at 3e-5, good RM: HERO std gate minus verifier", "hard / HERO std gate",
     "rate 3e-05 / verifier"),
    ("both at 3e-5, misleading RM: HERO std gate minus verifier", "misleading / HERO std gate",
     "rate 3e-05 / verifier"),
    ("verifier: trained on easy data minus on hard data", "easy / verifier", "hard / verifier")]

# ---------------------------------------------------------------------------- the CSV files


def read_csv(path):
    """Rows of a CSV file, numbers as floats and empty cells as None. No file: no rows."""
    if not path.exists():
        return []
    rows = []
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows.append({column: parse_cell(text) for column, text in row.items()})
    return rows


def parse_cell(text):
    """A cell's text as a float where it is one, as None where it is empty."""
    if text == "":
        return None
    try:
        return float(text)
    except ValueError:
        return text


class Runs:
    """The runs by cell and seed, each with two more columns from its curve:

    curve mean: mean hard validation accuracy over the evaluated steps, step 0 not included
    first half: the same up to half of the last step
    """

    def __init__(self, rows, curves):
        accuracies = {}                           # (cell, seed): {step: hard validation accuracy}
        for row in curves:
            if row["hard"] is not None and row["step"] > 0:
                accuracies.setdefault((row["cell"], row["seed"]), {})[row["step"]] = row["hard"]

        self.cells = {}
        for row in rows:
            by_step = accuracies[row["cell"], row["seed"]]
            early = [value for step, value in by_step.items() if step <= max(by_step) / 2]
            means = {"curve mean": np.mean(list(by_step.values())),
                     "first half": np.mean(early) if early else np.nan}
            self.cells.setdefault(row["cell"], {})[row["seed"]] = row | means

    def values(self, cell, column):
        return [row[column] for row in self.cells.get(cell, {}).values()]

    def minus(self, cell, other, column, world=None):
        """Differences between two cells, one per seed that both have. world: only its seeds."""
        ours = self.cells.get(cell, {})
        theirs = self.cells.get(other, {})
        differences = []
        for seed in ours:
            if seed in theirs and world in (None, ours[seed]["world"]):
                differences.append(ours[seed][column] - theirs[seed][column])
        return differences


def curve(rows, cell, column, window=1):
    """{step: one value per seed} of study_curves.csv, each the mean of `window` steps up to it."""
    by_seed = {}
    for row in rows:
        if row["cell"] == cell and row.get(column) is not None:
            step = math.ceil(int(row["step"]) / window) * window
            by_seed.setdefault((row["seed"], step), []).append(row[column])

    by_step = {}
    for (_, step), values in by_seed.items():
        by_step.setdefault(step, []).append(np.mean(values))
    return by_step


def steps_to(rows, cell, target):
    """First step at which the mean curve of a cell reaches target, interpolated; None if never."""
    points = []
    for step, values in sorted(curve(rows, cell, "hard").items()):
        points.append((step, np.mean(values)))
    for (step, low), (next_step, high) in zip(points, points[1:], strict=False):
        if low < target <= high:
            return step + (next_step - step) * (target - low) / (high - low)
    return None


# ---------------------------------------------------------------------------- numbers as text

# Two-sided 95 % quantiles of Student's t, by the number of values.
T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


def mean_interval(values):
    """Mean and half width of its 95 % interval; nan where there are too few values."""
    values = np.asarray(values, float)
    if len(values) == 0:
        return np.nan, np.nan
    if len(values) == 1:
        return values.mean(), np.nan
    return values.mean(), T95[len(values)] * values.std(ddof=1) / len(values) ** 0.5


def show(values):
    """0.744 ± 0.069; a dash for no values, no interval for one."""
    return show_interval(values, ".3f")


def show_difference(values):
    """+0.018 ± 0.024, as show."""
    return show_interval(values, "+.3f")


def show_interval(values, number):
    mean, half = mean_interval(values)
    if np.isnan(mean):
        return "-"
    if np.isnan(half):
        return f"{mean:{number}}"
    return f"{mean:{number}} ± {half:.3f}"


def show_ahead(differences):
    """How many of the differences are above 0: "5 of 5"."""
    if not differences:
        return "-"
    return f"{sum(value > 0 for value in differences)} of {len(differences)}"


def markdown_table(columns, rows):
    """A markdown table. columns: names; rows: lists of texts. -> lines"""
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in rows:
        lines.append(f"| {' | '.join(row)} |")
    return lines


# ---------------------------------------------------------------------------- study.md


def result_columns(first, other):
    """Names of the columns that result_row fills."""
    return [first, "hard pass@1", "easy pass@1", f"hard, minus {other}", "RM score, hard", "rate",
            "runs"]


def result_row(runs, name, cell, other):
    """One cell of the study: accuracies, and the paired difference to the cell `other`."""
    difference = ""
    if cell != other:
        difference = show_difference(runs.minus(cell, other, "hard pass@1"))
    rates = sorted(set(runs.values(cell, "learning_rate")))
    return [name, show(runs.values(cell, "hard pass@1")), show(runs.values(cell, "easy pass@1")),
            difference, show(runs.values(cell, "hard rm")), f"{rates[0]:g}" if rates else "-",
            str(len(runs.cells.get(cell, {})))]


def table_2(runs, curves):
    rows = []
    for regime in ("easy", "hard", "mixed"):
        verifier = f"{regime} / verifier"
        accuracies = curve(curves, verifier, "hard")
        target = np.mean(accuracies[max(accuracies)]) if accuracies else np.inf
        for method in TABLE_2:
            cell = f"{regime} / {method}"
            step = steps_to(curves, cell, target)
            rows.append([*result_row(runs, cell, cell, verifier),
                         "-" if step is None else f"{step:.0f}"])
    return markdown_table(
        [*result_columns("trained on / method", "verifier"), "steps to verifier's end"], rows)


def same_rate(runs):
    rows = []
    for rate in SAME_RATES:
        for method in THREE:
            rows.append(result_row(runs, f"{rate} / {method}", f"rate {rate} / {method}",
                                   f"rate {rate} / verifier"))
    return markdown_table(result_columns("hard data, rate / method", "verifier"), rows)


def ablations(runs):
    rows = []
    for title, cells in ABLATIONS.items():
        for name, cell in cells.items():
            rows.append(result_row(runs, f"{title}: {name}", f"hard / {cell}", "hard / HERO"))
    return markdown_table(result_columns("on hard data", "HERO"), rows)


def misleading(runs):
    """Good and misleading reward model, and what the gate did under both."""
    rows = []
    for reward_model, regime, methods in (("good", "hard", GOOD),
                                          ("misleading", "misleading", MISLEADING)):
        for method in methods:
            cell = f"{regime} / {method}"
            if cell in runs.cells:
                rows.append(result_row(runs, f"{reward_model} / {method}", cell, "hard / verifier"))
    lines = markdown_table(result_columns("reward model / method", "verifier"), rows)

    claim = []
    for name, cell, other in GATE_CLAIM:
        if cell in runs.cells:
            claim.append([name, show_difference(runs.minus(cell, other, "hard pass@1"))])
    if claim:
        lines += ["", *markdown_table(["the gate's claim, hard pass@1, paired", "difference"],
                                      claim)]
    return lines


def hard_share(runs):
    columns = ["hard share of the training problems"]
    columns += [f"{method}: hard / easy" for method in THREE]
    rows = []
    for percent, prefix in ((0, "easy"), (25, "share 25"), (50, "mixed"), (75, "share 75"),
                            (100, "hard")):
        row = [f"{percent} %"]
        for method in THREE:
            cell = f"{prefix} / {method}"
            row.append(f"{show(runs.values(cell, 'hard pass@1'))} / "
                       f"{show(runs.values(cell, 'easy pass@1'))}")
        rows.append(row)
    return markdown_table(columns, rows)


def table_1(cold_start):
    """Verifier and RM thresholds against the truth, on cold-start responses to hard problems."""
    good = [row for row in cold_start if row["reward model"] == "good"]
    right = np.array([row["right"] for row in good]) > 0
    scores = np.array([row["rm"] for row in good])

    accepted_by = {"verifier": np.array([row["correct"] for row in good]) > 0}
    for percent in (50, 70, 80, 90):
        threshold = np.percentile(scores, percent)
        name = f"reward model above {threshold:.2f} (its {percent} % point)"
        accepted_by[name] = scores > threshold

    rows = []
    for name, accepted in accepted_by.items():
        recall = accepted[right].mean()
        precision = right[accepted].mean()
        false_positives = accepted[~right].mean()
        accuracy = (accepted == right).mean()
        shares = (recall, precision, false_positives, accuracy)
        rows.append([name, *(f"{100 * share:.1f} %" for share in shares)])
    return markdown_table(["on cold-start responses to hard problems", "recall", "precision",
                           "false positives", "accuracy"], rows)


def figure_6(cold_start):
    """AUROC of each reward model in each group of eight, against the verdicts and the truth."""
    rows = []
    for reward_model in ("good", "misleading"):
        groups = {}
        for row in cold_start:
            if row["reward model"] == reward_model:
                groups.setdefault((row["world"], row["group"]), []).append(row)

        for label, name in (("correct", "the verifier's verdicts"), ("right", "the truth")):
            aurocs = []
            for group in groups.values():
                scores = torch.tensor([row["rm"] for row in group])
                labels = torch.tensor([row[label] for row in group])
                aurocs.append(auroc(scores, labels))
            aurocs = np.array([value for value in aurocs if not math.isnan(value)])
            high = (aurocs >= 0.9).mean()
            near_chance = ((aurocs >= 0.4) & (aurocs <= 0.6)).mean()
            rows.append([f"{reward_model} RM against {name}", str(len(aurocs)),
                         f"{aurocs.mean():.2f}", f"{np.median(aurocs):.2f}", f"{100 * high:.0f} %",
                         f"{100 * near_chance:.0f} %"])
    return markdown_table(["AUROC a group, cold start, hard", "groups", "mean", "median",
                           "at least 0.9", "0.4 to 0.6"], rows)


def hacked_samples(samples):
    """The three highest-scored wrong responses at the end of RM-only training at 1e-4."""
    hacked = [row for row in samples if row["cell"] == "rate 0.0001 / RM only"]
    by_problem = {}
    for row in sorted(hacked, key=lambda row: row["rm"], reverse=True):
        by_problem.setdefault(row["problem"], row)
    rows = []
    for row in list(by_problem.values())[:3]:
        rows.append([row["problem"], row["reference"], f"`{row['response']}`", f"{row['rm']:.2f}"])
    return markdown_table(["problem", "reference", "response", "RM score"], rows)


def learning_rates(rows):
    """Validation accuracy of every swept method at every rate: mean (lowest-highest)."""
    accuracies = {}                               # cell: one value per seed
    rates = set()
    for row in rows:
        if row["cell"].startswith("sweep "):
            rates.add(row["learning_rate"])
            accuracies.setdefault(row["cell"], []).append(row["validation hard"])

    table = []
    for method in SWEPT:
        line = [method]
        for rate in sorted(rates):
            values = accuracies.get(f"sweep {rate:g} / {method}", [])
            if values:
                line.append(f"{np.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})")
            else:
                line.append("-")
        table.append(line)
    columns = ["validation accuracy, hard", *(f"{rate:g}" for rate in sorted(rates))]
    return markdown_table(columns, table)


def tables(folder):
    """The text of study.md, from the CSV files in `folder`."""
    curves = read_csv(folder / "study_curves.csv")
    rows = read_csv(folder / "study_runs.csv")
    samples = read_csv(folder / "study_samples.csv")
    cold_start = read_csv(folder / "study_cold_start.csv")
    runs = Runs(rows, curves)
    return page("The study's tables", {
        "Table 2 in miniature": table_2(runs, curves),
        "The same rate for all": same_rate(runs),
        "Fig. 2a, 2b and Table 4 in miniature": ablations(runs),
        "A misleading reward model, and the gate": misleading(runs),
        "The share of hard problems": hard_share(runs),
        "Table 1 in miniature": table_1(cold_start),
        "Fig. 6 in miniature": figure_6(cold_start),
        "Three hacked samples": hacked_samples(samples),
        "Learning rates": learning_rates(rows)})


def page(title, sections):
    """A markdown page. sections: {heading: lines}. -> str"""
    text = f"# {title}\n"
    for heading, lines in sections.items():
        text += f"\n## {heading}\n\n" + "\n".join(lines) + "\n"
    return text


# ---------------------------------------------------------------------------- study_differences.md


def hero_minus_verifier(runs, curves):
    """HERO minus verifier at equal rates, on both kinds of evaluation problems and by world."""
    rows = []
    for rate in SAME_RATES:
        hero, verifier = f"rate {rate} / HERO", f"rate {rate} / verifier"
        hard = runs.minus(hero, verifier, "hard pass@1")
        easy = runs.minus(hero, verifier, "easy pass@1")
        extra = [e - h for e, h in zip(easy, hard, strict=True)]
        row = [rate, show_difference(hard), show_ahead(hard), show_difference(easy),
               show_ahead(easy), show_difference(extra)]
        for world in (0, 1):
            row.append(show_difference(runs.minus(hero, verifier, "hard pass@1", world)))

        end = curve(curves, verifier, "hard")
        step = steps_to(curves, hero, np.mean(end[max(end)])) if end else None
        row.append("-" if step is None else f"{step:.0f}")
        rows.append(row)
    return markdown_table(["rate", "hard, end", "ahead", "easy, end", "ahead", "easy minus hard",
                           "hard, world 0", "hard, world 1", "steps to verifier's end"], rows)


def paired_differences(runs, comparisons):
    """comparisons: (name, cell, other). Those without runs are left out."""
    rows = []
    for name, cell, other in comparisons:
        if cell not in runs.cells:
            continue
        curve_mean = runs.minus(cell, other, "curve mean")
        rows.append([name, show_difference(runs.minus(cell, other, "hard pass@1")),
                     show_difference(runs.minus(cell, other, "easy pass@1")),
                     show_difference(runs.minus(cell, other, "first half")),
                     show_difference(curve_mean), show_ahead(curve_mean)])
    return markdown_table(["paired difference", "hard, end", "easy, end", "first half",
                           "curve mean", "ahead"], rows)


def accuracy_at(curves, cell, column, step):
    """{seed: validation accuracy at a step} of a cell."""
    accuracies = {}
    for row in curves:
        if row["cell"] == cell and row["step"] == step and row[column] is not None:
            accuracies[row["seed"]] = row[column]
    return accuracies


def best_at(curves, method, column, step):
    """The rate at which a method has the best mean at a step. -> rate, {seed: accuracy}"""
    by_rate = {}
    for rate in SAME_RATES:
        by_rate[rate] = accuracy_at(curves, f"rate {rate} / {method}", column, step)
    best = max(SAME_RATES, key=lambda rate: np.mean(list(by_rate[rate].values())))
    return best, by_rate[best]


def paired(ours, theirs):
    """Differences between two {seed: accuracy}, over the seeds of both."""
    return [ours[seed] - theirs[seed] for seed in ours if seed in theirs]


def step_by_step(curves):
    """HERO minus verifier at every evaluated step: at 6e-5, and each at its best rate there."""
    evaluated = [row for row in curves if row["cell"].startswith("rate ") and row["step"] > 0
                 and row["hard"] is not None]
    rows = []
    for step in sorted({row["step"] for row in evaluated}):
        row = [f"{step:.0f}"]
        for column in ("hard", "easy"):
            hero = accuracy_at(evaluated, "rate 6e-05 / HERO", column, step)
            verifier = accuracy_at(evaluated, "rate 6e-05 / verifier", column, step)
            row.append(show_difference(paired(hero, verifier)))

            hero_rate, hero = best_at(evaluated, "HERO", column, step)
            verifier_rate, verifier = best_at(evaluated, "verifier", column, step)
            row.append(show_difference(paired(hero, verifier)))
            row.append(f"{hero_rate}, {verifier_rate}")
        rows.append(row)
    return markdown_table(
        ["step", "hard, both at 6e-05", "hard, each at its best rate", "HERO's, verifier's",
         "easy, both at 6e-05", "easy, each at its best rate", "HERO's, verifier's"], rows)


def last_third(curves):
    """How much the last third of the training still adds, at 6e-5."""
    steps = sorted({row["step"] for row in curves if row["hard"] is not None})
    last = steps[-1]
    start = max(step for step in steps if step <= 2 / 3 * last)
    rows = []
    for method in ("HERO", "verifier"):
        cell = f"rate 6e-05 / {method}"
        gain = paired(accuracy_at(curves, cell, "hard", last),
                      accuracy_at(curves, cell, "hard", start))
        rows.append([method, show_difference(gain)])
    return markdown_table([f"hard validation, step {last:.0f} minus step {start:.0f}", "gain"],
                          rows)


def difference_tables(folder):
    """The text of study_differences.md, from the CSV files in `folder`."""
    curves = read_csv(folder / "study_curves.csv")
    runs = Runs(read_csv(folder / "study_runs.csv"), curves)
    return page("Paired differences", {
        "How to read this page": [
            "`python results/study_tables.py` writes this page.",
            "",
            "- hard, end and easy, end: pass@1 on the evaluation problems after the last step, as",
            "  in study.md",
            "- curve mean: mean accuracy on the hard validation problems over the evaluated steps",
            "  after step 0; first half: the same up to half of the steps",
            "- ahead: how many of the differences in the column to the left are above 0",
            "",
            "Of the first two tables, the column hard, end was planned. Everything else was chosen",
            "when the results were known: it says where to look with new seeds, and confirms",
            "nothing."],
        "HERO minus verifier at equal rates": hero_minus_verifier(runs, curves),
        "The claims": paired_differences(runs, CLAIMS),
        "Chosen later": paired_differences(runs, CHOSEN_LATER),
        "HERO minus verifier, step by step": [
            "Validation accuracy. The best rate is chosen at every step on these same runs, so the",
            "intervals of those columns are too narrow.",
            "",
            *step_by_step(curves)],
        "Who is still learning at the end": last_third(curves)})


# ---------------------------------------------------------------------------- figures

# Color and line of each label.
STYLE = {
    "verifier": (COLORS["verifier"], "-"),
    "RM only": (COLORS["rm"], "-"),
    "RM only, 1e-4": (COLORS["rm"], "--"),
    "HERO": (COLORS["hero"], "-"),
    "HERO std": (COLORS["hero std"], "-"),
    "HERO gate": ("black", "-"),
    "HERO std gate": ("black", "--"),
    "naive 0.5": (COLORS["naive"], "-"),
    "reward model transfers": ("black", "-"),
    "reward model misleads": (COLORS["rm"], "-"),
}
STEPS = "step (batches of 16 prompts x 8 rollouts)"


def draw_band(axis, curves, cell, column, label, window=1):
    """Mean over seeds as a line, lowest to highest as a band."""
    by_step = curve(curves, cell, column, window)
    if not by_step:
        return
    color, line = STYLE[label]
    steps = sorted(by_step)
    means = [np.mean(by_step[step]) for step in steps]
    lowest = [min(by_step[step]) for step in steps]
    highest = [max(by_step[step]) for step in steps]
    axis.plot(steps, means, color=color, ls=line, label=label)
    axis.fill_between(steps, lowest, highest, color=color, alpha=0.12, lw=0)


def save_figure(figure, axes, path, xlabel=STEPS):
    for axis in np.ravel(axes):
        axis.set_xlabel(xlabel)
        axis.spines[["top", "right"]].set_visible(False)
    np.ravel(axes)[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot().close(figure)


def draw_rates(curves, path):
    """Three methods, one panel per learning rate."""
    figure, axes = pyplot().subplots(1, len(SAME_RATES), figsize=(14, 3.6), sharey=True,
                                     constrained_layout=True)
    for axis, rate in zip(axes, SAME_RATES, strict=True):
        for method in THREE:
            draw_band(axis, curves, f"rate {rate} / {method}", "hard", method)
        axis.set(title=f"learning rate {rate}", ylim=(0, 1))
    axes[0].set_ylabel("hard validation pass@1 (share)")
    save_figure(figure, axes, path)


def draw_curves(curves, path):
    """Every method at its own best rate: a column per training regime, a row per evaluation."""
    figure, axes = pyplot().subplots(2, 3, figsize=(12, 7), sharey=True, constrained_layout=True)
    for column, regime in enumerate(("easy", "mixed", "hard")):
        for row, kind in enumerate(("hard", "easy")):
            axis = axes[row, column]
            for method in SWEPT:
                draw_band(axis, curves, f"{regime} / {method}", kind, method)
            axis.set(title=f"trained on {regime} problems",
                     ylabel=f"{kind} validation pass@1 (share)", ylim=(0, 1))
    save_figure(figure, axes, path)


def draw_hacking(curves, path):
    """The reward model's score beside the truth, on hard validation problems."""
    figure, (scores, truth) = pyplot().subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    for cell, label in (("hard / RM only", "RM only"), ("rate 0.0001 / RM only", "RM only, 1e-4"),
                        ("hard / HERO", "HERO"), ("hard / verifier", "verifier")):
        draw_band(scores, curves, cell, "hard rm", label)
        draw_band(truth, curves, cell, "hard", label)
    scores.set_ylabel("reward model's mean score (logit)")
    truth.set(ylabel="hard validation pass@1 (share)", ylim=(0, 1))
    save_figure(figure, (scores, truth), path)


def draw_gate(curves, path):
    """Good and misleading reward model; where there are gate runs, the reliability of both."""
    has_gate = any(row.get("reliability") is not None for row in curves)
    figure, axes = pyplot().subplots(1, 3 if has_gate else 2, figsize=(12, 3.6),
                                     constrained_layout=True)
    for axis, regime, title in ((axes[0], "hard", "reward model that transfers"),
                                (axes[1], "misleading", "reward model that misleads")):
        for method in ("HERO", "HERO gate", "HERO std", "HERO std gate", "RM only"):
            draw_band(axis, curves, f"{regime} / {method}", "hard", method)
        draw_band(axis, curves, "hard / verifier", "hard", "verifier")
        axis.set(title=title, ylabel="hard validation pass@1 (share)", ylim=(0, 1))

    if has_gate:
        axis = axes[2]
        draw_band(axis, curves, "hard / HERO gate", "reliability", "reward model transfers")
        draw_band(axis, curves, "misleading / HERO gate", "reliability", "reward model misleads")
        axis.legend(frameon=False, fontsize=8)
        axis.set(title="the gate, HERO", ylabel="reliability (2 AUROC - 1)", ylim=(0, 1))
    save_figure(figure, axes, path)


def draw_groups(curves, path):
    """What the reward model still tells apart, and where the verifier is silent."""
    figure, (aurocs, silent) = pyplot().subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    for method in ("verifier", "RM only", "HERO", "HERO std"):
        draw_band(aurocs, curves, f"hard / {method}", "auroc", method, window=10)
        draw_band(silent, curves, f"hard / {method}", "all wrong", method, window=10)
    aurocs.set_ylabel("RM AUROC against verdicts, mixed groups")
    silent.set_ylabel("groups the verifier calls all wrong (share)")
    save_figure(figure, (aurocs, silent), path, "step, means over ten (batches of 16 x 8)")


# ---------------------------------------------------------------------------- everything


def write_report(folder):
    """Writes both pages and the figures into `folder`, from the CSV files there."""
    write_file(folder / "study.md", tables(folder))
    write_file(folder / "study_differences.md", difference_tables(folder))
    curves = read_csv(folder / "study_curves.csv")
    draw_rates(curves, folder / "study_rates.png")
    draw_curves(curves, folder / "study_curves.png")
    draw_hacking(curves, folder / "study_hacking.png")
    draw_gate(curves, folder / "study_gate.png")
    draw_groups(curves, folder / "study_groups.png")


if __name__ == "__main__":
    write_report(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
