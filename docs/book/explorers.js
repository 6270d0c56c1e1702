// The explorers of the book, and the claims by verdict: plain controls that change a picture or hide lines. Nothing is fetched but pictures.
"use strict";

function explorer(box) {
  const controls = [...box.querySelectorAll("[data-control]")];
  const image = box.querySelector(".shown > img"), said = box.querySelector(".said"), save = box.querySelector(".save"), code = box.querySelector(".code");
  const words = JSON.parse(box.querySelector("script").textContent);
  const position = control => Number(control.matches("select") ? control.selectedIndex : control.value);
  const place = (control, at) => control.matches("select") ? (control.selectedIndex = at) : (control.value = at);

  function show(remember) {
    const name = controls.map(position).join("-");
    image.src = `${box.dataset.folder}/${name}.webp`;
    image.alt = words[name];
    said.textContent = words[name].length < 300 ? words[name] : "";
    save.href = image.src;
    save.download = `${box.id}-${name}.webp`;
    for (const control of controls.filter(one => one.dataset.labels)) {
      control.nextElementSibling.textContent = JSON.parse(control.dataset.labels)[position(control)];
      control.setAttribute("aria-valuetext", control.nextElementSibling.textContent);
    }
    code.textContent = controls.reduce((text, one) => text.replaceAll(`{${one.dataset.control}}`, JSON.parse(one.dataset.codes)[position(one)]), box.dataset.code);
    if (remember) history.replaceState(null, "", `#${box.id}:${name}`);
    for (const control of controls.filter(one => one.type === "range")) fetchNeighbours(control);
  }

  function fetchNeighbours(control) { // so that dragging shows no gaps
    for (const step of [-1, 1]) {
      const at = position(control) + step;
      if (at < 0 || at > Number(control.max)) continue;
      new Image().src = `${box.dataset.folder}/${controls.map(one => one === control ? at : position(one)).join("-")}.webp`;
    }
  }

  const kept = location.hash.slice(1).split(":");
  if (kept[0] === box.id && words[kept[1]]) {
    kept[1].split("-").forEach((at, i) => place(controls[i], Number(at)));
    box.scrollIntoView();
  }
  controls.forEach(control => control.addEventListener("input", () => show(true)));
  show(false);
}

function points(layer) {
  const card = layer.querySelector(".thumbnail"), tile = card.querySelector("i"), text = card.querySelector("span");
  const { sheet, columns, side } = layer.dataset;
  for (const button of layer.querySelectorAll("button")) {
    const look = () => {
      const k = Number(button.dataset.tile), zoom = 3;
      tile.style.cssText = `width:${side * zoom}px;height:${side * zoom}px;background-image:url(${sheet});image-rendering:pixelated;` +
        `background-size:${columns * side * zoom}px auto;background-position:${-(k % columns) * side * zoom}px ${-Math.floor(k / columns) * side * zoom}px`;
      text.textContent = button.getAttribute("aria-label");
      card.hidden = false;
    };
    for (const event of ["mouseenter", "focus", "click"]) button.addEventListener(event, look);
  }
}

function verdicts(form) {
  const list = document.getElementById(form.dataset.list);
  form.addEventListener("change", () => {
    const wanted = new FormData(form).get("verdict");
    for (const line of list.querySelectorAll("[data-verdict]")) line.hidden = wanted !== "all" && line.dataset.verdict !== wanted;
  });
}

addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".explorer").forEach(explorer);
  document.querySelectorAll(".points").forEach(points);
  document.querySelectorAll("form[data-list]").forEach(verdicts);
});
