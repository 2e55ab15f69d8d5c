"""The command line, killed at a file operation: `kill_at.py EVENT PART_OF_PATH COMMAND...`."""

import os
import signal
import sys

from file_operations import listening

from keras_convnext import cli


def main():
    event, part, *sys.argv[1:] = sys.argv[1:]

    def kill(happening, path):
        if happening == event and part in path:
            os.kill(os.getpid(), signal.SIGKILL)

    with listening(kill):
        cli.main()


if __name__ == "__main__":
    main()
