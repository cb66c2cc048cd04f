// A slice of a case on a canvas. `look` says what is seen: prediction, reference, errors, zoom, smooth, and the number of the
// channel; `key` what values mean: the classes that are scored, groups of values that scores take for one, and the value
// that is ignored.

// Okabe and Ito: told apart by the colour-blind as well.
const COLOURS = ['#e69f00', '#56b4e9', '#009e73', '#f0e442', '#0072b2', '#d55e00', '#cc79a7'];
const UNSCORED = '#9aa0a6';
const MISSED = [86, 180, 233], INVENTED = [240, 100, 40];

function colourOf(value, isReference, key) {
  if (!key.classes.some(known => known.value === value)) return UNSCORED;
  // Of a single class both outlines would have one colour.
  if (key.classes.length === 1) return COLOURS[isReference ? 1 : 0];
  return COLOURS[(value - 1) % COLOURS.length];
}

// The part of a plane that is shown, in voxels: all, or what surrounds the labels.
function viewOf(opened, plane, zoom) {
  const [u, v] = plane.axes;
  const boxes = [opened.reference, ...opened.columns].filter(labels => labels && labels.data.length);
  if (!zoom || !boxes.length) return { low: [0, 0], high: [opened.shape[u], opened.shape[v]] };
  const around = axis => {
    const low = Math.min(...boxes.map(box => box.start[axis]));
    const high = Math.max(...boxes.map(box => box.start[axis] + box.size[axis]));
    // A quarter more on each side, and no less than 40 mm in all.
    const size = Math.max(1.5 * (high - low), 40 / opened.spacing[axis]), middle = (low + high) / 2;
    return [Math.max(0, Math.floor(middle - size / 2)), Math.min(opened.shape[axis], Math.ceil(middle + size / 2))];
  };
  const [first, second] = [around(u), around(v)];
  return { low: [first[0], second[0]], high: [first[1], second[1]] };
}

// From voxels to pixels and back, as wide as the panel and no higher than 70 % of the window.
function sightOf(opened, plane, zoom, width) {
  const [u, v] = plane.axes, { low, high } = viewOf(opened, plane, zoom);
  const size = [(high[0] - low[0]) * opened.spacing[u], (high[1] - low[1]) * opened.spacing[v]];
  const unit = window.devicePixelRatio || 1;
  const scale = Math.min(width / size[0], 0.7 * window.innerHeight / size[1]) * unit;
  const margin = (width * unit - size[0] * scale) / 2;
  const voxel = [opened.spacing[u] * scale, opened.spacing[v] * scale];
  return {
    unit, width: Math.round(width * unit), height: Math.round(size[1] * scale),
    place: (i, j) => [margin + (high[0] - i) * voxel[0], (high[1] - j) * voxel[1]],
    voxel: (x, y) => [Math.floor(high[0] - (x - margin) / voxel[0]), Math.floor(high[1] - y / voxel[1])],
  };
}

const scratch = document.createElement('canvas');

// Draws a picture so that it covers so many voxels of the plane, from the first on.
function cover(context, picture, nu, nv, smooth, { place }) {
  scratch.width = picture.width;
  scratch.height = picture.height;
  scratch.getContext('2d').putImageData(picture, 0, 0);
  context.imageSmoothingEnabled = smooth;
  const [left, top] = place(nu, nv), [right, bottom] = place(0, 0);
  context.drawImage(scratch, left, top, right - left, bottom - top);
}

function errorPicture(prediction, reference, nu, nv, groups, ignore) {
  const picture = new ImageData(nu, nv), pixels = picture.data;
  for (let i = 0; i < prediction.length; i++) {
    const p = prediction[i], r = reference[i];
    if (groups[p] === groups[r] || r === ignore) continue;
    const out = 4 * (prediction.length - 1 - i);
    pixels.set(groups[r] ? MISSED : INVENTED, out);
    pixels[out + 3] = 150;
  }
  return picture;
}

// Closed outlines by label value; they run along the edges of voxels, with the label on their right.
function outlines(slice, nu, nv, { place }) {
  const label = (u, v) => (u < 0 || v < 0 || u >= nu || v >= nv ? 0 : slice[u + nu * v]);
  // By label the corners that lead from each corner, numbered along u first.
  const ways = new Map(), across = nu + 1;
  const lead = (own, u, v, du, dv) => {
    if (!ways.has(own)) ways.set(own, new Map());
    const from = u + across * v, to = from + du + across * dv, known = ways.get(own).get(from);
    if (known) known.push(to);
    else ways.get(own).set(from, [to]);
  };
  for (let v = 0; v < nv; v++) {
    for (let u = 0; u < nu; u++) {
      const own = slice[u + nu * v];
      if (!own) continue;
      if (label(u, v - 1) !== own) lead(own, u, v, 1, 0);
      if (label(u + 1, v) !== own) lead(own, u + 1, v, 0, 1);
      if (label(u, v + 1) !== own) lead(own, u + 1, v + 1, -1, 0);
      if (label(u - 1, v) !== own) lead(own, u, v + 1, 0, -1);
    }
  }
  const corner = number => place(number % across, Math.floor(number / across));
  const paths = new Map();
  for (const [own, leads] of ways) {
    const path = new Path2D();
    for (const [start, ends] of leads) {
      while (ends.length) {
        path.moveTo(...corner(start));
        // As many ways lead to a corner as from it, so this one comes back.
        for (let here = ends.pop(); here !== start; here = leads.get(here).pop()) path.lineTo(...corner(here));
        path.closePath();
      }
    }
    paths.set(own, path);
  }
  return paths;
}

function stroke(context, paths, isReference, key, unit) {
  context.save();
  for (const [value, path] of paths) {
    context.setLineDash([]);
    context.strokeStyle = 'rgba(0, 0, 0, 0.55)';
    context.lineWidth = 3 * unit;
    context.stroke(path);
    context.setLineDash(isReference ? [4 * unit, 4 * unit] : []);
    context.strokeStyle = colourOf(value, isReference, key);
    context.lineWidth = (isReference ? 2 : 1.5) * unit;
    context.stroke(path);
  }
  context.restore();
}

// Sides of the patient, and where the other planes run.
function drawMarks(context, plane, at, { width, height, unit, place }) {
  const [u, v] = plane.axes, [west, east, north, south] = plane.sides;
  context.font = `${12 * unit}px sans-serif`;
  context.textBaseline = 'middle';
  context.lineWidth = 3 * unit;
  context.strokeStyle = '#000';
  context.fillStyle = '#fff';
  const letter = (text, x, y, align) => {
    context.textAlign = align;
    context.strokeText(text, x, y);
    context.fillText(text, x, y);
  };
  letter(west, 4 * unit, height / 2, 'left');
  letter(east, width - 4 * unit, height / 2, 'right');
  letter(north, width / 2, 9 * unit, 'center');
  letter(south, width / 2, height - 9 * unit, 'center');
  const [x, y] = place(at[u] + 0.5, at[v] + 0.5), length = 10 * unit;
  context.fillStyle = '#f0e442';
  context.fillRect(x, 0, unit, length);
  context.fillRect(x, height - length, unit, length);
  context.fillRect(0, y, length, unit);
  context.fillRect(width - length, y, length, unit);
}

// Draws the slices at a voxel; what is returned turns pixels of the canvas into voxels.
function drawSlice(canvas, opened, column, plane, at, look, key) {
  const [u, v, w] = plane.axes, { shape } = opened, [nu, nv] = [shape[u], shape[v]];
  const sight = sightOf(opened, plane, look.zoom, canvas.clientWidth || 300), { place, unit } = sight;
  canvas.width = sight.width;
  canvas.height = sight.height;
  const context = canvas.getContext('2d');
  context.fillStyle = '#000';
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.save();
  const [left, top] = place(nu, nv), [right, bottom] = place(0, 0);
  context.beginPath();
  context.rect(left, top, right - left, bottom - top);
  context.clip();
  const channel = opened.channels[look.channel] || opened.channels[0];
  if (channel) {
    // The last cell of an axis may reach beyond the scan, to the left and above.
    const { cells, step } = channel;
    cover(context, greyPicture(channel, plane, at[w]), cells[u] * step[u], cells[v] * step[v], look.smooth, sight);
  } else {
    context.fillStyle = '#333';
    context.fillRect(left, top, right - left, bottom - top);
  }
  const reference = labelSlice(opened.reference, plane, shape, at[w]);
  const prediction = labelSlice(opened.columns[column], plane, shape, at[w]);
  if (look.errors) {
    const picture = errorPicture(prediction, reference, nu, nv, key.groups[column], key.ignore);
    cover(context, picture, nu, nv, false, sight);
  }
  if (look.prediction) stroke(context, outlines(prediction, nu, nv, sight), false, key, unit);
  if (look.reference) stroke(context, outlines(reference, nu, nv, sight), true, key, unit);
  context.restore();
  drawMarks(context, plane, at, sight);
  return sight;
}

// Bars as high as there are wrong voxels in each slice.
function drawStrip(canvas, errors, current, style) {
  const unit = window.devicePixelRatio || 1, most = Math.max(1, ...errors);
  canvas.width = Math.round((canvas.clientWidth || 300) * unit);
  canvas.height = Math.round(26 * unit);
  const context = canvas.getContext('2d'), bar = canvas.width / errors.length;
  errors.forEach((n, i) => {
    context.fillStyle = style.getPropertyValue(i === current ? '--accent' : '--warn');
    // A single wrong voxel is seen too.
    const height = i === current ? canvas.height : n && Math.max(2 * unit, n / most * canvas.height);
    context.globalAlpha = i === current ? 0.5 : 1;
    context.fillRect(i * bar, canvas.height - height, Math.max(bar - 1, 1), height);
  });
}
