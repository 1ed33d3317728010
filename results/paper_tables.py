"""The paper's own tables, from runs and evaluations of this project.

    python results/paper_tables.py table RESULTS...         results beside the paper's Table 2
    python results/paper_tables.py verifiers ROLLOUTS       the paper's Table 1 and Fig. 6
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import distributed  # noqa: E402
from problems import BENCHMARKS, first_line, load_problems, read_jsonl  # noqa: E402
from report import COLORS, pyplot, results_table  # noqa: E402
from rewards import auroc  # noqa: E402
from verify import grade  # noqa: E402

# ---------------------------------------------------------------------------- Table 2

# Tables 2 and 3 of the paper, in percent: (average over its easy benchmarks, over its hard ones).
# "base" is the model before any training. The others are trained with a reward on a regime.
PAPER = {
    "Qwen3-4B": {
        "base": (43.3, 42.7),
        "rm": {"easy": (56.4, 54.6), "hard": (55.1, 53.7), "mixed": (55.1, 54.0)},
        "verifier": {"easy": (58.3, 57.1), "hard": (47.4, 54.2), "mixed": (56.1, 58.9)},
        "hero": {"easy": (62.0, 66.3), "hard": (56.8, 56.5), "mixed": (58.8, 64.1)}},
    "OctoThinker-8B": {
        "base": (16.9, 23.6),
        "rm": {"easy": (38.1, 28.7), "hard": (35.4, 30.9), "mixed": (35.6, 30.1)},
        "verifier": {"easy": (37.6, 30.3), "hard": (34.6, 27.8), "mixed": (35.4, 28.2)},
        "hero": {"easy": (40.1, 32.6), "hard": (41.0, 34.6), "mixed": (40.2, 33.2)}}}


def paper_numbers(model, run):
    """The paper's averages for a model. -> (easy, hard) in percent; None if it has none

    model: the policy's name.  run: the settings of the run that trained it; {} if none did.
    """
    numbers = PAPER["OctoThinker-8B" if "octo" in model.lower() else "Qwen3-4B"]
    if not run:
        return numbers["base"] if model.endswith("Base") else None
    if run["reward"] not in ("rm", "verifier", "hero"):
        return None
    return numbers[run["reward"]][run["regime"]]


def is_easy(benchmark):
    """Whether the verifier grades a benchmark; a file counts if it is called easy."""
    if benchmark in BENCHMARKS:
        return not BENCHMARKS[benchmark].judged
    return benchmark == "easy"


def is_hard(benchmark):
    """Whether a judge grades a benchmark; a file counts if it is called hard."""
    if benchmark in BENCHMARKS:
        return BENCHMARKS[benchmark].judged
    return benchmark == "hard"


def paper_table(reports, markdown=False):
    """Evaluations as the paper's Table 2, pass@1 in percent. -> str

    reports: {name: what `python eval.py --model ...` wrote}. The averages are over the benchmarks
    shown. The paper's own, for the same reward and regime, follow them in parentheses.
    """
    rows = []
    shown = []
    for name, report in reports.items():
        shares = {benchmark: summary["pass@1"] for benchmark, summary in report["results"].items()}
        shown += [benchmark for benchmark in shares if benchmark not in shown]
        row = {benchmark: f"{100 * share:.1f}" for benchmark, share in shares.items()}

        run = report.get("run")
        model = str(run["policy"] if run else report["settings"]["model"])
        easy, hard = paper_numbers(model, run) or (None, None)
        row["easy avg"] = average(filter(is_easy, shares), shares, easy)
        row["hard avg"] = average(filter(is_hard, shares), shares, hard)
        rows.append((name, row))

    shown.sort(key=[*BENCHMARKS, *shown].index)             # the paper's benchmarks first
    return results_table(rows, [*shown, "easy avg", "hard avg"], markdown)


def average(benchmarks, shares, paper):
    """The mean share of some benchmarks in percent, and the paper's, as text: "61.2 (62.0)"."""
    values = [shares[benchmark] for benchmark in benchmarks]
    text = f"{100 * np.mean(values):.1f}" if values else "-"
    return text if paper is None else f"{text} ({paper})"


def read_report(path):
    """What an evaluation has written. path: its file, or the folder of a run. -> dict

    Raises ValueError if the file is missing or incomplete.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "final" / "eval.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        str(report["settings"]["model"])
        for summary in report["results"].values():
            float(summary["pass@1"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is incomplete or not the result of python eval.py --model "
                         f"({first_line(error)}): evaluate that model again") from error
    return report


def table_command(args):
    reports = {}
    for path in args.results:
        report = read_report(path)
        model = Path(report["settings"]["model"])
        name = model.parent.name if model.name == "final" else str(model)
        reports[str(path) if name in reports else name] = report

    print(paper_table(reports, args.markdown))
    print("\npass@1 in percent. In parentheses: the paper's averages for the same reward and "
          "regime, with its own\nmodels and benchmarks. Its model is Qwen3-4B-Base, or "
          "OctoThinker-8B where that was trained.")


# ---------------------------------------------------------------------------- Table 1 and Fig. 6


def rates(accepted, truth):
    """The columns of the paper's Table 1, in percent. -> {column: text, or None if undefined}

    accepted, truth: (N,) of 0 and 1, what a verifier accepts and what is right.
    """
    accepted = np.array(accepted, bool)
    truth = np.array(truth, bool)

    def percent(values):
        return f"{100 * values.mean():.1f}" if len(values) else None

    return {"recall": percent(accepted[truth]), "precision": percent(truth[accepted]),
            "FPR": percent(accepted[~truth]), "accuracy": percent(accepted == truth)}


def group_aurocs(rows, labels):
    """AUROC of the reward model's scores in each group that has both labels. -> list of numbers

    rows: of rollouts.jsonl.  labels: one per row. A group is the responses to one problem in one
    step.
    """
    groups = {}
    for row, label in zip(rows, labels, strict=True):
        scores, group_labels = groups.setdefault((row["step"], row["problem"]), ([], []))
        scores.append(row["rm_score"])
        group_labels.append(label)

    aurocs = []
    for scores, group_labels in groups.values():
        value = auroc(torch.tensor(scores, dtype=torch.float64),
                      torch.tensor(group_labels, dtype=torch.float64))
        if not math.isnan(value):
            aurocs.append(value)
    return aurocs


def verifier_study(rows, problems=None, thresholds=None, histogram=None):
    """The paper's Table 1 and Fig. 6, from the rows of a rollouts.jsonl. -> str

    problems: rows whose "accepted" phrasings are the truth. Without them the label of a response is
    the verifier's own verdict, as in Fig. 6; then the verifier itself is not in the table.
    thresholds: on the reward model's score; its quintiles unless given.
    histogram: the file to draw the groups' AUROCs to; None draws nothing.
    """
    table = []
    if problems is None:
        source = "the verifier's own verdict"
        labels = [bool(row["verified"]) for row in rows]
    else:
        source = "the truth, from the accepted phrasings"
        rows, labels = labeled(rows, problems)
        table.append(("rule verifier", rates([row["verified"] for row in rows], labels)))

    scores = np.array([row["rm_score"] for row in rows])
    if thresholds is None:
        thresholds = np.quantile(scores, [0.2, 0.4, 0.6, 0.8]).round(3)
    for threshold in thresholds:
        table.append((f"reward model >= {threshold:g}", rates(scores >= threshold, labels)))

    lines = [f"{len(rows)} responses; label: {source}", "",
             results_table(table, ["recall", "precision", "FPR", "accuracy"]), ""]
    aurocs = np.array(group_aurocs(rows, labels))
    if not len(aurocs):
        lines.append("no group holds both right and wrong responses: no AUROC")
        return "\n".join(lines)

    lines.append(auroc_summary(aurocs))
    if histogram:
        draw_histogram(aurocs, source, histogram)
        lines.append(f"histogram: {histogram}")
    return "\n".join(lines)


def labeled(rows, problems):
    """The rollouts that answer one of the problems, and whether each is right in truth."""
    known = {problem["problem"]: problem for problem in problems}
    rows = [row for row in rows if row["problem"] in known]
    if not rows:
        raise ValueError("none of the rollouts answers a problem of --problems: give the file "
                         "that the run was trained on")
    _, truth = grade([row["response"] for row in rows], [known[row["problem"]] for row in rows])
    return rows, truth


def auroc_summary(aurocs):
    """The numbers of the paper's Fig. 6, and the paper's own. -> two lines"""
    high = 100 * np.mean(aurocs >= 0.9)
    chance = 100 * np.mean((aurocs >= 0.4) & (aurocs <= 0.6))
    return (f"AUROC of the reward model within {len(aurocs)} mixed groups: mean "
            f"{aurocs.mean():.2f}, median {np.median(aurocs):.2f}, "
            f"{high:.0f} % of groups >= 0.9, {chance:.0f} % in 0.4-0.6\n"
            "(the paper's Fig. 6: mean 0.79, median 0.92, 57 % and 14 %)")


def draw_histogram(aurocs, source, path):
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(5, 3.4), constrained_layout=True)
    axis.hist(aurocs, bins=np.linspace(0, 1, 21), color=COLORS["rm"])
    axis.axvline(aurocs.mean(), color="black", ls="--", label=f"mean {aurocs.mean():.2f}")
    axis.set(xlabel=f"AUROC against {source}", ylabel="mixed groups")
    axis.legend(frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def verifiers_command(args):
    path = Path(args.rollouts)
    if path.is_dir():
        path = path / "rollouts.jsonl"
    required = ("step", "problem", "response", "verified", "rm_score")
    rows = [row for _, row in read_jsonl(path, required, skip_torn=True)]
    if not rows:
        raise ValueError(f"{path} holds no rollouts")

    problems = load_problems(args.problems) if args.problems else None
    histogram = args.out or path.with_name("auroc.png")
    print(verifier_study(rows, problems, args.thresholds, histogram))


# ---------------------------------------------------------------------------- command line


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    table = commands.add_parser(
        "table", allow_abbrev=False, help="Shows results beside the paper's Table 2.")
    table.set_defaults(command=table_command)
    table.add_argument("results", nargs="+", metavar="RESULT",
                       help="An eval.json file, or the folder of a run.")
    table.add_argument("--markdown", action="store_true", help="Print a markdown table.")

    verifiers = commands.add_parser(
        "verifiers", allow_abbrev=False,
        help="Measures verifier and reward model as the paper's Table 1 and Fig. 6 do.")
    verifiers.set_defaults(command=verifiers_command)
    verifiers.add_argument("rollouts", metavar="ROLLOUTS",
                           help="A rollouts.jsonl file, or the folder of a run.")
    verifiers.add_argument("--problems", help="A JSONL file of problems whose accepted phrasings "
                           "are the truth. The default is the verifier's own verdicts.")
    verifiers.add_argument("--thresholds", nargs="+", type=float, help="Thresholds on the reward "
                           "model's score. The default is its quintiles; the paper's are 1 3 5 7.")
    verifiers.add_argument("--out", help="The histogram to write. The default is auroc.png in the "
                           "folder of the rollouts.")
    return parser.parse_args()


def main():
    args = parse_args()
    args.command(args)


if __name__ == "__main__":
    distributed.run(main)
