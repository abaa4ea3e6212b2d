// app.js - which page is shown. Addresses are #/models/teacher and so on.

import { get } from './api.js';
import { announce, h, pageHead, replace } from './dom.js';
import { problemBox } from './problems.js';
import { datasetPage, datasetsPage } from './datasets.js';
import { jobPage } from './job.js';
import { jobsPage } from './jobs.js';
import { modelPage, modelsPage } from './models.js';
import { newJobPage } from './new_job.js';

// A page is an async function (place, context): it fills `place`, and stops whatever it started
// when context.signal aborts. The context also has the parts of the address and its query.
const ROUTES = [
  { pattern: /^\/jobs$/, title: 'Jobs', page: jobsPage },
  { pattern: /^\/jobs\/(\d+)$/, title: 'Job', page: jobPage },
  { pattern: /^\/models$/, title: 'Models', page: modelsPage },
  { pattern: /^\/models\/([^/]+)$/, title: 'Model', page: modelPage },
  { pattern: /^\/datasets$/, title: 'Data sets', page: datasetsPage },
  { pattern: /^\/datasets\/([^/]+)$/, title: 'Data set', page: datasetPage },
  { pattern: /^\/new$/, title: 'New job', page: newJobPage },
];

const main = document.getElementById('main');
let current = new AbortController();

function readAddress() {
  const [path, query = ''] = (location.hash.slice(1) || '/jobs').split('?');
  for (const route of ROUTES) {
    const match = route.pattern.exec(path);
    if (match) return { route, parts: match.slice(1).map(decodeURIComponent), query: new URLSearchParams(query) };
  }
  return { route: { title: 'Not found', page: notFoundPage }, parts: [], query: new URLSearchParams() };
}

async function notFoundPage(place) {
  replace(place, pageHead('There is no such page'), h('p', h('a', { href: '#/jobs' }, 'Back to the jobs')));
}

function markNavigation() {
  const section = location.hash.split(/[/?]/)[1] || 'jobs';
  for (const link of document.querySelectorAll('header nav a, .new-job')) {
    const here = link.getAttribute('href') === `#/${section}`;
    if (here) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
}

async function show(moveFocus) {
  current.abort();
  current = new AbortController();
  const { signal } = current;
  const { route, parts, query } = readAddress();
  const place = h('div.page', { 'aria-busy': 'true' });
  document.title = [...parts, route.title, 'retort'].join(' · ');
  markNavigation();
  try {
    await route.page(place, { parts, query, signal });
  } catch (error) {
    if (signal.aborted) return;
    replace(place, pageHead(route.title), problemBox(error),
      h('p', h('button', { type: 'button', onclick: () => show(false) }, 'Try again')));
  }
  if (signal.aborted) return;
  place.removeAttribute('aria-busy');
  main.replaceChildren(place);
  if (!moveFocus) return;
  scrollTo(0, 0);
  place.querySelector('h1')?.focus({ preventScroll: true });
  announce(route.title);
}

async function showVersion() {
  const { version, commit } = await get('version');
  replace(document.getElementById('footer'), h('span', `retort ${version}`), commit && h('span.muted', commit));
}

addEventListener('hashchange', () => show(true));
show(false);
showVersion().catch(() => {}); // the footer stays empty
