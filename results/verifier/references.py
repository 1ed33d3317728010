"""Do the benchmarks' own reference answers verify against themselves, and not against others?

    python results/verifier/references.py math500 amc23 minerva olympiadbench hardverify
    python results/verifier/references.py a.jsonl b.jsonl       any rows of problem and answer

Writes references.csv and references.md beside this file. A benchmark is what --benchmarks of
eval.py takes: a name, which is read from the hub, or a JSONL file. The committed table was measured
on local samples of public sets: MATH (300 of the test split), AMC 2023 (all 40), GSM8K (200 of the
test split), Minerva (all 272), OlympiadBench (200) and HardVerify-Math (149). It is not recorded
which rows they are, so other samples give other counts.

Each reference is given as a response, \\boxed{reference}, to its own problem and to the one before
it, and each is compared with every other of its file. Problems often have the same answer ("2" and
"2"), so references of the same text count once there. The pairs that are accepted are listed: each
should be two forms of one answer. References that verify.py cannot read are counted.
"""

import itertools
import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))
from problems import load_benchmarks, write_file  # noqa: E402
from verify import is_readable, verify_all  # noqa: E402

COLUMNS = ["benchmark", "problems", "not readable", "accepted for its own problem",
           "accepted for the problem before", "of these, equal text", "pairs of different texts",
           "accepted"]


def accepted(answers, references):
    """Whether each answer, boxed, verifies against its reference. -> list of bools"""
    verdicts = verify_all([f"\\boxed{{{answer}}}" for answer in answers], references)
    return [verdict.correct for verdict in verdicts]


def share(hits):
    """A share as text: 99.3 % (298 of 300)."""
    return f"{100 * sum(hits) / len(hits):.1f} % ({sum(hits)} of {len(hits)})"


def measure(name, problems):
    """-> one row of COLUMNS, and the pairs of different references that are accepted"""
    references = [str(row["answer"]).strip() for row in problems]
    others = references[1:] + references[:1]
    own = accepted(references, references)
    other = accepted(others, references)
    equal_text = sum(map(str.__eq__, references, others))
    unreadable = sum(not is_readable(reference) for reference in references)

    pairs = list(itertools.combinations(dict.fromkeys(references), 2))
    hits = accepted([answer for _, answer in pairs], [reference for reference, _ in pairs])
    same = [pair for pair, hit in zip(pairs, hits, strict=True) if hit]
    row = [name, str(len(references)), str(unreadable), share(own), share(other),
           str(equal_text), f"{len(pairs):,}", str(len(same))]
    return row, same


def main():
    if len(sys.argv) == 1:
        sys.exit(__doc__)
    rows, accepted_pairs = [], []
    for name, problems in load_benchmarks(sys.argv[1:]).items():
        row, pairs = measure(name, problems)
        rows.append(row)
        accepted_pairs += [(name, *pair) for pair in pairs]

    write_file(HERE / "references.csv", pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False))
    lines = [f"| {' | '.join(row)} |" for row in [COLUMNS, ["---"] * len(COLUMNS), *rows]]
    text = "\n".join(lines) + (
        "\n\n`python results/verifier/references.py BENCHMARK...`: each reference answer as a "
        "boxed response to its own problem, to the one before it, and to every other whose "
        "reference is another text.\n\nAccepted pairs of different texts:\n\n")
    for name, reference, answer in accepted_pairs:
        text += f"- {name}: `{reference}` and `{answer}`\n"
    write_file(HERE / "references.md", text)
    print(text)


if __name__ == "__main__":
    main()
