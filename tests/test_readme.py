"""The README is true: its flags, files, log keys and numbers."""

import json
import re
import sys
from dataclasses import fields

import pytest
from helpers import ROOT

import eval as evaluation
import prepare
from hero import Config
from results import study, study_tables

README = (ROOT / "README.md").read_text()


def test_every_flag_of_a_hero_command_exists():
    commands = re.findall(r"^.*(?:python|8|2) hero\.py.*$", README, re.M)
    flags = set(re.findall(r"--(\w+)", "\n".join(commands)))
    table = README.split("## Change one thing")[1].split("\n## ")[0]
    flags |= set(re.findall(r"--(\w+)", table))
    assert len(flags) > 10
    assert flags <= {field.name for field in fields(Config)} | {
        "help", "nproc_per_node", "nnodes", "rdzv_backend", "rdzv_endpoint"}


@pytest.mark.parametrize("command", ["eval.py", "eval.py table", "eval.py plot",
                                     "eval.py verifiers", "eval.py textbook", "prepare.py split",
                                     "prepare.py sft", "prepare.py rm"])
def test_every_flag_of_the_other_commands_exists(command, monkeypatch, capsys):
    script, *stage = command.split()
    monkeypatch.setattr(sys, "argv", [script, *stage, "--help"])
    with pytest.raises(SystemExit):
        {"eval.py": evaluation.main, "prepare.py": prepare.parse}[script]()
    known = set(re.findall(r"--(\w+)", capsys.readouterr().out)) | {"nproc_per_node"}
    lines = re.findall(r"^(?:python|torchrun) .*$", README.replace("\\\n", ""), re.M)
    # `eval.py` alone is the form with --model
    after = command if stage else "eval.py --model"
    flags = {flag for line in lines if after in line for flag in re.findall(r"--(\w+)", line)}
    assert flags <= known
    assert any(after in line for line in lines) or f"`{command}`" in README


def test_every_file_that_is_named_is_there():
    named = re.findall(r"`((?:tests|results|notebooks)/[\w./-]*|\w+\.(?:py|txt|toml))`", README)
    named += re.findall(r"\]\(([\w./]+)\)", README)
    assert len(named) > 12
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_log_key_is_explained(unbroken):  # noqa: F811
    folder, _ = unbroken
    logged = {key for line in (folder / "runs/a/metrics.jsonl").read_text().splitlines()
              for key in json.loads(line)} - {"step"}
    explained = set(re.findall(r"`([\w/@]+)`", README))
    missing = [key for key in logged if key not in explained
               and not (key.startswith("eval/") and key.split("/")[2] in explained)]
    assert not missing


@pytest.mark.parametrize("name", ["phases", "trl_speed", "logprob_memory", "rollout_speed",
                                  "references"])
def test_the_tables_are_the_measured_ones(name):
    """What a results script has written stands in the README, line by line."""
    for line in (ROOT / "results" / f"{name}.md").read_text().splitlines():
        assert line.strip() in README


def test_the_results_are_the_study_s():
    """And the study's page of tables is what its CSV files make."""
    shown = README.split("## Results")[1].split("\n## ")[0]
    tables = (ROOT / "results" / "study.md").read_text()
    rows = [line for line in shown.splitlines() if line.startswith("|")]
    assert len(rows) > 15 and not [row for row in rows if row not in tables]
    assert study_tables.tables(study.read, ROOT / "results", study.RATES, study.SWEPT) == tables


@pytest.mark.parametrize("page", ["README.md", "results/README.md"])
def test_every_number_was_measured(page):
    """A decimal outside code is the rounding of a number in results/, or one of a few that no
    measurement makes: settings, the paper's figures, the worked example, versions of licences."""
    text = re.sub(r"```.*?```|`[^`]*`|\(http[^)]*\)|arXiv \S+|[\d.,-]+ \(paper\)", "",
                  (ROOT / page).read_text(), flags=re.S)
    files = [path.read_text() for path in (ROOT / "results").glob("*.*")
             if path.suffix in (".csv", ".md") and path.name != "README.md"]
    measured = {float(x) for x in re.findall(r"\d+\.\d+(?:e-?\d+)?", "\n".join(files))}
    measured |= {int(x) / 1000 for x in re.findall(r"\b\d{4,6}\b", "\n".join(files))}  # us to ms
    shown = set(re.findall(r"(?<![\w.])\d+\.\d+(?![\d.])", text)) - NOT_MEASURED
    assert len(shown) > 30
    assert not [x for x in shown
                if not any(round(y, len(x.split(".")[1])) == float(x) for y in measured)]


NOT_MEASURED = {"0.95",                                       # top-p, and a share of letters
                "2.0", "4.0",                                 # licences
                "1.1", "0.9", "0.05", "0.5", "0.6", "0.4", "0.45", "0.55"}      # worked by hand
