(() => {
'use strict';

// Milliseconds: between polls, the same while nobody looks, until an answer that does not come is told of, and until it is given up.
const POLL = 1000, HIDDEN = 15000, LATE = 2500, GIVE_UP = 10000;
// Seconds: what the charts show, what "the last minute" is, how often it is written down what it is counted from, and how long a
// pool that does better stays where it is in the list, so that the list does not dance.
const SPAN = 300, MINUTE = 60, NOTE = 5, SETTLE = 10;
// How many points of a chart, rows of the list, incidents of a pool, and pools that are gone there are at most (at first).
const POINTS = 320, ROWS = 100, INCIDENTS = 10, GONE = 100;
const RANK = { critical: 3, warning: 2, ok: 1, gone: 0 };
const SERIES = ['used', 'idle', 'max', 'waiting', 'rate', 'p99'];
const COUNTERS = {
  checkouts: 'Checkouts', waits: 'Had to wait', timeouts: 'Timed out', late: 'Late', overloads: 'Turned away, too many waited',
  fast_failures: 'Failed at once, server away', opened: 'Connections opened', connect_failures: 'Attempts to connect that failed',
  checks: 'Checks', check_failures: 'Checks that failed', grown: 'Maximum raised', shrunk: 'Maximum lowered', panics: 'Panics in callbacks',
};
const TIMES = { wait_time: 'Wait, of those who had to', use_time: 'Use', connect_time: 'Connect' };
const byName = new Intl.Collator('en', { numeric: true }).compare;
const url = document.documentElement.dataset.json;

// ---- Words ----

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const brief = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });
const count = n => whole.format(n);
// Where there is little room.
const about = n => n < 100000 ? count(n) : brief.format(n);
const three = n => n >= 100 ? count(n) : n >= 10 ? n.toFixed(1) : n.toFixed(2);
const rate = n => n === null ? '–' : n === 0 ? '0' : n < 0.01 ? '<0.01' : n < 1 ? n.toFixed(2) : n < 100 ? n.toFixed(1) : count(n);
const plural = (n, one) => `${count(n)} ${one}${n === 1 ? '' : 's'}`;
const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const day = new Intl.DateTimeFormat(undefined, { month: 'short', day: 'numeric' });

function span(s) {
  if (s === 0) return '0';
  if (s < 0.001) return `${three(s * 1e6)} µs`.replace(/\.0+ /, ' ');
  if (s < 1) return `${three(s * 1000)} ms`;
  if (s < 60) return `${three(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60 % 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600 % 24)} h`;
}

// It is exact to about 5 ms.
const holding = lease => lease.held < 0.005 ? 'under 5 ms' : span(lease.held);

// Local time of seconds since 1970, with the day where that is another one.
function time(s) {
  const at = new Date(s * 1000);
  return at.toDateString() === new Date().toDateString() ? clock.format(at) : `${day.format(at)}, ${clock.format(at)}`;
}

// ---- Elements: text only ever becomes text, and is written only where it has changed ----

function make(tag, properties = {}, ...children) {
  const [name, ns] = tag.startsWith('svg:') ? [tag.slice(4), 'http://www.w3.org/2000/svg'] : [tag, 'http://www.w3.org/1999/xhtml'];
  const element = document.createElementNS(ns, name);
  for (const [key, value] of Object.entries(properties)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
function write(element, text) {
  const value = String(text);
  if (element.firstChild?.data !== value || element.childNodes.length > 1) element.textContent = value;
}
function mark(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}
function width(element, share) {
  const value = `${(100 * share).toFixed(1)}%`;
  if (element.style.width !== value) element.style.width = value;
}

// Makes the children of `parent` those of `items`, in their order. What stays is not touched, so it keeps its focus.
const lists = new WeakMap();
function list(parent, items, key, create) {
  const before = lists.get(parent) ?? new Map(), views = new Map(), focused = document.activeElement;
  for (const item of items) {
    let name = key(item);
    while (views.has(name)) name += '+';
    const view = before.get(name) ?? create(item);
    before.delete(name);
    views.set(name, view);
    view.show(item);
  }
  for (const view of before.values()) view.element.remove();
  let next = parent.firstChild;
  for (const { element } of views.values()) {
    if (element === next) next = next.nextSibling;
    else parent.insertBefore(element, next);
  }
  if (focused !== document.activeElement && parent.contains(focused)) focused.focus({ preventScroll: true });
  lists.set(parent, views);
}

function badge() {
  const element = make('span', { class: 'level' });
  return { element, show(level, old, text = old && level !== 'gone' ? `was ${level}` : level) {
    element.className = RANK[level] && !old ? `level ${level}` : 'level';
    write(element, text);
  } };
}

// Columns whose name begins with # have numbers.
function table(caption, columns, of = '') {
  const body = make('tbody');
  const heads = columns.map(name => make('th', name[0] === '#' ? { scope: 'col', class: 'number' } : { scope: 'col' }, name.replace('#', '')));
  const element = make('table', of && { class: of }, make('caption', {}, caption), make('thead', {}, make('tr', {}, ...heads)), body);
  return { element, body, heads };
}
function row(cells, first = {}) {
  const parts = [...cells].map((kind, n) => n === 0 && first.scope ? make('th', first) : make('td', kind === '#' ? { class: 'number' } : {}));
  return { element: make('tr', {}, ...parts), parts, show(...texts) { texts.forEach((text, n) => write(parts[n], text)); } };
}

// ---- Distributions: pairs of a bucket's upper end and how many are in it, one after another ----

function difference(now, before) {
  const result = [];
  for (let n = 0, old = 0; n < now.length; n += 2) {
    while (old < before.length && before[old] < now[n]) old += 2;
    const more = now[n + 1] - (before[old] === now[n] ? before[old + 1] : 0);
    if (more > 0) result.push(now[n], more);
  }
  return result;
}
function total(buckets) {
  let sum = 0;
  for (let n = 1; n < buckets.length; n += 2) sum += buckets[n];
  return sum;
}
function quantile(buckets, q, most) {
  let left = Math.max(1, Math.ceil(q * total(buckets)));
  for (let n = 0; n < buckets.length; n += 2) {
    left -= buckets[n + 1];
    if (left <= 0) return Math.min(buckets[n], most);
  }
  return 0;
}

// ---- What is known of a pool: the last answer, and a bounded past ----

class Past {
  constructor() {
    this.clear();
    this.at = new Float64Array(POINTS);
    this.series = Object.fromEntries(SERIES.map(name => [name, new Float32Array(POINTS)]));
  }
  clear() { this.next = 0; this.size = 0; }
  push(at, values) {
    this.at[this.next] = at;
    for (const name of SERIES) this.series[name][this.next] = values ? values[name] : NaN;
    this.next = (this.next + 1) % POINTS;
    this.size = Math.min(this.size + 1, POINTS);
  }
  // Calls `visit` with the place of each point since `from`, oldest first.
  each(from, visit) {
    for (let n = 0; n < this.size; n++) {
      const place = (this.next - this.size + n + POINTS) % POINTS;
      if (this.at[place] >= from) visit(place);
    }
  }
}

class Watched {
  constructor(name) {
    this.name = name;
    this.past = new Past();
    this.rank = 0;
    this.settled = 0;
    this.level = null;
    this.opened = null;
    this.forget();
  }

  forget() {
    this.past.clear();
    this.notes = [];
    this.status = null;
    this.rates = Object.fromEntries(Object.keys(COUNTERS).map(name => [name, null]));
  }

  take(status, at) {
    const now = status.stats, before = this.status?.stats;
    const fell = before && (Object.keys(COUNTERS).some(name => now[name] < before[name]) || now.closed.total < before.closed.total
      || Object.keys(TIMES).some(name => now[name].count < before[name].count));
    if (fell || this.gone) this.forget();
    if (fell) this.restarted = at;
    this.gone = null;
    const since = this.status ? at - this.at : 0;
    if (since > 0) for (const name in COUNTERS) this.rates[name] = (now[name] - this.status.stats[name]) / since;
    const recent = since > 0 ? difference(now.wait_time.buckets.flat(), this.status.stats.wait_time.buckets.flat()) : [];
    this.status = status;
    this.at = at;
    this.past.push(at, {
      used: now.in_use, idle: now.idle + now.checking, max: now.max_size, waiting: now.waiting,
      rate: this.rates.checkouts ?? NaN, p99: since > 0 ? quantile(recent, 0.99, now.wait_time.max) : NaN,
    });
    this.note(now, at);
    const rank = RANK[status.health.level] ?? RANK.warning;
    if (rank >= this.rank || at - this.settled > SETTLE) [this.rank, this.settled] = [rank, at];
  }

  // Writes down what the last minute is counted from.
  note(now, at) {
    const last = this.notes.at(-1);
    if (!last || at - last.at >= NOTE) {
      const note = { at, closed: now.closed, counters: Object.fromEntries(Object.keys(COUNTERS).map(name => [name, now[name]])) };
      for (const name in TIMES) {
        const same = last && last[name].count === now[name].count;
        note[name] = same ? last[name] : { count: now[name].count, buckets: Float64Array.from(now[name].buckets.flat()) };
      }
      this.notes.push(note);
    }
    while (this.notes.length > 1 && this.notes[1].at <= at - MINUTE) this.notes.shift();
  }

  vanish(at) {
    this.gone = at;
    this.rank = RANK.gone;
    for (const name in this.rates) this.rates[name] = null;
  }

  lastMinute() {
    const note = this.notes[0], wait = difference(this.status.stats.wait_time.buckets.flat(), note.wait_time.buckets);
    return { note, seconds: this.at - note.at, wait };
  }
}

// ---- A chart: one of the numbers of a pool over five minutes ----

// `main` is what its numbers are of, and `spoken` its name; of each line, what is added up for it, and how it looks.
function chart(title, spoken, format, main, lines, round = steps) {
  const now = make('span'), top = make('span', { class: 'top', 'aria-hidden': 'true' });
  const paths = lines.map(([, look]) => make('svg:path', { class: look }));
  const hair = make('svg:path', { class: 'hair' });
  const svg = make('svg:svg', { viewBox: '0 0 300 100', preserveAspectRatio: 'none', role: 'img' }, ...paths, hair);
  const plot = make('div', { class: 'plot' }, svg, top), until = make('span');
  const axis = make('div', { class: 'axis', 'aria-hidden': 'true' }, make('span', {}, '−5 min'), until);
  const element = make('figure', {}, make('figcaption', {}, make('b', {}, title), now), plot, axis);
  let pool = null, pointed = null;
  plot.addEventListener('pointermove', event => {
    const box = plot.getBoundingClientRect();
    pointed = (event.clientX - box.left) / box.width;
    tell();
  });
  plot.addEventListener('pointerleave', () => { pointed = null; tell(); });

  // The number now, or that under the pointer.
  function tell() {
    const series = pool.past.series[main], end = pool.end;
    let nearest = null, off = 5;
    if (pointed !== null) pool.past.each(end - SPAN, place => {
      const distance = Math.abs(pool.past.at[place] - (end - SPAN + pointed * SPAN));
      if (distance < off && !Number.isNaN(series[place])) [nearest, off] = [place, distance];
    });
    const x = nearest === null ? null : pool.past.at[nearest] - end + SPAN;
    mark(hair, 'd', x === null ? '' : `M${x.toFixed(1)} 0V100`);
    const last = series[(pool.past.next - 1 + POINTS) % POINTS];
    write(now, x !== null ? `${time(pool.past.at[nearest])}: ${format(series[nearest])}` : pool.past.size && !Number.isNaN(last) ? format(last) : '–');
  }

  return { element, show(of) {
    pool = of;
    const { past, end } = of, drawn = lines.map(() => ''), open = lines.map(() => '');
    const value = (names, place) => names.reduce((sum, name) => sum + past.series[name][place], 0);
    let most = 0, low = Infinity, high = -Infinity, before = -Infinity;
    past.each(end - SPAN, place => {
      for (const [names] of lines) {
        const one = value(names, place);
        if (one > most) most = one;
      }
      const one = past.series[main][place];
      if (one < low) low = one;
      if (one > high) high = one;
    });
    const scale = round(most);
    const finish = n => {
      if (open[n]) drawn[n] += lines[n][1].startsWith('area') ? `M${open[n]}V100H${open[n].slice(0, open[n].indexOf(' '))}Z` : `M${open[n]}`;
      open[n] = '';
    };
    past.each(end - SPAN, place => {
      const at = past.at[place], x = (at - end + SPAN).toFixed(1);
      lines.forEach(([names], n) => {
        const one = value(names, place);
        // Where there was no answer there is no line.
        if (Number.isNaN(one) || at - before > 2.5 * HIDDEN / 1000) finish(n);
        if (!Number.isNaN(one)) open[n] += `${open[n] ? 'L' : ''}${x} ${(100 - 96 * one / scale).toFixed(1)}`;
      });
      before = at;
    });
    lines.forEach((_, n) => { finish(n); mark(paths[n], 'd', drawn[n]); });
    write(top, format(scale));
    write(until, of.old ? time(end) : 'now');
    tell();
    mark(svg, 'aria-label', high < low ? `${spoken}: no numbers yet` : `${spoken}, last 5 minutes: lowest ${format(low)}, highest ${format(high)}`);
  } };
}

// The least of 1, 2, 3, 5 and 8 times a power of ten that is not less.
function steps(most) {
  if (!(most > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return (([1, 2, 3, 5, 8].find(n => n * power >= most * 0.999)) ?? 10) * power;
}

// ---- The bar of a pool ----

function bar(look) {
  const parts = ['used', 'checking', 'idle', 'opening'].map(name => make('span', { class: name }));
  const element = make('div', { class: look }, ...parts);
  return { element, show(stats) {
    const { in_use, checking, idle, connecting } = stats;
    const all = Math.max(stats.max_size, in_use + checking + idle + connecting, 1);
    [in_use, checking, idle, connecting].forEach((n, part) => width(parts[part], n / all));
  } };
}

// ---- What an opened pool shows ----

function details() {
  const outage = make('p', { class: 'outage' });
  const occupied = bar('bar large');
  mark(occupied.element, 'aria-hidden', 'true');
  const legend = make('ul', { class: 'legend' });
  const keys = [['used', 'in use'], ['checking', 'being checked'], ['idle', 'idle'], ['opening', 'opening'], ['free', 'not open']].map(([look, name]) => {
    const text = make('span');
    const element = make('li', {}, make('i', { class: look }), text);
    legend.append(element);
    return n => { write(text, `${count(n)} ${name}`); element.hidden = look === 'checking' && n === 0; };
  });
  const facts = make('p', { class: 'muted' });
  const charts = [
    // Idle on top of used, so it is drawn first.
    chart('In use, idle, max', 'Connections in use', count, 'used', [[['used', 'idle'], 'area-idle'], [['used'], 'area-used'], [['max'], 'limit']], most => most || 1),
    chart('Waiting', 'Callers waiting', count, 'waiting', [[['waiting'], 'area'], [['waiting'], 'line']]),
    chart('Checkouts/s', 'Checkouts per second', rate, 'rate', [[['rate'], 'area'], [['rate'], 'line']]),
    chart('Wait p99', 'Wait p99 of each second', span, 'p99', [[['p99'], 'area'], [['p99'], 'line']]),
  ];

  const times = table('Times', ['Time', '#Number', '#p50', '#p95', '#p99', '#Longest'], 'times');
  const timed = Object.entries(TIMES).map(([name, title]) => {
    const group = make('tr', {}, make('th', { scope: 'rowgroup', colspan: '6', class: 'group' }, title));
    const lately = row('-#####', { scope: 'row', class: 'of' }), ever = row('-#####', { scope: 'row', class: 'of' });
    times.element.append(make('tbody', {}, group, lately.element, ever.element));
    return { name, lately, ever };
  });
  times.body.remove();
  const counters = table('Counters', ['What', '#Per second', '#Last minute', '#Since start']);
  const counted = Object.entries(COUNTERS).map(([name, title]) => {
    const line = row('-###', { scope: 'row' });
    counters.body.append(line.element);
    return { name, title, line };
  });
  const closes = table('Closed connections, by reason', ['Reason', '#Last minute', '#Since start']);
  const holders = table('Held longest', ['Thread', 'Where it was taken', 'Label', '#Held for']);
  const incidents = table('Incidents, newest first', ['When', '#Times', 'Kind', 'What'], 'incidents');
  const more = make('button', { type: 'button', class: 'plain' });
  let all = false, shown = null;
  more.addEventListener('click', () => { all = true; show(shown); });

  const quiet = text => ({ element: make('p', { class: 'muted' }, text) });
  const noHolders = quiet('No connection is in use.'), noIncidents = quiet('No incidents.'), noCloses = quiet('None.');
  const part = (look, ...views) => make('div', { class: look }, ...views.map(view => view.element ?? view));
  const element = make('div', { class: 'body' },
    outage, make('h4', {}, 'Connections'), occupied.element, legend, facts,
    make('h4', {}, 'Last five minutes'), make('div', { class: 'charts' }, ...charts.map(one => one.element)),
    make('div', { class: 'parts' }, part('', times), part('', counters, closes, noCloses),
      part('wide named', holders, noHolders), part('wide named', incidents, noIncidents, more)));

  // No heads over nothing.
  function empty({ heads }, instead, items) {
    heads[0].parentNode.parentNode.hidden = !items.length;
    instead.element.hidden = items.length > 0;
  }

  function show(pool) {
    shown = pool;
    const { health, stats } = pool.status, { note, seconds } = pool.lastMinute();
    const lately = seconds >= MINUTE - 1 ? 'Last minute' : `Last ${Math.round(seconds)} s`;
    const gone = health.outage;
    outage.hidden = !gone;
    if (gone) write(outage, `Connecting has failed for ${span(gone.seconds)}, ${plural(gone.attempts, 'attempt')}. The last error: ${gone.error}`);
    occupied.show(stats);
    const open = stats.in_use + stats.checking + stats.idle + stats.connecting;
    [stats.in_use, stats.checking, stats.idle, stats.connecting, Math.max(0, stats.max_size - open)].forEach((n, key) => keys[key](n));
    write(facts, [
      `at most ${count(stats.max_size)}, at least ${count(stats.min_idle)} idle`,
      stats.waiting ? `${plural(stats.waiting, 'caller')} waiting, the first for ${span(stats.oldest_wait)}` : 'nobody waits',
      `connecting: ${{ closed: 'works', open: 'fails, pausing before the next attempt', half_open: 'failed, an attempt is under way' }[stats.breaker] ?? stats.breaker}`,
      stats.unanswered >= 1 ? `no answer from the server for ${span(stats.unanswered)}` : '',
      pool.restarted ? `counters began anew at ${time(pool.restarted)}` : '',
    ].filter(Boolean).join(' · '));
    for (const one of charts) one.show(pool);

    for (const { name, lately: first, ever } of timed) {
      const now = stats[name], recent = difference(now.buckets.flat(), note[name].buckets), n = total(recent);
      const texts = n ? [about(n), ...[0.5, 0.95, 0.99, 1].map(q => span(quantile(recent, q, now.max)))] : ['0', '–', '–', '–', '–'];
      first.show(lately, ...texts);
      const since = now.count ? [about(now.count), ...[now.p50, now.p95, now.p99, now.max].map(span)] : ['0', '–', '–', '–', '–'];
      ever.show(name === 'use_time' && !now.count && stats.checkouts ? 'Not measured' : 'Since start', ...since);
    }
    write(counters.heads[2], lately);
    write(closes.heads[1], lately);
    for (const { name, title, line } of counted) {
      line.element.hidden = stats[name] === 0 && !['checkouts', 'timeouts', 'opened', 'connect_failures'].includes(name);
      line.show(title, rate(pool.rates[name]), count(stats[name] - note.counters[name]), count(stats[name]));
    }
    const reasons = Object.entries(stats.closed).filter(([name, n]) => name !== 'total' && n > 0).sort((a, b) => b[1] - a[1])
      .map(([name, n]) => [name.replaceAll('_', ' '), count(Math.max(0, n - note.closed[name])), count(n)]);
    list(closes.body, reasons, ([name]) => name, () => {
      const line = row('-##', { scope: 'row' });
      return { element: line.element, show: texts => line.show(...texts) };
    });
    empty(closes, noCloses, reasons);
    list(holders.body, pool.status.holders, lease => String(lease.connection), () => {
      const line = row('---#', { scope: 'row' });
      return { element: line.element, show: lease => line.show(lease.thread, lease.location ?? '–', lease.label ?? '', holding(lease)) };
    });
    empty(holders, noHolders, pool.status.holders);
    const news = pool.status.incidents.toReversed();
    list(incidents.body, all ? news : news.slice(0, INCIDENTS), one => `${one.first} ${one.kind} ${one.text}`, incident);
    empty(incidents, noIncidents, news);
    more.hidden = all || news.length <= INCIDENTS;
    write(more, `Show all ${count(news.length)} incidents`);
  }
  return { element, show };
}

function incident(first) {
  const line = row('-#--', { scope: 'row' }), [when, times, kind, what] = line.parts;
  const text = make('span');
  kind.append(first.kind.replaceAll('_', ' '));
  what.append(text);
  if (first.holders.length) {
    const held = first.holders.map(lease => make('li', {}, `${lease.thread}${lease.location ? ` at ${lease.location}` : ''} for ${holding(lease)}${lease.label ? ` (${lease.label})` : ''}`));
    what.append(make('details', {}, make('summary', {}, `${plural(held.length, 'holder')} then`), make('ul', {}, ...held)));
  }
  return { element: line.element, show(one) {
    write(when, one.count > 1 ? `${time(one.first)} to ${time(one.last)}` : time(one.first));
    write(times, count(one.count));
    write(text, one.text);
  } };
}

// ---- The list of pools ----

const pools = new Map();
let numbers = 0, limit = ROWS, seen = 0, answered = 0, failing = null, paused = false, aged = false;
const get = id => document.getElementById(id);

function line(pool) {
  const level = badge(), use = bar('bar'), id = `pool-${++numbers}`;
  mark(use.element, 'aria-hidden', 'true');
  const toggle = make('button', { type: 'button', 'aria-expanded': 'false', 'aria-controls': id, id: `${id}-name` });
  toggle.append(make('bdi', {}, pool.name));
  const used = make('span', { class: 'number' });
  const cell = name => {
    const value = make('span'), element = make('div', { class: 'value' }, make('span', { class: 'what' }, `${name} `), value);
    return { element, show(text, hot) { write(value, text); element.classList.toggle('hot', hot); } };
  };
  const waiting = cell('Waiting'), checkouts = cell('Checkouts/s'), timeouts = cell('Time-outs/s'), p99 = cell('Wait p99, 1 min');
  const why = make('ul', { class: 'why' });
  const head = make('div', { class: 'row' }, level.element, make('h3', { class: 'name' }, toggle), make('div', { class: 'use' }, use.element, make('span', { class: 'unseen' }, 'In use '), used),
    waiting.element, checkouts.element, timeouts.element, p99.element, why);
  const region = make('div', { id });
  const element = make('article', { class: 'pool', 'aria-labelledby': `${id}-name` }, head, region);
  toggle.addEventListener('click', () => { setOpen(pool, !pool.opened); draw(); });
  return { element, show() {
    const { health, stats } = pool.status, old = pool.old = Boolean(pool.gone) || stale();
    level.show(pool.gone ? 'gone' : health.level, old);
    element.className = `pool ${pool.gone ? 'gone' : health.level}`;
    use.show(stats);
    write(used, `${count(stats.in_use)} of ${count(stats.max_size)}`);
    waiting.show(stats.waiting ? `${count(stats.waiting)} for ${span(stats.oldest_wait)}` : '0', stats.waiting > 0);
    checkouts.show(rate(pool.rates.checkouts), false);
    timeouts.show(rate(pool.rates.timeouts), pool.rates.timeouts > 0);
    const { wait } = pool.lastMinute();
    p99.show(wait.length ? span(quantile(wait, 0.99, stats.wait_time.max)) : '–', false);
    const reasons = pool.gone
      ? [{ level: '', reason: `Gone since ${time(pool.gone)}; the numbers are its last, of ${time(pool.at)}` }] : health.warnings;
    list(why, reasons, one => one.kind ?? 'gone', () => {
      const item = make('li');
      return { element: item, show(one) { item.className = one.level; write(item, one.reason); } };
    });
    mark(toggle, 'aria-expanded', String(Boolean(pool.opened)));
    if (pool.opened && !region.firstChild) region.append(pool.opened.element);
    if (!pool.opened && region.firstChild) region.replaceChildren();
    pool.opened?.show(pool);
  } };
}

function setOpen(pool, open) {
  if (open !== Boolean(pool.opened)) pool.opened = open ? details() : null;
}

const away = pool => Number(pool.status.stats.breaker !== 'closed');
const sorted = () => [...pools.values()].filter(pool => pool.status)
  .sort((a, b) => b.rank - a.rank || away(b) - away(a) || byName(a.name, b.name));

function chosen() {
  const words = get('filter').value.trim().toLowerCase();
  const fits = pool => !words || pool.name.toLowerCase().includes(words) || (words.length > 2 && (pool.gone ? 'gone' : pool.status.health.level).startsWith(words));
  const fitting = sorted().filter(fits);
  return { fitting, shown: fitting.filter((pool, n) => n < limit || pool.opened) };
}

function tile(name) {
  const value = make('dd');
  get('tiles').append(make('div', {}, make('dt', {}, name), value));
  return (text, small = '') => {
    const key = `${text} ${small}`;
    if (value.dataset.key === key) return;
    value.dataset.key = key;
    value.replaceChildren(text, ...(small ? [' ', make('small', {}, small)] : []));
  };
}
const tiles = ['Pools', 'Connections in use', 'Waiting', 'Checkouts/s', 'Time-outs/s', 'Pools without their server'].map(tile);

function sums() {
  const all = [...pools.values()].filter(pool => pool.status && !pool.gone);
  const sum = of => all.reduce((so, pool) => so + of(pool), 0);
  const known = all.filter(pool => pool.rates.checkouts !== null).length;
  const used = sum(pool => pool.status.stats.in_use), max = sum(pool => pool.status.stats.max_size);
  const levels = {};
  for (const pool of all) levels[pool.status.health.level] = (levels[pool.status.health.level] ?? 0) + 1;
  tiles[0](count(all.length));
  tiles[1](count(used), `of ${count(max)}`);
  tiles[2](count(sum(pool => pool.status.stats.waiting)));
  tiles[3](known ? rate(sum(pool => pool.rates.checkouts ?? 0)) : '–');
  tiles[4](known ? rate(sum(pool => pool.rates.timeouts ?? 0)) : '–');
  tiles[5](count(all.filter(pool => pool.status.stats.breaker !== 'closed').length));
  return levels;
}

function draw() {
  if (!answered) return;
  for (const pool of pools.values()) pool.end = pool.gone ? pool.at : seen;
  const levels = sums(), old = stale();
  document.body.classList.toggle('stale', old);
  document.body.classList.toggle('paused', paused);
  const names = Object.keys(levels).sort((a, b) => (RANK[b] ?? 2) - (RANK[a] ?? 2));
  list(get('overall'), names.map(name => [name, old, `${count(levels[name])} ${!old ? '' : levels[name] === 1 ? 'was ' : 'were '}${name}`]), ([name]) => name, () => {
    const view = badge();
    return { element: view.element, show: ([name, old, text]) => view.show(name, old, text) };
  });
  const worst = names.filter(name => name !== 'ok').map(name => `${levels[name]} ${name}`).join(', ');
  document.title = `${failing ? 'No answer' : paused ? 'Paused' : worst || 'All ok'} · Pools`;
  write(get('updated'), `${old ? 'Last answer' : 'As of'} ${time(seen)}`);
  const { fitting, shown } = chosen();
  write(get('found'), fitting.length < pools.size ? `${plural(fitting.length, 'pool')} of ${count(pools.size)}` : '');
  list(get('list'), shown, pool => pool.name, line);
  get('more').hidden = shown.length === fitting.length;
  write(get('more'), `Show ${count(Math.min(ROWS, fitting.length - shown.length))} more of ${count(fitting.length)}`);
}

// ---- Polling ----

// `aged`: it was not asked for a while, and is just being asked.
const stale = () => Boolean(failing) || paused || aged;

function take(status) {
  if (!Array.isArray(status?.pools)) throw new Error('the answer is not the status of pools');
  // The same moment again is a copy out of some cache. One that lasts is told of.
  if (status.at === seen) {
    if (performance.now() - answered > LATE) throw new Error('the answer is a copy of an older one');
    return;
  }
  // The clock of the server was set back.
  if (status.at < seen) for (const pool of pools.values()) pool.forget();
  const first = !answered, present = new Set();
  [seen, answered] = [status.at, performance.now()];
  for (const one of status.pools) {
    const name = one.health.pool;
    present.add(name);
    if (!pools.has(name)) pools.set(name, new Watched(name));
    pools.get(name).take(one, seen);
  }
  let gone = [...pools.values()].filter(pool => !present.has(pool.name));
  for (const pool of gone) if (!pool.gone) pool.vanish(seen);
  gone = gone.sort((a, b) => b.gone - a.gone);
  gone.forEach((pool, n) => { if (n >= GONE || seen - pool.gone > SPAN || !pool.status) pools.delete(pool.name); });
  if (first && pools.size <= 2) for (const pool of pools.values()) setOpen(pool, true);
  announce(first);
}

// Only what has become another level is read out.
function announce(first) {
  const changes = [];
  for (const pool of pools.values()) {
    const level = pool.gone ? 'gone' : pool.status.health.level;
    const appeared = pool.level === null && level === 'ok';
    if (!first && level !== pool.level && !appeared) {
      changes.push(`${pool.name}: ${level}${pool.gone || !pool.status.health.warnings[0] ? '' : `, ${pool.status.health.warnings[0].reason}`}`);
    }
    pool.level = level;
  }
  if (changes.length) write(get('announce'), changes.length > 3 ? `${changes.length} pools have changed their level` : changes.join('. '));
}

// Says why the numbers are old, and since when. `null` is that they are not.
function trouble(why) {
  if (why && !failing) {
    failing = { since: Date.now(), why };
    if (answered) for (const pool of pools.values()) if (!pool.gone) pool.past.push(seen, null);
    write(get('announce'), 'The level of all pools is unknown: no answer');
  } else if (!why && failing) {
    failing = null;
    write(get('announce'), 'The levels are known again');
  } else if (why) failing.why = why;
  notice();
}

function notice() {
  const element = get('trouble');
  element.hidden = !failing && !paused;
  element.classList.toggle('by-hand', !failing);
  const last = answered ? `The numbers below are old: of ${time(seen)}.` : 'There have been no numbers yet.';
  if (failing) write(element, `No answer from ${url} since ${clock.format(failing.since)}: ${failing.why}. ${last} ${paused ? 'Paused.' : 'It is asked again and again.'}`);
  else if (paused) write(element, `Paused. ${last}`);
}

let timer = 0, asking = null;

function later(pause) {
  clearTimeout(timer);
  timer = paused ? 0 : setTimeout(poll, pause);
}

async function poll() {
  if (asking) return;
  const began = performance.now(), mine = asking = new AbortController();
  const late = setTimeout(() => { trouble(`nothing for ${LATE / 1000} s`); draw(); }, LATE);
  const enough = setTimeout(() => mine.abort(), GIVE_UP);
  let why = null, busy = 0;
  try {
    const response = await fetch(url, { cache: 'no-store', signal: mine.signal, headers: { Accept: 'application/json' } });
    if (!response.ok) throw new Error(`it says ${response.status} ${response.statusText}`.trim());
    const status = await response.json();
    busy = performance.now();
    if (!paused) take(status);
  } catch (error) {
    why = mine.signal.aborted ? `nothing for ${GIVE_UP / 1000} s` : error instanceof SyntaxError ? 'the answer is not JSON'
      : error instanceof TypeError && !busy ? 'it cannot be reached' : error.message;
  }
  clearTimeout(late);
  clearTimeout(enough);
  asking = null;
  if (!paused) {
    aged = false;
    trouble(why);
  }
  try {
    draw();
  } catch (error) {
    // Half of it may be new. What is not as expected must not end the asking.
    trouble(`it cannot be shown: ${error.message}`);
    document.body.classList.add('stale');
  }
  // With very many pools it takes its time, and does not take all of it.
  const spent = busy ? performance.now() - busy : 0;
  later(document.hidden ? HIDDEN : Math.max(POLL - (performance.now() - began), 4 * spent, POLL / 10));
}

// After a pause, and a time in the background: what is there is old until there is an answer.
function age() { aged = answered > 0 && performance.now() - answered > LATE; }

get('host').append(location.host);
get('pause').addEventListener('click', () => {
  paused = !paused;
  write(get('pause'), paused ? 'Go on' : 'Pause');
  if (paused) asking?.abort();
  else age();
  notice();
  draw();
  later(0);
});
get('filter').addEventListener('input', () => { limit = ROWS; draw(); });
get('more').addEventListener('click', () => { limit += ROWS; draw(); });
get('open').addEventListener('click', () => { for (const pool of chosen().shown) setOpen(pool, true); draw(); });
get('close').addEventListener('click', () => { for (const pool of pools.values()) setOpen(pool, false); draw(); });
document.addEventListener('visibilitychange', () => {
  if (document.hidden) return;
  age();
  draw();
  later(0);
});
poll();
})();
