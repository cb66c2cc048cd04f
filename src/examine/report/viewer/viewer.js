// Every case of the page: which one, where in it, and what is seen. Volumes are unpacked when their case is opened.
(() => {
  const root = document.getElementById('viewer');
  const words = root && document.getElementById('viewer-words');
  if (!words) return;
  const page = JSON.parse(words.textContent);

  // Slices that a key turns at once, and cases that stay unpacked.
  const LEAF = 10, KEPT = 4;

  const state = { case: 0, plane: 0, at: [0, 0, 0], opened: null, three: page.columns.length === 1 };
  const look = { channel: 0, prediction: true, reference: true, errors: false, zoom: false, smooth: true };

  const cache = new Map();

  async function unpack(number) {
    if (!cache.has(number)) {
      cache.set(number, await unpackCase(number, page.cases[number]));
      if (cache.size > KEPT) cache.delete(cache.keys().next().value);
    }
    return cache.get(number);
  }

  // ---- The page's elements

  function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  const parts = {};

  function toggle(of, key, text, letter, swatch) {
    const box = element('input', { type: 'checkbox', checked: of[key] });
    box.addEventListener('change', () => { of[key] = box.checked; if (of === state) layOut(); draw(); });
    parts[key] = box;
    const label = element('label', { title: `Key ${letter}` }, box, text);
    if (swatch) label.append(...swatch);
    return label;
  }

  function swatch(css, kind = '') {
    const made = element('span', { className: `swatch ${kind}` });
    made.style[kind === 'block' ? 'background' : 'borderColor'] = css;
    return made;
  }

  function button(text, title, act) {
    const made = element('button', { type: 'button', textContent: text, title });
    made.addEventListener('click', act);
    return made;
  }

  function build() {
    parts.select = element('select', { ariaLabel: 'Case' });
    page.cases.forEach((found, i) => parts.select.append(element('option', { value: i, textContent: title(found) })));
    parts.select.addEventListener('change', () => open(Number(parts.select.value)));
    parts.planes = PLANES.map((plane, i) => button(plane.name, `Key ${i + 1}`, () => { turn(i); }));
    parts.channels = element('select', { ariaLabel: 'Channel' });
    parts.channels.addEventListener('change', () => { look.channel = Number(parts.channels.value); draw(); });
    parts.panels = element('div', { className: 'panels' });
    parts.strip = element('canvas', { title: 'Wrong voxels of every slice' });
    parts.range = element('input', { type: 'range', min: 0, ariaLabel: 'Slice' });
    parts.range.addEventListener('input', () => go(Number(parts.range.value)));
    parts.strip.addEventListener('pointerdown', event => go(Math.floor(event.offsetX / parts.strip.clientWidth * count())));
    parts.readout = element('p', { className: 'readout' });
    parts.how = element('p', { className: 'quiet' });
    const one = page.classes.length === 1;
    const rgb = channels => `rgb(${channels.join()})`;
    root.replaceChildren(
      element('div', { className: 'bar' },
        element('span', { className: 'group' }, button('‹', 'Case before, key B', () => open(state.case - 1)),
          parts.select, button('›', 'Next case, key N', () => open(state.case + 1))),
        element('span', { className: 'group' }, ...parts.planes),
        button('Largest error', 'Key E; again for the next', worst), parts.channels),
      element('div', { className: 'bar' },
        toggle(look, 'prediction', 'Prediction', 'P', one ? [swatch(colourOf(1, false, page))] : []),
        toggle(look, 'reference', 'Reference (dashed)', 'R', one ? [swatch(colourOf(1, true, page), 'dashed')] : []),
        toggle(look, 'errors', 'Errors:', 'F', [swatch(rgb(MISSED), 'block'), 'missed', swatch(rgb(INVENTED), 'block'), 'invented']),
        toggle(look, 'zoom', 'Zoom', 'Z'), toggle(state, 'three', 'Three planes', 'T'), toggle(look, 'smooth', 'Smooth', 'S'),
        ...(one ? [] : page.classes.map(({ value, name }) => element('label', {}, swatch(colourOf(value, false, page)), name)))),
      parts.panels,
      element('div', { className: 'slider' }, parts.strip, parts.range),
      parts.readout, parts.how, help());
    root.addEventListener('keydown', key);
    window.addEventListener('resize', draw);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
    for (const link of document.querySelectorAll('a[data-case]')) {
      link.addEventListener('click', event => {
        event.preventDefault();
        root.scrollIntoView();
        root.focus({ preventScroll: true });
        open(Number(link.dataset.case));
      });
    }
  }

  function help() {
    const keys = [['↑ ↓ wheel, swipe', 'slice'], ['PgUp PgDn', `${LEAF} slices`], ['Home End', 'first, last'], ['N B', 'next case, case before'],
      ['V 1 2 3', 'plane'], ['E', 'slice with the largest error, again for the next'], ['P R F', 'prediction, reference, errors'],
      ['Z', 'zoom'], ['T', 'three planes'], ['S', 'smooth']];
    const line = element('p', { className: 'quiet' }, 'Keys, once the pictures have been clicked: ');
    keys.forEach(([key, what], i) => line.append(i ? '; ' : '', element('kbd', { textContent: key }), ` ${what}`));
    const shown = 'Radiological convention: the patient\'s right is on the left of axial and coronal slices, the front on the left of '
      + 'sagittal ones. Voxels keep their proportions in millimetres. Outlines run along the edges of the files\' voxels.';
    return element('div', {}, line, element('p', { className: 'quiet', textContent: shown }));
  }

  function title({ name, columns = [], problem }) {
    const scores = columns.flatMap(column => (column ? column.scores.map(([, dice]) => dice) : [])).filter(d => d !== null);
    const mean = scores.length ? `, Dice ${(scores.reduce((a, b) => a + b, 0) / scores.length).toFixed(2)}` : '';
    const kinds = [...new Set(columns.filter(Boolean).map(column => column.kind))].join(', ');
    return problem ? `${name} (cannot be shown)` : `${name} (${kinds}${mean})`;
  }

  // A panel for every column in one plane, or for every plane.
  function layOut() {
    const { opened } = state;
    parts.panels.replaceChildren();
    parts.drawn = [];
    if (opened.problem) {
      parts.panels.append(element('div', { className: 'panel empty', textContent: opened.problem }));
      return;
    }
    const planes = state.three ? [0, 1, 2] : [state.plane];
    parts.panels.style.gridTemplateColumns = state.three && innerWidth > 700 ? 'repeat(3, minmax(0, 1fr))' : '';
    page.columns.forEach((name, column) => {
      if (!opened.columns[column]) {
        const text = `${name}: this case was not scored`;
        parts.panels.append(element('div', { className: 'panel empty', textContent: text }));
        return;
      }
      for (const plane of planes) addPanel(name, column, plane);
    });
  }

  function addPanel(name, column, plane) {
    const { kind, scores } = state.opened.columns[column];
    const figures = scores.map(([region, dice, found, right]) => {
      const two = x => (x === null ? '-' : x.toFixed(2));
      return `${region}: Dice ${two(dice)}, sensitivity ${two(found)}, precision ${two(right)}`;
    });
    const canvas = element('canvas', { role: 'img', ariaLabel: `Slice, ${name}` });
    const note = element('span'), first = !state.three || plane === 0;
    const more = first ? [element('br'), `${page.columns.length > 1 ? `${name} ` : ''}(${kind} case). ${figures.join('; ')}`] : [];
    const panel = element('figure', { className: 'panel' }, canvas, element('figcaption', {}, note, ...more));
    parts.panels.append(panel);
    const drawn = { canvas, note, panel, column, plane: PLANES[plane], number: plane };
    parts.drawn.push(drawn);
    listen(canvas, drawn);
  }

  // ---- What the reader does

  const count = () => state.opened.shape[PLANES[state.plane].axes[2]];

  function go(slice) {
    if (state.opened.problem) return;
    const axis = PLANES[state.plane].axes[2];
    state.at[axis] = Math.min(Math.max(slice, 0), state.opened.shape[axis] - 1);
    draw();
  }

  const step = by => go(state.at[PLANES[state.plane].axes[2]] + by);

  function turn(plane) {
    state.plane = plane;
    if (!state.three) layOut();
    draw();
  }

  // The slice with most wrong voxels; where the last jump led to this slice, the next in their order.
  function worst() {
    if (state.opened.problem) return;
    const axis = PLANES[state.plane].axes[2], errors = errorsOf(state.opened, axis);
    const order = [...errors.keys()].filter(i => errors[i]).sort((a, b) => errors[b] - errors[a] || a - b);
    if (!order.length) return;
    const here = () => `${state.case} ${axis} ${state.at[axis]}`;
    const next = state.jumped === here() ? order.indexOf(state.at[axis]) + 1 : 0;
    go(order[next % order.length]);
    state.jumped = here();
  }

  function listen(canvas, drawn) {
    let travelled = 0, last = null, dragged = false;
    const steps = (distance, length) => {
      travelled += distance;
      const whole = Math.trunc(travelled / length);
      travelled -= whole * length;
      if (whole) { choose(drawn); step(whole); }
    };
    canvas.addEventListener('wheel', event => {
      if (event.ctrlKey) return;
      event.preventDefault();
      // A notch is 100 pixels or 3 lines; touch pads send many small ones.
      steps(event.deltaMode === 0 ? -event.deltaY : -event.deltaY * 33, 50);
    }, { passive: false });
    canvas.addEventListener('pointerdown', event => {
      [last, dragged, travelled] = [event.clientX, false, 0];
      choose(drawn);
      root.focus({ preventScroll: true });
    });
    canvas.addEventListener('pointermove', event => {
      // Fingers swipe; mice show what lies under them.
      if (event.pointerType === 'mouse') return tell(drawn, event);
      if (last === null) return undefined;
      dragged = dragged || Math.abs(event.clientX - last) > 6;
      if (dragged) { steps(event.clientX - last, 8); last = event.clientX; }
      return undefined;
    });
    canvas.addEventListener('pointerup', event => {
      const clicked = last !== null && !dragged;
      last = null;
      if (!clicked) return;
      const at = under(drawn, event);
      if (at) { state.at = at; draw(); tell(drawn, event); }
    });
    for (const end of ['pointercancel', 'pointerleave']) canvas.addEventListener(end, () => { last = null; });
  }

  function choose(drawn) {
    if (state.plane === drawn.number) return;
    state.plane = drawn.number;
    draw();
  }

  // The voxel under the pointer.
  function under({ canvas, plane, sight }, event) {
    const [u, v] = plane.axes, { shape } = state.opened;
    const box = canvas.getBoundingClientRect();
    const [i, j] = sight.voxel((event.clientX - box.left) * sight.unit, (event.clientY - box.top) * sight.unit);
    if (i < 0 || j < 0 || i >= shape[u] || j >= shape[v]) return null;
    const at = [...state.at];
    [at[u], at[v]] = [i, j];
    return at;
  }

  function tell(drawn, event) {
    const at = under(drawn, event);
    if (at) parts.readout.textContent = describe(at);
  }

  const named = value => (value === page.ignore ? 'ignored' : value === 0 ? 'background'
    : page.names[value] || `value ${value}`);

  function describe(at) {
    const { opened } = state, { affine, axes, flipped, shape } = opened;
    const world = affine.map(row => (row[0] * at[0] + row[1] * at[1] + row[2] * at[2] + row[3]).toFixed(1));
    const file = [0, 0, 0];
    axes.forEach((axis, w) => { file[axis] = flipped[w] ? shape[w] - 1 - at[w] : at[w]; });
    const predicted = opened.columns.map((column, i) => column
      && `${page.columns.length > 1 ? page.columns[i] : 'prediction'}: ${named(labelAt(column, at))}`).filter(Boolean);
    return `Voxel (${file.join(', ')}) of the file, from 0; (${world.join(', ')}) mm right, front, top. `
      + `Reference: ${named(labelAt(opened.reference, at))}; ${predicted.join('; ')}.`;
  }

  const KEYS = {
    ArrowUp: () => step(1), ArrowRight: () => step(1), ArrowDown: () => step(-1), ArrowLeft: () => step(-1),
    PageUp: () => step(LEAF), PageDown: () => step(-LEAF), Home: () => go(0), End: () => go(Infinity),
    n: () => open(state.case + 1), b: () => open(state.case - 1), v: () => turn((state.plane + 1) % PLANES.length),
    1: () => turn(0), 2: () => turn(1), 3: () => turn(2), e: worst,
    p: () => parts.prediction.click(), r: () => parts.reference.click(), f: () => parts.errors.click(),
    z: () => parts.zoom.click(), t: () => parts.three.click(), s: () => parts.smooth.click(),
  };

  function key(event) {
    const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    // A list of cases has keys of its own.
    if (!act || !state.opened || event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === 'SELECT') return;
    event.preventDefault();
    act();
  }

  function draw() {
    const { opened } = state;
    if (!opened || opened.problem) return;
    for (const drawn of parts.drawn) {
      const { canvas, column, plane, note } = drawn, axis = plane.axes[2];
      drawn.sight = drawSlice(canvas, opened, column, plane, state.at, look, page);
      note.textContent = `${plane.name}, slice ${state.at[axis] + 1} of ${opened.shape[axis]}`;
      drawn.panel.classList.toggle('active', state.three && drawn.number === state.plane);
    }
    parts.planes.forEach((made, i) => made.setAttribute('aria-pressed', String(i === state.plane)));
    const axis = PLANES[state.plane].axes[2];
    parts.range.max = count() - 1;
    parts.range.value = state.at[axis];
    drawStrip(parts.strip, errorsOf(opened, axis), state.at[axis], getComputedStyle(root));
    parts.readout.textContent = describe(state.at);
    parts.how.textContent = how(opened);
  }

  // What the picture has lost against the scan.
  function how({ channels, tilt }) {
    const channel = channels[look.channel] || channels[0], words = [];
    if (!channel) words.push('No scan: label maps alone.');
    else {
      const [black, white] = channel.window.map(value => Number(value.toPrecision(4)));
      const joined = channel.step.some(n => n > 1) ? `, ${channel.step.join(' x ')} voxels of the scan joined to one` : '';
      words.push(`Intensities from ${black} (black) to ${white} (white), ${channel.levels} grey levels${joined}.`);
    }
    if (tilt > 1) words.push(`The axes of the scan, along which slices run, are tilted by ${tilt.toFixed(0)} degrees against the patient's.`);
    return words.join(' ');
  }

  async function open(number) {
    if (number < 0 || number >= page.cases.length) return;
    state.case = number;
    parts.select.value = number;
    let opened;
    try {
      opened = await unpack(number);
    } catch (error) {
      opened = { ...page.cases[number], problem: `These slices cannot be unpacked by this browser: ${error}` };
    }
    // Another case may have been asked for meanwhile.
    if (state.case !== number) return;
    state.opened = opened;
    if (!opened.problem) {
      state.at = opened.shape.map((n, axis) => {
        const errors = errorsOf(opened, axis), most = Math.max(...errors);
        return most ? errors.indexOf(most) : Math.floor(n / 2);
      });
      tellCase(opened);
    }
    layOut();
    draw();
  }

  function tellCase({ channels }) {
    parts.channels.hidden = channels.length < 2;
    parts.channels.replaceChildren(...channels.map(({ name }, i) => element('option', { value: i, textContent: name })));
    look.channel = Math.min(look.channel, Math.max(channels.length - 1, 0));
    parts.channels.value = look.channel;
  }

  build();
  open(0);
})();
