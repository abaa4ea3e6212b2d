// roundtrip.js - there and back: a network is widened, trained, and narrowed to what it was. What is kept?
'use strict';

const f = require('./figures');
const { layers, NARROW, WIDE } = require('./net2net');

const LAYERS = ['conv1', 'conv5', 'dense10'];
const to = (op, widths, more) => LAYERS.map((layer, i) => ({ op, layer, to: widths[i], ...more }));

// In parts of a budget: the teacher, trained on twice as long; widened; narrowed and trained on.
const share = (s) => 1 + s.child * 4;

async function missing(lab) {
  const methods = (await lab.server.must(200, lab.server.get('/v1/methods'))).body.toString();
  return /"narrow"/.test(methods) ? null : 'this server has no step "narrow"';
}

async function run(lab, seeds) {
  const s = lab.settings, reason = await missing(lab);
  if (reason) {
    console.error(`the round trip is skipped: ${reason}`);
    return { skipped: reason };
  }
  const data = await lab.dataset('Fashion-MNIST'), all = [];
  for (const seed of seeds) {
    const student = { layers: layers(NARROW) };
    const { macs } = await lab.size({ method: 'train', ...data, student });
    const budget = lab.budget(s.teacher_steps, macs), common = { data, seed, budget: budget * s.child, rate: s.rate * s.restart, units: s.child };
    const parent = await lab.run('round trip: the parent', { data, seed, budget, rate: s.rate, student });
    const there = to('widen', WIDE, { mode: 'uneven' }), back = to('narrow', NARROW);
    const further = lab.run('round trip: the parent, trained on', { ...common, budget: 2 * common.budget, units: 2 * s.child, model: parent.model });
    const untrained = await lab.morph('there', { data, model: parent.model, steps: there, seed });
    const returned = await lab.morph('back', { data, model: untrained.model, steps: back, seed });
    const wide = await lab.run('round trip: widened and trained', { ...common, model: parent.model, steps: there });
    const narrow = await lab.morph('back', { data, model: wide.model, steps: back, seed });
    const tuned = await lab.run('round trip: narrowed and trained', { ...common, model: wide.model, steps: back });
    all.push({ parent, further: await further, returned, wide, narrow, tuned });
  }
  return { all };
}

function page({ skipped, all }, s) {
  const title = ['## 4. There and back', ''];
  if (skipped) return [...title, `Skipped: ${skipped}.`, ''];
  const acc = (key) => all.map((x) => x[key].accuracy);
  const row = (key, name) => [name, f.big(all[0][key].macs), f.big(all[0][key].parameters), f.percent(acc(key))];
  return [...title,
    'Fashion-MNIST, the teacher of part 1: widened with uneven shares, trained, and narrowed to what it was; each training takes ' +
    `${s.child} times the multiply-adds of the parent's, at ${s.restart} times its learning rate, and the parent is trained on with both.`, '',
    ...f.table(['network', 'multiply-adds', 'parameters', 'accuracy, %'], [row('parent', 'the parent'),
      row('returned', 'widened and narrowed, nothing trained'), row('wide', 'widened and trained'), row('narrow', 'and narrowed'),
      row('tuned', 'and trained again'), row('further', 'the parent, trained on for as much')]),
    f.equal(acc('returned'), acc('parent'), 'widened and narrowed without training', 'the parent', 0),
    f.compare(acc('tuned'), acc('parent'), 'there and back, trained,', 'the parent'),
    f.compare(acc('tuned'), acc('further'), 'there and back, trained,', 'the parent, trained on for as much,'), ''];
}

module.exports = { run, page, share };
