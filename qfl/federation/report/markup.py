"""Small pieces of HTML. Whatever text comes in is escaped here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from qfl.federation.report.drawing import Figure

NUMBER, WIDE = ' class="number"', ' class="wide"'

STYLE = """
:root { color-scheme: light; --ink: #1c2430; --soft: #5a6675; --line: #dfe4ea; --tint: #f5f7f9;
  --blue: #0072b2; --orange: #d55e00; --green: #00795a; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); line-height: 1.55; font-size: 16px;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans",
  "Liberation Sans", Arial, sans-serif; overflow-wrap: break-word; }
main { max-width: 1000px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 1.25rem; margin: 48px 0 12px; padding-top: 20px;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0 0 6px; }
p { margin: 0 0 12px; max-width: 72ch; }
.under { color: var(--soft); margin-bottom: 24px; }
.status { display: inline-block; padding: 1px 10px; border-radius: 99px; font-size: 0.85rem;
  font-weight: 600; border: 1px solid currentColor; margin-right: 6px; }
.finished, .converged { color: var(--green); } .interrupted, .budget_spent { color: #9a5b00; }
.failed { color: #b3261e; }
dl.headline { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr));
  gap: 1px; background: var(--line); border: 1px solid var(--line); border-radius: 8px;
  overflow: hidden; margin: 0 0 24px; }
dl.headline div { background: #fff; padding: 12px 16px; display: flex;
  flex-direction: column; flex-grow: 1; }
dl.headline dt { color: var(--soft); font-size: 0.82rem; }
dl.headline dd { margin: 0; font-size: 1.25rem; font-weight: 600; line-height: 1.3;
  font-variant-numeric: tabular-nums; }
dl.headline small { display: block; font-size: 0.8rem; font-weight: 400; color: var(--soft); }
.notes { border-left: 4px solid #e69f00; background: #fdf6e7; border-radius: 0 8px 8px 0;
  padding: 14px 20px; margin: 20px 0; }
.notes h2 { border: 0; padding: 0; margin: 0 0 6px; font-size: 1rem; }
ul { margin: 0 0 12px; padding-left: 20px; max-width: 76ch; } li { margin: 5px 0; }
.notes ul { margin: 0; max-width: none; } .notes li { margin: 2px 0; }
.figures { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 28px 24px;
  margin: 16px 0; align-items: start; }
figure { margin: 0; break-inside: avoid; } figure.wide { grid-column: 1 / -1; }
figure img { display: block; width: 100%; height: auto; }
figure .scroll { overflow-x: auto; }
figcaption { color: var(--soft); font-size: 0.87rem; margin-top: 6px; }
.table { overflow-x: auto; margin: 6px 0 12px; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { min-width: 5.5em; padding-left: 4px; }
td.number, th.number { text-align: right; padding: 6px 8px; }
td.number { white-space: nowrap; }
th { overflow-wrap: normal; }
table.facts th { width: 15.5em; vertical-align: top; }
details { margin: 12px 0; border: 1px solid var(--line); border-radius: 8px; }
summary { cursor: pointer; padding: 10px 16px; font-weight: 600; font-size: 0.95rem; }
details > .inside { padding: 0 16px 12px; }
pre { margin: 0; padding: 12px 16px; background: var(--tint); border-radius: 6px; overflow-x: auto;
  font: 0.82rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.hint { display: none; color: var(--soft); font-size: 0.82rem; margin: 0 0 4px; }
@media screen and (max-width: 720px) {
  main { padding: 24px 16px 48px; } h1 { font-size: 1.5rem; }
  .figures { grid-template-columns: minmax(0, 1fr); }
  dl.headline { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  dl.headline dd { font-size: 1.05rem; }
  .hint { display: block; } table.facts th { width: 7.5em; }
  table { font-size: 0.86rem; } td.number, th.number { padding: 6px 4px; }
  figure.wide img { width: 800px; max-width: none; }
}
@media print {
  body { font-size: 11pt; } main { max-width: none; padding: 0; }
  h2 { break-after: avoid; } .notes, dl.headline { break-inside: avoid; }
  table { font-size: 8pt; } td, th, td.number, th.number { padding: 3px 5px; }
  th:first-child, td:first-child { min-width: 0; }
  .table, figure .scroll, pre { overflow: visible; } pre { white-space: pre-wrap; }
}
"""


def paragraph(text: str) -> str:
    """One paragraph.

    >>> paragraph("a < b")
    '<p>a &lt; b</p>'
    """
    return f"<p>{escape(text)}</p>"


def section(title: str, *parts: str) -> str:
    """A section with a heading; empty where all its parts are."""
    inside = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(title)}</h2>\n{inside}\n</section>" if inside else ""


def figures(shown: Iterable[Figure | None], beside: str = "") -> str:
    """Figures side by side where there is room; those that are None are left out.

    Args:
        shown: The figures.
        beside: HTML that takes the place of a last one; may be empty.
    """
    made = "\n".join(_figure(item) for item in shown if item is not None)
    made += f"\n<div>{beside}</div>" if beside else ""
    return f'<div class="figures">\n{made}\n</div>' if made else ""


def _figure(item: Figure) -> str:
    hint = '<p class="hint">Swipe sideways to see all of it.</p>' if item.wide else ""
    caption = f"<figcaption>{escape(item.caption)}</figcaption>" if item.caption else ""
    return (
        f"<figure{WIDE if item.wide else ''}><h3>{escape(item.title)}</h3>{hint}"
        f'<div class="scroll"><img src="{item.svg}" alt="{escape(item.alt)}"></div>'
        f"{caption}</figure>"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """A table.

    Args:
        header: Column names.
        rows: As many cells each.
        numbers: Positions of the columns that are set to the right.
    """
    right = set(numbers)

    def cells(kind: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{kind}{NUMBER if i in right else ''}>{escape(cell)}</{kind}>"
            for i, cell in enumerate(row)
        )

    body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="table"><table><thead><tr>{cells("th", header)}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and what they are; rows that say nothing are left out."""
    body = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in rows
        if value
    )
    return f'<div class="table"><table class="facts"><tbody>\n{body}\n</tbody></table></div>'


def folded(title: str, inside: str) -> str:
    """Something that opens on a click."""
    return (
        f'<details><summary>{escape(title)}</summary>\n<div class="inside">{inside}</div></details>'
    )


def preformatted(text: str) -> str:
    """Text with its line breaks."""
    return f"<pre>{escape(text)}</pre>"


def subsection(title: str, inside: str) -> str:
    """Something with a smaller heading."""
    return f"<div>\n<h3>{escape(title)}</h3>\n{inside}\n</div>"


def listed(items: Iterable[str]) -> str:
    r"""A list of sentences.

    >>> listed(["a < b"])
    '<ul>\n<li>a &lt; b</li>\n</ul>'
    """
    body = "\n".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>\n{body}\n</ul>"


def notes_box(notes: Sequence[str]) -> str:
    """A box that is seen; empty without notes."""
    if not notes:
        return ""
    return f'<aside class="notes"><h2>Notes</h2>\n{listed(notes)}</aside>'


def headline(entries: Iterable[tuple[str, str, str]]) -> str:
    """The few numbers that matter most: name, value, and a line of detail (may be empty)."""
    made = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}"
        f"{f'<small>{escape(detail)}</small>' if detail else ''}</dd></div>"
        for name, value, detail in entries
    )
    return f'<dl class="headline">\n{made}\n</dl>'
