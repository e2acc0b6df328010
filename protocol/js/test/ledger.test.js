/** What is too long for the vectors: the bounds of the books, and what is a tag. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Lease } from '../lease.js';
import { Ledger } from '../ledger.js';
import { covers, overlap, tagFrom } from '../tag.js';

const at = (offset, epoch = 'a') => ({ epoch, offset });
const clean = (id, offset) => ({ id, watched: { at: at(offset), stale: [], denied: [], escalated: [] } });

test('many tags are asked in commands that a server takes, and none names a tag twice', () => {
  const ledger = new Ledger();
  for (let key = 0; key < 2_500; key++) {
    assert.equal(ledger.stored(key, ['everything', `row:${key}`], { told: at((key % 3) + 1) }), 'kept');
  }
  ledger.connected(15_000);
  const watches = ledger.effects();
  const tags = watches.map(({ watch }) => watch.groups.flatMap((group) => group.tags));
  for (const named of tags) assert.ok(named.length <= 1_000 && new Set(named).size === named.length, `${named.length} tags`);
  assert.equal(tags.flat().length, 2_503);
  for (const { id } of watches) ledger.handle(clean(id, 9));
  assert.equal(ledger.effects().length, 2_500);
});

test('commands fit into what every server takes, however long the tags are', () => {
  const ledger = new Ledger();
  const tags = Array.from({ length: 900 }, (_, i) => `${'\\'.repeat(250)}${i}`);
  assert.equal(ledger.stored('k', tags, { told: at(1) }), 'kept');
  ledger.connected(15_000);
  const sent = ledger.commands();
  ledger.forget('k');
  const all = [...sent, ...ledger.commands()].map(({ watch, unwatch }) => ({ watch, unwatch }));
  for (const command of all) assert.ok(JSON.stringify(command).length < 60_000);
  const named = all.flatMap(({ watch, unwatch }) => unwatch?.tags ?? watch.groups.flatMap((group) => group.tags));
  assert.deepEqual(named.sort(), [...tags, ...tags].sort());
});

test('many values are asked about at once, and what was dropped meanwhile is not', () => {
  const ledger = new Ledger();
  ledger.connected(15_000);
  for (let key = 0; key < 300; key++) ledger.stored(key, [`row:${key}`], { told: at(1) });
  for (let key = 100; key < 300; key++) ledger.forget(key);
  const [{ watch }, ...others] = ledger.commands();
  assert.deepEqual([others.length, watch.groups[0].tags.length], [0, 100]);
  for (let key = 0; key < 100; key++) ledger.forget(key);
  ledger.stored(0, ['row:0'], { told: at(2) });
  const [{ unwatch }, { watch: again }] = ledger.commands();
  assert.deepEqual([unwatch.tags.length, unwatch.tags.includes('row:0'), again.groups], [99, false, [{ since: at(2), tags: ['row:0'] }]]);
});

test('an answer says nothing of a tag that was taken back and is held again', () => {
  const ledger = new Ledger();
  ledger.connected(15_000);
  ledger.stored('k', ['t'], { told: at(1) });
  const [{ id }] = ledger.commands();
  ledger.forget('k');
  ledger.commands();
  ledger.stored('l', ['t'], { told: at(1) });
  const [again] = ledger.commands();
  ledger.handle(clean(id, 1));
  assert.deepEqual(ledger.effects(), []);
  ledger.handle(clean(again.id, 1));
  assert.deepEqual(ledger.effects(), [{ proven: 'l' }]);
});

test('a read that sees too many own mutations go by is refused', () => {
  const ledger = new Ledger();
  ledger.connected(15_000);
  ledger.effects();
  ledger.handle(clean(1, 1));
  for (let offset = 2; offset <= 300; offset++) ledger.mutated(at(offset), [`row:${offset}`]);
  assert.equal(ledger.stored(1, ['other'], { begun: at(43) }), 'touched');
  assert.equal(ledger.stored(1, ['other'], { begun: at(44) }), 'kept');
  assert.equal(ledger.stored(2, ['row:250'], { begun: at(249) }), 'touched');
});

test('of many changes of epochs the last ones are known', () => {
  const ledger = new Ledger();
  ledger.connected(15_000);
  ledger.effects();
  ledger.handle(clean(1, 1));
  for (let epoch = 0; epoch <= 70; epoch++) {
    ledger.handle({ continued: { from: at(1, epoch ? `e${epoch - 1}` : 'a'), position: at(1, `e${epoch}`) } });
  }
  ledger.stored('k', ['t'], { told: at(1, 'e70') });
  assert.equal(ledger.stored('k', ['t'], { told: at(1, 'e6') }), 'kept');
  assert.equal(ledger.stored('k', ['t'], { told: at(1, 'e5') }), 'older');
});

test('a circle of epochs is left', () => {
  const ledger = new Ledger();
  ledger.connected(15_000);
  ledger.effects();
  ledger.handle(clean(1, 1));
  ledger.handle({ continued: { from: at(1, 'x'), position: at(1, 'y') } });
  ledger.handle({ continued: { from: at(1, 'y'), position: at(1, 'x') } });
  ledger.handle({ at: { position: at(2) } });
  assert.equal(ledger.stored('k', ['t'], { told: at(1, 'x') }), 'kept');
});

test('of many unanswered pings the last sixteen count', () => {
  const lease = new Lease(100);
  for (let c = 1; c <= 17; c++) lease.pinged(c);
  lease.echoed(1);
  assert.equal(lease.until, 0);
  lease.echoed(2);
  assert.equal(lease.until, 102);
  lease.echoed(2);
  lease.echoed(17);
  assert.equal(lease.until, 117);
});

test('tags follow the grammar', () => {
  const [longest, deepest] = ['a'.repeat(256), Array(16).fill('a').join(':')];
  for (const good of ['ticket:42', '*', 'a:*', 'a:b:*', "[x]'{}\\$", 'a::b', '!#)+-~', longest, deepest]) assert.equal(tagFrom(good), good);
  for (const bad of ['', `${longest}a`, `${deepest}:a`, 'a b', 'a*', 'a:*:b', '**', 'a,b', 'a"b', 'a\nb', 'ü', 7, undefined]) {
    assert.throws(() => tagFrom(bad), /not a tag/, String(bad));
  }
});

test('a subtree covers its root and what is below it', () => {
  const cases = [
    ['a', 'a', true], ['a', 'a:b', false], ['a:*', 'a', true], ['a:*', 'a:*', true], ['a:*', 'a:b:c', true], ['a:*', 'a:b:*', true],
    ['a:*', 'ab', false], ['a:b:*', 'a', false], ['a:b:*', 'a:*', false], ['*', '*', true], ['*', 'a:b', true], ['a', 'a:*', false],
  ];
  for (const [tag, other, is] of cases) assert.equal(covers(tag, other), is, `${tag} ${other}`);
  assert.deepEqual([overlap('a:b', 'a:*'), overlap('a:*', 'a:b'), overlap('a:b', 'a:c')], [true, true, false]);
});
