"""The look of every HTML page; every pair of colours has a contrast of at least 4.5 to 1."""

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --text: #1b1f24; --quiet: #57606a; --line: #d0d7de;
  --card: #f6f8fa; --bar: #2f6fb3; --error: #b42318; --warning: #8a5a00; --note: #2f5f98; --fine: #1a6b3a; }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --text: #e6e9ec; --quiet: #a3adb8; --line: #3a424b;
  --card: #1d2228; --bar: #6ea8e6; --error: #ff8f85; --warning: #f0b849; --note: #8fbcf0; --fine: #6fcf97; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 3rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .75rem; }
h2 { font-size: 1.25rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
h3 { font-size: 1rem; margin: 0 0 .25rem; }
p { margin: .25rem 0; }
.quiet, figcaption .quiet { color: var(--quiet); font-weight: 400; font-size: .875rem; }
.verdict { font-size: 1.1rem; font-weight: 600; border: 1px solid currentColor; border-left-width: .5rem;
  border-radius: .25rem; padding: .6rem .8rem; }
.error, .verdict.error { --tone: var(--error); } .warning { --tone: var(--warning); }
.note { --tone: var(--note); } .fine { --tone: var(--fine); }
.verdict { color: var(--tone); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(7rem, 1fr)); gap: .5rem; margin: 1rem 0; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: .25rem; padding: .5rem .75rem;
  display: flex; flex-direction: column-reverse; }
.tiles dt { color: var(--quiet); font-size: .875rem; } .tiles dd { margin: 0; font-size: 1.35rem; font-weight: 600;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
nav a { color: var(--note); margin-right: 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; overflow-wrap: normal; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.total th, .total td { font-weight: 600; border-bottom: 0; }
article { background: var(--card); border: 1px solid var(--line); border-left: .35rem solid var(--tone);
  border-radius: .25rem; padding: .6rem .8rem; margin: .6rem 0; break-inside: avoid; }
.sign { display: inline-block; width: 1.25rem; height: 1.25rem; line-height: 1.2rem; margin-right: .5rem;
  text-align: center; border: 1px solid var(--tone); border-radius: 50%; color: var(--tone); font-size: .8rem; }
.column { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .9rem; border: 1px solid var(--line);
  border-radius: .2rem; padding: 0 .3rem; }
summary { cursor: pointer; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 1rem; }
figure { margin: 0; break-inside: avoid; } figcaption { font-weight: 600; font-size: .9rem; }
svg { width: 100%; height: auto; display: block; } svg rect { fill: var(--bar); }
svg line { stroke: var(--line); } svg text { fill: var(--quiet); font-size: 11px; }
@media (max-width: 30rem) { th, td { padding: .25rem .15rem; font-size: .75rem; }
  th[scope="row"] { overflow-wrap: anywhere; } }
footer { margin-top: 2.5rem; color: var(--quiet); font-size: .875rem; }
@media print { :root { --page: #fff; --text: #000; --quiet: #444; --line: #999; --card: #fff; --bar: #335;
  --error: #a00; --warning: #740; --note: #247; --fine: #063; }
  body { max-width: none; padding: 0; font-size: 10pt; } details > p { display: block; }
  h2, h3, caption { break-after: avoid; } tr { break-inside: avoid; } p, li { orphans: 3; widows: 3; } }
"""
