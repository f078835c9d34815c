"""The look of the HTML report: quiet, readable on a phone, light and dark."""

STYLE = """
:root{--paper:#fbfbfa;--card:#fff;--ink:#1d2430;--soft:#5d6675;--line:#e3e5e9;--baseline:#a3acba;
--candidate:#2f6fdb;--pass:#1b7a43;--fail:#b3261e;--open:#8a5a00;--pass-bg:#e9f6ee;--fail-bg:#fdeceb;
--open-bg:#fdf3dd}
@media (prefers-color-scheme:dark){:root{--paper:#14171c;--card:#1b1f26;--ink:#e7eaf0;--soft:#9aa4b4;
--line:#2c323c;--baseline:#6d7787;--candidate:#6ea2ff;--pass:#6fd39a;--fail:#ff8f86;--open:#f0c064;
--pass-bg:#15291e;--fail-bg:#321b1b;--open-bg:#2e2614}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
font-variant-numeric:tabular-nums}
main{max-width:1040px;margin:0 auto;padding:40px 24px 80px}
section{margin-top:44px}
h1{font-size:2rem;line-height:1.2;margin:0;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:0 0 12px}
p{margin:0 0 8px}
.kicker{color:var(--soft);font-size:.85rem;letter-spacing:.04em;margin:0 0 4px}
.purpose{color:var(--soft);margin:8px 0 0;max-width:65ch}
.note{color:var(--soft);font-size:.875rem;margin:10px 0 0;max-width:75ch}
.verdict{margin-top:24px;padding:20px 24px;border-radius:12px}
.verdict strong{display:block;font-size:1.7rem;line-height:1.2}
.verdict ul{margin:8px 0 0;padding-left:1.2em;color:var(--ink)}
.verdict.pass{background:var(--pass-bg)}.verdict.fail{background:var(--fail-bg)}
.verdict.open{background:var(--open-bg)}
.pass{color:var(--pass)}.fail{color:var(--fail)}.open{color:var(--open)}
.warnings{margin:0 0 28px;padding:14px 24px;border-radius:12px;background:var(--open-bg)}
header~.warnings{margin-top:28px}
.warnings p{margin:2px 0}.warnings b{color:var(--open)}
.unverified{background:var(--fail-bg)}.unverified b{color:var(--fail)}.unverified ul{margin:0;padding-left:1.2em}
.doubts{list-style:none;margin:8px 0 0;padding:0;color:var(--open);font-size:.875rem;max-width:75ch}
.tile>small.doubt{color:var(--open)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(210px,1fr));gap:14px}
.tile,figure,article{background:var(--card);border:1px solid var(--line);border-radius:12px;
padding:16px 18px;margin:0}
.tile>span,.tile>small{display:block;color:var(--soft);font-size:.875rem}
.tile b{display:block;font-size:1.7rem;line-height:1.3;font-weight:650}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,380px),1fr));gap:14px;
margin-bottom:18px}.plots>:only-child{max-width:640px}
figcaption{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:.9rem;font-weight:600;margin-bottom:10px}
.key{font-weight:400;color:var(--soft);white-space:nowrap}
.key::before{content:"";display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:5px}
.key.baseline::before{background:var(--baseline)}.key.candidate::before{background:var(--candidate)}
svg{display:block;width:100%;height:auto;font-size:12.5px;overflow:visible}
svg text{fill:var(--ink)}svg .axis{fill:var(--soft);font-size:11px}svg .figure{font-size:12px}
svg .baseline{fill:var(--baseline)}svg .candidate{fill:var(--candidate)}
svg path{fill:none}svg .grid{stroke:var(--line)}svg .zero{stroke:var(--soft)}
svg .whisker{stroke:var(--ink);stroke-width:1.3;opacity:.75}
svg .arrow{stroke:var(--soft);stroke-dasharray:3 4}
table{width:100%;border-collapse:collapse;font-size:.9rem}
th{text-align:left;font-weight:500;color:var(--soft);padding:6px 14px 6px 0;vertical-align:bottom}
td{padding:8px 14px 8px 0;border-top:1px solid var(--line);vertical-align:top;
overflow-wrap:break-word}
td:first-child{white-space:nowrap}
.badge{display:inline-block;font-size:.75rem;font-weight:650;padding:2px 8px;border-radius:6px;
white-space:nowrap}.badge.pass{background:var(--pass-bg)}.badge.fail{background:var(--fail-bg)}
.badge.open{background:var(--open-bg)}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(230px,1fr));gap:14px;margin-top:14px}
.pictures{display:flex;gap:8px;margin-bottom:10px}
.pictures img{width:calc(50% - 4px);aspect-ratio:1;object-fit:cover;border-radius:8px;
image-rendering:pixelated}
article p{font-size:.875rem;margin:0}article p.answer{margin-top:4px}
.answer{display:flex;gap:8px;align-items:baseline}
.role{flex:none;width:4.8em;color:var(--soft)}
.mark{font-weight:700;margin-right:5px}
article small{color:var(--soft)}
.interval{white-space:nowrap}td .interval{color:var(--soft)}
pre{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:16px 18px;overflow-x:auto;
font-size:.85rem;margin:0}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;font-size:.9rem;margin:0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
@media (max-width:760px){
td:first-child{white-space:normal}main{padding:24px 16px 56px}section{margin-top:34px}
thead{position:absolute;left:-9999px}
table,tbody,tr,td{display:block}
tr{border-top:1px solid var(--line);padding:10px 0}
td{border:0;padding:2px 0;display:flex;gap:12px;justify-content:space-between;text-align:right}
td::before{content:attr(data-label);color:var(--soft);flex:none;text-align:left}
td.empty{display:none}

td:first-child{justify-content:flex-start;font-weight:600}td:first-child::before{content:none}
.tiles{grid-template-columns:repeat(2,minmax(0,1fr));gap:10px}.tile{padding:12px 14px}.tile b{font-size:1.3rem}
.tile,article{overflow-wrap:anywhere}
.cards{grid-template-columns:repeat(2,minmax(0,1fr));gap:10px}article{padding:12px}
.verdict{padding:16px 18px}}
@media print{body{background:#fff}figure,article,.tile,tr{break-inside:avoid}}
"""
