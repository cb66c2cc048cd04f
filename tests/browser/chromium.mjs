// Drives a headless Chromium over its pipe of the DevTools protocol: node and the browser are all that is needed.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export class Browser {
  constructor(executable) {
    this.profile = mkdtempSync(join(tmpdir(), 'segen-browser-'));
    const flags = ['--headless', '--disable-gpu', '--no-first-run', '--remote-debugging-pipe', `--user-data-dir=${this.profile}`,
      // The sandbox refuses to run for the superuser.
      ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []), '--disable-dev-shm-usage', '--hide-scrollbars', 'about:blank'];
    this.process = spawn(executable, flags, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
    this.ended = new Promise(resolve => this.process.on('exit', resolve));
    [, , , this.input, this.output] = this.process.stdio;
    this.waiting = new Map();
    this.listeners = [];
    this.number = 0;
    let rest = '';
    this.output.on('data', bytes => {
      const messages = (rest + bytes).split('\0');
      rest = messages.pop();
      messages.forEach(message => this.take(JSON.parse(message)));
    });
  }

  take(message) {
    const { id, error, result } = message;
    if (id === undefined) return this.listeners.forEach(listener => listener(message));
    const [resolve, reject] = this.waiting.get(id);
    this.waiting.delete(id);
    return error ? reject(new Error(error.message)) : resolve(result);
  }

  send(method, params = {}) {
    const id = ++this.number;
    const message = { id, method, params, ...(this.session ? { sessionId: this.session } : {}) };
    this.input.write(`${JSON.stringify(message)}\0`);
    return new Promise((resolve, reject) => this.waiting.set(id, [resolve, reject]));
  }

  // A page of this size, with everything that it complains about.
  async open(address, { width = 1280, height = 900, dark = false, touch = false } = {}) {
    this.session = undefined;
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true });
    this.session = sessionId;
    this.complaints = [];
    this.requests = [];
    const loaded = new Promise(resolve => this.listeners.push(({ method, params, sessionId: of }) => {
      if (of !== sessionId) return;
      if (method === 'Page.loadEventFired') resolve();
      if (method === 'Runtime.exceptionThrown') this.complaints.push(JSON.stringify(params.exceptionDetails));
      if (method === 'Log.entryAdded' && params.entry.level === 'error') this.complaints.push(params.entry.text);
      if (method === 'Network.requestWillBeSent') this.requests.push(params.request.url);
    }));
    for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await this.send(`${domain}.enable`);
    await this.send('Performance.enable', { timeDomain: 'threadTicks' });
    await this.send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: width < 600 });
    await this.send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }] });
    if (touch) await this.send('Emulation.setTouchEmulationEnabled', { enabled: true });
    await this.send('Page.navigate', { url: address });
    await loaded;
  }

  async evaluate(expression) {
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description}`);
    return result.value;
  }

  // Waits until an expression is true.
  async until(expression, seconds = 20) {
    const end = Date.now() + 1000 * seconds;
    while (!(await this.evaluate(expression))) {
      if (Date.now() > end) throw new Error(`never true: ${expression}`);
      await new Promise(resolve => setTimeout(resolve, 5));
    }
  }

  // Seconds of processor time that the page's main thread has taken.
  async worked() {
    const { metrics } = await this.send('Performance.getMetrics');
    return metrics.find(({ name }) => name === 'TaskDuration').value;
  }

  async press(key) {
    const text = key.length === 1 ? { text: key } : {};
    await this.send('Input.dispatchKeyEvent', { type: 'keyDown', key, ...text });
    await this.send('Input.dispatchKeyEvent', { type: 'keyUp', key });
  }

  async picture(file, whole = false) {
    const { data } = await this.send('Page.captureScreenshot', { format: 'png', captureBeyondViewport: whole });
    writeFileSync(file, Buffer.from(data, 'base64'));
  }

  async close() {
    this.session = undefined;
    await this.send('Browser.close').catch(() => {});
    await this.ended;
    rmSync(this.profile, { recursive: true, force: true });
  }
}
