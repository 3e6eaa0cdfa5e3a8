"""The summary of `starttls scan` as a picture: bars with their numbers, readable in light and dark, and aloud."""

import os
import tempfile
from html import escape

from starttls._summary import Summary

__all__ = ["svg", "write_svg"]

_WIDTH = 800
_LEFT = 24
_LABELS = 350
_BARS = 260
_ROW = 26
_HEADING = 46
_TOP = 84

# The contrast of text is 7:1 and more, of the bars 3:1, both in light and in dark.
_STYLE = """\
text { font: 14px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1b1f24 }
.page { fill: #ffffff } .rail { fill: #e4e8ec }
.title { font-size: 20px; font-weight: 600 } .heading { font-weight: 600 } .small { fill: #4a525a }
.number { text-anchor: end; font-variant-numeric: tabular-nums }
.good { fill: #1a7f4b } .plain { fill: #2f6fb5 } .bad { fill: #c2410c }
@media (prefers-color-scheme: dark) {
  text { fill: #eef1f4 } .page { fill: #14181d } .rail { fill: #2b323a } .small { fill: #b5bdc6 }
  .good { fill: #3fbf7f } .plain { fill: #6ba6ea } .bad { fill: #fb8a4c }
}"""

_BAD = ("do not", "of these", "MTA-STS, of no use")
_GOOD = ("meet", "do TLS", "prove", "match", "chose", "signed", "TLSA", "MTA-STS, enforced")


def write_svg(name: str, summary: Summary, interrupted: bool) -> None:
    """Writes the file, whole or not at all."""
    descriptor, temporary = tempfile.mkstemp(prefix=".starttls-", dir=os.path.dirname(name) or ".")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(svg(summary, interrupted))
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, name)
    except BaseException:
        os.unlink(temporary)
        raise


def svg(summary: Summary, interrupted: bool = False) -> str:
    """The picture."""
    all_ = summary.targets
    title = f"STARTTLS with {all_} target{'' if all_ == 1 else 's'}"
    told = [f"{summary['tls']} do TLS", f"{summary['pkix']} have a certificate that proves their name (PKIX)"]
    told += [f"{summary['dane']} match their TLSA records", f"{summary['no-tls']} do not offer TLS"]
    body = []
    y = _TOP
    for heading, rows in summary.groups():
        y += _HEADING - _ROW
        body.append(f'<text class="heading" x="{_LEFT}" y="{y}">{escape(_capital(heading))}</text>')
        y += 10
        for name, n in rows:
            body += _row(heading, name, n, all_, y)
            y += _ROW
        y += 8
    notes = summary.notes()
    if interrupted:
        notes.append("stopped before the end of the list")
    for note in notes:
        y += 18
        body.append(f'<text class="small" x="{_LEFT}" y="{y}">{escape(_capital(note))}.</text>')
    height = y + 24
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
            f'height="{height}" role="img" aria-labelledby="title desc">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="desc">{escape("; ".join(told + notes))}.</desc>',
            f"<style>{_STYLE}</style>",
            f'<rect class="page" width="{_WIDTH}" height="{height}"/>',
            f'<text class="title" x="{_LEFT}" y="42">{escape(title)}</text>',
            f'<text class="small" x="{_LEFT}" y="66">{escape(_lead(summary))}</text>',
            *body,
            "</svg>\n",
        ]
    )


def _lead(summary: Summary) -> str:
    if not summary.targets:
        return "There was nothing to ask."
    return (
        f"{_percent(summary['tls'], summary.targets)} do TLS, {_percent(summary['met'], summary.targets)} as asked for."
    )


def _row(heading: str, name: str, n: int, all_: int, y: int) -> list[str]:
    length = round(_BARS * n / all_) if all_ else 0
    if n:
        # Few are not none.
        length = max(2, min(length, _BARS))
    x = _LEFT + _LABELS
    kind = "bad" if heading == "errors" or name.startswith(_BAD) else "good" if name.startswith(_GOOD) else "plain"
    share = _percent(n, all_)
    return [
        f'<text x="{_LEFT + 12}" y="{y + 15}">{escape(_short(name))}</text>',
        f'<rect class="rail" x="{x}" y="{y + 3}" width="{_BARS}" height="16" rx="3"/>',
        *([f'<rect class="{kind}" x="{x}" y="{y + 3}" width="{length}" height="16" rx="2"/>'] if n else []),
        f'<text class="number" x="{x + _BARS + 72}" y="{y + 15}">{n}</text>',
        f'<text class="number small" x="{_WIDTH - _LEFT}" y="{y + 15}">{share}</text>',
    ]


def _percent(n: int, all_: int) -> str:
    return f"{100 * n / all_:.1f} %" if all_ else ""


def _short(name: str) -> str:
    return name if len(name) <= 46 else name[:45] + "…"


def _capital(text: str) -> str:
    # "TLS version" stays.
    return text[:1].upper() + text[1:]
