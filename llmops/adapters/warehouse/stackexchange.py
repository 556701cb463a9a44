"""A Stack Exchange data dump as tables: streamed from ``Posts.xml``, a ``.7z`` or a folder of them.

Memory does not grow with the dump: XML is read element by element, an archive through a pipe, and
rows leave in row groups. Knows the dump's layout; publishing tables is the warehouse's part.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from llmops.adapters.warehouse import posts
from llmops.errors import BackendError, ConfigError, DataError, LlmopsError
from llmops.ports.progress import Progress
from llmops.ports.warehouse import Column

if TYPE_CHECKING:
    import pyarrow as pa

TERMS_ID = "stack-exchange-dump"
TERMS = (
    "Stack Exchange posts are under CC BY-SA, in the version each row names: whoever passes them "
    "on, or what is made of them, names the author, the licence and the post's address. Dumps "
    "downloaded from Stack Exchange since 2024 come with the request not to train language models "
    "on them: read the terms that came with yours before you acknowledge them."
)
COLUMNS = (*posts.COLUMNS, Column("licence", "STRING"), Column("url", "STRING"))
DEFAULT_DATASET = posts.QUESTIONS.rpartition(".")[0]
_HOST = re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]+")
_KINDS = {"1": "posts_questions", "2": "posts_answers"}
_ATTRIBUTES: Mapping[str, str] = {
    "id": "Id",
    "title": "Title",
    "body": "Body",
    "accepted_answer_id": "AcceptedAnswerId",
    "answer_count": "AnswerCount",
    "comment_count": "CommentCount",
    "community_owned_date": "CommunityOwnedDate",
    "creation_date": "CreationDate",
    "favorite_count": "FavoriteCount",
    "last_activity_date": "LastActivityDate",
    "last_edit_date": "LastEditDate",
    "last_editor_display_name": "LastEditorDisplayName",
    "last_editor_user_id": "LastEditorUserId",
    "owner_display_name": "OwnerDisplayName",
    "owner_user_id": "OwnerUserId",
    "parent_id": "ParentId",
    "post_type_id": "PostTypeId",
    "score": "Score",
    "tags": "Tags",
    "view_count": "ViewCount",
    "licence": "ContentLicense",
}
_ROWS_AT_ONCE = 2000


@dataclass(frozen=True)
class Dump:
    """One site's posts: the file, and the site's host name, e.g. ``ai.stackexchange.com``."""

    path: Path
    site: str

    @property
    def dataset(self) -> str:
        """The dataset that holds the site's tables where several sites are loaded."""
        return f"stack-exchange.{re.sub(r'[^a-z0-9]', '_', self.site.lower())}"


def dumps_of(path: Path, site: str | None = None) -> tuple[Dump, ...]:
    """Return the dumps at ``path``: a ``Posts.xml``, a ``.7z``, or a folder with some below it.

    Args:
        path: Where they are.
        site: Whose posts a single dump holds; without it the name of the archive or of the folder
            tells, and one that is no host name stands for stackoverflow.com.

    Raises:
        ConfigError: If there is none, if two are of one site, or if ``site`` cannot be.
    """
    found = _files(path)
    if not found:
        raise ConfigError(
            f"{path} is no Stack Exchange dump",
            hint="give a Posts.xml, a .7z, or a folder that holds some",
        )
    if site and len(found) > 1:
        raise ConfigError(
            f"{path} holds {len(found)} dumps, which are not all of {site}",
            hint="leave --site out: folders and archives are named after their sites",
        )
    if site and not _HOST.fullmatch(site):
        raise ConfigError(f"'{site}' is no host name", hint="e.g. --site ai.stackexchange.com")
    dumps: dict[str, Dump] = {}
    for file in found:
        dump = Dump(file, site or _site(file))
        other = dumps.setdefault(dump.dataset, dump)
        if other is not dump:
            raise ConfigError(
                f"{other.path} and {file} would both be posts of {dump.site}",
                hint="name each folder or archive after its site, e.g. ai.stackexchange.com,"
                " and keep one of two dumps of a site",
            )
    return tuple(dumps.values())


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file() and _has_posts(p))
    return [path] if path.is_file() and path.suffix.lower() in (".xml", ".7z") else []


def _has_posts(path: Path) -> bool:
    other = re.search(
        r"-(?:Users|Badges|Comments|Tags|Votes|PostLinks|PostHistory)\.7z$", path.name
    )
    return path.name == "Posts.xml" or (path.suffix.lower() == ".7z" and not other)


def _site(path: Path) -> str:
    name = path.absolute().parent.name if path.suffix.lower() == ".xml" else path.name
    name = re.sub(r"(?:-Posts)?\.7z$", "", name)
    return name if _HOST.fullmatch(name) else "stackoverflow.com"


def convert(dump: Dump, folder: Path, progress: Progress) -> Mapping[str, Path]:
    """Write the questions and the answers of one dump as Parquet into ``folder``.

    Returns:
        Table name (``posts_questions``, ``posts_answers``) -> file.

    Raises:
        DataError: If the dump is cut off or damaged; names the last good row.
        BackendError: If the disk is full.
    """
    import pyarrow as pa
    from pyarrow import parquet

    schema = _schema()
    paths = {name: folder / f"{name}.parquet" for name in _KINDS.values()}
    held: dict[str, list[dict[str, Any]]] = {name: [] for name in paths}
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(parquet.ParquetWriter(path, schema, compression="zstd"))
            for name, path in paths.items()
        }
        for number, post in enumerate(_rows(dump), start=1):
            name = post.table
            held[name].append(post.row)
            if len(held[name]) >= _ROWS_AT_ONCE:
                writers[name].write_table(pa.Table.from_pylist(held[name], schema=schema))
                held[name] = []
                progress(number, None, "posts read")
        for name, rows in held.items():
            writers[name].write_table(pa.Table.from_pylist(rows, schema=schema))
    return paths


def _schema() -> pa.Schema:
    import pyarrow as pa

    types = {"INT64": pa.int64(), "STRING": pa.string(), "TIMESTAMP": pa.timestamp("us", "UTC")}
    return pa.schema([(column.name, types[column.type]) for column in COLUMNS])


@dataclass(frozen=True)
class _Post:
    table: str
    row: dict[str, Any]


def _rows(dump: Dump) -> Iterator[_Post]:
    from lxml import etree

    done, last = 0, "none"
    with _opened(dump.path) as stream:
        events = etree.iterparse(
            stream, tag="row", resolve_entities=False, no_network=True, huge_tree=True
        )
        try:
            for _, element in events:
                table = _KINDS.get(element.get("PostTypeId"))
                if table:
                    last = element.get("Id")
                    yield _Post(table, _row(element, dump.site))
                    done += 1
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
        except (etree.XMLSyntaxError, ValueError, TypeError) as exc:
            raise DataError(
                f"{dump.path} is cut off or damaged after {done} posts, the last one {last}: {exc}",
                hint="download it again; nothing was loaded",
            ) from exc


def _row(element: Any, site: str) -> dict[str, Any]:
    row = {
        column.name: _value(element.get(_ATTRIBUTES[column.name]), column.type)
        for column in posts.COLUMNS
    }
    author = row["owner_display_name"]
    if author is None and row["owner_user_id"] is not None:
        author = f"user {row['owner_user_id']}"
    tags = [tag for tag in re.split(r"[<>|]+", row["tags"] or "") if tag]
    path = "q" if row["post_type_id"] == 1 else "a"
    return row | {
        "owner_display_name": author,
        "tags": "|".join(tags) or None,
        "licence": element.get("ContentLicense"),
        "url": f"https://{site}/{path}/{row['id']}",
    }


def _value(text: str | None, kind: str) -> Any:
    if text is None or kind == "STRING":
        return text
    if kind == "INT64":
        return int(text)
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# -------------------------------------------------------------------------- archives


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open the XML of a dump; an archive is unpacked through a pipe, never to disk."""
    if path.suffix.lower() != ".7z":
        with path.open("rb") as plain:
            yield plain
        return
    receiver, sender = os.pipe()
    unpacking = _Unpacking(path, sender)
    with os.fdopen(receiver, "rb", buffering=1 << 20) as stream:
        unpacking.start()
        try:
            yield stream
        except LlmopsError as exc:
            stream.close()
            unpacking.join()
            raise unpacking.failure or exc from exc
    unpacking.join()
    if unpacking.failure:
        raise unpacking.failure


class _Unpacking(threading.Thread):
    """Unpacks ``Posts.xml`` of an archive into a pipe; stops when nobody reads any more."""

    def __init__(self, path: Path, sender: int) -> None:
        super().__init__(daemon=True)
        self._path, self._sender = path, sender
        self.failure: LlmopsError | None = None

    def run(self) -> None:
        """Unpack; a failure is kept for the reader to raise."""
        import py7zr

        try:
            with py7zr.SevenZipFile(self._path, "r") as archive:
                if "Posts.xml" not in archive.getnames():
                    self.failure = ConfigError(
                        f"{self._path} holds no Posts.xml", hint="give the archive with the posts"
                    )
                    return
                archive.extract(targets=["Posts.xml"], factory=_factory(self._sender))
        except BrokenPipeError:
            return
        except MemoryError as exc:
            self.failure = BackendError(f"{self._path}: no memory to unpack it ({exc})")
        except Exception as exc:  # noqa: BLE001 - whatever a damaged archive makes the library raise
            self.failure = DataError(
                f"{self._path} is cut off or damaged: {exc or type(exc).__name__}",
                hint="download it again; nothing was loaded",
            )
        finally:
            os.close(self._sender)


def _factory(sender: int) -> Any:
    from py7zr.io import Py7zIO, WriterFactory

    class Pipe(Py7zIO):
        """What the archive writes a file to: the pipe."""

        written = 0

        def write(self, data: bytes | bytearray) -> int:
            view = memoryview(data)
            while view:
                view = view[os.write(sender, view) :]
            self.written += len(data)
            return len(data)

        def read(self, size: int | None = None) -> bytes:
            return b""

        def seek(self, offset: int, whence: int = 0) -> int:
            return offset

        def flush(self) -> None:
            return None

        def size(self) -> int:
            return self.written

    class Factory(WriterFactory):
        """Gives every file of the archive the pipe: only one is asked for."""

        def create(self, filename: str) -> Py7zIO:
            return Pipe()

    return Factory()
