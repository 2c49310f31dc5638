// Loaded before a program (--import, with --expose-gc): collects garbage when it is told to.
process.on('SIGUSR2', () => globalThis.gc?.());
