/* Perigee's tracker, version 1 (docs/tracker.md). Pages name the hash of this file: once released it never changes. */
(function (window, document, navigator) {
  "use strict";

  const script = document.currentScript;
  if (!script || (window.perigee && window.perigee.version)) return;
  const set = script.dataset; // key, host, consent, domain, hash, auto
  const host = set.host || new URL(script.src).origin;

  const VISIT_MS = 30 * 60e3; // without a touchpoint for longer, the next one begins another visit
  const WAIT_MS = 1500; // how long touchpoints gather before they are sent
  const MOST_BYTES = 60000; // of a batch: browsers take 64 KiB of those that outlive their page
  const MOST_EVENT = 32000;
  const MOST_QUEUED = 500;
  const UTM = { utm_source: "source", utm_medium: "medium", utm_campaign: "name", utm_term: "term", utm_content: "content" };
  const TOKEN = "pgt"; // the parameter of a link that says for whom it was made
  const FILES = /\.(pdf|docx?|xlsx?|pptx?|csv|zip|gz|dmg|exe|apk|mp3|mp4|epub|ics)$/i;

  /* What is remembered: in first-party storage where that is allowed and works, else in memory, for this page alone. */

  const memory = {};

  function recall(name) {
    try {
      const text = localStorage.getItem("perigee." + name);
      if (text !== null) return JSON.parse(text);
    } catch (_) { /* storage is off, or holds what is not ours */ }
    return memory[name];
  }

  function remember(name, value, always) {
    memory[name] = value;
    if (!always && permission() !== "full") return;
    try {
      localStorage.setItem("perigee." + name, JSON.stringify(value));
    } catch (_) { /* off, or full */ }
  }

  function forget(name) {
    delete memory[name];
    try {
      localStorage.removeItem("perigee." + name);
    } catch (_) { /* off */ }
  }

  function cookie() {
    const found = set.domain && document.cookie.match(/(?:^|; )perigee_id=([^;]+)/);
    return found ? decodeURIComponent(found[1]) : null;
  }

  function setCookie(value, seconds) {
    if (!set.domain) return;
    document.cookie = "perigee_id=" + encodeURIComponent(value) + ";domain=" + set.domain + ";path=/;max-age=" + seconds +
      ";samesite=lax" + (location.protocol === "https:" ? ";secure" : "");
  }

  /* Consent. "full": ids are kept. "pseudonymous": an id of this page alone, and nobody's name. "none": nothing is sent.
     What the person said here counts first; then what their browser says for all sites (GPC, DNT); then the site's setting. */

  function permission() {
    const said = recall("consent");
    if (said && typeof said.analytics === "boolean") return said.analytics ? "full" : "none";
    if (navigator.globalPrivacyControl || navigator.doNotTrack === "1") return "none";
    return { drop: "none", keep: "pseudonymous" }[set.consent] || "full";
  }

  function consent(said) {
    const before = permission();
    const purposes = Object.assign({}, recall("consent"), said);
    if (before === "full" && purposes.analytics === false) {
      send("identify", {}, purposes); // the last word: the other side learns that it was taken back
      reset();
      forget(place); // what was taken with consent still goes, from memory
      flush();
    }
    remember("consent", purposes, true);
    if (permission() === "none") return;
    ["id", "visit"].forEach(function (name) { // what this page had for itself stays, so that its touchpoints join
      if (memory[name]) remember(name, memory[name]);
    });
    if (memory.id) setCookie(memory.id, 34e6);
    if (before === "none" && set.auto !== "false") page();
    send("identify", {});
    sendToken();
  }

  /* Who, where, and how they came. */

  function uuid() {
    if (crypto.randomUUID) return crypto.randomUUID(); // only where the page is secure
    return Array.from(crypto.getRandomValues(new Uint8Array(16)), function (byte) {
      return byte.toString(16).padStart(2, "0");
    }).join("");
  }

  function anonymousId() {
    const id = cookie() || recall("id") || uuid();
    if (memory.id !== id) {
      remember("id", id);
      if (permission() === "full") setCookie(id, 34e6); // 13 months
    }
    return id;
  }

  function visit() {
    const now = Date.now();
    const query = new URLSearchParams(location.search);
    const campaign = {};
    for (const name in UTM) if (query.get(name)) campaign[UTM[name]] = query.get(name);
    let current = recall("visit");
    if (!current || now - current.at > VISIT_MS) current = { campaign: {} };
    if (Object.keys(campaign).length) current.campaign = campaign;
    current.at = now;
    remember("visit", current);
    return current;
  }

  let referrer = document.referrer;
  let seen = null; // the address of the last page view

  function address() {
    return location.origin + location.pathname + location.search + (set.hash === "true" ? location.hash : "");
  }

  function context(purposes) {
    const found = {
      library: { name: "perigee.js", version: "1" },
      page: { url: address(), path: location.pathname, search: location.search, title: document.title, referrer: referrer },
      userAgent: navigator.userAgent,
      locale: navigator.language,
      timezone: Intl.DateTimeFormat().resolvedOptions().timeZone,
    };
    const campaign = visit().campaign;
    if (Object.keys(campaign).length) found.campaign = campaign;
    if (purposes) found.consent = { categoryPreferences: purposes };
    return found;
  }

  /* From a call to a touchpoint in the queue. */

  function send(type, fields, purposes) {
    const allowed = permission();
    if (allowed === "none") return;
    const message = Object.assign({
      type: type,
      messageId: uuid(),
      anonymousId: anonymousId(),
      timestamp: new Date().toISOString(),
      context: context(purposes || recall("consent")),
    }, fields);
    if (allowed === "full") {
      Object.assign(message, Object.assign({}, recall("user"), fields.userId ? fields : {}));
      if (recall("group")) message.context.groupId = recall("group");
    } else ["userId", "userHash", "traits", "groupId"].forEach(function (name) { delete message[name]; });
    if (size(message) > MOST_EVENT) return console.warn("perigee: dropped a " + type + " of more than 32 kB");
    queue.push(message);
    if (queue.length > MOST_QUEUED) {
      console.warn("perigee: the queue is full, its oldest is dropped");
      queue.splice(flying, 1);
    }
    remember(place, queue);
    later(WAIT_MS);
  }

  function track(event, properties) {
    send("track", { event: event, properties: properties || {} });
  }

  function page(name, properties) {
    if (seen !== null && seen !== address()) referrer = seen;
    seen = address();
    send("page", { name: name || "", properties: properties || {} });
  }

  function identify(userId, traits, options) {
    const who = typeof userId === "object" ? {} : { userId: String(userId) };
    if (options && options.userHash) who.userHash = options.userHash;
    if (who.userId) remember("user", who);
    send("identify", Object.assign({ traits: (typeof userId === "object" ? userId : traits) || {} }, who));
  }

  function group(groupId, traits) {
    remember("group", String(groupId));
    send("group", { groupId: String(groupId), traits: traits || {} });
  }

  function reset() {
    ["id", "user", "group", "visit"].forEach(forget);
    setCookie("", 0);
  }

  /* From the queue to the door. A touchpoint stays until it is answered, on this page or the next: a repeat costs nothing,
     as the door and the engine know it by its messageId. */

  const place = "queue." + uuid();
  let queue = [];
  let flying = 0;
  let failures = 0;
  let timer = null;

  function size(value) {
    return new Blob([JSON.stringify(value)]).size;
  }

  function batch(from) {
    let bytes = 500;
    let end = from;
    while (end < queue.length && (bytes += size(queue[end]) + 1) <= MOST_BYTES) end++;
    return queue.slice(from, end);
  }

  function body(messages) {
    return JSON.stringify({ batch: messages, writeKey: set.key, sentAt: new Date().toISOString() });
  }

  function later(wait) {
    if (timer === null) timer = setTimeout(flush, wait);
  }

  function flush() {
    clearTimeout(timer);
    timer = null;
    if (flying || !queue.length) return;
    const messages = batch(0);
    flying = messages.length;
    // Without a header of ours, and as text: no preflight is needed.
    fetch(host + "/v1/batch", { method: "POST", body: body(messages), keepalive: true, credentials: "omit" }).then(function (answer) {
      const again = answer.status === 408 || answer.status === 429 || answer.status >= 500;
      if (!answer.ok && !again) console.warn("perigee: the door refused " + messages.length + " touchpoints: " + answer.status);
      settle(again ? 0 : messages.length, 1e3 * answer.headers.get("Retry-After"));
    }, function () { settle(0, 0); });
  }

  function settle(done, wait) {
    flying = 0;
    failures = done ? 0 : failures + 1;
    queue.splice(0, done);
    if (queue.length) remember(place, queue);
    else forget(place);
    if (queue.length) later(done ? 0 : Math.max(wait, Math.min(60e3, 1e3 * 2 ** failures) * (0.5 + Math.random() / 2)));
  }

  function leave() {
    if (navigator.onLine === false) return;
    for (let messages; (messages = batch(flying)).length;) {
      if (!navigator.sendBeacon(host + "/v1/batch", body(messages))) break;
      queue.splice(flying, messages.length);
    }
    if (queue.length) remember(place, queue);
    else forget(place);
  }

  function takeOver() { // what another page could not send
    try {
      Object.keys(localStorage).filter(function (name) { return name.startsWith("perigee.queue."); }).forEach(function (name) {
        queue = queue.concat(JSON.parse(localStorage.getItem(name)));
        localStorage.removeItem(name);
      });
    } catch (_) { return; }
    if (queue.length) remember(place, queue), later(0);
  }

  /* What happens without a call. */

  function onClick(event) {
    const marked = event.target.closest && event.target.closest("[data-perigee-event]");
    if (marked && marked.tagName !== "FORM") track(marked.dataset.perigeeEvent, { text: text(marked) });
    const link = event.target.closest && event.target.closest("a[href]");
    if (!link || !/^https?:$/.test(link.protocol)) return;
    const about = { url: link.origin + link.pathname, text: text(link) };
    if (link.hasAttribute("download") || FILES.test(link.pathname)) track("File Downloaded", about);
    else if (link.host !== location.host) track("Link Clicked", about);
  }

  function text(element) {
    return (element.textContent || "").trim().slice(0, 100);
  }

  function onSubmit(event) { // no field's content, unless the form names the field as a trait
    const form = event.target;
    const traits = {};
    const purposes = {};
    (form.dataset.perigeeTraits || "").split(/[\s,]+/).filter(Boolean).forEach(function (name) {
      const field = form.elements.namedItem(name);
      if (field && field.value) traits[name] = String(field.value).slice(0, 500);
    });
    form.querySelectorAll("[data-perigee-consent]").forEach(function (box) { purposes[box.dataset.perigeeConsent] = box.checked; });
    if (Object.keys(purposes).length) consent(purposes);
    if (Object.keys(traits).length) identify(traits);
    track(form.dataset.perigeeEvent || "Form Submitted", { form: form.getAttribute("id") || form.getAttribute("name") || "" });
  }

  function onRoute() {
    setTimeout(function () { if (address() !== seen) page(); }, 0); // once, when a router goes on at once
  }

  function watch() {
    ["pushState", "replaceState"].forEach(function (name) {
      const original = history[name];
      history[name] = function () {
        const found = original.apply(this, arguments);
        onRoute();
        return found;
      };
    });
    addEventListener("popstate", onRoute);
    addEventListener("pageshow", function (event) { if (event.persisted) page(); }); // back from the browser's cache
    document.addEventListener("click", onClick, true);
    document.addEventListener("auxclick", function (event) { if (event.button === 1) onClick(event); }, true);
    document.addEventListener("submit", onSubmit, true);
  }

  function takeToken() { // out of the address: it is meant for us, and for nobody who is sent the link
    const url = new URL(location.href);
    const token = url.searchParams.get(TOKEN);
    if (!token) return;
    url.searchParams.delete(TOKEN);
    history.replaceState(history.state, "", url);
    memory.token = token;
    sendToken();
  }

  function sendToken() { // with consent only: it names a person
    if (!memory.token || permission() !== "full") return;
    const found = context(recall("consent"));
    found.linkToken = memory.token;
    delete memory.token;
    send("identify", { context: found });
  }

  const waiting = Array.isArray(window.perigee) ? window.perigee : [];
  const calls = { track, page, identify, group, consent, reset, flush, anonymousId };
  window.perigee = Object.assign({
    version: "1",
    push: function (call) { return calls[call[0]].apply(null, call.slice(1)); },
  }, calls);

  function start() {
    takeOver();
    takeToken();
    if (set.auto !== "false") watch(), page();
    waiting.forEach(window.perigee.push);
  }

  if (!set.key) console.warn("perigee: the script tag needs data-key, the source's write key");
  if (document.prerendering) document.addEventListener("prerenderingchange", start, { once: true }); // nobody looks yet
  else start();
  addEventListener("online", function () { failures = 0; flush(); });
  addEventListener("pagehide", leave);
  document.addEventListener("visibilitychange", function () { if (document.visibilityState === "hidden") leave(); });
})(window, document, navigator);
