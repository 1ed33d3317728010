"""Random text against the verifier: python results/verifier/fuzz.py --count 1000000

Three kinds of input: pieces of LaTeX in any order, real-looking answers with a few characters
changed, and characters from all of unicode. Each goes through `verify_all`, so a hang would be
counted as `timeout` and a crash as a dead worker; both must be 0. Every 50th input is also compared
in both directions, and normalized twice. Prints the counts as a line of JSON.
"""
import argparse
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from answers import LimitExceeded, is_equivalent, normalize  # noqa: E402
from verify import verify_all  # noqa: E402

PIECES = r"""
    \frac \dfrac \sqrt \sqrt[3] { } ( ) [ ] \{ \} ^ _ 0 1 2 10 37 0.5 1,000 1e5 9^9 x y n i e \pi
    + - * / = < > \le \ge \neq \in , ; : \text{ and } \text{ or } \pm \infty \cup \cap \setminus %
    ^\circ ! | \left( \right) \begin{pmatrix} \end{pmatrix} & \\ dollars \text{cm} \boxed{ $ \sin
    \log \ln \binom \lfloor \rfloor ... \ldots f(x) \sum_{k=1}^{n} \mathbb{R} \mathrm{ two hundred
    ½ ² √ ° \cdot \times ** != \approx \$ ' " \, \! \quad (A) yes \vec \bar{ \hat AB ABC \angle
    \subset \not \emptyset \begin{vmatrix} \end{vmatrix} \max( gcd( floor( \operatorname{ half
    thirds km mph 2:3:4 ② \big \\frac <sup> </sup> -oo |x-100| A\cup~B""".split()
ANSWERS = [
    r"\frac{3}{4}", "1,234", "2^{100}", "5!", r"3\sqrt{2}", r"\log_2 8", r"1\frac{1}{2}", "0.333",
    "3+4i", r"\frac{1+\sqrt{5}}{2}", r"\binom{n}{2}", r"n\pi", "25_6",
    r"28\%", r"45^\circ", r"\$12.50", r"12\text{ cm}^2", r"\text{(B)}",
    "x^2+2x+1", r"\sin^2 x+\cos^2 x", "f(x)=2x+1", "y=2x+3", r"x=3 \text{ or } x=-3", r"\pm 5",
    "(1,2),(3,4)", r"\{1,2,3\}", r"1,2,\ldots,10", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
    r"(-\infty,2)\cup[3,5)", r"-1<x\le 4", r"\vec{AB}+\vec{CD}", r"\angle ABC", "|x-11|-2",
    r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", r"(\pm1,\pm2)", "2:4:6",
    r"2 \text{ hours } 30 \text{ min}",
    r"60 \text{ miles per hour}", r"\textbf{(C)}\ 12", r"\max(a,b)", r"e^{i\pi/3}", r"2x+1<5",
    r"A\cup B", r"\bar{x}+1", r"\frac{AB}{CD}=2", r"\sqrt{(x-3)^2}", r"(a^b)^c", "n2^{n-1}",
]
UNICODE_BLOCKS = [(32, 126), (0, 31), (160, 1000), (0x2000, 0x23FF), (0x4E00, 0x4E80),
                  (0x1D400, 0x1D7FF)]


def piece_soup(rng: random.Random) -> str:
    """Pieces of LaTeX in any order."""
    length = rng.randint(1, rng.choice([4, 12, 40]))
    return rng.choice(["", " "]).join(rng.choices(PIECES, k=length))


def changed_answer(rng: random.Random) -> str:
    """A real-looking answer, with up to four places changed."""
    text = list(rng.choice(ANSWERS))
    for _ in range(rng.randint(0, 4)):
        at = rng.randrange(len(text) + 1)
        new = rng.choice([rng.choice(PIECES), rng.choice("0123456789xy,.()^{}\\"), ""])
        text[at:at + rng.randint(0, 2)] = new
    return "".join(text)


def unicode_soup(rng: random.Random) -> str:
    """Characters from all of unicode."""
    characters = []
    for _ in range(rng.randint(1, 30)):
        first, last = rng.choice(UNICODE_BLOCKS)
        characters.append(chr(rng.randint(first, last)))
    return "".join(characters)


def random_row(rng: random.Random) -> tuple[str, str]:
    """(response, reference)"""
    make = rng.choices((piece_soup, changed_answer, unicode_soup), (5, 4, 1))[0]
    answer = make(rng)
    reference = rng.choice(ANSWERS) if rng.random() < 0.8 else piece_soup(rng)
    response = f"so \\boxed{{{answer}}}" if rng.random() < 0.9 else answer
    return response, reference


def is_stable(answer: str) -> bool:
    """Does normalizing an answer twice give what normalizing it once does?"""
    try:
        once = normalize(answer)
        return normalize(once) == once
    except LimitExceeded:
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=100_000, help="number of random inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds per row")
    parser.add_argument("--show", type=int, default=0,
                        help="print this many inputs that were found correct")
    args = parser.parse_args()

    rng = random.Random(args.seed)
    start = time.time()
    reasons = Counter()
    dead, asymmetric, unstable = [], [], []
    for first in range(0, args.count, 10_000):
        rows = [random_row(rng) for _ in range(min(10_000, args.count - first))]
        responses, references = zip(*rows, strict=True)
        verdicts = verify_all(responses, references, args.timeout, args.workers)

        for at, (row, verdict) in enumerate(zip(rows, verdicts, strict=True)):
            response, reference = row
            reasons[verdict.reason] += 1
            if verdict.correct and args.show > 0 and reference not in response:
                args.show -= 1
                print(row)

            if verdict.answer is None:
                if verdict.reason != "no_answer":           # a hang, a death, or a fault
                    dead.append(row)
            elif at % 50 == 0:
                if is_equivalent(verdict.answer, reference) != verdict.correct:
                    asymmetric.append(row)
                if not is_stable(verdict.answer):
                    unstable.append(verdict.answer)

    print(json.dumps({
        "inputs": args.count, "seed": args.seed, "seconds": round(time.time() - start), **reasons,
        "hung_or_dead": len(dead), "asymmetric": len(asymmetric),
        "not_idempotent": len(unstable)}))
    for row in [*dead[:10], *asymmetric[:10], *unstable[:10]]:
        print("!", repr(row))
    sys.exit(bool(dead or asymmetric or unstable))


if __name__ == "__main__":
    main()
