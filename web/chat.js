// The chat beside the tiles. Every foreign word goes in as text, never as markup.

import { $ } from "./prejoin.js";
import { make } from "./stage.js";

/** @import { Chat } from "./types.js" */

const KEPT = 500; // messages on the page

export class ChatPanel {
  #unread = 0;

  /** @param {{send: (text: string) => void, announce: (text: string) => void}} o send throws what is to be shown */
  constructor(o) {
    this.o = o;
    $("chat-toggle").onclick = () => this.open($("chat").hidden);
    $("chat-form").onsubmit = (/** @type {Event} */ e) => {
      e.preventDefault();
      const text = $("chat-text").value.trim();
      if (!text) return;
      try {
        o.send(text);
        $("chat-text").value = "";
      } catch (err) {
        this.#add("", `Not sent: ${err instanceof Error ? err.message : err}`);
      }
    };
    $("chat").onkeydown = (/** @type {KeyboardEvent} */ e) => {
      if (e.key === "Escape") this.open(false);
    };
  }

  /** Lets the person write, or only read. @param {boolean} may */
  allow(may) {
    for (const field of $("chat-form").querySelectorAll("input, button")) field.disabled = !may;
    $("chat-text").placeholder = may ? "Write to everyone" : "You may read, but not write";
  }

  /** @param {boolean} open */
  open(open) {
    $("chat").hidden = !open;
    $("chat-toggle").setAttribute("aria-expanded", String(open));
    $("chat-toggle").classList.toggle("on", open);
    this.#count(0);
    (open ? $("chat-text") : $("chat-toggle")).focus();
  }

  /** @param {Chat} chat @param {boolean} own */
  add(chat, own) {
    const name = own ? "You" : chat.name || "Guest";
    const time = chat.at_ms ? new Date(chat.at_ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) : "";
    this.#add(`${name} ${time}`.trim(), chat.text);
    if ($("chat").hidden && !own) {
      this.#count(this.#unread + 1);
      this.o.announce(`${name}: ${chat.text}`);
    }
  }

  /** @param {string} who @param {string} text */
  #add(who, text) {
    const messages = $("messages");
    const atEnd = messages.scrollTop + messages.clientHeight > messages.scrollHeight - 40;
    const item = make("li");
    if (who) item.append(make("b", "", who));
    item.append(text);
    messages.append(item);
    while (messages.childElementCount > KEPT) messages.firstElementChild.remove();
    if (atEnd) messages.scrollTop = messages.scrollHeight;
  }

  /** @param {number} n */
  #count(n) {
    this.#unread = n;
    $("unread").hidden = n === 0;
    $("unread").textContent = n > 99 ? "99+" : String(n);
  }
}
