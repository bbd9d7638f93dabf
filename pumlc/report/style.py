"""How the page looks: one style sheet, light and dark, for a desk and for a telephone."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f7f6f3; --card: #ffffff; --ink: #20242a; --quiet: #646b75; --rule: #e4e1da; --grid: #eceae4;
  --accent: #0f6f68; --right: #1c7c4a; --wrong: #b3372e; --caution: #fbf1dc; --caution-rule: #d9a441;
  --series-1: #2a67ad; --series-2: #cc6a1a; --series-3: #2f8a57; --series-4: #a23f78;
  --series-5: #7259bf; --series-6: #9c7a0a; --series-7: #0d8388; --series-8: #8a6350;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #15181c; --card: #1d2126; --ink: #e4e6e9; --quiet: #9aa2ad; --rule: #31363d; --grid: #2a2f35;
    --accent: #4fc1b5; --right: #62c98f; --wrong: #f08a80; --caution: #33291a; --caution-rule: #a97f33;
    --series-1: #7cb2ec; --series-2: #f0a15f; --series-3: #74cd9b; --series-4: #e08cba;
    --series-5: #b3a1f0; --series-6: #d6b64b; --series-7: #5cc5ca; --series-8: #c9a08c;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink); overflow-wrap: break-word;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif;
}
main, nav { max-width: 1160px; margin: 0 auto; padding: 0 20px; }
nav { padding-top: 16px; display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 14px; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
header { padding: 28px 0 8px; }
h1 { font-size: 32px; line-height: 1.2; margin: 0 0 8px; font-weight: 650; overflow-wrap: anywhere; }
h2 { font-size: 21px; margin: 44px 0 12px; font-weight: 650; }
h3 { font-size: 15px; margin: 22px 0 8px; font-weight: 650; }
p { margin: 6px 0; text-wrap: pretty; }
.kicker { color: var(--accent); font-size: 13px; letter-spacing: .06em; text-transform: uppercase; margin: 0 0 4px; }
.lede { font-size: 17px; max-width: 75ch; }
.quiet { color: var(--quiet); font-size: 14px; max-width: 95ch; }
code { font: 13px/1.4 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; }
.figure, .value, td { font-variant-numeric: tabular-nums; }

.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 20px 0 12px; }
.tiles > div, .card, .chart, .panel, .missing { background: var(--card); border: 1px solid var(--rule);
  border-radius: 10px; }
.tiles > div { padding: 12px 14px; }
.tiles dt { color: var(--quiet); font-size: 13px; }
.tiles dd { margin: 0; }
.tiles .value { font-size: 24px; font-weight: 620; line-height: 1.3; white-space: nowrap; }
.tiles .remark { color: var(--quiet); font-size: 13px; min-height: 1.5em; }
.warnings { list-style: none; margin: 16px 0 0; padding: 0; display: grid; gap: 8px; }
.warnings li { background: var(--caution); border-left: 3px solid var(--caution-rule); border-radius: 6px;
  padding: 8px 14px; }

.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(320px, 100%), 1fr)); gap: 14px; }
figure { margin: 0; min-width: 0; }
.chart { padding: 12px 12px 10px; }
.chart > figcaption { font-weight: 620; font-size: 14px; margin: 0 2px 6px; }
.chart svg { display: block; width: 100%; height: auto; }
.axes text { fill: var(--quiet); font-size: 11px; }
.grid { stroke: var(--grid); stroke-width: 1; fill: none; }
.ideal { stroke: var(--quiet); stroke-width: 1; stroke-dasharray: 3 3; fill: none; }
.mark path, .sample.mark { stroke: var(--quiet); stroke-width: 1; stroke-dasharray: 2 3; fill: none; }
.line { fill: none; stroke: currentColor; stroke-width: 1.7; stroke-linejoin: round; stroke-linecap: round; }
.line.dashed { stroke-dasharray: 5 4; }
circle { fill: currentColor; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 14px; margin: 6px 2px 0; padding: 0;
  font-size: 13px; color: var(--quiet); overflow-wrap: anywhere; }
.legend li { display: flex; align-items: center; gap: 6px; }
.sample { display: inline-block; flex: none; width: 16px; height: 0; border-top: 2.5px solid currentColor; }
.sample.dashed { border-top-style: dashed; }
.sample.mark { height: 12px; width: 0; border: 0; border-left: 1.5px dashed var(--quiet); margin: 0 7px; }
SERIES

table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 5px 10px 5px 0; border-bottom: 1px solid var(--rule); vertical-align: top;
  font-weight: normal; overflow-wrap: anywhere; }
thead th { color: var(--quiet); font-size: 13px; }
.panel { padding: 8px 16px; overflow-x: auto; margin-top: 12px; }
.panel tbody tr:last-child > * { border-bottom: 0; }
.panel.runs th, .panel.runs td { min-width: 6.5em; }
.named { white-space: nowrap; }
.named .sample { margin-right: 7px; vertical-align: middle; }
.plain th, .plain td { min-width: 4.5em; }
.plain tbody th { white-space: nowrap; padding-right: 18px; }
.classes { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; border-collapse: separate;
  border-spacing: 0; }
.classes th, .classes td { vertical-align: middle; }
.classes th:first-child { padding-left: 14px; }
.classes td:nth-child(n+3), .classes th:nth-child(n+3) { text-align: right; width: 6.5em; padding-right: 14px; }
.classes tbody tr:last-child > * { border-bottom: 0; }
.classes .wide { width: 50%; }
button { font: inherit; color: inherit; background: none; border: 0; padding: 2px 0; cursor: pointer;
  text-align: inherit; }
button:hover { color: var(--accent); }
[aria-sort=ascending] button::after { content: " \\2191"; }
[aria-sort=descending] button::after { content: " \\2193"; }
.measure { display: flex; align-items: center; gap: 10px; }
.measure .figure { flex: none; width: 4.2em; text-align: right; }
.bar { position: relative; flex: 1; height: 12px; background: var(--grid); border-radius: 3px; min-width: 40px; }
.bar b { display: block; height: 100%; background: var(--series-1); border-radius: 3px; }
.bar.signed b { position: absolute; top: 0; }
.bar b.right { background: var(--right); }
.bar b.wrong { background: var(--wrong); }
.bar .chance { position: absolute; top: -2px; bottom: -2px; width: 2px; background: var(--ink); opacity: .55; }
.folded > label { display: block; font-size: 14px; color: var(--quiet); margin: 8px 0; }
.folded:not(:has(.unfold:checked)) tbody tr:nth-child(n+16):nth-last-child(n+16) { display: none; }
.folded:not(:has(.unfold:checked)) tbody tr:nth-child(15) > * { border-bottom: 3px double var(--quiet); }

.pair { display: grid; grid-template-columns: minmax(0, 460px) minmax(0, 1fr); gap: 24px; align-items: start; }
.cards { display: grid; gap: 14px; }
.card { padding: 12px; min-width: 0; }
.card > img, .card > .missing { display: block; width: 100%; height: 230px; object-fit: contain; border-radius: 6px;
  background: var(--grid); }
.caption { font-size: 13px; color: var(--quiet); margin: 8px 0; overflow-wrap: anywhere; }
.caption b { color: var(--ink); font-weight: 620; }
.missing { color: var(--quiet); font-size: 13px; padding: 12px; display: flex; align-items: center;
  overflow-wrap: anywhere; }
.maps { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 10px 8px; margin-bottom: 6px; }
.maps img { display: block; width: 100%; height: auto; border-radius: 5px; margin-bottom: 4px; }
.maps figcaption { font-size: 12px; line-height: 1.35; overflow-wrap: anywhere; }
.maps figcaption b { font-weight: 620; }
.maps figcaption span { color: var(--quiet); }
.maps figcaption p { margin: 0; }
.right { color: var(--right); }
.wrong { color: var(--wrong); font-weight: 620; }
.suspicions td:first-child { width: 110px; }
.suspicions td:last-child { width: 6em; text-align: right; }
.suspicions th:last-child { text-align: right; }
.suspicions img { display: block; max-width: 96px; max-height: 96px; width: auto; height: auto; border-radius: 5px; }
.suspicions .missing { width: 96px; min-height: 60px; padding: 6px; font-size: 11px; }
.suspicions p { margin: 2px 0; font-size: 13px; color: var(--quiet); }
.triple { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(320px, 100%), 1fr)); gap: 8px 24px; }
.count { color: var(--quiet); font-weight: normal; }
details { margin: 16px 0; }
summary { cursor: pointer; color: var(--accent); font-size: 14px; }
footer { color: var(--quiet); font-size: 13px; padding: 36px 0 40px; }
@media (max-width: 720px) {
  main, nav { padding-left: 14px; padding-right: 14px; }
  h1 { font-size: 26px; }
  .pair { grid-template-columns: minmax(0, 1fr); }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .tiles .value { font-size: 20px; }
  .classes td:nth-child(4), .classes th:nth-child(4) { display: none; }
  .classes td:nth-child(3), .classes th:nth-child(3) { width: 5.6em; padding-right: 10px; }
  .classes th:first-child { padding-left: 10px; }
  .classes .wide { width: 46%; }
  .measure { gap: 6px; }
  .plain tbody th { white-space: normal; }
}
""".replace("SERIES", "\n".join(f".series-{n} {{ color: var(--series-{n}); }}" for n in range(1, 9)))

SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => heading.firstElementChild.addEventListener("click", event => {
    const number = event.target.dataset.kind === "number";
    const last = heading.getAttribute("aria-sort");
    const down = last ? last === "ascending" : number;
    const value = row => number ? +row.cells[column].dataset.value : row.cells[column].textContent;
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => (number ? value(a) - value(b) : value(a).localeCompare(value(b))) * (down ? -1 : 1));
    for (const other of headings) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    table.tBodies[0].append(...rows);
  }));
}
"""
