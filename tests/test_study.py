"""The study: its cells, its CSV files, and the arithmetic of its tables."""

import numpy as np
import pytest
from helpers import ROOT, metrics_of

import hero
from results import study, study_tables

RESULTS = ROOT / "results"


# ---------------------------------------------------------------------------- what is run


@pytest.mark.parametrize("size", [study.FULL, study.QUICK], ids=["full", "quick"])
def test_every_job_is_a_run_that_can_be_started(size):
    rates = dict.fromkeys(study.SWEPT, 3e-5)
    jobs = study.sweep_jobs(size) + study.main_jobs(rates, size)
    configs = [study.make_config(job, size) for job in jobs]
    for config in configs:
        hero.validate(config, world_size=1)
    assert len({config.name for config in configs}) == len(configs)


def test_a_cell_takes_the_learning_rate_of_its_kind_of_reward():
    rates = {"verifier": 1.0, "RM only": 2.0, "HERO": 3.0, "HERO std": 4.0, "naive 0.5": 5.0}
    chosen = {job.cell: job.settings["learning_rate"] for job in
              study.main_jobs(rates, study.QUICK)}
    assert chosen["easy / verifier"] == 1
    assert chosen["misleading / RM only"] == 2
    assert chosen["hard / dense correct"] == 3
    assert chosen["hard / std, no weight"] == 4
    assert chosen["mixed / naive 0.9"] == 5
    assert chosen["rate 6e-05 / verifier"] == 6e-5


@pytest.mark.slow
def test_the_log_has_what_the_curves_are_made_of(unbroken):
    folder, _ = unbroken
    logged = metrics_of(folder, "a")[-1]
    # that run was evaluated on other problems
    missing = {key for key in study.CURVE.values() if key not in logged}
    assert all(key.startswith("eval/validation_") for key in missing)


# ---------------------------------------------------------------------------- CSV files


def test_csv_files_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "a.csv"
    study.write_csv(path, [{"cell": "a, \"b\"\n", "seed": 3, "rm": 1 / 3}, {"cell": "c"}])
    assert path.read_bytes().splitlines()[0] == b"cell,seed,rm"
    assert study_tables.read_csv(path) == [{"cell": "a, \"b\"\n", "seed": 3, "rm": 0.333333},
                                           {"cell": "c", "seed": None, "rm": None}]
    assert study_tables.read_csv(tmp_path / "none.csv") == []


# ---------------------------------------------------------------------------- arithmetic


def test_an_interval_is_student_s():
    # 1, 2, 6: mean 3, squares 4 + 1 + 9 = 14, deviation sqrt(14 / 2), over sqrt(3)
    mean, half = study_tables.mean_interval([1, 2, 6])
    assert mean == 3
    assert half == pytest.approx(4.303 * np.sqrt(7 / 3))
    assert study_tables.show([1, 2, 6]) == "3.000 ± 6.573"
    assert study_tables.show_difference([0.5]) == "+0.500"
    assert study_tables.show([]) == "-"


def curve_rows(cell, accuracies):
    """accuracies: {seed: {step: hard validation accuracy}}"""
    rows = []
    for seed, by_step in accuracies.items():
        for step, value in by_step.items():
            rows.append({"cell": cell, "seed": seed, "step": step, "hard": value, "easy": value})
    return rows


def test_the_step_that_reaches_an_accuracy_is_interpolated():
    # means 0.2, 0.4, 0.5: 0.45 is half way between steps 10 and 20
    rows = curve_rows("a", {0: {0: 0.1, 10: 0.3, 20: 0.5}, 1: {0: 0.3, 10: 0.5, 20: 0.5}})
    assert study_tables.steps_to(rows, "a", 0.45) == pytest.approx(15)
    assert study_tables.steps_to(rows, "a", 0.6) is None


def test_a_curve_averages_windows_of_steps():
    # steps 1 and 2 are the window that ends at 2; step 3 that which ends at 4
    rows = curve_rows("a", {0: {1: 0.0, 2: 1.0, 3: 0.5}, 1: {1: 1.0, 2: 1.0, 3: None}})
    assert study_tables.curve(rows, "a", "hard", window=2) == {2: [0.5, 1.0], 4: [0.5]}


def test_differences_are_paired_by_seed():
    curves = (curve_rows("a", {0: {0: 0.9, 10: 0.1, 20: 0.3}, 1: {10: 0.5, 20: 0.5}})
              + curve_rows("b", {1: {10: 0.1, 20: 0.3}, 2: {10: 0.0, 20: 0.0}}))
    rows = []
    for cell, seed in (("a", 0), ("a", 1), ("b", 1), ("b", 2)):
        rows.append({"cell": cell, "seed": seed, "world": seed % 2, "hard pass@1": seed / 10})
    runs = study_tables.Runs(rows, curves)
    assert runs.values("a", "curve mean") == pytest.approx([0.2, 0.5])    # step 0 does not count
    assert runs.values("a", "first half") == pytest.approx([0.1, 0.5])
    assert runs.minus("a", "b", "curve mean") == pytest.approx([0.3])
    assert runs.minus("a", "b", "curve mean", world=0) == []
    assert runs.minus("a", "none", "curve mean") == []


# ---------------------------------------------------------------------------- committed outputs


@pytest.mark.release
def test_the_pages_are_what_the_csv_files_make():
    assert study_tables.tables(RESULTS) == (RESULTS / "study.md").read_text()
    differences = (RESULTS / "study_differences.md").read_text()
    assert study_tables.difference_tables(RESULTS) == differences


@pytest.mark.release
def test_the_csv_files_hold_every_run_and_beside_them_only_the_gate_s():
    rows = study_tables.read_csv(RESULTS / "study_runs.csv")
    rates = study.choose_rates(rows, study.FULL)
    jobs = study.sweep_jobs(study.FULL) + study.main_jobs(rates, study.FULL)
    wanted = {(job.cell, job.seed): job.settings["learning_rate"] for job in jobs}
    measured = {(row["cell"], row["seed"]): row["learning_rate"] for row in rows}
    assert {key: measured[key] for key in wanted} == pytest.approx(wanted)
    others = {cell for cell, seed in measured if (cell, seed) not in wanted}
    assert others and all(cell.endswith(" gate") for cell in others)
