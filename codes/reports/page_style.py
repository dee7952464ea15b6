"""Style sheet of the report page: light and dark, for phones and desktops."""

STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1c2128; --soft: #57606a; --edge: #d0d7de; --panel: #f6f8fa;
  --right: #1a7f37; --wrong: #cf222e; --strong: #fff; --focus: #0969da;
  --c0: #0969da; --c1: #bc4c00; --c2: #1a7f37; --c3: #8250df; --c4: #bf3989; --c5: #7d4e00; --c6: #1b7c83;
  --c7: #57606a; }
@media (prefers-color-scheme: dark) { :root { --back: #0d1117; --text: #e6edf3; --soft: #9ba5b1; --edge: #3d444d;
  --panel: #161b22; --right: #3fb950; --wrong: #ff7b72; --strong: #0d1117; --focus: #58a6ff;
  --c0: #58a6ff; --c1: #f0883e; --c2: #3fb950; --c3: #bc8cff; --c4: #f778ba; --c5: #e3b341; --c6: #56d4dd;
  --c7: #9ba5b1; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1400px; padding: 1rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: clamp(1.2rem, 4vw, 1.6rem); } 
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--edge); } h3 { margin-bottom: .3rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; padding: 0; list-style: none; }
a { color: var(--focus); } :focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
p.note { color: var(--soft); max-width: 48rem; margin: .4rem 0; }
code { font: .88em ui-monospace, monospace; background: var(--panel); padding: .1em .3em; border-radius: 4px; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: .92rem; overflow-wrap: normal; }
caption { text-align: left; color: var(--soft); }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--edge); text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th[scope="row"] { min-width: 9.5rem; max-width: 26rem; font-weight: 600; overflow-wrap: anywhere; }
article { min-width: 0; }
td.text { min-width: 8rem; max-width: 26rem; overflow-wrap: anywhere; }
.grid-of { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 1rem; }
.grid-of.narrow { grid-template-columns: repeat(auto-fit, minmax(min(100%, 290px), 1fr)); }
figure { margin: 0; padding: .6rem; background: var(--panel); border: 1px solid var(--edge); border-radius: 8px; }
figcaption { font-weight: 600; } figure img { width: 100%; height: auto; display: block; margin: .4rem 0; }
figure p { margin: .2rem 0; font-size: .92rem; } .path { color: var(--soft); font-size: .82rem; }
summary { cursor: pointer; padding: .4rem 0; font-weight: 600; }
ul.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; padding: 0; list-style: none; }
ul.legend svg { width: 38px; height: 12px; margin-right: .4rem; }
svg.chart, svg.matrix { width: 100%; height: auto; display: block; }
svg text { fill: var(--text); font: 12px system-ui, sans-serif; } svg text.strong { fill: var(--strong); }
.grid { stroke: var(--edge); stroke-width: 1; } .axis { fill: none; stroke: var(--soft); }
.line { fill: none; stroke: var(--c); stroke-width: 2; } .dot { fill: var(--c); }
.band { fill: var(--c); fill-opacity: .18; }
.empty { fill: var(--panel); stroke: var(--edge); } .right { fill: var(--right); } .wrong { fill: var(--wrong); }
.bar { display: inline-block; height: .7em; background: var(--c0); border-radius: 2px; }
.track { display: inline-block; width: 90px; background: var(--edge); border-radius: 2px; line-height: .7em; }
.s0 { --c: var(--c0); } .s1 { --c: var(--c1); stroke-dasharray: 7 3; } .s2 { --c: var(--c2); stroke-dasharray: 2 3; }
.s3 { --c: var(--c3); stroke-dasharray: 9 3 2 3; } .s4 { --c: var(--c4); }
.s5 { --c: var(--c5); stroke-dasharray: 7 3; }
.s6 { --c: var(--c6); stroke-dasharray: 2 3; } .s7 { --c: var(--c7); stroke-dasharray: 9 3 2 3; }
""".strip()
