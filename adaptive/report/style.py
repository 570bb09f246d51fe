"""The page's style: quiet, light and dark, for a phone and for paper.

The chart colours are those of Okabe and Ito, which colour-blind people tell apart; shape, dash
and label say the same again.
"""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark;
  --paper: #fbfbf9; --card: #ffffff; --ink: #1d2227; --soft: #5b646d; --rule: #e2e4e1;
  --grid: #eceeeb; --blue: #0072b2; --red: #c24a00; --green: #00795a; --purple: #9d4f83;
  --grey: #7b848c; --fill: #dfe7ee; --good: #e3f2ec; --bad: #fbe9df; --open: #eeeff0; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14171a; --card: #1b1f23; --ink: #e6e8ea; --soft: #a3acb4; --rule: #30363c;
  --grid: #272c31; --blue: #56b4e9; --red: #f08a4b; --green: #3ec79b; --purple: #dd95c2;
  --grey: #8d969e; --fill: #2b3a48; --good: #173329; --bad: #3c2617; --open: #2a2f34; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: break-word; }
main, header, footer { max-width: 62rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 3rem; } footer { padding-bottom: 4rem; color: var(--soft); }
.question { margin: 0; color: var(--soft); font-size: 1rem; letter-spacing: .01em; }
h1 { margin: .1rem 0 .6rem; font-size: clamp(1.9rem, 5vw, 2.7rem); line-height: 1.15;
  font-weight: 650; letter-spacing: -.02em; }
h2 { margin: 0 0 .4rem; font-size: 1.3rem; font-weight: 620; letter-spacing: -.01em; }
h3 { margin: 1.8rem 0 .2rem; font-size: 1rem; font-weight: 620; }
p { margin: .4rem 0 .8rem; max-width: 46rem; } .lead { font-size: 1.1rem; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
section { margin: 3rem 0; padding-top: 1.6rem; border-top: 1px solid var(--rule); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem;
  margin: 1.8rem 0 0; padding: 0; list-style: none; }
.tiles li { background: var(--card); border: 1px solid var(--rule); border-radius: .7rem;
  padding: .9rem 1.1rem; }
.tiles b { display: block; font-size: 1.65rem; font-weight: 620; letter-spacing: -.02em;
  line-height: 1.3; } .tiles span { font-size: .9rem; display: block; line-height: 1.4; }
.tiles small { color: var(--soft); font-size: .8rem; display: block; margin-top: .25rem; }
figure { margin: 1rem 0 0; } figcaption { margin-top: .5rem; max-width: 46rem; }
.wide { overflow-x: auto; -webkit-overflow-scrolling: touch; }
.wide:focus-visible, summary:focus-visible { outline: 2px solid var(--blue); outline-offset: 3px; }
.wide > svg { min-width: 34rem; }
svg { display: block; width: 100%; height: auto; }
svg text { font-size: 12px; fill: var(--ink); font-family: inherit; }
svg .tick { fill: var(--soft); } svg .strong { font-weight: 650; }
svg .name { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
.grid { stroke: var(--grid); } .axis { stroke: var(--grey); }
.front { fill: none; stroke: var(--blue); stroke-width: 1.2; opacity: .55; }
.mix { fill: none; stroke: var(--grey); stroke-width: 1.5; stroke-dasharray: 2 4; }
.cascade { fill: none; stroke: var(--green); stroke-width: 1.6; stroke-dasharray: 7 4; }
.cascade-dot { fill: var(--green); }
.fixed { fill: var(--blue); stroke: var(--blue); stroke-width: 1.6; }
.hollow { fill: var(--paper); } .oracle { fill: var(--purple); } .policy { fill: var(--red); }
.span { stroke: var(--blue); stroke-width: 1; opacity: .3; }
.span.strong { stroke: var(--red); stroke-width: 2; opacity: .8; }
.count { fill: var(--fill); } .diagonal { stroke: var(--grey); stroke-dasharray: 3 3; }
.kept { fill: none; stroke: var(--red); stroke-width: 1.4; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.3rem; margin: .6rem 0 0; padding: 0;
  list-style: none; font-size: .86rem; color: var(--soft); }
.legend svg { display: inline-block; width: 28px; height: 12px; margin-right: .45rem;
  vertical-align: -1px; }
.multiples { display: grid; grid-template-columns: repeat(auto-fill, minmax(12.5rem, 1fr));
  gap: 1.6rem 1.4rem; } .multiples figure { margin: 0; min-width: 0; }
.multiples figcaption b { color: var(--ink); font-weight: 620; display: block; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; margin: .3rem 0 .8rem; }
th, td { padding: .42rem .55rem .42rem 0; text-align: right; border-bottom: 1px solid var(--rule);
  white-space: nowrap; vertical-align: baseline; }
th { font-weight: 600; } thead th { color: var(--soft); font-weight: 500; font-size: .84rem;
  vertical-align: bottom; }
th:first-child, td:first-child, .left { text-align: left; }
td small, th small { font-weight: 400; display: block; color: var(--soft); font-size: .74rem; }
tr.this th, tr.this td { background: var(--open);
  background: color-mix(in srgb, var(--red) 9%, transparent); font-weight: 600; }
.bar { display: block; min-width: 7rem; height: .55rem; margin-top: .2rem; border-radius: .2rem;
  background: var(--grid); overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--blue); }
td.heat { background: color-mix(in srgb, var(--blue) var(--share), transparent); }
details { margin: .9rem 0; } summary { cursor: pointer; color: var(--soft); font-size: .9rem; }
.findings { list-style: none; margin: 1rem 0 0; padding: 0; }
.findings li { display: grid; grid-template-columns: 8.2rem 1fr; gap: .2rem 1rem;
  padding: .7rem 0; border-bottom: 1px solid var(--rule); }
.findings p { margin: 0; max-width: none; }
.badge { justify-self: start; align-self: start; padding: .12rem .65rem; border-radius: 1rem;
  font-size: .82rem; font-weight: 600; white-space: nowrap; background: var(--open); }
.badge.yes { background: var(--good); color: var(--green); }
.badge.no { background: var(--bad); color: var(--red); }
blockquote { margin: .8rem 0; padding: .9rem 1.2rem; background: var(--card);
  border: 1px solid var(--rule); border-left: 4px solid var(--green); border-radius: .4rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.25rem, 1fr));
  gap: 1rem .9rem; margin: .8rem 0 0; padding: 0; list-style: none; }
.gallery li { min-width: 0; font-size: .8rem; line-height: 1.35; }
.gallery img { display: block; width: 100%; aspect-ratio: 1; object-fit: cover;
  border-radius: .45rem; margin-bottom: .35rem; background: var(--grid); }
.gallery span { color: var(--soft); display: block; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; min-width: 0; }
pre { overflow-x: auto; padding: .8rem 1rem; background: var(--card); border-radius: .4rem;
  border: 1px solid var(--rule); font-size: .85rem; white-space: pre-wrap; }
@media (max-width: 34rem) { header { padding-top: 1.6rem; } section { margin: 2rem 0; }
  .findings li { grid-template-columns: 1fr; } dl { grid-template-columns: 1fr; }
  dd { margin-bottom: .4rem; } }
@media print { body { background: none; } section { break-inside: avoid-page; } }
"""
