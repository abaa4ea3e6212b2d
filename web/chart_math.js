// chart_math.js - the arithmetic of a chart: ranges, scales, ticks, fewer points.

// The range to show, with a little air. Loops instead of Math.min(...values): lists may be long.
export function bounds(values, log = false) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (!Number.isFinite(value) || (log && value <= 0)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return { low: log ? 0.1 : 0, high: 1 };
  if (low === high) return aroundOne(low, log);
  if (log) return { low: low / 1.1, high: high * 1.1 };
  const air = (high - low) * 0.05;
  return { low: low >= 0 ? Math.max(0, low - air) : low - air, high: high + air };
}

function aroundOne(value, log) {
  if (log) return { low: value / 2, high: value * 2 };
  if (value === 0) return { low: -1, high: 1 };
  return value > 0 ? { low: 0, high: 2 * value } : { low: 2 * value, high: 0 };
}

// A function from values to pixels, with its inverse.
export function scale(low, high, from, to, log = false) {
  const into = log ? (value) => Math.log(Math.max(value, low)) : (value) => value;
  const out = log ? Math.exp : (value) => value;
  const factor = (to - from) / (into(high) - into(low) || 1);
  const place = (value) => from + (into(value) - into(low)) * factor;
  place.invert = (pixel) => out(into(low) + (pixel - from) / factor);
  return place;
}

export function ticks(low, high, wanted, log = false) {
  if (log && high / low > 8) return powers(low, high);
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((size) => size >= rough);
  const result = [];
  for (let i = Math.ceil(low / step); i * step <= high; i += 1) result.push(Number((i * step).toPrecision(10)));
  return result;
}

function powers(low, high) {
  const steps = high / low > 200 ? [1] : [1, 2, 5];
  const result = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power += 1) {
    for (const m of steps) {
      const value = Number((m * 10 ** power).toPrecision(3));
      if (value >= low && value <= high) result.push(value);
    }
  }
  return result;
}

// At most about two points per pixel: the lowest and the highest of every bucket.
export function thin(points, width) {
  const size = Math.ceil(points.length / width);
  if (size <= 2) return points;
  const result = [];
  for (let i = 0; i < points.length; i += size) {
    const bucket = points.slice(i, i + size);
    let low = bucket[0];
    let high = bucket[0];
    for (const point of bucket) {
      if (point[1] < low[1]) low = point;
      if (point[1] > high[1]) high = point;
    }
    result.push(...(low[0] < high[0] ? [low, high] : [high, low]));
  }
  return result;
}

// The mean over a window around every point; a window that is cut off at an end is cut off at
// both sides, so that the line does not lean.
export function smooth(points, reach = Math.max(2, Math.round(points.length / 50))) {
  const sums = [0];
  for (const [, y] of points) sums.push(sums.at(-1) + y);
  return points.map(([x], i) => {
    const side = Math.min(reach, i, points.length - 1 - i);
    return [x, (sums[i + side + 1] - sums[i - side]) / (2 * side + 1)];
  });
}

// Index of the point whose x is nearest; points are sorted by x. -1 when there are none.
export function indexAt(points, x) {
  let low = 0;
  let high = points.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle + 1;
    else high = middle;
  }
  if (low > 0 && x - points[low - 1][0] < points[low][0] - x) return low - 1;
  return points.length ? low : -1;
}
