// api.js - the server's HTTP interface. URLs are relative to the page, so a path prefix of a proxy is fine.

// An answer of the server that says what went wrong (RFC 9457).
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `The server answered ${status}.`);
    this.status = status;
    this.title = body.title || `Status ${status}`;
    this.detail = body.detail || '';
    this.errors = Array.isArray(body.errors) ? body.errors : [];
    this.instance = body.instance || '';
  }
}

const unreachable = () => new Problem(0, {
  title: 'The server does not answer',
  detail: 'The connection was refused or broke off. Check that retort is running, then try again.',
});

function problemFrom(status, text) {
  try {
    return new Problem(status, JSON.parse(text));
  } catch {
    return new Problem(status, { title: `The server answered ${status}`, detail: text.slice(0, 400) });
  }
}

async function request(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw unreachable();
  }
  const text = await answer.text();
  if (!answer.ok) throw problemFrom(answer.status, text);
  return text ? JSON.parse(text) : null;
}

export const get = (path, signal) => request(path, { signal, headers: { Accept: 'application/json' } });

export function post(path, body, headers = {}) {
  const json = body === undefined ? {} : { 'Content-Type': 'application/json' };
  return request(path, { method: 'POST', headers: { ...json, ...headers }, body: body && JSON.stringify(body) });
}

// One page of a list: {items, next}, where `next` is the cursor for `after`.
export async function page(path, { after, limit, signal } = {}) {
  const query = new URLSearchParams();
  if (limit) query.set('limit', limit);
  if (after) query.set('after', after);
  const answer = await get(query.size ? `${path}?${query}` : path, signal);
  return { items: answer.items ?? [], next: answer.next ?? null };
}

// PUTs a file. XMLHttpRequest, because fetch reports no progress of what is sent.
export function upload(path, file, { onprogress, signal } = {}) {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    xhr.open('PUT', path);
    xhr.setRequestHeader('Content-Type', 'application/octet-stream');
    xhr.upload.addEventListener('progress', (event) => {
      if (event.lengthComputable) onprogress?.(event.loaded / event.total);
    });
    xhr.addEventListener('load', () => {
      if (xhr.status < 300) resolve(JSON.parse(xhr.responseText));
      else reject(problemFrom(xhr.status, xhr.responseText));
    });
    xhr.addEventListener('error', () => reject(unreachable()));
    xhr.addEventListener('abort', () => reject(new DOMException('cancelled', 'AbortError')));
    signal?.addEventListener('abort', () => xhr.abort());
    xhr.send(file);
  });
}

const EVENTS = ['progress', 'metric', 'log', 'state', 'end'];

// Follows the events of a job until it ends or the signal aborts. The connection is given up while
// the page is hidden, since a browser allows only six of them to one server. The end of an earlier
// attempt is in the stream as well, so an `end` is believed only when the job says the same.
export function follow(id, onevent, signal) {
  let source = null;
  let last = 0;
  let ended = false;

  function stop() {
    source?.close();
    source = null;
  }
  function receive(event) {
    last = Number(event.lastEventId) || last;
    if (event.type === 'end') confirmEnd();
    onevent(event.type, event.data ? JSON.parse(event.data) : {});
  }
  async function confirmEnd() {
    const job = await get(`v1/jobs/${id}`, signal).catch(() => null);
    if (!job || !isFinal(job.state)) return;
    ended = true;
    stop();
  }
  function start() {
    if (source || ended || signal.aborted) return;
    source = new EventSource(`v1/jobs/${id}/events${last ? `?after=${last}` : ''}`);
    for (const name of EVENTS) source.addEventListener(name, receive);
    source.addEventListener('error', () => {
      if (source?.readyState !== EventSource.CLOSED) return; // it reconnects by itself
      stop();
      lookInstead();
    });
  }
  // The server gives out no more streams, or is away: ask now and then.
  async function lookInstead() {
    const job = await get(`v1/jobs/${id}`, signal).catch(() => null);
    if (signal.aborted) return;
    if (job) {
      onevent('progress', job.progress ?? {});
      onevent('state', { state: job.state });
    }
    setTimeout(start, 3000);
  }
  document.addEventListener('visibilitychange', () => (document.hidden ? stop() : start()), { signal });
  signal.addEventListener('abort', stop);
  start();
}

export const isFinal = (state) => ['succeeded', 'failed', 'cancelled'].includes(state);

// Names hold only [a-z0-9._-], references also @ and :, which a path segment may carry as they are.
export const modelPath = (ref) => `v1/models/${ref}`;
export const datasetPath = (ref) => `v1/datasets/${ref}`;
