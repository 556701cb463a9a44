"""A Stack Exchange dump becomes tables, whatever it comes as, or nothing at all."""

import sys
from pathlib import Path
from xml.sax.saxutils import quoteattr

import py7zr
import pytest

from llmops.cli import main
from llmops.errors import ConfigError, DataError
from tests.fakes.measured import measured

QUESTIONS = "bigquery-public-data.stackoverflow.posts_questions"
ANSWERS = "bigquery-public-data.stackoverflow.posts_answers"


def silent(done, total, note=""):
    pass


def post(number, **attributes):
    given = {
        "Id": number,
        "CreationDate": "2021-05-01T10:00:00.123",
        "Score": 3,
        "Body": f"<p>Body of {number} & more</p>",
        "OwnerUserId": 7,
        "ContentLicense": "CC BY-SA 4.0",
        **attributes,
    }
    return "  <row " + " ".join(f"{k}={quoteattr(str(v))}" for k, v in given.items()) + " />\n"


def question(number, **attributes):
    asked = {"PostTypeId": 1, "Title": f"Title {number}", "Tags": "<python><list>"}
    return post(number, **asked, AcceptedAnswerId=number + 1, **attributes)


def xml(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<posts>\n')
        file.writelines(rows)
        file.write("</posts>\n")
    return path


def pairs(count):
    for number in range(0, 2 * count, 2):
        yield question(number)
        yield post(number + 1, PostTypeId=2, ParentId=number)
    yield post(10**9, PostTypeId=5)  # a tag's wiki: neither question nor answer


def archive(path, source):
    with py7zr.SevenZipFile(path, "w") as made:
        made.write(source, "Posts.xml")
    return path


def rows(warehouse, sql):
    return [row for batch in warehouse.query(sql).batches() for row in batch.to_pylist()]


def test_posts_become_questions_and_answers_with_author_licence_and_address(own, tmp_path):
    own.load_dump(xml(tmp_path / "ai.stackexchange.com" / "Posts.xml", pairs(3)), None, silent)
    assert [table.rows for table in own.tables()] == [3, 3]
    (row,) = rows(
        own,
        f"SELECT owner_display_name, licence, url, tags, creation_date "
        f"FROM `{QUESTIONS}` WHERE id = 4",
    )
    assert str(row.pop("creation_date")) == "2021-05-01 10:00:00.123000+00:00"
    assert row == {
        "owner_display_name": "user 7",
        "licence": "CC BY-SA 4.0",
        "url": "https://ai.stackexchange.com/q/4",
        "tags": "python|list",
    }


def test_the_courses_query_runs_over_a_dump(own, tmp_path):
    own.load_dump(xml(tmp_path / "Posts.xml", pairs(5)), None, silent)
    sql = (Path(__file__).parents[3] / "conf" / "sql" / "so_python_attributed.sql").read_text()
    assert len(rows(own, sql)) == 5


def test_an_archive_gives_the_same_tables_as_its_file(own, tmp_path):
    source = xml(tmp_path / "Posts.xml", pairs(500))
    plain = own.load_dump(source, "a.b", silent)
    packed = own.load_dump(archive(tmp_path / "stackoverflow.com-Posts.7z", source), "c.d", silent)
    assert [table.version for table in plain] == [table.version for table in packed]


def test_a_folder_of_several_sites_gives_each_its_dataset(own, tmp_path):
    xml(tmp_path / "dumps" / "ai.stackexchange.com" / "Posts.xml", pairs(2))
    source = xml(tmp_path / "Posts.xml", pairs(3))
    archive(tmp_path / "dumps" / "dba.stackexchange.com.7z", source)
    own.load_dump(tmp_path / "dumps", None, silent)
    assert {table.name: table.rows for table in own.tables()} == {
        "stack-exchange.ai_stackexchange_com.posts_answers": 2,
        "stack-exchange.ai_stackexchange_com.posts_questions": 2,
        "stack-exchange.dba_stackexchange_com.posts_answers": 3,
        "stack-exchange.dba_stackexchange_com.posts_questions": 3,
    }


def test_a_dump_that_is_cut_off_loads_nothing_and_names_the_last_good_post(own, tmp_path):
    path = xml(tmp_path / "Posts.xml", pairs(100))
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(DataError, match=r"cut off or damaged after \d+ posts, the last one \d+"):
        own.load_dump(path, None, silent)
    assert own.tables() == []


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.98])
def test_an_archive_that_is_cut_off_loads_nothing(own, tmp_path, kept):
    whole = archive(tmp_path / "a.com.7z", xml(tmp_path / "Posts.xml", pairs(3000)))
    whole.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * kept)])
    with pytest.raises(DataError, match="cut off or damaged"):
        own.load_dump(whole, None, silent)
    assert own.tables() == []


def test_an_archive_damaged_in_its_middle_loads_nothing(own, tmp_path):
    whole = archive(tmp_path / "a.com.7z", xml(tmp_path / "Posts.xml", pairs(3000)))
    data = bytearray(whole.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = b"\0" * 64
    whole.write_bytes(data)
    with pytest.raises(DataError, match="cut off or damaged"):
        own.load_dump(whole, None, silent)
    assert own.tables() == []


def test_entities_of_a_dump_are_not_resolved(own, tmp_path):
    path = tmp_path / "Posts.xml"
    path.write_text(
        '<!DOCTYPE posts [<!ENTITY a SYSTEM "file:///etc/passwd">]><posts>'
        '<row Id="1" PostTypeId="1" Body="x" />&a;</posts>'
    )
    own.load_dump(path, None, silent)
    assert rows(own, f"SELECT body FROM `{QUESTIONS}`") == [{"body": "x"}]


def test_what_is_no_dump_is_refused(own, tmp_path):
    with pytest.raises(ConfigError, match="is no Stack Exchange dump"):
        own.load_dump(tmp_path, None, silent)


def test_two_dumps_of_one_site_are_refused(own, tmp_path):
    for part in ("a", "b"):  # no host names: each stands for stackoverflow.com
        xml(tmp_path / "dumps" / part / "Posts.xml", pairs(2))
    with pytest.raises(ConfigError, match=r"would both be posts of stackoverflow\.com"):
        own.load_dump(tmp_path / "dumps", None, silent)
    assert own.tables() == []


def test_the_site_of_a_dump_is_asked_or_told_by_its_folder(own, tmp_path, monkeypatch):
    path = xml(tmp_path / "unpacked.2024" / "Posts.xml", pairs(1))
    (questions, _) = own.load_dump(path, None, silent, site="dba.stackexchange.com")
    assert questions.source == "Stack Exchange dump of dba.stackexchange.com"
    assert rows(own, f"SELECT url FROM `{QUESTIONS}`") == [
        {"url": "https://dba.stackexchange.com/q/0"}
    ]
    (questions, _) = own.load_dump(path, None, silent, replace_table=True)
    assert questions.source == "Stack Exchange dump of stackoverflow.com"
    (folder := tmp_path / "ai.stackexchange.com").mkdir()
    (folder / "Posts.xml").symlink_to(path)
    monkeypatch.chdir(folder)
    (questions, _) = own.load_dump(Path("Posts.xml"), None, silent, replace_table=True)
    assert questions.source == "Stack Exchange dump of ai.stackexchange.com"


def test_a_site_that_cannot_be_is_refused(own, tmp_path):
    path = xml(tmp_path / "dumps" / "ai.stackexchange.com" / "Posts.xml", pairs(1))
    with pytest.raises(ConfigError, match="'ai' is no host name"):
        own.load_dump(path, None, silent, site="ai")
    xml(tmp_path / "dumps" / "dba.stackexchange.com" / "Posts.xml", pairs(1))
    with pytest.raises(ConfigError, match=r"holds 2 dumps, which are not all of ai\.com"):
        own.load_dump(tmp_path / "dumps", None, silent, site="ai.com")


def test_a_dumps_options_are_refused_for_a_table(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    command = ["warehouse", "load", "a.b.c", "q.csv", "--site", "ai.com", "warehouse=duckdb"]
    assert main(command) == 2
    assert "--dataset and --site are for dumps" in capsys.readouterr().err


def test_a_table_that_exists_is_replaced_only_when_asked(own, tmp_path):
    path = xml(tmp_path / "Posts.xml", pairs(2))
    own.load_dump(path, None, silent)
    with pytest.raises(ConfigError, match="exists"):
        own.load_dump(path, None, silent)
    own.load_dump(path, None, silent, replace_table=True)


def test_the_command_states_the_terms(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("LLMOPS_WORKSPACE", str(tmp_path))
    path = xml(tmp_path / "Posts.xml", pairs(2))
    assert main(["warehouse", "load", "stackexchange", str(path), "warehouse=duckdb"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Stack Exchange dump of stackoverflow.com" in shown
    assert "terms stack-exchange-dump: Stack Exchange posts are under CC BY-SA" in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "packed", "most_mb"), [(150_000, False, 350), (300_000, True, 700)]
)
def test_memory_does_not_grow_with_the_dump(tmp_path, rows, packed, most_mb):
    # py7zr unpacks ahead of the reader, up to a plateau of some 580 MB whatever the dump's size
    body = "<p>" + "word " * 400 + "</p>"
    source = xml(tmp_path / "Posts.xml", (question(n, Body=f"{n} {body}") for n in range(rows)))
    path = archive(tmp_path / "a.com.7z", source) if packed else source
    code = (
        "import sys; from pathlib import Path\n"
        "from llmops.adapters.warehouse import stackexchange as s\n"
        "(dump,) = s.dumps_of(Path(sys.argv[1]))\n"
        "s.convert(dump, Path(sys.argv[2]), lambda *a: None)\n"
    )
    used = measured([sys.executable, "-c", code, str(path), str(tmp_path)], seconds=200)
    assert used.exit_code == 0
    assert source.stat().st_size > rows << 11
    assert used.peak_megabytes < most_mb
