"""Thirty secrets are planted where users have them; llmops writes none of them anywhere."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.toy_project import ToyProject

# Written in halves where a scanner of repositories would take the fake for a real one.
ENVIRONMENT = {
    "HF_TOKEN": "hf_" + "Qw7" * 9,
    "GITHUB_TOKEN": "ghp_" + "Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8Qr9St0UvWx",
    "OPENAI_API_KEY": "sk-" + "proj-7fJ2kL9mN4pQ6rS8tU1v",
    "AWS_ACCESS_KEY_ID": "AKIA" + "IOSFODNN7SECRETS",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYSECRETKEY",
    "GOOGLE_API_KEY": "AIza" + "SyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY",
    "DATABASE_PASSWORD": 'p4ss"word\\with=quotes&',
    "SMTP_PASSWD": "correct-horse-battery",
    "SIGNING_KEY_PASSPHRASE": "staple staple staple",
    "SERVICE_ACCOUNT_CREDENTIALS": '{"client_email": "robot@x", "private": "zzTopSecretzz"}',
    "TLS_PRIVATE_KEY": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\n"
    "aPlantedLineOfTheKeyBody\n-----END PRIVATE KEY-----",
    "SLACK_TOKEN": "xoxb-" + "1234567890-plantedslack",
    "CLIENT_SECRET": "s3cr3t~Client.Value",
    "DEPLOY_PAT": "plantedpersonalaccesstoken",
    "SENTRY_DSN": "https://abcdef1234@sentry.example/7",
}
WRITTEN_OUT = {  # what stands in the environment in no variable: given in the config itself
    "store.path": "s3://planteduser:PlantedUrlPw1@bucket/prefix",
    "+pipeline.steps.s0.with.address": "postgres://admin:PlantedUrlPw2@db:5432/x",
    "+pipeline.steps.s0.with.link": "https://host.example/f?access_token=PlantedQuery1&x=1",
    "+pipeline.steps.s0.with.signed": "https://host.example/f?a=1&sig=PlantedQuery2",
    "+pipeline.steps.s0.with.password": "PlantedPlainPassword",
    "+pipeline.steps.s0.with.api_key": "PlantedPlainApiKey",
    "+pipeline.steps.s0.with.client_secret": "PlantedPlainSecret",
    "+pipeline.steps.s0.with.github": "ghp_" + "PlantedPlantedPlantedPlanted123456",
    "+pipeline.steps.s0.with.google": "AIza" + "SyPlantedPlantedPlantedPlantedPlant3",
    "+pipeline.steps.s0.with.aws": "AKIA" + "PLANTEDPLANTED12",
    "+pipeline.steps.s0.with.hub": "hf_" + "PlantedPlantedPlantedPlanted",
    "+pipeline.steps.s0.with.jwt": "eyJhbGciOiJIUzI1NiJ9"
    + ".eyJzdWIiOiJwbGFudGVkIn0.PlantedSignature1",
    "+pipeline.steps.s0.with.header": "Bearer PlantedBearerToken9",
    "name": "AKIA" + "PLANTEDPLANTED34",  # where no schema would let it pass
    "engine.imgae": "x?token=PlantedInAMisspeltKey",
}
PIECES = (  # what gives a secret away: the whole of most, the telling part of a URL
    *(value for name, value in ENVIRONMENT.items() if "\n" not in value and name != "SENTRY_DSN"),
    "aPlantedLineOfTheKeyBody",
    *("PlantedUrlPw1", "PlantedUrlPw2", "PlantedQuery1", "PlantedQuery2", "PlantedBearerToken9"),
    *("PlantedPlain", "PLANTEDPLANTED", "PlantedPlanted", "PlantedSignature1"),
    "PlantedInAMisspeltKey",
    "abcdef1234@sentry",
)
SPILLING = """
import os, subprocess, sys
from dataclasses import dataclass
from llmops.plan.kinds import Outcome, Port, StepKind, leaf

@dataclass(frozen=True)
class Settings:
    text: str = leaf("with.text")

def spill(work):
    print(dict(os.environ))
    for name, value in os.environ.items():
        print(name, value, file=sys.stderr)
    subprocess.run(["env"])
    work.progress(1, 2, "with " + os.environ["CLIENT_SECRET"])
    work.outputs["out"].write_text("{}")
    return Outcome(facts={})

def spill_and_fail(work):
    spill(work)
    raise RuntimeError(f"cannot log in: {dict(os.environ)} postgres://a:PlantedUrlPw1@b")

KINDS = tuple(
    StepKind(run.__name__, 1, run, Settings, takes=(), gives=(Port("out", "json"),))
    for run in (spill, spill_and_fail)
)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToyProject:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    made = ToyProject(tmp_path)
    (made.site / "toy_steps.py").write_text(SPILLING)
    return made


def written(root: Path) -> Iterator[tuple[str, str]]:
    """Yield every file that a run may have made, names included; not the project's sources."""
    for path in root.rglob("*"):
        relative = path.relative_to(root)
        yield f"the name {relative}", str(relative)
        if path.is_file() and relative.parts[0] not in ("site", "conf"):
            yield str(relative), path.read_bytes().decode("utf-8", "replace")


def leaks(project: ToyProject, *done: subprocess.CompletedProcess[str]) -> list[str]:
    said = [(f"output of {' '.join(d.args[3:5])}", d.stdout + d.stderr) for d in done]
    return [
        f"{piece!r} in {place}"
        for place, text in (*said, *written(project.root))
        for piece in PIECES
        if piece in text
    ]


def test_thirty_secrets_are_planted() -> None:
    assert len(ENVIRONMENT) + len(WRITTEN_OUT) == 30


def test_a_step_that_prints_its_environment_leaves_no_secret(project: ToyProject) -> None:
    project.chain("spilling", "spill")
    done = project.llmops("run", "+experiment=spilling")
    compiled = project.llmops("compile", "+experiment=spilling", "-o", "pipeline.yaml")
    assert (done.returncode, compiled.returncode) == (0, 0), done.stderr + compiled.stderr
    (log,) = project.root.glob("runs/spilling/*/logs/s0.log")
    assert log.read_text().count("***") > 3 * len(ENVIRONMENT) - 10
    assert leaks(project, done, compiled) == []


def test_a_step_that_fails_with_secrets_in_its_message_leaves_none(project: ToyProject) -> None:
    project.chain("failing", "spill_and_fail")
    done = project.llmops("run", "+experiment=failing", "--json")
    assert done.returncode == 1
    assert "cannot log in" in done.stderr + done.stdout
    assert list(project.root.glob("runs/failing/*/report.html"))
    assert leaks(project, done) == []


@pytest.mark.parametrize("key", WRITTEN_OUT)
def test_a_secret_in_an_override_is_refused_and_not_repeated(key: str, project: ToyProject) -> None:
    project.chain("spilling", "spill")
    override = f"{key}='{WRITTEN_OUT[key]}'"
    done = project.llmops("run", "+experiment=spilling", override)
    assert done.returncode == 2
    assert leaks(project, done) == []
    assert not (project.root / "runs").exists()


def test_every_command_that_shows_a_config_keeps_secrets_to_itself(project: ToyProject) -> None:
    project.chain("spilling", "spill")
    overrides = [f"{key}='{value}'" for key, value in WRITTEN_OUT.items() if "imgae" not in key]
    shown = [
        project.llmops(*command, "+experiment=spilling", *overrides)
        for command in (
            ["run", "--cfg", "job"],
            ["validate"],
            ["validate", "--json"],
            ["explain", "store"],
            ["plan"],
            ["run", "-m", "seed=1,2"],
        )
    ]
    assert shown[0].returncode == 0, shown[0].stderr
    assert "name: '***'" in shown[0].stdout or "name: ***" in shown[0].stdout
    assert leaks(project, *shown) == []


def test_a_secret_in_a_file_is_refused_at_its_place(project: ToyProject) -> None:
    project.chain("spilling", "spill")
    path = project.root / "conf" / "experiment" / "spilling.yaml"
    path.write_text(path.read_text() + "store:\n  path: s3://a:PlantedUrlPw1@bucket\n")
    done = project.llmops("validate", "+experiment=spilling")
    assert done.returncode == 2
    assert "conf/experiment/spilling.yaml:23:9: store.path" in done.stderr
    assert "${secret:NAME}" in done.stderr
    assert leaks(project, done) == []


def test_a_reference_stays_one_everywhere(project: ToyProject) -> None:
    project.chain("spilling", "spill")
    done = project.llmops(
        "run", "+experiment=spilling", "+pipeline.steps.s0.with.password='${secret:HF_TOKEN}'"
    )
    assert done.returncode == 0, done.stderr
    (config,) = project.root.glob("runs/spilling/*/config.yaml")
    assert "password: ${secret:HF_TOKEN}" in config.read_text()
    assert leaks(project, done) == []
