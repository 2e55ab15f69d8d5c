import os
import time

import pytest


@pytest.fixture
def settle():
    """Makes a folder and all below it as old as an hour, so that their times can be trusted."""

    def settle(root):
        an_hour_ago = time.time() - 3600
        for folder, _, _ in os.walk(root):
            os.utime(folder, (an_hour_ago, an_hour_ago))
        return root

    return settle
