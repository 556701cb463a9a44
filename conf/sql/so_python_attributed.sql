-- The same rows with what attribution and grouping need: ids, author, licence, address, tags, date.
-- Licence and address are those of Stack Overflow; on the sample, whose rows are docstrings, they do
-- not hold, and the plan says so.
SELECT
  q.id AS question_id,
  CONCAT(q.title, q.body) AS input_text,
  a.body AS output_text,
  a.owner_display_name AS author,
  "CC BY-SA 4.0" AS licence,
  CONCAT("https://stackoverflow.com/a/", CAST(a.id AS STRING)) AS url,
  q.tags AS tags,
  a.creation_date AS created_at
FROM `bigquery-public-data.stackoverflow.posts_questions` q
JOIN `bigquery-public-data.stackoverflow.posts_answers` a
  ON q.accepted_answer_id = a.id
WHERE q.accepted_answer_id IS NOT NULL
  AND REGEXP_CONTAINS(q.tags, "python")
  AND a.creation_date >= "2020-01-01"
LIMIT 10000
