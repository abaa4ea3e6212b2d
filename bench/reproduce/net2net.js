// net2net.js - Net2Net (Chen et al. 2016): wider and deeper students against random padding and against from scratch.
'use strict';

const f = require('./figures');

const WIDE = [32, 48, 96];
const NARROW = WIDE.map((c) => Math.round(c * Math.sqrt(0.3)));
const layers = ([a, b, d]) => [{ conv: a, kernel: 3 }, 'batchnorm', 'relu', { maxpool: 2 }, { conv: b, kernel: 3 }, 'batchnorm',
  'relu', { maxpool: 2 }, 'flatten', { dense: d }, 'relu', { dense: 10 }];
const widen = (mode) => ['conv1', 'conv5', 'dense10'].map((layer, i) => ({ op: 'widen', layer, to: WIDE[i], mode }));
const DEEPER = [{ op: 'deepen', layer: 'conv*', mode: 'identity' }];

// Of one seed, in parts of the teacher's budget: teacher, 7 children, 2 from scratch with both budgets.
const share = (s) => 1 + 7 * s.students + 2 * (1 + s.students);

async function wider(lab, data, teacher, seed, budget) {
  const s = lab.settings, common = { data, seed, budget: budget * s.students, rate: s.rate * s.restart, units: s.students };
  const random = async () => {
    const child = await lab.morph('padded', { data, model: teacher.model, steps: widen('random-fanin'), seed });
    const model = await lab.padded(child.model, seed);
    const start = await lab.accuracy(model, data);
    const runs = await Promise.all([s.restart, 1].map((x) =>
      lab.run(`wider, random padding, rate x ${x}`, { ...common, model, rate: s.rate * x })));
    return runs.map((r) => ({ ...r, start }));
  };
  const [even, uneven, padded, scratch] = await Promise.all([
    lab.run('wider, net2wider', { ...common, model: teacher.model, steps: widen('net2wider') }),
    lab.run('wider, uneven', { ...common, model: teacher.model, steps: widen('uneven') }),
    random(),
    lab.run('wider, from scratch', { data, seed, budget: budget * (1 + s.students), rate: s.rate, units: 1 + s.students,
      student: { layers: layers(WIDE) } }),
  ]);
  return { even, uneven, 'padded, low rate': padded[0], 'padded, full rate': padded[1], scratch };
}

async function deeper(lab, data, teacher, seed, budget) {
  const s = lab.settings, common = { data, seed, budget: budget * s.students, rate: s.rate * s.restart, units: s.students };
  const identity = lab.run('deeper, identity', { ...common, model: teacher.model, steps: DEEPER });
  const child = await lab.morph('deeper', { data, model: teacher.model, steps: DEEPER, seed });
  const model = await lab.randomised(child.model, /deeper_weight/, seed);
  const start = await lab.accuracy(model, data);
  const [random, scratch] = await Promise.all([
    lab.run('deeper, random layers', { ...common, model, rate: s.rate }),
    lab.run('deeper, from scratch', { data, seed, budget: budget * (1 + s.students), rate: s.rate, units: 1 + s.students,
      student: { model: child.model, init: 'random' } }),
  ]);
  return { identity: await identity, random: { ...random, start }, scratch };
}

async function run(lab, seeds) {
  const s = lab.settings, data = await lab.dataset('Fashion-MNIST');
  const all = [];
  for (const seed of seeds) {
    const teacher = { student: { layers: layers(NARROW) } };
    const { macs } = await lab.size({ method: 'train', ...data, ...teacher });
    const budget = lab.budget(s.teacher_steps, macs);
    const parent = await lab.run('the teacher', { data, seed, budget, rate: s.rate, ...teacher });
    const [on, w, d] = await Promise.all([
      lab.run('the teacher, trained on', { data, seed, budget: budget * s.students, rate: s.rate * s.restart, units: s.students,
        model: parent.model }),
      wider(lab, data, parent, seed, budget), deeper(lab, data, parent, seed, budget)]);
    all.push({ parent, on: { ...on, start: parent.accuracy }, w, d, budget });
  }
  return all;
}

// ---- the page ----

function rows(names, of, all, s) {
  const targets = all.map((x) => x.parent.accuracy);
  return Object.entries(names).map(([key, name]) => {
    const runs = all.map((x) => of(x)[key]), r = runs[0], own = key === 'scratch' ? 0 : 1;
    const at = (share) => f.percent(all.map((x, i) => f.accuracyAt(runs[i], x.budget * (1 + share * s.students), own * x.budget)));
    return [name, f.big(r.macs), f.big(r.parameters), r.steps, runs.every((x) => x.start !== undefined) ? f.percent(f.of(runs, 'start')) : '–',
      at(0.25), at(0.5), at(1), f.steps(runs, targets)];
  });
}

const head = (s) => ['student', 'multiply-adds', 'parameters', 'steps', 'at the start, %',
  ...[0.25, 0.5, 1].map((x) => `after ${(1 + x * s.students).toFixed(2)} budgets, %`), "steps to the teacher's accuracy"];

const WIDER = { even: 'Net2Wider', uneven: 'Net2Wider, uneven shares', 'padded, low rate': 'random padding, low rate',
  'padded, full rate': 'random padding, full rate', scratch: 'from scratch' };
const DEEP = { identity: 'Net2Deeper', random: 'random layers', scratch: 'from scratch' };

function page(all, s) {
  const acc = (of) => all.map((x) => of(x).accuracy), runs = (of) => all.map(of);
  const targets = acc((x) => x.parent);
  const best = all.map((x) => [x.w['padded, low rate'], x.w['padded, full rate']].sort((a, b) => b.accuracy - a.accuracy)[0]);
  const p = all[0].parent;
  return ['## 1. Net2Net', '',
    `Fashion-MNIST. The teacher is a network of two convolutions (with batch normalisation) and two dense layers, ${NARROW.join(', ')} ` +
    `units where the student has ${WIDE.join(', ')}: √0.3 of them. It has ${f.big(p.parameters)} parameters, ${f.big(p.macs)} multiply-adds, is ` +
    `trained for ${p.steps} steps (one budget, ${f.big(p.cost)} multiply-adds) and ends at ${f.percent(targets)} %. Students get ` +
    `${s.students} budgets more, at ${s.restart} times its learning rate; those from scratch ${1 + s.students} budgets at the full rate, so that after as many ` +
    'budgets the same has been spent, the teacher included. Random padding (old units copied, new ones random on both sides) is mode ' +
    '`random-fanin` whose zeros on the way out are then drawn from a normal distribution as wide as the other weights of the ' +
    'layer, written back as safetensors; it is shown at both rates, and verdicts take the better one of each seed. Random layers are those of ' +
    'Net2Deeper with weights by He in the place of the identity, at the full rate.', '',
    ...f.table(head(s), [...rows({ on: 'the teacher, trained on' }, (x) => x, all, s), ...rows(WIDER, (x) => x.w, all, s),
      ...rows(DEEP, (x) => x.d, all, s)]),
    `Evaluated every ${s.images / s.batch | 0} steps, which is how fine the last column is; it has one number for each seed, – for never. ` +
    'A cosine schedule arrives late, which favours those that start near the goal: where all has been spent, this plays no part.', '',
    f.faster(runs((x) => x.w.even), runs((x) => x.w.scratch), targets, 'wider by Net2Wider', 'from scratch', "the teacher's accuracy"),
    f.faster(runs((x) => x.w.even), best, targets, 'wider by Net2Wider', 'random padding', "the teacher's accuracy"),
    f.faster(runs((x) => x.w.even), runs((x) => x.w.scratch), acc((x) => x.w.scratch), 'wider by Net2Wider', 'from scratch', 'the end of from scratch'),
    f.cheaper(runs((x) => x.w.even), runs((x) => x.parent), runs((x) => x.w.scratch), targets, 'wider by Net2Wider', 'from scratch', "the teacher's accuracy"),
    f.compare(acc((x) => x.w.even), best.map((r) => r.accuracy), 'wider by Net2Wider', 'random padding'),
    f.compare(acc((x) => x.w.even), acc((x) => x.w.scratch), 'wider by Net2Wider', 'from scratch, as much spent in total,'),
    f.compare(acc((x) => x.w.even), acc((x) => x.on), 'wider by Net2Wider', 'the teacher, trained on for as much,'),
    f.compare(acc((x) => x.w.uneven), acc((x) => x.w.even), 'wider with uneven shares', 'with nearly equal ones'),
    f.faster(runs((x) => x.d.identity), runs((x) => x.d.scratch), targets, 'deeper by Net2Deeper', 'from scratch', "the teacher's accuracy"),
    f.faster(runs((x) => x.d.identity), runs((x) => x.d.random), targets, 'deeper by Net2Deeper', 'random layers', "the teacher's accuracy"),
    f.cheaper(runs((x) => x.d.identity), runs((x) => x.parent), runs((x) => x.d.scratch), targets, 'deeper by Net2Deeper', 'from scratch', "the teacher's accuracy"),
    f.compare(acc((x) => x.d.identity), acc((x) => x.d.scratch), 'deeper by Net2Deeper', 'from scratch, as much spent in total,'),
    f.compare(acc((x) => x.d.identity), acc((x) => x.on), 'deeper by Net2Deeper', 'the teacher, trained on for as much,'),
    ''];
}

module.exports = { run, page, share, layers, NARROW, WIDE };
