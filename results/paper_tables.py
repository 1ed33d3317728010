"""The paper's own tables, from runs and evaluations of this project.

    python results/paper_tables.py table RESULTS...         results beside the paper's Table 2
    python results/paper_tables.py verifiers ROLLOUTS       the paper's Table 1 and Fig. 6
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import distributed  # noqa: E402
from eval import grade  # noqa: E402
from problems import BENCHMARKS, first_line, load_problems, read_log  # noqa: E402
from report import COLORS, pyplot, results_table  # noqa: E402
from rewards import auroc  # noqa: E402

# ---------------------------------------------------------------------------- Table 2

# Tables 2 and 3 of the paper: percent, averages over its easy and its hard benchmarks, of the base
# model, after SFT, and by reward for training on easy, hard and mixed data
PAPER = {"Qwen3-4B": {"base": (43.3, 42.7), "sft": (48.2, 47.1),
                      "rm": ((56.4, 54.6), (55.1, 53.7), (55.1, 54.0)),
                      "verifier": ((58.3, 57.1), (47.4, 54.2), (56.1, 58.9)),
                      "hero": ((62.0, 66.3), (56.8, 56.5), (58.8, 64.1))},
         "OctoThinker-8B": {"base": (16.9, 23.6), "sft": (33.3, 27.0),
                            "rm": ((38.1, 28.7), (35.4, 30.9), (35.6, 30.1)),
                            "verifier": ((37.6, 30.3), (34.6, 27.8), (35.4, 28.2)),
                            "hero": ((40.1, 32.6), (41.0, 34.6), (40.2, 33.2))}}


def paper_table(reports, markdown=False, grey="({})"):
    """Results of `python eval.py --model ...` as the paper's Table 2, pass@1 in percent. -> str

    reports: {name: what such a command wrote}. The averages are over the benchmarks shown: those
    that the verifier grades (or called easy) and those that a judge grades (or called hard). The
    paper's own, for the same reward and regime, stand beside them in `grey`.
    """
    rows, shown = [], {}
    for name, report in reports.items():
        run, results = report.get("run"), report["results"]
        model = str(run["policy"] if run else report["settings"]["model"])
        theirs = PAPER["OctoThinker-8B" if "octo" in model.lower() else "Qwen3-4B"]
        if run:
            theirs = theirs.get(run["reward"], {}) and theirs[run["reward"]][
                ("easy", "hard", "mixed").index(run["regime"])]
        else:
            theirs = theirs["base"] if model.endswith("Base") else ()
        row = {key: f"{100 * result['pass@1']:.1f}" for key, result in results.items()}
        for column, hard in (("easy avg", False), ("hard avg", True)):
            shares = [result["pass@1"] for key, result in results.items()
                      if (BENCHMARKS[key].judged == hard if key in BENCHMARKS
                          else key == ("hard" if hard else "easy"))]
            row[column] = f"{100 * np.mean(shares):.1f}" if shares else "-"
            row[column] += " " + grey.format(theirs[hard]) if theirs else ""
        rows.append((name, row))
        shown |= results
    return results_table(rows, [*sorted(shown, key=[*BENCHMARKS, *shown].index), "easy avg",
                                "hard avg"], markdown)


def read_report(path):
    """What an evaluation has written; path: the file, or the folder of a run. ValueError if not."""
    path = Path(path)
    path = path / "final" / "eval.json" if path.is_dir() else path
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        for summary in report["results"].values():
            float(summary["pass@1"])
        return report["settings"]["model"], report
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a whole result of python eval.py --model "
                         f"({first_line(error)}): evaluate that model again") from error


def table_command(parser):
    parser.add_argument("results", nargs="+", help="eval.json files, or folders of runs")
    parser.add_argument("--markdown", action="store_true", help="as a markdown table")
    args = parser.parse_args()
    reports = {}
    for path in args.results:
        model, report = read_report(path)
        name = Path(model).parent.name if Path(model).name == "final" else model
        reports[name if name not in reports else str(path)] = report
    colour = sys.stdout.isatty() and not args.markdown
    print(paper_table(reports, args.markdown, "\x1b[2m{}\x1b[0m" if colour else "({})"))
    print("\npass@1 in percent; " + ("grey" if colour else "in parentheses") + ": the paper's "
          "averages for the same reward and regime, of its own\nmodels and benchmarks: "
          "Qwen3-4B-Base, or OctoThinker-8B where that was trained")


# ---------------------------------------------------------------------------- Table 1 and Fig. 6


def rates(accepted, label):
    """accepted, label: (N,) of 0 and 1. -> the columns of the paper's Table 1, in percent"""
    accepted, label = np.array(accepted, bool), np.array(label, bool)

    def share(of, among):
        return f"{100 * of[among].mean():.1f}" if among.any() else None
    return {"recall": share(accepted, label), "precision": share(label, accepted),
            "FPR": share(accepted, ~label), "accuracy": share(accepted == label, label | ~label)}


def group_aurocs(rows, label):
    """AUROC of rm against label within each group (same step and prompt) that holds both classes.

    rows: of rollouts.jsonl; label: one a row. -> list of numbers
    """
    groups = {}
    for row, mark in zip(rows, label, strict=True):
        groups.setdefault((row["step"], row["problem"]), []).append((row["rm_score"], mark))
    values = [auroc(*torch.tensor(group, dtype=torch.float64).T) for group in groups.values()]
    return [value for value in values if value == value]


def verifier_study(rows, problems=None, thresholds=None, histogram=None):
    """The paper's Table 1 and Fig. 6 from the rows of a rollouts.jsonl. -> str

    problems: rows whose "accepted" says what is true; without them the label is the verifier's own
    verdict, as in Fig. 6. thresholds on the reward model's score: its quintiles unless given.
    histogram: where to draw the groups' AUROCs.
    """
    label, source = [bool(row["verified"]) for row in rows], "the verifier's own verdict"
    if problems is not None:
        known = {row["problem"]: row for row in problems}
        rows = [row for row in rows if row["problem"] in known]
        if not rows:
            raise ValueError("none of the rollouts answers a problem of --problems: give the file "
                             "that the run was trained on")
        label = grade([row["response"] for row in rows], [known[row["problem"]] for row in rows])[1]
        source = "the truth, from the accepted phrasings"
    scores = np.array([row["rm_score"] for row in rows])
    thresholds = thresholds or np.quantile(scores, [0.2, 0.4, 0.6, 0.8]).round(3).tolist()
    table = [(f"reward model >= {t:g}", rates(scores >= t, label)) for t in thresholds]
    if problems is not None:
        table.insert(0, ("rule verifier", rates([row["verified"] for row in rows], label)))
    values = np.array(group_aurocs(rows, label))
    lines = [f"{len(rows)} responses; label: {source}", "",
             results_table(table, ["recall", "precision", "FPR", "accuracy"]), ""]
    if not len(values):
        return "\n".join([*lines, "no group holds both right and wrong responses: no AUROC"])
    lines += [f"AUROC of the reward model within {len(values)} mixed groups: mean "
              f"{values.mean():.2f}, median {np.median(values):.2f}, "
              f"{100 * np.mean(values >= 0.9):.0f} % of groups >= 0.9, "
              f"{100 * np.mean((values >= 0.4) & (values <= 0.6)):.0f} % in 0.4-0.6",
              "(the paper's Fig. 6: mean 0.79, median 0.92, 57 % and 14 %)"]
    if histogram:
        plt = pyplot()
        figure, axis = plt.subplots(figsize=(5, 3.4), constrained_layout=True)
        axis.hist(values, bins=np.linspace(0, 1, 21), color=COLORS["rm"])
        axis.axvline(values.mean(), color="black", ls="--", label=f"mean {values.mean():.2f}")
        axis.set(xlabel=f"AUROC against {source}", ylabel="mixed groups")
        axis.legend(frameon=False)
        figure.savefig(histogram, dpi=120)
        plt.close(figure)
        lines.append(f"histogram: {histogram}")
    return "\n".join(lines)


def verifiers_command(parser):
    parser.add_argument("rollouts", help="rollouts.jsonl, or the folder of a run")
    parser.add_argument("--problems", help="JSONL file whose accepted phrasings are the truth")
    parser.add_argument("--thresholds", nargs="+", type=float, help="on the reward model's score; "
                        "default: its quintiles (the paper's: 1 3 5 7)")
    parser.add_argument("--out", help="histogram to write; default auroc.png beside the rollouts")
    args = parser.parse_args()
    path = Path(args.rollouts)
    path = path / "rollouts.jsonl" if path.is_dir() else path
    rows = read_log(path, "step", "problem", "response", "verified", "rm_score")
    if not rows:
        raise ValueError(f"{path} holds no rollouts")
    print(verifier_study(rows, load_problems(args.problems) if args.problems else None,
                         args.thresholds, args.out or path.with_name("auroc.png")))


# ---------------------------------------------------------------------------- command line


def main():
    commands = {"table": table_command, "verifiers": verifiers_command}
    if not sys.argv[1:] or sys.argv[1] not in commands:
        raise ValueError(f"give one of {', '.join(commands)}")
    name = sys.argv.pop(1)
    commands[name](argparse.ArgumentParser(f"paper_tables.py {name}", allow_abbrev=False))


if __name__ == "__main__":
    distributed.run(main)
