// Preloaded into Azurite's process: whoever started it holds the other end of its stdin. When that end closes, because
// Azurite is to stop or because its parent has died in whatever way, Azurite stops; no server is ever left behind.
"use strict";

const STOP_MS_MAX = 5000;

process.stdin.resume();
process.stdin.once("end", () => {
  process.kill(process.pid, "SIGTERM");
  // Connections that clients keep open would hold it up.
  setTimeout(() => process.exit(0), STOP_MS_MAX).unref();
});
process.stdin.once("error", () => process.exit(1));
