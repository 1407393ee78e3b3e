"""The page's script and the look of what it moves: plain JavaScript, which loads nothing."""

VIEWER_STYLE = """
.planes { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(15rem, 100%), 1fr));
  gap: 1rem; align-items: start; }
.plane { background: var(--card); border: 1px solid var(--line); border-radius: .25rem; padding: .6rem; }
.picture { position: relative; background: #000; width: 100%; margin: .3rem auto; }
.picture img, .picture canvas { width: 100%; height: 100%; display: block; }
.side { position: absolute; color: #fff; font-size: .8rem; font-weight: 600; background: rgb(0 0 0 / .55);
  border-radius: .2rem; padding: 0 .25rem; line-height: 1.3; }
.left, .right { top: 50%; transform: translateY(-50%); } .left { left: .3rem; } .right { right: .3rem; }
.top { left: 48%; top: .1rem; } .bottom { left: 48%; bottom: .1rem; }
.controls { display: flex; flex-wrap: wrap; gap: .2rem 2rem; margin: .5rem 0; } .controls[hidden] { display: none; }
.control { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem; margin: .3rem 0; }
.control input { flex: 1 1 8rem; min-width: 7rem; min-height: 1.75rem; accent-color: var(--bar); }
.control output { min-width: 3rem; white-space: nowrap; font-variant-numeric: tabular-nums; }
select, button { font: inherit; color: var(--text); background: var(--card); border: 1px solid var(--quiet);
  border-radius: .25rem; padding: .3rem .7rem; min-height: 2.2rem; max-width: 100%; }
:focus-visible { outline: 3px solid var(--note); outline-offset: 2px; }
@media print { .controls, .plane input { display: none; } .planes { grid-template-columns: repeat(3, 1fr); }
  .plane, .picture { print-color-adjust: exact; -webkit-print-color-adjust: exact; break-inside: avoid; } }
"""

VIEWER_SCRIPT = """
"use strict";
(function () {
  const block = document.getElementById("viewer-data");
  if (!block) return;
  const data = JSON.parse(block.textContent);
  const palette = Uint8Array.from(atob(data.palette), (letter) => letter.charCodeAt(0));
  // Per plane: the volume axes to the right and upwards and through the picture; whether right runs against its axis.
  const planes = {
    axial: { axes: [0, 1, 2], mirrored: true },
    coronal: { axes: [0, 2, 1], mirrored: true },
    sagittal: { axes: [1, 2, 0], mirrored: false },
  };
  const state = { map: data.first, opacity: data.opacity };

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
    const first = mixed ? Math.floor(exact) : Math.round(exact);
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
    to[at] = to[at + 1] = to[at + 2] = value;
    to[at + 3] = 255;
  }

  function heat(value, to, at) {
    for (let i = 0; i < 3; i++) to[at + i] = palette[3 * value + i];
    to[at + 3] = 255 * state.opacity * Math.min((value / 255) * 1.5, 1);
  }

  function start(scan, maps) {
    const views = [...document.querySelectorAll(".plane")].map((figure) => {
      const name = figure.dataset.plane, plane = planes[name];
      const image = figure.querySelector("img"), slider = figure.querySelector("input");
      const canvas = document.createElement("canvas");
      const wide = data.extent[plane.axes[0]], high = data.extent[plane.axes[1]];
      const scale = 512 / Math.max(wide, high);
      canvas.width = Math.max(1, Math.round(wide * scale));
      canvas.height = Math.max(1, Math.round(high * scale));
      canvas.setAttribute("role", "img");
      image.replaceWith(canvas);
      slider.disabled = false;
      const view = { name, plane, canvas, slider, count: Number(slider.max), told: figure.querySelector("output") };
      slider.addEventListener("input", () => draw(view));
      return view;
    });

    function draw(view) {
      const index = Number(view.slider.value) - 1, place = (index + 0.5) / view.count;
      const context = view.canvas.getContext("2d");
      context.imageSmoothingEnabled = true;
      context.imageSmoothingQuality = "high";
      const { width, height } = view.canvas;
      context.drawImage(painted(cut(scan, view.plane, place, false), grey), 0, 0, width, height);
      context.drawImage(painted(cut(maps[state.map], view.plane, place, true), heat), 0, 0, width, height);
      const text = `${index + 1} of ${view.count}`;
      view.told.textContent = text;
      view.slider.setAttribute("aria-valuetext", `slice ${text}`);
      const label = data.maps[state.map].label;
      view.canvas.setAttribute("aria-label", `${view.name} plane, slice ${text}, with the heat of ${label}`);
    }

    function toPeak() {
      for (const view of views) view.slider.value = data.maps[state.map].peak[view.plane.axes[2]] + 1;
      views.forEach(draw);
    }

    const opacity = document.getElementById("opacity"), told = document.getElementById("opacity-value");
    opacity.addEventListener("input", () => {
      state.opacity = Number(opacity.value) / 100;
      told.textContent = `${opacity.value} %`;
      opacity.setAttribute("aria-valuetext", told.textContent);
      views.forEach(draw);
    });
    const chooser = document.getElementById("map");
    if (chooser) {
      chooser.addEventListener("change", () => {
        state.map = Number(chooser.value);
        toPeak();
      });
    }
    document.getElementById("to-peak").addEventListener("click", toPeak);
    document.querySelector(".controls").hidden = false;
    views.forEach(draw);
    document.documentElement.dataset.viewer = "ready";
  }

  Promise.all([data.scan, ...data.maps].map(load))
    .then(([scan, ...maps]) => start(scan, maps))
    .catch((error) => {
      const told = document.createElement("p");
      told.textContent = `The sliders do not work here (${error.message}); the pictures stay as they are.`;
      document.getElementById("viewer").append(told);
    });
})();
"""
