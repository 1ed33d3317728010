"""Random text against the verifier: python tests/fuzz_verify.py --count 1000000

Three kinds of input: pieces of LaTeX in any order, real-looking answers with a few characters
changed, and characters from all of unicode. Each goes through `verify_all`, so a hang would be
counted as `timeout` and a crash as a dead worker; both must be 0. Every 50th input is also compared
in both directions, and normalised twice. Prints the counts as a line of JSON.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import verify as V  # noqa: E402

PIECES = r"""
    \frac \dfrac \sqrt \sqrt[3] { } ( ) [ ] \{ \} ^ _ 0 1 2 10 37 0.5 1,000 1e5 9^9 x y n i e \pi
    + - * / = < > \le \ge \neq \in , ; : \text{ and } \text{ or } \pm \infty \cup \cap \setminus %
    ^\circ ! | \left( \right) \begin{pmatrix} \end{pmatrix} & \\ dollars \text{cm} \boxed{ $ \sin
    \log \ln \binom \lfloor \rfloor ... \ldots f(x) \sum_{k=1}^{n} \mathbb{R} \mathrm{ two hundred
    ½ ² √ ° \cdot \times ** != \approx \$ ' " \, \! \quad (A) yes"""
PIECES = PIECES.split()
ANSWERS = r"""
    \frac{3}{4}|1,234|(-\infty,2)\cup[3,5)|x^2+2x+1|\begin{pmatrix}1&2\\3&4\end{pmatrix}|\{1,2,3\}
    |3\sqrt{2}|45^\circ|28\%|x=3 \text{ or } x=-3|f(x)=2x+1|(1,2),(3,4)|2^{100}|5!|\log_2 8
    |\sin^2 x+\cos^2 x|\$12.50|1\frac{1}{2}|\text{(B)}|y=2x+3|-1<x\le 4|\frac{1+\sqrt{5}}{2}|3+4i
    |0.333|12\text{ cm}^2|\pm 5|n\pi|1,2,\ldots,10|25_6|\binom{n}{2}"""
ANSWERS = [answer.strip() for answer in ANSWERS.split("|")]


def piece_soup(rng: random.Random) -> str:
    return rng.choice(["", " "]).join(
        rng.choices(PIECES, k=rng.randint(1, rng.choice([4, 12, 40])))
    )


def changed_answer(rng: random.Random) -> str:
    text = list(rng.choice(ANSWERS))
    for _ in range(rng.randint(0, 4)):
        at = rng.randrange(len(text) + 1)
        text[at : at + rng.randint(0, 2)] = rng.choice(
            [rng.choice(PIECES), rng.choice("0123456789xy,.()^{}\\"), ""]
        )
    return "".join(text)


def unicode_soup(rng: random.Random) -> str:
    ranges = [
        (32, 126),
        (0, 31),
        (160, 1000),
        (0x2000, 0x23FF),
        (0x4E00, 0x4E80),
        (0x1D400, 0x1D7FF),
    ]
    return "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(1, 30)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=5.0)
    parser.add_argument(
        "--show", type=int, default=0, help="print so many inputs that were found correct"
    )
    args = parser.parse_args()
    rng, start, done, dead = random.Random(args.seed), time.time(), Counter(), []
    asymmetric, unstable = [], []
    for first in range(0, args.count, 10_000):
        rows = []
        for _ in range(min(10_000, args.count - first)):
            answer = rng.choices((piece_soup, changed_answer, unicode_soup), (5, 4, 1))[0](rng)
            reference = rng.choice(ANSWERS) if rng.random() < 0.8 else piece_soup(rng)
            rows.append((f"so \\boxed{{{answer}}}" if rng.random() < 0.9 else answer, reference))
        verdicts = V.verify_all(
            *zip(*rows, strict=True), timeout=args.timeout, workers=args.workers
        )
        for at, (row, verdict) in enumerate(zip(rows, verdicts, strict=True)):
            done[verdict.reason] += 1
            if verdict.answer is None and verdict.reason != "no_answer":  # a hang, death, fault
                dead.append(row)
            if verdict.correct and args.show > 0 and row[1] not in row[0]:
                args.show -= 1
                print(row)
            if at % 50 == 0 and verdict.answer is not None:
                answer, reference = verdict.answer, row[1]
                if V.is_equivalent(answer, reference) != verdict.correct:
                    asymmetric.append(row)
                try:
                    once = V.normalise(answer)
                    if V.normalise(once) != once:
                        unstable.append(answer)
                except V.TooLarge:
                    pass
    print(
        json.dumps(
            {
                "inputs": args.count,
                "seed": args.seed,
                "seconds": round(time.time() - start),
                **done,
                "hung_or_dead": len(dead),
                "asymmetric": len(asymmetric),
                "not_idempotent": len(unstable),
            }
        )
    )
    for row in [*dead[:10], *asymmetric[:10], *unstable[:10]]:
        print("!", repr(row))
    sys.exit(bool(dead or asymmetric or unstable))


if __name__ == "__main__":
    main()
