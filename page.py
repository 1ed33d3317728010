"""The page of a run: one HTML file that shows in a browser what became of it.

    python page.py runs/NAME                writes runs/NAME/report.html
    python page.py runs/NAME runs/OTHER     writes runs/NAME/diff-OTHER.html, which compares the two

A page is page.html with the run's data filled in: settings, curves, the logged groups of responses,
and findings, which are answers to what everybody asks of a run. It fetches nothing. What a model
wrote stays data in it: see fill_template.
"""

import argparse
import base64
import hashlib
import json
import math
import statistics
from pathlib import Path
from typing import NamedTuple

import pandas as pd

import distributed
from problems import read_jsonl, write_file
from report import (
    COLORS,
    OTHER_COLOR,
    evaluation_names,
    evaluations,
    flatten,
    load_run,
    method_of,
)

TEMPLATE = Path(__file__).with_suffix(".html")

# So that the page of a long run stays small, its responses share this many characters: each may
# have its part, and what is longer is cut. None is cut to fewer than SHORTEST.
CHARACTERS = 5_000_000
SHORTEST = 300

# What the page shows of a response: columns of rollouts.jsonl.
RESPONSE_COLUMNS = ("response", "answer", "verified", "reason", "truth", "rm_score", "reward",
                    "advantage")


# ---------------------------------------------------------------------------- the page


def write_page(folder, other=None):
    """Writes report.html into a run's folder: one file that shows the run in a browser. -> its path

    other: the folder of a second run. Then the page compares the two, and is called diff-NAME.html
    after the second.
    Raises ValueError if a folder is not that of a run that has begun.
    """
    folders = [Path(folder)]
    path = folders[0] / "report.html"
    if other is not None:
        folders.append(Path(other))
        path = folders[0] / f"diff-{folders[1].resolve().name}.html"

    runs = []
    for each in folders:
        config, metrics = load_run(each)
        runs.append((config, metrics, load_rollouts(each)))
    write_file(path, fill_template(runs))
    return path


def load_rollouts(folder):
    """The rows of a run's rollouts.jsonl; none before its first step has ended."""
    path = folder / "rollouts.jsonl"
    if not path.exists():
        return []
    required = ("step", "problem", "reference", "weight", *RESPONSE_COLUMNS)
    return [row for _, row in read_jsonl(path, required, skip_torn=True)]


def fill_template(runs):
    """The page of one or two runs. -> HTML

    runs: list of (config, metrics rows, rollouts rows).

    What a model wrote is data. The JSON in the page holds no "<", so no text in it ends its element
    or begins another, and the script of the template shows texts through text nodes only.
    """
    charts = chart_list(runs)
    data = {"runs": [run_data(*run, charts) for run in runs],
            "charts": [chart._asdict() for chart in charts]}
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c")

    # The page's content security policy allows the one script with this hash.
    before_data, after_data = TEMPLATE.read_text(encoding="utf-8").split("@DATA@")
    script = after_data.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = before_data.replace("@SCRIPT_HASH@", f"sha256-{digest}") + text + after_data

    # Half of a surrogate pair is no character in UTF-8; as an escape, JSON may hold it.
    return page.encode("utf-8", "backslashreplace").decode()


class Chart(NamedTuple):
    """One quantity over the steps. low and high: the keys of its interval, if it has one."""
    key: str
    title: str
    low: str | None = None
    high: str | None = None


TRAINING_CHARTS = [
    Chart("rm/mean", "training: reward model's mean score"),
    Chart("rm/auroc", "training: AUROC of the scores, mixed groups"),
    Chart("verify/accepted", "training: share the verifier accepts"),
    Chart("verify/mixed", "groups with both verdicts (share)"),
    Chart("reward/zero_advantages", "responses that teach nothing (share)"),
    Chart("policy/entropy", "entropy (nats per token)"),
    Chart("policy/gradient_norm", "gradient norm"),
    Chart("rollout/length", "response length (tokens)"),
]


def chart_list(runs):
    """The charts of a page: truth and score of each held-out set, then the training.

    runs: list of (config, metrics rows, rollouts rows).
    """
    charts = []
    for name in held_out_names(runs[0][0], [row for _, metrics, _ in runs for row in metrics]):
        key = f"eval/{name}"
        charts.append(Chart(f"{key}/pass@1", f"held-out {name}: pass@1, the truth",
                            f"{key}/low", f"{key}/high"))
        charts.append(Chart(f"{key}/rm", f"held-out {name}: reward model's score"))
    return charts + TRAINING_CHARTS


def held_out_names(config, metrics):
    """As evaluation_names, but the set that is called as the run's regime comes first."""
    return sorted(evaluation_names(metrics), key=lambda name: name != config["regime"])


# ---------------------------------------------------------------------------- the data of a run


def run_data(config, metrics, rollouts, charts):
    """What the page shows of one run. -> dict, ready for JSON"""
    settings = {name: value if isinstance(value, str) else json.dumps(value)
                for name, value in flatten(config).items()}
    keys = {key for chart in charts for key in (chart.key, chart.low, chart.high) if key}
    findings = [outcome(config, metrics), *learning_signal(metrics), *broken_numbers(metrics),
                *missed_by_verifier(rollouts)]

    # The log holds whole groups; only the last one may be cut short, by a kill.
    size = config["rollouts_per_prompt"]
    most_characters = max(SHORTEST, CHARACTERS // max(1, len(rollouts)))
    high_score = score_of_right(rollouts)
    groups = []
    for start in range(0, len(rollouts), size):
        groups.append(group_data(rollouts[start:start + size], high_score, most_characters))

    return {
        "name": config["name"],
        "method": method_of(config),
        "color": COLORS.get(method_of(config), OTHER_COLOR),
        "settings": settings,
        "findings": [finding._asdict() for finding in findings],
        "steps": [row["step"] for row in metrics],
        "metrics": {key: [rounded(row.get(key)) for row in metrics] for key in sorted(keys)},
        "groups": groups,
        "knows_truth": any(row["truth"] is not None for row in rollouts),
        "note": what_is_missing(config, rollouts, most_characters),
    }


def group_data(group, high_score, most_characters):
    """What the page shows of a group. Its filters are named as the flags missed, hacked, silent.

    high_score: what a wrong response has to reach to be called hacked.
    """
    responses = []
    for row in group:
        response = {name: shorten(rounded(row[name]), most_characters)
                    for name in RESPONSE_COLUMNS}
        response["missed"] = row["truth"] is True and not row["verified"]
        response["hacked"] = not is_right(row) and row["rm_score"] >= high_score
        responses.append(response)
    return {
        "step": group[0]["step"],
        "problem": shorten(group[0]["problem"], most_characters),
        "reference": shorten(group[0]["reference"], most_characters),
        "weight": rounded(group[0]["weight"]),
        "silent": all(row["advantage"] == 0 for row in group),
        "responses": responses,
    }


def is_right(row):
    """Whether a response is right: the truth where it is known, otherwise the verdict."""
    return row["verified"] if row["truth"] is None else row["truth"]


def score_of_right(rollouts):
    """The median score of the right responses; infinite if no response is right."""
    scores = [row["rm_score"] for row in rollouts if is_right(row)]
    return statistics.median(scores) if scores else math.inf


def rounded(value):
    """A float with four significant digits, or None if it is not finite; anything else as it is."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.4g}") if math.isfinite(value) else None


def shorten(value, most_characters):
    """A text without its middle if it is too long; anything else as it is."""
    if not isinstance(value, str) or len(value) <= most_characters:
        return value
    half = most_characters // 2
    left_out = len(value) - 2 * half
    return f"{value[:half]} [... {left_out:,} characters ...] {value[len(value) - half:]}"


def what_is_missing(config, rollouts, most_characters):
    """What the page does not show of the run's rollouts, in words."""
    if not rollouts:
        return "There are no samples: rollouts.jsonl is empty."
    text = (f"{config['groups_logged']} of the {config['prompts_per_step']} groups of each step "
            "are logged, in rollouts.jsonl.")
    if max(len(row["response"]) for row in rollouts) > most_characters:
        text += f" Texts are cut to {most_characters:,} characters."
    return text


# ---------------------------------------------------------------------------- what a run says


class Finding(NamedTuple):
    """An answer to a question that everybody asks of a run."""
    kind: str                       # "bad", "good" or "note"
    question: str
    answer: str


def outcome(config, metrics):
    """Whether the run has learned, has become worse, or hacks its reward model. -> Finding

    By the held-out problems. A change counts if the 95% intervals of both evaluations do not touch.
    Hacking: at its lowest after the best pass@1 has fallen, while the reward model's score rose.
    """
    hacked = []
    worse = []
    learned = []
    sentences = []
    for name in held_out_names(config, metrics):
        rows = evaluations(metrics, name)
        first, last = rows[0], rows[-1]
        best = max(rows, key=lambda row: row["pass@1"])
        lowest = min(rows[rows.index(best):], key=lambda row: row["pass@1"])

        steps = {first["step"], best["step"], last["step"]}
        if is_better(best, lowest) and score_rose(best, lowest):
            hacked.append(name)
            steps.add(lowest["step"])
        elif is_better(best, last):
            worse.append(name)
        elif is_better(last, first):
            learned.append(name)
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


def is_better(one, other):
    """Whether pass@1 is higher for certain in one evaluation than in another."""
    return one["low"] > other["high"]


def score_rose(earlier, later):
    """Whether the reward model's score is higher in a later evaluation; False if there is none."""
    scores = (earlier.get("rm"), later.get("rm"))
    return None not in scores and scores[1] > scores[0]


def course_in_words(name, rows):
    """The numbers behind an outcome: pass@1 and score of one held-out set in some evaluations."""
    accuracies = " \u2192 ".join(f"{row['pass@1']:.3f}" for row in rows)
    text = f"Held-out {name} problems: pass@1 {accuracies}"
    if all(row.get("rm") is not None for row in rows):
        scores = " \u2192 ".join(f"{row['rm']:.2f}" for row in rows)
        text += f", reward model's score {scores}"
    return f"{text} (steps {', '.join(str(row['step']) for row in rows)})."


# What the log says about how much can be learned: a sentence for the mean of each key.
LEARNING_SIGNAL = {
    "reward/zero_advantages": "{:.0%} of the responses had advantage 0 and taught nothing.",
    "verify/mixed": "{:.0%} of the groups had both verdicts.",
    "reward/abs_adv_mixed": "There the mean size of an advantage was {:.3g}.",
    "reward/abs_adv_uniform": "In uniform groups, where the reward model alone decides, the mean "
                              "size of an advantage was {:.3g}.",
    "policy/gradient_norm": "The gradient norm was {:.3g} before clipping.",
}


def learning_signal(metrics):
    """How much the last ten steps had to learn from, and why no loss is shown. -> Findings"""
    rows = [row for row in metrics if row["step"] > 0][-10:]
    if not rows:
        return []

    means = pd.DataFrame(rows, columns=list(LEARNING_SIGNAL), dtype=float).mean()
    sentences = [LEARNING_SIGNAL[key].format(mean) for key, mean in means.dropna().items()]
    answer = (
        f"The last {len(rows)} steps: {' '.join(sentences)} The loss would say nothing, and is "
        "not logged: the advantages of a group sum to 0, so right after sampling it is always "
        "about 0.")
    if means["reward/zero_advantages"] > 0.9:
        return [Finding("bad", "Hardly anything is learned.", answer)]
    return [Finding("note", "How much is there to learn from?", answer)]


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
    entropy = rows[-1].get("policy/entropy")
    if entropy is not None and entropy < 0.01:
        signs.append(f"The entropy is {entropy:.2g} nats per token: all responses to a problem are "
                     "nearly the same, so nothing can be compared.")
    truncated = rows[-1].get("rollout/truncated", 0)
    if truncated > 0.5:
        signs.append(f"{truncated:.0%} of the responses are cut at the longest length: raise "
                     "--max_response_tokens.")
    return [Finding("bad", "Something looks broken.", " ".join(signs))] if signs else []


def missed_by_verifier(rollouts):
    """How many right responses the verifier rejects, where the truth is known. -> Findings"""
    right = [row for row in rollouts if row["truth"]]
    if not right:
        return []
    missed = sum(not row["verified"] for row in right)
    return [Finding("note", "Does the verifier see what is right?",
                    f"Of the {len(right):,} logged responses that are right it rejected {missed:,} "
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
