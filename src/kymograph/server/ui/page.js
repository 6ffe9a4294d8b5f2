// The live page: one WebSocket in, cards out; history from the API when a card is first seen.
import { GpuCard, HostCard, put } from "./card.js";
import { WINDOW } from "./chart.js";
import { bytes, element, number } from "./format.js";

const DENSE = 24;
const find = (id) => document.getElementById(id);
const cards = new Map();
const grid = find("gpus");
let host = null;
let dense = false;

// ---- what is asked of the API

async function ask(path, body) {
  const options = body ? { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) } : {};
  const answer = await fetch(`.${path}`, options);
  if (answer.status === 401) location.reload();
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error?.message ?? answer.statusText);
  return value;
}

const SINCE = `now() - INTERVAL '${WINDOW} seconds'`;
const wanted = new Set();
let asking = null;

// cards that came into view together are asked for together
function wantHistory(card) {
  wanted.add(card);
  asking ??= setTimeout(async () => {
    const some = [...wanted].slice(0, 24);
    some.forEach((each) => wanted.delete(each));
    try { await fillGpus(some); } catch { some.forEach((each) => { each.filled = false; }); }
    asking = null;
    if (wanted.size) wantHistory(wanted.values().next().value);
  }, 40);
}

async function fillGpus(some) {
  const names = some.map((_, place) => `$g${place}`).join(", ");
  const params = Object.fromEntries(some.map((card, place) => [`g${place}`, card.latest.gpu_uuid]));
  const step = some.length > 4 ? "10s" : "3s";
  const sql = `SELECT time_bucket('${step}', time) AS t, gpu_uuid, avg(gpu_utilization) AS u, avg(gpu_temp) AS c, avg(power_usage) AS p
    FROM gpu_metrics WHERE gpu_uuid IN (${names}) AND time >= ${SINCE} GROUP BY 1, 2 ORDER BY 1 LIMIT 10000`;
  const { rows } = await ask("/api/sql", { sql, params });
  for (const card of some) {
    const mine = rows.filter((row) => row.gpu_uuid === card.latest.gpu_uuid);
    card.trace.fill(mine.map((row) => [Date.parse(row.t) / 1000, row.u, row.c, row.p]));
    card.render();
  }
}

async function fillHost() {
  const one = (name) => ask("/api/sql", {
    sql: `SELECT time_bucket('3s', time) AS t, avg(value) AS v FROM metric.${name} WHERE host = $host AND time >= ${SINCE} GROUP BY 1 ORDER BY 1 LIMIT 10000`,
    params: { host: host.latest.hostname ?? "" },
  });
  const [cpu, memory] = await Promise.all([one("cpu_percent"), one("mem_used_percent")]);
  const used = new Map(memory.rows.map((row) => [row.t, row.v]));
  host.trace.fill(cpu.rows.map((row) => [Date.parse(row.t) / 1000, row.v, used.get(row.t) ?? null]));
  host.render();
}

async function showRecording() {
  const notice = find("notice");
  try {
    const health = await ask("/api/health");
    const failing = health.collectors.filter((each) => each.state === "failing" || each.state === "hung");
    const problems = failing.map((each) => `${each.name} is ${each.state}: ${each.last_error}`);
    if (!health.store.ok) problems.unshift(`Not recording: ${health.store.reason}`);
    if (notice.textContent !== problems.join(" · ")) notice.textContent = problems.join(" · ");
    notice.hidden = !problems.length;
    if (!health.store.ok && !health.store.open) { find("recording-text").textContent = "live only"; find("usage").hidden = true; find("recording-more").textContent = ""; return; }
    const info = await ask("/api/info");
    const size = bytes(info.usage_bytes).join(" ");
    const bound = info.cap_bytes ? ` of ${bytes(info.cap_bytes).join(" ")}` : "";
    find("recording-text").textContent = `Recording to ${info.path}`;
    const share = info.cap_bytes ? Math.min(100, (100 * info.usage_bytes) / info.cap_bytes) : 0;
    const usage = find("usage");
    usage.hidden = !info.cap_bytes;
    usage.firstElementChild.style.width = `${Math.max(share, 1)}%`;
    usage.setAttribute("aria-valuenow", share.toFixed(1));
    usage.setAttribute("aria-valuetext", `${size}${bound}`);
    find("recording-more").textContent = `${info.usage_bytes === null ? "" : `${size}${bound} · `}${number(info.rows)} rows`;
  } catch { /* the socket's state tells already that the server is away */ }
}

// ---- what comes in

const sight = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const card = entry.target.card;
    card.setSeen(entry.isIntersecting, dense && card !== host);
    if (entry.isIntersecting && !card.filled && card.latest) {
      card.filled = true;
      if (card === host) fillHost().catch(() => { card.filled = false; });
      else wantHistory(card);
    }
  }
}, { rootMargin: "200px" });

function watch(card) {
  card.box.card = card;
  sight.observe(card.box);
}

function order() {
  const sorted = [...cards.values()].sort((one, other) =>
    (one.latest.gpu_index ?? 0) - (other.latest.gpu_index ?? 0) || String(one.key).localeCompare(other.key));
  grid.append(...sorted.map((card) => card.box));
}

function setDense() {
  const now = cards.size > DENSE;
  find("filter-box").hidden = cards.size <= 12;
  if (now === dense) return;
  dense = now;
  grid.classList.toggle("dense", dense);
  for (const card of cards.values()) if (card.seen) { card.chart.hide(); card.chart.show(dense); card.render(); }
}

function filter() {
  const text = find("filter").value.trim().toLowerCase();
  let shown = 0;
  for (const card of cards.values()) {
    card.box.hidden = !card.matches(text);
    shown += !card.box.hidden;
  }
  find("none-found").hidden = shown > 0 || !cards.size;
}

function showFleet(gpus) {
  const box = find("fleet");
  box.hidden = gpus.length < 2;
  if (box.hidden) return;
  const known = (name) => gpus.map((gpu) => gpu[name]).filter((value) => Number.isFinite(value));
  const sum = (values) => values.reduce((all, value) => all + value, 0);
  const utils = known("utilization");
  const temps = known("temperature");
  const power = sum(known("power_draw"));
  const shown = [
    ["GPUs", number(gpus.length), ""],
    ["Mean utilization", utils.length ? number(sum(utils) / utils.length) : "–", "%"],
    ["Hottest", temps.length ? number(Math.max(...temps)) : "–", "°C"],
    ["Power", number(power >= 10000 ? power / 1000 : power, power >= 10000 ? 1 : 0), power >= 10000 ? "kW" : "W"],
    ["Memory in use", ...bytes(sum(known("memory_used")), 1024)],
  ];
  if (!box.firstChild) {
    for (const [title] of shown) box.append(element("div", "", element("dl", "", element("dt", "", title), element("dd", ""))));
  }
  shown.forEach(([, value, unit], place) => put(box.children[place].querySelector("dd"), value, unit));
}

function takeGpus(gpus, time) {
  let changed = false;
  const here = new Set();
  for (const gpu of gpus) {
    const key = `${gpu.source ?? ""}/${gpu.hostname ?? ""}/${gpu.gpu_uuid ?? gpu.gpu_index}`;
    here.add(key);
    let card = cards.get(key);
    const fresh = !card;
    if (fresh) { card = new GpuCard(key); cards.set(key, card); changed = true; }
    card.take(gpu, time);
    if (fresh) watch(card);
  }
  for (const [key, card] of cards) {
    if (here.has(key)) continue;
    sight.unobserve(card.box);
    card.chart.hide();
    card.box.remove();
    cards.delete(key);
    changed = true;
  }
  if (changed) { order(); setDense(); filter(); document.title = cards.size ? `Kymograph · ${cards.size} GPU${cards.size > 1 ? "s" : ""}` : "Kymograph"; }
  find("gpus-section").hidden = !cards.size;
}

function take(frame) {
  const time = Date.parse(frame.timestamp) / 1000;
  if (frame.host?.timestamp) {
    if (!host) {
      host = new HostCard();
      host.take(frame.host);
      find("host").append(host.box);
      watch(host);
    } else host.take(frame.host);
  }
  takeGpus(frame.gpus, time);
  showFleet(frame.gpus);
  find("waiting").hidden = Boolean(cards.size || host);
}

// ---- the socket

let pause = 500;
let silence = null;

function state(name, text) {
  find("state").dataset.state = document.body.dataset.state = name;
  if (find("state-text").textContent !== text) find("state-text").textContent = text;
}

function connect() {
  const place = new URL(`api/telemetry/stream?interval=${dense ? 2 : 1}`, location.href);
  place.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(place);
  const restart = () => { clearTimeout(silence); silence = setTimeout(() => socket.close(), 15000); };
  restart();
  socket.onmessage = (event) => {
    restart();
    pause = 500;
    state("live", "live");
    take(JSON.parse(event.data));
  };
  socket.onclose = () => {
    clearTimeout(silence);
    state("lost", "connection lost, trying again");
    setTimeout(connect, pause * (0.7 + 0.6 * Math.random()));
    pause = Math.min(pause * 2, 10000);
    // a session that ended shows as a refused socket: the page finds out by asking
    ask("/api/health").catch(() => {});
  };
}

find("filter").addEventListener("input", filter);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const card of [host, ...cards.values()]) if (card?.seen) { card.chart.hide(); card.chart.show(dense && card !== host); card.render(); }
});
connect();
showRecording();
setInterval(showRecording, 5000);
