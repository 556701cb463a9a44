"""``llmops site``: pages of the whole workspace that open from disk."""

from __future__ import annotations

import re

import pytest

from llmops import api
from llmops.adapters.registry.files import FileRegistry
from llmops.ports.model import ModelReference
from tests.fakes.many_runs import record, write_run, write_runs
from tests.fakes.run_folder import RUN_ID, make_run


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("site")
    made = make_run(root)
    (made.folder / "report.html").write_text("<!doctype html><title>a report</title>")
    write_runs(root, 12)
    broken = write_run(root, record(50))
    (broken / "run.json").write_text("{")
    registry = FileRegistry(root / ".llmops" / "registry")
    model = ModelReference("local", "<b>base</b>", adapter="ab" * 32, dataset_version="v1-3f9c21ab")
    registry.register("so_python", model, labels={}, run_id=RUN_ID)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMOPS_WORKSPACE", str(root))
        api.site(root / "site")
    return root / "site"


def pages(site):
    return sorted(site.rglob("*.html"))


def test_every_link_of_every_page_leads_to_a_file(site):
    broken = [
        (page.name, link)
        for page in pages(site)
        for link in re.findall(r'href="([^"#]+)"', page.read_text())
        if not (page.parent / link).exists()
    ]
    assert broken == []
    assert len(pages(site)) >= 4


def test_nothing_is_fetched_from_anywhere(site):
    for page in pages(site):
        assert not re.search(r'(?:src|href)="(?:https?:)?//', page.read_text())


def test_the_index_lists_every_run_and_the_corrupt_one_in_red(site):
    index = (site / "index.html").read_text()
    assert index.count("so_small") == 3
    assert index.count('<tr class="bad">') == 1
    assert f'href="runs/so_python/{RUN_ID}.html"' in index


def test_what_users_wrote_is_text_and_no_markup(site):
    model = (site / "models" / "so_python-1.html").read_text()
    assert "<b>base</b>" not in model
    assert "&lt;b&gt;base&lt;/b&gt;" in model


def test_a_model_page_has_its_card_and_its_lineage(site):
    model = (site / "models" / "so_python-1.html").read_text()
    assert "Model card" in model
    assert f"run {RUN_ID}" in model


def test_pages_can_be_read_by_keyboard_and_screen_reader(site):
    for page in (site / "index.html", site / "models" / "so_python-1.html"):
        text = page.read_text()
        assert '<html lang="en">' in text
        assert 'href="#main"' in text
        assert text.count("<h1") == 1
        assert 'scope="col"' in text or "<pre" in text
        assert '<label for="filter">' in text or "filter" not in text.split("</style>")[1][:2000]


def test_writing_it_again_replaces_pages_and_leaves_other_files(site, monkeypatch):
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(site.parent))
    (site / "CNAME").write_text("mine")
    before = (site / "index.html").read_text()
    api.site(site)
    assert (site / "index.html").read_text() == before
    assert (site / "CNAME").read_text() == "mine"


def test_a_model_page_draws_its_lineage_with_words_for_those_who_do_not_see_it(site):
    model = (site / "models" / "so_python-1.html").read_text()
    (drawing,) = re.findall(r'<svg class="graph lineage".*?</svg>', model, re.DOTALL)
    assert 'role="img"' in drawing
    assert f"model so_python:1 registered run {RUN_ID}" in drawing
    assert drawing.count("<rect") > 3
    assert 'class="start"' in drawing


def test_a_dataset_page_has_its_card_in_words(site):
    (dataset,) = (site / "datasets").glob("*.html")
    text = dataset.read_text()
    assert "<td>train 193, validation 24, test 24</td>" in text
    assert "{&#39;" not in text
