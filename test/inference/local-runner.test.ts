import { Parameters } from 'rxgrad';
import { expect, it, vi } from 'vitest';
import { LocalRunner } from '../../src/inference/local-runner.ts';
import { readModel } from '../../src/inference/onnx/model.ts';
import { withWeightsAsInputs } from '../../src/inference/onnx/with-weights-as-inputs.ts';
import { openSession } from '../../src/inference/open-session.ts';
import { numbers, rows, rowWise } from './pool-models.ts';

it('holds nothing after a run that could not begin, and can be closed', async () => {
  const params = Parameters.create({ scale: { dims: [3] }, shift: { dims: [3], data: [1, 2, 3] } });
  const { bytes } = withWeightsAsInputs(readModel(rowWise), params.names);
  const { session } = await openSession({ name: 'm', bytes, folder: undefined }, {});
  const reader = params.reader();
  const runner = new LocalRunner(session, reader);
  const views = vi.spyOn(reader, 'weights').mockImplementation(() => {
    throw new Error('no memory');
  });
  await expect(runner.run(rows(1), null)).rejects.toThrow('no memory');
  views.mockRestore();
  expect(numbers((await runner.run(rows(1), null)).outputs.y)).toEqual([1, 2, 3]);
  const hostile = {
    get x(): never {
      throw new Error('gone');
    },
  };
  await expect(runner.run(hostile, null)).rejects.toThrow('gone');
  expect(params.leftRight.isFree(params.leftRight.live)).toBe(true);
  expect(runner.running).toBe(0);
  await runner.close();
});
