"""What a dataset cannot do because its query lacks ids, authors or licences. Pure."""

from __future__ import annotations

from collections.abc import Mapping

ATTRIBUTED_QUERY = "conf/sql/so_python_attributed.sql"

_LACKS = {
    "id": "id: rows of one question cannot be told by their id, or traced back to it",
    "author": "author: answers cannot be attributed, and rows cannot be grouped by author",
    "licence": "licence: one licence, dataset.licence, has to hold for every row",
    "url": "url: no row can link to where it was published",
}


def missing_for(columns: Mapping[str, str | None]) -> tuple[str, ...]:
    """Say what the roles without a column (``dataset.columns``) leave undone, one sentence each.

    The last sentence names a query that returns them all; nothing missing gives nothing.
    """
    lacks = [
        f"dataset.columns names no {sentence}"
        for role, sentence in _LACKS.items()
        if not columns.get(role)
    ]
    if not lacks:
        return ()
    return (*lacks, f"a query that returns them: {ATTRIBUTED_QUERY}")
