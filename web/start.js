// start.js - what a newcomer sees where nothing is yet: the next thing to do, by mouse and by curl.

import { page } from './api.js';
import { card, command, h } from './dom.js';

const server = () => new URL('.', document.baseURI).href.replace(/\/$/, '');

export const curl = {
  model: (name = 'teacher') => `curl -T ${name}.onnx ${server()}/v1/models/${name}/onnx`,
  inputs: (name = 'fashion') => `curl -T train-images-idx3-ubyte.gz ${server()}/v1/datasets/${name}/inputs`,
  labels: (name = 'fashion') => `curl -T train-labels-idx1-ubyte.gz ${server()}/v1/datasets/${name}/labels`,
  job: (body) => `curl ${server()}/v1/jobs -d '${JSON.stringify(body).replaceAll("'", "'\\''")}'`,
  download: (path) => `curl -OJ ${server()}/${path}`,
};

export function emptyModels() {
  return card('No models yet',
    h('p', 'A model is a network as an ONNX file. Drop one above, or send it from a terminal:'),
    command(curl.model()));
}

export function emptyDatasets() {
  return card('No data sets yet',
    h('p', 'A data set is a set of named arrays, such as “inputs” and “labels”. ',
      'NumPy (.npy, .npz) and IDX files are read, gzipped or not. Drop some above, or send them from a terminal:'),
    command(curl.inputs()), command(curl.labels()));
}

async function anyOf(path, signal) {
  return (await page(path, { limit: 1, signal })).items[0];
}

// Three steps to the first student; those already done are ticked.
export async function firstSteps(signal) {
  const [model, dataset] = await Promise.all([anyOf('v1/models', signal), anyOf('v1/datasets', signal)]);
  const job = {
    method: 'distill',
    teacher: model?.name ?? 'teacher',
    dataset: { ref: dataset?.name ?? 'fashion', scale: 255 },
    student: { width: 0.25 },
    output: 'student',
  };
  const next = !model ? 0 : !dataset ? 1 : 2;
  const steps = [
    step(0, next, 'Upload the teacher', 'The network that knows: an ONNX file.', '#/models', 'Upload a model', [curl.model()]),
    step(1, next, 'Upload the data', 'What it learns on: inputs and, if there are any, labels.', '#/datasets',
      'Upload a data set', [curl.inputs(), curl.labels()]),
    step(2, next, 'Start the job', 'The student learns from the teacher while you watch.', '#/new', 'Start a job', [curl.job(job)]),
  ];
  return h('section.card.welcome',
    h('h2', 'Three steps to the first student'),
    h('p.muted', 'retort moves what one neural network knows into another, smaller one.'),
    h('ol.steps', steps));
}

function step(index, next, title, text, href, label, lines) {
  const done = index < next;
  const current = index === next;
  return h(`li${done ? '.done' : ''}${current ? '.current' : ''}`,
    h('div.step-mark', { 'aria-hidden': 'true' }, done ? '✓' : String(index + 1)),
    h('div.step-body',
      h('h3', title, done && h('span.hidden-visually', ' (done)')),
      h('p', text),
      !done && h('p', h(current ? 'a.button.primary' : 'a.button', { href }, label)),
      !done && lines.map(command)));
}
