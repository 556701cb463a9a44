"""Which packages are installed here."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution


def installed_version(package: str) -> str | None:
    """Return the version of an installed package, null if it is not installed.

    As ``importlib.metadata.version``, which reads a package's whole description as an e-mail: a
    millisecond for each package.
    """
    try:
        metadata = distribution(package).read_text("METADATA") or ""
    except PackageNotFoundError:
        return None
    fields = metadata.partition("\n\n")[0].splitlines()
    return next((line.split(":", 1)[1].strip() for line in fields if _is_version(line)), None)


def _is_version(line: str) -> bool:
    return line.lower().startswith("version:")
