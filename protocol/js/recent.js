/** Tags that were touched without the log saying so: by own mutations and resets. They count for reads that were on their way. */
import { overlap } from './tag.js';

/** So many are remembered, although nobody may hold them. A read that sees more of them go by is refused. */
const RECENT_MAX = 256;

export class Recent {
  #numbering;
  /** {position, tag, ping}: `ping` is the `c` of the last ping that was sent before. */
  #touched = [];

  constructor(numbering) {
    this.#numbering = numbering;
  }

  /** Remembers that a tag was touched. Returns the position of the one that is forgotten for it, if any is. */
  note(position, tag, ping) {
    this.#touched.push({ position, tag, ping });
    return this.#touched.length > RECENT_MAX ? this.#touched.shift().position : undefined;
  }

  /** Where any of these tags was touched. */
  touched(tags) {
    const ofThese = ({ tag: touched }) => tags.some((tag) => overlap(tag, touched));
    return this.#touched.filter(ofThese).map(({ position }) => position);
  }

  /** A new connection: what means nothing by now is asked of the server, with everything else. */
  connected() {
    if (this.#numbering.epoch !== null) this.#touched = this.#touched.filter(({ position }) => this.#means(position));
  }

  /** Another epoch is about to begin, in which what was touched has the offsets that `renumber` gives. */
  turnTo(epoch, renumber) {
    for (const touched of this.#touched) {
      const { position } = touched;
      // What nobody has said how to compare may be of an epoch that is yet to come.
      if (position.epoch !== epoch && this.#means(position)) {
        touched.position = { epoch, offset: renumber(this.#numbering.offsetOf(position)) };
      }
    }
  }

  /** The log was looked at after the ping `c`: what was touched before it is not yet to come, whatever it is called now. */
  confirmed(c, horizon) {
    for (const touched of this.#touched) {
      if (touched.ping < c && !this.#means(touched.position)) touched.position = horizon;
    }
  }

  #means(position) {
    return this.#numbering.offsetOf(position) !== undefined;
  }
}
