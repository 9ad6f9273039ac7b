"use strict";
(() => {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const root = document.documentElement;
  const all = (query, inside = document) => [...inside.querySelectorAll(query)];

  // Light or dark: as the system has it, until the button is pressed.
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  let chosen = null;
  function applyTheme() {
    const dark = chosen === null ? prefersDark.matches : chosen === "dark";
    root.dataset.theme = dark ? "dark" : "light";
    button.textContent = dark ? "Light" : "Dark";
    drawCharts();
  }
  button.addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    applyTheme();
  });
  prefersDark.addEventListener("change", applyTheme);

  // Which species pictures are of.
  function showSpecies(number) {
    document.body.dataset.species = number;
    all(".of-species").forEach((part) => part.classList.toggle("shown", part.classList.contains(`s${number}`)));
    all(".choice button").forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.species === number)));
    drawCharts();
    if (player) player.draw();
  }
  all(".choice button").forEach((one) => one.addEventListener("click", () => showSpecies(one.dataset.species)));

  // A term tells its interval when it is pointed at, focused or tapped.
  const holders = all(".holder");
  function open(holder) {
    holders.forEach((one) => {
      one.classList.toggle("open", one === holder);
      one.querySelector(".term").setAttribute("aria-expanded", String(one === holder));
    });
    if (!holder) return;
    const tip = holder.querySelector(".tip");
    tip.style.setProperty("--shift", "0px");
    const box = tip.getBoundingClientRect(), edge = 8, wide = root.clientWidth;
    const shift = box.left < edge ? edge - box.left : box.right > wide - edge ? wide - edge - box.right : 0;
    tip.style.setProperty("--shift", `${shift}px`);
  }
  holders.forEach((holder) => {
    holder.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && open(holder));
    holder.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && open(null));
    holder.addEventListener("focusin", () => open(holder));
    holder.addEventListener("focusout", () => open(null));
    holder.querySelector(".term").addEventListener("click", () => open(holder));
  });
  document.addEventListener("keydown", (event) => event.key === "Escape" && open(null));
  document.addEventListener("pointerdown", (event) => event.target.closest(".holder") || open(null));

  // Charts of curves.
  const places = all("[data-chart]");
  const drawn = new Map();
  const raised = (power) => String(power).replace("-", "⁻").replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]);
  const short = (value) => {
    if (value === null || value === undefined) return "";
    const size = Math.abs(value);
    let text = String(+value.toPrecision(4));
    if (size !== 0 && (size < 1e-3 || size >= 1e5)) {
      const [number, power] = value.toExponential(2).split("e").map(Number);
      text = (Math.abs(number) === 1 ? (number < 0 ? "-" : "") : `${number}·`) + `10${raised(power)}`;
    }
    return text.replace(/^-/, "−");
  };
  // Marks of a logarithmic axis: powers of ten alone where it has many decades.
  const decades = (_, marks) => {
    const many = marks.length > 0 && marks[marks.length - 1] / marks[0] > 1e3;
    const isPower = (mark) => Math.abs(Math.log10(mark) - Math.round(Math.log10(mark))) < 1e-9;
    return many ? marks.map((mark) => (isPower(mark) ? mark : null)) : marks;
  };
  function options(chart, width) {
    const style = getComputedStyle(root);
    const colour = (name) => style.getPropertyValue(name).trim();
    const ink = (number) => colour(number < 0 ? "--soft" : `--c${number % 8}`);
    const axis = (label, log, side, whole) => ({
      label, labelSize: side ? 20 : 18, labelGap: side ? 2 : 0, size: side ? 58 : 30, gap: 4, stroke: colour("--soft"), font: "12px system-ui", labelFont: "12px system-ui",
      grid: { stroke: colour("--line"), width: 1, ...(log ? { filter: decades } : {}) }, ticks: { stroke: colour("--line"), width: 1, size: 4 },
      values: (_, marks) => marks.map((mark) => (mark === null ? "" : short(mark))),
      ...(log ? { filter: decades, space: 22 } : { space: side ? 34 : 64 }),
      ...(whole ? { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] } : {}),
    });
    const height = chart.square ? Math.min(width, 400) : Math.min(280, Math.max(210, width * 0.55));
    const series = chart.series.map((one) => ({
      label: one.label, stroke: ink(one.colour), width: one.line ? 1.75 : 0, dash: one.dashed ? [5, 4] : undefined,
      paths: one.line ? undefined : () => null, value: (_, value) => short(value), spanGaps: true,
      points: { show: one.points, size: one.line ? 6 : 3.5, stroke: ink(one.colour), fill: ink(one.colour) },
    }));
    return {
      width, height, series: [{ label: chart.x, value: (_, value) => short(value) }, ...series],
      scales: { x: { time: false, distr: chart.log_x ? 3 : 1 }, y: { distr: chart.log_y ? 3 : 1 } },
      axes: [axis(chart.x, chart.log_x, false, chart.whole), axis(chart.y, chart.log_y, true, false)],
      cursor: { drag: { x: false, y: false }, points: { size: 7 } }, legend: { live: true },
    };
  }
  function drawChart(place) {
    const chart = data.charts[place.dataset.chart];
    const width = Math.floor(place.clientWidth);
    if (!chart || width < 50) return;
    const before = drawn.get(place);
    const theme = root.dataset.theme;
    if (before && before.width === width && before.theme === theme) return;
    if (before) before.plot.destroy();
    const plot = new uPlot(options(chart, width), [chart.at, ...chart.series.map((one) => one.values)], place);
    drawn.set(place, { plot, width, theme });
  }
  const drawCharts = () => places.forEach(drawChart);
  let waiting = 0;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(drawCharts, 120);
  });

  // The animation: frames lie side by side in grey pictures, and are coloured here.
  class Player {
    constructor(place, settings, colours) {
      [this.place, this.settings, this.colours] = [place, settings, colours];
      [this.play, this.scrub, this.when] = [".play", ".scrub", "output"].map((name) => place.querySelector(name));
      this.count = settings.times.length;
      this.frame = 0;
      this.timer = null;
      this.kinds = all(".kind", place).map((kind) => ({
        canvas: kind.querySelector("canvas"), image: kind.querySelector("img"), pixels: null,
      }));
      this.play.addEventListener("click", () => this.toggle());
      this.scrub.addEventListener("input", () => { this.stop(); this.show(Number(this.scrub.value)); });
      place.tabIndex = 0;
      place.addEventListener("keydown", (event) => this.key(event));
    }
    key(event) {
      const own = event.target === this.place;
      if (event.key === " " && (own || event.target === this.scrub)) this.toggle();
      else if (event.key === "ArrowRight" && own) { this.stop(); this.show((this.frame + 1) % this.count); }
      else if (event.key === "ArrowLeft" && own) { this.stop(); this.show((this.frame + this.count - 1) % this.count); }
      else return;
      event.preventDefault();
    }
    toggle() { if (this.timer) this.stop(); else this.start(); }
    start() {
      this.timer = setInterval(() => this.show((this.frame + 1) % this.count), 100);
      this.play.textContent = "Pause";
      this.play.setAttribute("aria-pressed", "true");
    }
    stop() {
      clearInterval(this.timer);
      this.timer = null;
      this.play.textContent = "Play";
      this.play.setAttribute("aria-pressed", "false");
    }
    show(frame) {
      this.frame = frame;
      this.scrub.value = frame;
      this.when.textContent = this.settings.times[frame];
      this.scrub.setAttribute("aria-valuetext", this.settings.times[frame]);
      this.draw();
    }
    pixels(kind) {
      if (!kind.pixels) {
        const sheet = document.createElement("canvas");
        [sheet.width, sheet.height] = [kind.image.naturalWidth, kind.image.naturalHeight];
        const context = sheet.getContext("2d", { willReadFrequently: true });
        context.drawImage(kind.image, 0, 0);
        kind.pixels = context.getImageData(0, 0, sheet.width, sheet.height);
      }
      return kind.pixels;
    }
    draw() {
      const [high, wide] = this.settings.size;
      const row = Math.floor(this.frame / this.settings.columns), column = this.frame % this.settings.columns;
      for (const kind of this.kinds) {
        if (!kind.canvas.offsetParent || !kind.image.naturalWidth) continue;
        const sheet = this.pixels(kind);
        const context = kind.canvas.getContext("2d");
        const shown = context.createImageData(wide, high);
        for (let y = 0; y < high; y++) {
          for (let x = 0; x < wide; x++) {
            const from = 4 * ((row * high + y) * sheet.width + column * wide + x), to = 4 * (y * wide + x);
            const level = 3 * sheet.data[from];
            shown.data[to] = this.colours[level];
            shown.data[to + 1] = this.colours[level + 1];
            shown.data[to + 2] = this.colours[level + 2];
            shown.data[to + 3] = sheet.data[from + 3];
          }
        }
        context.putImageData(shown, 0, 0);
      }
    }
    async ready() {
      await Promise.all(this.kinds.map((kind) => kind.image.decode().catch(() => null)));
      this.show(0);
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      const seen = new IntersectionObserver((entries) => {
        if (entries.some((entry) => entry.isIntersecting)) { seen.disconnect(); if (!still) this.start(); }
      }, { threshold: 0.4 });
      seen.observe(this.place);
    }
  }
  const place = document.getElementById("animation");
  const player = place ? new Player(place, data.animation, data.colours) : null;

  applyTheme();
  showSpecies(document.body.dataset.species);
  if (player) player.ready();
})();
