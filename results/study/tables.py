"""Tables and figures of the study, from its two CSV files alone.

    python results/study/tables.py          study.md and the figures of this folder
    python results/study/tables.py DIR      the same in another folder that holds the CSV files

DESIGN.md says what the outcomes, the family of claims and the verdicts are; it was written before
the runs. Every interval is a 95 % interval of Student's t over worlds, and every difference is
paired by world. What has no runs is "not run".
"""

import math
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

if __name__ == "__main__":                        # the scripts are two folders above
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from problems import write_file
from report import COLORS, OTHER_COLOR, pyplot
from results.paper_tables import auroc_columns, group_aurocs, rates

HERE = Path(__file__).resolve().parent

# ---------------------------------------------------------------------------- what is claimed


@dataclass(frozen=True)
class Claim:
    """That a difference is above 0: an outcome of the cell `plus`, minus that of `minus`.

    Either may be several cells, with " + " between their names: their outcomes are added.
    """
    text: str
    plus: str
    minus: str
    outcome: str = "course"                       # a column of outcomes()


def cell_at(recall, method):
    """The name of the cell of a method at a recall, one of RECALLS."""
    condition = "hard" if recall == DEFAULT_RECALL else f"recall {recall}"
    return f"{condition} / {method}"


def cells_of(conditions, methods):
    """The names of the cells of every condition with every method."""
    return [f"{condition} / {method}" for condition, method in product(conditions, methods)]


DEFAULT_RECALL = "0.07"
RECALLS = ("0", "0.02", "0.05", DEFAULT_RECALL, "0.1", "0.21")
HERO = "hard / HERO"
VERIFIER = "hard / verifier"

# The twelve claims that are tested together, in the order of DESIGN.md.
FAMILY = [
    *(Claim(f"HERO beats the verifier alone at a recall of {recall}", cell_at(recall, "HERO"),
            cell_at(recall, "verifier"))
      for recall in ("0.21", "0.1", "0.07", "0.05", "0.02")),
    Claim("without any accepted answer HERO still learns", "recall 0 / HERO", "start"),
    Claim("the sparser the verifier, the larger HERO's lead (0.02 against 0.21)",
          "recall 0.02 / HERO + recall 0.21 / verifier",
          "recall 0.02 / verifier + recall 0.21 / HERO"),
    Claim("HERO beats the reward model alone", HERO, "hard / RM only"),
    Claim("a dense range among the rejected matters more than among the accepted (Fig. 2a)",
          "hard / rejected only", "hard / accepted only"),
    Claim("HERO beats the naive sum of 0.9 (Table 9)", HERO, "hard / naive 0.9"),
    Claim("stratification matters, not only the bands' width: HERO beats the naive sum of 0.95",
          HERO, "hard / naive 0.95"),
    Claim("the weight helps (Table 4)", HERO, "hard / no weight"),
]

# Claims that are judged alone. Those that the predictions of DESIGN.md need have a name.
EASY_MORE = Claim("HERO's lead is larger on easy than on hard problems", HERO, VERIFIER,
                  "easy minus hard")
FASTER = Claim("bands of 0.2 are ahead of HERO at the first evaluation", "hard / bands 0.2", HERO,
               "first")
HACKED_LATER = Claim("bands of 0.2 lose ground on HERO from the first evaluation to the last",
                     HERO, "hard / bands 0.2", "gain")
HACKED = Claim("the reward model alone at 2e-4: its best evaluation is better than its last",
               "sweep 0.0002 / RM only", "", "best minus last")
SCORE_RISES = Claim("the reward model alone at 2e-4: its score rises from the start to the last",
                    "sweep 0.0002 / RM only", "", "score gain")
LUCKY_ORDER = Claim("lucky answers: accepted only beats rejected only", "lucky / accepted only",
                    "lucky / rejected only")
LUCKY_BETA = Claim("lucky answers: a beta of 0.5 beats rejected only (a beta of 0)",
                   "lucky / beta 0.5", "lucky / rejected only")
LEASH = Claim("the reward model with a leash beats HERO", "hard / RM leash", HERO)
WEAK_LEASH = Claim("weak reward model: HERO beats the reward model with a leash", "weak / HERO",
                   "weak / RM leash")
LONG = Claim("HERO ends higher than the verifier alone after three times the steps",
             "long / HERO", "long / verifier", "end")
LONG_LATER = [
    Claim(f"{method} ends higher than {other} after three times the steps (later)",
          f"long / {method}", f"long / {other}", "end")
    for other, method in product(("verifier", "HERO"), ("HERO at 1e-4", "RM leash", "naive 0.95"))]
SURVIVES = [
    Claim(f"{kind} reward model: HERO beats {other}", f"{kind} / HERO", f"{kind} / {other}")
    for kind, other in product(("weak", "reversed"), ("RM only", "naive 0.5"))]
ALONE = {
    "Table 2": [
        EASY_MORE,
        Claim("HERO ends higher than the verifier alone, hard data", HERO, VERIFIER, "end"),
        Claim("HERO beats the verifier alone, mixed data", "mixed / HERO", "mixed / verifier"),
        Claim("HERO beats the reward model alone, mixed data", "mixed / HERO", "mixed / RM only"),
        Claim("HERO beats the verifier alone, easy data", "easy / HERO", "easy / verifier"),
        Claim("HERO beats the reward model alone, easy data", "easy / HERO", "easy / RM only")],
    "Fig. 2a": [
        Claim("both beat rejected only", HERO, "hard / rejected only"),
        Claim("both beat accepted only", HERO, "hard / accepted only"),
        Claim("accepted only beats the verifier alone", "hard / accepted only", VERIFIER)],
    "Fig. 2b": [
        Claim("bands of 0.1 beat those of 0.05", "hard / bands 0.1", HERO),
        Claim("bands of 0.1 beat those of 0.2", "hard / bands 0.1", "hard / bands 0.2"),
        FASTER, HACKED_LATER],
    "Table 9": [
        Claim("HERO beats the naive sum of 0.1", HERO, "hard / naive 0.1"),
        Claim("HERO beats the naive sum of 0.5", HERO, "hard / naive 0.5")],
    "Std scaling": [
        Claim("HERO with std scaling beats HERO", "hard / HERO std", HERO),
        Claim("the verifier with std scaling beats it without", "hard / verifier std", VERIFIER)],
    "Fig. 5": [HACKED, SCORE_RISES],
    "Misleading reward model": [
        Claim("weak: HERO beats the verifier alone", "weak / HERO", VERIFIER),
        Claim("reversed: HERO beats the verifier alone", "reversed / HERO", VERIFIER),
        *SURVIVES],
    "Lucky answers": [
        Claim("the verifier alone beats the start", "lucky / verifier", "start"),
        Claim("HERO beats the verifier alone", "lucky / HERO", "lucky / verifier"),
        LUCKY_ORDER, LUCKY_BETA],
    "Controls": [
        LEASH,
        Claim("HERO with a leash beats HERO", "hard / HERO leash", HERO),
        Claim("a length guard helps the reward model alone", "hard / RM length guard",
              "hard / RM only"),
        WEAK_LEASH,
        Claim("weak: HERO with a leash beats the reward model with a leash", "weak / HERO leash",
              "weak / RM leash")],
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
        *cells_of(["hard"], ("oracle", "verifier std", "HERO std"))], VERIFIER),
    "Fig. 2a, Fig. 2b and Table 4": (cells_of(["hard"], (
        "verifier", "accepted only", "rejected only", "HERO", "bands 0.1", "bands 0.2",
        "no weight")), HERO),
    "Table 9: naive sums": (cells_of(["hard"], (
        "naive 0.1", "naive 0.5", "naive 0.9", "naive 0.95", "HERO")), HERO),
    "Misleading reward models": (
        cells_of(("hard", "weak", "reversed"), ("HERO", "RM only", "naive 0.5")), VERIFIER),
    "Lucky answers": (cells_of(["lucky"], (
        "verifier", "accepted only", "rejected only", "HERO", "beta 0.5")), "lucky / verifier"),
    "Controls": ([
        *cells_of(["hard"], ("RM only", "RM length guard", "RM leash", "HERO leash", "HERO")),
        *cells_of(["weak"], ("RM leash", "HERO leash", "HERO"))], HERO),
    "Three times the steps": (cells_of(["long"], (
        "verifier", "HERO", "HERO at 1e-4", "RM leash", "naive 0.95")), "long / verifier"),
}

# ---------------------------------------------------------------------------- runs and outcomes


def outcomes(run):
    """What is known of a run. run: its rows of study.csv by step, the first before training.

    course: the mean of pass@1 over the evaluations after step 0, and over hard and easy problems
    end: the last evaluation, first: the first one after step 0, likewise over both
    """
    hard = run["hard"][1:]
    easy = run["easy"][1:]
    both = (hard + easy) / 2
    last = run.iloc[-1]
    return pd.Series({
        "course": both.mean(),
        "course hard": hard.mean(),
        "course easy": easy.mean(),
        "easy minus hard": easy.mean() - hard.mean(),
        "end": both.iloc[-1],
        "end hard": last["hard"],
        "end easy": last["easy"],
        "first": both.iloc[0],
        "gain": both.iloc[-1] - both.iloc[0],
        "best minus last": both.max() - both.iloc[-1],
        "score": last["hard rm"],
        "score gain": last["hard rm"] - run["hard rm"].iloc[0],
        "all rejected": run["all rejected"][1:].mean(),
        "entropy": last["entropy"],
        "easy pass@16": last.get("easy pass@16"),             # in the lab's CSV file only
        "rate": last["rate"],
    }, dtype=float)


class Study:
    """The runs of a CSV file, and the outcomes of all of them.

    The cell "start" is the policy before training: every outcome is that of step 0. It is the
    cell "recall 0 / verifier" as well, where every group is all rejected and nothing is learned.
    """

    def __init__(self, rows):
        self.rows = rows
        is_start = rows["cell"].str.startswith("hard / ") & (rows["step"] == 0)
        start = rows[is_start].drop_duplicates("world", keep="last")
        runs = [rows]
        for cell in ("start", "recall 0 / verifier"):
            runs += [start.assign(cell=cell), start.assign(**{"cell": cell, "all rejected": 1.0})]

        # A row for each (cell, world), a column for each outcome.
        by_run = pd.concat(runs).groupby(["cell", "world"], sort=False)
        self.outcomes = by_run.apply(outcomes)

    def values(self, cell, outcome="course"):
        """The outcome in every world that the cell was run in. -> Series by world"""
        return self.outcomes[outcome].get(cell, pd.Series(dtype=float))

    def in_common(self, cells, outcome="course"):
        """The outcome of several cells, in the worlds that all of them were run in. -> DataFrame"""
        return self.outcomes[outcome].unstack("cell").reindex(columns=cells).dropna()

    def difference(self, plus, minus, outcome="course"):
        """The difference of a Claim, in each world that has all of its cells. -> Series by world"""
        plus = plus.split(" + ")
        minus = minus.split(" + ") if minus else []
        values = self.in_common([*plus, *minus], outcome)
        return values[plus].sum(axis=1) - values[minus].sum(axis=1)

    def lead(self, claim):
        return self.difference(claim.plus, claim.minus, claim.outcome)

    def gap_shares(self, cell, verifier):
        """Per world, how much of the way from the verifier alone to the oracle a cell goes."""
        values = self.in_common([verifier, cell, "hard / oracle"])
        low, value, high = (values[name] for name in values)
        return ((value - low) / (high - low))[high > low]

    def mean_by_step(self, cell, column):
        """The mean over worlds of a column of study.csv. -> Series by step"""
        return self.rows[self.rows["cell"] == cell].groupby("step")[column].mean()

    def sweep(self):
        """The cells of the sweep. -> {swept method: {rate: its cell}}, in the order of study.csv"""
        cells = {}
        for cell in self.rows["cell"].unique():
            if cell.startswith("sweep "):
                rate, method = cell.removeprefix("sweep ").split(" / ")
                cells.setdefault(method, {})[rate] = cell
        return cells

    def envelope(self, cells, column):
        """pass@1 at each evaluated step, at the rate that is best there. cells: {rate: cell}

        -> DataFrame by step: mean (over worlds), rate
        """
        by_rate = {rate: self.mean_by_step(cell, column) for rate, cell in cells.items()}
        means = pd.DataFrame(by_rate)
        return pd.DataFrame({"mean": means.max(axis=1), "rate": means.idxmax(axis=1)})


# ---------------------------------------------------------------------------- statistics

# Two-sided 95 % quantiles of Student's t, by the number of values.
T95 = {0: math.nan, 1: math.nan, 2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447,
       8: 2.365, 9: 2.306, 10: 2.262}


def mean_interval(values):
    """Mean and half width of its 95 % interval; nan where there are too few values."""
    values = pd.Series(values, dtype=float)
    return values.mean(), T95[len(values)] * values.sem()


def p_value(values):
    """Two-sided p-value of Student's t test that a mean is 0. 1 for fewer than two values.

    With t = sqrt(n) tan(angle), n degrees of freedom, the density of t is cos(angle)^(n - 1).
    """
    values = pd.Series(values, dtype=float)
    if len(values) < 2:
        return 1.0
    error = values.sem()
    if error == 0:
        return 1.0 if values.mean() == 0 else 0.0

    freedom = len(values) - 1
    t = abs(values.mean()) / error
    angles = np.linspace(0, np.pi / 2, 100_001)
    density = np.cos(angles) ** (freedom - 1)
    tail = angles >= math.atan(t / freedom ** 0.5)
    return float(np.trapezoid(density[tail], angles[tail]) / np.trapezoid(density, angles))


def holm(p_values):
    """Holm's adjusted p-values, in the order given: significant at 5 % where below 0.05."""
    ordered = pd.Series(p_values).sort_values()
    adjusted = ordered * np.arange(len(ordered), 0, -1)
    return adjusted.cummax().clip(upper=1.0).sort_index().tolist()


def family_verdicts(study):
    """The verdict on each claim of FAMILY, and its adjusted p-value. -> two lists"""
    leads = [study.lead(claim) for claim in FAMILY]
    adjusted = holm([p_value(lead) for lead in leads])

    verdicts = []
    for lead, p in zip(leads, adjusted, strict=True):
        if lead.empty:
            verdicts.append("not run")
        elif p >= 0.05:
            verdicts.append("open")
        else:
            verdicts.append("confirmed" if lead.mean() > 0 else "contradicted")
    return verdicts, adjusted


def verdict_alone(lead):
    """The verdict on a claim that is judged by its own interval."""
    mean, half = mean_interval(lead)
    if math.isnan(mean):
        return "not run"
    if math.isnan(half) or abs(mean) <= half:
        return "open"
    return "seen" if mean > 0 else "opposite seen"


def came_true(study, prediction, verdicts):
    """Whether a prediction came true, as text. verdicts: of the family."""
    of_family = [verdicts[number - 1] == "confirmed" for number in prediction.confirmed]
    of_family += [verdicts[number - 1] != "confirmed" for number in prediction.not_confirmed]
    leads = [study.lead(claim) for claim in prediction.above_0]

    # What has not been run counts against all others in Holm's method, so a verdict may yet change.
    if of_family and "not run" in verdicts or any(lead.empty for lead in leads):
        return "not run"

    passed = all(of_family) and all(lead.mean() > 0 for lead in leads)
    return "came true" if passed else "failed"


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


def page(sections):
    """The sections of a markdown page. sections: {heading: lines}. -> str"""
    text = ""
    for heading, lines in sections.items():
        text += f"\n## {heading}\n\n" + "\n".join(lines) + "\n"
    return text


# ---------------------------------------------------------------------------- study.md


def claim_columns(study, claim):
    """The difference that a claim is judged by, the same by kind of problem, and the worlds."""
    lead = study.lead(claim)
    columns = [show_difference(lead)]
    for kind in ("hard", "easy"):
        text = "-"
        if claim.outcome in ("course", "end"):
            outcome = f"{claim.outcome} {kind}"
            text = show_difference(study.difference(claim.plus, claim.minus, outcome))
        columns.append(text)
    return [*columns, str(len(lead))]


def family_table(study):
    verdicts, adjusted = family_verdicts(study)
    rows = []
    for number, (claim, verdict, p) in enumerate(zip(FAMILY, verdicts, adjusted, strict=True), 1):
        rows.append([str(number), f"**{verdict}**", claim.text, *claim_columns(study, claim),
                     show_p(p) if verdict != "not run" else "-"])
    return markdown_table(["", "verdict", "claim", "difference of the course", "on hard problems",
                           "on easy problems", "worlds", "p, Holm"], rows)


def two_looks_table(study):
    """The claims that went on from five worlds to ten: the first five, and the others alone."""
    first = Study(study.rows[study.rows["world"] < 5])
    verdicts, adjusted = family_verdicts(first)
    lines = []
    for claim, verdict, p in zip(FAMILY, verdicts, adjusted, strict=True):
        lead = study.lead(claim)
        new = lead[lead.index >= 5]
        if len(new):
            lines.append([claim.text, show_difference(first.lead(claim)), verdict, show_p(p),
                          show_difference(new)])
    return markdown_table(["claim", "first five worlds", "verdict then", "p, Holm, then",
                           "the other worlds alone"], lines)


def alone_table(study):
    rows = []
    for topic, claims in ALONE.items():
        for claim in claims:
            rows.append([topic, verdict_alone(study.lead(claim)), claim.text, claim.outcome,
                         *claim_columns(study, claim)])
    return markdown_table(["", "verdict", "claim", "outcome", "difference", "on hard problems",
                           "on easy problems", "worlds"], rows)


def prediction_table(study):
    verdicts, _ = family_verdicts(study)
    rows = [[letter, came_true(study, prediction, verdicts), prediction.text]
            for letter, prediction in PREDICTIONS.items()]
    return markdown_table(["", "result", "prediction"], rows)


def cell_table(study, cells, reference):
    """Each cell: its means, and the paired difference to the cell `reference`."""
    rows = []
    for cell in cells:
        means = [show_mean(study.values(cell, outcome)) for outcome in
                 ("course hard", "course easy", "end hard", "end easy", "all rejected", "score")]
        difference = "" if cell == reference else show_difference(study.difference(cell, reference))
        own_rates = study.values(cell, "rate").tolist()
        rows.append([cell, *means, difference, f"{own_rates[0]:g}" if own_rates else "-",
                     str(len(own_rates)) if own_rates else "not run"])
    return markdown_table(["trained on / method", "course, hard", "course, easy", "end, hard",
                           "end, easy", "all rejected", "RM score",
                           f"course minus {reference}", "rate", "worlds"], rows)


def sparseness_table(study):
    rows = []
    for recall in RECALLS:
        hero = cell_at(recall, "HERO")
        verifier = cell_at(recall, "verifier")
        row = [recall, show_mean(study.values(verifier, "all rejected"))]
        for cell in (verifier, hero):
            for outcome in ("course", "end"):
                row.append(show_mean(study.in_common([verifier, hero], outcome)[cell]))
        for outcome in ("course hard", "course easy", "end hard", "end easy"):
            row.append(show_difference(study.difference(hero, verifier, outcome)))
        row.append(show(study.gap_shares(hero, verifier), ".2f"))
        rows.append(row)
    lines = markdown_table(
        ["recall", "all rejected", "verifier: course", "end", "HERO: course", "end",
         "HERO minus verifier: course, hard", "course, easy", "end, hard", "end, easy",
         "share of the gap"], rows)

    bounds = []
    for cell in ("start", "hard / RM only", "hard / oracle"):
        bounds.append(f"{cell}: course {show_mean(study.values(cell))}, end "
                      f"{show_mean(study.values(cell, 'end'))}")
    return [*lines, "", "At every recall alike: " + "; ".join(bounds) + "."]


def rate_table(study):
    """The course of every swept method at every rate, and its end."""
    rows = []
    for method, cells in study.sweep().items():
        for rate, cell in cells.items():
            texts = [show_mean(study.values(cell, outcome)) for outcome in
                     ("course", "course hard", "course easy", "end", "score")]
            rows.append([method, rate, *texts, str(len(study.values(cell)))])
    return markdown_table(["method", "rate", "course", "on hard", "on easy", "end", "RM score",
                           "worlds"], rows)


def envelope_table(study):
    rows = []
    steps = []
    for method, cells in study.sweep().items():
        for column in ("hard", "easy"):
            best = study.envelope(cells, column)[1:]             # without step 0
            steps = best.index
            rows.append([f"{method}, {column}",
                         *(f"{at.mean:.3f} at {at.rate}" for at in best.itertuples())])
    return markdown_table(["pass@1", *(f"step {step}" for step in steps)], rows)


def table_1(cold_start):
    """Verifier and RM thresholds against the truth, on cold-start responses to hard problems."""
    good = cold_start[cold_start["reward model"] == "good"]
    accepted_by = {"verifier": good["verified"]}
    for percent in (50, 70, 80, 90):
        threshold = good["score"].quantile(percent / 100)
        name = f"reward model above {threshold:.2f} (its {percent} % point)"
        accepted_by[name] = good["score"] > threshold

    rows = []
    for name, accepted in accepted_by.items():
        shares = rates(accepted, good["truth"]).values()
        rows.append([name, *(f"{share} %" for share in shares)])
    return markdown_table(["on cold-start responses to hard problems", "recall", "precision",
                           "false positives", "accuracy"], rows)


def figure_6(cold_start):
    """AUROC of each reward model in each group of eight, against the verdicts and the truth."""
    rows = []
    for kind, of_kind in cold_start.groupby("reward model", sort=False):
        for label, name in (("verified", "the verdicts"), ("truth", "the truth")):
            aurocs = group_aurocs(of_kind, ["world", "group"], "score", label)
            if len(aurocs):
                rows.append([f"{kind} RM against {name}", *auroc_columns(aurocs).values()])
    return markdown_table(["AUROC per group, cold start, hard", "groups", "mean", "median",
                           "at least 0.9", "0.4 to 0.6"], rows)


def how_many(rows):
    """How many runs there are, and how long they took."""
    seconds = rows.groupby(["cell", "world"])["seconds"].last()
    return [f"{len(seconds)} runs, {seconds.sum() / 3600:.1f} hours of one worker, two at once; "
            f"{seconds.median():.0f} seconds per run (median)."]


def tables(folder):
    """The text of study.md, from the CSV files in `folder`."""
    rows = pd.read_csv(folder / "study.csv")
    cold_start = pd.read_csv(folder / "cold_start.csv")
    study = Study(rows)
    sections = {
        "How to read this page": [
            "`python results/study/tables.py` writes this page. [DESIGN.md](DESIGN.md) says what",
            "the words mean: it was written before the runs. The course is the mean of pass@1 over",
            "the evaluations after step 0, and over hard and easy problems where nothing else is",
            "said. Differences are paired by world, ± half of the 95 % interval. Means are without",
            "intervals, because worlds differ by more than methods do. All rejected: the share of",
            "the groups of training in which no response is accepted. RM score: at the end, on",
            "hard problems, of the reward model that the run was trained with.",
            "",
            *how_many(rows)],
        "The family: twelve claims, tested together": family_table(study),
        "Two looks: claims that went on to ten worlds (later)": two_looks_table(study),
        "Predictions": prediction_table(study),
        "Sparseness": sparseness_table(study),
        "Claims that are judged alone": [
            "With this many intervals, some exclude 0 by chance.", "", *alone_table(study)]}
    for heading, (cells, reference) in TABLES.items():
        sections[heading] = cell_table(study, cells, reference)
    sections |= {
        "The sweep": rate_table(study),
        "The envelope: each method at the rate that is best at the step": envelope_table(study),
        "Table 1": table_1(cold_start),
        "Fig. 6": figure_6(cold_start)}
    return "# The study's tables\n" + page(sections)


# ---------------------------------------------------------------------------- figures

METHOD_COLORS = {
    "verifier": COLORS["verifier"],
    "RM only": COLORS["rm"],
    "RM leash": COLORS["rm"],
    "HERO": COLORS["hero"],
    "HERO at 1e-4": COLORS["hero"],
    "oracle": COLORS["oracle"],
    "naive 0.5": COLORS["naive"],
    "naive 0.9": OTHER_COLOR,
    "naive 0.95": OTHER_COLOR,
}
STEPS = "step (batches of 16 prompts x 8 rollouts)"


def save_figure(figure, path):
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
        has_lines = axis.get_legend_handles_labels()[0]
        if has_lines:
            axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot().close(figure)


def draw_intervals(axis, places, differences, line, color, label):
    """Means with their 95 % intervals. differences: for each place, one per world."""
    means, halves = np.array([mean_interval(values) for values in differences]).T
    axis.errorbar(places, means, np.nan_to_num(halves), fmt=line, capsize=3, color=color,
                  label=label)


def draw_sparseness(study, path):
    """HERO minus the verifier by recall, over the course and at the end; and where both end."""
    figure, axes = pyplot().subplots(1, 3, figsize=(13, 4), constrained_layout=True)
    places = np.arange(len(RECALLS))

    # 1. Differences, with intervals. Hard and easy problems stand side by side.
    titles = {"course": "the whole course", "end": "the end"}
    for axis, (outcome, title) in zip(axes, titles.items(), strict=False):
        for shift, kind, color in ((-0.08, "hard", COLORS["hero"]), (0.08, "easy", OTHER_COLOR)):
            differences = []
            for recall in RECALLS:
                hero, verifier = cell_at(recall, "HERO"), cell_at(recall, "verifier")
                differences.append(study.difference(hero, verifier, f"{outcome} {kind}"))
            draw_intervals(axis, places + shift, differences, "o", color, f"{kind} problems")
        axis.axhline(0, color="gray", lw=0.8)
        axis.set(title=f"{title}: HERO minus verifier", ylabel="difference of pass@1, paired")

    # 2. Where each method ends. Two of the four do not read the verdicts.
    for method in ("oracle", "HERO", "RM only", "verifier"):
        reads_verdicts = method in ("HERO", "verifier")
        ends = []
        for recall in RECALLS:
            cell = cell_at(recall if reads_verdicts else DEFAULT_RECALL, method)
            ends.append(study.values(cell, "end").mean())
        axes[2].plot(places, ends, marker="o", color=METHOD_COLORS[method], label=method)
    axes[2].set(title="the end, mean over worlds", ylabel="pass@1, hard and easy", ylim=(0, 1))

    for axis in axes:
        axis.set_xticks(places, RECALLS)
        axis.set_xlabel("recall of the verifier")
    save_figure(figure, path)


def draw_courses(study, path):
    """Several methods minus the verifier at every evaluated step, at the default recall."""
    figure, axes = pyplot().subplots(1, 2, figsize=(10, 4), sharey=True, constrained_layout=True)
    evaluated = study.rows[study.rows["step"] > 0]
    for axis, kind in zip(axes, ("hard", "easy"), strict=True):
        values = evaluated.pivot_table(kind, ["step", "world"], "cell")
        for shift, method in enumerate(("oracle", "naive 0.95", "HERO", "RM only")):
            pair = values.reindex(columns=[f"hard / {method}", VERIFIER]).dropna()
            if pair.empty:
                continue

            difference = pair[f"hard / {method}"] - pair[VERIFIER]               # by step and world
            steps = difference.index.unique("step")
            differences = [difference[step] for step in steps]
            draw_intervals(axis, steps + 0.6 * shift, differences, "o-", METHOD_COLORS[method],
                           method)
            axis.set_xticks(steps)
        axis.axhline(0, color="gray", lw=0.8)
        axis.set(title=f"{kind} problems", xlabel=STEPS,
                 ylabel="pass@1 minus the verifier's, paired")
    save_figure(figure, path)


def draw_envelope(study, path):
    """Every swept method at the rate that is best at each step."""
    figure, axes = pyplot().subplots(1, 2, figsize=(10, 4), sharey=True, constrained_layout=True)
    for axis, kind in zip(axes, ("hard", "easy"), strict=True):
        for method, cells in study.sweep().items():
            axis.plot(study.envelope(cells, kind)["mean"], marker="o",
                      color=METHOD_COLORS[method], label=method)
        axis.set(title=f"{kind} problems, best rate at every step", xlabel=STEPS,
                 ylabel="pass@1, mean of two worlds", ylim=(0, 1))
    save_figure(figure, path)


def draw_hacking(study, path):
    """The reward model alone at every rate: its score beside the truth."""
    figure, (scores, truth) = pyplot().subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    cells = study.sweep().get("RM only", {})
    for line, (rate, cell) in zip(("-", "--", ":"), cells.items(), strict=False):
        for axis, column in ((scores, "hard rm"), (truth, "hard")):
            axis.plot(study.mean_by_step(cell, column), line, color=COLORS["rm"], marker="o",
                      label=f"rate {rate}")

    scores.set(title="RM only: what it is paid for", xlabel=STEPS,
               ylabel="reward model's mean score, hard problems")
    truth.set(title="RM only: the truth", xlabel=STEPS, ylabel="pass@1, hard problems",
              ylim=(0, 1))
    save_figure(figure, path)


def draw_long(study, path):
    """Three times the steps, one column per world: the truth above, the score below."""
    rows = study.rows[study.rows["cell"].str.startswith("long / ")]
    worlds = sorted(rows["world"].unique())
    figure, axes = pyplot().subplots(2, max(1, len(worlds)), figsize=(13, 6.5), sharex=True,
                                     sharey="row", squeeze=False, constrained_layout=True)
    for world, (top, bottom) in zip(worlds, axes.T, strict=False):
        for method in ("verifier", "HERO", "HERO at 1e-4", "RM leash", "naive 0.95"):
            run = rows[(rows["cell"] == f"long / {method}") & (rows["world"] == world)]
            truth = (run["hard"] + run["easy"]) / 2
            line = "--" if method in ("HERO at 1e-4", "RM leash") else "-"
            for axis, values in ((top, truth), (bottom, run["hard rm"])):
                axis.plot(run["step"], values, line, marker="o", ms=4,
                          color=METHOD_COLORS[method], label=method)
        top.set(title=f"world {world}", xticks=rows["step"].unique())
        bottom.set_xlabel("step")
    axes[0, 0].set(ylabel="truth: pass@1, hard and easy", ylim=(0, 1))
    axes[1, 0].set(ylabel="reward model's mean score, hard problems")
    save_figure(figure, path)


# ---------------------------------------------------------------------------- everything


def write_report(folder):
    """Writes study.md and the figures into `folder`, from the CSV files there."""
    write_file(folder / "study.md", tables(folder))
    study = Study(pd.read_csv(folder / "study.csv"))
    for draw in (draw_sparseness, draw_courses, draw_envelope, draw_hacking, draw_long):
        draw(study, folder / f"{draw.__name__.removeprefix('draw_')}.png")


if __name__ == "__main__":
    write_report(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
