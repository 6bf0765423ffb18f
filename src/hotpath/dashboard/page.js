"use strict";
// Everything is on the page without this: it adds figures under the pointer, buttons to copy, and newer figures.
(() => {
  const body = document.body;
  const live = document.getElementById("live");
  const waiting = new Map();

  function read(plot, slot) {
    plot.querySelectorAll(".slot.on").forEach((other) => other.classList.remove("on"));
    slot.classList.add("on");
    const output = document.getElementById(plot.getAttribute("aria-describedby"));
    const text = slot.querySelector("title").textContent;
    if (output.textContent !== text) output.textContent = text;
  }

  function slotAt(plot, x) {
    let nearest = null, distance = Infinity;
    for (const slot of plot.querySelectorAll(".slot")) {
      const box = slot.getBoundingClientRect();
      const away = Math.max(box.left - x, x - box.right, 0);
      if (away < distance) { nearest = slot; distance = away; }
    }
    return nearest;
  }

  function onPointer(event) {
    const plot = event.target.closest?.(".plot");
    const slot = plot && slotAt(plot, event.clientX);
    if (slot) read(plot, slot);
  }
  document.addEventListener("pointermove", onPointer);
  document.addEventListener("pointerdown", onPointer);

  document.addEventListener("focusin", (event) => {
    if (!event.target.matches?.(".plot") || event.target.querySelector(".slot.on")) return;
    const slots = event.target.querySelectorAll(".slot");
    if (slots.length) read(event.target, slots[slots.length - 1]);
  });

  document.addEventListener("keydown", (event) => {
    if (!event.target.matches?.(".plot")) return;
    const slots = [...event.target.querySelectorAll(".slot")];
    const now = slots.findIndex((slot) => slot.classList.contains("on"));
    const next = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: slots.length - 1 }[event.key];
    if (next === undefined || !slots.length) return;
    event.preventDefault();
    read(event.target, slots[Math.min(Math.max(next, 0), slots.length - 1)]);
  });

  function select(code) {
    const range = document.createRange();
    range.selectNodeContents(code);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  }

  function addButtons(root) {
    for (const command of root.querySelectorAll(".command:not(:has(button))")) {
      const code = command.querySelector("code");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "Copy";
      button.setAttribute("aria-label", `Copy: ${code.textContent}`);
      button.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(code.textContent);
          button.textContent = "Copied";
        } catch {
          select(code); // without leave, or without https: the keys do it
          button.textContent = "Selected";
        }
        setTimeout(() => { button.textContent = "Copy"; }, 1500);
      });
      command.append(button);
    }
  }

  // What somebody reads, points at or has open at the moment is not taken from under his hands.
  function isBusy(section) {
    const selection = getSelection();
    return section.contains(document.activeElement) || section.querySelector(".plot:hover") !== null
      || (!selection.isCollapsed && selection.containsNode(section, true));
  }

  function replace(name, html) {
    const section = document.getElementById(name);
    if (!section) return;
    if (isBusy(section)) { waiting.set(name, html); return; }
    waiting.delete(name);
    const open = [...section.querySelectorAll("details[open]")].map((details) => details.id);
    const places = [...section.querySelectorAll(".scroll")].map((box) => [box.scrollTop, box.scrollLeft]);
    section.innerHTML = html; // escaped by the server, and the policy of the page runs nothing in it
    section.hidden = html === "";
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    section.querySelectorAll(".scroll").forEach((box, index) => {
      if (places[index]) [box.scrollTop, box.scrollLeft] = places[index];
    });
    addButtons(section);
  }

  function listen() {
    const address = new URL(body.dataset.events, location.href);
    address.searchParams.set("seen", body.dataset.versions);
    const source = new EventSource(address);
    let lost = 0;
    source.addEventListener("sections", (event) => {
      clearTimeout(lost);
      const news = JSON.parse(event.data);
      document.getElementById("updated").textContent = news.updated;
      live.textContent = "Live.";
      for (const [name, html] of Object.entries(news.sections)) replace(name, html);
      for (const [name, html] of [...waiting]) replace(name, html);
    });
    source.addEventListener("error", () => {
      // Each stream has one event, ends, and the browser begins the next two seconds later.
      lost = setTimeout(() => { live.textContent = "Not connected: these figures are old."; }, 8000);
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
    });
  }

  addButtons(document);
  if (body.dataset.events) listen();
})();
