// Drives npm's blynk-library, which logs in with command 29. argv[2] is the folder with the npm
// packages; the steps are those of blynk_steps.py, one for each line of JSON.
"use strict";

const path = require("node:path");
const readline = require("node:readline");

console.log = () => {}; // it tells everything to standard output
const { Blynk, TcpClient } = require(path.join(process.argv[2], "blynk-library"));

const RESPONSE = 0;
const PING = 6;
const INTERNAL = 17;
const WAIT_MS = 10_000;

// A list whose next element can be waited for.
class Arrivals {
  constructor() {
    this.items = [];
    this.waiting = [];
  }

  push(item) {
    const first = this.waiting.shift();
    if (first) first(item);
    else this.items.push(item);
  }

  async next() {
    if (this.items.length) return this.items.shift();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("nothing came")), WAIT_MS);
      this.waiting.push((item) => {
        clearTimeout(timer);
        resolve(item);
      });
    });
  }
}

class Device {
  constructor({ port, token }) {
    this.statuses = new Arrivals();
    this.writes = new Arrivals();
    this.told = new Arrivals();
    this.ended = new Arrivals();
    this.heard = "";
    const connector = new TcpClient({ addr: "127.0.0.1", port });
    const emit = connector.emit.bind(connector);
    connector.emit = (name, data) => {
      if (name === "data") this.listen(data);
      if (name === "end") this.ended.push({ connected: false });
      return emit(name, data);
    };
    const board = { init() {}, process: () => true };
    this.blynk = new Blynk(token, { connector, board, skip_connect: true });
    this.outcome = new Arrivals();
    this.blynk.on("connect", () => this.outcome.push(true));
    this.blynk.on("error", () => this.outcome.push(false));
    for (const pin of [0, 1, 2]) {
      const virtual = new this.blynk.VirtualPin(pin);
      virtual.on("write", (values) => this.writes.push({ pin, values: [].concat(values) }));
    }
    this.blynk.connect();
  }

  // The library keeps statuses and INTERNAL messages to itself.
  listen(data) {
    this.heard += data;
    while (this.heard.length >= 5) {
      const at = (n) => this.heard.charCodeAt(n);
      const command = at(0);
      const length = (at(3) << 8) | at(4);
      const whole = command === RESPONSE ? 5 : 5 + length;
      if (this.heard.length < whole) return;
      const words = this.heard.slice(5, whole).split("\0");
      this.heard = this.heard.slice(whole);
      if (command === RESPONSE) this.statuses.push(length);
      if (command === INTERNAL) this.told.push(words.slice(1));
    }
  }

  async connect() {
    const connected = await this.outcome.next();
    const login = await this.statuses.next();
    const info = connected ? await this.statuses.next() : null;
    return { connected, login, info };
  }

  async values(pin) {
    for (;;) {
      const written = await this.writes.next();
      if (written.pin === pin) return { values: written.values };
    }
  }
}

async function step(device, job) {
  const { blynk } = device;
  switch (job.do) {
    case "connect":
      return device.connect();
    case "info":
      blynk.sendMsg(INTERNAL, job.words);
      return { status: await device.statuses.next() };
    case "write":
      blynk.virtualWrite(job.pin, job.values);
      return { status: await device.statuses.next() };
    case "ping":
      blynk.sendMsg(PING);
      return { status: await device.statuses.next() };
    case "sync":
      blynk.syncVirtual(job.pin);
      return device.values(job.pin);
    case "heard":
      return device.values(job.pin);
    case "told":
      return { words: await device.told.next() };
    case "gone":
      return device.ended.next();
    default:
      throw new Error(job.do);
  }
}

async function main() {
  let device = null;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const job = JSON.parse(line);
    if (job.do === "connect") device = new Device(job);
    process.stdout.write(JSON.stringify(await step(device, job)) + "\n");
  }
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
