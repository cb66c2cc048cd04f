// Looks at a page of `segen report` as a reader does.
//
//   node report.mjs CHROMIUM PAGE [EXPECTED.json] [PICTURES]
//
// EXPECTED lists voxels: where they must be seen, how bright, and what is said of them. PICTURES is a folder for screenshots.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Browser } from './chromium.mjs';

const [chromium, file, expected, pictures] = process.argv.slice(2);
const address = pathToFileURL(file).href;
const PLANES = ['Axial', 'Coronal', 'Sagittal'];
const browser = new Browser(chromium);

// Bytes of the first canvas, to see whether it has changed.
const pixels = 'document.querySelector("#viewer .panel canvas").toDataURL()';
const note = 'document.querySelector("#viewer .panel.active figcaption span, #viewer .panel figcaption span").textContent';
const slice = async () => Number(/slice (\d+)/.exec(await browser.evaluate(note))[1]) - 1;
const drawn = 'document.querySelector("#viewer .panel canvas, #viewer .panel.empty")';
const set = (name, on) => browser.evaluate(`(() => {
  const label = [...document.querySelectorAll('#viewer .bar label')].find(l => l.textContent.startsWith(${JSON.stringify(name)}));
  const box = label.querySelector('input');
  if (box.checked !== ${on}) box.click();
})()`);

async function fresh(options) {
  await browser.open(address, options);
  await browser.until(drawn);
  assert.deepEqual(browser.complaints, [], 'the browser complains');
  assert.deepEqual(browser.requests.filter(url => !url.startsWith('data:')), [address], 'something else was loaded');
}

async function nothingRuns() {
  assert.equal(await browser.evaluate('typeof window.hacked'), 'undefined');
  assert.equal(await browser.evaluate('document.querySelectorAll("img[src=x], body script:not([type]):not(:last-child)").length'), 0);
}

async function keysWork() {
  await set('Three planes', false);
  await browser.evaluate('document.getElementById("viewer").focus()');
  await browser.press('Home');
  assert.equal(await slice(), 0);
  const first = await browser.evaluate(pixels);
  await browser.press('ArrowUp');
  assert.equal(await slice(), 1);
  assert.notEqual(await browser.evaluate(pixels), first, 'another slice looks otherwise');
  await browser.press('ArrowDown');
  await browser.press('ArrowDown');
  assert.equal(await slice(), 0, 'there is none before the first');
  assert.equal(await browser.evaluate(pixels), first);
  await browser.press('End');
  const last = await slice();
  await browser.press('PageDown');
  assert.equal(await slice(), Math.max(last - 10, 0));
  await browser.press('PageUp');
  assert.equal(await slice(), last);
  for (const [key, plane] of [['2', 1], ['v', 2], ['v', 0], ['3', 2], ['1', 0]]) {
    await browser.press(key);
    assert.ok((await browser.evaluate(note)).startsWith(PLANES[plane]), `${key} shows ${PLANES[plane]}`);
  }
  const select = 'document.querySelector("#viewer select").value';
  const cases = await browser.evaluate('document.querySelector("#viewer select").options.length');
  await browser.press('b');
  assert.equal(await browser.evaluate(select), '0');
  if (cases > 1) {
    await browser.press('n');
    await browser.until(`${select} === "1"`);
    await browser.press('b');
    await browser.until(`${select} === "0"`);
  }
  for (const [key, name] of [['p', 'Prediction'], ['r', 'Reference'], ['f', 'Errors'], ['z', 'Zoom'], ['s', 'Smooth'], ['t', 'Three']]) {
    const box = `[...document.querySelectorAll('#viewer .bar label')].find(l => l.textContent.startsWith('${name}')).querySelector('input').checked`;
    const before = await browser.evaluate(box);
    await browser.press(key);
    assert.equal(await browser.evaluate(box), !before, key);
    await browser.press(key);
  }
}

// E goes to the slices in the order of their errors, as the page's data have them.
async function errorsAreFound() {
  await browser.press('1');
  const errors = await browser.evaluate(`JSON.parse(document.getElementById('viewer-words').textContent).cases[0].columns
    .filter(Boolean).map(column => column.errors[2])`);
  const sums = errors[0].map((_, i) => errors.reduce((sum, own) => sum + own[i], 0));
  const most = Math.max(...sums);
  if (!most) return;
  await browser.press('Home');
  const order = sums.map((n, i) => [n, i]).filter(([n]) => n).sort(([n, i], [m, j]) => m - n || i - j);
  for (const [, number] of [...order, order[0]]) {
    await browser.press('e');
    assert.equal(await slice(), number);
  }
}

async function pointersWork() {
  const box = await browser.evaluate(`(() => { const canvas = document.querySelector('#viewer .panel canvas');
    canvas.scrollIntoView({ block: 'center' });
    const { left, top, width, height } = canvas.getBoundingClientRect(); return [left + width / 2, top + height / 2]; })()`);
  const [x, y] = box;
  await browser.press('Home');
  await browser.send('Input.dispatchMouseEvent', { type: 'mouseWheel', x, y, deltaX: 0, deltaY: -100 });
  await browser.until(`/slice 3 /.test(${note})`);
  const scrolled = await browser.evaluate('scrollY');
  await browser.send('Input.dispatchMouseEvent', { type: 'mouseWheel', x, y, deltaX: 0, deltaY: 50 });
  await browser.until(`/slice 2 /.test(${note})`);
  assert.equal(await browser.evaluate('scrollY'), scrolled, 'the page stays where it is');
}

async function fingersWork() {
  await fresh({ width: 400, height: 800, touch: true });
  await set('Three planes', false);
  await browser.evaluate('document.getElementById("viewer").focus()');
  await browser.press('Home');
  const [x, y] = await browser.evaluate(`(() => { const canvas = document.querySelector('#viewer .panel canvas');
    canvas.scrollIntoView({ block: 'center' });
    const { left, top, width, height } = canvas.getBoundingClientRect(); return [left + width / 2, top + height / 2]; })()`);
  const touch = (type, at) => browser.send('Input.dispatchTouchEvent', { type, touchPoints: at === null ? [] : [{ x: x + at, y }] });
  await touch('touchStart', 0);
  for (const at of [8, 16, 24]) await touch('touchMove', at);
  await touch('touchEnd', null);
  assert.ok(await slice() > 0, 'a swipe turns slices');
  assert.ok(await browser.evaluate('document.documentElement.scrollWidth <= innerWidth'), 'nothing is wider than the window');
}

async function tablesAreSorted() {
  const column = `[...document.querySelector('table').tBodies[0].rows].map(row => row.cells[0].textContent)`;
  await browser.evaluate(`document.querySelector('table th button').click()`);
  const up = await browser.evaluate(column);
  const number = text => (/^[+-]?[\d.]+(?=$|[\s%[(])/.test(text) ? parseFloat(text) : text);
  const sorted = [...up].sort((a, b) => (typeof number(a) === 'number' && typeof number(b) === 'number'
    ? number(a) - number(b) : a.localeCompare(b, undefined, { numeric: true })));
  assert.deepEqual(up, sorted);
  await browser.evaluate(`document.querySelector('table th button').click()`);
  assert.deepEqual(await browser.evaluate(column), sorted.reverse());
}

// Every voxel of the list is seen where it belongs, as bright as it is, and told by its place in the file.
async function voxelsAreRight(voxels) {
  await set('Three planes', false);
  for (const name of ['Prediction', 'Reference', 'Smooth', 'Zoom', 'Errors']) await set(name, false);
  const window = await browser.evaluate(`JSON.parse(document.getElementById('viewer-words').textContent).cases[0].channels[0].window`);
  await browser.evaluate('document.getElementById("viewer").focus()');
  for (const { plane, slice: number, x, y, value, said } of voxels) {
    await browser.press(String(plane + 1));
    await browser.press('Home');
    for (let i = 0; i < number; i++) await browser.press('ArrowUp');
    const [grey, readout] = await browser.evaluate(`(() => {
      const canvas = document.querySelector('#viewer .panel canvas'), box = canvas.getBoundingClientRect();
      const voxel = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      // The picture is as wide as the canvas or in the middle of it.
      const words = JSON.parse(document.getElementById('viewer-words').textContent).cases[0];
      const [u, v] = [[0, 1], [0, 2], [1, 2]][${plane}];
      const proportion = words.shape[u] * words.spacing[u] / (words.shape[v] * words.spacing[v]);
      const wide = Math.min(canvas.width, canvas.height * proportion), left = (canvas.width - wide) / 2;
      const [px, py] = [left + ${x} * wide, ${y} * canvas.height];
      const at = 4 * (Math.floor(py) * canvas.width + Math.floor(px));
      canvas.dispatchEvent(new PointerEvent('pointermove', { pointerType: 'mouse',
        clientX: box.left + px / canvas.width * box.width, clientY: box.top + py / canvas.height * box.height }));
      return [voxel.data[at], document.querySelector('#viewer .readout').textContent];
    })()`);
    const [black, white] = window;
    const expectedGrey = Math.round(Math.min(Math.max((value - black) / (white - black), 0), 1) * 255);
    assert.equal(grey, expectedGrey, `${PLANES[plane]} ${number}, ${x}, ${y}: ${readout}`);
    for (const words of said) assert.ok(readout.includes(words), `${words} in: ${readout}`);
  }
}

// Seconds until slices are seen, and milliseconds that another slice and another case take: by the clock, and of the page's
// processor time, which tells more where the machine has other work.
async function times() {
  const opening = [];
  for (let i = 0; i < 3; i++) {
    const began = Date.now();
    await fresh();
    opening.push([Date.now() - began, 1000 * await browser.worked()]);
  }
  const timed = async (count, act, done) => {
    const times = [];
    for (let i = 0; i < count; i++) {
      const [began, worked] = [performance.now(), await browser.worked()];
      await act(i);
      await browser.until(done(i));
      times.push([performance.now() - began, 1000 * (await browser.worked() - worked)]);
    }
    return times;
  };
  await browser.evaluate('document.getElementById("viewer").focus()');
  const key = name => browser.evaluate(`document.getElementById('viewer').dispatchEvent(new KeyboardEvent('keydown', { key: '${name}' }));
    new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve)))`);
  const turning = [];
  for (const plane of ['1', '2', '3']) {
    await key(plane);
    await key('Home');
    turning.push(...await timed(10, () => key('ArrowUp'), () => 'true'));
  }
  const cases = await browser.evaluate('document.querySelector("#viewer select").options.length');
  const old = 'document.querySelector("#viewer .panels").firstChild.old';
  const switching = await timed(Math.min(cases, 9) - 1, () => browser.evaluate(`${old} = true;
    document.getElementById('viewer').dispatchEvent(new KeyboardEvent('keydown', { key: 'n' }))`), () => `!${old}`);
  const line = (what, all) => {
    const of = column => all.map(times => times[column]).sort((x, y) => x - y);
    const [clock, worked] = [of(0), of(1)], two = list => `${list[list.length >> 1].toFixed(0)} (at most ${list[list.length - 1].toFixed(0)})`;
    if (all.length) console.log(`${what}: ${two(clock)} ms by the clock, ${two(worked)} ms of processor time`);
  };
  line('opening the page', opening);
  line('another slice', turning);
  line('another case', switching);
}

async function takePictures(folder) {
  for (const [width, height] of [[1280, 900], [400, 800]]) {
    for (const dark of [false, true]) {
      await fresh({ width, height, dark });
      const name = `${width}-${dark ? 'dark' : 'light'}`;
      await browser.picture(join(folder, `${name}-top.png`));
      await browser.evaluate('document.getElementById("viewer").scrollIntoView()');
      await browser.picture(join(folder, `${name}-viewer.png`));
      await browser.picture(join(folder, `${name}-whole.png`), true);
    }
  }
}

try {
  await fresh();
  await nothingRuns();
  await tablesAreSorted();
  await keysWork();
  await errorsAreFound();
  await pointersWork();
  if (expected) await voxelsAreRight(JSON.parse(readFileSync(expected, 'utf8')));
  await fingersWork();
  await times();
  if (pictures) await takePictures(pictures);
  assert.deepEqual(browser.complaints, [], 'the browser complains');
} finally {
  await browser.close();
}
