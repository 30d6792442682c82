"""Takes the journey of ../journey.ts with grpcio and prints its report as JSON."""

import base64
import json
import os

import grpc
from grpc_status import rpc_status
from sessionbroker.v1 import (
    selection_pb2,
    session_broker_pb2_grpc,
    session_pb2,
    turn_pb2,
)

TOKEN = os.environ["BROKER_TOKEN"]
EXTERNAL_ID = os.environ["BROKER_EXTERNAL_ID"]
DEADLINE_S = int(os.environ["BROKER_DEADLINE_MS"]) / 1000


def key(scope="polyglot", provider="echo"):
    return session_pb2.SessionKey(scope=scope, external_id=EXTERNAL_ID, provider=provider)


def bearer(token=TOKEN):
    return [("authorization", f"Bearer {token}")]


def reserve(broker):
    answer = broker.Reserve(session_pb2.ReserveRequest(key=key()), metadata=bearer())
    return {
        "outcome": session_pb2.Outcome.Name(answer.outcome),
        "sessionId": answer.session.session_id,
        "externalId": answer.session.key.external_id,
    }


def resolve(broker, session_id):
    request = selection_pb2.ResolveSelectionRequest(session_id=session_id)
    session = broker.ResolveSelection(request, metadata=bearer()).selected.session
    return {"sessionId": session.session_id, "externalId": session.key.external_id}


def dispatch_request(text="hello", **target):
    return turn_pb2.DispatchRequest(input=[turn_pb2.InputPart(text=text)], **target)


def turn(broker, text):
    report = {"events": [], "deltas": "", "text": "", "resumed": False}
    for answer in broker.Dispatch(dispatch_request(text, key=key()), metadata=bearer()):
        event = answer.event
        kind = event.WhichOneof("event")
        report["events"].append(kind)
        if kind == "started":
            report["resumed"] = event.started.resumed
        elif kind == "text_delta":
            report["deltas"] += event.text_delta.text
        elif kind == "completed":
            report["text"] = event.completed.text
    return report


def failure(step, call):
    """What the call fails with."""
    try:
        call()
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        return {
            "code": error.code().name.lower(),
            "message": error.details(),
            "details": [
                {
                    "type": detail.TypeName(),
                    "value": base64.b64encode(detail.value).decode(),
                }
                for detail in (status.details if status else [])
            ],
        }
    raise AssertionError(f"the step {step!r} went well")


def journey(broker):
    invalid = session_pb2.ReserveRequest(key=key(scope="NOT VALID"))
    missing = dispatch_request(session_id=EXTERNAL_ID)
    slow = dispatch_request(key=key(provider="slow"))
    reserved = [reserve(broker), reserve(broker)]
    return {
        "reserved": reserved,
        "resolved": resolve(broker, reserved[0]["sessionId"]),
        "turns": [turn(broker, text) for text in os.environ["BROKER_TEXTS"].split("\n")],
        "failures": {
            "invalid": failure("invalid", lambda: broker.Reserve(invalid, metadata=bearer())),
            "unauthenticated": failure(
                "unauthenticated",
                lambda: broker.Reserve(
                    session_pb2.ReserveRequest(key=key()), metadata=bearer("wrong")
                ),
            ),
            "missing": failure(
                "missing", lambda: list(broker.Dispatch(missing, metadata=bearer()))
            ),
            "expired": failure(
                "expired",
                lambda: list(broker.Dispatch(slow, metadata=bearer(), timeout=DEADLINE_S)),
            ),
        },
    }


TARGET = os.environ["BROKER_URL"].removeprefix("http://")
AUTHORITY = os.environ.get("BROKER_AUTHORITY")
OPTIONS = [("grpc.default_authority", AUTHORITY)] if AUTHORITY else []

with grpc.insecure_channel(TARGET, options=OPTIONS) as channel:
    print(json.dumps(journey(session_broker_pb2_grpc.SessionBrokerStub(channel))))
