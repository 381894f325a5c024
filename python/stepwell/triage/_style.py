"""The style of the HTML report, scoped to its own class: it leaves a notebook or dashboard around it alone."""

_LIGHT = """
--page:#f5f6f8;--card:#fff;--ink:#1b2330;--soft:#586374;--faint:#8691a1;--line:#e3e7ec;--track:#eceff3;
--accent:#3159d8;--gold:#a8b2c1;--good:#0e8a6c;--warn:#b97309;--bad:#cc3d4e;--on:#fff;
--shade:0 1px 2px rgba(20,30,50,.06)
"""
_DARK = """
--page:#0f141b;--card:#171e28;--ink:#e7ebf1;--soft:#a3aebd;--faint:#76828f;--line:#29323f;--track:#222b37;
--accent:#7da2ff;--gold:#5b6879;--good:#3cc497;--warn:#e3ad47;--bad:#ff7683;--on:#0b1016;--shade:none
"""

# `LIGHT` and `DARK` stand for the variables above; a theme that a page names wins over the wish of the system.
_RULES = """
.sw-report{LIGHT;color:var(--ink);font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",
  "Liberation Sans",sans-serif;text-align:left;font-variant-numeric:tabular-nums;
  -webkit-font-smoothing:antialiased}
@media (prefers-color-scheme:dark){.sw-report{DARK}}
[data-jp-theme-light="true"] .sw-report,.vscode-light .sw-report,[data-theme="light"] .sw-report{LIGHT}
[data-jp-theme-light="false"] .sw-report,.vscode-dark .sw-report,[data-theme="dark"] .sw-report{DARK}
.sw-report *{box-sizing:border-box}
.sw-report .wrap{max-width:1120px;margin:0 auto;padding:36px 24px 48px}
.sw-report.inline .wrap{padding:14px;background:var(--page);border:1px solid var(--line);border-radius:14px;
  margin:4px 0}
.sw-report header{display:flex;align-items:center;gap:14px;margin:0 0 22px}
.sw-report header svg{flex:none}
.sw-report h1{font-size:24px;line-height:1.2;font-weight:680;letter-spacing:-.015em;margin:0;
  overflow-wrap:anywhere}
.sw-report .about{color:var(--soft);margin:3px 0 0;display:flex;flex-wrap:wrap;gap:2px 14px}
.sw-report .about b{font-weight:600;color:var(--ink)}
.sw-report h2{font-size:15px;font-weight:650;letter-spacing:-.005em;margin:0 0 2px}
.sw-report .why{color:var(--soft);margin:0 0 14px;font-size:13px;max-width:110ch}
.sw-report .tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(138px,1fr));gap:12px;
  margin-bottom:14px}
.sw-report .tile,.sw-report section{background:var(--card);border:1px solid var(--line);border-radius:12px;
  box-shadow:var(--shade)}
.sw-report.inline .tiles{grid-template-columns:repeat(3,minmax(0,1fr))}
.sw-report .tile{padding:13px 16px 12px}
.sw-report .tile .k{color:var(--soft);font-size:12.5px}
.sw-report .tile .v{font-size:26px;line-height:1.25;font-weight:660;letter-spacing:-.02em}
.sw-report .tile .n{color:var(--faint);font-size:12px}
.sw-report section{padding:18px 20px 18px;margin:0 0 14px;min-width:0}
.sw-report .pair{display:grid;align-items:stretch;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),
  1fr));gap:0 14px}
.sw-report .split{display:flex;margin-top:12px;height:14px;border-radius:7px;overflow:hidden;gap:2px;
  background:var(--card)}
.sw-report .split i{display:block;min-width:3px}
.sw-report .legend{display:flex;flex-wrap:wrap;gap:4px 20px;margin-top:10px;color:var(--soft);font-size:13px}
.sw-report .legend b{color:var(--ink);font-weight:600}
.sw-report .dot{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:7px;
  vertical-align:-1px}
.sw-report .ok{background:var(--good)}
.sw-report .review{background:var(--warn)}
.sw-report .error{background:var(--bad)}
.sw-report .given{background:var(--accent)}
.sw-report .gold{background:var(--gold)}
.sw-report svg{display:block;max-width:100%;height:auto;font-family:inherit}
.sw-report svg text{fill:var(--soft);font-size:11px}
.sw-report svg .axis{stroke:var(--line);stroke-width:1}
.sw-report svg .ideal{stroke:var(--faint);stroke-width:1.2;stroke-dasharray:4 4;fill:none}
.sw-report svg .curve{stroke:var(--accent);stroke-width:2.4;fill:none;stroke-linejoin:round;stroke-linecap:round}
.sw-report svg .area{fill:var(--accent);opacity:.1}
.sw-report svg .mark{fill:var(--card);stroke:var(--accent);stroke-width:2}
.sw-report svg .fill{fill:var(--accent)}
.sw-report svg .quiet{fill:var(--track)}
.sw-report svg .hit{fill:var(--good)}
.sw-report svg .miss{fill:var(--bad)}
.sw-report svg text.in{text-anchor:middle;fill:var(--ink);font-size:11.5px}
.sw-report svg text.on{fill:var(--on)}
.sw-report svg text.strong{fill:var(--ink);font-weight:600;paint-order:stroke;stroke:var(--card);stroke-width:4px;
  stroke-linejoin:round}
.sw-report .scroll{overflow:auto;max-height:560px;margin:0 -20px -18px;padding:0 20px 6px}
.sw-report table{border-collapse:collapse;width:100%;margin:0;font-size:13px;border:0}
.sw-report th,.sw-report td{text-align:right;padding:6px 8px;border:0;border-bottom:1px solid var(--line);
  white-space:nowrap;background:var(--card);color:var(--ink)}
.sw-report th{color:var(--soft);font-weight:550;font-size:12px;position:sticky;top:0;z-index:1}
.sw-report tr:last-child td{border-bottom:0}
.sw-report th.l,.sw-report td.l{text-align:left;padding-left:0;white-space:normal;overflow-wrap:anywhere;
  font-weight:500;min-width:128px}
.sw-report td.say{text-align:left;white-space:normal;overflow-wrap:anywhere;color:var(--soft);min-width:220px}
.sw-report .meter{display:inline-block;width:72px;height:7px;border-radius:4px;background:var(--track);
  margin-left:10px;vertical-align:1px;overflow:hidden}
.sw-report .pair .meter{width:44px}
.sw-report .pair th,.sw-report .pair td{padding-left:5px;padding-right:5px}
.sw-report .pair td.l,.sw-report .pair th.l{padding-left:0;min-width:104px}
.sw-report .meter i{display:block;height:100%;border-radius:4px}
.sw-report .spread{columns:3 280px;column-gap:30px}
.sw-report .spread div.r{break-inside:avoid;display:grid;grid-template-columns:minmax(0,1fr) 92px 46px;gap:10px;
  align-items:center;padding:2.5px 0;font-size:12.5px}
.sw-report .spread .name{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.sw-report .spread .num{text-align:right;color:var(--soft)}
.sw-report .bars i{display:block;height:5px;border-radius:3px;margin:1.5px 0;min-width:1px}
.sw-report .mix{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:12px}
.sw-report .mix article{border:1px solid var(--line);border-radius:10px;padding:12px 14px;min-width:0}
.sw-report .mix .from{font-weight:600;overflow-wrap:anywhere}
.sw-report .mix .to{color:var(--bad);font-weight:600;overflow-wrap:anywhere}
.sw-report .mix .n{color:var(--soft);font-size:12.5px;margin-bottom:6px}
.sw-report .mix q{display:block;quotes:none;color:var(--soft);font-size:13px;border-left:3px solid var(--line);
  padding:1px 0 1px 10px;margin-top:7px;overflow-wrap:anywhere}
.sw-report .tag{display:inline-block;border-radius:5px;padding:0 7px;font-size:12px;font-weight:600;
  color:var(--on)}
.sw-report .note{color:var(--soft);font-size:13px;margin:10px 0 0}
.sw-report footer{color:var(--faint);font-size:12px;margin-top:18px}
@media (max-width:560px){.sw-report .wrap{padding:20px 12px}.sw-report section{padding:14px}.sw-report h1{
  font-size:20px}.sw-report .scroll{margin:0 -14px -14px;padding:0 14px 6px}.sw-report .meter{display:none}}
@media print{.sw-report .scroll{max-height:none;overflow:visible}.sw-report section,.sw-report .tile{
  break-inside:avoid;box-shadow:none}}
"""

CSS = _RULES.replace("LIGHT", _LIGHT.replace("\n", "")).replace("DARK", _DARK.replace("\n", ""))
