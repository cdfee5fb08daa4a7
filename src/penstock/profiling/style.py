"""The style sheet of a report: for light and dark screens, phones, and paper.

Every text has a contrast of at least 4.5 to 1 to what is behind it, and every line of a chart one of 3 to 1
(WCAG 2, level AA). Colours never stand alone: outcomes are written too, waiting is a thinner bar, and output
is a dashed line.
"""

from __future__ import annotations

__all__ = ["COLOURS", "STYLE"]

COLOURS = {
    "light": {
        "back": "#ffffff",
        "card": "#f6f8fa",
        "fore": "#1c2024",
        "soft": "#555d66",
        "rule": "#c9d1d9",
        "run": "#0b5fbd",
        "read": "#a34a04",
        "write": "#7a2ed6",
        "good": "#116329",
        "bad": "#b3261e",
    },
    "dark": {
        "back": "#14171a",
        "card": "#1e2327",
        "fore": "#e6e9ec",
        "soft": "#a6b0ba",
        "rule": "#444c54",
        "run": "#6cb2ff",
        "read": "#f0a83c",
        "write": "#c9a6ff",
        "good": "#6fdd8b",
        "bad": "#ff8a80",
    },
}
"""The custom properties of the two schemes."""


def _properties(scheme: str) -> str:
    return "".join(f"--{name}:{value};" for name, value in COLOURS[scheme].items())


STYLE = (
    f":root{{color-scheme:light dark;{_properties('light')}}}\n"
    f"@media (prefers-color-scheme:dark){{:root{{{_properties('dark')}}}}}\n"
    """
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--fore);font:16px/1.5 system-ui,sans-serif}
header,main,footer{max-width:80rem;margin:0 auto;padding:0 1rem}
h1{font-size:1.4rem;line-height:1.3;overflow-wrap:anywhere;margin:1rem 0 .5rem}
h2{font-size:1.15rem;margin:2rem 0 .5rem;border-bottom:1px solid var(--rule);padding-bottom:.2rem}
h3{font-size:1rem;margin:1rem 0 .3rem;overflow-wrap:anywhere}
p,li,figcaption{overflow-wrap:anywhere}
.verdict{border-left:.4rem solid var(--good);background:var(--card);padding:.6rem 1rem;margin:.5rem 0}
.verdict.bad{border-color:var(--bad)}
.verdict p{margin:.2rem 0}
.verdict p:first-child{font-weight:600}
.soft,footer{color:var(--soft);font-size:.9rem}
.scroll{overflow:auto;border:1px solid var(--rule);border-radius:.4rem;background:var(--card)}
.scroll.graph-box{max-height:34rem;padding:.5rem}
:focus-visible{outline:2px solid var(--run);outline-offset:2px}
table{border-collapse:collapse;min-width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);padding:.4rem .6rem}
th,td{text-align:left;padding:.3rem .6rem;border-top:1px solid var(--rule);vertical-align:top}
th.n,td.n{text-align:right;white-space:nowrap}
tbody th{font-weight:600;overflow-wrap:anywhere;min-width:6rem}
pre{margin:0;padding:.6rem;overflow:auto;max-height:24rem;white-space:pre-wrap;overflow-wrap:anywhere;
 border:1px solid var(--rule);border-radius:.4rem;background:var(--card);
 font:.85rem/1.4 ui-monospace,monospace}
svg{display:block;fill:var(--fore)}
svg text{font:12px ui-monospace,monospace}
.graph{margin:0 auto}
.graph text{text-anchor:middle}
.graph .label{fill:var(--soft);font-size:11px;paint-order:stroke;stroke:var(--card);stroke-width:4px}
.graph .small{font-size:11px}
.edge{fill:none;stroke:var(--soft);stroke-width:1.5}
.node rect{fill:var(--back);stroke:var(--soft);stroke-width:1.5}
.node.failed rect,.node.also-failed rect{stroke:var(--bad);stroke-width:3}
.node.failed .small,.node.also-failed .small{fill:var(--bad)}
.node.stopped rect,.node.not-started rect{stroke-dasharray:5 3}
.rows{list-style:none;margin:0;padding:0}
.rows li{display:grid;grid-template-columns:minmax(6rem,14rem) 1fr 12rem;gap:0 .8rem;align-items:center;
 padding:.15rem 0}
.rows .name{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.rows .time{color:var(--soft);font-size:.85rem;text-align:right;font-variant-numeric:tabular-nums}
.bar{width:100%;height:1rem;background:var(--card)}
.key{display:inline-block;width:1.6rem;height:.8rem;margin:0 .3rem 0 0}
.key.thin{height:.4rem;vertical-align:.15rem}
.legend{display:flex;flex-wrap:wrap;gap:.1rem 1.2rem;list-style:none;padding:0;margin:.3rem 0}
.running{fill:var(--run);background:var(--run)}
.reading{fill:var(--read);background:var(--read)}
.writing{fill:var(--write);background:var(--write)}
.stopped{fill:var(--bad);background:var(--bad)}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(19rem,100%),1fr));gap:.8rem}
figure{margin:0;min-width:0;border:1px solid var(--rule);border-radius:.4rem;background:var(--card);
 padding:.5rem}
figcaption{font-size:.9rem}
figcaption b{overflow-wrap:anywhere}
.chart{width:100%;height:auto}
.chart text{font-size:11px;fill:var(--soft)}
.grid{fill:none;stroke:var(--rule)}
.area{fill:var(--run);fill-opacity:.2;stroke:none}
.line{fill:none;stroke:var(--run);stroke-width:1.6}
.line.out{stroke:var(--write);stroke-dasharray:5 3}
@media (max-width:40rem){
 .rows li{grid-template-columns:1fr auto}
 .rows .bar{grid-row:2;grid-column:1/-1}
}
@media print{.scroll,pre{max-height:none!important;overflow:visible}figure,pre{break-inside:avoid}}
"""
)
