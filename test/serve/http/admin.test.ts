import { describe, expect, it, type TestContext } from 'vitest';
import { type Answer, floats, type Running, start } from './running.ts';

const token = 'correct-horse-battery';
const routes: readonly (readonly [method: string, path: string])[] = [
  ['GET', '/admin/models/m/versions'],
  ['GET', '/admin/models/m/status'],
  ['POST', '/admin/models/m/rollback'],
  ['POST', '/admin/models/m/pin'],
  ['POST', '/admin/models/m/unpin'],
  ['POST', '/admin/models/m/labels'],
  ['GET', '/admin/models/other/versions'],
  ['DELETE', '/admin/anything'],
  ['GET', '/admin/'],
];

function asAdmin({ ask }: Running, path: string, json?: unknown): Promise<Answer> {
  return ask(`/admin/models/m/${path}`, {
    headers: { authorization: `Bearer ${token}` },
    ...(json === undefined ? {} : { json }),
  });
}

async function y({ ask }: Running, version = ''): Promise<[number, string]> {
  const { json } = await ask(`/v2/models/m${version}/infer`, { json: floats });
  return [json.outputs[1].data[0], json.model_version];
}

/** Makes other weights live: those of the last version times two. */
function step({ model }: Running): void {
  const { params } = model.session;
  params.load(Object.fromEntries([...params].map(({ name, data }) => [name, data.map((weight) => weight * 2)])));
}

describe('admin routes', () => {
  it('answer 403 where there is no token, whatever is sent', async (t) => {
    const { ask } = await start(t);
    for (const [method, path] of routes) {
      for (const headers of [{}, { authorization: 'Bearer ' }, { authorization: 'Bearer undefined' }]) {
        const { status, json } = await ask(path, { method, headers: headers as Record<string, string> });
        const error = 'Admin routes are closed, because the server was started without a token';
        expect([method, path, status, json]).toEqual([method, path, 403, { error }]);
      }
    }
  });

  it('answer 401 without the token, before anything else', async (t) => {
    const { ask, lines } = await start(t, { token });
    const error = 'Expected the token of this server (Authorization: Bearer ...), got none, or another';
    for (const [i, [method, path]] of routes.entries()) {
      // Ten wrong ones from an address are answered so.
      const wrong = i < 5 ? [`Bearer ${token}x`, `Bearer ${token.slice(1)}`] : [];
      for (const authorization of [null, 'Bearer', ...wrong, `Basic ${token}`, token]) {
        const headers: Record<string, string> = authorization === null ? {} : { authorization };
        const answer = await ask(path, { method, headers });
        expect([path, answer.status, answer.json]).toEqual([path, 401, { error }]);
        expect(answer.headers.get('www-authenticate')).toBe('Bearer');
      }
    }
    expect(JSON.stringify(lines)).not.toContain(token.slice(1));
  });

  it('list versions, go back, pin, unpin and name', async (t) => {
    const server = await start(t, { token });
    expect((await asAdmin(server, 'labels', { version: 0, label: 'stable' })).json.versions[0]).toMatchObject({
      version: 0,
      labels: ['stable'],
      live: true,
      in_memory: true,
    });
    step(server);
    expect(await y(server)).toEqual([64, '1']);
    expect(await y(server, '/versions/stable')).toEqual([32, '0']);
    expect(await y(server, '/versions/0')).toEqual([32, '0']);
    expect(await y(server, '/versions/1')).toEqual([64, '1']);
    const { json, headers } = await asAdmin(server, 'versions');
    expect(headers.get('cache-control')).toBe('no-store');
    expect(headers.get('www-authenticate')).toBeNull();
    expect(json).toMatchObject({
      model: 'm',
      live: 1,
      versions: [
        { version: 1, live: true, pinned: false, labels: [], made_at: expect.stringMatching(/^\d{4}-.*Z$/) },
        { version: 0, live: false, labels: ['stable'] },
      ],
    });
    expect((await asAdmin(server, 'status')).json).toMatchObject({ model: 'm', version: 1, ready: true, providers: ['cpu'] });

    expect((await asAdmin(server, 'rollback', { version: 'stable' })).json.live).toBe(0);
    expect(await y(server)).toEqual([32, '0']);
    step(server);
    expect(await y(server)).toEqual([32, '0']);
    expect((await asAdmin(server, 'unpin', {})).json.live).toBe(2);
    expect((await asAdmin(server, 'pin', {})).json.versions[0]).toMatchObject({ version: 2, pinned: true });
    expect((await asAdmin(server, 'pin', { version: 0 })).json.live).toBe(0);
  });

  it('refuse what they cannot do, and say why', async (t) => {
    const server = await start(t, { token });
    for (const [path, json, status, error] of [
      ['rollback', { version: 99 }, 404, 'expected a version that is there'],
      ['rollback', { version: 'nope' }, 404, 'expected a version that is there'],
      ['rollback', { version: -1 }, 400, 'version: expected the number of a version, or a label, got what is of type number'],
      ['pin', { version: 'a b' }, 400, 'version: expected the number of a version, or a label, got "a b"'],
      ['labels', { version: 0 }, 400, 'label: expected a letter, and up to 63 letters, digits, dots and dashes, got none'],
      ['labels', { version: 0, label: '7' }, 400, 'label: expected a letter'],
      ['labels', { label: 'stable' }, 400, 'version: expected the number of a version, or a label, got none'],
      ['rollback', [], 400, 'body: expected a JSON object, got an array'],
      ['nothing', {}, 404, 'Expected a path of the Open Inference Protocol'],
    ] as const) {
      const answer = await asAdmin(server, path, json);
      expect([path, answer.status, answer.json]).toEqual([path, status, { error: expect.stringContaining(error) }]);
    }
  });

  it('are in the log, every one', async (t) => {
    const server = await start(t, { token });
    await asAdmin(server, 'unpin', {});
    expect(server.lines).toContainEqual(expect.objectContaining({ level: 30, path: '/admin/models/m/unpin', status: 200 }));
  });
});

it('takes no token that is easily guessed', async (t: TestContext) => {
  const short = start(t, { token: 'short' });
  await expect(short).rejects.toThrow('serve: token: expected a token of at least 16 characters, got what is of type string');
});
