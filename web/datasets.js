// datasets.js - the list of data sets, the upload of arrays, and the page of one data set.

import { datasetPath, get, page } from './api.js';
import { card, copyButton, facts, freshId, h, pageHead, replace } from './dom.js';
import { bytes, digest, shape, when } from './format.js';
import { emptyDatasets } from './start.js';
import { dropZone, nameFrom, sending } from './upload.js';

const PAGE_SIZE = 100;
const ARRAYS = ['inputs', 'labels', 'targets', 'observations', 'q_values', 'actions'];
const GUESSES = [[/label|target_?class|(^|[-_])y([-_.]|$)/, 'labels'], [/target|logit|teacher/, 'targets'], [/q_?values?/, 'q_values'],
  [/action/, 'actions'], [/observation|frame|state/, 'observations']];

export async function datasetsPage(place, { signal }) {
  const list = h('div');
  async function refresh() {
    const { items, next } = await page('v1/datasets', { limit: PAGE_SIZE, signal });
    replace(list, items.length ? datasetList(items, next, signal) : emptyDatasets());
  }
  await refresh();
  replace(place, pageHead('Data sets'), uploadCard('', refresh), list);
}

export async function datasetPage(place, { parts: [ref], signal }) {
  const name = ref.split('@')[0];
  const detail = h('div');
  const title = h('span');
  async function show() {
    const dataset = await get(datasetPath(ref), signal);
    title.textContent = `${name}@${dataset.version}`;
    replace(detail, arraysCard(dataset), card('This version', versionFacts(dataset)));
  }
  await show();
  replace(place, h('p.crumbs', h('a', { href: '#/datasets' }, 'Data sets'), ` / ${name}`),
    pageHead(title, h('a.button', { href: `#/new?dataset=${ref}` }, 'Use it in a job')),
    detail, ref === name && uploadCard(name, show));
}

function versionFacts(dataset) {
  const links = (dataset.versions ?? []).map(({ version }) => [h('a', { href: `#/datasets/${dataset.name}@${version}` }, `@${version}`), ' ']);
  return facts([
    ['Size', bytes(dataset.bytes)],
    ['Stored', when(dataset.created_at)],
    ['Digest', h('span.digest-line', digest(dataset.digest), copyButton(() => dataset.digest))],
    ['Versions', links.length > 1 ? links : null]]);
}

function arraysCard(dataset) {
  const rows = dataset.arrays.map((array) => h('tr',
    h('th', { scope: 'row' }, array.name),
    h('td', { 'data-label': 'Type' }, array.dtype),
    h('td', { 'data-label': 'Shape' }, shape(array.shape)),
    h('td', { 'data-label': 'Size' }, bytes(array.bytes)),
    h('td', { 'data-label': 'Digest' }, h('span.digest-line', digest(array.digest), copyButton(() => array.digest))),
    h('td.row-actions', h('a', { href: `${datasetPath(`${dataset.name}@${dataset.version}`)}/${array.name}`, download: '' }, 'Download'))));
  const heads = ['Array', 'Type', 'Shape', 'Size', 'Digest', ''];
  return card('Arrays', h('table.stacked', h('thead', h('tr', heads.map((text) => h('th', { scope: 'col' }, text)))), h('tbody', rows)));
}

function datasetList(items, next, signal) {
  const list = h('ul.rows', items.map(datasetRow));
  const more = next && h('button', { type: 'button' }, 'Show more');
  more?.addEventListener('click', async () => {
    const answer = await page('v1/datasets', { limit: PAGE_SIZE, after: next, signal });
    list.append(...answer.items.map(datasetRow));
    next = answer.next;
    if (!next) more.remove();
  });
  return h('div', list, more);
}

function datasetRow(dataset) {
  return h('li.row.dataset-row',
    h('div.row-main', h('span', h('a.row-title', { href: `#/datasets/${dataset.name}` }, dataset.name), h('span.muted', `@${dataset.version}`)),
      h('span.muted', bytes(dataset.bytes))),
    h('ul.arrays', dataset.arrays.map((array) => h('li', h('b', array.name), ` ${shape(array.shape)} `, h('span.muted', array.dtype)))),
    h('span.row-side', when(dataset.created_at)));
}

// The upload of one or more arrays under one name; with a fixed name on the page of a data set.
function uploadCard(fixedName, refresh) {
  const pending = h('div.pending');
  const zone = dropZone({
    label: fixedName ? 'Add or replace arrays' : 'Upload a data set',
    hint: 'Drop .npy, .npz or IDX files here, gzipped or not, or choose them',
    multiple: true,
    onfiles: (files) => replace(pending, uploadForm(files, fixedName, pending, refresh)),
  });
  return h('section.card', zone, pending);
}

const wholeFormat = (file) => /\.(npz|safetensors)(\.gz)?$/.exec(file.name)?.[1] ?? null;

function guessArray(file, taken) {
  const found = GUESSES.find(([pattern]) => pattern.test(file.name.toLowerCase()))?.[1] ?? 'inputs';
  return taken.includes(found) ? ARRAYS.find((name) => !taken.includes(name)) ?? '' : found;
}

function guessRows(files) {
  const taken = [];
  return files.map((file) => {
    const array = wholeFormat(file) ?? guessArray(file, taken);
    taken.push(array);
    return { file, array };
  });
}

function uploadForm(files, fixedName, pending, refresh) {
  const id = freshId('name');
  const suggestion = fixedName || (files.length === 1 ? nameFrom(files[0].name) : '');
  const name = h('input', { id, type: 'text', name: 'name', value: suggestion, required: true, autocomplete: 'off', spellcheck: 'false', placeholder: 'for example fashion' });
  const rows = guessRows(files).map(fileRow);
  const form = h('form.upload-form',
    !fixedName && h('div.inline', h('label', { for: id }, 'Name of the data set'), name),
    rows.map((row) => row.element),
    h('p', h('button.primary', { type: 'submit' }, rows.length > 1 ? `Upload ${rows.length} files` : 'Upload')));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    await sendAll(rows, name.value.trim(), pending);
    await refresh();
  });
  if (!fixedName) queueMicrotask(() => name.focus());
  return form;
}

function fileRow({ file, array }) {
  const whole = wholeFormat(file);
  if (whole) return { file, array: () => whole, element: h('p', `${file.name} (${bytes(file.size)}): all arrays in it`) };
  const id = freshId('array');
  const options = freshId('arrays');
  const input = h('input', { id, type: 'text', name: 'array', value: array, list: options, required: true, autocomplete: 'off', spellcheck: 'false' });
  const element = h('div.inline', h('label', { for: id }, file.name), h('span.muted', `${bytes(file.size)} as`), input,
    h('datalist', { id: options }, ARRAYS.map((value) => h('option', { value }))));
  return { file, array: () => input.value.trim(), element };
}

// One after the other: every array makes a new version of the same data set.
async function sendAll(rows, name, pending) {
  const transfers = rows.map((row) => ({ path: `${datasetPath(name)}/${row.array()}`, ...sending(row.file) }));
  replace(pending, transfers.map((one) => one.element));
  let good = 0;
  for (const one of transfers) good += (await one.send(one.path)) ? 1 : 0;
  if (good === transfers.length) {
    pending.append(h('p.success', h('b', name), ' is stored. ', h('a', { href: `#/new?dataset=${name}` }, 'Use it in a job')));
  }
}
