// job_parts.js - the pieces that a job shows in the list and on its own page.

import { h } from './dom.js';
import { between, duration, exact } from './format.js';

export const stateBadge = (state) => h(`span.badge.state-${state}`, state);

const firstRef = (value) => {
  const one = Array.isArray(value) ? value[0] : value;
  return typeof one === 'object' && one !== null ? one.model ?? one.ref ?? one.name : one;
};

const FINAL = { succeeded: 'Took', failed: 'Failed after', cancelled: 'Cancelled after' };

// What goes in and what comes out: "teacher → student".
export function jobTitle(job) {
  const spec = job.spec ?? {};
  const teachers = Array.isArray(spec.teacher) ? spec.teacher : [spec.teacher];
  const from = teachers[0] ? teachers.map(firstRef).join(' + ') : firstRef(spec.model ?? spec.student?.model);
  const ends = [from, spec.output || undefined].filter(Boolean);
  return ends.length ? ends.join(' → ') : `job ${job.id}`;
}

export function progressText(job) {
  const { step, steps, fraction, eta_s: eta } = job.progress ?? {};
  if (job.state === 'queued') return 'Waiting for a free worker';
  if (job.state !== 'running') return job.started_at ? `${FINAL[job.state]} ${between(job.started_at, job.finished_at)}` : '';
  if (!steps) return 'Preparing';
  const left = eta > 0 ? ` · ${duration(eta)} left` : '';
  return `Step ${exact(step)} of ${exact(steps)} · ${Math.floor((fraction ?? 0) * 100)} %${left}`;
}

// {element, update(job)}
export function progressBar(job) {
  const bar = h('progress', { max: '1', 'aria-label': `Progress of job ${job.id}` });
  const text = h('span.progress-text');
  const element = h('div.progress', bar, text);
  function update(now) {
    const started = now.state === 'running' && now.progress?.steps > 0;
    if (now.state === 'running' && !started) bar.removeAttribute('value');
    else bar.value = now.state === 'succeeded' ? 1 : now.progress?.fraction ?? 0;
    element.className = `progress state-${now.state}`;
    text.textContent = progressText(now);
  }
  update(job);
  return { element, update };
}
