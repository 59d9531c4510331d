// Draws a chart when its section is open and in sight; keeps slider, search and theme in step with what is drawn.
"use strict";
(() => {
  let data = JSON.parse(document.getElementById("numbers").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const drawn = new Map(); // element -> {view, redraw}
  let wanted = "";

  const THEMES = { system: "(prefers-color-scheme: dark)", light: "not all", dark: "all" }; // when page.css is dark
  const KEPT = "unstuck-theme";
  const darkRule = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules])
    .find((rule) => rule.conditionText === THEMES.system);
  let chosen = "system";
  try { chosen = localStorage.getItem(KEPT) || chosen; } catch { /* this browser keeps nothing for a page */ }

  function isDark() {
    return chosen === "system" ? dark.matches : chosen === "dark";
  }

  function paint() {
    chosen = chosen in THEMES ? chosen : "system";
    darkRule.media.mediaText = THEMES[chosen];
    document.documentElement.style.colorScheme = chosen === "system" ? "" : chosen;
    document.getElementById("theme").textContent = `Theme: ${chosen}`;
  }
  paint();

  function theme() {
    const [text, line, ground] = isDark() ? ["#e7eaee", "#4a525c", "#1f242b"] : ["#1b1f24", "#c3c9d0", "#f4f6f8"];
    const axis = { labelColor: text, titleColor: text, gridColor: line, domainColor: line, tickColor: line,
      gridOpacity: 0.6, labelLimit: 170, labelFontSize: 11, titleFontSize: 12, titleFontWeight: "normal" };
    const legend = { labelColor: text, titleColor: text, labelLimit: 260, symbolLimit: 8, orient: "bottom",
      columns: document.documentElement.clientWidth < 600 ? 1 : 3, direction: "horizontal" };
    return { background: "transparent", axis, legend, text: { color: text },
      title: { color: text, fontSize: 12, limit: Math.max(200, document.querySelector("main").clientWidth - 110) },
      style: { halo: { stroke: ground, strokeWidth: 4, strokeOpacity: 0.85 } },
      view: { stroke: line }, font: "system-ui, DejaVu Sans, sans-serif" };
  }

  function rows(packed) { // {fields, names, rows} -> objects; strings were replaced by their number in `names`
    return packed.rows.map((row) => Object.fromEntries(packed.fields.map((field, k) =>
      [field, packed.texts[k] ? packed.names[row[k]] : row[k]])));
  }

  function fitted(spec, width) { // a copy of a chart's description, as wide as its place
    const copy = structuredClone(spec);
    if (copy.vconcat) {
      copy.vconcat.forEach((part) => { part.width = Math.max(160, width - 80); });
    } else {
      copy.width = Math.max(160, width - 2);
      copy.autosize = { type: "fit-x", contains: "padding" };
    }
    return copy;
  }

  async function embed(element, spec) {
    const old = drawn.get(element);
    const place = document.createElement("div"); // the old picture stays until the new one is there
    const result = await vegaEmbed(place, spec, {
      ast: true, renderer: "canvas", config: theme(), hover: true, logLevel: 1,
      defaultStyle: false, forceActionsMenu: true, tooltip: { disableDefaultStyle: true }, // page.css has them
      actions: { export: true, source: false, compiled: false, editor: false },
    });
    const menu = place.querySelector("summary");
    if (menu) { menu.setAttribute("aria-label", `Save as a picture: ${element.getAttribute("aria-label")}`); }
    element.replaceChildren(place);
    if (old && old.view) { old.view.finalize(); }
    return result.view;
  }

  function search({ view, step, places }) { // `step`: the height of a place's row, if each has one
    if (step) { view.height(step * Math.max(1, places.filter(isFound).length)); }
    try { view.signal("search", wanted).runAsync(); } catch { /* a chart without places */ }
  }

  function isFound(name) {
    return name.toLowerCase().includes(wanted.toLowerCase());
  }

  async function drawWhole(element) {
    const packed = data.charts[element.dataset.chart];
    const spec = { ...packed.spec, datasets: {} };
    for (const [name, table] of Object.entries(packed.datasets)) { spec.datasets[name] = rows(table); }
    const step = spec.height && spec.height.step;
    const places = step ? [...new Set(Object.values(spec.datasets).flatMap((table) => table.map((row) => row.place)))] : [];
    if (step) { spec.height = step * places.length; }
    const view = await embed(element, fitted(spec, element.clientWidth));
    drawn.set(element, { view, step, places, redraw: () => drawWhole(element), width: element.clientWidth });
    search(drawn.get(element));
  }

  function frameOf(card, step) { // the latest frame not after a step
    let found = 0;
    card.steps.forEach((at, k) => { if (at <= step) { found = k; } });
    return found;
  }

  function bins(card, frame) {
    return card.shares[frame].map((share, k) => ({
      name: "", x0: card.from + k * card.width, x1: card.from + (k + 1) * card.width, share: share / 1e3,
      first: card.shares[0][k] / 1e3, low: card.low, high: card.high, switch: card.switch,
    }));
  }

  function units(card) {
    const cells = [];
    card.cells.forEach((line, u) => [...line].forEach((digit, k) =>
      cells.push({ unit: card.units[u], step: card.steps[k], share: parseInt(digit, 36) / 35 })));
    return cells;
  }

  async function drawCard(element) {
    const { group, card } = element.card;
    const frame = group.slider ? frameOf(card, group.steps[group.slider.value]) : 0;
    const cells = group.slider ? bins(card, frame) : units(card);
    const place = element.querySelector(".chart");
    const height = group.slider ? (group.cards.length < 4 ? 200 : 120) : Math.max(90, Math.min(260, 3 * card.cells.length));
    const spec = fitted({ ...group.template, datasets: { cells }, height }, place.clientWidth);
    if (card.range) { // the same for panels that are compared
      spec.layer.forEach(({ encoding }) => {
        if (encoding.x && encoding.x.scale) { encoding.x.scale.domain = card.range; }
      });
    }
    const view = await embed(place, spec);
    drawn.set(place, { view, redraw: () => drawCard(element), width: place.clientWidth });
    if (group.slider) { element.querySelector(".note").textContent = card.notes[frame]; }
  }

  function moved(group) {
    const step = group.steps[group.slider.value];
    group.output.textContent = `step ${step.toLocaleString("en")}`;
    group.slider.setAttribute("aria-valuetext", `step ${step}`);
    group.elements.forEach(refill);
  }

  function refill(element) { // a drawn panel with the numbers of its step, as they are now
    const { group, card } = element.card;
    const shown = drawn.get(element.querySelector(".chart"));
    if (!shown || !shown.view) { return; }
    const frame = group.slider ? frameOf(card, group.steps[group.slider.value]) : 0;
    shown.view.data("cells", group.slider ? bins(card, frame) : units(card)).runAsync();
    element.querySelector(".note").textContent = group.slider ? card.notes[frame] : card.note;
  }

  function play(place, button) {
    if (place.timer) {
      clearInterval(place.timer);
      place.timer = null;
      button.textContent = "▶ play";
      return;
    }
    const { slider } = place.group;
    const atEnd = () => Number(slider.value) >= place.group.steps.length - 1;
    if (atEnd()) { slider.value = 0; }
    button.textContent = "⏸ stop";
    place.timer = setInterval(() => {
      slider.value = Number(slider.value) + 1;
      moved(place.group);
      if (atEnd()) { play(place, button); }
    }, 250);
  }

  let queue = Promise.resolve();
  const waiting = []; // what came into sight and is not drawn yet; the latest is drawn first

  async function drawNext() { // one chart after another, with a pause for the reader's keys and clicks between
    const target = waiting.pop();
    if (!target) { return; }
    const place = target.card ? target.querySelector(".chart") : target;
    try {
      await (target.card ? drawCard(target) : drawWhole(target));
    } catch (error) {
      place.textContent = `this chart could not be drawn: ${error.message}`;
      console.error(error);
    }
    inSight.unobserve(target);
    await new Promise((done) => { setTimeout(done, 0); });
  }

  const inSight = new IntersectionObserver((entries) => {
    entries.reverse().forEach(({ target, isIntersecting }) => {
      const at = waiting.indexOf(target);
      if (at >= 0) { waiting.splice(at, 1); }
      if (isIntersecting) {
        waiting.push(target);
        queue = queue.then(drawNext);
      }
    });
  }, { rootMargin: "200px" });

  function emptyCard() { // an empty panel, drawn when it comes into sight
    const element = document.createElement("div");
    element.className = "card";
    for (const [tag, name] of [["h3", ""], ["span", "note"], ["div", "chart"]]) {
      const part = document.createElement(tag);
      part.className = name;
      element.append(part);
    }
    element.querySelector("h3").dir = "auto";
    element.querySelector(".chart").setAttribute("role", "img");
    inSight.observe(element);
    return element;
  }

  function cardsOf(place) { // the panels of a section; those that were there are kept
    const group = data.cards[place.dataset.cards];
    const known = new Map((place.group ? place.group.elements : []).map((one) => [one.card.card.name, one]));
    place.classList.toggle("few", group.cards.length < 3);
    group.elements = group.cards.map((card) => {
      const element = known.get(card.name) || emptyCard();
      element.card = { group, card };
      element.querySelector("h3").textContent = card.name;
      element.querySelector(".chart").setAttribute("aria-label", `${place.dataset.title}: ${card.name}`);
      if (!known.has(card.name)) { element.querySelector(".note").textContent = card.note || ""; }
      return element;
    });
    if (!place.group || group.elements.some((one, k) => place.children[k] !== one)) {
      place.replaceChildren(...group.elements);
    }
    const controls = place.parentElement.querySelector(".slider");
    if (controls) { sliderOf(place, group, controls); }
    place.group = group;
    group.elements.forEach(refill);
  }

  function sliderOf(place, group, controls) { // keeps its step; at the end it stays at the end
    group.steps = [...new Set(group.cards.flatMap((card) => card.steps))].sort((a, b) => a - b);
    group.slider = controls.querySelector("input");
    group.output = controls.querySelector("output");
    const last = group.steps.length - 1;
    if (place.group) {
      const { steps } = place.group;
      const at = Number(group.slider.value);
      const kept = Math.max(0, group.steps.findLastIndex((step) => step <= steps[at]));
      group.slider.max = last;
      group.slider.value = at > 0 && at === steps.length - 1 ? last : kept;
    } else {
      group.slider.max = last;
      group.slider.addEventListener("input", () => moved(place.group));
      const button = controls.querySelector("button");
      button.addEventListener("click", () => play(place, button));
    }
    moved(group);
  }

  function cardsOfAll() {
    document.querySelectorAll("[data-cards]").forEach(cardsOf);
  }

  cardsOfAll();
  document.querySelectorAll("[data-chart]").forEach((element) => inSight.observe(element));

  const box = document.getElementById("search");
  function find() {
    wanted = box.value;
    let shown = 0;
    let all = 0;
    Object.values(data.cards).forEach((group) => (group.elements || []).forEach((element) => {
      const found = isFound(element.card.card.name);
      element.hidden = !found;
      all += 1;
      shown += found ? 1 : 0;
    }));
    document.getElementById("found").textContent = wanted ? `${shown} of ${all} panels` : "";
    drawn.forEach((shown) => { if (shown.view) { search(shown); } });
  }
  box.addEventListener("input", find);

  function renew(numbers) { // numbers of the same run, some time later
    const before = data;
    data = numbers;
    drawn.forEach(({ view }, element) => {
      if (!element.isConnected) {
        if (view) { view.finalize(); }
        drawn.delete(element);
      }
    });
    document.querySelectorAll("[data-chart]").forEach((element) => {
      const name = element.dataset.chart;
      if (!drawn.has(element) || JSON.stringify(before.charts[name]) !== JSON.stringify(data.charts[name])) {
        inSight.unobserve(element); // what is in sight is drawn again at once, the rest when it comes into sight
        inSight.observe(element);
      }
    });
    cardsOfAll();
    find();
  }
  document.addEventListener("unstuck:numbers", ({ detail }) => renew(detail));

  function again(wanted) {
    drawn.forEach((shown, element) => {
      if (shown.view && wanted(shown, element)) { queue = queue.then(shown.redraw).catch(console.error); }
    });
  }
  dark.addEventListener("change", () => again(() => true));
  document.getElementById("theme").addEventListener("click", () => {
    const names = Object.keys(THEMES);
    chosen = names[(names.indexOf(chosen) + 1) % names.length];
    try { localStorage.setItem(KEPT, chosen); } catch { /* it holds until the page is closed */ }
    paint();
    again(() => true);
  });
  let timer = null;
  addEventListener("resize", () => {
    clearTimeout(timer);
    timer = setTimeout(() => again((shown, element) => Math.abs(element.clientWidth - shown.width) > 8), 200);
  });
  addEventListener("hashchange", () => { // a link to a closed section opens it
    const target = document.getElementById(location.hash.slice(1));
    if (target instanceof HTMLDetailsElement) { target.open = true; }
  });
})();
