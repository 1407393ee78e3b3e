"""The page's script and the look of what it moves: plain JavaScript, which loads nothing.

A report starts it once; the page of the service starts it anew for every study that it shows.
"""

VIEWER_STYLE = """
.viewer { container-type: inline-size; }
.plane, .ruler { --wide: min(calc((100cqw - 16rem) * var(--share)), calc(26rem * var(--part))); }
@container (max-width: 44rem) { .plane, .ruler { --wide: calc((100cqw - 5rem) * var(--part)); } }
.planes { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
.plane { background: var(--card); border: 1px solid var(--line); border-radius: .25rem; padding: .6rem;
  width: max(calc(var(--wide) + 4.2rem), 9rem); }
.frame { background: #000; color: #fff; display: grid; align-content: center; justify-content: center;
  grid-template: 1.4rem auto 1.4rem / 1.4rem auto 1.4rem; min-height: 6rem; margin: .3rem 0; }
.frame span { place-self: center; font-size: .8rem; font-weight: 600; line-height: 1; }
.frame .top { grid-area: 1 / 2; } .frame .bottom { grid-area: 3 / 2; }
.frame .left { grid-area: 2 / 1; } .frame .right { grid-area: 2 / 3; }
.picture { grid-area: 2 / 2; width: var(--wide); }
@container (max-width: 44rem) { .plane { width: 100%; } }
.picture img, .picture canvas { width: 100%; height: auto; display: block; }
.picture canvas { cursor: crosshair; touch-action: pan-y; }
.scales { display: flex; flex-wrap: wrap; gap: .4rem 2rem; margin: .5rem 0; align-items: center; font-size: .875rem; }
.scales img { border: 1px solid var(--quiet); vertical-align: middle; margin: 0 .3rem; height: .8rem; width: 8rem; }
.ruler { display: inline-block; height: .4rem; border: 1px solid var(--text); border-top: 0; margin-right: .4rem;
  width: var(--wide); }
.controls { display: flex; flex-wrap: wrap; gap: .2rem 2rem; margin: .5rem 0; } .controls[hidden] { display: none; }
.control { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem; margin: .3rem 0; }
.control input[type=range] { flex: 1 1 6rem; min-width: 5rem; min-height: 1.75rem; accent-color: var(--bar); }
.control output { min-width: 3rem; font-variant-numeric: tabular-nums; } .plane .control output { flex-basis: 100%; }
select, button { font: inherit; color: var(--text); background: var(--card); border: 1px solid var(--quiet);
  border-radius: .25rem; padding: .3rem .7rem; min-height: 2.2rem; max-width: 100%; }
:focus-visible { outline: 3px solid var(--note); outline-offset: 2px; }
@media print { .controls, .plane input { display: none; } .frame, .picture { print-color-adjust: exact;
  -webkit-print-color-adjust: exact; break-inside: avoid; } }
"""

VIEWER_SCRIPT = """
"use strict";
window.startViewer = function () {
  const block = document.getElementById("viewer-data");
  if (!block) return;
  const data = JSON.parse(block.textContent);
  const palette = Uint8Array.from(atob(data.palette), (letter) => letter.charCodeAt(0));
  const state = { map: data.first, opacity: data.opacity, low: data.grey[0], high: data.grey[1], cross: true };

  function load(sheet) {
    return new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => {
        const canvas = document.createElement("canvas");
        canvas.width = image.naturalWidth;
        canvas.height = image.naturalHeight;
        const context = canvas.getContext("2d", { willReadFrequently: true });
        context.drawImage(image, 0, 0);
        const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
        const [nx, ny, nz] = sheet.shape;
        const voxels = new Uint8Array(nx * ny * nz);
        for (let z = 0; z < nz; z++) {
          const left = (z % sheet.across) * sheet.tile[0];
          const top = Math.floor(z / sheet.across) * sheet.tile[1];
          for (let y = 0; y < ny; y++) {
            let from = 4 * ((top + y) * canvas.width + left);
            let to = nx * (y + ny * z);
            for (let x = 0; x < nx; x++, from += 4) voxels[to++] = pixels[from];
          }
        }
        canvas.width = canvas.height = 0;
        resolve({ shape: sheet.shape, voxels });
      };
      image.onerror = () => reject(new Error("a picture of this page is damaged"));
      image.src = sheet.url;
    });
  }

  // One plane of a volume at a place between 0 and 1 through it, as bytes; between two slices they are mixed.
  function cut(volume, plane, place, mixed) {
    const [right, up, through] = plane.axes;
    const step = [1, volume.shape[0], volume.shape[0] * volume.shape[1]];
    const width = volume.shape[right], height = volume.shape[up], depth = volume.shape[through];
    const exact = Math.min(Math.max(place * depth - 0.5, 0), depth - 1);
    const first = mixed ? Math.floor(exact) : Math.min(Math.floor(place * depth), depth - 1);
    const second = Math.min(first + 1, depth - 1);
    const share = mixed ? exact - first : 0;
    const out = new Uint8Array(width * height);
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const along = plane.mirrored ? width - 1 - column : column;
        const base = along * step[right] + (height - 1 - row) * step[up];
        const one = volume.voxels[base + first * step[through]];
        out[row * width + column] = share ? one + share * (volume.voxels[base + second * step[through]] - one) : one;
      }
    }
    return { width, height, values: out };
  }

  function painted(picture, paint) {
    const canvas = document.createElement("canvas");
    canvas.width = picture.width;
    canvas.height = picture.height;
    const context = canvas.getContext("2d");
    const image = context.createImageData(picture.width, picture.height);
    for (let i = 0; i < picture.values.length; i++) paint(picture.values[i], image.data, 4 * i);
    context.putImageData(image, 0, 0);
    return canvas;
  }

  function grey(value, to, at) {
    const shown = (255 * (data.values[value] - state.low)) / Math.max(state.high - state.low, 1e-9);
    to[at] = to[at + 1] = to[at + 2] = shown;
    to[at + 3] = 255;
  }

  function heat(value, to, at) {
    for (let i = 0; i < 3; i++) to[at + i] = palette[3 * value + i];
    const share = (value / 255 - data.clear) / (data.full - data.clear);
    to[at + 3] = 255 * state.opacity * Math.min(Math.max(share, 0), 1);
  }

  // The slice as it is counted in the file, and where it lies: R 15.6 mm.
  function placed(view, index) {
    const own = data.slices[view.plane.axes[2]];
    const number = own.flipped ? own.count - index : index + 1;
    const mm = own.first + own.step * index;
    return `${number} of ${own.count}, ${mm < 0 ? own.letters[0] : own.letters[1]} ${Math.abs(mm).toFixed(1)} mm`;
  }

  function start(scan, maps) {
    const views = [...document.querySelectorAll(".plane")].map((figure) => {
      const name = figure.dataset.plane, plane = data.planes[name];
      const image = figure.querySelector("img"), slider = figure.querySelector("input");
      const canvas = document.createElement("canvas");
      const wide = data.extent[plane.axes[0]], high = data.extent[plane.axes[1]];
      const scale = 512 / Math.max(...data.extent);
      canvas.width = Math.max(1, Math.round(wide * scale));
      canvas.height = Math.max(1, Math.round(high * scale));
      canvas.setAttribute("role", "img");
      image.replaceWith(canvas);
      slider.disabled = false;
      const view = { name, plane, canvas, slider, count: Number(slider.max), said: figure.querySelector("output") };
      slider.addEventListener("input", all);
      const point = (event) => {
        const box = canvas.getBoundingClientRect();
        const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
        place(plane.axes[0], plane.mirrored ? 1 - x : x);
        place(plane.axes[1], 1 - y);
        all();
      };
      canvas.addEventListener("pointerdown", point);
      canvas.addEventListener("pointermove", (event) => event.buttons && point(event));
      canvas.addEventListener("wheel", (event) => {
        event.preventDefault();
        slider.value = Number(slider.value) + (event.deltaY < 0 ? 1 : -1);
        all();
      }, { passive: false });
      return view;
    });

    // Sets the slider of the plane across an axis.
    function place(axis, share) {
      const view = views.find((one) => one.plane.axes[2] === axis);
      view.slider.value = 1 + Math.min(Math.max(Math.floor(share * view.count), 0), view.count - 1);
    }

    function at(axis) {
      const view = views.find((one) => one.plane.axes[2] === axis);
      return (Number(view.slider.value) - 0.5) / view.count;
    }

    function cross(context, view) {
      const { width, height } = view.canvas, [right, up] = view.plane.axes;
      const x = (view.plane.mirrored ? 1 - at(right) : at(right)) * width, y = (1 - at(up)) * height;
      const gap = Math.min(12, height / 5);
      context.strokeStyle = "rgb(0 255 255 / .6)";
      context.lineWidth = 2;
      context.beginPath();
      const lines = [[0, y, x - gap, y], [x + gap, y, width, y], [x, 0, x, y - gap], [x, y + gap, x, height]];
      for (const [a, b, c, d] of lines) {
        context.moveTo(a, b);
        context.lineTo(c, d);
      }
      context.stroke();
    }

    function draw(view) {
      const index = Number(view.slider.value) - 1, through = (index + 0.5) / view.count;
      const context = view.canvas.getContext("2d");
      context.imageSmoothingEnabled = true;
      context.imageSmoothingQuality = "high";
      const { width, height } = view.canvas;
      context.drawImage(painted(cut(scan, view.plane, through, false), grey), 0, 0, width, height);
      context.drawImage(painted(cut(maps[state.map], view.plane, through, true), heat), 0, 0, width, height);
      if (state.cross) cross(context, view);
      const text = placed(view, index);
      view.said.textContent = text;
      view.slider.setAttribute("aria-valuetext", `slice ${text}`);
      const label = data.maps[state.map].label;
      view.canvas.setAttribute("aria-label", `${view.name} plane, slice ${text}, with the heatmap of ${label}`);
    }

    function all() {
      views.forEach(draw);
    }

    function toPeak() {
      for (const view of views) view.slider.value = data.maps[state.map].peak[view.plane.axes[2]] + 1;
      all();
    }

    function slide(id, shown, change) {
      const slider = document.getElementById(id), said = document.getElementById(`${id}-value`);
      slider.addEventListener("input", () => {
        change(Number(slider.value));
        said.textContent = shown(slider.value);
        slider.setAttribute("aria-valuetext", said.textContent);
        all();
      });
      return slider;
    }

    slide("opacity", (value) => `${value} %`, (value) => { state.opacity = value / 100; });
    const centre = slide("centre", (value) => value, (value) => {
      const half = (state.high - state.low) / 2;
      [state.low, state.high] = [value - half, value + half];
    });
    const width = slide("width", (value) => value, (value) => {
      const middle = (state.low + state.high) / 2;
      [state.low, state.high] = [middle - value / 2, middle + value / 2];
    });
    const window_ = document.getElementById("window");
    window_.addEventListener("change", () => {
      [state.low, state.high] = data.windows[Number(window_.value)];
      centre.value = (state.low + state.high) / 2;
      width.value = state.high - state.low;
      for (const slider of [centre, width]) document.getElementById(`${slider.id}-value`).textContent = slider.value;
      all();
    });
    const chooser = document.getElementById("map");
    if (chooser) {
      chooser.addEventListener("change", () => {
        state.map = Number(chooser.value);
        toPeak();
      });
    }
    document.getElementById("cross").addEventListener("change", (event) => {
      state.cross = event.target.checked;
      all();
    });
    document.getElementById("to-peak").addEventListener("click", toPeak);
    document.querySelector(".controls").hidden = false;
    all();
    document.documentElement.dataset.viewer = "ready";
  }

  Promise.all([data.scan, ...data.maps].map(load))
    .then(([scan, ...maps]) => start(scan, maps))
    .catch((error) => {
      const said = document.createElement("p");
      said.textContent = `The sliders do not work here (${error.message}); the pictures stay as they are.`;
      document.getElementById("viewer").append(said);
    });
};
window.startViewer();
"""
