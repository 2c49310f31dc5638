"""Answers commands: reads from stdin and writes to stdout, one JSON object a line."""

import json
import sys
import warnings


def reason(error):
    return f'{type(error).__name__}: {error}'


def serve(commands):
    """Calls the named command with its options until `quit` or the end of stdin. What one fails at is its answer."""
    # What libraries print must not come between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    warnings.simplefilter('ignore')
    for line in sys.stdin:
        options = json.loads(line)
        command = options.pop('command')
        if command == 'quit':
            break
        try:
            answer = commands[command](**options)
        except Exception as error:
            answer = {'error': reason(error)}
        print(json.dumps(answer), file=answers, flush=True)
