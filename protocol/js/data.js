/** Data as programs hold it, and as JSON frames carry it: bytes travel as base64 under `b64`, all else under `data`. */

/** `{b64}` for bytes (ArrayBuffer or a view of one), else `{data}`; `undefined` becomes null, which JSON can say. */
export function encodeData(data) {
  if (data instanceof ArrayBuffer) data = new Uint8Array(data);
  if (!ArrayBuffer.isView(data)) return { data: data ?? null };
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return { b64: btoa(text) };
}

/** The message that listeners get for a publication. */
export function messageFrom(channel, { data, b64, offset, epoch, time, id, key }) {
  const value = b64 === undefined ? data : Uint8Array.from(atob(b64), (character) => character.charCodeAt(0));
  return { channel, data: value, offset, epoch, time, id, key };
}
