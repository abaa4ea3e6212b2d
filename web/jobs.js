// jobs.js - the list of jobs, with live progress of those that run.

import { follow, isFinal, page } from './api.js';
import { h, pageHead, replace } from './dom.js';
import { percent, when } from './format.js';
import { jobTitle, progressBar, stateBadge } from './job_parts.js';
import { firstSteps } from './start.js';

const PAGE_SIZE = 50;
const REFRESH_MS = 4000;
const MAX_STREAMS = 3; // a browser allows six connections to one server

export async function jobsPage(place, { signal }) {
  const first = await page('v1/jobs', { limit: PAGE_SIZE, signal });
  if (first.items.length === 0) {
    replace(place, pageHead('Jobs'), await firstSteps(signal));
    return;
  }
  const list = jobList(signal);
  list.show(first.items);
  replace(place, pageHead('Jobs'), list.element, moreButton(first.next, list, signal));
  refreshRegularly(list, signal);
}

function refreshRegularly(list, signal) {
  const timer = setInterval(async () => {
    if (document.hidden) return;
    try {
      list.show((await page('v1/jobs', { limit: PAGE_SIZE, signal })).items);
    } catch { /* the next round tries again */ }
  }, REFRESH_MS);
  signal.addEventListener('abort', () => clearInterval(timer));
}

function moreButton(next, list, signal) {
  if (!next) return null;
  const button = h('button', { type: 'button' }, 'Show older jobs');
  button.addEventListener('click', async () => {
    const more = await page('v1/jobs', { limit: PAGE_SIZE, after: next, signal });
    list.show(more.items);
    next = more.next;
    if (!next) button.remove();
  });
  return h('p', button);
}

function jobList(signal) {
  const rows = new Map();
  const element = h('ul.rows');
  let streams = 0;

  function watch(row) {
    if (streams >= MAX_STREAMS || row.watched || row.job.state !== 'running') return;
    streams += 1;
    row.watched = true;
    follow(row.job.id, (type, data) => {
      if (type === 'progress') row.update({ ...row.job, progress: data });
      if (type === 'state') row.update({ ...row.job, state: data.state });
      if (type === 'end') { streams -= 1; row.watched = false; }
    }, signal);
  }
  function show(jobs) {
    for (const job of jobs) {
      const row = rows.get(job.id) ?? jobRow(job);
      if (!rows.has(job.id)) rows.set(job.id, row);
      else if (!row.watched || isFinal(job.state)) row.update(job);
      watch(row);
    }
    const sorted = [...rows.values()].sort((a, b) => b.job.id - a.job.id);
    if (sorted.some((row, i) => element.children[i] !== row.element)) replace(element, sorted.map((row) => row.element));
  }
  return { element, show };
}

function jobRow(job) {
  const progress = progressBar(job);
  const badge = h('span');
  const side = h('span.row-side');
  const element = h('li.row',
    h('div.row-main',
      h('a.row-title', { href: `#/jobs/${job.id}` }, jobTitle(job)),
      h('span.muted', `#${job.id} · ${job.method}`)),
    h('div.row-state', badge, progress.element),
    side);
  const row = { job, element, watched: false, update };

  function update(now) {
    row.job = now;
    replace(badge, stateBadge(now.state));
    progress.update(now);
    replace(side, accuracyOf(now), when(now.created_at));
  }
  update(job);
  return row;
}

function accuracyOf(job) {
  const value = job.result?.metrics?.accuracy ?? job.metrics?.accuracy ?? job.metrics?.eval_accuracy;
  return typeof value === 'number' ? h('span.figure', percent(value)) : null;
}
