"""The lane of a chat: the right to run its agent, kept by renewing it."""

import threading
import time

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from sessionbroker.v1 import lane_pb2

RENEW_EVERY_S = 5
# Counted from when a renewal was sent, by a clock that nobody sets: never later
# than the `renew_before` in its answer, however far apart the two clocks are.
LANE_LASTS_S = 10
RETRY_EVERY_S = 0.5
ASK_AGAIN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
)


def reason_of(error):
    """Which case of the contract an error is; None: there was no answer, and the call may be repeated."""
    if error.code() in ASK_AGAIN:
        return None
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    found = [info.reason for detail in (status.details if status else ()) if detail.Unpack(info)]
    return found[0] if found else error.code().name


class LaneOver(Exception):
    """The lane was not granted, or is ours no more; the message is the reason."""


class Lane:
    def __init__(self, broker, key, turn_id):
        self.broker, self.key, self.turn_id = broker, key, turn_id
        self.reason = None
        self.over = threading.Event()
        self.on_over = lambda: None
        self.stream = broker.AcquireLane(lane_pb2.AcquireLaneRequest(key=key, turn_id=turn_id))

    def wait(self):
        """Until it is granted. Raises grpc.RpcError, LaneOver."""
        for answer in self.stream:
            if answer.WhichOneof("event") == "granted":
                break
        else:
            raise LaneOver("TURN_ENDED")
        self.grant = answer.granted
        self.renew(RENEW_EVERY_S)  # The grant may be old already; now it is known how old.
        threading.Thread(target=self.keep, daemon=True).start()
        threading.Thread(target=self.watch, daemon=True).start()
        return self.grant

    def renew(self, timeout):
        sent = time.monotonic()
        request = {"turn_id": self.turn_id, "scope": self.key.scope, "fence": self.grant.fence}
        self.broker.RenewLane(lane_pb2.RenewLaneRequest(**request), timeout=timeout)
        self.deadline = sent + LANE_LASTS_S

    def keep(self):
        """Renews every 5 s; without an answer until the deadline, the lane is lost."""
        pause = RENEW_EVERY_S
        while not self.over.wait(max(0, min(pause, self.deadline - time.monotonic()))):
            left = self.deadline - time.monotonic()
            if left <= 0:
                return self.end("LANE_LOST")
            try:
                self.renew(min(left, RENEW_EVERY_S))
                pause = RENEW_EVERY_S
            except grpc.RpcError as error:
                if reason := reason_of(error):
                    return self.end(reason)
                pause = RETRY_EVERY_S

    def watch(self):
        """A stream that breaks says nothing: whoever renews has the lane."""
        try:
            for answer in self.stream:
                if answer.WhichOneof("event") == "revoked":
                    return self.end("LANE_REVOKED")
        except grpc.RpcError as error:
            if not self.over.is_set() and (reason := reason_of(error)):
                self.end(reason)

    def end(self, reason):
        self.reason = self.reason or reason
        self.over.set()
        self.on_over()

    def close(self):
        self.over.set()
        self.stream.cancel()
