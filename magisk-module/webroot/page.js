// The live part of a report: the filtered list of findings, their proofs, themes, and the way to the daemon on the phone.
// Text from messages is only ever set as text; the sections above the list come escaped from `telltale report`.
(() => {
  'use strict';
  const $ = (id) => document.getElementById(id);
  const NEWEST_LIVE = 5000;
  const COMMAND = `/data/adb/modules/telltale/system/bin/telltale report --data --last ${NEWEST_LIVE}`;
  let data = null;
  let shown = [];
  let open = false;
  let rowHeight = 76;

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // Theme: what the system says, until the reader chooses.
  const themes = ['auto', 'light', 'dark'];
  function theme(next) {
    if (next === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    $('theme').textContent = `Theme: ${next}`;
    $('theme').value = next;
  }
  $('theme').addEventListener('click', () => theme(themes[(themes.indexOf($('theme').value) + 1) % themes.length]));
  theme('auto');
  $('theme').hidden = false;

  // Values stay masked until asked for: a report is shown around.
  function values(show) {
    open = show;
    $('values').setAttribute('aria-pressed', String(show));
    for (const secret of document.querySelectorAll('[data-full]')) {
      if (secret.dataset.mask === undefined) secret.dataset.mask = secret.textContent;
      secret.textContent = show ? secret.dataset.full : secret.dataset.mask;
    }
    draw();
  }
  $('values').addEventListener('click', () => values(!open));

  const kindLabel = (kind) => (Object.hasOwn(data.kinds, kind) ? data.kinds[kind] : kind || 'unknown kind');
  const valueOf = (finding) => (open && finding.value !== undefined ? finding.value : finding.masked) || '';
  const severities = { E: 'E: identity with content', W: 'W: worth a look', I: 'I: for the record', D: 'D: detail' };

  function haystack(finding) {
    if (finding.hay === undefined) {
      const parts = [finding.value, finding.raw, finding.masked, kindLabel(finding.kind)];
      for (const key of ['app', 'label', 'host', 'ip', 'owner', 'as_org', 'country', 'protocol', 'via', 'at', 'raw_sha256', 'id', 'why', 'time']) parts.push(finding[key]);
      finding.hay = parts.join('\n').toLowerCase();
    }
    return finding.hay;
  }

  function fill(select, all, names) {
    select.replaceChildren(new Option(all, ''));
    for (const [value, label] of names) select.append(new Option(label, value));
  }

  function counted(key, label) {
    const counts = new Map();
    for (const finding of data.findings) counts.set(finding[key] || '', (counts.get(finding[key] || '') || 0) + 1);
    counts.delete('');
    return [...counts].sort((a, b) => b[1] - a[1]).map(([value, count]) => [value, `${label(value)} (${count})`]);
  }

  function filter() {
    const text = $('f-text').value.trim().toLowerCase();
    const wanted = { severity: $('f-severity').value, kind: $('f-kind').value, app: $('f-app').value, owner: $('f-owner').value };
    const keys = Object.keys(wanted).filter((key) => wanted[key]);
    shown = data.findings.filter((finding) => keys.every((key) => finding[key] === wanted[key]) && (!text || haystack(finding).includes(text)));
    $('count').textContent = `${shown.length.toLocaleString('en')} of ${data.findings.length.toLocaleString('en')} findings`;
    $('scroll').scrollTop = 0;
    draw();
  }

  // Only the rows in view (and a few beside) exist: 20,000 findings scroll like 20.
  function draw() {
    if (!data) return;
    const list = $('rows');
    list.style.height = `${shown.length * rowHeight}px`;
    const view = $('scroll');
    const first = Math.max(0, Math.floor(view.scrollTop / rowHeight) - 6);
    const last = Math.min(shown.length, Math.ceil((view.scrollTop + view.clientHeight) / rowHeight) + 6);
    const focused = document.activeElement && list.contains(document.activeElement) ? document.activeElement.parentElement.dataset.at : null;
    const rows = [];
    for (let at = first; at < last; at += 1) rows.push(row(shown[at], at));
    list.replaceChildren(...rows);
    if (!shown.length) {
      const none = element('li', 'none', data.findings.length ? 'No finding fits these filters.' : 'Nothing was found yet. That is not all clear: see the coverage.');
      list.append(none);
      list.style.height = `${rowHeight}px`;
    }
    if (focused !== null) focusRow(Number(focused), false);
  }

  function row(finding, at) {
    const item = element('li');
    item.style.top = `${at * rowHeight}px`;
    item.dataset.at = at;
    item.setAttribute('aria-setsize', shown.length);
    item.setAttribute('aria-posinset', at + 1);
    const button = element('button');
    button.type = 'button';
    const severity = element('span', `sev ${'EWID'.includes(finding.severity) ? finding.severity : 'D'}`, finding.severity);
    const line = element('span', 'line');
    line.append(element('span', 'what', `${kindLabel(finding.kind)}: ${valueOf(finding)}`));
    line.append(element('span', 'val', `${finding.label || finding.app || 'unknown app'} → ${finding.owner || finding.host || finding.ip || 'unknown'}`));
    line.append(element('span', 'meta', [finding.time, finding.host, finding.cc].filter(Boolean).join(' · ')));
    button.append(severity, line);
    button.addEventListener('click', () => proof(finding));
    item.append(button);
    return item;
  }

  function focusRow(at, scroll) {
    const view = $('scroll');
    if (scroll) {
      const top = at * rowHeight;
      if (top < view.scrollTop) view.scrollTop = top;
      else if (top + rowHeight > view.scrollTop + view.clientHeight) view.scrollTop = top + rowHeight - view.clientHeight;
      draw();
    }
    const button = document.querySelector(`#rows li[data-at="${at}"] button`);
    if (button) button.focus({ preventScroll: true });
  }

  $('scroll').addEventListener('scroll', () => requestAnimationFrame(draw), { passive: true });
  $('scroll').addEventListener('keydown', (event) => {
    const item = document.activeElement.closest('#rows li');
    const at = item ? Number(item.dataset.at) : -1;
    const page = Math.max(1, Math.floor($('scroll').clientHeight / rowHeight) - 1);
    const target = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: shown.length - 1 }[event.key];
    if (target === undefined || !shown.length) return;
    event.preventDefault();
    focusRow(Math.min(shown.length - 1, Math.max(0, target)), true);
  });

  const crypts = { none: 'not protected: readable on the way', tls: 'TLS', sealed: "TLS and the app's own cipher", 'key-in-message': "the app's own cipher, its key in the same message" };
  const witnesses = { truth: "this phone's own value, or a hash or encoding of it", dictionary: "a known protocol's known field", shape: 'a telling key with a value of that shape', persistence: 'the same token over restarts and days' };
  const askings = { yes: 'yes: it is the request itself', likely: 'likely: this host needs it', unknown: 'unknown', no: 'no' };

  function proof(finding) {
    $('proof-title').textContent = kindLabel(finding.kind);
    $('proof-words').textContent = `${finding.label || finding.app || 'An app'} sent this to ${finding.host || finding.ip || finding.owner || 'an unknown host'}.${finding.why ? ` Why it counts: ${finding.why}.` : ''}`;
    const facts = $('proof-facts');
    facts.replaceChildren();
    const add = (name, content, mono) => {
      if (content === undefined || content === null || content === '') return;
      const value = element('dd', mono ? 'mono' : '');
      if (content instanceof Node) value.append(content); else value.textContent = content;
      facts.append(element('dt', '', name), value);
    };
    const route = element('ul', 'route mono');
    for (const step of (finding.via || '').split('>').filter(Boolean)) route.append(element('li', '', step));
    add('Value', valueOf(finding), true);
    add('Travelled as', finding.form);
    if (open) add('On the wire', finding.raw, true);
    add('Time', finding.time);
    add('App', [finding.app, finding.app_version].filter(Boolean).join(' '));
    add('Process', [finding.process, finding.pid && `pid ${finding.pid}`, finding.uid && `uid ${finding.uid}`].filter(Boolean).join(', '));
    add('True sender', finding.sender);
    add('Host', finding.host);
    add('Owner', [finding.owner, finding.host_owner_cc && `(${finding.host_owner_cc})`].filter(Boolean).join(' '));
    add('Address', [finding.ip, finding.port && `port ${finding.port}`, finding.iface && `over ${finding.iface}`].filter(Boolean).join(', '));
    add('Network', [finding.as_org, finding.asn && `AS${finding.asn}`].filter(Boolean).join(', '));
    add('Country', finding.country && `${finding.country}, by ${data.country_source || 'address data'}`);
    add('Protocol', finding.protocol);
    add('Protection', crypts[finding.crypt] || finding.crypt);
    if (route.children.length) add('Route', route);
    add('Place', finding.at, true);
    add('Witness', witnesses[finding.by] || finding.by);
    add('Asked for', askings[finding.asked] || finding.asked);
    add('How tied', finding.attr);
    add('Seen', finding.seen && `${finding.seen === '1' ? 'once' : `${finding.seen} times`}${finding.first ? `, from ${finding.first}` : ''}${finding.last ? ` to ${finding.last}` : ''}`);
    add('Message', finding.bytes && `${finding.bytes} bytes`);
    add('SHA-256', finding.raw_sha256, true);
    add('Id', finding.id, true);
    $('proof').showModal();
  }
  $('proof').addEventListener('click', (event) => { if (event.target === $('proof')) $('proof').close(); });

  // The findings come as rows of places in one list of texts; 0 is absent.
  function unfold(given) {
    given.findings = given.rows.map((row) => {
      const finding = Object.create(null);
      row.forEach((place, at) => { if (place) finding[given.columns[at]] = given.texts[place]; });
      return finding;
    });
    delete given.rows;
    return given;
  }

  function start(given) {
    data = unfold(given);
    $('values').hidden = !data.findings.some((finding) => finding.value !== undefined);
    fill($('f-severity'), 'any', counted('severity', (value) => severities[value] || value));
    fill($('f-kind'), 'any', counted('kind', kindLabel));
    const labels = new Map(data.findings.map((finding) => [finding.app, finding.label || finding.app]));
    fill($('f-app'), 'any', counted('app', (value) => labels.get(value)));
    fill($('f-owner'), 'any', counted('owner', (value) => value));
    $('filters').addEventListener('submit', (event) => event.preventDefault());
    $('filters').addEventListener('input', filter);
    $('filters').addEventListener('reset', () => requestAnimationFrame(filter));
    addEventListener('resize', draw);
    $('findings').hidden = false;
    filter();
  }

  function say(text) {
    const state = element('p', 'state', text);
    state.id = 'state';
    state.setAttribute('role', 'status');
    $('report').replaceChildren(state);
  }

  // The root manager's bridge: exec(command, options, name of a function called with errno, stdout, stderr).
  function live() {
    const bridge = window.ksu;
    if (!bridge || typeof bridge.exec !== 'function') {
      say('No live data here: this page talks to the daemon through a root manager (KernelSU, APatch, MMRL). Open it from the module list there, or run “telltale report --out FILE” as root and open that file.');
      return;
    }
    const patience = setTimeout(() => say('The daemon has not answered for 30 seconds. “telltale doctor” as root says why.'), 30000);
    const callback = 'telltaleAnswer';
    window[callback] = (errno, stdout, stderr) => {
      clearTimeout(patience);
      delete window[callback];
      if (errno !== 0) {
        say(`No live data: telltale ended with ${errno}. ${stderr || 'It said nothing more.'}`);
        return;
      }
      try {
        const answer = JSON.parse(stdout);
        // Parsed in a document of its own, where nothing runs; `telltale` escaped every text in it.
        const parsed = new DOMParser().parseFromString(answer.html, 'text/html');
        $('report').replaceChildren(...parsed.body.childNodes);
        start(answer);
      } catch (error) {
        say(`No live data: the answer could not be read (${error.message}).`);
      }
    };
    bridge.exec(COMMAND, '{}', callback);
  }

  const embedded = $('data');
  if (embedded) start(JSON.parse(embedded.textContent));
  else live();
})();
