from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from llmops.report import drawing, figures
from llmops.report.drawing import draw, embed
from llmops.report.results import Cell, Contestant, Difference

GOLDEN = Path(__file__).parents[2] / "golden" / "figures.json"


def cell(value, low, high, unit="nats per answer token"):
    return Cell("loss", value, low, high, 48, unit, "lower")


ROWS = (
    Contestant("untuned", (cell(3.3, 3.2, 3.4),)),
    Contestant("untuned_with_examples", (cell(None, None, None),)),
    Contestant("tuned", (cell(2.7, 2.6, 2.8),)),
)
CHANGE = Difference("loss", "tuned", -0.6, -0.7, -0.5, 48, "nats per answer token", "lower", "BCa")
POINTS = (
    {"step": 1, "tokens": 9, "train_loss": 3.3, "validation_loss": None},
    {"step": 2, "tokens": 18, "train_loss": 3.1, "validation_loss": 3.2},
)


def all_figures():
    return {
        "interval": figures.interval_figure("loss", ROWS, "untuned"),
        "difference": figures.difference_figure("loss", [CHANGE], "untuned"),
        "curve": figures.curve_figure(POINTS),
        "histogram": figures.histogram_figure("Lengths", "characters", [8, 16, None], [3, 1]),
        "bars": figures.bars_figure("Tags", {"re": 2, "json": 5, "ast": 2}),
    }


def test_the_figures_are_the_golden_ones():
    assert all_figures() == json.loads(GOLDEN.read_text("utf-8"))


@pytest.mark.parametrize("name", ["interval", "difference", "curve", "histogram", "bars"])
def test_every_figure_can_be_drawn_and_has_words(name, tmp_path):
    spec = all_figures()[name]
    svg = draw(spec, tmp_path)
    assert svg.startswith("<svg ")
    assert spec["usermeta"]["title"] in svg
    assert re.search(r"<desc [^>]+>\S", svg)
    assert "xmlns" not in svg


@pytest.mark.parametrize(
    "figure",
    [
        figures.interval_figure("loss", ROWS[1:2], "untuned"),
        figures.difference_figure("chrf", [CHANGE], "untuned"),
        figures.curve_figure([]),
        figures.histogram_figure("Lengths", "characters", [8, 16], [0]),
        figures.bars_figure("Tags", {}),
    ],
)
def test_without_figures_there_is_no_drawing(figure):
    assert figure is None


def test_the_same_figure_is_drawn_once(tmp_path, monkeypatch):
    drawn = []

    def counted(spec):
        drawn.append(spec)
        return original(spec)

    original = drawing._render
    monkeypatch.setattr(drawing, "_render", counted)
    first, second = (draw(all_figures()["bars"], tmp_path) for _ in range(2))
    assert first == second
    assert len(drawn) == 1


def test_another_figure_is_drawn_anew(tmp_path):
    figures_ = all_figures()
    assert draw(figures_["bars"], tmp_path) != draw(figures_["curve"], tmp_path)
    assert len(list(tmp_path.glob("*.svg"))) == 2


def test_labels_of_data_are_escaped_in_a_drawing(tmp_path):
    spec = figures.bars_figure("Tags <b>", {"<script>x</script>": 1})
    svg = draw(spec, tmp_path)
    assert "<script" not in svg
    assert "<b>" not in svg


def test_ids_are_those_of_the_figure_whatever_was_drawn_before():
    svg = '<svg xmlns="urn:x" width="3"><g clip-path="url(#clip7)"/><clipPath id="clip7"/></svg>'
    assert embed(svg, "abc", "t", "d") == embed(svg.replace("clip7", "clip91"), "abc", "t", "d")
    assert 'clip-path="url(#fabc-0)"' in embed(svg, "abc", "t", "d")
