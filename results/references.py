"""Do the benchmarks' own reference answers verify against themselves, and not against others?

    python results/references.py math500 amc23 minerva olympiadbench hardverify
    python results/references.py a.jsonl b.jsonl       any rows of problem and answer

Writes references.csv and references.md beside this file. A benchmark is what --benchmarks of
eval.py takes: a name, which is read from the hub, or a JSONL file. The committed table was measured
on local samples of public sets: MATH (300 of the test split), AMC 2023 (all 40), GSM8K (200 of the
test split), Minerva (all 272), OlympiadBench (200) and HardVerify-Math (149). It is not recorded
which rows they are, so other samples give other counts.

Each reference is given as a response, \\boxed{reference}, to its own problem and to the one before
it. Neighbors often have the same answer ("2" and "2"): the last column leaves out pairs whose
references are the same text.
"""

import csv
import io
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from problems import load_benchmarks, write_file  # noqa: E402
from verify import verify_all  # noqa: E402

COLUMNS = ["benchmark", "problems", "accepted for its own problem",
           "accepted for another problem", "pairs of equal text", "accepted, the others"]


def accepted(answers, references):
    """Whether each answer, boxed, verifies against its reference. -> list of bools"""
    verdicts = verify_all([f"\\boxed{{{answer}}}" for answer in answers], references)
    return [verdict.correct for verdict in verdicts]


def share(hits):
    """A share as text: 99.3 % (298 of 300)."""
    return f"{100 * sum(hits) / len(hits):.1f} % ({sum(hits)} of {len(hits)})"


def measure(name, problems):
    """-> one row of COLUMNS"""
    references = [str(row["answer"]) for row in problems]
    others = references[1:] + references[:1]
    own = accepted(references, references)
    other = accepted(others, references)

    distinct = []                                 # of the pairs whose texts differ
    for hit, reference, text in zip(other, references, others, strict=True):
        if text != reference:
            distinct.append(hit)
    equal = len(references) - len(distinct)
    return [name, str(len(references)), share(own), share(other), str(equal), share(distinct)]


def main():
    if len(sys.argv) == 1:
        sys.exit(__doc__)
    rows = [measure(name, problems)
            for name, problems in load_benchmarks(sys.argv[1:]).items()]

    table = io.StringIO(newline="")
    csv.writer(table).writerows([COLUMNS, *rows])
    write_file(HERE / "references.csv", table.getvalue())

    lines = [f"| {' | '.join(row)} |" for row in [COLUMNS, ["---"] * len(COLUMNS), *rows]]
    text = "\n".join(lines) + (
        "\n\n`python results/references.py BENCHMARK...`: each reference answer as a boxed "
        "response to its own problem and to the one before it.\n")
    write_file(HERE / "references.md", text)
    print(text)


if __name__ == "__main__":
    main()
