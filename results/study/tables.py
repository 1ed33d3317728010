"""Tables and figures of the study, from its CSV files alone.

    python results/study_tables.py          study.md and the figures of results/
    python results/study_tables.py DIR      the same in another folder that holds the CSV files

DESIGN.md says what the outcomes, the family of claims and the verdicts are; it was written before
the runs. Every interval is a 95 % interval of Student's t over worlds, and every difference is
paired by world. What has no runs is "not run".
"""

import csv
import math
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from problems import write_file  # noqa: E402
from report import COLORS, OTHER_COLOR, pyplot  # noqa: E402
from rewards import auroc  # noqa: E402

# ---------------------------------------------------------------------------- what is claimed


@dataclass(frozen=True)
class Claim:
    """That a difference is above 0: the sum of an outcome over cells, minus that over others."""
    text: str
    plus: tuple
    minus: tuple
    outcome: str = "course"                       # a key of outcomes


def cell_at(recall, method):
    """The name of the cell of a method at a recall, one of RECALLS."""
    condition = "hard" if recall == DEFAULT_RECALL else f"recall {recall}"
    return f"{condition} / {method}"


def cells_of(conditions, methods):
    """The names of the cells of every condition with every method."""
    return [f"{condition} / {method}" for condition, method in product(conditions, methods)]


DEFAULT_RECALL = "0.07"
RECALLS = ("0", "0.02", "0.05", DEFAULT_RECALL, "0.1", "0.21")
HERO = ("hard / HERO",)
VERIFIER = ("hard / verifier",)

# The twelve claims that are tested together, in the order of DESIGN.md.
FAMILY = [
    *(Claim(f"HERO beats the verifier alone at a recall of {recall}", (cell_at(recall, "HERO"),),
            (cell_at(recall, "verifier"),))
      for recall in ("0.21", "0.1", "0.07", "0.05", "0.02")),
    Claim("without any accepted answer HERO still learns", ("recall 0 / HERO",), ("start",)),
    Claim("the sparser the verifier, the larger HERO's lead (0.02 against 0.21)",
          ("recall 0.02 / HERO", "recall 0.21 / verifier"),
          ("recall 0.02 / verifier", "recall 0.21 / HERO")),
    Claim("HERO beats the reward model alone", HERO, ("hard / RM only",)),
    Claim("a dense range on the wrong side matters more than on the correct side (Fig. 2a)",
          ("hard / wrong side only",), ("hard / correct side only",)),
    Claim("HERO beats the naive sum of 0.9 (Table 9)", HERO, ("hard / naive 0.9",)),
    Claim("stratification matters, not only the bands' width: HERO beats the naive sum of 0.95",
          HERO, ("hard / naive 0.95",)),
    Claim("the weight helps (Table 4)", HERO, ("hard / no weight",)),
]

# Claims that are judged alone. Those that the predictions of DESIGN.md need have a name.
EASY_MORE = Claim("HERO's lead is larger on easy than on hard problems", HERO, VERIFIER,
                  "easy minus hard")
FASTER = Claim("bands of 0.2 are ahead of HERO at the first evaluation", ("hard / bands 0.2",),
               HERO, "first")
HACKED_LATER = Claim("bands of 0.2 lose ground on HERO from the first evaluation to the last",
                     HERO, ("hard / bands 0.2",), "gain")
HACKED = Claim("the reward model alone at 2e-4: its best evaluation is better than its last",
               ("sweep 0.0002 / RM only",), (), "best minus last")
SCORE_RISES = Claim("the reward model alone at 2e-4: its score rises from the start to the last",
                    ("sweep 0.0002 / RM only",), (), "score gain")
LUCKY_ORDER = Claim("lucky answers: the correct side only beats the wrong side only",
                    ("lucky / correct side only",), ("lucky / wrong side only",))
LUCKY_BETA = Claim("lucky answers: a beta of 0.5 beats the wrong side only (a beta of 0)",
                   ("lucky / beta 0.5",), ("lucky / wrong side only",))
LEASH = Claim("the reward model with a leash beats HERO", ("hard / RM leash",), HERO)
WEAK_LEASH = Claim("weak reward model: HERO beats the reward model with a leash",
                   ("weak / HERO",), ("weak / RM leash",))
LONG = Claim("HERO ends higher than the verifier alone after three times the steps",
             ("long / HERO",), ("long / verifier",), "end")
LONG_LATER = [
    Claim(f"{method} ends higher than {other} after three times the steps (later)",
          (f"long / {method}",), (f"long / {other}",), "end")
    for other, method in product(("verifier", "HERO"), ("HERO at 1e-4", "RM leash", "naive 0.95"))]
SURVIVES = [
    Claim(f"{kind} reward model: HERO beats {other}", (f"{kind} / HERO",), (f"{kind} / {other}",))
    for kind, other in product(("weak", "reversed"), ("RM only", "naive 0.5"))]
ALONE = {
    "Table 2": [
        EASY_MORE,
        Claim("HERO ends higher than the verifier alone, hard data", HERO, VERIFIER, "end"),
        Claim("HERO beats the verifier alone, mixed data", ("mixed / HERO",),
              ("mixed / verifier",)),
        Claim("HERO beats the reward model alone, mixed data", ("mixed / HERO",),
              ("mixed / RM only",)),
        Claim("HERO beats the verifier alone, easy data", ("easy / HERO",), ("easy / verifier",)),
        Claim("HERO beats the reward model alone, easy data", ("easy / HERO",),
              ("easy / RM only",))],
    "Fig. 2a": [
        Claim("both sides beat the wrong side only", HERO, ("hard / wrong side only",)),
        Claim("both sides beat the correct side only", HERO, ("hard / correct side only",)),
        Claim("the correct side only beats the verifier alone", ("hard / correct side only",),
              VERIFIER)],
    "Fig. 2b": [
        Claim("bands of 0.1 beat those of 0.05", ("hard / bands 0.1",), HERO),
        Claim("bands of 0.1 beat those of 0.2", ("hard / bands 0.1",), ("hard / bands 0.2",)),
        FASTER, HACKED_LATER],
    "Table 9": [
        Claim("HERO beats the naive sum of 0.1", HERO, ("hard / naive 0.1",)),
        Claim("HERO beats the naive sum of 0.5", HERO, ("hard / naive 0.5",))],
    "Std scaling": [
        Claim("HERO with std scaling beats HERO", ("hard / HERO std",), HERO),
        Claim("the verifier with std scaling beats it without", ("hard / verifier std",),
              VERIFIER)],
    "Fig. 5": [HACKED, SCORE_RISES],
    "Misleading reward model": [
        Claim("weak: HERO beats the verifier alone", ("weak / HERO",), VERIFIER),
        Claim("reversed: HERO beats the verifier alone", ("reversed / HERO",), VERIFIER),
        *SURVIVES],
    "Lucky answers": [
        Claim("the verifier alone beats the start", ("lucky / verifier",), ("start",)),
        Claim("HERO beats the verifier alone", ("lucky / HERO",), ("lucky / verifier",)),
        LUCKY_ORDER, LUCKY_BETA],
    "Controls": [
        LEASH,
        Claim("HERO with a leash beats HERO", ("hard / HERO leash",), HERO),
        Claim("a length guard helps the reward model alone", ("hard / RM length guard",),
              ("hard / RM only",)),
        WEAK_LEASH,
        Claim("weak: HERO with a leash beats the reward model with a leash",
              ("weak / HERO leash",), ("weak / RM leash",))],
    "Three times the steps": [LONG, *LONG_LATER],
}


@dataclass(frozen=True)
class Prediction:
    """A prediction of DESIGN.md. It came true if all of what it names did."""
    text: str
    confirmed: tuple = ()                         # claims of the family, by number, from 1
    not_confirmed: tuple = ()
    above_0: tuple = ()                           # claims of which the mean is above 0


PREDICTIONS = {
    "a": Prediction("the sparser the verifier, the larger HERO's lead", confirmed=(7,)),
    "b": Prediction("at a recall of 0 HERO still learns", confirmed=(6,)),
    "c": Prediction("the lead on easy problems is at least that on hard ones",
                    above_0=(EASY_MORE,)),
    "d": Prediction("Fig. 2a's order holds over the course", confirmed=(9,)),
    "e": Prediction("the weight of Eq. 4 does not help", not_confirmed=(12,)),
    "f": Prediction("a naive sum with a small coefficient is as good as HERO",
                    not_confirmed=(11,)),
    "g": Prediction("wider bands are faster, and are hacked later",
                    above_0=(FASTER, HACKED_LATER)),
    "h": Prediction("the reward model alone is hacked at a high rate",
                    above_0=(HACKED, SCORE_RISES)),
    "i": Prediction("with lucky answers Fig. 2a's order turns round, and beta matters",
                    above_0=(LUCKY_ORDER, LUCKY_BETA)),
    "j": Prediction("a leash puts the reward model ahead of HERO, and behind it if it is weak",
                    above_0=(LEASH, WEAK_LEASH)),
    "k": Prediction("a misleading reward model costs HERO less than the methods that trust it",
                    above_0=tuple(SURVIVES)),
    "l": Prediction("HERO keeps a lead at three times the steps", above_0=(LONG,)),
}

# Cells that are shown together: {heading: (cells, the cell that the others are compared with)}.
TABLES = {
    "Table 2: what is trained on": ([
        *cells_of(("hard", "mixed", "easy"), ("verifier", "RM only", "HERO")),
        "hard / oracle", "hard / verifier std", "hard / HERO std"], "hard / verifier"),
    "Fig. 2a, Fig. 2b and Table 4": ([
        "hard / verifier", "hard / correct side only", "hard / wrong side only", "hard / HERO",
        "hard / bands 0.1", "hard / bands 0.2", "hard / no weight"], "hard / HERO"),
    "Table 9: naive sums": ([
        "hard / naive 0.1", "hard / naive 0.5", "hard / naive 0.9", "hard / naive 0.95",
        "hard / HERO"], "hard / HERO"),
    "Misleading reward models": (
        cells_of(("hard", "weak", "reversed"), ("HERO", "RM only", "naive 0.5")),
        "hard / verifier"),
    "Lucky answers": ([
        "lucky / verifier", "lucky / correct side only", "lucky / wrong side only", "lucky / HERO",
        "lucky / beta 0.5"], "lucky / verifier"),
    "Controls": ([
        "hard / RM only", "hard / RM length guard", "hard / RM leash", "hard / HERO leash",
        "hard / HERO", "weak / RM leash", "weak / HERO leash", "weak / HERO"], "hard / HERO"),
    "Three times the steps": ([
        "long / verifier", "long / HERO", "long / HERO at 1e-4", "long / RM leash",
        "long / naive 0.95"], "long / verifier"),
}

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


def group_runs(rows):
    """{cell: {world: its rows, by step}}"""
    cells = {}
    for row in rows:
        cells.setdefault(row["cell"], {}).setdefault(row["world"], []).append(row)
    return cells


def course(rows, cell):
    """{world: the primary outcome of a cell}. rows: of study.csv."""
    runs = group_runs(rows).get(cell, {})
    return {world: outcomes(run)["course"] for world, run in runs.items()}


def outcomes(run):
    """What is known of a run. run: its rows, by step, the first one before training. -> dict

    course: the mean of pass@1 over the evaluations after step 0, and over hard and easy problems
    end: the last evaluation, first: the first one after step 0, likewise over both
    """
    evaluated = run[1:]
    hard = [row["hard"] for row in evaluated]
    easy = [row["easy"] for row in evaluated]
    both = [(row["hard"] + row["easy"]) / 2 for row in evaluated]
    return {
        "course": np.mean(both),
        "course hard": np.mean(hard),
        "course easy": np.mean(easy),
        "easy minus hard": np.mean(easy) - np.mean(hard),
        "end": both[-1],
        "end hard": hard[-1],
        "end easy": easy[-1],
        "first": both[0],
        "gain": both[-1] - both[0],
        "best minus last": max(both) - both[-1],
        "score gain": run[-1]["hard rm"] - run[0]["hard rm"],
        "score": run[-1]["hard rm"],
        "all wrong": np.mean([row["all wrong"] for row in evaluated]),
        "entropy": run[-1]["entropy"],
        "easy pass@16": run[-1].get("easy pass@16"),          # in neighbors.csv only
        "rate": run[-1]["rate"],
    }


class Study:
    """The outcomes of all runs, {cell: {world: outcomes}}.

    The cell "start" is the policy before training: every outcome is that of step 0. It is the
    cell "recall 0 / verifier" as well, where every group is all wrong and nothing is learned.
    """

    def __init__(self, rows):
        self.runs = group_runs(rows)
        start = {}                                # world: step 0, twice
        for cell, by_world in self.runs.items():
            for world, run in by_world.items():
                if cell.startswith("hard / "):
                    start[world] = [run[0], run[0] | {"all wrong": 1.0}]
        if start:
            self.runs |= {"start": start, "recall 0 / verifier": start}

        self.cells = {}
        for cell, by_world in self.runs.items():
            self.cells[cell] = {world: outcomes(run) for world, run in by_world.items()}

    def values(self, cell, outcome):
        """The outcome in every world that the cell was run in."""
        return [values[outcome] for values in self.cells.get(cell, {}).values()]

    def common_worlds(self, cells):
        """The worlds that all of these cells were run in."""
        return sorted(set.intersection(*(set(self.cells.get(cell, {})) for cell in cells)))

    def difference(self, plus, minus, outcome):
        """The sum over the cells `plus` minus that over `minus`, in each world that has all."""
        differences = []
        for world in self.common_worlds(plus + minus):
            gained = sum(self.cells[cell][world][outcome] for cell in plus)
            lost = sum(self.cells[cell][world][outcome] for cell in minus)
            differences.append(gained - lost)
        return differences

    def gap_shares(self, cell, verifier):
        """Per world, how much of the way from the verifier alone to the oracle a cell goes."""
        shares = []
        for world in self.common_worlds((cell, verifier, "hard / oracle")):
            low, value, high = (self.cells[name][world]["course"]
                                for name in (verifier, cell, "hard / oracle"))
            if high > low:
                shares.append((value - low) / (high - low))
        return shares


# ---------------------------------------------------------------------------- statistics

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


def p_value(values):
    """Two-sided p-value of Student's t test that a mean is 0. 1 for fewer than two values.

    With t = sqrt(n) tan(angle), n degrees of freedom, the density of t is cos(angle)^(n - 1).
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        return 1.0
    deviation = values.std(ddof=1)
    if deviation == 0:
        return 1.0 if values.mean() == 0 else 0.0

    freedom = len(values) - 1
    t = abs(values.mean()) / (deviation / len(values) ** 0.5)
    angles = np.linspace(0, np.pi / 2, 100_001)
    density = np.cos(angles) ** (freedom - 1)
    tail = angles >= math.atan(t / freedom ** 0.5)
    return float(np.trapezoid(density[tail], angles[tail]) / np.trapezoid(density, angles))


def holm(p_values):
    """Holm's adjusted p-values, in the order given: significant at 5 % where below 0.05."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def family_verdicts(study):
    """The verdict on each claim of FAMILY, and its adjusted p-value. -> two lists"""
    differences = [study.difference(claim.plus, claim.minus, claim.outcome) for claim in FAMILY]
    adjusted = holm([p_value(values) for values in differences])

    verdicts = []
    for values, p in zip(differences, adjusted, strict=True):
        if not values:
            verdicts.append("not run")
        elif p >= 0.05:
            verdicts.append("open")
        else:
            verdicts.append("confirmed" if np.mean(values) > 0 else "contradicted")
    return verdicts, adjusted


def verdict_alone(differences):
    """The verdict on a claim that is judged by its own interval."""
    mean, half = mean_interval(differences)
    if math.isnan(mean):
        return "not run"
    if math.isnan(half) or abs(mean) <= half:
        return "open"
    return "seen" if mean > 0 else "opposite seen"


def came_true(study, prediction, verdicts):
    """Whether a prediction came true, as text. verdicts: of the family."""
    # What has to hold: pairs of a state, which may be "not run", and whether it does.
    tests = []
    for number in prediction.confirmed:
        tests.append((verdicts[number - 1], verdicts[number - 1] == "confirmed"))
    for number in prediction.not_confirmed:
        tests.append((verdicts[number - 1], verdicts[number - 1] != "confirmed"))
    for claim in prediction.above_0:
        differences = study.difference(claim.plus, claim.minus, claim.outcome)
        mean = np.mean(differences) if differences else math.nan
        tests.append(("run" if differences else "not run", mean > 0))

    states = [state for state, _ in tests]
    if "not run" in states:
        return "not run"
    # What has not been run counts against all others in Holm's method, so "open" may yet change.
    if "open" in states and "not run" in verdicts:
        return "not decided"
    return "came true" if all(passed for _, passed in tests) else "failed"


# ---------------------------------------------------------------------------- numbers as text


def show(values, number=".3f"):
    """0.744 ± 0.069; "not run" for no values, no interval for one."""
    mean, half = mean_interval(values)
    if math.isnan(mean):
        return "not run"
    if math.isnan(half):
        return f"{mean:{number}}"
    return f"{mean:{number}} ± {half:.3f}"


def show_difference(values):
    """+0.018 ± 0.024, as show."""
    return show(values, "+.3f")


def show_p(p):
    """0.0123; what is below the last digit is said to be so."""
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def show_mean(values):
    """0.744, or a dash for no values: the worlds' spread is not an uncertainty of anything."""
    return f"{np.mean(values):.3f}" if len(values) else "-"


def markdown_table(columns, rows):
    """A markdown table. columns: names; rows: lists of texts. -> lines"""
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in rows:
        lines.append(f"| {' | '.join(row)} |")
    return lines


def page(title, sections):
    """A markdown page. sections: {heading: lines}. -> str"""
    text = f"# {title}\n"
    for heading, lines in sections.items():
        text += f"\n## {heading}\n\n" + "\n".join(lines) + "\n"
    return text


# ---------------------------------------------------------------------------- study.md


def claim_columns(study, claim):
    """The difference that a claim is judged by, the same by kind of problem, and the worlds."""
    differences = study.difference(claim.plus, claim.minus, claim.outcome)
    by_kind = []
    for kind in ("hard", "easy"):
        outcome = f"{claim.outcome} {kind}"
        is_known = claim.outcome in ("course", "end")
        values = study.difference(claim.plus, claim.minus, outcome) if is_known else []
        by_kind.append(show_difference(values) if values else "-")
    return [show_difference(differences), *by_kind, str(len(differences))]


def family_table(study):
    verdicts, adjusted = family_verdicts(study)
    rows = []
    for number, (claim, verdict, p) in enumerate(zip(FAMILY, verdicts, adjusted, strict=True), 1):
        rows.append([str(number), f"**{verdict}**", claim.text, *claim_columns(study, claim),
                     show_p(p) if verdict != "not run" else "-"])
    return markdown_table(["", "verdict", "claim", "difference of the course", "on hard problems",
                           "on easy problems", "worlds", "p, Holm"], rows)


def two_looks_table(rows):
    """The claims that went on from five worlds to ten: the first five, and the others alone."""
    first = Study([row for row in rows if row["world"] < 5])
    others = Study([row for row in rows if 5 <= row["world"] < 10])
    verdicts, adjusted = family_verdicts(first)
    lines = []
    for claim, verdict, p in zip(FAMILY, verdicts, adjusted, strict=True):
        new = others.difference(claim.plus, claim.minus, claim.outcome)
        if new:
            known = first.difference(claim.plus, claim.minus, claim.outcome)
            lines.append([claim.text, show_difference(known), verdict, show_p(p),
                          show_difference(new)])
    return markdown_table(["claim", "first five worlds", "verdict then", "p, Holm, then",
                           "the other worlds alone"], lines)


def alone_table(study):
    rows = []
    for topic, claims in ALONE.items():
        for claim in claims:
            differences = study.difference(claim.plus, claim.minus, claim.outcome)
            rows.append([topic, verdict_alone(differences), claim.text, claim.outcome,
                         *claim_columns(study, claim)])
    return markdown_table(["", "verdict", "claim", "outcome", "difference", "on hard problems",
                           "on easy problems", "worlds"], rows)


def prediction_table(study):
    verdicts, _ = family_verdicts(study)
    rows = [[letter, came_true(study, prediction, verdicts), prediction.text]
            for letter, prediction in PREDICTIONS.items()]
    return markdown_table(["", "result", "prediction"], rows)


def cell_row(study, cell, reference):
    """One cell: its means, and the paired difference to the cell `reference`."""
    difference = "" if cell == reference else show_difference(
        study.difference((cell,), (reference,), "course"))
    rates = study.values(cell, "rate")
    means = [show_mean(study.values(cell, outcome)) for outcome in
             ("course hard", "course easy", "end hard", "end easy", "all wrong", "score")]
    return [cell, *means, difference, f"{rates[0]:g}" if rates else "-",
            str(len(rates)) if rates else "not run"]


def cell_table(study, cells, reference):
    rows = [cell_row(study, cell, reference) for cell in cells]
    return markdown_table(["trained on / method", "course, hard", "course, easy", "end, hard",
                           "end, easy", "all wrong", "RM score",
                           f"course minus {reference}", "rate", "worlds"], rows)


def sparseness_table(study):
    rows = []
    for recall in RECALLS:
        hero = cell_at(recall, "HERO")
        verifier = cell_at(recall, "verifier")
        row = [recall, show_mean(study.values(verifier, "all wrong"))]
        worlds = study.common_worlds((verifier, hero))
        for cell in (verifier, hero):
            for outcome in ("course", "end"):
                row.append(show_mean([study.cells[cell][world][outcome] for world in worlds]))
        for outcome in ("course hard", "course easy", "end hard", "end easy"):
            row.append(show_difference(study.difference((hero,), (verifier,), outcome)))
        row.append(show(study.gap_shares(hero, verifier), ".2f"))
        rows.append(row)
    lines = markdown_table(
        ["recall", "all wrong", "verifier: course", "end", "HERO: course", "end",
         "HERO minus verifier: course, hard", "course, easy", "end, hard", "end, easy",
         "share of the gap"], rows)

    bounds = []
    for cell in ("start", "hard / RM only", "hard / oracle"):
        bounds.append(f"{cell}: course {show_mean(study.values(cell, 'course'))}, end "
                      f"{show_mean(study.values(cell, 'end'))}")
    return [*lines, "", "At every recall alike: " + "; ".join(bounds) + "."]


def sweep_cells(study):
    """{swept method: {rate: its cell}}, both in the order of study.csv"""
    cells = {}
    for cell in study.cells:
        if cell.startswith("sweep "):
            rate, method = cell.removeprefix("sweep ").split(" / ")
            cells.setdefault(method, {})[rate] = cell
    return cells


def rate_table(study):
    """The course of every swept method at every rate, and its end."""
    rows = []
    for method, cells in sweep_cells(study).items():
        for rate, cell in cells.items():
            texts = [show_mean(study.values(cell, outcome)) for outcome in
                     ("course", "course hard", "course easy", "end", "score")]
            rows.append([method, rate, *texts, str(len(study.cells[cell]))])
    return markdown_table(["method", "rate", "course", "on hard", "on easy", "end", "RM score",
                           "worlds"], rows)


def envelope(study, cells, column):
    """The accuracy at each evaluated step, at the rate that is best there.

    cells: {rate: cell}. -> {step: (mean over worlds, rate)}
    """
    best = {}
    for rate, cell in cells.items():
        for step, mean in mean_by_step(study, cell, column).items():
            if step not in best or mean > best[step][0]:
                best[step] = (mean, rate)
    return best


def mean_by_step(study, cell, column):
    """{step: mean over worlds} of a column of study.csv."""
    by_step = {}
    for run in study.runs[cell].values():
        for row in run:
            by_step.setdefault(row["step"], []).append(row[column])
    return {step: float(np.mean(values)) for step, values in by_step.items()}


def envelope_table(study):
    rows = []
    steps = []
    for method, cells in sweep_cells(study).items():
        for column in ("hard", "easy"):
            best = envelope(study, cells, column)
            steps = sorted(best)[1:]
            rows.append([f"{method}, {column}",
                         *(f"{best[step][0]:.3f} at {best[step][1]}" for step in steps)])
    return markdown_table(["accuracy", *(f"step {step:.0f}" for step in steps)], rows)


def table_1(cold_start):
    """Verifier and RM thresholds against the truth, on cold-start responses to hard problems."""
    good = [row for row in cold_start if row["reward model"] == "good"]
    truth = np.array([row["truth"] for row in good]) > 0
    scores = np.array([row["score"] for row in good])

    accepted_by = {"verifier": np.array([row["verified"] for row in good]) > 0}
    for percent in (50, 70, 80, 90):
        threshold = np.percentile(scores, percent)
        name = f"reward model above {threshold:.2f} (its {percent} % point)"
        accepted_by[name] = scores > threshold

    rows = []
    for name, accepted in accepted_by.items():
        shares = (share_of(accepted, truth), share_of(truth, accepted),
                  share_of(accepted, ~truth), (accepted == truth).mean())
        rows.append([name, *(f"{100 * share:.1f} %" for share in shares)])
    return markdown_table(["on cold-start responses to hard problems", "recall", "precision",
                           "false positives", "accuracy"], rows)


def share_of(chosen, members):
    """The share of the members that are chosen; nan if there are no members."""
    return chosen[members].mean() if members.any() else math.nan


def figure_6(cold_start):
    """AUROC of each reward model in each group of eight, against the verdicts and the truth."""
    groups = {}                                   # {reward model: {(world, group): rows}}
    for row in cold_start:
        by_group = groups.setdefault(row["reward model"], {})
        by_group.setdefault((row["world"], row["group"]), []).append(row)

    rows = []
    for reward_model, by_group in groups.items():
        for label, name in (("verified", "the verdicts"), ("truth", "the truth")):
            aurocs = []
            for group in by_group.values():
                scores = torch.tensor([row["score"] for row in group])
                labels = torch.tensor([row[label] for row in group])
                aurocs.append(auroc(scores, labels))

            # A group of one class only has none.
            aurocs = np.array([value for value in aurocs if not math.isnan(value)])
            if len(aurocs) == 0:
                continue
            near_chance = (aurocs >= 0.4) & (aurocs <= 0.6)
            rows.append([f"{reward_model} RM against {name}", str(len(aurocs)),
                         f"{aurocs.mean():.2f}", f"{np.median(aurocs):.2f}",
                         f"{100 * (aurocs >= 0.9).mean():.0f} %",
                         f"{100 * near_chance.mean():.0f} %"])
    return markdown_table(["AUROC per group, cold start, hard", "groups", "mean", "median",
                           "at least 0.9", "0.4 to 0.6"], rows)


def how_many(rows):
    """How many runs there are, and how long they took."""
    last_rows = [run[-1] for by_world in group_runs(rows).values() for run in by_world.values()]
    seconds = [row["seconds"] for row in last_rows]
    return [f"{len(seconds)} runs, {np.sum(seconds) / 3600:.1f} hours of one worker, two at once; "
            f"{np.median(seconds):.0f} seconds per run (median)."]


def tables(folder):
    """The text of study.md, from the CSV files in `folder`."""
    rows = read_csv(folder / "study.csv")
    cold_start = read_csv(folder / "study_cold_start.csv")
    study = Study(rows)
    sections = {
        "How to read this page": [
            "`python results/study_tables.py` writes this page. [DESIGN.md](DESIGN.md) says what",
            "the words mean: it was written before the runs. The course is the mean of pass@1 over",
            "the evaluations after step 0, and over hard and easy problems where nothing else is",
            "said. Differences are paired by world, ± half of the 95 % interval. Means are without",
            "intervals, because worlds differ by more than methods do. All wrong: the share of the",
            "groups of training in which no response is accepted. RM score: at the end, on hard",
            "problems, of the reward model that the run was trained with.",
            "",
            *how_many(rows)],
        "The family: twelve claims, tested together": family_table(study),
        "Two looks: claims that went on to ten worlds (later)": two_looks_table(rows),
        "Predictions": prediction_table(study),
        "Sparseness": sparseness_table(study),
        "Claims that are judged alone": [
            "With this many intervals, some exclude 0 by chance.", "", *alone_table(study)]}
    for heading, (cells, reference) in TABLES.items():
        sections[heading] = cell_table(study, cells, reference)
    sections |= {
        "The sweep": rate_table(study),
        "The envelope: each method at the rate that is best at the step": envelope_table(study)}
    if cold_start:
        sections |= {"Table 1": table_1(cold_start), "Fig. 6": figure_6(cold_start)}
    return page("The study's tables", sections)


# ---------------------------------------------------------------------------- figures

METHOD_COLORS = {"verifier": COLORS["verifier"], "RM only": COLORS["rm"], "HERO": COLORS["hero"],
                 "oracle": COLORS["oracle"], "naive 0.5": COLORS["naive"],
                 "naive 0.9": OTHER_COLOR, "naive 0.95": OTHER_COLOR}
STEPS = "step (batches of 16 prompts x 8 rollouts)"


def save_figure(figure, path):
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
        has_lines = axis.get_legend_handles_labels()[0]
        if has_lines:
            axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot().close(figure)


def draw_sparseness(study, path):
    """HERO minus the verifier by recall, over the course and at the end; and where both end."""
    figure, axes = pyplot().subplots(1, 3, figsize=(13, 4), constrained_layout=True)
    places = np.arange(len(RECALLS))

    # 1. Differences, with intervals. Hard and easy problems stand side by side.
    titles = {"course": "the whole course", "end": "the end"}
    for axis, (outcome, title) in zip(axes, titles.items(), strict=False):
        for shift, kind, color in ((-0.08, "hard", COLORS["hero"]), (0.08, "easy", OTHER_COLOR)):
            intervals = []
            for recall in RECALLS:
                differences = study.difference((cell_at(recall, "HERO"),),
                                               (cell_at(recall, "verifier"),),
                                               f"{outcome} {kind}")
                intervals.append(mean_interval(differences))
            means, halves = np.array(intervals).T
            axis.errorbar(places + shift, means, np.nan_to_num(halves), fmt="o", capsize=3,
                          color=color, label=f"{kind} problems")
        axis.axhline(0, color="gray", lw=0.8)
        axis.set(title=f"{title}: HERO minus verifier", ylabel="difference of pass@1, paired")

    # 2. Where each method ends. Two of the four do not read the verdicts.
    for method in ("oracle", "HERO", "RM only", "verifier"):
        ends = []
        for recall in RECALLS:
            reads_verdicts = method in ("HERO", "verifier")
            cell = cell_at(recall if reads_verdicts else DEFAULT_RECALL, method)
            values = study.values(cell, "end")
            ends.append(np.mean(values) if values else math.nan)
        axes[2].plot(places, ends, marker="o", color=METHOD_COLORS[method], label=method)
    axes[2].set(title="the end, mean over worlds", ylabel="pass@1, hard and easy", ylim=(0, 1))

    for axis in axes:
        axis.set_xticks(places, RECALLS)
        axis.set_xlabel("recall of the verifier")
    save_figure(figure, path)


def draw_courses(study, path):
    """Several methods minus the verifier at every evaluated step, at the default recall."""
    figure, axes = pyplot().subplots(1, 2, figsize=(10, 4), sharey=True, constrained_layout=True)
    verifier = study.runs.get("hard / verifier", {})
    for axis, kind in zip(axes, ("hard", "easy"), strict=True):
        for shift, method in enumerate(("oracle", "naive 0.95", "HERO", "RM only")):
            by_step = {}                          # step: differences, one per world
            for world, run in study.runs.get(f"hard / {method}", {}).items():
                for ours, theirs in zip(run[1:], verifier.get(world, [])[1:], strict=False):
                    by_step.setdefault(ours["step"], []).append(ours[kind] - theirs[kind])
            if not by_step:
                continue

            steps = np.array(sorted(by_step))
            means, halves = np.array([mean_interval(by_step[step]) for step in steps]).T
            axis.errorbar(steps + 0.6 * shift, means, np.nan_to_num(halves), marker="o",
                          capsize=3, color=METHOD_COLORS[method], label=method)
            axis.set_xticks(steps)
        axis.axhline(0, color="gray", lw=0.8)
        axis.set(title=f"{kind} problems", xlabel=STEPS,
                 ylabel="pass@1 minus the verifier's, paired")
    save_figure(figure, path)


def draw_envelope(study, path):
    """Every swept method at the rate that is best at each step."""
    figure, axes = pyplot().subplots(1, 2, figsize=(10, 4), sharey=True, constrained_layout=True)
    for axis, kind in zip(axes, ("hard", "easy"), strict=True):
        for method, cells in sweep_cells(study).items():
            best = envelope(study, cells, kind)
            steps = sorted(best)
            axis.plot(steps, [best[step][0] for step in steps], marker="o",
                      color=METHOD_COLORS[method], label=method)
        axis.set(title=f"{kind} problems, best rate at every step", xlabel=STEPS,
                 ylabel="pass@1, mean of two worlds", ylim=(0, 1))
    save_figure(figure, path)


def draw_hacking(study, path):
    """The reward model alone at every rate: its score beside the truth."""
    figure, (scores, truth) = pyplot().subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    cells = sweep_cells(study).get("RM only", {})
    for line, (rate, cell) in zip(("-", "--", ":"), cells.items(), strict=False):
        for axis, column in ((scores, "hard rm"), (truth, "hard")):
            means = mean_by_step(study, cell, column)
            axis.plot(list(means), list(means.values()), line, color=COLORS["rm"], marker="o",
                      label=f"rate {rate}")

    scores.set(title="RM only: what it is paid for", xlabel=STEPS,
               ylabel="reward model's mean score, hard problems")
    truth.set(title="RM only: the truth", xlabel=STEPS, ylabel="pass@1, hard problems",
              ylim=(0, 1))
    save_figure(figure, path)


def draw_long(study, path):
    """Three times the steps, one column per world: the truth above, the score below."""
    worlds = sorted({world for cell, by_world in study.runs.items() for world in by_world
                     if cell.startswith("long / ")})
    figure, axes = pyplot().subplots(2, max(1, len(worlds)), figsize=(13, 6.5), sharex=True,
                                     sharey="row", squeeze=False, constrained_layout=True)
    colors = METHOD_COLORS | {"HERO at 1e-4": COLORS["hero"], "RM leash": COLORS["rm"]}
    for method in ("verifier", "HERO", "HERO at 1e-4", "RM leash", "naive 0.95"):
        line = "--" if method in ("HERO at 1e-4", "RM leash") else "-"
        for world, run in study.runs.get(f"long / {method}", {}).items():
            steps = [row["step"] for row in run]
            truth = [(row["hard"] + row["easy"]) / 2 for row in run]
            scores = [row["hard rm"] for row in run]
            for axis, values in zip(axes[:, worlds.index(world)], (truth, scores), strict=True):
                axis.plot(steps, values, line, marker="o", ms=4, color=colors[method],
                          label=method)
                axis.set_xticks(steps)

    for world, (top, bottom) in zip(worlds, axes.T, strict=False):
        top.set_title(f"world {world:.0f}")
        bottom.set_xlabel("step")
    axes[0, 0].set(ylabel="truth: pass@1, hard and easy", ylim=(0, 1))
    axes[1, 0].set(ylabel="reward model's mean score, hard problems")
    save_figure(figure, path)


# ---------------------------------------------------------------------------- everything


def write_report(folder):
    """Writes study.md and the figures into `folder`, from the CSV files there."""
    write_file(folder / "study.md", tables(folder))
    study = Study(read_csv(folder / "study.csv"))
    draw_sparseness(study, folder / "study_sparseness.png")
    draw_courses(study, folder / "study_courses.png")
    draw_envelope(study, folder / "study_envelope.png")
    draw_hacking(study, folder / "study_hacking.png")
    draw_long(study, folder / "study_long.png")


if __name__ == "__main__":
    write_report(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
