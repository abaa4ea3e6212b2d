// netmorph.js - Network Morphism (Wei et al. 2016): depth, width, kernel, subnet and all at once, with Relu and with tanh,
// against the identity approach of Net2Net (IdMorph) and against from scratch.
'use strict';

const f = require('./figures');

const CHANNELS = [8, 16];
const parent = (activation) => ({ student: { layers: [{ conv: CHANNELS[0], kernel: 3 }, activation, { maxpool: 2 },
  { conv: CHANNELS[1], kernel: 3 }, activation, { maxpool: 2 }, 'flatten', { dense: 10 }] } });
const on = (op, layers, more) => layers.map((layer) => ({ op, layer, ...more }));
const CONVS = ['conv1', 'conv4'];
const WIDTH = { factor: 1.5 }, SOME = { factor: 1.25 }, KERNEL = on('kernel', CONVS, { size: 5 });

// What the paper does, and what the identity approach does for the same purpose; null: it has nothing for it.
const MORPHS = {
  depth: { morph: on('deepen', CONVS, { mode: 'netmorph' }), id: on('deepen', CONVS, { mode: 'identity' }) },
  width: { morph: on('widen', CONVS, { ...WIDTH, mode: 'random-fanin' }), id: on('widen', CONVS, { ...WIDTH, mode: 'net2wider' }) },
  kernel: { morph: KERNEL, id: null },
  subnet: { morph: on('subnet', ['conv4'], { mode: 'stacked', parts: 2 }), id: null },
  all: { // less of each, or nothing is left of the budget
    morph: [...on('widen', CONVS, { ...SOME, mode: 'random-fanin' }), ...on('kernel', ['conv1'], { size: 5 }),
      ...on('subnet', ['conv4'], { mode: 'stacked', parts: 2 }), ...on('deepen', ['conv1'], { mode: 'netmorph' })],
    id: [...on('widen', CONVS, { ...SOME, mode: 'net2wider' }), ...on('kernel', ['conv1'], { size: 5 }),
      ...on('deepen', CONVS, { mode: 'identity' })],
  },
};
const KINDS = Object.keys(MORPHS);
const SETS = ['MNIST', 'Fashion-MNIST'], ACTIVATIONS = ['relu', 'tanh'];

// The small networks of this part take less time for a budget than those of the others; WEIGHT says how much less.
const WEIGHT = 0.3;
const share = (s) => WEIGHT * (s.quick ? 1 : SETS.length) * ACTIVATIONS.length * (1 + 8 * s.small_child + KINDS.length * (1 + s.small_child));

async function kind(lab, name, { data, seed, budget, teacher, refusals }) {
  const s = lab.settings, { morph, id } = MORPHS[name];
  const common = { data, seed, budget: budget * s.small_child, rate: s.rate * s.restart, model: teacher.model, units: WEIGHT * s.small_child };
  const found = { morph: await lab.run(`${name}, morphed`, { ...common, steps: morph }) };
  if (id) {
    const reason = await lab.refused({ method: 'morph', ...data, model: teacher.model, steps: id });
    if (reason) refusals[name] = reason;
    else found.id = await lab.run(`${name}, identity`, { ...common, steps: id });
  }
  found.scratch = await lab.run(`${name}, from scratch`, { data, seed, budget: budget * (1 + s.small_child), rate: s.rate,
    units: WEIGHT * (1 + s.small_child), student: { model: found.morph.model, init: 'random' } });
  return found;
}

async function run(lab, seeds) {
  const s = lab.settings, all = [];
  for (const set of s.quick ? SETS.slice(0, 1) : SETS) {
    const data = await lab.dataset(set);
    for (const activation of ACTIVATIONS) {
      const of = { set, activation, seeds: [], refusals: {} };
      for (const seed of seeds) {
        const { macs } = await lab.size({ method: 'train', ...data, ...parent(activation) });
        const budget = lab.budget(s.small_steps, macs);
        const teacher = await lab.run(`${set}, ${activation}: the parent`, { data, seed, budget, rate: s.rate, units: WEIGHT, ...parent(activation) });
        const context = { data, seed, budget, teacher, refusals: of.refusals };
        const [further, ...kinds] = await Promise.all([
          lab.run('the parent, trained on', { data, seed, budget: budget * s.small_child, rate: s.rate * s.restart, units: WEIGHT * s.small_child,
            model: teacher.model }),
          ...KINDS.map((name) => kind(lab, name, context))]);
        of.seeds.push({ teacher, further, ...Object.fromEntries(KINDS.map((name, i) => [name, kinds[i]])) });
      }
      all.push(of);
    }
  }
  return all;
}

// ---- the page ----

function section({ set, activation, seeds, refusals }) {
  const acc = (of) => seeds.map((x) => of(x).accuracy);
  const cell = (name, way) => (seeds.every((x) => x[name][way]) ? f.percent(acc((x) => x[name][way])) : '–');
  const rows = KINDS.map((name) => {
    const r = seeds[0][name].morph;
    return [name, f.big(r.macs), f.big(r.parameters), seeds.every((x) => x[name].morph.proof) ? 'yes' : 'no', cell(name, 'morph'), cell(name, 'id'),
      cell(name, 'scratch')];
  });
  const lines = [];
  for (const name of KINDS) {
    const has = seeds.every((x) => x[name].id);
    if (has) lines.push(f.better(acc((x) => x[name].morph), acc((x) => x[name].id), `${name}: Network Morphism`, 'the identity approach'));
    else if (refusals[name]) lines.push(`- ${name}: the identity approach is refused ("${refusals[name]}"), Network Morphism is exact ` +
      `(${seeds.filter((x) => x[name].morph.proof).length} of ${seeds.length} proofs): **${seeds.every((x) => x[name].morph.proof) ? 'reproduces' : 'does not reproduce'}**.`);
    lines.push(f.better(acc((x) => x[name].morph), acc((x) => x[name].scratch), `${name}: Network Morphism`, 'from scratch, as much spent in total,'));
    lines.push(f.compare(acc((x) => x[name].morph), acc((x) => x.further), `${name}: Network Morphism`, 'the parent, trained on for as much,'));
  }
  return [`### ${set}, ${activation}`, '',
    `The parent ends at ${f.percent(acc((x) => x.teacher))} %, trained on for as much as its children at ${f.percent(acc((x) => x.further))} %.`, '',
    ...f.table(['morph', 'multiply-adds', 'parameters', 'proved equal', 'Network Morphism, %', 'identity approach, %', 'from scratch, %'], rows),
    ...lines, ''];
}

function page(all, s) {
  const p = all[0].seeds[0].teacher;
  return ['## 2. Network Morphism', '',
    `The parent is a network of two convolutions, ${CHANNELS.join(' and ')} channels, and a dense layer: ${f.big(p.macs)} multiply-adds, ` +
    `${f.big(p.parameters)} parameters. Depth puts a second layer behind both convolutions, width gives them half as many channels more, kernel goes ` +
    'from 3x3 to 5x5, subnet makes two branches of two layers of the second convolution, and all does all of it (a quarter more channels; kernel and ' +
    'depth for the first convolution, the subnet for the second). For depth the identity ' +
    `approach is Net2Deeper, for width Net2Wider; for kernels and subnets it has nothing. The parent is trained for ${p.steps} steps, ` +
    `its children for ${s.small_child} times as many multiply-adds, at ${s.restart} times its learning rate; what starts from scratch gets both at the full rate. It ` +
    'is the network that Network Morphism makes.', '', ...all.flatMap((x) => section(x, s))];
}

module.exports = { run, page, share };
