"""What of BigQuery's SQL means the same in DuckDB, and what does not, by sqlglot's node names.

A node that is in neither table here and has no rule in ``dialect.py`` is refused as unknown.
"""

from __future__ import annotations

from collections.abc import Mapping

_SAME = """
Abs Add Alias Aliases All And Any Array ArrayConcat ArraySize ArrayToString Avg Between Boolean
Case Coalesce Column Concat Count CountIf CTE DataType DateFromParts DenseRank Distinct Dot DPipe
EndsWith EQ Escape Except Exists Exp Filter FirstValue From GenerateDateArray Greatest Group GT
GTE Having Identifier If In IntDiv Intersect Interval Is Lag LastValue Lead Least Length Limit Ln
LogicalAnd LogicalOr Lower LT LTE Max MD5 Min Mod Mul Neg NEQ Not NthValue Ntile Null Nullif
Offset Or Order Ordered Pad Paren PercentileCont Pow PropertyEQ Qualify Rank RawString
RegexpExtractAll RegexpLike RegexpReplace Repeat Replace RowNumber SafeDivide Select SHA2
SHA2Digest Sign Split Sqrt Star StartsWith Struct Sub Subquery Sum Table TableAlias TsOrDsToDate
TsOrDsToDatetime TsOrDsToTimestamp Tuple Union Upper Var Where Window WindowSpec With
"""
SAME = frozenset(_SAME.split())

_OTHER_EACH_TIME = (
    "it gives another value each time, and a result must be the same for the same tables"
)
_NO_BYTES = "BYTES values have no known translation; TO_HEX(MD5(..)) and TO_HEX(SHA256(..)) have"
_NO_JSON = "JSON functions of the two engines differ on objects, arrays and missing paths"

# node -> (what the user wrote, why it is refused)
REFUSED: Mapping[str, tuple[str, str]] = {
    "Rand": ("RAND()", _OTHER_EACH_TIME),
    "Uuid": ("GENERATE_UUID()", _OTHER_EACH_TIME),
    "CurrentDate": ("CURRENT_DATE()", _OTHER_EACH_TIME),
    "CurrentTime": ("CURRENT_TIME()", _OTHER_EACH_TIME),
    "CurrentTimestamp": ("CURRENT_TIMESTAMP()", _OTHER_EACH_TIME),
    "CurrentDatetime": ("CURRENT_DATETIME()", _OTHER_EACH_TIME),
    "CurrentUser": ("SESSION_USER()", "there is no user"),
    "TableSample": ("TABLESAMPLE", "it takes other rows each time; use dataset.max_rows"),
    "WeekStart": ("a date part of WEEK", "weeks begin on another day in DuckDB; use DAY"),
    "FarmFingerprint": ("FARM_FINGERPRINT", "DuckDB has no FarmHash; use TO_HEX(MD5(..))"),
    "ApproxQuantiles": ("APPROX_QUANTILES", "its figures differ; use PERCENTILE_CONT"),
    "ApproxTopK": ("APPROX_TOP_COUNT", "it returns no counts; use GROUP BY and ORDER BY COUNT(*)"),
    "ApproxTopSum": ("APPROX_TOP_SUM", "use GROUP BY and ORDER BY SUM(..)"),
    "ArgMax": ("MAX_BY", "ties and NULLs are picked differently; use QUALIFY ROW_NUMBER()"),
    "ArgMin": ("MIN_BY", "ties and NULLs are picked differently; use QUALIFY ROW_NUMBER()"),
    "ByteString": ("a BYTES literal", _NO_BYTES),
    "ToBase64": ("TO_BASE64", _NO_BYTES),
    "FromBase64": ("FROM_BASE64", _NO_BYTES),
    "MD5Digest": ("MD5 without TO_HEX", _NO_BYTES),
    "Contains": ("CONTAINS_SUBSTR", "it normalises text; use STRPOS(LOWER(..), ..) > 0"),
    "Initcap": ("INITCAP", "DuckDB has none"),
    "Soundex": ("SOUNDEX", "DuckDB has none"),
    "Levenshtein": ("EDIT_DISTANCE", "DuckDB counts bytes, not characters"),
    "Reverse": ("REVERSE", "DuckDB keeps combined characters together"),
    "SafeFunc": ("the SAFE. prefix", "only SAFE_CAST, SAFE_DIVIDE and SAFE_OFFSET are known"),
    "Pivot": ("PIVOT or UNPIVOT", "DuckDB names the columns otherwise; use COUNTIF or SUM(IF(..))"),
    "Placeholder": ("a positional parameter", "name it @name and set dataset.parameters"),
    "JSONExtract": ("JSON_QUERY", _NO_JSON),
    "JSONExtractScalar": ("JSON_VALUE", _NO_JSON),
    "JSONExtractArray": ("JSON_EXTRACT_ARRAY", _NO_JSON),
    "JSONValueArray": ("JSON_VALUE_ARRAY", _NO_JSON),
    "JSONFormat": ("TO_JSON_STRING", _NO_JSON),
    "ParseJSON": ("PARSE_JSON", _NO_JSON),
    "UserDefinedFunction": ("CREATE TEMP FUNCTION", "write the expression into the query"),
    "Command": ("a script statement", "write one SELECT"),
    "Lateral": ("LATERAL", "BigQuery has none"),
    "Version": ("FOR SYSTEM_TIME AS OF", "DuckDB keeps no history"),
}

STRFTIME_CODES = frozenset(
    ["%Y", "%m", "%d", "%H", "%M", "%S", "%j", "%y", "%b", "%B", "%a", "%A", "%p", "%I", "%%"]
)
