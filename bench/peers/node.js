// SPDX-License-Identifier: MIT
// Node.js as its manual says for this job: the first example of node:cluster, with a plain node:http server in each worker.
//   node.js POLICY PORT WORKERS; POLICY is
//   rr         cluster.SCHED_RR, the default: the primary accepts and hands connections to the workers in turn
//   shared     cluster.SCHED_NONE: all workers accept from one socket
//   reuseport  server.listen({ reusePort: true }): a socket for each worker (node:net; since 22.12 and 23.1)
// GET / answers at once; GET /sleep/MICROSECONDS and /spin/MICROSECONDS hold the worker up first, asleep or computing, as those of
// liblb's http_server do: a worker is one thread, and what computes in it lets nothing else run.
'use strict';
const cluster = require('node:cluster');
const http = require('node:http');

const [policy, port, workers] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];

function primary() {
  cluster.schedulingPolicy = policy === 'rr' ? cluster.SCHED_RR : cluster.SCHED_NONE;
  let listening = 0;
  for (let i = 0; i < workers; ++i) {
    cluster.fork().on('message', () => {
      if (++listening === workers) console.log('ready');
    });
  }
  cluster.on('exit', (worker, code, signal) => {
    if (leaving) return;
    console.error(`a worker ended: ${signal ?? code}`);
    process.exit(1);
  });
  let leaving = false;
  process.on('SIGTERM', () => {
    leaving = true;
    for (const worker of Object.values(cluster.workers)) worker.kill();
    process.exit(0);
  });
}

const nothing = new Int32Array(new SharedArrayBuffer(4)); // never woken: a sleep that holds up the thread

function hold_up(url) {
  const us = Number(url.slice(url.lastIndexOf('/') + 1));
  if (url.startsWith('/sleep/')) {
    Atomics.wait(nothing, 0, 0, us / 1000);
  } else {
    const until = process.hrtime.bigint() + BigInt(us) * 1000n;
    while (process.hrtime.bigint() < until);
  }
  return 'done\n';
}

function worker() {
  const id = String(cluster.worker.id);
  const server = http.createServer((request, response) => {
    const body = request.url === '/' ? 'hello\n' : hold_up(request.url);
    response.writeHead(200, { 'Content-Type': 'text/plain', 'Content-Length': body.length, 'X-Worker': id });
    response.end(body);
  });
  server.listen({ host: '127.0.0.1', port, reusePort: policy === 'reuseport' }, () => process.send('listening'));
}

if (cluster.isPrimary) primary();
else worker();
