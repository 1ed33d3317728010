"""The study: its runs are those of its design, and the arithmetic of its tables."""

import re
from collections import Counter
from concurrent.futures import Future

import numpy as np
import pytest
from helpers import ROOT, metrics_of

import hero
import tiny
from problems import load_problems
from results import study, study_tables

RESULTS = ROOT / "results"
RATES = dict.fromkeys(study.SWEPT, 1e-4)


@pytest.fixture
def all_rewards(monkeypatch):
    """As if hero.py knew every reward that the study names."""
    names = [method.settings["reward"] for method in study.METHODS.values()]
    monkeypatch.setitem(hero.CHOICES, "reward", names)


# ---------------------------------------------------------------------------- what is run


def test_the_runs_are_those_of_the_design(all_rewards):
    design = (RESULTS / "DESIGN.md").read_text().partition("# The design of the lab")[0]
    table = re.findall(r"^\| (\w+) \| .*: (\d+) \| .* \| (\d+)(?:,.*)? \|$", design, re.M)
    designed = {name: (int(cells), int(runs)) for name, cells, runs in table}

    jobs = study.sweep_jobs(study.FULL)
    made = {"sweep": (len({job.cell for job in jobs}), len(jobs))}
    for name, block in study.BLOCKS.items():
        made[name] = (len(block.cells), len(block.cells) * len(block.worlds))
    assert designed == made
    assert len(jobs + study.study_jobs(RATES, study.FULL)) == 218 + 9
    assert float(study_tables.DEFAULT_RECALL) == tiny.RECALL


def test_a_cell_is_made_in_all_worlds_before_the_next(all_rewards):
    jobs = study.study_jobs(RATES, study.FULL)
    assert [job.world for job in jobs[:6]] == [0, 1, 2, 3, 4, 0]
    assert len({job.cell for job in jobs[:5]}) == 1
    assert len(set(jobs)) == len(jobs)


def test_more_goes_on_to_ten_worlds_after_the_first_stop(all_rewards):
    jobs = study.study_jobs(RATES, study.FULL)
    more = study.study_jobs(RATES, study.FULL, more=True)
    assert more[:len(jobs)] == jobs
    assert len(set(more)) == len(more)
    worlds = Counter(job.cell for job in more)
    for cell in [cell for cell in worlds if cell.startswith("long / ")]:
        assert worlds.pop(cell) == 3
    assert set(worlds.values()) == {10}


@pytest.mark.parametrize("size", [study.FULL, study.QUICK], ids=["full", "quick"])
def test_every_job_is_a_run_that_can_be_started(size):
    jobs = study.sweep_jobs(size) + study.study_jobs(RATES, size)
    configs = [study.make_config(job, size) for job in jobs]
    for config in configs:
        hero.validate(config, world_size=1)
    assert len({config.name for config in configs}) == len(configs)


def test_a_cell_takes_the_learning_rate_of_its_kind_of_method(all_rewards):
    rates = {"verifier": 1.0, "RM only": 2.0, "HERO": 3.0, "naive 0.5": 4.0, "naive 0.9": 5.0}
    chosen = {job.cell: job.rate for job in study.study_jobs(rates, study.FULL)}
    assert chosen["hard / oracle"] == 1
    assert chosen["weak / RM only"] == 2
    assert chosen["hard / RM leash"] == 3
    assert chosen["long / HERO at 1e-4"] == 1e-4
    assert chosen["hard / naive 0.1"] == 4
    assert chosen["hard / naive 0.95"] == 5


def test_a_reward_that_hero_does_not_know_is_left_out(monkeypatch, capsys):
    monkeypatch.setitem(hero.CHOICES, "reward", ["hero", "verifier", "rm", "naive", "oracle"])
    cells = {job.cell for job in study.study_jobs(RATES, study.FULL)}
    assert "hard / HERO" in cells and "hard / HERO leash" not in cells
    assert "hero_kl" in capsys.readouterr().out


def test_the_rate_with_the_best_course_is_chosen():
    rows = []
    for method in study.SWEPT:
        for rate, value in ((5e-5, 0.3), (1e-4, 0.5 if method == "HERO" else 0.2), (2e-4, 0.4)):
            rows += run_rows(f"sweep {rate:g} / {method}", 100, [0.9, value, value])
    rates = study.choose_rates(rows, study.FULL)
    assert rates.pop("HERO") == 1e-4
    assert set(rates.values()) == {2e-4}


def test_a_world_gets_other_references_and_fresh_problems(world, monkeypatch, folder):
    monkeypatch.chdir(folder)
    size = study.Size("", 2, {}, (0,), (1e-4,), hard_problems=20, easy_problems=10)
    study.prepare_world(0, size)
    extras = size.extras(0)

    # The same problems, of which the blindest verifier accepts none of the policy's phrasings.
    own = tiny.make_problems(40, True, seed=0, evaluation=False)
    blind = load_problems(extras / "recall 0" / "hard.jsonl")
    assert [row["problem"] for row in own] == [row["problem"] for row in blind]
    assert all("beyond" in row["answer"] for row in blind)

    held_out = load_problems(world / "eval" / "hard.jsonl")
    held_out += load_problems(world / "eval" / "easy.jsonl")
    texts = {study.in_digits(row["problem"]) for row in held_out}
    for name, count in (("hard", 20), ("easy", 10)):
        fresh = load_problems(extras / f"{name}.jsonl")
        assert len(fresh) == count
        assert not texts & {study.in_digits(row["problem"]) for row in fresh}


def test_a_world_of_other_code_is_refused(monkeypatch, folder):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(tiny, "code_version", lambda: "other")
    with pytest.raises(ValueError, match="another version of the code: delete it"):
        study.prepare_world(0, study.FULL)


def test_no_run_begins_after_the_deadline():
    assert study.run_job(study.Job("hard", "HERO", 0, 1e-4), study.FULL, deadline=0) == []


@pytest.mark.slow
def test_the_log_has_what_the_study_reads(unbroken):
    folder, _ = unbroken
    logged = metrics_of(folder, "a")
    rows = study.evaluations(study.Job("hard", "HERO", 0, 1e-4), logged, 1.0)
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert rows[-1]["hard"] == logged[-1]["eval/hard/pass@1"]
    assert rows[-1]["entropy"] == pytest.approx(
        (logged[-1]["policy/entropy"] + logged[-2]["policy/entropy"]) / 2)


# ---------------------------------------------------------------------------- the CSV files


def test_csv_files_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "a.csv"
    study.write_csv(path, [{"cell": "a, \"b\"\n", "world": 3, "rm": 1 / 3}, {"cell": "c"}])
    assert path.read_bytes().splitlines()[0] == b"cell,world,rm"
    assert study_tables.read_csv(path) == [{"cell": "a, \"b\"\n", "world": 3, "rm": 0.333333},
                                           {"cell": "c", "world": None, "rm": None}]
    assert study_tables.read_csv(tmp_path / "none.csv") == []


def run_rows(cell, world, accuracies, easy=None):
    """The rows of a run that was evaluated at steps 0, 15, 30 ... easy: as hard, if not given"""
    rows = []
    for i, hard in enumerate(accuracies):
        rows.append({"cell": cell, "world": world, "rate": 1e-4, "step": 15 * i, "hard": hard,
                     "easy": easy[i] if easy else hard, "hard rm": hard, "all wrong": 0.5,
                     "auroc": None, "entropy": None, "seconds": 60})
    return rows


def test_a_run_that_is_there_is_not_made_again(tmp_path, monkeypatch):
    class Pool:
        """Makes the run of a job at once, and remembers it."""
        made = []

        def submit(self, run, job, size, deadline):
            self.made.append(job.world)
            future = Future()
            future.set_result(run_rows(job.cell, job.world, [0.1, 0.2]))
            return future

    monkeypatch.setattr(study, "prepare", lambda pool, jobs, size: None)
    jobs = [study.Job("hard", "HERO", world, 1e-4) for world in range(3)]
    study.write_csv(tmp_path / "study.csv", run_rows("hard / HERO", 1, [0.1, 0.2]))
    rows = study.make_runs(Pool(), jobs, tmp_path / "study.csv", study.FULL)
    assert Pool.made == [0, 2]
    assert len(rows) == 6
    path = tmp_path / "study.csv"
    assert study.make_runs(Pool(), jobs, path, study.FULL) == study_tables.read_csv(path)
    assert Pool.made == [0, 2]


# ---------------------------------------------------------------------------- arithmetic


def test_outcomes_of_a_run():
    run = run_rows("a", 0, [0.9, 0.1, 0.3, 0.2], easy=[0.9, 0.3, 0.5, 0.4])
    values = study_tables.outcomes(run)
    assert values["course hard"] == pytest.approx(0.2)              # step 0 does not count
    assert values["course easy"] == pytest.approx(0.4)
    assert values["course"] == pytest.approx(0.3)
    assert values["easy minus hard"] == pytest.approx(0.2)
    assert values["end"] == pytest.approx(0.3)
    assert values["gain"] == pytest.approx(0.1)                     # 0.3 - 0.2
    assert values["best minus last"] == pytest.approx(0.1)          # 0.4 - 0.3
    assert values["score gain"] == pytest.approx(-0.7)


def test_an_interval_and_a_p_value_are_student_s():
    # 1, 2, 6: mean 3, squares 4 + 1 + 9 = 14, deviation sqrt(14 / 2), over sqrt(3)
    mean, half = study_tables.mean_interval([1, 2, 6])
    assert mean == 3
    assert half == pytest.approx(4.303 * np.sqrt(7 / 3))
    assert study_tables.show([1, 2, 6]) == "3.000 ± 6.573"
    assert study_tables.show_difference([0.5]) == "+0.500"
    assert study_tables.show([]) == "not run"

    # With two degrees of freedom p = 1 - t / sqrt(2 + t^2); t = 3 / sqrt(7 / 3).
    t = 3 / np.sqrt(7 / 3)
    assert study_tables.p_value([1, 2, 6]) == pytest.approx(1 - t / np.sqrt(2 + t * t), abs=1e-4)
    assert study_tables.p_value([1]) == 1


def test_the_quantiles_of_t_are_those_of_the_p_value():
    # Values of +-1 about a mean, or with a 0: a mean of T95 standard errors has p = 0.05.
    for count, quantile in study_tables.T95.items():
        values = np.linspace(-1, 1, count)
        values += quantile * values.std(ddof=1) / count ** 0.5
        assert study_tables.p_value(values) == pytest.approx(0.05, abs=1e-3)


def test_holm_multiplies_by_how_many_are_left():
    # sorted: 0.01 * 4, 0.015 * 3 = 0.045, 0.02 * 2 = 0.04 but not below 0.045, 0.9
    assert study_tables.holm([0.02, 0.01, 0.9, 0.015]) == pytest.approx([0.045, 0.04, 0.9, 0.045])


def synthetic_study():
    """HERO is ahead of the verifier by 0.08, 0.1 and 0.12, and the oracle by twice that."""
    rows = []
    for world, gain in ((0, 0.08), (1, 0.1), (2, 0.12)):
        base = 0.3 + 0.1 * world
        rows += run_rows("hard / verifier", world, [0.2, base, base])
        rows += run_rows("hard / HERO", world, [0.2, base + gain, base + gain])
        rows += run_rows("hard / oracle", world, [0.2, base + 2 * gain, base + 2 * gain])
    rows += run_rows("recall 0 / HERO", 2, [0.2, 0.5, 0.6])
    return rows


def test_differences_are_paired_by_world():
    result = study_tables.Study(synthetic_study())
    pair = (("hard / HERO",), ("hard / verifier",))
    assert result.difference(*pair, "course") == pytest.approx([0.08, 0.1, 0.12])
    assert result.gap_shares("hard / HERO", "hard / verifier") == pytest.approx([0.5] * 3)
    # 0.1, deviation 0.02: 4.303 * 0.02 / sqrt(3) = 0.0497
    assert study_tables.show_difference(result.difference(*pair, "course")) == "+0.100 ± 0.050"
    assert result.difference(("none",), ("hard / HERO",), "course") == []


def test_the_verifier_at_a_recall_of_0_is_the_start():
    result = study_tables.Study(synthetic_study())
    assert result.difference(("recall 0 / HERO",), ("start",), "course") == pytest.approx([0.35])
    assert result.values("recall 0 / verifier", "end") == pytest.approx([0.2] * 3)


def test_verdicts():
    assert study_tables.verdict_alone([]) == "not run"
    assert study_tables.verdict_alone([0.1]) == "open"
    assert study_tables.verdict_alone([0.08, 0.1, 0.12]) == "seen"          # 0.1 +- 0.0497
    assert study_tables.verdict_alone([-0.08, -0.1, -0.12]) == "opposite seen"
    assert study_tables.verdict_alone([-0.1, 0.1, 0.12]) == "open"

    # t = 0.1 / (0.02 / sqrt(3)) = 8.66, p = 0.0131, times twelve: not enough for the family
    verdicts, adjusted = study_tables.family_verdicts(study_tables.Study(synthetic_study()))
    assert verdicts[2] == "open" and adjusted[2] == pytest.approx(12 * 0.0131, abs=1e-3)
    assert verdicts[0] == "not run"


def test_a_prediction_comes_true_only_with_all_its_parts():
    result = study_tables.Study(synthetic_study())
    ahead = study_tables.Claim("", ("hard / HERO",), ("hard / verifier",))
    behind = study_tables.Claim("", ("hard / verifier",), ("hard / HERO",))
    missing = study_tables.Claim("", ("long / HERO",), ("hard / HERO",))
    verdicts = ["confirmed", "open"]

    def test(**parts):
        return study_tables.came_true(result, study_tables.Prediction("", **parts), verdicts)

    assert test(confirmed=(1,), not_confirmed=(2,), above_0=(ahead,)) == "came true"
    assert test(confirmed=(2,), above_0=(ahead,)) == "failed"
    assert test(above_0=(ahead, behind)) == "failed"
    assert test(above_0=(ahead, missing)) == "not run"


def test_the_pages_need_no_more_than_one_run(tmp_path):
    study.write_csv(tmp_path / "study.csv", run_rows("hard / HERO", 0, [0.2, 0.3]))
    study_tables.write_report(tmp_path)
    page = (tmp_path / "study.md").read_text()
    assert "1 runs" in page and "not run" in page
    assert len(list(tmp_path.glob("*.png"))) == 5


def test_long_runs_are_drawn_before_those_of_hero_are_made(tmp_path):
    rows = study_tables.Study(run_rows("long / verifier", 1, [0.2, 0.3]))
    study_tables.draw_long(rows, tmp_path / "long.png")
    assert (tmp_path / "long.png").exists()


def test_two_looks_are_at_the_first_five_worlds_and_at_the_others():
    rows = []
    for world in range(7):
        lead = 0.2 if world < 5 else 0.1
        rows += run_rows("hard / verifier", world, [0.2, 0.3])
        rows += run_rows("hard / HERO", world, [0.2, 0.3 + lead])
    lines = study_tables.two_looks_table(rows)
    assert len(lines) == 3                                  # two lines of heading, one claim
    assert "+0.200 ± 0.000 | confirmed" in lines[2] and "+0.100 ± 0.000 |" in lines[2]


def test_every_claim_and_table_is_of_cells_that_are_made(all_rewards):
    jobs = study.sweep_jobs(study.FULL) + study.study_jobs(RATES, study.FULL)
    made = {job.cell for job in jobs} | {"start", "recall 0 / verifier"}
    claims = [*study_tables.FAMILY]
    for topic in study_tables.ALONE.values():
        claims += topic
    for claim in claims:
        assert set(claim.plus + claim.minus) <= made, claim
        assert claim.outcome in study_tables.outcomes(run_rows("a", 0, [0.1, 0.2]))
    for cells, reference in study_tables.TABLES.values():
        assert {*cells, reference} <= made


# ---------------------------------------------------------------------------- committed outputs


@pytest.mark.release
@pytest.mark.skipif(not (RESULTS / "study.csv").exists(), reason="the study has not been made yet")
def test_the_page_is_what_the_csv_files_make():
    assert study_tables.tables(RESULTS) == (RESULTS / "study.md").read_text()
