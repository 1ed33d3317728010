"""results/study/screen.py: cosines worked by hand, thinned verdicts, the command."""

import importlib.util
import sys

import pytest
import torch
from helpers import ROOT, write_toss

# By its path: the folder results/study has the name of a script beside it.
spec = importlib.util.spec_from_file_location("screen", ROOT / "results/study/screen.py")
screen = importlib.util.module_from_spec(spec)
spec.loader.exec_module(screen)


def test_screen_golden():
    """One group, the truth's advantages (1, 1, -1, -1) / 2, of length 1.

    The verifier accepts only the first: (3, -1, -1, -1) / 4, length sqrt(12) / 4, product 1/2, so
    the cosine is 2 / sqrt(12). Scores 4, 1, 2, -1 have mean 1.5: (2.5, -0.5, 0.5, -2.5), length
    sqrt(13), product 2. A lone accepted response gets the lower end of its band, and with alpha 0
    all others 0: the direction of the verifier.
    """
    rm_scores = torch.tensor([[4.0, 1.0, 2.0, -1.0]], dtype=torch.float64)
    verified = torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    truth = torch.tensor([[1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    cosines = screen.screen(rm_scores, verified, truth)
    assert cosines["verifier"] == pytest.approx(2 / 12 ** 0.5)
    assert cosines["RM only"] == pytest.approx(2 / 13 ** 0.5)
    assert cosines["HERO, accepted side only"] == pytest.approx(2 / 12 ** 0.5)
    assert screen.screen(rm_scores, truth, truth)["verifier"] == pytest.approx(1)


def test_thinned_verdicts_accept_a_share_of_the_right_ones_and_nothing_else():
    truth = (torch.arange(20_000).reshape(-1, 8) % 3 == 0).double()
    verdicts = screen.thin(truth, 0.1)
    assert (verdicts <= truth).all()
    assert verdicts.sum() / truth.sum() == pytest.approx(0.1, abs=0.015)
    assert torch.equal(screen.thin(truth, 1.0), truth)


def test_the_screen_as_a_command(folder, tokenizer, capsys, monkeypatch):
    """A policy that is right in half of its responses, and a verifier that is never wrong: so the
    verifier's own column is 1, and thinned it is less."""
    write_toss(folder, tokenizer)
    monkeypatch.chdir(folder)
    options = ["--groups", "30", "--rollouts", "4", "--model", "toss", "--problems", "sevens.jsonl"]
    monkeypatch.setattr(sys, "argv", ["screen.py", *options, "--recalls", "0.5"])
    screen.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("30 groups of 4 responses")
    verifier = next(line.split() for line in lines if line.startswith("verifier"))
    assert float(verifier[1]) == pytest.approx(1, abs=1e-3) and float(verifier[2]) < 1

    monkeypatch.setattr(sys, "argv", ["screen.py", "--groups", "0"])
    with pytest.raises(ValueError, match="--groups 0: has to be above 0"):
        screen.main()
