#!/usr/bin/env node
// browser_test.js - the dashboard in a real browser: a teacher and a data set go in through the page, a job is started
// through the form, its curve grows live, the student comes out through the button.
//
//   CHROMIUM=path      the browser, /usr/bin/chromium unless given
//   SCREENSHOTS=folder keeps pictures of every page, wide and narrow, light and dark
'use strict';

const child = require('child_process');
const crypto = require('crypto');
const fs = require('fs');
const path = require('path');
const { chromium } = require('playwright-core');
const { cleanup, note, ok, same, test } = require('./tap');
const { idxCut } = require('./arrays');
const { BINARY, FASHION, ROOT, Server, TEACHER, scratch, sleep } = require('./retort');

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];
const WIDE = { width: 1280, height: 860 };
const NARROW = { width: 390, height: 844 };
const IMAGES = 6000;

const folder = scratch();
const complaints = [];   // of the page, beside the refusals that a test provokes
const strangers = [];    // requests to anybody else
let server;
let browser;
let page;
let morphJob;            // its page

async function newPage(options) {
  const context = await browser.newContext({ viewport: WIDE, acceptDownloads: true, ...options });
  const fresh = await context.newPage();
  fresh.setDefaultTimeout(20000);
  fresh.on('console', (message) => {
    const refusal = /status of (409|422|400)/.test(message.text());
    if (message.type() === 'error' && !refusal) complaints.push(message.text());
  });
  fresh.on('pageerror', (error) => complaints.push(error.stack));
  fresh.on('request', (request) => {
    if (!request.url().startsWith(server.url)) strangers.push(request.url());
  });
  return fresh;
}

async function start() {
  server = await Server.start();
  cleanup(() => server.stop());
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium', headless: true, args: FLAGS });
  cleanup(() => browser.close());
  page = await newPage();
}

async function open(address, waitFor, on = page) {
  await on.goto(`${server.url}/#${address}`);
  await on.waitForSelector(`.page:not([aria-busy]) ${waitFor}`);
}

async function picture(name, on = page) {
  const to = process.env.SCREENSHOTS;
  if (to) await on.screenshot({ path: path.join(to, `${name}.png`) });
}

function cutFashion() {
  return [['train-images-idx3-ubyte.gz', IMAGES], ['train-labels-idx1-ubyte.gz', IMAGES]].map(([name, n]) => {
    const file = path.join(folder, name);
    fs.writeFileSync(file, idxCut(path.join(FASHION, name), n));
    return file;
  });
}

const text = (selector) => page.locator(selector).innerText();
const field = (name, kind = 'input') => page.locator(`[data-path="${name}"] ${kind}`).first();

test('an empty server tells what to do first', async () => {
  await start();
  await page.goto(server.url);
  await page.waitForSelector('.steps');
  same(await page.locator('.steps li').count(), 3, 'steps');
  const line = await page.locator('.steps code').first().innerText();
  same(line, `curl -T teacher.onnx ${server.url}/v1/models/teacher/onnx`, 'the line for the terminal');
  await picture('jobs-empty');
});

test('a network that the server refuses is explained', async () => {
  await open('/models', '.drop');
  const bytes = [...fs.readFileSync(path.join(ROOT, 'tests/fixtures/onnx/bad_operator.onnx'))];
  const drop = await page.evaluateHandle((content) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([new Uint8Array(content)], 'Odd Operator.onnx'));
    return transfer;
  }, bytes);
  await page.dispatchEvent('.drop', 'drop', { dataTransfer: drop });
  same(await page.inputValue('form.inline input'), 'odd-operator', 'name made of the name of the file');
  await page.click('form.inline button');
  await page.waitForSelector('.problem');
  ok((await text('.problem')).length > 40, 'the problem says something');
  await picture('models-refused');
});

test('the teacher is uploaded through the page', async () => {
  await open('/models', '.drop');
  await page.setInputFiles('input[type=file]', TEACHER);
  await page.click('form.inline button');
  await page.waitForSelector('.success');
  await page.waitForSelector('table th a:text-is("teacher")');
  const digest = crypto.createHash('sha256').update(fs.readFileSync(TEACHER)).digest('hex');
  const stored = await server.must(200, server.get('/v1/models/teacher@1'));
  same(stored.json.digest, `sha256:${digest}`, 'digest of the stored teacher');
  await picture('models');
});

test('a data set of two arrays is uploaded through the page', async () => {
  await open('/datasets', '.drop');
  await page.setInputFiles('input[type=file]', cutFashion());
  const arrays = page.locator('input[name=array]');
  same(await arrays.nth(0).inputValue(), 'inputs', 'guessed for the images');
  same(await arrays.nth(1).inputValue(), 'labels', 'guessed for the labels');
  await page.fill('input[name=name]', 'fashion');
  await picture('datasets-upload');
  await page.click('.upload-form button[type=submit]');
  await page.waitForSelector('.success');
  const shown = await text('.rows');
  ok(shown.includes('6,000 × 28 × 28'), `the shape is shown: ${shown}`);
  await picture('datasets');
});

test('a value out of range is marked at its field', async () => {
  await open('/new?method=distill&teacher=teacher&dataset=fashion', '.job-form');
  await field('train.epochs').fill('0');
  await page.click('[data-action=check]');
  await page.waitForSelector('[data-path="train.epochs"] .fault span');
  same(await field('train.epochs').getAttribute('aria-invalid'), 'true', 'marked for screen readers');
  await picture('new-fault');
});

test('a check shows how big the student will be and starts nothing', async () => {
  await field('train.epochs').fill('5');
  await field('output').fill('student');
  await page.click('[data-action=check]');
  await page.waitForSelector('.comparison');
  same(await page.locator('.fault span').count(), 0, 'problems left');
  ok(/Parameters/.test(await text('.comparison')), 'the size of the student');
  same((await server.get('/v1/jobs')).json.items.length, 0, 'jobs');
  await picture('new-checked');
});

// Number of points of a curve.
const drawn = (series) => page.locator(`.series-${series} path`).first().evaluate((line) => line.getAttribute('d').split(/[ML]/).length - 1)
  .catch(() => 0);

test('a job started through the form draws its curve while it runs', async () => {
  await page.click('[data-action=start]');
  await page.waitForSelector('.badge.state-running');
  await page.evaluate(() => { window.stillTheSamePage = true; });
  const seen = new Set();
  while (await page.locator('.badge.state-running').count()) {
    const points = await drawn('train_loss');
    if (points > 0) seen.add(points);
    if (seen.size === 4) await picture('job-running');
    await sleep(100);
  }
  note(`lengths of the curve seen: ${[...seen].join(' ')}`);
  ok(seen.size >= 3, 'the curve grew at least twice');
  ok(await page.evaluate(() => window.stillTheSamePage), 'without loading the page again');
  await page.waitForSelector('.badge.state-succeeded');
  ok(await drawn('accuracy') >= 2, 'a point of accuracy for each epoch');
  ok(await page.locator('.log li').count() > 0, 'lines in the log');
});

test('the result stands beside the teacher', async () => {
  await page.waitForSelector('[data-action=download]');
  const { result } = await server.job(1);
  const shown = await text('.comparison');
  for (const label of ['Parameters', 'File size', 'Multiply-adds', 'Accuracy']) ok(shown.includes(label), label);
  ok(shown.includes(`${(result.metrics.accuracy * 100).toFixed(2)} %`), 'accuracy of the student');
  ok(shown.includes(`${(result.teacher_metrics.accuracy * 100).toFixed(2)} %`), 'accuracy of the teacher');
  await picture('job-done');
});

test('the student is downloaded through the button, whole', async () => {
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('[data-action=download]')]);
  same(download.suggestedFilename(), 'student-v1.onnx', 'name of the file');
  const bytes = fs.readFileSync(await download.path());
  const digest = `sha256:${crypto.createHash('sha256').update(bytes).digest('hex')}`;
  same(digest, (await server.job(1)).result.digest, 'digest');
  same(digest, (await server.get('/v1/models/student@1')).json.digest, 'digest of the stored model');
});

test('the curve is read with the keyboard', async () => {
  await page.focus('.chart');
  for (let i = 0; i < 5; i++) await page.keyboard.press('ArrowLeft');
  ok(/at step [\d,]+/.test(await page.locator('.legend').first().innerText()), 'the step under the cursor');
});

test('a page loaded after the end shows the same curves and log', async () => {
  await open('/jobs/1', '.chart-card');
  await page.waitForSelector('.log li');
  ok(await drawn('train_loss') > 2, 'the curve');
  ok(await page.locator('[data-action=download]').count() === 1, 'the download');
});

test('a job is cancelled and tried again with the buttons', async () => {
  await page.click('text=Start another one like this');
  await page.waitForSelector('.job-form');
  same(await field('train.epochs').inputValue(), '5', 'taken over from the first job');
  await field('train.epochs').fill('500');
  await field('output').fill('endless');
  await page.click('[data-action=start]');
  await page.waitForSelector('.badge.state-running');
  await page.click('[data-action=cancel]');
  await page.waitForSelector('.badge.state-cancelled');
  await page.click('[data-action=retry]');
  await page.waitForSelector('.badge.state-running');
  await page.click('[data-action=cancel]');
  await page.waitForSelector('.badge.state-cancelled');
  same((await server.job(2)).state, 'cancelled', 'state');
});

// Rows of a table: { label: [cells] }.
const rowsOf = (table) => Object.fromEntries([...table.querySelectorAll('tbody tr')].map((row) => {
  const [label, ...cells] = [...row.children].map((cell) => cell.textContent.trim());
  return [label, cells];
}));

test('the proof of a morph is shown with means, both precisions and the smallest gradient', async () => {
  const id = await server.submit({ method: 'morph', model: 'teacher', dataset: { ref: 'fashion', scale: 255 },
    output: 'morphed', steps: [{ op: 'widen', factor: 1.2 }, { op: 'factor', layer: '*conv2*', rank: 8 }] });
  const { result } = await server.finished(id);
  morphJob = `/jobs/${id}`;
  await open(morphJob, '.changes');
  const { proof, steps } = result.report;
  const rows = await page.locator('.card:has(.changes) .comparison').evaluate(rowsOf);
  const data = proof.inputs.find(({ kind }) => kind === 'data');
  for (const [label, d] of [['Inference, double', proof.float64], ['Inference, single', proof.float32],
    ['On the data set, double', data.float64], ['On the data set, single', data.float32]]) {
    const near = (shown, value) => Math.abs(Number(shown) - value) <= 0.01 * value;
    ok(rows[label] && near(rows[label][0], d.max_abs) && near(rows[label][1], d.mean_abs), `${label}: ${rows[label]}`);
  }
  ok(!('border of the maps' in rows), 'a border where there are no maps');
  const least = proof.gradients.filter((g) => !g.dead).reduce((a, b) => (b.norm < a.norm ? b : a));
  const shown = await text('.card:has(.changes)');
  ok(shown.includes('Smallest gradient') && shown.includes(least.parameter), `the smallest gradient, ${least.parameter}: ${shown}`);
  ok(steps[0].proof.exact && shown.includes('The exact steps keep the function'), 'the exact steps');
  await picture('job-morph');
});

test('the proof of a network of maps tells border from interior', async () => {
  const rows = await page.evaluate(async () => {
    const { proofCard } = await import('/proof.js');
    const d = { max_abs: 0.5, mean_abs: 0.25, relative: 0.125, tolerance: 1e-10 };
    const proof = { exact: false, samples: 8, float64: d, float32: d, border: { max_abs: 0.5, mean_abs: 0.375 },
      interior: { max_abs: 0.0625, mean_abs: 0.03125 } };
    const card = proofCard({ result: { report: { proof, steps: [] } } });
    return [...card.querySelectorAll('tbody tr')].map((row) => [...row.children].map((cell) => cell.textContent.trim()).join(' | '));
  });
  same(rows.slice(1, 3).join('; '), 'border of the maps | 0.5 | 0.375; interior of the maps | 0.0625 | 0.03125', 'rows');
});

const PAGES = [['jobs', '/jobs', '.rows'], ['job', '/jobs/1', '[data-action=download]'], ['new', '/new', '.job-form'],
  ['models', '/models', 'table'], ['model', '/models/student', '.facts'], ['datasets', '/datasets', '.rows'],
  ['dataset', '/datasets/fashion', 'table']];

test('every page fits a phone, in light and in dark', async () => {
  for (const [look, options] of Object.entries({
    'narrow-light': { viewport: NARROW }, 'narrow-dark': { viewport: NARROW, colorScheme: 'dark' },
    'wide-dark': { colorScheme: 'dark' }, 'wide-light': {} })) {
    const one = await newPage(options);
    for (const [name, address, waitFor] of [...PAGES, ['morph', morphJob, '.changes']]) {
      await open(address, waitFor, one);
      await sleep(150);
      const over = await one.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      ok(over <= 0, `${name} (${look}) is ${over} pixels too wide`);
      await picture(`${look}-${name}`, one);
    }
    await one.context().close();
  }
});

test('where tokens are needed the page asks for one', async () => {
  const file = path.join(folder, 'tokens');
  const token = child.execFileSync(BINARY, ['token', '--file', file, '--name', 'me', '--scope', 'write']).toString().trim();
  const guarded = await Server.start({ args: ['--tokens', file] });
  cleanup(() => guarded.stop());
  const context = await browser.newContext({ viewport: WIDE }), one = await context.newPage();
  await one.goto(`${guarded.url}/`);
  await picture('token', one);
  await one.fill('.token-form input', token);
  await one.click('.token-form button');
  await one.waitForSelector('.page:not([aria-busy]) a[href="#/new"]');
  same(await one.locator('.problem').count(), 0, 'problems with the token');
  await context.close();
});

test('nothing complained, and nobody else was asked', async () => {
  same(complaints.join('\n'), '', 'errors of the console');
  same(strangers.join('\n'), '', 'requests to other hosts');
});
