"""Colours of plots, after Okabe and Ito; dashes say the same once more."""

PLOT_STYLE = """
:root { --c0: #0067a8; --c1: #b84a00; --c2: #007a58; --c3: #a0487a; --c4: #8a6100; --c5: #333f4c; }
@media (prefers-color-scheme: dark) { :root { --c0: #63b3ed; --c1: #ff9955; --c2: #4fd1a5; --c3: #f0a5cc;
  --c4: #f2c14e; --c5: #d5dbe1; } }
@media print { :root { --c0: #0067a8; --c1: #b84a00; --c2: #007a58; --c3: #a0487a; --c4: #8a6100; --c5: #333f4c; } }
.c0 { --own: var(--c0); } .c1 { --own: var(--c1); } .c2 { --own: var(--c2); } .c3 { --own: var(--c3); }
.c4 { --own: var(--c4); } .c5 { --own: var(--c5); }
.plot .line { fill: none; stroke: var(--own); stroke-width: 2; } .plot .bar { stroke: var(--own); stroke-width: 1.2; }
.plot .band { fill: var(--own); opacity: .18; } .plot circle { fill: var(--own); }
.plot .grid { stroke: var(--line); stroke-width: .7; fill: none; }
.plot .reference { stroke: var(--quiet); stroke-dasharray: 2 3; fill: none; }
.plot { max-width: 26rem; } .plot .key { width: 1.6rem; height: .6rem; display: inline-block; margin-right: .4rem; }
.legend { list-style: none; padding: 0 0 0 .3rem; margin: .2rem 0 0; font-size: .875rem; }
table { font-size: .9375rem; }
@media print { .wide { overflow: visible; } .wide table { font-size: 8pt; } .wide th, .wide td { padding: .2rem; }
  .plot .grid { stroke: #ccc; } .charts { grid-template-columns: repeat(3, 1fr); gap: .5rem; break-inside: avoid; } }
.charts { align-items: start; } h3 { margin-top: 1rem; } article h3 { margin-top: 0; }
"""
