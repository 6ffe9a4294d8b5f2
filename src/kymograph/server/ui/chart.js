// The last 15 minutes of a few values: their points, and their drawing while it can be seen.
import { clock } from "./format.js";

export const WINDOW = 900;
const GAP = 10;

// Columns of times (s) and values, oldest first, never longer than the window.
export class Trace {
  constructor(width) {
    this.columns = Array.from({ length: width + 1 }, () => []);
  }
  get length() { return this.columns[0].length; }
  get last() { return this.columns[0][this.length - 1]; }
  push(time, values) {
    const times = this.columns[0];
    if (this.length && time <= this.last) return;
    if (this.length && time - this.last > GAP) this.#row(this.last + 1, values.map(() => null));
    this.#row(time, values);
    let old = 0;
    while (times[old] < time - WINDOW - 5) old += 1;
    // cut rarely: shifting 900 points every second for each of 100 cards is work
    if (old > 60) for (const column of this.columns) column.splice(0, old);
  }
  // rows of recorded history, put before what came live meanwhile
  fill(rows) {
    const first = this.length ? this.columns[0][0] : Infinity;
    const live = this.columns;
    this.columns = live.map(() => []);
    for (const [time, ...values] of rows) if (time < first) this.push(time, values);
    const rest = live[0].map((time, place) => [time, ...live.slice(1).map((column) => column[place])]);
    for (const [time, ...values] of rest) this.push(time, values);
  }
  #row(time, values) {
    this.columns[0].push(time);
    values.forEach((value, place) => this.columns[place + 1].push(value ?? null));
  }
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function axes(dense, ceiling) {
  if (dense) return [{ show: false }, { show: false }];
  const grid = { stroke: colour("line"), width: 1 };
  const common = { stroke: colour("quiet"), font: "11px system-ui, sans-serif", ticks: { show: false } };
  const found = [
    { ...common, grid: { show: false }, space: 70, size: 22, values: (_, marks) => marks.map((mark) => clock(mark).slice(0, 5)) },
    { ...common, grid, size: 30, splits: () => [0, 50, 100] },
  ];
  if (ceiling) found.push({ ...common, side: 1, scale: "right", grid: { show: false }, size: 36, splits: () => [0, ceiling() / 2, ceiling()], values: (_, marks) => marks.map((mark) => Math.round(mark)) });
  return found;
}

// `lines`: [{label, colour, right, fill}]; `hover(index | null)` is told where the pointer is.
export class Chart {
  constructor(box, trace, lines, { right = null, hover = () => {} } = {}) {
    this.box = box; this.trace = trace; this.lines = lines; this.right = right; this.hover = hover; this.plot = null;
    this.resized = new ResizeObserver(() => {
      if (this.plot && box.clientWidth) this.plot.setSize({ width: box.clientWidth, height: box.clientHeight });
    });
  }
  show(dense) {
    if (this.plot) return;
    const ceiling = () => Math.max(this.right?.() ?? 0, 1);
    const series = this.lines.map((line) => ({
      label: line.label, scale: line.right ? "right" : "y", stroke: colour(line.colour), width: 1.6, points: { show: false },
      fill: line.fill ? `${colour(line.colour)}1f` : undefined,
    }));
    const now = () => Math.max(this.trace.last ?? 0, Date.now() / 1000 - GAP);
    this.plot = new uPlot({
      width: this.box.clientWidth || 300, height: this.box.clientHeight || 120,
      padding: dense ? [4, 0, 2, 0] : [8, this.right ? 2 : 10, 0, 0], legend: { show: false },
      cursor: { y: false, drag: { setScale: false, x: false, y: false }, points: { size: 6 } },
      scales: { x: { range: () => [now() - WINDOW, now()] }, y: { range: [0, 104] }, right: { range: () => [0, ceiling() * 1.04] } },
      axes: axes(dense, this.right && ceiling), series: [{}, ...series],
      hooks: { setCursor: [(plot) => this.hover(plot.cursor.left < 0 ? null : plot.cursor.idx)] },
    }, this.trace.columns, this.box);
    this.resized.observe(this.box);
  }
  hide() {
    this.resized.disconnect();
    this.plot?.destroy();
    this.plot = null;
  }
  draw() { this.plot?.setData(this.trace.columns); }
}
