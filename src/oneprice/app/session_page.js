// Draws the charts of a session report from the numbers in #samples. A symbol is drawn when it comes near the window, so
// that a page of many symbols opens at once; printing draws them all.
"use strict";
const samples = JSON.parse(document.getElementById("samples").textContent);
const times = Array.from({ length: samples.buckets }, (_, k) => samples.start_ms + (k + 0.5) * samples.bucket_ms);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const faint = (name, share) => {
  const c = colour(name);
  return `rgba(${[1, 3, 5].map((at) => parseInt(c.slice(at, at + 2), 16)).join(",")},${share})`;
};
const CONFIG = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

// The rows of a symbol's figure, from the top: how tall each is, what its axis is called, which traces it holds.
function rowsOf(s) {
  const line = (y, name, tint, more = {}) => ({
    type: "scatter", mode: "lines", x: times, y, name, line: { color: colour(tint), width: 1.4 }, ...more,
  });
  const edge = (y, more = {}) => ({
    type: "scatter", mode: "lines", x: times, y, line: { width: 0 }, hoverinfo: "skip", showlegend: false, ...more,
  });
  const band = (low, high, name, tint, share) => [
    edge(low), edge(high, { fill: "tonexty", fillcolor: faint(tint, share), name }),
  ];
  const bars = (y, name, tint) => ({
    type: "bar", x: times, y, name, width: samples.bucket_ms, marker: { color: colour(tint), line: { width: 0 } },
  });
  const prints = (side, name, tint, symbol) => ({
    type: "scatter", mode: "markers", x: s.trades[side].at_ms, y: s.trades[side].price, name,
    marker: { color: colour(tint), size: 5, symbol, opacity: 0.75 },
  });
  const down = (values) => values.map((value) => (value === null ? null : -value));
  const rate = (values) => values.map((value) => (value * 1000) / samples.bucket_ms);
  const rows = [
    {
      weight: 3.0, title: `price, ${s.quote}`, traces: [
        ...band(s.mid_low, s.mid_high, "mid, lowest to highest", "accent", 0.22), line(s.mid, "mid", "accent"),
        prints(0, "taker bought", "buy", "triangle-up"), prints(1, "taker sold", "sell", "triangle-down"),
      ],
    },
    {
      weight: 1.3, title: `traded, ${s.quote}`, traces: [
        bars(s.bought, "bought", "buy"), bars(down(s.sold), "sold", "sell"),
      ], axis: { tickformat: "~s", zeroline: true },
    },
    {
      weight: 1.8, title: "spread, bps", traces: [
        line(s.spread_high, "highest", "other", { line: { color: faint("other", 0.75), width: 0.8 } }),
        edge(s.spread_p50), edge(s.spread_p95, { fill: "tonexty", fillcolor: faint("accent", 0.22) }),
        line(s.spread_p95, "p95", "accent", { line: { color: faint("accent", 0.6), width: 0.8 } }),
        line(s.spread_p50, "p50", "accent"),
      ], axis: { rangemode: "tozero" },
    },
    {
      weight: 1.9, title: `depth, ${s.quote}`, traces: samples.depth_bps.flatMap((bps, width) =>
        [["bids", "buy", s.depth[0][width]], ["asks", "sell", down(s.depth[1][width])]].map(([side, tint, y]) =>
          line(y, `${side} ${bps} bps`, tint, {
            fill: "tozeroy", fillcolor: faint(tint, 0.16), line: { color: faint(tint, 0.9 - 0.2 * width), width: 1 },
          }))),
      axis: { tickformat: "~s", zeroline: true },
    },
    {
      weight: 1.2, title: "messages / s", traces: ["depth", "quotes", "trades", "other"].map((kind, place) =>
        line(rate(s.messages[place]), kind, ["accent", "quote", "buy", "other"][place], {
          stackgroup: "one", fillcolor: faint(["accent", "quote", "buy", "other"][place], 0.45), line: { width: 0 },
        })).filter((_, place) => s.messages[place].some((count) => count > 0)),
      axis: { rangemode: "tozero" },
    },
  ];
  if (s.latency_count > 0) {
    rows.push({
      weight: 1.4, title: "latency, ms", traces: [
        line(s.latency_p99, "p99", "warn", { line: { color: colour("warn"), width: 0.9 } }),
        line(s.latency_p50, "p50", "accent"),
      ], axis: { type: "log", dtick: 1 },
    });
  }
  if (s.has_funding) {
    rows.push({
      weight: 1.6, title: "mark − index, bps", traces: [
        ...band(s.basis_low, s.basis_high, "lowest to highest", "quote", 0.25), line(s.basis, "mark − index", "quote"),
      ], axis: { zeroline: true },
    });
    rows.push({
      weight: 0.9, title: "funding, bps", traces: [
        line(s.funding_bps, "funding rate an interval", "warn", { line: { color: colour("warn"), width: 1.4, shape: "hv" } }),
      ],
    });
  }
  return rows;
}

function axisStyle(more) {
  return {
    gridcolor: colour("grid"), linecolor: colour("line"), zeroline: false, zerolinecolor: colour("line"),
    tickfont: { size: 10.5, color: colour("muted") }, ...more,
  };
}

function drawSeries(element, s) {
  const rows = rowsOf(s);
  const [between, total] = [0.022, rows.reduce((sum, row) => sum + row.weight, 0)];
  const free = 1 - between * (rows.length - 1);
  const layout = {
    height: 66 * total + 70, margin: { l: 66, r: 14, t: 16, b: 30 }, paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("text"), family: "inherit", size: 11.5 }, showlegend: false,
    hovermode: "x unified", hoversubplots: "axis", barmode: "overlay", bargap: 0, annotations: [], dragmode: "zoom",
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { size: 11 }, namelength: -1 },
    xaxis: axisStyle({
      type: "date", range: [samples.first_ms, samples.last_ms], anchor: `y${rows.length}`, showgrid: true,
      hoverformat: "%H:%M:%S.%3f", showspikes: true, spikemode: "across", spikethickness: 1, spikedash: "solid",
      spikecolor: colour("muted"),
    }),
    shapes: s.gaps.map(([from, until]) => ({
      type: "rect", xref: "x", yref: "paper", x0: from, x1: until, y0: 0, y1: 1, layer: "below",
      fillcolor: faint("bad", 0.16), line: { color: faint("bad", 0.7), width: 1 },
    })),
  };
  let top = 1;
  const traces = [];
  rows.forEach((row, place) => {
    const bottom = top - (free * row.weight) / total;
    const number = place === 0 ? "" : String(place + 1);
    layout["yaxis" + number] = axisStyle({ domain: [Math.max(0, bottom), top], nticks: 5, ...row.axis });
    layout.annotations.push({
      text: `<b>${row.title}</b>`, xref: "paper", yref: "paper", x: 0.004, y: top, xanchor: "left", yanchor: "top",
      showarrow: false, font: { size: 11, color: colour("muted") }, bgcolor: faint("card", 0.7), borderpad: 1,
    });
    for (const trace of row.traces) traces.push({ ...trace, xaxis: "x", yaxis: "y" + number });
    top = bottom - between;
  });
  return Plotly.react(element, traces, layout, CONFIG);
}

function drawLatencies(element, s) {
  const middle = s.latency_counts.map((_, k) =>
    s.latency_edges[k] > 0 ? Math.sqrt(s.latency_edges[k] * s.latency_edges[k + 1]) : s.latency_edges[k + 1] * 0.92);
  const width = s.latency_counts.map((_, k) =>
    s.latency_edges[k] > 0 ? s.latency_edges[k + 1] - s.latency_edges[k] : s.latency_edges[k + 1] * 0.15);
  const text = s.latency_counts.map((count, k) =>
    `${s.latency_edges[k] > 0 ? s.latency_edges[k].toPrecision(3) + " to " : "below "}` +
    `${s.latency_edges[k + 1].toPrecision(3)} ms: ${count.toLocaleString("en")}`);
  const mark = (ms, name, tint) => [
    { type: "line", xref: "x", yref: "paper", x0: ms, x1: ms, y0: 0, y1: 1, line: { color: colour(tint), width: 1.3, dash: "dot" } },
    {
      text: `${name} ${ms.toPrecision(3)} ms`, xref: "x", yref: "paper", x: Math.log10(ms), y: 1.0, xanchor: name === "p50" ? "right" : "left", yanchor: "bottom",
      showarrow: false, font: { size: 10.5, color: colour(tint) },
    },
  ];
  const marks = [[s.latency_p50_ms, "p50", "accent"], [s.latency_p99_ms, "p99", "warn"]].filter(([ms]) => ms > 0).map((one) => mark(...one));
  return Plotly.react(element, [{
    type: "bar", x: middle, y: s.latency_counts, width, hovertext: text, hoverinfo: "text",
    marker: { color: faint("accent", 0.75), line: { width: 0 } },
  }], {
    height: 230, margin: { l: 48, r: 12, t: 22, b: 36 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("text"), family: "inherit", size: 11 }, bargap: 0,
    xaxis: axisStyle({ type: "log", title: { text: "ms", standoff: 4 }, dtick: 1 }), yaxis: axisStyle({ nticks: 4, tickformat: "~s" }),
    shapes: marks.map(([shape]) => shape), annotations: marks.map(([, note]) => note),
  }, { ...CONFIG, displayModeBar: false });
}

const sections = [...document.querySelectorAll("section[data-symbol]")];
const drawn = new Set();
function draw(section) {
  drawn.add(section);
  const s = samples.symbols[Number(section.dataset.symbol)];
  drawSeries(section.querySelector(".series"), s);
  const latencies = section.querySelector(".latencies");
  if (latencies) drawLatencies(latencies, s);
}
const near = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting && !drawn.has(entry.target)) draw(entry.target);
  }
}, { rootMargin: "900px" });
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const here = new IntersectionObserver((entries) => {
  for (const entry of entries) links.get(entry.target.id)?.classList.toggle("here", entry.isIntersecting);
}, { rootMargin: "-35% 0px -60% 0px" });
for (const section of sections) {
  near.observe(section);
  here.observe(section);
}
window.addEventListener("beforeprint", () => sections.filter((section) => !drawn.has(section)).forEach(draw));

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  drawn.forEach(draw);
}
const dark = window.matchMedia("(prefers-color-scheme: dark)");
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
document.getElementById("theme").addEventListener("click", () =>
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
