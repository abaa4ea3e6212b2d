// retort.js - starts the server under test and talks to it.
'use strict';

const child = require('child_process');
const fs = require('fs');
const http = require('http');
const os = require('os');
const path = require('path');

const ROOT = path.resolve(__dirname, '../..');
const BINARY = path.resolve(ROOT, process.env.RETORT || 'build/retort');
const TEACHER = path.join(ROOT, 'examples/fashion/teacher.onnx');
const SANITIZED = Boolean(process.env.SANITIZER); // then memory and times say nothing
const FASHION = '/usr/share/datasets/fashion-mnist';

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

const running = new Set();
const folders = [];
let complained; // what a sanitizer said
process.on('exit', () => {
  if (complained) {
    console.log(complained.replace(/^/gm, '# '));
    process.exitCode = 1;
  }
  running.forEach((p) => p.kill('SIGKILL'));
  folders.forEach((f) => fs.rmSync(f, { recursive: true, force: true }));
});

// A folder that is gone when the process ends.
function scratch() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'retort-test-'));
  folders.push(folder);
  return folder;
}

class Server {
  // Starts `retort serve` and waits for its line; `started_ms` is the time from the fork to that line.
  static async start({ data = scratch(), args = [], env = {} } = {}) {
    const s = new Server();
    s.data = data;
    s.agent = new http.Agent({ keepAlive: true });
    const t0 = process.hrtime.bigint();
    s.process = child.spawn(BINARY, ['serve', '--data', data, '--listen', '127.0.0.1:0', ...args],
      { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
    running.add(s.process);
    s.log = '';
    s.process.stderr.on('data', (d) => {
      s.log = (s.log + d).slice(-20000);
      complained ||= /Sanitizer|runtime error:/.test(s.log) && s.log;
    });
    s.exited = new Promise((done) => s.process.on('exit', (code, signal) => {
      running.delete(s.process);
      done({ code, signal });
    }));
    s.url = await new Promise((done, fail) => {
      let text = '';
      s.process.stdout.on('data', (d) => {
        text += d;
        const line = /^listening on (http:\/\/\S+)$/m.exec(text);
        if (line) done(line[1]);
      });
      s.process.on('error', fail);
      s.exited.then(() => fail(new Error(`the server ended before it listened: ${s.log}`)));
    });
    s.started_ms = Number(process.hrtime.bigint() - t0) / 1e6;
    s.port = Number(new URL(s.url).port);
    return s;
  }

  // {status, headers, body, json}. `body` may be text, bytes or a readable stream.
  request(method, target, { body, headers = {} } = {}) {
    return new Promise((done, fail) => {
      const all = { ...headers };
      if (body !== undefined && typeof body.pipe !== 'function') all['content-length'] ??= Buffer.byteLength(body);
      const r = http.request(this.url + target, { method, headers: all, agent: this.agent }, (answer) => {
        const parts = [];
        answer.on('data', (d) => parts.push(d));
        answer.on('error', fail);
        answer.on('end', () => {
          const bytes = Buffer.concat(parts);
          let json;
          if (/json/.test(answer.headers['content-type'] || '')) {
            try { json = JSON.parse(bytes); } catch { /* several lines, or broken: the test will say */ }
          }
          done({ status: answer.statusCode, headers: answer.headers, body: bytes, json });
        });
      });
      // The server closes what has been idle for long, perhaps just when it is used again.
      const again = () => this.request(method, target, { body, headers }).then(done, fail);
      r.on('error', (e) => (r.reusedSocket && e.code === 'ECONNRESET' && typeof body?.pipe !== 'function' ? again() : fail(e)));
      if (body === undefined) r.end();
      else if (typeof body.pipe === 'function') body.pipe(r);
      else r.end(body);
    });
  }

  get(target, headers) { return this.request('GET', target, { headers }); }
  put(target, body, headers) { return this.request('PUT', target, { body, headers }); }
  post(target, json) {
    const body = typeof json === 'string' ? json : JSON.stringify(json || {});
    return this.request('POST', target, { body, headers: { 'content-type': 'application/json' } });
  }

  // The same, but anything except the expected status is an error that shows the answer.
  async must(status, promise) {
    const r = await promise;
    if (r.status !== status) throw new Error(`status ${r.status}, not ${status}: ${r.body.toString().slice(0, 600)}`);
    return r;
  }

  // Puts the teacher and the first `n` training images under the names of the tour.
  async fashion(n, n_test = 0) {
    const { idxCut } = require('./arrays');
    const file = (name) => path.join(FASHION, `${name}-ubyte.gz`);
    await this.must(201, this.put('/v1/models/teacher/onnx', fs.readFileSync(TEACHER)));
    await this.must(201, this.put('/v1/datasets/fashion/inputs', idxCut(file('train-images-idx3'), n)));
    await this.must(201, this.put('/v1/datasets/fashion/labels', idxCut(file('train-labels-idx1'), n)));
    if (!n_test) return;
    await this.must(201, this.put('/v1/datasets/fashion-test/inputs', idxCut(file('t10k-images-idx3'), n_test)));
    await this.must(201, this.put('/v1/datasets/fashion-test/labels', idxCut(file('t10k-labels-idx1'), n_test)));
  }

  // Starts a job and gives its id.
  async submit(spec) { return (await this.must(202, this.post('/v1/jobs', spec))).json.id; }

  async job(id, wait) { return (await this.must(200, this.get(`/v1/jobs/${id}${wait ? `?wait=${wait}` : ''}`))).json; }

  // The job once it has ended well.
  async finished(id, seconds = 300) {
    const job = await this.job(id, seconds);
    if (job.state !== 'succeeded') throw new Error(`job ${id} is ${job.state}: ${JSON.stringify(job.error)}`);
    return job;
  }

  async student(id) { return (await this.must(200, this.get(`/v1/jobs/${id}/student/onnx`))).body; }

  // Waits until condition(job) holds.
  async until(id, condition, seconds = 60) {
    const stop = Date.now() + seconds * 1000;
    for (;;) {
      const job = await this.job(id);
      if (condition(job)) return job;
      if (Date.now() > stop) throw new Error(`waited ${seconds} s in vain: ${JSON.stringify(job).slice(0, 600)}`);
      await sleep(20);
    }
  }

  // Process ids of the workers: children of the server.
  workers() {
    return fs.readdirSync('/proc').filter((p) => /^\d+$/.test(p)).map(Number).filter((p) => {
      try { return Number(/^PPid:\s+(\d+)$/m.exec(fs.readFileSync(`/proc/${p}/status`, 'utf8'))[1]) === this.process.pid; }
      catch { return false; }
    });
  }

  // A line of /proc/PID/status in KiB: VmRSS, or VmHWM, the most it ever was.
  memory(line, pid = this.process.pid) {
    return Number(new RegExp(`^${line}:\\s+(\\d+) kB$`, 'm').exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]);
  }

  async stop() {
    this.agent.destroy();
    this.process.kill('SIGTERM');
    return this.exited;
  }

  async kill() {
    this.agent.destroy();
    this.process.kill('SIGKILL');
    return this.exited;
  }
}

// The job of the tour, small enough for a test.
const distil = (more = {}) => ({
  method: 'distill', teacher: 'teacher', dataset: { ref: 'fashion', scale: 255 }, student: { width: 0.25 },
  output: 'student', ...more,
});

module.exports = { Server, BINARY, FASHION, ROOT, SANITIZED, TEACHER, distil, scratch, sleep };
