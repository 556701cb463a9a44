"""The columns of Stack Overflow's post tables in BigQuery's public data. Knows no rows."""

from __future__ import annotations

from llmops.ports.warehouse import Column

QUESTIONS = "bigquery-public-data.stackoverflow.posts_questions"
ANSWERS = "bigquery-public-data.stackoverflow.posts_answers"

COLUMNS = (
    Column("id", "INT64"),
    Column("title", "STRING"),
    Column("body", "STRING"),
    Column("accepted_answer_id", "INT64"),
    Column("answer_count", "INT64"),
    Column("comment_count", "INT64"),
    Column("community_owned_date", "TIMESTAMP"),
    Column("creation_date", "TIMESTAMP"),
    Column("favorite_count", "INT64"),
    Column("last_activity_date", "TIMESTAMP"),
    Column("last_edit_date", "TIMESTAMP"),
    Column("last_editor_display_name", "STRING"),
    Column("last_editor_user_id", "INT64"),
    Column("owner_display_name", "STRING"),
    Column("owner_user_id", "INT64"),
    Column("parent_id", "INT64"),
    Column("post_type_id", "INT64"),
    Column("score", "INT64"),
    Column("tags", "STRING"),
    Column("view_count", "INT64"),
)
