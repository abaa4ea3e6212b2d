// problems.js - how an error looks.

import { h } from './dom.js';
import { words } from './format.js';

// The path of a field in words: /train/learning_rate -> train › learning rate
export function pointerWords(pointer) {
  const parts = pointer.split('/').slice(1).map((part) => words(part.replaceAll('~1', '/').replaceAll('~0', '~')));
  return parts.map((part) => (/^\d+$/.test(part) ? String(Number(part) + 1) : part)).join(' › ');
}

// Where a server asks for a token: kept in a cookie until the browser is closed, since event streams cannot send headers.
function tokenForm() {
  const field = h('input', { type: 'password', autocomplete: 'current-password', required: true, 'aria-label': 'Token' });
  const form = h('form.token-form', field, h('button', { type: 'submit' }, 'Use this token'));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    document.cookie = `retort_token=${encodeURIComponent(field.value.trim())}; SameSite=Strict; path=${new URL('.', location.href).pathname}`;
    location.reload();
  });
  return form;
}

// `problem` is a Problem, a job's error, or any Error.
export function problemBox(problem, { errors = problem.errors ?? [] } = {}) {
  const detail = problem.detail ?? problem.message ?? '';
  const listed = errors.filter((one) => one.detail !== detail || errors.length > 1);
  return h('div.problem', { role: 'alert' },
    h('strong', problem.title ?? 'Something went wrong'),
    detail && h('p', detail),
    listed.length > 0 && h('ul', listed.map((one) => h('li',
      one.pointer && h('b', `${pointerWords(one.pointer)}: `), one.detail))),
    problem.status === 401 && tokenForm(),
    problem.instance && h('p.muted.small-text', `Request ${problem.instance}`));
}

// Runs an action of a button: disabled meanwhile, a problem shown in `place`.
export async function guarded(button, place, action) {
  button.disabled = true;
  place.replaceChildren();
  try {
    return await action();
  } catch (error) {
    place.replaceChildren(problemBox(error));
    return null;
  } finally {
    button.disabled = false;
  }
}
