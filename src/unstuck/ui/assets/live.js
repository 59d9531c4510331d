// Follows the server's events: puts newer text in place, hands newer numbers to page.js, says how the connection is.
"use strict";
(() => {
  const { body } = document;
  const said = document.getElementById("said");
  const connection = document.getElementById("connection");
  let source = null;
  let postponed = null; // a page that came while the reader had text selected
  let over = false; // the server is gone for good
  let version = body.dataset.version;

  const FOCUSABLE = "a[href], button, select, input, summary, [tabindex]";

  function unopened(element) { // its text whatever the reader has opened
    return element.innerHTML.replaceAll(' open=""', "");
  }

  function labelOf(details) { // what names a part that can be opened, in this page and in a later one
    const article = details.closest("article");
    const among = article ? [...article.querySelectorAll("details")].indexOf(details) : 0;
    return article ? `${article.querySelector("h3").textContent} ${among}` : details.id;
  }

  function replaced(old, fresh) { // a newer section in an older one's place; what was open and focused stays so
    const open = new Map([...old.querySelectorAll("details")].map((one) => [labelOf(one), one.open]));
    const focused = [...old.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement);
    if (fresh instanceof HTMLDetailsElement) { fresh.open = old.open; }
    old.replaceWith(fresh);
    fresh.querySelectorAll("details").forEach((one) => {
      if (open.has(labelOf(one))) { one.open = open.get(labelOf(one)); }
    });
    const next = focused >= 0 ? fresh.querySelectorAll(FOCUSABLE)[focused] : null;
    if (next) { next.focus({ preventScroll: true }); }
  }

  function charts(element) { // which places for charts a section has
    return [...element.querySelectorAll("[data-chart], [data-cards]")]
      .map((one) => one.dataset.chart || one.dataset.cards).join();
  }

  function merged(old, fresh) {
    if (charts(old) && charts(old) === charts(fresh)) { // the pictures stay, page.js renews them
      const lists = [old, fresh].map((one) => one.querySelector("figure > ul"));
      if (lists[0] && lists[1]) { lists[0].replaceWith(lists[1]); }
    } else if (unopened(old) !== unopened(fresh)) {
      const parts = [...old.children].filter((one) => one.matches("article"));
      const newer = [...fresh.children].filter((one) => one.matches("article"));
      const alike = parts.length && parts.length === newer.length && old.children.length === fresh.children.length;
      if (alike && old.tagName === "SECTION" && !chosen(old)) { // causes that changed, one by one
        parts.forEach((part, k) => { if (unopened(part) !== unopened(newer[k])) { replaced(part, newer[k]); } });
        [...old.children].forEach((part, k) => {
          if (!part.matches("article") && unopened(part) !== unopened(fresh.children[k])) {
            part.replaceWith(fresh.children[k].cloneNode(true));
          }
        });
      } else {
        replaced(old, fresh);
      }
    }
  }

  function chosen(element) { // whether the reader has selected text in it
    const selection = getSelection();
    return !selection.isCollapsed && element.contains(selection.anchorNode);
  }

  function renew(made) {
    const main = document.getElementById("main");
    if (chosen(main)) {
      postponed = made;
      return;
    }
    postponed = null;
    const fresh = new DOMParser().parseFromString(`${made.head}<main>${made.main}</main>`, "text/html");
    const seen = [...main.children].find((one) => one.getBoundingClientRect().bottom > 0);
    const name = seen ? seen.id : "";
    const top = seen ? seen.getBoundingClientRect().top : 0;
    const header = document.querySelector("header");
    if (header.innerHTML !== fresh.querySelector("header").innerHTML) { header.replaceWith(fresh.querySelector("header")); }
    const wanted = [...fresh.querySelector("main").children];
    const ids = new Set(wanted.map((one) => one.id));
    [...main.children].forEach((one) => { if (!ids.has(one.id)) { one.remove(); } });
    wanted.forEach((one, k) => {
      const old = document.getElementById(one.id);
      if (old) { merged(old, one); } else { main.insertBefore(one, main.children[k] || null); }
    });
    document.dispatchEvent(new CustomEvent("unstuck:numbers", { detail: made.numbers }));
    const again = document.getElementById(name);
    if (again && scrollY > 0) { scrollBy(0, again.getBoundingClientRect().top - top); }
    said.textContent = made.said;
    body.dataset.state = made.state;
  }

  function say(text) {
    if (connection.textContent !== text) { connection.textContent = text; }
  }

  function stop() {
    if (source) { source.close(); }
    source = null;
  }

  function follow() {
    if (source || over || body.dataset.state === "ended") { return; }
    source = new EventSource(`${body.dataset.events}&since=${version}`);
    source.addEventListener("open", () => say(""));
    source.addEventListener("page", (event) => {
      const made = JSON.parse(event.data);
      version = made.version;
      say("");
      if (made.state === "ended") { stop(); }
      renew(made);
    });
    source.addEventListener("closing", () => {
      over = true;
      stop();
      say("unstuck ui was ended; this is what it had seen");
    });
    source.addEventListener("error", () => {
      if (!source) { return; }
      if (source.readyState === EventSource.CLOSED) {
        over = true;
        stop();
        say("This address is no longer served; start unstuck ui again");
      } else {
        say("The connection is lost; trying again");
      }
    });
  }

  document.addEventListener("selectionchange", () => {
    if (postponed && !chosen(document.getElementById("main"))) { renew(postponed); }
  });
  document.addEventListener("visibilitychange", () => { // a page that nobody sees holds no connection
    if (document.hidden) { stop(); } else { follow(); }
  });
  addEventListener("pagehide", stop);
  addEventListener("pageshow", (event) => { if (event.persisted) { follow(); } });
  follow();
})();
