"""A chat gateway that runs the agent itself, when session-broker says so.

Reads one message a line: its id, a space, its text. The id is the turn id, so
that a message which is given again does not run again. Prints what became of
each message as a line of JSON. See README.md.
"""

import argparse
import json
import os
import shlex
import sys
import time

import grpc
from sessionbroker.v1 import lane_pb2, session_broker_pb2_grpc, session_pb2, turn_pb2, usage_pb2

from agent import Agent
from lane import RETRY_EVERY_S, Lane, LaneOver, reason_of

# These say that the turn is not ours to run; what became of it is asked then.
NOT_OURS = (
    "LANE_LOST",
    "LANE_NOT_GRANTED",
    "LANE_REVOKED",
    "LANE_TAKEN_OVER",
    "STALE_FENCE",
    "TURN_ENDED",
)


class Gateway:
    def __init__(self, broker, key, command):
        self.broker, self.key, self.command = broker, key, command

    def answer(self, message_id, text):
        """Runs the message's turn, or finds out how it ended."""
        turn_id, attempt = message_id, 0
        while True:
            try:
                return self.run(turn_id, text)
            except LaneOver as over:
                reason = str(over)
            except grpc.RpcError as error:
                reason = reason_of(error)
                if reason is None:
                    time.sleep(RETRY_EVERY_S)  # The same id again meets whatever the first call did.
                    continue
                if reason not in NOT_OURS:
                    raise
            turn = self.ended(turn_id)
            if turn.HasField("started_at"):
                return report(turn)
            # It waited too long, or the broker was restarted: no agent has seen the message.
            attempt += 1
            turn_id = f"{message_id}.{attempt}"

    def run(self, turn_id, text):
        lane = Lane(self.broker, self.key, turn_id)
        try:
            grant = lane.wait()
            agent = Agent(self.command, grant.session.native_id)
            lane.on_over = agent.end
            if lane.over.is_set():  # Since before there was an agent to end.
                agent.end()
            answer = agent.ask(text)
            if lane.reason not in (None, "LANE_REVOKED"):
                raise LaneOver(lane.reason)
            turn = self.record(lane, text, answer)
            return {**report(turn), "previous_holder_lost": grant.previous_holder_lost}
        finally:
            lane.close()

    def record(self, lane, text, answer):
        """The native id, then the ending. Both may be repeated, so they are, while the lane is ours."""
        ids = {"turn_id": lane.turn_id, "scope": self.key.scope, "fence": lane.grant.fence}
        request = lane_pb2.RecordTurnRequest(**ids, input_text=text)
        if answer.error is None:
            request.completed.text = answer.text
            request.completed.finish_reason = turn_pb2.FINISH_REASON_STOP
            request.completed.native_id = answer.native_id
            request.usage.CopyFrom(usage_pb2.Usage(**answer.usage))
        elif lane.reason == "LANE_REVOKED":
            request.cancelled.reason = turn_pb2.Cancelled.REASON_REQUESTED
        else:
            request.failed.error.code = turn_pb2.TURN_ERROR_CODE_CRASHED
            request.failed.error.message = answer.error
        bind = session_pb2.BindRequest(key=self.key, native_id=answer.native_id, fence=ids["fence"])
        if answer.native_id not in ("", lane.grant.session.native_id):
            self.insist(lane, self.broker.Bind, bind)
        return self.insist(lane, self.broker.RecordTurn, request).turn

    def insist(self, lane, call, request):
        while True:
            try:
                return call(request)
            except grpc.RpcError as error:
                if reason := reason_of(error):
                    raise LaneOver(reason) if reason in NOT_OURS else error
            if lane.over.wait(RETRY_EVERY_S) and lane.reason != "LANE_REVOKED":
                raise LaneOver(lane.reason)

    def ended(self, turn_id):
        """The turn once it has ended, whoever runs it."""
        names = {"turn_id": turn_id, "scope": self.key.scope}
        while True:
            try:
                for _ in self.broker.Attach(turn_pb2.AttachRequest(**names)):
                    pass
                return self.broker.GetTurn(turn_pb2.GetTurnRequest(**names)).turn
            except grpc.RpcError as error:
                if reason_of(error):
                    raise
            time.sleep(RETRY_EVERY_S)


def report(turn):
    state = turn_pb2.TurnState.Name(turn.state).removeprefix("TURN_STATE_")
    return {"turn": turn.turn_id, "state": state, "text": turn.ending.completed.text}


class Bearer(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Sends the token with every call."""

    def __init__(self, token):
        self.metadata = (("authorization", f"Bearer {token}"),)

    def intercept_unary_unary(self, proceed, details, request):
        return proceed(details._replace(metadata=self.metadata), request)

    intercept_unary_stream = intercept_unary_unary


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--broker", default="127.0.0.1:7410")
    options.add_argument("--token-file", default=".session-broker/token")
    options.add_argument("--scope", default="chat")
    options.add_argument("--chat", required=True, help="the platform's id of the conversation")
    options.add_argument("--provider", default="claude", help="what the key calls the agent")
    options.add_argument("--agent", default=shlex.join([sys.executable, f"{here}/echo_agent.py"]))
    chosen = options.parse_args()
    with open(chosen.token_file, encoding="utf-8") as file:
        token = file.read().strip()
    key = session_pb2.SessionKey(
        scope=chosen.scope, external_id=chosen.chat, provider=chosen.provider
    )
    with grpc.insecure_channel(chosen.broker) as plain:
        channel = grpc.intercept_channel(plain, Bearer(token))
        broker = session_broker_pb2_grpc.SessionBrokerStub(channel)
        gateway = Gateway(broker, key, shlex.split(chosen.agent))
        for line in sys.stdin:
            message_id, _, text = line.strip().partition(" ")
            if message_id:
                print(json.dumps(gateway.answer(message_id, text)), flush=True)


if __name__ == "__main__":
    main()
