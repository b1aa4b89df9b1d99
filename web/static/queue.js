// The page of queue and workers: renews the board, draws the last hours. Charts are uPlot's, a global of its script.

import { call, page } from "./api.js";

const BOARD = 3000; // ms between two looks
const CHARTS = 15000;
const COLOURS = { main: "--accent", other: "--chart-2", third: "--chart-3" };

/**
 * @typedef {object} Line
 * @property {string} label
 * @property {keyof typeof COLOURS} colour
 * @property {(history: any) => (number | null)[]} values
 */

/** @type {Record<string, {lines: Line[], unit?: string, top?: number, stacked?: boolean}>} */
const CHART = {
  requests: {
    stacked: true,
    lines: [
      { label: "from memory", colour: "main", values: (h) => h.memory },
      { label: "joined", colour: "third", values: (h) => h.joined },
      { label: "painted", colour: "other", values: (h) => h.painted },
    ],
  },
  throughput: { lines: [{ label: "a minute", colour: "other", values: (h) => h.pictures_per_minute }] },
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
  setTimeout(renew, BOARD, part);
  const spans = part.querySelector("[data-spans]");
  if (!(spans instanceof HTMLElement)) return;
  spans.hidden = false;
  let span = "1h";
  const draw = async () => {
    const history = document.hidden ? null : await call("GET", `${part.dataset.history}?span=${span}`).catch(() => null);
    if (history?.span === span) part.querySelectorAll("[data-chart]").forEach((figure) => chart(/** @type {HTMLElement} */ (figure), history));
  };
  spans.addEventListener("click", (event) => {
    if (!(event.target instanceof HTMLButtonElement)) return;
    span = event.target.value;
    spans.querySelectorAll("button").forEach((button) => button.setAttribute("aria-pressed", String(button.value === span)));
    draw();
  });
  addEventListener("DOMContentLoaded", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  setInterval(draw, CHARTS);
}

/** @param {HTMLElement} part */
async function renew(part) {
  const fetched = document.hidden ? null : await page(part.dataset.queue ?? "").catch(() => null);
  const fresh = fetched?.querySelector("[data-board]");
  const board = part.querySelector("[data-board]");
  if (fresh && board && fresh.innerHTML !== board.innerHTML && !board.contains(document.activeElement)) {
    board.replaceWith(document.adoptNode(fresh));
  }
  setTimeout(renew, BOARD, part);
}

/**
 * @param {HTMLElement} figure
 * @param {any} history
 */
function chart(figure, history) {
  const { lines, unit = "", top, stacked = false } = CHART[figure.dataset.chart ?? ""];
  const place = /** @type {HTMLElement} */ (figure.querySelector("[data-plot]"));
  const values = lines.map((line) => line.values(history));
  const width = place.clientWidth;
  const look = (/** @type {string} */ name) => getComputedStyle(figure).getPropertyValue(name).trim();
  const scale = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
  const axis = { stroke: look("--quiet"), grid: { stroke: look("--line"), width: 1 }, ticks: { show: false }, font: `${12 * scale}px ${look("--text")}` };
  const shown = stacked ? stack(values) : values;
  // The tallest is drawn first, so that the others stand before it.
  const series = lines.map((line, number) => drawn(look(COLOURS[line.colour]), stacked, shown[number])).reverse();
  const { uPlot } = /** @type {any} */ (window);
  place.replaceChildren();
  const plot = new uPlot(
    {
      width,
      height: 170 * scale,
      padding: [10, 28 * scale, 0, 0], // half a time of day, which stands under the end
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: { x: { time: true, range: (/** @type {any} */ _, /** @type {number} */ first, /** @type {number} */ last) => [first - history.seconds / 2, last + history.seconds / 2] }, y: { range: (/** @type {any} */ _, /** @type {number} */ low, /** @type {number} */ high) => [0, top ?? (high ? high * 1.15 : 1)] } },
      axes: [
        { ...axis, space: 64 * scale, size: 28 * scale, gap: 6 * scale, grid: { show: false }, values: times },
        { ...axis, size: 44 * scale, space: 34 * scale, gap: 6 * scale, values: (/** @type {any} */ _, /** @type {number[]} */ ticks) => ticks.map(brief) },
      ],
      series: [{}, ...series],
      hooks: { setCursor: [(/** @type {any} */ u) => tell(figure, lines, values, history, unit, u.cursor.idx)] },
    },
    [history.times, ...shown.toReversed()],
    place,
  );
  watchSize(place, plot);
  tell(figure, lines, values, history, unit, null);
}

/**
 * @param {string} colour
 * @param {boolean} bars
 * @param {(number | null)[]} values
 */
function drawn(colour, bars, values) {
  const { uPlot } = /** @type {any} */ (window);
  if (bars) return { stroke: colour, fill: colour, width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.72, 18], radius: 0.2 }) };
  const alone = values.filter((value) => value !== null).length < 3;
  return { stroke: colour, fill: `color-mix(in srgb, ${colour} 14%, transparent)`, width: 2, spanGaps: true, points: { show: alone, size: 6, fill: colour } };
}

/**
 * Each on top of those before it.
 * @param {(number | null)[][]} values
 */
function stack(values) {
  const sums = values[0].map(() => 0);
  return values.map((line) => line.map((value, at) => (sums[at] += value ?? 0)));
}

/**
 * What the chart shows in words: at the cursor, or all in all.
 * @param {HTMLElement} figure
 * @param {Line[]} lines
 * @param {(number | null)[][]} values
 * @param {any} history
 * @param {string} unit
 * @param {number | null | undefined} at
 */
function tell(figure, lines, values, history, unit, at) {
  const key = /** @type {HTMLElement} */ (figure.querySelector("[data-key-of]"));
  const entries = lines.map((line, number) => {
    const entry = document.createElement("span");
    entry.className = `swatch swatch-${line.colour}`;
    const value = typeof at === "number" ? values[number][at] : null;
    entry.textContent = typeof at === "number" ? `${line.label} ${value === null ? "–" : brief(value) + unit}` : rest(line, values, unit);
    return entry;
  });
  const time = typeof at === "number" ? [Object.assign(document.createElement("time"), { textContent: clock(history.times[at]) })] : [];
  key.replaceChildren(...time, ...entries);
  if (typeof at === "number") return;
  const sums = lines.map((line, number) => `${line.label}: ${summary(values[number])}${unit}`);
  figure.querySelector("[data-plot]")?.setAttribute("aria-label", `${figure.querySelector("b")?.textContent}. ${sums.join(", ")}`);
}

/**
 * What stands beside a line's colour while no cursor points at a time.
 * @param {Line} line
 * @param {(number | null)[][]} values
 * @param {string} unit
 */
function rest(line, values, unit) {
  const last = values[0].findLast((value) => value !== null);
  return values.length > 1 || last === undefined || last === null ? line.label : `${brief(last)}${unit} lately`;
}

/** @param {(number | null)[]} values */
function summary(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? `${brief(Math.min(...known))} to ${brief(Math.max(...known))}` : "nothing yet";
}

/** @param {number} value */
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
 * @param {HTMLElement} place
 * @param {any} plot
 */
function watchSize(place, plot) {
  observers.get(place)?.disconnect();
  const observer = new ResizeObserver(() => {
    if (place.clientWidth && place.clientWidth !== plot.width) plot.setSize({ width: place.clientWidth, height: plot.height });
  });
  observer.observe(place);
  observers.set(place, observer);
}
