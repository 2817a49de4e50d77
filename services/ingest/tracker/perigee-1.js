/* Perigee's tracker, version 1 (docs/tracker.md). Pages name its hash: once released it never changes. */
(function (window, document, navigator) {
  "use strict";

  const script = document.currentScript;
  if (!script || (window.perigee && window.perigee.version)) return;
  const set = script.dataset; // key, host, consent, domain, hash, auto
  const host = set.host || new URL(script.src).origin;

  const VISIT_MS = 30 * 60e3;
  const WAIT_MS = 1500;
  const OTHERS_MS = 3000; // for another page's beacon to be answered
  const ANSWER_MS = 30e3;
  const MOST_BYTES = 60000; // browsers take 64 KiB of what outlives its page
  const MOST_EVENT = 32000;
  const MOST_QUEUED = 500;
  const MONTHS_13 = 34e6; // seconds
  const UTM = { utm_source: "source", utm_medium: "medium", utm_campaign: "name", utm_term: "term", utm_content: "content" };
  const LIBRARY = { name: "perigee.js", version: "1" };
  const TOKEN = "pgt";
  const FILES = /\.(pdf|docx?|xlsx?|pptx?|csv|zip|gz|dmg|exe|apk|mp3|mp4|epub|ics)$/i;

  /* What is remembered: in first-party storage where that is allowed and works, else in memory. */

  const memory = {};
  let works = attempt(function () {
    localStorage.setItem("perigee.works", "1");
    localStorage.removeItem("perigee.works");
    return true;
  });

  function attempt(work) {
    try {
      return work();
    } catch (_) {
      return undefined;
    }
  }

  function stored(name) {
    return attempt(function () { return JSON.parse(localStorage.getItem("perigee." + name)) || undefined; });
  }

  function recall(name) {
    return works && permission() === "full" ? stored(name) : memory[name];
  }

  function remember(name, value, always) {
    memory[name] = value;
    if (!always && permission() !== "full") return;
    const text = JSON.stringify(value);
    works = attempt(function () { localStorage.setItem("perigee." + name, text); return true; }) || (works && name.startsWith("queue."));
  }

  function forget(name) {
    delete memory[name];
    attempt(function () { localStorage.removeItem("perigee." + name); });
  }

  function cookie(name) {
    return attempt(function () {
      const found = set.domain && document.cookie.match("(?:^|; )perigee_" + name + "=([^;]+)");
      return found ? decodeURIComponent(found[1]) : undefined;
    });
  }

  function setCookie(name, value, seconds) {
    if (!set.domain) return;
    attempt(function () {
      document.cookie = "perigee_" + name + "=" + encodeURIComponent(value) + ";domain=" + set.domain + ";path=/;max-age=" +
        seconds + ";samesite=lax" + (location.protocol === "https:" ? ";secure" : "");
    });
  }

  /* Consent. "full": ids are kept. "pseudonymous": an id of this page alone, and nobody's name. "none": nothing is sent.
     The person's word counts first, then their browser's for all sites (GPC, DNT), then the site's setting. */

  function purposesSaid() {
    return attempt(function () { return JSON.parse(cookie("consent")); }) || stored("consent") || memory.consent;
  }

  function permission() {
    const said = purposesSaid();
    if (said && typeof said.analytics === "boolean") return said.analytics ? "full" : "none";
    if (navigator.globalPrivacyControl || navigator.doNotTrack === "1") return "none";
    return { drop: "none", keep: "pseudonymous" }[set.consent] || "full";
  }

  function consent(said, own) {
    const before = permission();
    const old = purposesSaid();
    const purposes = Object.assign({}, old, said);
    if (JSON.stringify(purposes) === JSON.stringify(old)) return;
    const mine = before === "full" ? anonymousId() : own;
    remember("consent", purposes, true);
    setCookie("consent", JSON.stringify(purposes), MONTHS_13);
    const full = permission() === "full";
    if (full) ["id", "visit"].forEach(function (name) { // so that this page's touchpoints join
      if (memory[name] && !stored(name)) remember(name, memory[name]);
    });
    let ids = asked();
    if (!full && (mine || !ids.length)) ids = asked(mine || uuid());
    ids.forEach(function (id) { // taken back wherever it was given
      if (!full || id !== anonymousId()) sendWord({ type: "identify" }, id);
    });
    if (full) asked(anonymousId());
    if (!Object.values(purposes).some(Boolean)) forget("asked");
    if (!full) {
      if (before === "full") forgetIds();
      return flush();
    }
    if (before === "none" && set.auto !== "false") page();
    send("identify", {});
    sendToken();
  }

  function asked(more) { // the ids under which consent was given here
    const ids = stored("asked") || memory.asked || [];
    if (!more || ids.includes(more)) return ids;
    remember("asked", ids.concat(more).slice(-10), true);
    return ids.concat(more);
  }

  function sendWord(fields, id) { // of consent: without page and browser
    const context = { library: LIBRARY, consent: { categoryPreferences: purposesSaid() } };
    enqueue(Object.assign({ messageId: uuid(), timestamp: new Date().toISOString(), context, anonymousId: id }, fields));
  }

  function isWord(message) {
    return message && message.context && !message.context.page;
  }

  /* Who, where, and how they came. */

  function uuid() {
    if (crypto.randomUUID) return crypto.randomUUID();
    return Array.from(crypto.getRandomValues(new Uint8Array(16)), function (byte) {
      return byte.toString(16).padStart(2, "0");
    }).join("");
  }

  function anonymousId() {
    const full = permission() === "full";
    const id = (full && works ? cookie("id") || stored("id") : memory.id) || uuid();
    if (memory.id !== id || (full && !stored("id"))) remember("id", id);
    if (full && cookie("id") !== id) setCookie("id", id, MONTHS_13);
    return id;
  }

  function known(name) { // of whom it was said: after a reset, here or in another tab, they are somebody else
    const found = recall(name);
    return found && found.of === anonymousId() ? found.is : undefined;
  }

  function visit() {
    const now = Date.now();
    const query = new URLSearchParams(location.search);
    const campaign = {};
    for (const name in UTM) if (query.get(name)) campaign[UTM[name]] = query.get(name);
    let current = known("visit");
    if (!current || now - current.at > VISIT_MS) current = { campaign: {} };
    if (Object.keys(campaign).length) current.campaign = campaign;
    current.at = now;
    remember("visit", { of: anonymousId(), is: current });
    return current;
  }

  let referrer = document.referrer;
  let seen = null; // the address of the last page view

  function address() {
    return location.origin + location.pathname + location.search + (set.hash === "true" ? location.hash : "");
  }

  function context(purposes) {
    const found = {
      library: LIBRARY,
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

  function send(type, fields) {
    const allowed = permission();
    if (allowed === "none") return;
    const message = Object.assign({
      type: type,
      messageId: uuid(),
      anonymousId: anonymousId(),
      timestamp: new Date().toISOString(),
      context: context(purposesSaid()),
    }, fields);
    if (allowed === "full") {
      if (!fields.userId && !message.context.linkToken) Object.assign(message, known("user"));
      if (known("group")) message.context.groupId = known("group");
    } else ["userId", "userHash", "traits", "groupId"].forEach(function (name) { delete message[name]; });
    enqueue(message);
  }

  function enqueue(message) {
    if (size(message) > MOST_EVENT) return console.warn("perigee: dropped a " + message.type + " of more than 32 kB");
    queue.push(message);
    if (queue.length > MOST_QUEUED) {
      console.warn("perigee: the queue is full, its oldest is dropped");
      queue.splice(flying, 1);
      beaconed = Math.max(flying, beaconed - 1);
    }
    keep();
    later(WAIT_MS);
  }

  function keep() {
    const kept = permission() === "full" ? queue : queue.filter(isWord);
    if (kept.length) remember(place, kept, true);
    else forget(place);
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
    const traitsAlone = userId !== null && typeof userId === "object";
    const who = userId == null || traitsAlone ? {} : { userId: String(userId) };
    if (options && options.userHash) who.userHash = options.userHash;
    if (who.userId) remember("user", { of: anonymousId(), is: who });
    send("identify", Object.assign({ traits: (traitsAlone ? userId : traits) || {} }, who));
  }

  function group(groupId, traits) {
    remember("group", { of: anonymousId(), is: String(groupId) });
    send("group", { groupId: String(groupId), traits: traits || {} });
  }

  function reset() {
    forgetIds();
    forget("asked");
  }

  function forgetIds() {
    ["id", "user", "group", "visit"].forEach(forget);
    setCookie("id", "", 0);
  }

  /* From the queue to the door. A touchpoint stays until it is answered, on this page or the next: a repeat costs nothing,
     as the door and the engine know it by its messageId. */

  const place = "queue." + uuid();
  let queue = [];
  let flying = 0;
  let beaconed = 0; // of the queue's front: sent as a page was hidden, not answered for
  let failures = 0;
  let notBefore = 0;
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
    if (Date.now() < notBefore) return later(notBefore - Date.now());
    const messages = batch(0);
    flying = messages.length;
    // Without a header of ours, and as text: no preflight is needed.
    const end = window.AbortSignal && AbortSignal.timeout ? AbortSignal.timeout(ANSWER_MS) : undefined;
    fetch(host + "/v1/batch", { method: "POST", body: body(messages), keepalive: true, credentials: "omit", signal: end }).then(function (answer) {
      const again = answer.status === 408 || answer.status === 429 || answer.status >= 500;
      if (!answer.ok && !again) console.warn("perigee: the door refused " + messages.length + " touchpoints: " + answer.status);
      settle(again ? 0 : messages.length, 1e3 * parseInt(answer.headers.get("Retry-After"), 10) || 0);
    }, function () { settle(0, 0); });
  }

  function settle(done, wait) {
    flying = 0;
    failures = done ? 0 : failures + 1;
    beaconed = Math.max(0, beaconed - done);
    queue.splice(0, done);
    keep();
    const pause = done ? 0 : Math.max(Math.min(wait, 300e3), Math.min(60e3, 1e3 * 2 ** failures) * (0.5 + Math.random() / 2));
    notBefore = Date.now() + pause;
    if (queue.length) later(pause);
  }

  function leave() { // nobody sees a beacon's answer, so its touchpoints stay for this page, or the next, to send again
    if (navigator.onLine === false) return;
    beaconed = Math.max(beaconed, flying);
    for (let messages; (messages = batch(beaconed)).length; beaconed += messages.length) {
      if (!navigator.sendBeacon(host + "/v1/batch", body(messages))) break;
    }
    if (queue.length) later(WAIT_MS);
  }

  function takeOver() { // what another page could not send, or not be sure of
    attempt(function () {
      Object.keys(localStorage).filter(function (name) {
        return name.startsWith("perigee.queue.") && name !== "perigee." + place;
      }).forEach(function (name) {
        const left = attempt(function () { return JSON.parse(localStorage.getItem(name)); });
        localStorage.removeItem(name);
        if (Array.isArray(left)) queue = queue.concat(permission() === "none" ? left.filter(isWord) : left.filter(Boolean));
      });
    });
    keep();
    if (queue.length) later(0);
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
    const said = function (name) { return Element.prototype.getAttribute.call(form, name) || ""; }; // a field may be called so
    const boxes = Element.prototype.querySelectorAll.call(form, "[data-perigee-consent]");
    const fields = new FormData(form);
    const traits = {};
    const purposes = {};
    said("data-perigee-traits").split(/[\s,]+/).filter(Boolean).forEach(function (name) {
      const value = fields.get(name);
      if (typeof value === "string" && value) traits[name] = value.slice(0, 500);
    });
    boxes.forEach(function (box) { purposes[box.dataset.perigeeConsent] = box.checked; });
    const name = said("data-perigee-event") || "Form Submitted";
    const about = { form: said("id") || said("name") };
    const own = uuid();
    const ticked = Object.values(purposes).some(Boolean);
    if (Object.keys(purposes).length) consent(purposes, ticked && own);
    if (ticked && permission() !== "full") { // they ask for something, whatever else they refuse: under an id of its own
      asked(own);
      sendWord({ type: "identify", traits: traits }, own);
      return sendWord({ type: "track", event: name, properties: about }, own);
    }
    if (Object.keys(traits).length) identify(traits);
    track(name, about);
  }

  function onRoute() {
    setTimeout(function () { if (address() !== seen) page(); }, 0);
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
    addEventListener("pageshow", function (event) { if (event.persisted) page(); });
    const listen = function (kind, work) {
      document.addEventListener(kind, function (event) { attempt(function () { work(event); }); }, true);
    };
    listen("click", onClick);
    listen("auxclick", function (event) { if (event.button === 1) onClick(event); });
    listen("submit", onSubmit);
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
    const found = context(purposesSaid());
    found.linkToken = memory.token;
    delete memory.token;
    send("identify", { context: found });
  }

  const waiting = Array.isArray(window.perigee) ? window.perigee : [];
  const calls = { track, page, identify, group, consent, reset, flush, anonymousId };
  window.perigee = Object.assign({
    version: "1",
    push: function (call) {
      return attempt(function () { return calls[call[0]].apply(null, call.slice(1)); });
    },
  }, calls);

  function start() {
    setTimeout(takeOver, OTHERS_MS);
    [takeToken].concat(set.auto !== "false" ? [watch, page] : []).forEach(function (work) {
      attempt(function () { work(); });
    });
    waiting.forEach(window.perigee.push);
  }

  addEventListener("online", function () { failures = notBefore = 0; flush(); });
  addEventListener("pagehide", leave);
  document.addEventListener("visibilitychange", function () { if (document.visibilityState === "hidden") leave(); });
  if (!set.key) console.warn("perigee: the script tag needs data-key, the source's write key");
  if (document.prerendering) document.addEventListener("prerenderingchange", start, { once: true });
  else start();
})(window, document, navigator);
