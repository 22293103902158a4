// The words of figures: counts, rates, durations, ages and sizes. Pure.

export const NONE = "–";
export const FRESH_SECONDS = 60;
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const decimal = new Intl.NumberFormat("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 });

export const count = (value) => (value == null ? NONE : Math.abs(value) < 1e6 ? whole.format(value) : short.format(value));
export const tally = (value) => (value == null || Math.abs(value) < 1e4 ? count(value) : short.format(value));
export const brief = (value) => (value > 0 && value < 10 ? decimal.format(value) : tally(value));
export const rate = (value) => (value == null ? NONE : value > 0 && value < 10 ? decimal.format(value) : count(value));
export const share = (part, all) => (all ? part / all : 0);
export const sum = (counts) => Object.values(counts).reduce((total, value) => total + value, 0);
export const compare = (one, other) => (one < other ? -1 : one > other ? 1 : 0);
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

export function duration(seconds) {
  if (seconds == null) return [NONE, ""];
  const milliseconds = Number((seconds * 1000).toPrecision(3));
  if (milliseconds < 1000) return [milliseconds.toString(), "ms"];
  return [Number(seconds.toPrecision(3)).toString(), "s"];
}

// A quantile in the histogram's first bucket is only known to be there.
export function latency(seconds, least) {
  if (seconds == null || least == null || seconds > least) return duration(seconds);
  const [bound, unit] = duration(least);
  return [`< ${bound}`, unit];
}

export function age(seconds) {
  if (seconds == null) return NONE;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

export function bytes(size) {
  if (size < 1000) return `${size} B`;
  const kilobytes = Number((size / 1000).toPrecision(3));
  return kilobytes < 1000 ? `${kilobytes} kB` : `${Number((size / 1e6).toPrecision(3))} MB`;
}

export const spaced = (name) => name.replaceAll("_", " ");
