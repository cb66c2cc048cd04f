// The volumes of a case: unpacked, and cut into slices. Along each axis (x, y, z) they run to the patient's right, front and
// top, x fastest.

// Across a slice, down it, and through the slices; the sides of the patient that are on the left, right, top and bottom of
// the picture.
const PLANES = [
  { name: 'Axial', axes: [0, 1, 2], sides: ['R', 'L', 'A', 'P'] },
  { name: 'Coronal', axes: [0, 2, 1], sides: ['R', 'L', 'S', 'I'] },
  { name: 'Sagittal', axes: [1, 2, 0], sides: ['A', 'P', 'S', 'I'] },
];

async function inflate(name) {
  const text = atob(document.getElementById(name).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Differences from what the neighbours let expect become grey levels again.
function undoDifferences(cells, [nx, ny]) {
  for (let base = 0; base < cells.length; base += nx * ny) {
    for (let y = 0; y < ny; y++) {
      for (let x = 0; x < nx; x++) {
        const i = base + y * nx + x;
        const left = x ? cells[i - 1] : 0, front = y ? cells[i - nx] : 0;
        const between = x && y ? cells[i - nx - 1] : 0;
        const low = Math.min(left, front), high = Math.max(left, front);
        const expected = between >= high ? low : between <= low ? high : left + front - between;
        cells[i] += expected;
      }
    }
  }
  return cells;
}

async function unpackChannel(number, channel) {
  const cells = undoDifferences(await inflate(`volume-${number}-${channel.volume}`), channel.cells);
  return { ...channel, data: cells };
}

async function unpackLabels(number, labels) {
  const data = labels.volume === null ? new Uint8Array() : await inflate(`volume-${number}-${labels.volume}`);
  return { ...labels, data };
}

// All volumes of a case.
async function unpackCase(number, found) {
  if (found.problem) return { ...found };
  return {
    ...found,
    channels: await Promise.all(found.channels.map(channel => unpackChannel(number, channel))),
    reference: await unpackLabels(number, found.reference),
    columns: await Promise.all(found.columns.map(column => column && unpackLabels(number, column))),
  };
}

function labelAt({ start, size, data }, [x, y, z]) {
  x -= start[0]; y -= start[1]; z -= start[2];
  if (x < 0 || y < 0 || z < 0 || x >= size[0] || y >= size[1] || z >= size[2]) return 0;
  return data[x + size[0] * (y + size[1] * z)];
}

// Labels of a slice, index u + nu * v along the plane's axes.
function labelSlice(labels, plane, shape, slice) {
  const [u, v, w] = plane.axes, nu = shape[u], out = new Uint8Array(nu * shape[v]);
  const { start, size, data } = labels, k = slice - start[w];
  if (!data.length || k < 0 || k >= size[w]) return out;
  const stride = [1, size[0], size[0] * size[1]];
  for (let j = 0; j < size[v]; j++) {
    for (let i = 0; i < size[u]; i++) {
      out[start[u] + i + nu * (start[v] + j)] = data[i * stride[u] + j * stride[v] + k * stride[w]];
    }
  }
  return out;
}

// Grey levels of a slice as a picture of one pixel a cell. The patient's right, front and top come first on the screen, so
// both axes run backwards.
function greyPicture({ cells, step, data, levels }, plane, slice) {
  const [u, v, w] = plane.axes, [nu, nv] = [cells[u], cells[v]], stride = [1, cells[0], cells[0] * cells[1]];
  const picture = new ImageData(nu, nv), pixels = picture.data;
  const base = Math.floor(slice / step[w]) * stride[w], scale = 255 / (levels - 1);
  for (let row = 0, out = 0; row < nv; row++) {
    const from = base + (nv - 1 - row) * stride[v];
    for (let column = nu - 1; column >= 0; column--, out += 4) {
      pixels[out] = pixels[out + 1] = pixels[out + 2] = data[from + column * stride[u]] * scale;
      pixels[out + 3] = 255;
    }
  }
  return picture;
}

// Wrong voxels of every slice along an axis, of all columns together.
function errorsOf({ shape, columns }, axis) {
  const sums = new Array(shape[axis]).fill(0);
  for (const column of columns) if (column) column.errors[axis].forEach((n, i) => { sums[i] += n; });
  return sums;
}
