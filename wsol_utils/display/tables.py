"""Tables as Markdown, for notebooks, pages and the README alike."""

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table.

    Example:
        >>> print(markdown_table(["method", "%"], [["CAM", 71.25]]))
        | method | % |
        |---|---|
        | CAM | 71.2 |
    """
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")
