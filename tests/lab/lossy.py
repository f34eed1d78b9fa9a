# SPDX-License-Identifier: GPL-2.0-or-later
"""A relay between charon's publisher and steerd that loses chosen events, as ZeroMQ may."""

import threading

import zmq

POLL_MS = 100


class LossyRelay:
    """Relays every message but those whose topic ends in a type that is to be lost."""

    def __init__(self, upstream, downstream):
        self.lose = set()
        self.lost = []
        self.stopping = threading.Event()
        self.context = zmq.Context()
        self.subscriber = self.context.socket(zmq.SUB)
        self.subscriber.subscribe(b"")
        self.subscriber.connect(upstream)
        self.publisher = self.context.socket(zmq.PUB)
        self.publisher.bind(downstream)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopping.is_set():
            if not self.subscriber.poll(POLL_MS):
                continue
            frames = self.subscriber.recv_multipart()
            kind = frames[0].decode().rpartition(".")[2]
            if self.loses(kind):
                self.lost.append(kind)
            else:
                self.publisher.send_multipart(frames)

    def loses(self, kind):
        return kind in self.lose

    def close(self):
        self.stopping.set()
        self.thread.join()
        self.context.destroy(linger=0)
