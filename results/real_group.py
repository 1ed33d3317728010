"""One real group through every reward: eight responses to a MATH problem, scored by a 72B model.

    python results/real_group.py FILE              writes results/real_group.md

FILE is a JSONL file of {"problem", "answer", "responses", "rm_scores"}. The group shown is the
mixed one in which the reward model agrees least with the verifier (lowest AUROC).
"""

import json
import sys
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from rewards import REWARDS, auroc, compute_advantages  # noqa: E402
from verify import verify_all  # noqa: E402


def load(path):
    """-> rows, verdicts (P lists of G), rm (P, G), correct (P, G)"""
    rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    G = len(rows[0]["responses"])
    flat = verify_all([text for row in rows for text in row["responses"]],
                      [row["answer"] for row in rows for _ in range(G)])
    verdicts = [flat[i:i + G] for i in range(0, len(flat), G)]
    correct = torch.tensor([[float(v.correct) for v in group] for group in verdicts])
    return rows, verdicts, torch.tensor([row["rm_scores"] for row in rows]), correct


def table(header, rows):
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in
                     [header, ["---"] * len(header), *rows])


def main():
    rows, verdicts, rm, correct = load(sys.argv[1])
    mixed = [p for p in range(len(rows)) if 0 < correct[p].sum() < correct.shape[1]]
    p = min(mixed, key=lambda p: auroc(rm[p], correct[p]))
    sigma_bar = rm.std(1, correction=0).mean().item()
    parts = {(name, scale): compute_advantages(rm[p:p + 1], correct[p:p + 1], sigma_bar, reward=name,
                                            scale=scale)
             for name in REWARDS for scale in ("none", "std")}
    hero, each = parts["hero", "none"], range(correct.shape[1])
    right = correct[p].bool()
    text = "\n\n".join([
        f"Reference `{rows[p]['answer']}`; α = β = 0.05, mix 0.5. σ = {hero['sigma'].item():.2f}, "
        f"σ̄ = {sigma_bar:.2f} over the {len(rows)} groups of the file, so w = "
        f"{hero['weight'].item():.2f}; it multiplies the three HERO advantages. AUROC of the "
        f"scores in this group: {auroc(rm[p], correct[p]):.2f}; {len(mixed)} of the {len(rows)} "
        "groups are mixed.",
        table(["final answer", "verdict", "RM score", *(f"{name} reward" for name in REWARDS)],
              [[f"`{verdicts[p][g].answer}`", int(right[g]), f"{rm[p, g]:.2f}",
                *(f"{parts[name, 'none']['r_hat'][0, g]:.3f}" for name in REWARDS)] for g in each]),
        "Advantages, without division by the group's standard deviation / with it:",
        table(["final answer", "verdict", *REWARDS],
              [[f"`{verdicts[p][g].answer}`", int(right[g]),
                *(" / ".join(f"{parts[name, scale]['adv'][0, g]:+.2f}" for scale in
                             ("none", "std")) for name in REWARDS)] for g in each]),
        "`python results/real_group.py FILE`: eight real responses to one MATH problem, with the "
        "scores of a 72B reward model. The reward of HERO is r_hat, Eq. 3."])
    (HERE / "real_group.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
