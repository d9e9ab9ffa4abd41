"""What scenarios share: where their files go, and the broker of those that leave it alone."""

import os
import shutil

from harness.rabbit import RabbitNode
from harness.rabbit4 import Rabbit4


class Stage:
    def __init__(self, place, broker4=False):
        self.place, self.broker4 = place, broker4
        self._node = None
        self._own = place / f"rabbit-{os.getpid()}"

    def new_node(self, place, config=""):
        return Rabbit4(place, config) if self.broker4 else RabbitNode(place, config)

    def node(self):
        if self._node is None or not self._node.process.alive():
            shutil.rmtree(self._own, ignore_errors=True)
            self._node = self.new_node(self._own)
            self._node.start()
        return self._node

    def close(self):
        if self._node is not None:
            self._node.remove()
