"""The contestants: a step of an optimizer over four square matrices of float32, as each library does it fastest.

A momentum step is v <- 0.9 v + g + 1e-4 w; w <- w - 1e-3 v. An Adam step has the usual constants and the same coupled decay. What
a call counts:

alone     clip by global norm 1 and the step, as users call them. Gradients are in the library's own tensors. torch clips them
          there: later calls find them clipped, and multiply by 1, which takes as long.
bare      the step without the clip: gradients are scaled already by what the clip would make of them. torch's fused step takes
          part once more with the factor to apply (`grad_scale`): it too scales them in place, later by 1.
received  from one writable buffer, as a message brings it: tensors over it, clip by global norm 1, the step. Where a library
          can use the bytes in place it does; torch then clips them there too, so that later calls find them clipped, which
          takes as long. The buffer is the same in every call, and so as warm as the caches can hold it.

A call ends when the new weights can be read. Libraries are imported where they are used, so that a missing one only costs its
own contestants.
"""

import math
import os
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

CORES = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

MATRICES = 4
LR, MOMENTUM, DECAY, MAX_NORM = 1e-3, 0.9, 1e-4, 1.0
HELD = {'alone': ('held',), 'bare': ('held',)}


class Problem:
    """A rule, a mode and a model; makes the gradients that every contestant gets: sin(0), sin(1), ..."""

    # Calls until gradients come again.
    cycle = 1

    def __init__(self, rule, mode, size):
        import numpy

        self.rule, self.mode, self.clips = rule, mode, mode != 'bare'
        side = math.isqrt(size // MATRICES)
        self.shape = (MATRICES, side, side)
        self.gradients = numpy.sin(numpy.arange(MATRICES * side * side, dtype=numpy.float64)).astype(numpy.float32)
        self.norm = math.sqrt((self.gradients.astype('float64') ** 2).sum())

    def message(self):
        return bytearray(self.gradients)

    def kept(self, clips):
        """Gradients for a step that clips, or scaled for one that does not."""
        factor = 1.0 if clips else min(1.0, MAX_NORM / self.norm)
        return (self.gradients * factor).reshape(self.shape)


def torch_step(form, problem, way):
    """`form` is foreach or fused. A message is viewed in place, or copied at once into gradients that stay."""
    import torch

    weights = [torch.zeros(problem.shape[1:], requires_grad=True) for _ in range(MATRICES)]
    options = {'lr': LR, 'weight_decay': DECAY, form: True}
    if problem.rule == 'momentum':
        optimizer = torch.optim.SGD(weights, momentum=MOMENTUM, **options)
    else:
        optimizer = torch.optim.Adam(weights, **options)
    kept = torch.tensor(problem.kept(problem.clips or way == 'grad_scale'))
    message = problem.message()
    clip = partial(torch.nn.utils.clip_grad_norm_, weights, MAX_NORM, foreach=form == 'foreach')

    def hold(gradients):
        for weight, gradient in zip(weights, gradients.view(problem.shape).unbind()):
            weight.grad = gradient

    def clipped():
        clip()
        optimizer.step()

    def viewed():
        hold(torch.frombuffer(message, dtype=torch.float32))
        clipped()

    def copied():
        flat.copy_(torch.frombuffer(message, dtype=torch.float32))
        clipped()

    def scaled():
        optimizer.step()
        optimizer.grad_scale = one

    hold(kept)
    flat = kept.view(-1)
    one = torch.tensor(1.0)
    if way == 'grad_scale':
        optimizer.grad_scale = torch.tensor(max(1.0, problem.norm / MAX_NORM))
    held = clipped if problem.clips else optimizer.step
    call = {'held': held, 'viewed': viewed, 'copied': copied, 'grad_scale': scaled}[way]
    return call, lambda: weights[0].detach().numpy().ravel()


def chain(problem):
    import optax

    rule = optax.trace(MOMENTUM) if problem.rule == 'momentum' else optax.scale_by_adam()
    clip = [optax.clip_by_global_norm(MAX_NORM)] if problem.clips else []
    return optax.chain(*clip, optax.add_decayed_weights(DECAY), rule, optax.scale(-LR))


def optax_step(problem, way):
    """Compiled, with weights and state donated. A message goes in whole and is split in there, or as views, which jax copies."""
    import jax
    import numpy
    import optax

    transform = chain(problem)
    weights = tuple(jax.numpy.zeros(problem.shape[1:]) for _ in range(MATRICES))
    now = [weights, transform.init(weights)]
    kept = tuple(jax.numpy.array(gradient) for gradient in problem.kept(problem.clips))
    message = problem.message()

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(weights, state, gradients):
        if way == 'whole':
            gradients = tuple(gradients.reshape(problem.shape))
        updates, state = transform.update(gradients, state, weights)
        return optax.apply_updates(weights, updates), state

    gradients = {
        'held': lambda: kept,
        'whole': lambda: numpy.frombuffer(message, numpy.float32),
        'viewed': lambda: tuple(numpy.frombuffer(message, numpy.float32).reshape(problem.shape)),
    }[way]

    def call():
        now[:] = step(*now, gradients())
        jax.block_until_ready(now[0])

    return call, lambda: numpy.asarray(now[0][0]).ravel()


def braintools_step(compiled, problem, way):
    """Its optimizer's `step`, as it is or within brainstate's jit. A message goes in as views, or as jax's arrays."""
    import brainstate
    import braintools
    import jax
    import numpy

    options = {'lr': LR, 'weight_decay': DECAY, 'grad_clip_norm': MAX_NORM if problem.clips else None}
    if problem.rule == 'momentum':
        optimizer = braintools.optim.Momentum(momentum=MOMENTUM, **options)
    else:
        optimizer = braintools.optim.Adam(**options)
    names = [str(i) for i in range(MATRICES)]
    weights = {name: brainstate.ParamState(jax.numpy.zeros(problem.shape[1:])) for name in names}
    optimizer.register_trainable_weights(weights)
    step = brainstate.transform.jit(optimizer.step) if compiled else optimizer.step
    kept = dict(zip(names, map(jax.numpy.array, problem.kept(problem.clips))))
    message = problem.message()

    def views():
        return numpy.frombuffer(message, numpy.float32).reshape(problem.shape)

    gradients = {
        'held': lambda: kept,
        'viewed': lambda: dict(zip(names, views())),
        'arrays': lambda: dict(zip(names, map(jax.numpy.asarray, views()))),
    }[way]

    def call():
        step(gradients())
        jax.block_until_ready([weight.value for weight in weights.values()])

    return call, lambda: numpy.asarray(weights['0'].value).ravel()


def use_threads(count):
    import torch

    torch.set_num_threads(count)


class Contestant(NamedTuple):
    packages: tuple
    # From a problem and one of the ways to what a call does, and what reads the first matrix.
    make: Callable
    # For each mode in which it takes part, the ways to take gradients.
    ways: dict
    # What to set before making and before calling.
    enter: Callable = lambda: None


def on_threads(name, make, ways):
    """A contestant of torch's, with each number of threads."""
    for threads in sorted({1, CORES}):
        words = f'{name}, {threads} thread' + ('' if threads == 1 else 's')
        yield words, Contestant(('torch',), make, ways, partial(use_threads, threads))


def contestants():
    found = {}
    for form in ('foreach', 'fused'):
        found.update(on_threads(f'torch {form}', partial(torch_step, form), HELD | {'received': ('viewed', 'copied')}))
    found.update(on_threads('torch fused with a factor', partial(torch_step, 'fused'), {'bare': ('grad_scale',)}))
    found['optax jit'] = Contestant(('jax', 'optax'), optax_step, HELD | {'received': ('whole', 'viewed')})
    for name, compiled in (('braintools', False), ('braintools jit', True)):
        packages, make = ('jax', 'brainstate', 'braintools'), partial(braintools_step, compiled)
        found[name] = Contestant(packages, make, HELD | {'received': ('viewed', 'arrays')})
    return found
