// Numbers as people read them. A value that is not there is a dash.
export const DASH = "–";

export function number(value, digits = 0) {
  if (value === null || value === undefined || !Number.isFinite(value)) return DASH;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

const STEPS = ["B", "kB", "MB", "GB", "TB", "PB"];

// [text, unit] of a size in bytes; base 1000 for disks and networks, 1024 for memory
export function bytes(value, base = 1000) {
  if (value === null || value === undefined || !Number.isFinite(value)) return [DASH, ""];
  let step = 0;
  while (Math.abs(value) >= base * 0.9995 && step < STEPS.length - 1) { value /= base; step += 1; }
  const unit = base === 1024 && step ? STEPS[step].toUpperCase().replace("B", "iB") : STEPS[step];
  return [number(value, step && Math.abs(value) < 100 ? 1 : 0), unit];
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });
}

export function span(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

// an element with a class, children and attributes; text is always text, never markup
export function element(tag, kind, ...children) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  made.append(...children);
  return made;
}
