from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from llmops.report import sections
from llmops.report.page import write_report
from llmops.report.reading import Reading
from tests.fakes.run_folder import MadeRun, make_failed_run, make_hello_run, make_run

HOSTILE = "</script><script>alert(1)</script>&amp;\u2028'\"<img src=x onerror=alert(2)>"
SECTIONS = (
    "gate",
    "results",
    "scores",
    "curve",
    "counts",
    "data",
    "leakage",
    "answers",
    "safety",
    "steps",
    "config",
    "lineage",
)


class Page(HTMLParser):
    """What an HTML parser sees: elements with attributes, and the text of scripts by id."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text("utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str | None, str] = {}
        self.text = ""
        self._script: tuple[str | None] | None = None
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self._script = (dict(attrs).get("id"),)

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            key = self._script[0]
            self.scripts[key] = self.scripts.get(key, "") + data
        else:
            self.text += data

    @property
    def sections(self) -> list[str | None]:
        return [attributes.get("id") for tag, attributes in self.elements if tag == "section"]

    @property
    def answers(self) -> Any:
        return json.loads(self.scripts["answers-data"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(made: MadeRun) -> Page:
    return Page(write_report(made.folder, made.store))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Page:
    made = make_run(tmp_path_factory.mktemp("hostile"), text=HOSTILE, rows=6)
    made = made.rewrite(source={"title": HOSTILE, "name": HOSTILE, "licence": HOSTILE})
    return Page(write_report(made.folder, made.store))


def test_a_full_run_has_every_section(page):
    assert tuple(page.sections) == SECTIONS


def test_the_page_refers_to_nothing_outside_itself(page):
    names = ("src", "href", "action", "data", "srcset", "xlink:href", "poster")
    links = [str(a[name]) for _, a in page.elements for name in names if name in a]
    assert links
    assert [link for link in links if not re.fullmatch(r"#\S+|logs/\w+\.log", link)] == []
    assert not re.search(r"@import|url\((?!#)|//[a-z0-9-]+\.[a-z]", page.source)


def test_the_content_policy_allows_exactly_the_pages_own_script(page):
    import base64
    import hashlib

    digest = base64.b64encode(hashlib.sha256(page.scripts[None].encode()).digest()).decode()
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv"))
    assert f"script-src 'sha256-{digest}'" in str(policy)
    assert str(policy).startswith("default-src 'none'")


def test_hostile_text_makes_no_element_and_no_attribute(page, hostile):
    def kinds(of: Page) -> set[tuple[str, str]]:
        return {(tag, name) for tag, attributes in of.elements for name in attributes}

    assert kinds(hostile) <= kinds(page)
    assert sum(tag == "script" for tag, _ in hostile.elements) == 2


def test_hostile_text_survives_unchanged_in_the_answers(hostile):
    assert all(HOSTILE in row["question"] for row in hostile.answers["rows"])
    assert "\u2028" not in hostile.scripts["answers-data"]


def test_answers_show_the_question_and_not_the_whole_prompt(page):
    row = page.answers["rows"][0]
    assert row["question"].startswith("How do I use function_")
    assert row["source"] == "Guido, urn:1"
    assert list(row["answers"]) == ["untuned", "untuned_with_examples", "tuned"]


def test_every_digest_of_the_run_is_shown(made, page):
    wanted = {made.run["config_digest"], made.run["prompt"]["sha256"], made.run["model"]["adapter"]}
    wanted |= {made.run["model"]["base_sha256"], made.run["git"]["commit"]}
    for step in made.run["steps"]:
        wanted |= {step["key"]} | {output["sha256"] for output in step["outputs"].values()}
    assert len(wanted) > 20
    assert [digest for digest in wanted if digest not in page.text] == []


def test_the_page_says_that_the_data_is_a_sample_and_what_the_safety_figures_are_not(page):
    assert "Sample data: docstrings of the Python standard library (duckdb://sample)" in page.text
    assert "This is no safety evaluation" in page.text


def test_a_safety_evaluation_needs_no_disclaimer(made, tmp_path):
    made = make_run(tmp_path, rows=6)
    report = json.loads(json.dumps(made.run["safety"]))
    report["scorer"]["is_safety_evaluation"] = True
    made = made.rewrite(safety=report)
    assert "This is no safety evaluation" not in Page(write_report(made.folder, made.store)).text


def test_every_reason_of_the_gate_is_told(made, page):
    reasons = [reason["text"] for reason in made.run["gate"]["reasons"]]
    assert len(reasons) >= 4
    assert [text for text in reasons if text not in page.text] == []


def test_every_leaf_says_who_set_it_and_what_it_hides(page):
    assert "command line: tuning.max_steps=40" in page.text
    assert "conf/tuning/short.yaml:3:12" in page.text
    overrides = [a for tag, a in page.elements if tag == "tr" and a.get("class") == "override"]
    assert len(overrides) == 1


def test_a_failed_run_has_a_page_with_the_cause_and_what_it_has(tmp_path):
    made = make_failed_run(tmp_path)
    page = Page(write_report(made.folder, made.store))
    assert page.sections == ["counts", "steps", "config", "lineage"]
    assert "1 good row, and dataset.rules.min_rows asks for 20" in page.text
    assert "not reached" in page.text


def test_a_pipeline_without_data_leaves_the_data_sections_out(tmp_path):
    made = make_hello_run(tmp_path)
    page = Page(write_report(made.folder, made.store))
    assert page.sections == ["steps", "config", "lineage"]


def test_rows_prepared_in_one_pass_are_shown_with_their_sides():
    rows = {"in": 9, "good": 8, "quarantined": 1, "duplicates": 0}
    leaked = {"exact": {"rows": 1, "share": 0.5}, "near": {"rows": None, "share": None}}
    sides = {"train": 5, "validation": 1, "test": 2}
    card = {"rows": sides, "leakage": leaked, "method": "hash", "by": ["question"], "groups": None}
    parts = {"provenance": {}, "plan": {}, "curve": None, "quarantine": None, "answers": None}
    reading = Reading(run={"steps": []}, profile={"rows": rows}, card=card, unreadable=(), **parts)
    assert [stage["rows"] for stage in sections.counts(reading)["stages"]] == [9, 8, 5, 1, 2]
    shown = sections.leakage(reading)
    assert [kind["rows"] for kind in shown["kinds"]] == ["1 test row", "not looked for"]
    assert shown["groups"] == ""


def test_a_lost_artifact_is_named_and_the_rest_is_shown(tmp_path):
    made = make_run(tmp_path, rows=6)
    sha256 = made.run["steps"][3]["outputs"]["card"]["sha256"]
    (made.store.root / "objects" / sha256[:2] / sha256).unlink()
    page = Page(write_report(made.folder, made.store))
    assert "leakage" not in page.sections
    assert "results" in page.sections
    assert f"split.card: the store has lost object {sha256[:12]}" in page.text


def test_headers_name_their_scope_and_drawings_have_a_title(page):
    scopes = [attributes.get("scope") for tag, attributes in page.elements if tag == "th"]
    assert len(scopes) > 50
    assert set(scopes) == {"row", "col"}
    svgs = [attributes for tag, attributes in page.elements if tag == "svg"]
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(svgs) >= 10
    for svg in svgs:
        assert set(str(svg["aria-labelledby"]).split()) <= set(ids)
    roles = {attributes.get("role") for _, attributes in page.elements}
    assert "img" in roles
    assert not {role for role in roles if role and role.startswith("graphics")}  # parts of one


def test_no_two_elements_share_an_id(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_writing_again_gives_the_same_bytes(made, page):
    assert write_report(made.folder, made.store).read_text("utf-8") == page.source


def test_a_report_over_known_artifacts_draws_nothing_and_opens_no_parquet(made, page):
    code = (
        "import sys; from pathlib import Path\n"
        "from llmops.adapters.store.folder import FolderStore\n"
        "from llmops.report.page import write_report\n"
        f"write_report(Path({str(made.folder)!r}), FolderStore(Path({str(made.store.root)!r})))\n"
        "print([name for name in ('vl_convert', 'pyarrow', 'polars') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_read_only_run_folder_is_an_error_of_the_disk(tmp_path):
    made = make_hello_run(tmp_path)
    (made.folder / "report.html").mkdir()  # permissions do not stop root; a folder in the way does
    with pytest.raises(OSError, match=re.escape("report.html")):
        write_report(made.folder, made.store)


def test_the_lineage_of_the_run_is_drawn_where_it_is_given(made):
    from llmops.lineage.ancestry import ancestry, as_json

    graph = ancestry([made.run])
    origins = as_json(graph, graph.nodes[f"run:{made.run['run_id']}"])
    drawn = write_report(made.folder, made.store, None, origins).read_text("utf-8")
    assert drawn.count('class="graph lineage"') == 1
    assert f"run {made.run['run_id']} configured by config" in drawn
