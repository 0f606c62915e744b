import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

const web = new URL("..", import.meta.url);

// Names and chat are somebody else's text. The page sets text, never markup, and runs
// nothing that is made of text; its Content-Security-Policy says the same.
test("no code of the page makes markup or code of text", () => {
  const files = readdirSync(web).filter((f) => f.endsWith(".js"));
  assert.ok(files.length > 15);
  const forbidden = /\.(innerHTML|outerHTML|srcdoc)\b|insertAdjacentHTML|document\.write|\beval\(|new Function\(|createContextualFragment|setHTMLUnsafe|set(Timeout|Interval)\(\s*["'`]/;
  for (const f of files) {
    const found = forbidden.exec(readFileSync(new URL(f, web), "utf8"));
    assert.equal(found, null, `${f}: ${found?.[0]}`);
  }
  assert.ok(!/<script(?![^>]*\bsrc=)|\son[a-z]+=/i.test(readFileSync(new URL("call.html", web), "utf8")), "a script in the markup");
});

test("nothing but the frames' worker touches the key, and the key is in no message to the room", () => {
  for (const f of ["socket.js", "joining.js", "peer.js", "wire.js", "mirror.js"]) {
    assert.ok(!/link\.key|readKey|setKey/.test(readFileSync(new URL(f, web), "utf8")), f);
  }
});
