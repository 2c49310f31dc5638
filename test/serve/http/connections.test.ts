import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, get, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, type TestContext } from 'vitest';
import { certificate } from '../../broker/certificates.ts';
import { open, readAll } from './raw-socket.ts';
import { floats, type Running, start } from './running.ts';

/** Holds predictions back until they are let go. */
function hold({ model }: Running): { begun: Promise<void>; release: () => void } {
  const { predict } = model;
  const begun = Promise.withResolvers<void>();
  const released = Promise.withResolvers<void>();
  model.predict = async (feeds) => {
    begun.resolve();
    await released.promise;
    return predict(feeds);
  };
  return { begun: begun.promise, release: released.resolve };
}

describe('close', () => {
  it('stops being ready and taking connections, and lets requests under way end', async (t) => {
    const server = await start(t);
    const { begun, release } = hold(server);
    const socket = await open(t, server.port);
    const answer = server.ask('/v2/models/m/infer', { json: floats });
    await begun;
    // Has been sent in part before the server closes.
    socket.write('GET /v2/health/ready HTTP/1.1\r\n');
    await server.ask('/v2/health/live');
    const closed = server.close();
    socket.write('Host: a\r\n\r\n');
    const ready = await readAll(socket);
    expect(ready).toMatch(/^HTTP\/1.1 503 /);
    expect(ready.toLowerCase()).toContain('connection: close');
    await expect(server.ask('/v2')).rejects.toThrow();
    release();
    expect((await answer).json.outputs[1].data).toEqual([32]);
    await closed;
    await server.close();
  });

  it('waits no longer than it is told', async (t) => {
    const server = await start(t, { timeouts: { drainMs: 100 } });
    const { begun, release } = hold(server);
    const answer = server.ask('/v2/models/m/infer', { json: floats });
    const lost = expect(answer).rejects.toThrow();
    await begun;
    const idle = await open(t, server.port);
    // The prediction goes on: it is released below.
    await server.close();
    expect(await readAll(idle)).toBe('');
    await lost;
    release();
  });
});

describe('TLS', () => {
  const authority = certificate('authority');
  const own = certificate('server', { issuer: authority, hosts: ['127.0.0.1'] });

  function ask(url: string, options: Record<string, unknown>): Promise<number | undefined> {
    const agent = new Agent({ keepAlive: false });
    return new Promise((resolve, reject) => {
      get(`${url}/v2`, { agent, ca: authority.cert, ...options }, (response) => {
        response.resume().on('end', () => resolve(response.statusCode));
      }).on('error', reject);
    });
  }

  it('serves with a certificate, as PEM or out of files, from TLS 1.2 on', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'rxgrad-tls-'));
    t.onTestFinished(() => rmSync(folder, { recursive: true }));
    writeFileSync(join(folder, 'cert.pem'), own.cert);
    writeFileSync(join(folder, 'key.pem'), own.key);
    for (const tls of [
      { cert: own.cert, key: own.key },
      { cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem') },
    ]) {
      const { url } = await start(t, { tls });
      expect(url).toMatch(/^https:/);
      expect(await ask(url, {})).toBe(200);
      expect(await ask(url, { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' })).toBe(200);
      await expect(ask(url, { minVersion: 'TLSv1', maxVersion: 'TLSv1.1' })).rejects.toThrow();
      await expect(ask(url, { ca: own.cert })).rejects.toThrow();
    }
  });

  it('lets in only clients of an authority, where one is named', async (t) => {
    const client = certificate('client', { issuer: authority });
    const { url } = await start(t, { tls: { cert: own.cert, key: own.key, ca: authority.cert } });
    expect(await ask(url, { cert: client.cert, key: client.key })).toBe(200);
    await expect(ask(url, {})).rejects.toThrow();
    const stranger = certificate('stranger');
    await expect(ask(url, { cert: stranger.cert, key: stranger.key })).rejects.toThrow();
  });

  it('says what is wrong with its options, without the key', async (t: TestContext) => {
    await expect(start(t, { tls: { cert: 'nowhere.pem', key: own.key } })).rejects.toThrow(
      'serve: tls.cert: expected PEM, or the path of some, got a file that cannot be read (ENOENT)',
    );
    const mixed = start(t, { tls: { cert: own.cert, key: authority.key } });
    await expect(mixed).rejects.toThrow('serve: tls: expected a certificate and its own key, got what OpenSSL refuses');
    await expect(start(t, { tls: { cert: own.cert, key: 7 as never } })).rejects.toThrow('serve: tls.key: expected string');
  });

  it('answers a request over it', async (t) => {
    const { url } = await start(t, { tls: { cert: own.cert, key: own.key } });
    const body = JSON.stringify(floats);
    const text = await new Promise<string>((resolve, reject) => {
      const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
      request(`${url}/v2/models/m/infer`, { method: 'POST', ca: authority.cert, headers, agent: false }, (response) => {
        let all = '';
        response.on('data', (chunk) => {
          all += chunk;
        });
        response.on('end', () => resolve(all));
      })
        .on('error', reject)
        .end(body);
    });
    expect(JSON.parse(text).outputs[1].data).toEqual([32]);
  });
});
