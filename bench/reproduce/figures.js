// figures.js - from runs to numbers, tables and verdicts. Nothing on the page is claimed by hand: a verdict is computed.
'use strict';

const mean = (v) => v.reduce((a, b) => a + b, 0) / v.length;
const spread = (v) => Math.sqrt(v.reduce((a, b) => a + (b - mean(v)) ** 2, 0) / Math.max(1, v.length - 1));
const percent = (v) => (v.some((x) => x === undefined) ? '–' : `${(100 * mean(v)).toFixed(2)} ± ${(100 * spread(v)).toFixed(2)}`);
// "reaches X in r of what B needs", r by seed; where the child does not get there, there is no mean.
function reaches(found, nameA, what, way, nameB) {
  const values = found.map((r) => r.value), never = values.filter((v) => !Number.isFinite(v)).length;
  if (never) return `${nameA} does not reach ${what} in ${never} of ${values.length} seeds`;
  return `${nameA} reaches ${what} ${found.some((r) => r.bound) ? `${way} at most` : way} ${mean(values).toFixed(2)} ± ${spread(values).toFixed(2)} of the ${nameB}`;
}

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

// A claim "reproduces" when every seed says so and the mean is further from nothing than the seeds are from each other;
// "does not" when the opposite holds likewise; else this is not decided by so few seeds. With one seed: never decided.
const CLAIMED = { yes: 'reproduces', no: 'does not reproduce, the opposite was found' };
const COMPARED = { yes: 'better', no: 'worse' }; // what no paper claims, but a reader wants to know

function judge(differences, words = CLAIMED) {
  const m = mean(differences);
  if (differences.length < 2) return 'undecided: one seed decides nothing';
  const clear = !(Math.abs(m) <= spread(differences)); // an infinite one is clear
  if (differences.every((d) => d > 0) && clear) return words.yes;
  if (differences.every((d) => d < 0) && clear) return words.no;
  return `undecided: ${differences.filter((d) => d > 0).length} of ${differences.length} seeds agree, within the spread`;
}

const verdict = (text, differences, words) => `- ${text}: **${judge(differences, words)}**.`;

// "A is at 91.20 ± 0.10 %, B at ...": better is larger.
const better = (a, b, nameA, nameB, words) =>
  verdict(`${nameA} ends at ${percent(a)} %, ${nameB} at ${percent(b)} %, difference ${percent(a.map((x, i) => x - b[i]))} points`,
    a.map((x, i) => x - b[i]), words);
const compare = (a, b, nameA, nameB) => better(a, b, nameA, nameB, COMPARED);

// No worse than `margin` below: for claims of equality.
const equal = (a, b, nameA, nameB, margin) => {
  const d = a.map((x, i) => x - b[i]);
  return `- ${nameA} is at ${percent(a)} %, ${nameB} at ${percent(b)} %, difference ${percent(d)} points: ` +
    `**${d.every((x) => Math.abs(x) <= margin) ? 'reproduces' : 'does not reproduce'}** (within ${(100 * margin).toFixed(2)} points).`;
};

// "reaches X in r of the steps of B".
function faster(children, bases, targets, nameA, nameB, what) {
  const found = children.map((c, i) => stepsRatio(c, bases[i], targets[i]));
  const text = reaches(found, nameA, what, 'in', `steps of ${nameB}`);
  return verdict(text, found.map((r) => 1 - r.value));
}

// The same in multiply-adds, with those of the child's parent: whether it pays to begin small.
function cheaper(children, parents, bases, targets, nameA, nameB, what) {
  const spent = (run, step) => step * run.cost / run.steps;
  const found = children.map((c, i) => {
    const a = reach(c, targets[i]), b = reach(bases[i], targets[i]);
    return { value: a === null ? Infinity : (parents[i].cost + spent(c, a)) / spent(bases[i], b ?? bases[i].steps), bound: a !== null && b === null };
  });
  const text = reaches(found, `${nameA}, its parent's training included,`, what, 'for', `multiply-adds of ${nameB}`);
  return verdict(text, found.map((r) => 1 - r.value), COMPARED);
}

const big = (n) => (n >= 1e12 ? `${(n / 1e12).toFixed(2)} T` : n >= 1e9 ? `${(n / 1e9).toFixed(1)} G` : n >= 1e6 ? `${(n / 1e6).toFixed(2)} M`
  : n >= 1e3 ? `${(n / 1e3).toFixed(1)} k` : String(n));
const of = (runs, key) => runs.map((r) => r[key]);
const steps = (runs, targets) => runs.map((r, i) => reach(r, targets[i]) ?? '–').join(', ');

module.exports = { mean, spread, percent, reach, accuracyAt, stepsRatio, table, judge, verdict, better, compare, cheaper, equal, faster, big, of, steps };
