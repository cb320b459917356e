"""The report page of a run, in the order in which a reader asks."""

from __future__ import annotations

from html import escape
from pathlib import Path

from qfl.federation.files import write_atomic
from qfl.federation.report import markup, sections
from qfl.federation.report.aggregation import aggregation
from qfl.federation.report.cost import cost
from qfl.federation.report.participants import participants
from qfl.federation.report.privacy import privacy
from qfl.federation.report.reading import Run, read_run
from qfl.federation.report.trail import trail
from qfl.federation.report.wording import STATES, headline_entries, moment, status, story


def write_report(run_dir: Path) -> Path:
    """Write ``report.html``, one page that needs nothing but itself, into a run's folder.

    Args:
        run_dir: The run's folder, with ``config.yaml``, ``metrics.jsonl`` and ``summary.json``,
            and, as far as the run came, ``evaluation.json`` and ``audit.jsonl``.

    Returns:
        The page's path. An older page is replaced whole, or stays as it was.

    Raises:
        StorageError: The folder does not exist or is not a run's, one of its files cannot be
            read, or the page cannot be written.
    """
    run_dir = Path(run_dir)
    page = render(read_run(run_dir))
    path = run_dir / "report.html"
    write_atomic(path, page.encode("utf-8", "replace"))
    return path


def render(run: Run) -> str:
    """The whole page as text."""
    name = str(run.summary.get("experiment") or run.folder.name)
    state = status(run)
    said = state.replace("_", " ") if state in STATES else state
    known = state if state in STATES else "other"
    notes = [*map(str, run.summary["notes"]), *run.notes]
    body = [
        f"<h1>{escape(name)}</h1>",
        f'<p class="under"><span class="status {known}">{escape(said)}</span> '
        f"{escape(moment(run))}</p>",
        markup.headline(headline_entries(run)),
        *map(markup.paragraph, story(run)),
        markup.notes_box(notes),
        sections.learning(run),
        sections.baselines(run),
        sections.outcome(run),
        sections.clients(run),
        participants(run),
        aggregation(run),
        privacy(run),
        cost(run),
        markup.section(
            "Configuration",
            markup.folded("The resolved configuration", markup.preformatted(run.config_text)),
        ),
        trail(run),
        _versions(run),
    ]
    content = "\n".join(part for part in body if part)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(name)}: run report</title>\n<style>{markup.STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{content}\n</main>\n</body>\n</html>\n"
    )


def _versions(run: Run) -> str:
    rows = [[str(name), str(version)] for name, version in run.summary["versions"].items()]
    return markup.section("Versions", markup.table(["package", "version"], rows)) if rows else ""
