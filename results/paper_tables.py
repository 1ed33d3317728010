"""The paper's own tables, from runs and evaluations of this project.

    python results/paper_tables.py table RESULTS...         results beside the paper's Table 2
    python results/paper_tables.py verifiers ROLLOUTS       the paper's Table 1 and Fig. 6
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

if __name__ == "__main__":                        # the scripts are in the folder above
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import distributed
from problems import BENCHMARKS, first_line, load_problems, read_jsonl
from report import COLORS, pyplot, results_table
from rewards import auroc
from verify import grade

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


def kind_of(benchmark):
    """"easy" where the verifier grades a benchmark, "hard" where a judge does; a file's own name"""
    if benchmark in BENCHMARKS:
        return "hard" if BENCHMARKS[benchmark].judged else "easy"
    return benchmark


def paper_table(reports):
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
        of_paper = paper_numbers(model, run) or (None, None)
        for kind, number in zip(("easy", "hard"), of_paper, strict=True):
            own = [shares[benchmark] for benchmark in shares if kind_of(benchmark) == kind]
            row[f"{kind} avg"] = average(own, number)
        rows.append((name, row))

    shown.sort(key=[*BENCHMARKS, *shown].index)             # the paper's benchmarks first
    return results_table(rows, [*shown, "easy avg", "hard avg"])


def average(shares, paper):
    """The mean of shares in percent, and the paper's, as text: "61.2 (62.0)"."""
    text = f"{100 * np.mean(shares):.1f}" if shares else "-"
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

    print(paper_table(reports))
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


def group_aurocs(rows, group, score, label):
    """AUROC of the scores in each group that has both labels. -> Series by group

    rows: DataFrame. group: the columns that name a group; score, label: those of its numbers.
    """
    def of_group(rows):
        scores = torch.tensor(rows[score].to_numpy())
        labels = torch.tensor(rows[label].to_numpy())
        return auroc(scores, labels)

    return rows.groupby(group)[[score, label]].apply(of_group).dropna()


PAPER_FIG_6 = {
    "mean": "0.79",
    "median": "0.92",
    "at least 0.9": "57 %",
    "0.4 to 0.6": "14 %",
}


def auroc_columns(aurocs):
    """The numbers of the paper's Fig. 6. aurocs: one per group. -> {column: text}"""
    return {"groups": str(len(aurocs)),
            "mean": f"{aurocs.mean():.2f}",
            "median": f"{aurocs.median():.2f}",
            "at least 0.9": f"{100 * (aurocs >= 0.9).mean():.0f} %",
            "0.4 to 0.6": f"{100 * aurocs.between(0.4, 0.6).mean():.0f} %"}


def verifier_study(rows, problems=None, thresholds=None, histogram=None):
    """The paper's Table 1 and Fig. 6, from the rows of a rollouts.jsonl, a DataFrame. -> str

    problems: rows whose "accepted" phrasings are the truth. Without them the label of a response is
    the verifier's own verdict, as in Fig. 6; then the verifier itself is not in the table.
    thresholds: on the reward model's score; its quintiles unless given.
    histogram: the file to draw the groups' AUROCs to; None draws nothing.
    """
    table = []
    if problems is None:
        source = "the verifier's own verdict"
        rows = rows.assign(label=rows["verified"])
    else:
        source = "the truth, from the accepted phrasings"
        rows = with_truth(rows, problems)
        table.append(("rule verifier", rates(rows["verified"], rows["label"])))

    if thresholds is None:
        thresholds = rows["rm_score"].quantile([0.2, 0.4, 0.6, 0.8]).round(3)
    for threshold in thresholds:
        table.append((f"reward model >= {threshold:g}",
                      rates(rows["rm_score"] >= threshold, rows["label"])))

    lines = [f"{len(rows)} responses; label: {source}", "",
             results_table(table, ["recall", "precision", "FPR", "accuracy"]), ""]

    # A group is the responses to one problem in one step.
    aurocs = group_aurocs(rows, ["step", "problem"], "rm_score", "label")
    if aurocs.empty:
        return "\n".join([*lines, "no group holds both right and wrong responses: no AUROC"])
    columns = auroc_columns(aurocs)
    lines += ["AUROC of the reward model within mixed groups",
              results_table([("these responses", columns), ("the paper's Fig. 6", PAPER_FIG_6)],
                            list(columns))]
    if histogram:
        draw_histogram(aurocs, source, histogram)
        lines.append(f"histogram: {histogram}")
    return "\n".join(lines)


def with_truth(rows, problems):
    """The rollouts that answer one of the problems, with the truth in the column "label"."""
    known = {problem["problem"]: problem for problem in problems}
    rows = rows[rows["problem"].isin(known)]
    if rows.empty:
        raise ValueError("none of the rollouts answers a problem of --problems: give the file "
                         "that the run was trained on")
    _, truth = grade(list(rows["response"]), [known[problem] for problem in rows["problem"]])
    return rows.assign(label=truth)


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
    rows = pd.DataFrame(row for _, row in read_jsonl(path, required, skip_torn=True))
    if rows.empty:
        raise ValueError(f"{path} holds no rollouts")

    problems = load_problems(args.problems) if args.problems else None
    print(verifier_study(rows, problems, args.thresholds, path.with_name("auroc.png")))


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
    return parser.parse_args()


def main():
    args = parse_args()
    args.command(args)


if __name__ == "__main__":
    distributed.run(main)
