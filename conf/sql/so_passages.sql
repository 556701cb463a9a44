-- Accepted answers to Python questions, as passages that other answers may rest on.
--   python -m llmops warehouse query conf/sql/so_passages.sql --limit 3
SELECT
    CAST(a.id AS STRING) AS id,
    q.title AS title,
    a.body AS body,
    CONCAT('https://stackoverflow.com/a/', CAST(a.id AS STRING)) AS uri
FROM
    `bigquery-public-data.stackoverflow.posts_questions` q
JOIN
    `bigquery-public-data.stackoverflow.posts_answers` a
ON
    q.accepted_answer_id = a.id
WHERE
    REGEXP_CONTAINS(q.tags, "python")
