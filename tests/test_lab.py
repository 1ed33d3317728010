"""The lab: its runs are those of its design, its claims are of runs that are made, and its page."""

import re

import pandas as pd
import pytest

from neighbors import lab
from neighbors.neighbors import METHODS
from results.study import study

STUDIED = {f"{condition} / {method}" for block in study.BLOCKS.values()
           for condition, method in block.cells}


def test_the_runs_are_those_of_the_design():
    design = (study.HERE / "DESIGN.md").read_text().partition("# The design of the lab")[2]
    table = re.findall(r"^\| ([\w ]+) \| .* \| (\d+)(?:,.*)? \|$", design, re.M)
    left = {"table": 12, "weak": 6, "lucky": 4, "half rate": 4, "worlds": 8}      # of lab.LEFT
    made = {name: len(block.cells) * len(block.worlds) + left.get(name, 0)
            for name, block in lab.BLOCKS.items()}
    assert {name: int(runs) for name, runs in table} == made
    jobs = lab.make_jobs(lab.FULL)
    assert len(jobs) == len(set(jobs)) == 286 + 18 - sum(left.values())


def test_every_method_has_a_run_here_or_in_the_study():
    assert {*lab.METHODS, *lab.IN_STUDY, *lab.SAME_AS_VERIFIER} == {
        *METHODS, "rm", "hero", "verifier", "oracle"}
    assert {lab.cell_of(name) for name in lab.IN_STUDY} <= STUDIED


def test_claims_are_of_cells_that_are_made():
    made = STUDIED | {"start"} | {job.cell for job in lab.make_jobs(lab.FULL)}
    made |= {f"{condition} / {name}" for condition in ("hard", "weak") for name in lab.LEFT}
    for claim in sum(lab.CLAIMS.values(), []):
        assert {claim.plus, claim.minus} <= made, claim


def test_a_row_counts_the_updates():
    """DAPO rests in steps in which too few groups are mixed; its log has no entropy then."""
    entropies = [None, None, 0.1, None, 0.2]      # of the steps 0 to 4
    metrics = [{"step": step, "policy/entropy": entropy} for step, entropy in enumerate(entropies)]
    for step in (0, 2, 4):
        metrics[step] |= {"eval/hard/pass@1": 0.3, "eval/easy/pass@1": 0.4, "eval/hard/rm": 1.0,
                          "eval/easy/pass@k": 0.9}
    for condition, easy in (("hard", None), ("diverse", 0.9)):
        rows = lab.rows_of(lab.Job(condition, "dapo", 0, 2e-4), metrics, 1.0)
        assert [(row["step"], row["updates"], row["easy pass@16"]) for row in rows] == [
            (0, 0, easy), (2, 1, easy), (4, 2, easy)]


def test_the_page_pairs_differences_by_world_and_keeps_what_is_by_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "HERE", tmp_path)
    courses = {("HERO", 0): 0.5, ("HERO", 1): 0.7, ("verifier", 0): 0.4, ("verifier", 1): 0.4,
               ("rlpr", 0): 0.6, ("rlpr", 1): 0.7}
    rows = []
    for (method, world), course in courses.items():
        for step in (0, 15, 30, 45):
            # What the study has after the lab's last step does not count.
            value = 0.0 if step == 45 else course
            rows.append({"cell": f"hard / {method}", "world": world, "rate": 2e-4, "step": step,
                         "hard": value, "easy": value, "hard rm": 1.0, "all rejected": 0.9,
                         "auroc": 0.8, "entropy": 0.1, "seconds": 20})
    study.write_csv(tmp_path / "study.csv", rows[:16])
    study.write_csv(tmp_path / "lab.csv", [row | {"easy pass@16": None, "updates": row["step"]}
                                           for row in rows[16:] if row["step"] < 45])

    (tmp_path / "README.md").write_text(f"By hand.\n\n{lab.MARK}old tables\n")
    lab.write_page(tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert page.startswith(f"By hand.\n\n{lab.MARK}\n## ") and "old tables" not in page
    # Differences to HERO of 0.1 and 0: mean 0.05, deviation 0.0707, 12.706 * 0.0707 / sqrt(2).
    assert re.search(r"\| rlpr \| 2 \| 0.650 \| 0.650 \| .* \| \+0.050 ± 0.635 \|", page)
    assert "| rlpr | open | the reference's probability replaces a verifier |" in page
    assert (tmp_path / "weights.png").exists()


@pytest.mark.release
def test_what_the_lab_takes_from_the_study_has_its_rate():
    rows = pd.read_csv(study.HERE / "study.csv").set_index("cell")
    assert set(rows.loc[[lab.cell_of(name) for name in lab.IN_STUDY], "rate"]) == {lab.RATE}


@pytest.mark.release
def test_the_page_is_what_the_csv_files_make(tmp_path):
    for name in ("lab.csv", "README.md"):
        (tmp_path / name).write_bytes((lab.HERE / name).read_bytes())
    lab.write_page(tmp_path)
    assert (tmp_path / "README.md").read_text() == (lab.HERE / "README.md").read_text()
