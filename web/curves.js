// curves.js - the recorded series of a job, sorted into charts that grow while it runs.

import { chart } from './chart.js';
import { indexAt } from './chart_math.js';
import { h } from './dom.js';
import { percent, words } from './format.js';

const score = (value) => percent(value, 1);

// Which series stand together; `tones` are colours of parts.css.
const CHARTS = [
  { title: 'Loss', holds: /^(train_loss|eval_loss)$/, logarithm: true },
  { title: 'Accuracy', holds: /^(accuracy|teacher_agreement)$/, format: score, reference: 'accuracy' },
  { title: 'Divergence from the teacher', holds: /^eval_kl$/, minor: true },
  { title: 'Terms of the loss', holds: /^train_(?!loss$)/, logarithm: true, minor: true },
  { title: 'Learning rate', holds: /^learning_rate$/, minor: true },
];
const LABELS = {
  train_loss: 'training, as minimised', eval_loss: 'evaluation, cross entropy', accuracy: 'student', teacher_agreement: 'agrees with teacher',
  eval_kl: 'evaluation',
};
const TONES = { train_loss: 'grey', learning_rate: 'grey', eval_loss: 'accent', accuracy: 'accent', teacher_agreement: 'violet' };
const TONES_IN_TURN = ['accent', 'violet', 'copper', 'grey'];
const SAME = { eval_accuracy: 'accuracy', eval_agreement: 'teacher_agreement' };

// Answers {element, load(series), add(name, step, value), teacher(metrics), end(step)}.
export function jobCurves() {
  const series = new Map(); // name -> points sorted by step
  const charts = new Map(); // title -> chart
  const element = h('div.charts');
  let teacherMetrics = {};
  let end = 1;
  let scheduled = false;

  function redraw() {
    scheduled = false;
    const plans = plansFor([...series.keys()]);
    if (plans.some(({ title }) => !charts.has(title))) arrange(plans);
    for (const plan of plans) {
      const lines = plan.names.map((name, i) => lineOf(name, i, series.get(name)));
      charts.get(plan.title).update(lines, references(plan, teacherMetrics), end);
    }
  }
  function arrange(plans) {
    for (const plan of plans) if (!charts.has(plan.title)) charts.set(plan.title, chart(plan));
    element.replaceChildren(...plans.map(({ title }) => charts.get(title).element));
  }
  function schedule() {
    if (scheduled) return;
    scheduled = true;
    setTimeout(redraw, 60);
  }
  return {
    element,
    load(recorded) {
      for (const [name, points] of Object.entries(recorded)) {
        for (const [step, value] of points) insert(series, name, step, value);
      }
      redraw();
    },
    add(name, step, value) {
      insert(series, name, step, value);
      schedule();
    },
    end(step) {
      if (!(step > 0) || step === end) return;
      end = step;
      schedule();
    },
    teacher(metrics) {
      teacherMetrics = metrics ?? {};
      schedule();
    },
  };
}

function lineOf(name, index, points) {
  return { name, label: LABELS[name] ?? words(name.replace(/^train_/, '')), tone: TONES[name] ?? TONES_IN_TURN[index % TONES_IN_TURN.length], points };
}

// The charts that have something to show. Series that none knows get one of their own.
function plansFor(names) {
  const known = CHARTS.map((plan) => ({ ...plan, names: names.filter((name) => plan.holds.test(name)).sort(inOrder) }));
  const others = names.filter((name) => !CHARTS.some((plan) => plan.holds.test(name)));
  return [...known.filter((plan) => plan.names.length), ...others.map((name) => ({ title: words(name), names: [name], minor: true }))];
}

const ORDER = Object.keys(LABELS);
const inOrder = (a, b) => ORDER.indexOf(a) - ORDER.indexOf(b) || a.localeCompare(b);

function references({ reference }, metrics) {
  const value = reference && metrics[reference];
  return typeof value === 'number' ? [{ label: 'teacher', value }] : [];
}

// A step that is already there is replaced: after a retry, or when the stream repeats itself.
function insert(series, given, step, value) {
  const name = SAME[given] ?? given;
  if (typeof value !== 'number' || !Number.isFinite(value)) return;
  if (!series.has(name)) series.set(name, []);
  const points = series.get(name);
  if (points.length === 0 || points.at(-1)[0] < step) {
    points.push([step, value]);
    return;
  }
  const near = indexAt(points, step);
  const at = points[near][0] < step ? near + 1 : near;
  points.splice(at, points[at][0] === step ? 1 : 0, [step, value]);
}
