// ort_net.js - times one network in ONNX Runtime on the CPU.
//   node ort_net.js MODEL.onnx BATCH C,H,W [SECONDS]
// prints "forward_ms single_us", each the best median over 1 and 2 threads.
'use strict';
const path = require('path');
const ort = require(path.join(__dirname, '../tests/js/node_modules/onnxruntime-node'));

const median = (a) => a.sort((x, y) => x - y)[a.length >> 1];

async function time(file, batch, shape, threads, seconds) {
  const session = await ort.InferenceSession.create(file, { intraOpNumThreads: threads, interOpNumThreads: 1 });
  const size = batch * shape.reduce((a, b) => a * b, 1);
  const input = new ort.Tensor('float32', Float32Array.from({ length: size }, Math.random), [batch, ...shape]);
  const feed = { [session.inputNames[0]]: input };
  for (let i = 0; i < 5; i++) await session.run(feed);
  const times = [], end = performance.now() + seconds * 1e3;
  while (performance.now() < end || times.length < 5) {
    const start = performance.now();
    await session.run(feed);
    times.push(performance.now() - start);
  }
  return median(times);
}

(async () => {
  const [file, batch, dims, seconds = '1'] = process.argv.slice(2);
  const shape = dims.split(',').map(Number);
  const best = async (n, s) => Math.min(await time(file, n, shape, 1, s), await time(file, n, shape, 2, s));
  const forward = await best(Number(batch), Number(seconds));
  const single = await best(1, Number(seconds) / 4);
  console.log(forward.toFixed(4), (single * 1e3).toFixed(2));
})();
