-- The course's query: accepted answers to Python questions since 2020.
-- It returns no ids, authors or licences: see so_python_attributed.sql for a query that can be
-- attributed and grouped by author.
SELECT
  CONCAT(q.title, q.body) AS input_text,
  a.body AS output_text
FROM `bigquery-public-data.stackoverflow.posts_questions` q
JOIN `bigquery-public-data.stackoverflow.posts_answers` a
  ON q.accepted_answer_id = a.id
WHERE q.accepted_answer_id IS NOT NULL
  AND REGEXP_CONTAINS(q.tags, "python")
  AND a.creation_date >= "2020-01-01"
LIMIT 10000
