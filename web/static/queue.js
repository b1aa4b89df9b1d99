// The page of queue and workers: refreshes the state and draws the charts with uPlot, a global that its script defines.

import { call, fetchPage } from "./api.js";

const STATE_MS = 3000; // between two refreshes of the state
const CHARTS_MS = 15000; // between two refreshes of the charts
const COLOURS = { main: "--accent", other: "--chart-2", third: "--chart-3", fourth: "--chart-4" };

/**
 * @typedef {object} Line
 * @property {string} label
 * @property {keyof typeof COLOURS} colour
 * @property {(history: any) => (number | null)[]} values
 */

/** @type {Record<string, {lines: Line[], unit?: string, top?: number, stacked?: boolean}>} */
const CHARTS = {
  requests: {
    stacked: true,
    lines: [
      { label: "from memory", colour: "main", values: (h) => h.memory },
      { label: "from a similar picture", colour: "fourth", values: (h) => h.near },
      { label: "joined", colour: "third", values: (h) => h.joined },
      { label: "painted", colour: "other", values: (h) => h.painted },
    ],
  },
  throughput: { lines: [{ label: "per minute", colour: "other", values: (h) => h.pictures_per_minute }] },
  hits: { unit: " %", top: 100, lines: [{ label: "from memory", colour: "main", values: (h) => percent(h.hit_rate) }] },
  batch_size: { lines: [{ label: "mean batch size", colour: "third", values: (h) => h.batch_size }] },
  energy: {
    unit: " Wh",
    stacked: true,
    lines: [
      { label: "saved", colour: "main", values: (h) => h.watt_hours_saved },
      { label: "spent", colour: "other", values: (h) => h.watt_hours_spent },
    ],
  },
};

/** @param {(number | null)[]} shares */
const percent = (shares) => shares.map((share) => (share === null ? null : 100 * share));

/** @param {HTMLElement} part */
export function setUp(part) {
  setTimeout(refresh, STATE_MS, part);
  const spans = part.querySelector("[data-spans]");
  if (!(spans instanceof HTMLElement)) return;
  spans.hidden = false;
  let span = "1h";
  const draw = async () => {
    const history = document.hidden ? null : await call("GET", `${part.dataset.history}?span=${span}`).catch(() => null);
    if (history?.span === span) part.querySelectorAll("[data-chart]").forEach((figure) => drawChart(/** @type {HTMLElement} */ (figure), history));
  };
  spans.addEventListener("click", (event) => {
    if (!(event.target instanceof HTMLButtonElement)) return;
    span = event.target.value;
    spans.querySelectorAll("button").forEach((button) => button.setAttribute("aria-pressed", String(button.value === span)));
    draw();
  });
  addEventListener("DOMContentLoaded", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  setInterval(draw, CHARTS_MS);
}

/**
 * Replace the state with the server's current one, unless the focus is in it.
 * @param {HTMLElement} part
 */
async function refresh(part) {
  const fetched = document.hidden ? null : await fetchPage(part.dataset.queue ?? "").catch(() => null);
  const fresh = fetched?.querySelector("[data-queue-state]");
  const state = part.querySelector("[data-queue-state]");
  if (fresh && state && fresh.innerHTML !== state.innerHTML && !state.contains(document.activeElement)) {
    state.replaceWith(document.adoptNode(fresh));
  }
  setTimeout(refresh, STATE_MS, part);
}

/**
 * Draw the chart of one figure.
 * @param {HTMLElement} figure
 * @param {any} history
 */
function drawChart(figure, history) {
  const { lines, unit = "", top, stacked = false } = CHARTS[figure.dataset.chart ?? ""];
  const container = /** @type {HTMLElement} */ (figure.querySelector("[data-plot]"));
  const values = lines.map((line) => line.values(history));
  const width = container.clientWidth;
  const cssValue = (/** @type {string} */ name) => getComputedStyle(figure).getPropertyValue(name).trim();
  const scale = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
  const axis = { stroke: cssValue("--quiet"), grid: { stroke: cssValue("--line"), width: 1 }, ticks: { show: false }, font: `${12 * scale}px ${cssValue("--text")}` };
  const shown = stacked ? stack(values) : values;
  // The tallest is drawn first, so that the others appear in front of it.
  const series = lines.map((line, number) => seriesOptions(cssValue(COLOURS[line.colour]), stacked, shown[number])).reverse();
  const { uPlot } = /** @type {any} */ (window);
  container.replaceChildren();
  const plot = new uPlot(
    {
      width,
      height: 170 * scale,
      padding: [10, 28 * scale, 0, 0], // room for half of the last time label
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: { x: { time: true, range: (/** @type {any} */ _, /** @type {number} */ first, /** @type {number} */ last) => [first - history.seconds / 2, last + history.seconds / 2] }, y: { range: (/** @type {any} */ _, /** @type {number} */ low, /** @type {number} */ high) => [0, top ?? (high ? high * 1.15 : 1)] } },
      axes: [
        { ...axis, space: 64 * scale, size: 28 * scale, gap: 6 * scale, grid: { show: false }, values: times },
        { ...axis, size: 44 * scale, space: 34 * scale, gap: 6 * scale, values: (/** @type {any} */ _, /** @type {number[]} */ ticks) => ticks.map(brief) },
      ],
      series: [{}, ...series],
      hooks: { setCursor: [(/** @type {any} */ u) => writeLegend(figure, lines, values, history, unit, u.cursor.idx)] },
    },
    [history.times, ...shown.toReversed()],
    container,
  );
  watchSize(container, plot);
  writeLegend(figure, lines, values, history, unit, null);
}

/**
 * @param {string} colour
 * @param {boolean} bars
 * @param {(number | null)[]} values
 */
function seriesOptions(colour, bars, values) {
  const { uPlot } = /** @type {any} */ (window);
  if (bars) return { stroke: colour, fill: colour, width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.72, 18], radius: 0.2 }) };
  const isSparse = values.filter((value) => value !== null).length < 3; // too few points for a line
  return { stroke: colour, fill: `color-mix(in srgb, ${colour} 14%, transparent)`, width: 2, spanGaps: true, points: { show: isSparse, size: 6, fill: colour } };
}

/**
 * Stack the lines: add to each the sum of those before it.
 * @param {(number | null)[][]} values
 */
function stack(values) {
  const sums = values[0].map(() => 0);
  return values.map((line) => line.map((value, index) => (sums[index] += value ?? 0)));
}

/**
 * Write the chart's values as text: those at the cursor, or a summary.
 * @param {HTMLElement} figure
 * @param {Line[]} lines
 * @param {(number | null)[][]} values
 * @param {any} history
 * @param {string} unit
 * @param {number | null | undefined} index
 */
function writeLegend(figure, lines, values, history, unit, index) {
  const legend = /** @type {HTMLElement} */ (figure.querySelector("[data-legend]"));
  const entries = lines.map((line, number) => {
    const entry = document.createElement("span");
    entry.className = `swatch swatch-${line.colour}`;
    const value = typeof index === "number" ? values[number][index] : null;
    entry.textContent = typeof index === "number" ? `${line.label} ${value === null ? "–" : brief(value) + unit}` : restLabel(line, values, unit);
    return entry;
  });
  const time = typeof index === "number" ? [Object.assign(document.createElement("time"), { textContent: clock(history.times[index]) })] : [];
  legend.replaceChildren(...time, ...entries);
  if (typeof index === "number") return;
  const sums = lines.map((line, number) => `${line.label}: ${summary(values[number])}${unit}`);
  figure.querySelector("[data-plot]")?.setAttribute("aria-label", `${figure.querySelector("b")?.textContent}. ${sums.join(", ")}`);
}

/**
 * The label of a line while the cursor is outside the chart.
 * @param {Line} line
 * @param {(number | null)[][]} values
 * @param {string} unit
 */
function restLabel(line, values, unit) {
  const last = values[0].findLast((value) => value !== null);
  return values.length > 1 || last === undefined || last === null ? line.label : `${brief(last)}${unit} now`;
}

/** @param {(number | null)[]} values */
function summary(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? `${brief(Math.min(...known))} to ${brief(Math.max(...known))}` : "nothing yet";
}

/**
 * The number with three significant digits; from 1000 on in thousands, as in 1.2k.
 * @param {number} value
 */
const brief = (value) => (value >= 1000 ? `${Number((value / 1000).toPrecision(3))}k` : String(Number(value.toPrecision(3))));

/** @param {number} seconds */
const clock = (seconds) => new Date(1000 * seconds).toLocaleTimeString([], { hour: "numeric", minute: "2-digit" });

/**
 * @param {any} _
 * @param {number[]} ticks
 */
const times = (_, ticks) => ticks.map(clock);

/** @type {WeakMap<HTMLElement, ResizeObserver>} */
const observers = new WeakMap();

/**
 * @param {HTMLElement} container
 * @param {any} plot
 */
function watchSize(container, plot) {
  observers.get(container)?.disconnect();
  const observer = new ResizeObserver(() => {
    if (container.clientWidth && container.clientWidth !== plot.width) plot.setSize({ width: container.clientWidth, height: plot.height });
  });
  observer.observe(container);
  observers.set(container, observer);
}
