// curves.js - the recorded series of a job, sorted into charts that grow while it runs.

import { chart } from './chart.js';
import { indexAt } from './chart_math.js';
import { h } from './dom.js';
import { number, percent, words } from './format.js';

const score = (value) => percent(value, 1);

const CHARTS = [
  { title: 'Loss', names: ['train_loss', 'eval_loss'], logarithm: true },
  { title: 'Accuracy', names: ['accuracy', 'teacher_agreement'], format: score, reference: 'accuracy' },
  { title: 'Learning rate', names: ['learning_rate'], format: number },
];
const LABELS = { train_loss: 'training', eval_loss: 'evaluation', accuracy: 'student', teacher_agreement: 'agrees with teacher' };

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
      const lines = plan.names.filter((name) => series.has(name));
      charts.get(plan.title).update(
        lines.map((name) => ({ name, label: LABELS[name] ?? words(name), points: series.get(name) })),
        references(plan, teacherMetrics), end);
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

// Series that no chart knows get one of their own.
function plansFor(names) {
  const known = CHARTS.filter((plan) => plan.names.some((name) => names.includes(name)));
  const others = names.filter((name) => !CHARTS.some((plan) => plan.names.includes(name)));
  return [...known, ...others.map((name) => ({ title: words(name), names: [name] }))];
}

function references({ reference }, metrics) {
  const value = reference && metrics[reference];
  return typeof value === 'number' ? [{ label: 'teacher', value }] : [];
}

// A step that is already there is replaced: after a retry, or when the stream repeats itself.
function insert(series, name, step, value) {
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
