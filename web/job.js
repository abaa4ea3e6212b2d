// job.js - one job: progress, curves, log, specification, result.

import { follow, get, isFinal, post } from './api.js';
import { jobCurves } from './curves.js';
import { announce, card, h, pageHead, replace } from './dom.js';
import { between, when } from './format.js';
import { jobTitle, progressBar, stateBadge } from './job_parts.js';
import { guarded, problemBox } from './problems.js';
import { proofCard } from './proof.js';
import { resultCard } from './result.js';
import { specTree } from './spec_view.js';

const MAX_LOG_LINES = 2000;

export async function jobPage(place, { parts: [id], signal }) {
  const [job, recorded] = await Promise.all([get(`v1/jobs/${id}`, signal), get(`v1/jobs/${id}/metrics`, signal)]);
  const view = jobView(job, signal);
  replace(place, view.element);
  view.curves.load(recorded.series ?? {});
  await view.show(job);
  followJob(view, id, signal);
}

function followJob(view, id, signal) {
  const handlers = {
    progress: (data) => view.change({ progress: data }),
    metric: (data) => view.curves.add(data.name, data.step, data.value),
    log: (data) => view.log.add(data),
    state: (data) => view.enter(data.state, () => get(`v1/jobs/${id}`, signal)),
    end: () => view.enter(null, () => get(`v1/jobs/${id}`, signal)),
  };
  follow(id, (type, data) => handlers[type](data), signal);
}

function jobView(first, signal) {
  let job = first;
  const parts = {
    badge: h('span'), meta: h('p.muted.meta'), actions: h('span.actions'), notice: h('div'), result: h('div.result'),
    proof: h('div'), progress: progressBar(first), log: logView(), curves: jobCurves(),
  };
  const element = h('div',
    h('p.crumbs', h('a', { href: '#/jobs' }, 'Jobs'), ` / ${first.id}`),
    pageHead(jobTitle(first), parts.actions),
    h('div.job-line', parts.badge, parts.meta),
    parts.progress.element, parts.notice,
    h('div.columns.job-columns',
      h('div.wide', parts.curves.element, parts.proof, parts.log.element), parts.result,
      h('div.specification', card('Specification', specTree(first.spec), specActions(first)))));

  function draw() {
    replace(parts.badge, stateBadge(job.state));
    replace(parts.meta, metaLine(job));
    parts.progress.update(job);
    parts.curves.end(job.state === 'running' ? job.progress?.steps : 1);
  }
  async function show(now) {
    job = now;
    draw();
    parts.curves.teacher(job.result?.teacher_metrics);
    replace(parts.actions, actionButtons(job, parts.notice, show));
    replace(parts.notice, job.error && problemBox(job.error, { errors: job.error.errors ?? [] }));
    replace(parts.proof, proofCard(job));
    replace(parts.result, await resultCard(job, signal));
  }
  return {
    element,
    show,
    curves: parts.curves,
    log: parts.log,
    change(values) {
      if (isFinal(job.state)) return; // the stream of a finished job repeats how it came about
      job = { ...job, ...values };
      draw();
    },
    // A new state: what hangs on it is fetched, unless the stream only repeats the past.
    async enter(state, fetchJob) {
      if (isFinal(job.state) || state === job.state) return;
      const now = await fetchJob().catch(() => job);
      if (signal.aborted || isFinal(job.state)) return;
      if (now.state !== job.state) announce(`The job has ${now.state === 'running' ? 'started' : now.state}`);
      await show(now);
    },
  };
}

function metaLine(job) {
  const attempt = job.attempt > 1 ? ` · attempt ${job.attempt}` : '';
  const took = job.state === 'succeeded' ? ` · took ${between(job.started_at, job.finished_at)}` : '';
  return [`${job.method} · made `, when(job.created_at), took, attempt];
}

function specActions(job) {
  return h('p', h('a', { href: `#/new?from=${job.id}` }, 'Start another one like this'));
}

function actionButtons(job, notice, show) {
  const action = (label, name) => {
    const button = h('button', { type: 'button', 'data-action': name }, label);
    button.addEventListener('click', () => guarded(button, notice, async () => {
      await post(`v1/jobs/${job.id}/${name}`);
      if (name === 'retry') dispatchEvent(new Event('hashchange')); // the page anew, with a new stream
      else await show(await get(`v1/jobs/${job.id}`));
    }));
    return button;
  };
  if (job.state === 'running' && job.cancel_requested) return [h('button', { type: 'button', disabled: true }, 'Cancelling …')];
  if (!isFinal(job.state)) return [action('Cancel', 'cancel')];
  return job.state === 'succeeded' ? [] : [action('Retry', 'retry')];
}

function logView() {
  const lines = h('ol.log', { role: 'log', tabindex: '0', 'aria-label': 'Log of the job' });
  const empty = h('p.muted', 'No messages.');
  const element = card('Log', empty, lines);
  lines.hidden = true;
  return {
    element,
    add({ level, text }) {
      const shownLevel = level ?? (text.startsWith('warning') ? 'warning' : 'info');
      lines.hidden = false;
      empty.remove();
      const atEnd = lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 8;
      lines.append(h(`li.level-${shownLevel}`, text));
      if (lines.children.length > MAX_LOG_LINES) lines.firstElementChild.remove();
      if (atEnd) lines.scrollTop = lines.scrollHeight;
    },
  };
}
