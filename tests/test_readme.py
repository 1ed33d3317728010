"""The README is true: its flags, files, log keys and numbers."""

import json
import re
from dataclasses import fields

import pytest
from conftest import ROOT
from test_hero import unbroken  # noqa: F401  (the fixture)

from hero import Config

README = (ROOT / "README.md").read_text()


def test_every_flag_of_a_hero_command_exists():
    commands = re.findall(r"^.*(?:python|8|2) hero\.py.*$", README, re.M)
    flags = set(re.findall(r"--(\w+)", "\n".join(commands)))
    table = README.split("## Change one thing")[1].split("\n## ")[0]
    flags |= set(re.findall(r"--(\w+)", table))
    assert len(flags) > 10
    assert flags <= {field.name for field in fields(Config)} | {
        "help", "nproc_per_node", "nnodes", "rdzv_backend", "rdzv_endpoint"}


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


@pytest.mark.parametrize("name", ["first_table", "phases", "trl_speed", "logprob_memory",
                                  "rollout_speed"])
def test_the_numbers_are_the_measured_ones(name):
    """What a results script has written stands in the README, line by line."""
    for line in (ROOT / "results" / f"{name}.md").read_text().splitlines():
        assert line.strip() in README
