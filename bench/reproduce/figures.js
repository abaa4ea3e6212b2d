// figures.js - from runs to numbers, tables and verdicts. Nothing on the page is claimed by hand: a verdict is computed.
'use strict';

const mean = (v) => v.reduce((a, b) => a + b, 0) / v.length;
const spread = (v) => Math.sqrt(v.reduce((a, b) => a + (b - mean(v)) ** 2, 0) / Math.max(1, v.length - 1));
const percent = (v) => (v.some((x) => x === undefined) ? '–' : `${(100 * mean(v)).toFixed(2)} ± ${(100 * spread(v)).toFixed(2)}`);
const ratio = (v) => (v.every(Number.isFinite) ? `${mean(v).toFixed(2)} ± ${spread(v).toFixed(2)}` : 'never');

// The first evaluation with at least that accuracy: its step. null: none of the run.
function reach(run, accuracy) {
  const point = run.curve.find(([, a]) => a >= accuracy);
  return point ? point[0] : null;
}

// The accuracy at the last evaluation within a budget, give or take a step; before the first, what the run started with.
function accuracyAt(run, budget, before = 0) {
  const each = run.cost / run.steps;
  const points = run.curve.filter(([step]) => before + (step - 1) * each <= budget);
  return points.length ? points[points.length - 1][1] : run.start;
}

// Steps of a child over steps of the baseline, to the same accuracy. A baseline that never gets there counts with all its
// steps, which makes the ratio an upper bound.
function stepsRatio(child, base, accuracy) {
  const a = reach(child, accuracy), b = reach(base, accuracy);
  return { value: a === null ? Infinity : a / (b ?? base.steps), bound: a !== null && b === null };
}

const table = (head, rows) => [`| ${head.join(' | ')} |`, `|${head.map(() => '---').join('|')}|`,
  ...rows.map((r) => `| ${r.join(' | ')} |`), ''];

// "reproduces" when every seed says so and the mean is further from nothing than the seeds are from each other;
// "does not" when the opposite holds likewise; else this is not decided by so few seeds. With one seed: never decided.
function judge(differences) {
  const m = mean(differences);
  if (differences.length < 2) return 'undecided: one seed decides nothing';
  const clear = !(Math.abs(m) <= spread(differences)); // an infinite one is clear
  if (differences.every((d) => d > 0) && clear) return 'reproduces';
  if (differences.every((d) => d < 0) && clear) return 'does not reproduce, the opposite was found';
  return `undecided: ${differences.filter((d) => d > 0).length} of ${differences.length} seeds agree, within the spread`;
}

const verdict = (text, differences) => `- ${text}: **${judge(differences)}**.`;

// "A is at 91.20 ± 0.10 %, B at ...": better is larger.
const better = (a, b, nameA, nameB, what = 'ends at') =>
  verdict(`${nameA} ${what} ${percent(a)} %, ${nameB} at ${percent(b)} %, difference ${percent(a.map((x, i) => x - b[i]))} points`,
    a.map((x, i) => x - b[i]));

// No worse than `margin` below: for claims of equality.
const equal = (a, b, nameA, nameB, margin) => {
  const d = a.map((x, i) => x - b[i]);
  return `- ${nameA} is at ${percent(a)} %, ${nameB} at ${percent(b)} %, difference ${percent(d)} points: ` +
    `**${d.every((x) => Math.abs(x) <= margin) ? 'reproduces' : 'does not reproduce'}** (within ${(100 * margin).toFixed(2)} points).`;
};

// "reaches X in r of the steps of B".
function faster(children, bases, targets, nameA, nameB, what) {
  const found = children.map((c, i) => stepsRatio(c, bases[i], targets[i]));
  const text = `${nameA} reaches ${what} in ${found.some((r) => r.bound) ? 'at most ' : ''}${ratio(found.map((r) => r.value))} of the steps of ${nameB}`;
  return verdict(text, found.map((r) => 1 - r.value));
}

const big = (n) => (n >= 1e12 ? `${(n / 1e12).toFixed(2)} T` : n >= 1e9 ? `${(n / 1e9).toFixed(1)} G` : n >= 1e6 ? `${(n / 1e6).toFixed(2)} M`
  : n >= 1e3 ? `${(n / 1e3).toFixed(1)} k` : String(n));
const of = (runs, key) => runs.map((r) => r[key]);
const steps = (runs, targets) => runs.map((r, i) => reach(r, targets[i]) ?? '–').join(', ');

module.exports = { mean, spread, percent, ratio, reach, accuracyAt, stepsRatio, table, judge, verdict, better, equal, faster, big, of, steps };
