// Cards: one per GPU, one for the host. They take snapshots and show them; a chart exists while its card can be seen.
import { Chart, Trace } from "./chart.js";
import { DASH, bytes, clock, element, number, span } from "./format.js";

const STALE = 10;

function figure(kind, title) {
  const value = element("dd", "", DASH);
  return { box: element("div", `figure ${kind}`, element("dt", "", title), value), value };
}

export function put(target, text, unit = "") {
  const known = `${text} ${unit}`;
  if (target.dataset.shown === known) return;
  target.dataset.shown = known;
  target.replaceChildren(text, ...(unit ? [element("span", "unit", unit)] : []));
}

// "58.6" and "/ 80 GiB", both in the unit of the total
function ofTotal(used, total) {
  if (!Number.isFinite(used) || !Number.isFinite(total)) return [DASH, ""];
  const [size, unit] = bytes(total, 1024);
  const share = (used / total) * Number(size.replaceAll(",", ""));
  return [number(share, share < 100 ? 1 : 0), `/ ${size.replace(".0", "")} ${unit}`];
}

class Card {
  constructor(title, figures, lines, options) {
    this.title = element("h3", "", title);
    this.name = element("span", "name");
    this.badge = element("span", "badge plain");
    this.badge.hidden = true;
    this.figures = Object.fromEntries(figures.map(([kind, label]) => [kind, figure(kind, label)]));
    this.values = element("dl", "figures", ...Object.values(this.figures).map((each) => each.box));
    this.chartBox = element("div", "chart");
    this.chartBox.setAttribute("role", "img");
    this.chartBox.setAttribute("aria-label", `Last 15 minutes of ${lines.map((line) => line.label).join(", ")}`);
    this.left = element("span", "", "");
    this.right = element("span", "", "");
    this.head = element("header", "", this.title, this.name, this.badge);
    this.foot = element("p", "foot", this.left, this.right);
    this.box = element("article", "card");
    this.trace = new Trace(lines.length);
    this.chart = new Chart(this.chartBox, this.trace, lines, { ...options, hover: (place) => this.look(place) });
    this.seen = false;
    this.looking = null;
    this.latest = null;
  }
  setSeen(seen, dense) {
    this.seen = seen;
    if (seen) { this.chart.show(dense); this.render(); } else this.chart.hide();
  }
  look(place) {
    if (place === this.looking) return;
    this.looking = place;
    this.render();
  }
  setBadge(text, kind) {
    this.badge.hidden = !text;
    this.badge.textContent = text;
    this.badge.className = `badge ${kind || "plain"}`;
  }
}

const GPU_FIGURES = [["util", "Utilization"], ["temp", "Temperature"], ["power", "Power"], ["mem", "Memory"]];
const GPU_LINES = [
  { label: "utilization", colour: "util", fill: true },
  { label: "temperature", colour: "temp" },
  { label: "power", colour: "power", right: true },
];

export class GpuCard extends Card {
  constructor(key) {
    super("GPU", GPU_FIGURES, GPU_LINES, { right: () => this.limit });
    this.key = key;
    this.limit = 1;
    this.box.append(this.head, this.values, this.chartBox, this.foot);
  }
  take(gpu, time) {
    this.latest = gpu;
    this.age = time - Date.parse(gpu.timestamp) / 1000;
    this.limit = Math.max(this.limit, gpu.power_limit ?? 0, gpu.power_draw ?? 0);
    this.trace.push(Date.parse(gpu.timestamp) / 1000, [gpu.utilization, gpu.temperature, gpu.power_draw]);
    if (this.seen) this.render();
  }
  matches(text) {
    const gpu = this.latest;
    return !text || `gpu ${gpu.gpu_index} ${gpu.gpu_name} ${gpu.hostname} ${gpu.gpu_uuid} ${gpu.pci_bus_id}`.toLowerCase().includes(text);
  }
  render() {
    const gpu = this.latest;
    if (!gpu) return;
    const past = this.looking === null ? null : this.trace.columns.map((column) => column[this.looking]);
    const [, util, temp, power] = past ?? [0, gpu.utilization, gpu.temperature, gpu.power_draw];
    put(this.title, `GPU ${gpu.gpu_index ?? "?"}`);
    put(this.name, gpu.gpu_name ?? "");
    this.name.title = gpu.gpu_name ?? "";
    put(this.figures.util.value, number(util), "%");
    put(this.figures.temp.value, number(temp), "°C");
    put(this.figures.power.value, number(power), "W");
    put(this.figures.mem.value, ...ofTotal(gpu.memory_used, gpu.memory_total));
    const stale = this.age > STALE;
    this.box.classList.toggle("stale", stale);
    if (stale) this.setBadge(`silent for ${span(this.age)}`, "bad");
    else if (gpu.ecc_dbe_volatile > 0) this.setBadge("memory errors", "bad");
    else if ((gpu.throttle_reasons ?? 0) & 0x68) this.setBadge("throttled: heat", "warn");
    else if ((gpu.throttle_reasons ?? 0) & 0x4) this.setBadge("at power limit", "warn");
    else this.setBadge(gpu.source === "simulated" ? "simulated" : "", "");
    put(this.left, past ? `at ${clock(past[0])}` : [gpu.hostname, gpu.pci_bus_id].filter(Boolean).join(" · "));
    const clocks = gpu.core_clock ? `${number(gpu.core_clock)} MHz` : "";
    put(this.right, gpu.fan_speed === null || gpu.fan_speed === undefined ? clocks : `${clocks} · fan ${number(gpu.fan_speed)} %`);
    this.chartBox.setAttribute("aria-label", `GPU ${gpu.gpu_index}, last 15 minutes: utilization, temperature and power`);
    this.chart.draw();
  }
}

const HOST_FIGURES = [["util", "CPU"], ["mem", "Memory"], ["disk", "Disk"], ["load", "Load"], ["recv", "Network in"], ["sent", "Network out"]];

function total(devices) {
  return devices && typeof devices === "object" ? Object.values(devices).reduce((sum, value) => sum + (value ?? 0), 0) : null;
}

export class HostCard extends Card {
  constructor() {
    super("Host", HOST_FIGURES, [{ label: "CPU", colour: "util", fill: true }, { label: "memory", colour: "mem" }], {});
    this.rates = { recv: null, sent: null };
    this.cores = element("div", "cores");
    this.cores.setAttribute("role", "img");
    const keys = element("p", "keys", element("span", "key util", "CPU %"), element("span", "key mem", "memory %"));
    keys.setAttribute("aria-hidden", "true");
    const left = element("div", "", this.values, element("p", "label", "Cores"), this.cores);
    this.box.append(this.head, element("div", "host-body", left, element("div", "", keys, this.chartBox)), this.foot);
    this.chartBox.setAttribute("aria-label", "This machine, last 15 minutes: CPU and memory");
  }
  take(host) {
    const time = Date.parse(host.timestamp) / 1000;
    const before = this.latest;
    this.latest = host;
    const passed = before ? time - Date.parse(before.timestamp) / 1000 : 0;
    if (passed > 0) {
      for (const [way, name] of [["recv", "net_bytes_recv"], ["sent", "net_bytes_sent"]]) {
        const grown = (total(host[name]) ?? NaN) - (total(before[name]) ?? NaN);
        this.rates[way] = Number.isFinite(grown) ? Math.max(0, grown) / passed : null;
      }
    }
    this.trace.push(time, [host.cpu_percent, host.mem_used_percent]);
    if (this.seen) this.render();
  }
  render() {
    const host = this.latest;
    if (!host) return;
    const past = this.looking === null ? null : this.trace.columns.map((column) => column[this.looking]);
    const [, cpu, memory] = past ?? [0, host.cpu_percent, host.mem_used_percent];
    put(this.title, host.hostname ?? "Host");
    put(this.name, "this machine");
    put(this.figures.util.value, number(cpu), "%");
    put(this.figures.mem.value, number(memory), `% of ${bytes(host.mem_total_bytes, 1024).join(" ")}`);
    const disks = Object.entries(host.disk_used_percent ?? {}).sort((one, other) => other[1] - one[1]);
    put(this.figures.disk.value, number(disks[0]?.[1]), disks.length ? `% of ${disks[0][0]}` : "");
    put(this.figures.load.value, number(host.load1, 2));
    for (const way of ["recv", "sent"]) {
      const [amount, unit] = bytes(this.rates[way]);
      put(this.figures[way].value, amount, unit ? `${unit}/s` : "");
    }
    this.#renderCores(host.cpu_core_percent ?? {});
    const warmest = Math.max(...Object.values(host.temperature_celsius ?? {}));
    put(this.left, past ? `at ${clock(past[0])}` : `up ${span(host.uptime_seconds ?? 0)} · ${number(host.processes)} processes`);
    put(this.right, Number.isFinite(warmest) ? `warmest sensor ${number(warmest)} °C` : "");
    this.chart.draw();
  }
  #renderCores(cores) {
    const shares = Object.entries(cores).sort(([one], [other]) => one.localeCompare(other, "en", { numeric: true }));
    while (this.cores.childElementCount < shares.length) this.cores.append(element("span", ""));
    while (this.cores.childElementCount > shares.length) this.cores.lastChild.remove();
    shares.forEach(([, share], place) => this.cores.children[place].style.setProperty("--share", `${share ?? 0}%`));
    this.cores.setAttribute("aria-label", `${shares.length} CPU cores, busiest ${number(Math.max(0, ...shares.map(([, share]) => share)))} percent`);
  }
}
