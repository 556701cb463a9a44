"""Versions of installed packages."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from llmops.lineage.machine import RECORDED_PACKAGES
from llmops.packages import installed_version


@pytest.mark.parametrize("package", RECORDED_PACKAGES)
def test_the_version_is_the_one_that_the_standard_library_reads(package):
    assert installed_version(package) == version(package)


def test_a_package_that_is_not_installed_has_none():
    assert installed_version("no-such-package") is None


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ("Metadata-Version: 2.1\nName: a\nVersion: 1.0\n", "1.0"),
        ("Metadata-Version: 2.1\nname: a\nversion:2.0rc1\n\nVersion: 9 is out!\n", "2.0rc1"),
        ("Metadata-Version: 2.1\nName: a\n\nVersion: 9\n", None),
    ],
)
def test_the_version_is_read_from_the_fields_and_not_the_description(
    metadata, told, tmp_path, monkeypatch
):
    info = tmp_path / "a-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(metadata, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert installed_version("a") == told
