// upload.js - choosing files by drop or dialog, and sending them with progress.

import { upload } from './api.js';
import { announce, freshId, h, replace } from './dom.js';
import { bytes } from './format.js';
import { problemBox } from './problems.js';

// A place to drop files on; the label makes it a button for mouse and keyboard.
export function dropZone({ label, hint, accept, multiple = false, onfiles }) {
  const id = freshId('files');
  const input = h('input.hidden-visually', { type: 'file', id, accept, multiple });
  const zone = h('label.drop', { for: id }, h('strong', label), h('span.muted', hint));
  const take = (files) => { if (files.length) onfiles(multiple ? [...files] : [files[0]]); };
  input.addEventListener('change', () => { take([...input.files]); input.value = ''; });
  zone.addEventListener('dragover', (event) => { event.preventDefault(); zone.classList.add('over'); });
  zone.addEventListener('dragleave', () => zone.classList.remove('over'));
  zone.addEventListener('drop', (event) => {
    event.preventDefault();
    zone.classList.remove('over');
    take(event.dataTransfer.files);
  });
  return h('div.drop-area', input, zone);
}

// A name the server accepts, from a file's name.
export function nameFrom(fileName) {
  const stem = fileName.toLowerCase().replace(/(\.(onnx|npy|npz|gz|idx\d?|safetensors))+$/, '');
  const clean = stem.replace(/[^a-z0-9._-]+/g, '-').replace(/\.\.+/g, '.').replace(/--+/g, '-');
  return clean.replace(/^[^a-z0-9]+/, '').replace(/[-.]+$/, '').slice(0, 96);
}

// One file on its way: {element, send(path)}; send answers the reply, or null after a problem.
export function sending(file) {
  const bar = h('progress', { max: '1', value: '0', 'aria-label': `Sending ${file.name}` });
  const text = h('span.muted');
  const stopButton = h('button.small', { type: 'button' }, 'Stop');
  const element = h('div.sending', h('span.file-name', file.name), bar, text, stopButton);
  const abort = new AbortController();
  stopButton.addEventListener('click', () => abort.abort());

  async function send(path) {
    const onprogress = (share) => {
      bar.value = share;
      text.textContent = share < 1 ? `${Math.floor(share * 100)} % of ${bytes(file.size)}` : 'checking …';
    };
    try {
      const reply = await upload(path, file, { onprogress, signal: abort.signal });
      bar.value = 1;
      text.textContent = bytes(file.size);
      announce(`${file.name} is stored`);
      return reply;
    } catch (error) {
      replace(element, error.name === 'AbortError' ? h('p', `${file.name}: stopped.`) : problemBox(error));
      return null;
    } finally {
      stopButton.remove();
    }
  }
  return { element, send };
}
