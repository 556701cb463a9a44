"""Bad input to the example experiment ends in one clear message and the right exit code.

None of these needs the model: they end before tuning.
"""

from __future__ import annotations

import json
import resource

import pytest

from tests.fakes.toy_project import ToyProject

POSTS = "bigquery-public-data.stackoverflow"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return ToyProject(tmp_path_factory.mktemp("so_python"))


def told(project, *overrides, **options):
    done = project.llmops("run", "+experiment=so_python", *overrides, **options)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("DROP TABLE x", "SELECT"),
        ("SELECT 1; SELECT 2", "one"),
        ("SELECT 1 FROM (", "line 1, column 15"),
        (f"SELECT title FROM `{POSTS}.posts_question`", "posts_questions"),
        (f"SELECT titel AS input_text FROM `{POSTS}.posts_questions`", "title"),
        (f"SELECT title AS input_text FROM `{POSTS}.posts_questions`", "output_text"),
        ("SELECT * FROM read_csv('/etc/passwd')", "a table function"),
        ("SELECT SOUNDEX('a') AS input_text", "SOUNDEX"),
    ],
)
def test_a_query_that_cannot_run_is_a_config_error_before_anything_starts(project, query, said):
    exit_code, text = told(project, f"dataset.query='{query.replace(chr(39), chr(92) + chr(39))}'")
    assert exit_code == 2, text
    assert said in text
    assert "Traceback" not in text


def test_a_query_without_rows_is_refused_as_data(project):
    nothing = f"SELECT title AS input_text, body AS output_text FROM `{POSTS}.posts_questions`"
    exit_code, text = told(project, f"dataset.query='{nothing} WHERE id < 0'")
    assert exit_code == 4, text
    assert "no rows" in text


def test_too_few_good_rows_are_refused_as_data(project):
    exit_code, text = told(project, "dataset.rules.min_rows=100000")
    assert exit_code == 4, text
    assert "dataset.rules.min_rows" in text


def test_a_split_side_without_rows_is_refused_as_data(project):
    exit_code, text = told(project, "--limit", "21", "split.test=0.001", "split.train=0.899")
    assert exit_code == 4, text
    assert "test" in text


def test_an_undefined_template_variable_is_a_config_error(project):
    exit_code, text = told(project, "prompt.template='{{ instruction }} {{ qestion }}'")
    assert exit_code == 2, text
    assert "did you mean 'question'?" in text


def test_unacknowledged_terms_are_a_config_error(project):
    exit_code, text = told(project, "dataset.acknowledged_terms=[]")
    assert exit_code == 2, text
    assert "psf-2.0" in text


def test_a_missing_model_is_a_backend_error_that_names_the_command(project, tmp_path, monkeypatch):
    environment = project.environment | {"LLMOPS_CACHE": str(tmp_path / "empty")}
    monkeypatch.setattr(ToyProject, "environment", property(lambda self: environment))
    exit_code, text = told(project)
    assert exit_code == 5, text
    assert "python -m llmops models pull" in text


def test_a_query_over_its_byte_limit_is_refused(project):
    exit_code, text = told(project, "dataset.max_bytes=10")
    assert exit_code == 3, text
    assert "dataset.max_bytes" in text


def test_a_disk_that_fills_up_ends_in_a_backend_error_and_leaves_no_torn_object(project):
    def small_files_only():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    exit_code, text = told(project, "--limit", "2000", preexec_fn=small_files_only)
    assert exit_code == 5, text
    assert "Traceback" not in text
    from llmops.files import file_sha256

    objects = list(project.root.glob(".llmops/store/objects/*/*"))
    assert all(file_sha256(path) == path.name for path in objects)


def test_the_plan_says_what_the_courses_query_cannot_do(project):
    done = project.llmops("plan", "+experiment=so_python", "--json")
    notes = " ".join(json.loads(done.stdout)["notes"])
    assert "attributed" in notes
    assert "grouped by author" in notes
